"""Compare DistributedSGDRegressor with scikit-learn's SGDRegressor: run by hand, prints tables.

    python examples/bench_sgd.py [speed] [sparse] [accuracy] [--rows 1000000]

``speed`` and ``sparse`` hold the data on two one-thread workers of this machine, ``accuracy``
fits in this process and reads the data folder that DASK_DML_DATA names, if it is set.  Objective
errors are relative to the exact optimum.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import scipy.sparse as sp
from distributed import Client, LocalCluster, get_client, wait
from sklearn.linear_model import SGDRegressor
from sklearn.preprocessing import StandardScaler

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor

ALPHA = 1e-4


def objective(X: Any, y: np.ndarray, model: Any) -> float:
    """Return the regularised mean squared error, halved."""
    residual = y - X @ model.coef_ - model.intercept_
    return 0.5 * float(residual @ residual) / len(y) + 0.5 * ALPHA * float(
        model.coef_ @ model.coef_
    )


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def per_pass(fit: Callable[[int], Any], few: int, many: int, repeats: int = 3) -> float:
    """Return the seconds of one more pass: the median of differences of two fits."""
    times = []
    for _ in range(repeats):
        short, first = seconds(lambda: fit(few))
        long, second = seconds(lambda: fit(many))
        times.append((long - short) / (second.n_iter_ - first.n_iter_))
    return float(np.median(times))


def until(
    fit: Callable[[int], Any], error: Callable[[Any], float], goal: float
) -> tuple[float, Any]:
    """Return the time of the shortest fit that reaches the goal."""
    for n_iter in (2, 3, 5, 7, 10, 15):
        taken, model = seconds(lambda n=n_iter: fit(n))
        if error(model) <= goal:
            again, model = seconds(lambda n=n_iter: fit(n))
            return min(taken, again), model
    return np.inf, model


def ours(**parameters: Any) -> DistributedSGDRegressor:
    return DistributedSGDRegressor(alpha=ALPHA, tol=None, random_state=0, **parameters)


def theirs(**parameters: Any) -> SGDRegressor:
    return SGDRegressor(alpha=ALPHA, tol=None, random_state=0, **parameters)


def persisted(X: Any, y: np.ndarray, n_chunks: int) -> tuple[Any, Any]:
    """Return the data as dask arrays, of which every worker holds the same number of chunks."""
    client = get_client()
    workers = list(client.nthreads())
    bounds = np.linspace(0, X.shape[0], n_chunks + 1).astype(int)
    parts = []
    for number, (a, b) in enumerate(itertools.pairwise(bounds)):
        here = [workers[number * len(workers) // n_chunks]]
        part = (
            da.from_array(X[a:b], chunks=(b - a, X.shape[1]), asarray=False),
            da.from_array(y[a:b], chunks=b - a),
        )
        parts.append(client.persist(part, workers=here))
        wait(parts[-1])
    dX, dy = (da.concatenate(column) for column in zip(*parts, strict=True))
    return dX, dy


def speed(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    p = 100
    mixing = np.linalg.qr(rng.standard_normal((p, p)))[0] * np.geomspace(1.0, 1 / 400, p)
    X = rng.standard_normal((n_rows, p)) @ mixing.T
    X /= X.std(axis=0)
    y = X @ rng.standard_normal(p) + rng.standard_normal(n_rows)
    best = objective(X, y, DistributedGDRegressor(alpha=ALPHA).fit(X, y))
    dX, dy = persisted(X, y, 10)
    print(f"{n_rows:,} x {p} float64, 2 one-thread workers, cond(X'X) about 1.5e5")
    for name, parameters in (
        ("averaged", {"variance_reduction": None}),
        ("svrg", {"variance_reduction": "svrg"}),
    ):
        ours(max_iter=5, **parameters).fit(dX, dy)
        mine = per_pass(lambda n, kw=parameters: ours(max_iter=n, **kw).fit(dX, dy), 3, 23)
        other = per_pass(lambda n: theirs(max_iter=n).fit(X, y), 1, 3, 2)
        print(f"a pass ({name}): {1e3 * mine:.1f} ms; SGDRegressor {1e3 * other:.0f} ms; "
              f"ratio 1/{other / mine:.1f}")  # fmt: skip

    def error(model: Any) -> float:
        return objective(X, y, model) / best - 1.0

    mine, model = until(lambda n: ours(max_iter=n).fit(dX, dy), error, 3e-3)
    print(f"to 3e-3: {mine:.3f} s, {model.n_iter_} passes, reached {error(model):.1e}")
    # The default first step length hovers above the goal, and shorter ones take their time.
    for eta0 in (0.01, 0.003):
        other, model = until(lambda n, e=eta0: theirs(max_iter=n, eta0=e).fit(X, y), error, 3e-3)
        print(
            f"SGDRegressor(eta0={eta0}): {other:.2f} s, {model.n_iter_} passes, reached "
            f"{error(model):.1e}; ratio 1/{other / mine:.1f}"
        )


def sparse(n_words: int, n_rows: int = 50_000, p: int = 2**18) -> None:
    rng = np.random.default_rng(0)
    # Words come with the frequencies of a language, and rows have unit length.
    counts = rng.poisson(n_words, n_rows) + 1
    columns = (rng.pareto(1.0, counts.sum()) * 50).astype(np.int64) * 2654435761 % p
    ends = np.append(0, np.cumsum(counts))
    X = sp.csr_array(
        (np.ones(len(columns)), columns.astype(np.int32), ends.astype(np.int32)), (n_rows, p)
    )
    X.sum_duplicates()
    X = sp.csr_array(sp.diags_array(1.0 / np.sqrt(X.multiply(X).sum(axis=1))) @ X)
    y = X @ rng.standard_normal(p) + 0.1 * rng.standard_normal(n_rows)
    dX, dy = persisted(X, y, 8)
    print(f"CSR {n_rows:,} x {p:,}, {X.nnz / n_rows:.0f} entries per row, 2 one-thread workers")
    other = per_pass(lambda n: theirs(max_iter=n).fit(X, y), 2, 12, 2)
    for name, parameters in (
        ("averaged", {"variance_reduction": None}),
        ("schedule", {"learning_rate": "invscaling"}),
        ("svrg", {"variance_reduction": "svrg"}),
    ):
        ours(max_iter=5, **parameters).fit(dX, dy)
        mine = per_pass(lambda n, kw=parameters: ours(max_iter=n, **kw).fit(dX, dy), 3, 23)
        print(f"a pass ({name}): {1e3 * mine:.1f} ms; SGDRegressor {1e3 * other:.1f} ms; "
              f"ratio 1/{other / mine:.1f}")  # fmt: skip
    for n_iter in (5, 20):
        a, b = ours(max_iter=n_iter).fit(dX, dy), theirs(max_iter=n_iter).fit(X, y)
        print(f"objective after {n_iter} passes: {objective(X, y, a):.6f}; "
              f"SGDRegressor {objective(X, y, b):.6f}")  # fmt: skip


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return generated data, and real data where there is a folder of it."""
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.standard_normal((50, 50)))[0] * np.sqrt(np.geomspace(1.0, 1e-3, 50))
    X = rng.standard_normal((200_000, 50)) @ mixing.T
    found = {"generated": (X, X @ rng.standard_normal(50) + 0.1 * rng.standard_normal(len(X)))}
    if "DASK_DML_DATA" not in os.environ:
        return found
    folder = Path(os.environ["DASK_DML_DATA"])
    houses = pd.read_csv(folder / "california_housing" / "housing.csv").dropna()
    found["houses"] = _encoded(houses, "median_house_value", ["ocean_proximity"], [])
    flights = pd.read_parquet(folder / "nycflights13" / "flights.parquet").dropna()
    drop = ["year", "dep_time", "arr_time", "flight", "tailnum", "dest", "time_hour", "hour"]
    found["flights"] = _encoded(flights, "arr_delay", ["carrier", "origin"], drop)
    stations = sorted((folder / "prsa_beijing_air").glob("*.csv"))
    air = pd.concat([pd.read_csv(file, na_values=[" "]) for file in stations]).dropna()
    found["air"] = _encoded(air, "PM2.5", ["wd"], ["No", "year", "station"])
    return found


