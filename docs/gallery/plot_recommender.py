"""
A recommender
=============

Ratings predicted from one-hot columns of the user, of the item, and of how much the user likes the
item's kind, beside the means. ``examples/recommender.py`` is the long form, and compares with a
matrix factorisation.
"""

import dask.dataframe as dd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedSGDRegressor
from dask_dml.metrics import root_mean_squared_error
from dask_dml.model_selection import train_test_split
from dask_dml.preprocessing import DistributedOneHotEncoder

# %%
# Each made-up rating has a part of the user, one of the item, one of the user's taste for the kind
# of item, and noise of 0.5 stars.

rng, n, n_users, n_items = np.random.default_rng(0), 40_000, 400, 200
user, item = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
kind = item % 6
rating = (
    3.5
    + rng.normal(0.0, 0.4, n_users)[user]
    + rng.normal(0.0, 0.5, n_items)[item]
    + rng.normal(0.0, 0.5, (n_users, 6))[user, kind]
    + rng.normal(0.0, 0.5, n)
)
ratings = pd.DataFrame({"user": user, "item": item, "taste": 6 * user + kind, "rating": rating})
train, test = train_test_split(
    dd.from_pandas(ratings, npartitions=4), test_size=0.1, random_state=0
)

# %%
# Columns are CSR chunks from the encoder to the fit.

errors = {}
for name, columns in {
    "user and item": ["user", "item"],
    "with tastes": ["user", "item", "taste"],
}.items():
    model = make_pipeline(
        DistributedOneHotEncoder(handle_unknown="ignore", dtype=np.float32),
        DistributedSGDRegressor(alpha=2.0 / n, tol=1e-4, random_state=0),
    ).fit(train[columns], train["rating"])
    errors[name] = root_mean_squared_error(test["rating"], model.predict(test[columns]))

here, there = train.compute(), test.compute()
mean = np.full(len(there), here["rating"].mean())
of_item = here.groupby("item")["rating"].mean().reindex(there["item"]).to_numpy()
errors = {
    "the mean": root_mean_squared_error(there["rating"], mean),
    "the item's mean": root_mean_squared_error(there["rating"], of_item),
    **errors,
}

fig, ax = plt.subplots(layout="constrained")
ax.barh(list(errors), list(errors.values()))
ax.axvline(0.5, color="grey", linestyle="--", label="noise")
ax.invert_yaxis()
ax.set(xlabel="error in stars, of ratings held out")
ax.legend()
plt.show()
