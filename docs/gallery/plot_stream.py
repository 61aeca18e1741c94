"""
A stream without end
====================

Batches come for ever, and the model learns from each one after it has been tested on it. No row is
kept. After 100 batches a coefficient changes. ``partial_fit`` warns of that, and a new model
follows the stream. ``examples/endless.py`` also has a table larger than the memory, and a worker
that is killed.
"""

import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone

from dask_dml import DistributedSGDRegressor

NOISE, CHANGE, N_BATCHES = 0.5, 100, 200
truth = np.linspace(-1.0, 1.0, 20)


def batches(n_rows=500):
    """Yield rows and targets, for ever."""
    for number in itertools.count():
        rng = np.random.default_rng(number)
        X = rng.normal(size=(n_rows, 20))
        coef = np.where(np.arange(20) == 0, 1.0, truth) if number >= CHANGE else truth
        yield X, X @ coef + 3.0 + rng.normal(0.0, NOISE, n_rows)


def error(model, X, y):
    return float(np.sqrt(np.mean((y - model.predict(X)) ** 2)))


# %%
# The first model keeps the second moments of all rows that it has seen, old and new. The other
# begins anew when the warning comes.

steady, errors, anew = DistributedSGDRegressor(), [], []
follower, seen = clone(steady), None
for number, (X, y) in enumerate(itertools.islice(batches(), N_BATCHES)):
    if number:
        errors.append(error(steady, X, y))
        anew.append(error(follower, X, y))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steady.partial_fit(X, y)
    if caught and seen is None:
        seen, follower = number, clone(steady)
        print(f"batch {number}: {caught[0].message}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        follower.partial_fit(X, y)

fig, ax = plt.subplots(layout="constrained")
ax.plot(range(1, N_BATCHES), errors, label="one model for all batches")
ax.plot(range(1, N_BATCHES), anew, label="begun anew at the warning")
ax.axhline(NOISE, color="grey", linestyle="--", label="noise")
ax.axvline(CHANGE, color="grey", linestyle=":", label="the coefficient changes")
ax.set(xlabel="batch", ylabel="error before learning from it", ylim=(0, None))
ax.legend()
plt.show()