def _encoded(
    frame: pd.DataFrame, target: str, categories: list[str], drop: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    y = frame.pop(target).to_numpy(np.float64)
    X = pd.get_dummies(frame.drop(columns=drop), columns=categories, drop_first=True)
    return X.to_numpy(np.float64), y


def layouts(n_rows: int, y: np.ndarray) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Return orders of the rows, and the sizes of the nodes."""
    shuffled = np.random.default_rng(1).permutation(n_rows)
    by_target = np.argsort(y, kind="stable")
    found = {}
    for n_nodes in (1, 2, 4, 16):
        even = np.diff(np.linspace(0, n_rows, n_nodes + 1).astype(int)).tolist()
        found[f"{n_nodes} even"] = (shuffled, even)
        found[f"{n_nodes} sorted"] = (by_target, even)
        if n_nodes > 1:
            rest = np.diff(np.linspace(0, n_rows // 10, n_nodes).astype(int)).tolist()
            uneven = [n_rows - sum(rest), *rest]
            found[f"{n_nodes} uneven"] = (shuffled, uneven)
            found[f"{n_nodes} uneven sorted"] = (by_target, uneven)
    return found


def accuracy() -> None:
    """Print the errors after 5, 20 and 30 passes; SGDRegressor gets standardised columns."""
    for name, (raw, target) in tables().items():
        X_scaled = StandardScaler().fit_transform(raw)
        # Errors are those of the scaled problem for both; ours is also run on the raw columns.
        best = objective(
            X_scaled, target, DistributedGDRegressor(alpha=ALPHA).fit(X_scaled, target)
        )
        print(f"{name}: {raw.shape[0]:,} x {raw.shape[1]}")
        for layout, (order, sizes) in layouts(len(target), target).items():
            X, y = X_scaled[order], target[order]
            chunks = (tuple(sizes), (X.shape[1],))
            dX, dy = da.from_array(X, chunks=chunks), da.from_array(y, chunks=chunks[:1])
            cells = []
            for n_iter in (5, 20, 30):
                model = ours(max_iter=n_iter, n_shards="blocks").fit(dX, dy)
                error = objective(X, y, model) / best - 1.0
                cell = f"{n_iter}: {error:.1e}"
                if n_iter <= 20:
                    others = []
                    for eta0 in (0.01, 0.001):
                        other = theirs(max_iter=n_iter, eta0=eta0).fit(X, y)
                        others.append(objective(X, y, other) / best - 1.0)
                    met = error <= max(1.05 * min(others), 1e-3)
                    cell += f" ({min(others):.1e}) {'ok' if met else 'MISSED'}"
                cells.append(cell)
            print(f"  {layout:18} {'; '.join(cells)}", flush=True)


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["speed", "sparse", "accuracy"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    if {"speed", "sparse"} & set(options.what):
        with (
            LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                memory_limit="4 GiB",
                dashboard_address=None,
                host="127.0.0.1",
            ) as cluster,
            Client(cluster),
        ):
            if "speed" in options.what:
                speed(options.rows)
            if "sparse" in options.what:
                # Short texts and longer ones.
                for n_words in (30, 200):
                    sparse(n_words)
    if "accuracy" in options.what:
        accuracy()


if __name__ == "__main__":
    main()
