"""Measure DistributedGDRegressorCV beside one fit and scikit-learn: run by hand, prints a report.

    python examples/bench_search.py [--rows 1000000] [--repeat 3]

Ridge (20 alphas, 5 folds) and elastic net (20 alphas, 5 shares of the L1 norm, 5 folds), by the
estimator that chooses the penalty and by a search over a grid, and hinge (10 values of C, 5 folds).
Two local workers hold the data. Medians, in one run with a single fit of the same data.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait
from sklearn.linear_model import ElasticNetCV, Ridge
from sklearn.model_selection import GridSearchCV

from dask_dml import DistributedGDRegressor, DistributedGDRegressorCV, DistributedLinearSVC
from dask_dml.model_selection import DistributedGridSearchCV

N_FEATURES = 100
RATIOS = [0.1, 0.3, 0.5, 0.8, 1.0]


def seconds(call: Callable[[], Any], repeat: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_hinge(X: Any, y: Any, repeat: int) -> None:
    """Print the time of 10 values of C on 5 folds, beside that of a fit of four fifths of the rows.

    Fifty fits are taken to last as long as five times the ten fits of these rows, which are whole
    chunks, so that nothing is cut.
    """
    labels = (y > 0).astype(int).persist()
    wait(labels)
    values = np.geomspace(1e-4, 1.0, 10)
    search = DistributedGridSearchCV(DistributedLinearSVC(loss="hinge"), {"C": values}, cv=5)
    n_train = sum(X.chunks[0][: 4 * len(X.chunks[0]) // 5])
    fits = [DistributedLinearSVC(loss="hinge", C=C) for C in values]
    search.fit(X, labels)
    taken = seconds(lambda: search.fit(X, labels), repeat)
    alone = 5 * sum(
        seconds(lambda fit=fit: fit.fit(X[:n_train], labels[:n_train]), 1) for fit in fits
    )
    print(f"{'hinge, grid of 10 x 5':40} {taken:8.3f} s; 50 fits {alone:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="also time scikit-learn (minutes)")
    options = parser.parse_args()
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        rng = da.random.default_rng(0)
        X = rng.normal(size=(options.rows, N_FEATURES), chunks=(options.rows // 10, N_FEATURES))
        y = X[:, :10].sum(axis=1) + rng.normal(size=options.rows, chunks=options.rows // 10)
        X, y = client.persist([X, y])
        wait([X, y])
        ridge = DistributedGDRegressorCV(alphas=20, cv=5)
        net = DistributedGDRegressorCV(penalty="elasticnet", l1_ratio=RATIOS, alphas=20, cv=5)
        fit = DistributedGDRegressor()
        alphas = {"alpha": np.geomspace(1e-4, 1.0, 20)}
        grid = DistributedGridSearchCV(DistributedGDRegressor(), alphas, cv=5)
        net_grid = DistributedGridSearchCV(
            DistributedGDRegressor(penalty="elasticnet"), {**alphas, "l1_ratio": RATIOS}, cv=5
        )
        searches = (
            ("ridge, 20 x 5", ridge),
            ("elastic net, 20 x 5 x 5", net),
            ("ridge, grid of 20 x 5", grid),
            ("elastic net, grid of 20 x 5 x 5", net_grid),
        )
        for model in (fit, *(search for _, search in searches)):
            model.fit(X, y)
        one = seconds(lambda: fit.fit(X, y), options.repeat)
        print(f"one fit                                  {one:8.3f} s")
        for name, model in searches:
            taken = seconds(lambda model=model: model.fit(X, y), options.repeat)
            print(f"{name:40} {taken:8.3f} s = {taken / one:.2f} fits")
        measure_hinge(X, y, options.repeat)
        if options.peers:
            table, target = X.compute(), y.compute()
            search = GridSearchCV(Ridge(), {"alpha": np.geomspace(1e-3, 1e3, 20)}, n_jobs=2)
            taken = seconds(lambda: search.fit(table, target), 1)
            print(f"scikit-learn's GridSearchCV(Ridge())     {taken:8.3f} s")
            theirs = ElasticNetCV(l1_ratio=RATIOS, alphas=20, n_jobs=2)
            taken = seconds(lambda: theirs.fit(table, target), 1)
            print(f"scikit-learn's ElasticNetCV              {taken:8.3f} s")


if __name__ == "__main__":
    main()
