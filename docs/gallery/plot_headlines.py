"""
Text: clickbait or news
=======================

Words and pairs of words of headlines are hashed into CSR chunks where the text is. A linear support
vector machine learns from them which headlines are clickbait. The headlines here are made up from
short lists of words; ``examples/headlines.py`` fits 32,000 real ones.
"""

import dask.dataframe as dd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedLinearSVC, to_sklearn
from dask_dml.compose import make_distributed_column_transformer
from dask_dml.metrics import confusion_matrix, f1_score
from dask_dml.model_selection import train_test_split

rng = np.random.default_rng(0)


def headlines(n, patterns, **words):
    """Fill words into patterns, both drawn at random."""
    chosen = {name: rng.choice(options, n) for name, options in words.items()}
    rows = (dict(zip(chosen, values, strict=True)) for values in zip(*chosen.values(), strict=True))
    which = rng.choice(patterns, n)
    return [pattern.format(**row) for pattern, row in zip(which, rows, strict=True)]


shared = {
    "number": [3, 5, 7, 9, 12, 21, 40],
    "who": "parents teachers dogs students nurses farmers cats voters".split(),
    "what": "budget winter election movies kitchen school football summer strike".split(),
    "place": "Bern Kiel Linz Oulu Turku Ghent".split(),
}
bait = [
    "{number} things only {who} in {place} know about {what}",
    "You will not believe what these {who} did about {what}",
    "This is why {who} love the {what} this {what}",
    "Which {what} are you? {number} questions for {who}",
    "{place} {who} on {what}",
]
news = [
    "{place} votes on the {what} as {who} protest",
    "{number} {who} injured in {place} after {what}",
    "Minister of {place} resigns over {what}",
    "{who} and police in talks on {what} in {place}",
    "{place} {who} on {what}",
]
n = 3_000
table = pd.DataFrame(
    {
        "title": [*headlines(n, bait, **shared), *headlines(n, news, **shared)],
        "clickbait": np.repeat([1, 0], n),
    }
)

# %%
# One line for the words, one for the classes. Nothing gathers a vocabulary.

frame = dd.from_pandas(table.sample(frac=1.0, random_state=0), npartitions=4)
X, X_test, y, y_test = train_test_split(
    frame[["title"]], frame["clickbait"], test_size=0.2, random_state=0
)
words = HashingVectorizer(n_features=2**14, ngram_range=(1, 2))
model = make_pipeline(
    make_distributed_column_transformer((words, "title"), sparse_threshold=1.0),
    DistributedLinearSVC(C=0.5),
).fit(X, y)
predicted = model.predict(X_test)
print(f"F1 of the headlines held out: {f1_score(y_test, predicted):.3f}")
print(confusion_matrix(y_test, predicted))

# %%
# Hashed columns have no names, but the decision value of a single word says to which class it
# points. The last pattern is common to both kinds, so no model can tell all headlines apart.

served = to_sklearn(model)
single = "things you believe this questions which dogs winter votes police injured minister protest"
single = single.split()
value = served.decision_function(pd.DataFrame({"title": single}))
order = np.argsort(value)
fig, ax = plt.subplots(layout="constrained")
ax.barh(np.array(single)[order], value[order], color=np.where(value[order] > 0, "C1", "C0"))
ax.axvline(0.0, color="grey", linewidth=0.8)
ax.set(xlabel="decision value of the word alone (above 0: clickbait)")
plt.show()
