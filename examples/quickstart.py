"""Fit scikit-learn's diabetes data on a local Dask cluster, beside scikit-learn's Ridge."""

from __future__ import annotations

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from dask_dml import DistributedGDRegressor

ALPHA = 1e-4


def main() -> None:
    data = load_diabetes()
    n_samples = len(data.target)

    # Unequal chunks: the answer does not depend on how the rows are divided.
    X = da.from_array(data.data, chunks=((200, 150, 92), -1))
    y = da.from_array(data.target, chunks=((200, 150, 92),))

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        model = DistributedGDRegressor(alpha=ALPHA).fit(X, y)
        score = model.score(X, y)

    # Ridge adds up the squared errors where this package takes half their mean.
    reference = Ridge(alpha=ALPHA * n_samples).fit(data.data, data.target)
    reference_score = reference.score(data.data, data.target)

    print(f"diabetes data: {n_samples} rows, {data.data.shape[1]} columns, 2 workers")
    print(f"solver {model.solver_!r}, passes over the data: {model.n_rounds_}")
    print()
    print(f"{'':<10} {'dask_dml':>16} {'scikit-learn':>16}")
    print(f"{'R2':<10} {score:>16.10f} {reference_score:>16.10f}")
    print(f"{'intercept':<10} {model.intercept_:>16.8f} {reference.intercept_:>16.8f}")
    for name, ours, theirs in zip(data.feature_names, model.coef_, reference.coef_, strict=True):
        print(f"{name:<10} {ours:>16.8f} {theirs:>16.8f}")

    difference = np.abs(model.coef_ - reference.coef_).max() / np.abs(reference.coef_).max()
    print()
    print(f"largest difference of a coefficient, relative to the largest: {difference:.1e}")


if __name__ == "__main__":
    main()
