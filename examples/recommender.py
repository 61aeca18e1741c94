"""Recommend items from ratings: users, items and tastes for kinds of items as sparse features.

The ratings are made up: each has a part of the user, one of the item, and one of how much the user
likes the item's kind; a further part, which no feature tells, and noise limit what can be known. A
linear model on one-hot columns of users, of items, and of pairs of user and kind gives personal
recommendations; beside it stand means, and a matrix factorisation of scikit-learn.

Usage: python examples/recommender.py [RATINGS]
"""

from __future__ import annotations

import sys
import time

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster
from sklearn.decomposition import TruncatedSVD
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedSGDRegressor
from dask_dml.metrics import root_mean_squared_error
from dask_dml.model_selection import train_test_split
from dask_dml.preprocessing import DistributedOneHotEncoder

N_KINDS = 6
NOISE = 0.5


def make_ratings(number: int, n: int, n_users: int, n_items: int) -> pd.DataFrame:
    """Return a part of the ratings; users, items and tastes are the same in all parts."""
    fixed = np.random.default_rng(0)
    of_user, of_item = fixed.normal(0.0, 0.4, n_users), fixed.normal(0.0, 0.5, n_items)
    taste = fixed.normal(0.0, 0.5, (n_users, N_KINDS))
    hidden = fixed.normal(0.0, 0.3, (n_users, 2)), fixed.normal(0.0, 1.0, (n_items, 2))
    rng = np.random.default_rng([1, number])
    user = rng.integers(0, n_users, n)
    # Some items are rated far more often than others.
    item = np.minimum((n_items * rng.random(n) ** 2).astype(int), n_items - 1)
    kind = item % N_KINDS
    rating = 3.5 + of_user[user] + of_item[item] + taste[user, kind] + rng.normal(0.0, NOISE, n)
    rating += (hidden[0][user] * hidden[1][item]).sum(axis=1)
    pairs = user * N_KINDS + kind
    return pd.DataFrame({"user": user, "item": item, "user and kind": pairs, "rating": rating})


def means(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Return the errors of predicting means."""
    truth, overall = test["rating"], train["rating"].mean()
    of_item = train.groupby("item")["rating"].mean().reindex(test["item"]).fillna(overall)
    of_user = train.groupby("user")["rating"].mean().reindex(test["user"]).fillna(overall)
    both = of_item.to_numpy() + of_user.to_numpy() - overall
    return {
        "the mean": root_mean_squared_error(truth, np.full(len(test), overall)),
        "the item's mean": root_mean_squared_error(truth, of_item.to_numpy()),
        "item's and user's means": root_mean_squared_error(truth, both),
    }


def factorised(train: pd.DataFrame, test: pd.DataFrame, shape: tuple[int, int]) -> float:
    """Return the error of a truncated SVD, filled in anew where there is no rating, in memory."""
    at, test_at = (part[["user", "item"]].to_numpy().T for part in (train, test))
    counts, sums = np.zeros(shape), np.zeros(shape)
    np.add.at(counts, tuple(at), 1.0)
    np.add.at(sums, tuple(at), train["rating"].to_numpy())
    known, overall = counts > 0, train["rating"].mean()
    ratings = np.divide(sums, counts, out=np.full(shape, overall), where=known)
    filled, factors = ratings.copy(), TruncatedSVD(10, random_state=0)
    for _ in range(10):
        made = factors.inverse_transform(factors.fit_transform(filled - overall)) + overall
        filled = np.where(known, ratings, made)
    return root_mean_squared_error(test["rating"], made[tuple(test_at)])


def run(n_ratings: int, n_users: int, n_items: int, n_parts: int = 8) -> dict[str, float]:
    """Fit all of them; return their errors on ratings held out, in stars."""
    sizes = {"n": n_ratings // n_parts, "n_users": n_users, "n_items": n_items}
    table = dd.from_map(make_ratings, range(n_parts), meta=make_ratings(0, 1, 1, 1), **sizes)
    train, test = train_test_split(table.persist(), test_size=0.1, random_state=0)
    columns = ["user", "item", "user and kind"]
    model = make_pipeline(
        DistributedOneHotEncoder(handle_unknown="ignore", dtype=np.float32),
        DistributedSGDRegressor(alpha=2.0 / n_ratings, tol=1e-4, random_state=0),
    )
    start = time.perf_counter()
    model.fit(train[columns], train["rating"])
    seconds = time.perf_counter() - start
    error = root_mean_squared_error(test["rating"], model.predict(test[columns]))
    print(f"{n_ratings:,} ratings, {model[-1].n_features_in_:,} columns: {seconds:.1f} s")

    items = pd.DataFrame({"user": 0, "item": np.arange(n_items)})
    items["user and kind"] = items["item"] % N_KINDS
    best = np.argsort(-model.predict(items))[:5]
    print("user 0 should see the items", best.tolist())

    here, there = train.compute(), test.compute()
    errors = {**means(here, there), "users, items and tastes": error}
    errors["matrix factorisation in memory"] = factorised(here, there, (n_users, n_items))
    for name, value in errors.items():
        print(f"{name:<32} {value:.3f} stars")
    return errors


def main() -> None:
    n_ratings = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        errors = run(n_ratings, n_users=max(n_ratings // 100, 100), n_items=500)
    mine = errors["users, items and tastes"]
    if mine > 0.85 * errors["item's and user's means"]:
        sys.exit(f"an error of {mine:.3f} is more than expected")


if __name__ == "__main__":
    main()
