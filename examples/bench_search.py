"""Measure DistributedGDRegressorCV beside one fit and scikit-learn: run by hand, prints a report.

    python examples/bench_search.py [--rows 1000000] [--repeat 3]

Ridge (20 alphas, 5 folds) and elastic net (20 alphas, 5 shares of the L1 norm, 5 folds) on data
that two local workers hold, by medians, in one run with a single fit of the same data.
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

from dask_dml import DistributedGDRegressor, DistributedGDRegressorCV

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
        for model in (fit, ridge, net):
            model.fit(X, y)
        one = seconds(lambda: fit.fit(X, y), options.repeat)
        print(f"one fit                                  {one:8.3f} s")
        for name, model in (("ridge, 20 x 5", ridge), ("elastic net, 20 x 5 x 5", net)):
            taken = seconds(lambda model=model: model.fit(X, y), options.repeat)
            print(f"{name:40} {taken:8.3f} s = {taken / one:.2f} fits")
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
