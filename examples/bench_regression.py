"""Measure DistributedGDRegressor against its bars and its peers: run by hand, prints a report.

    python examples/bench_regression.py [--rows 1000000] [--repeat 5]

Everything is compared in one run, by medians: a gradient pass with a plain sum over the same
block, a round with its kernel, many chunks with few, and a ridge regression held by two local
workers with snapml (if installed, two threads) and scikit-learn.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import bench_rounds
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait
from sklearn.linear_model import Ridge

from dask_dml import DistributedGDRegressor
from dask_dml.blocks import Shard, frozen
from dask_dml.objective.losses import Loss
from dask_dml.passes.evaluate import Point, loss_sums

N_FEATURES = 100
ALPHA = 1e-4


def median_seconds(call: Callable[[], Any], repeat: int) -> float:
    """Return the median time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def pass_rate(n_rows: int, repeat: int) -> None:
    """Print what a fused gradient pass reads per second beside a plain sum."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, N_FEATURES))
    shard = Shard(0, (frozen(X, X[:, :1].copy(), None, ((0, n_rows),)),))
    point = Point(
        coef=np.zeros((1, N_FEATURES)),
        intercept=np.zeros(1),
        parameters=Loss().parameters()[None],
        column=np.zeros(1, dtype=np.intp),
        mean=np.zeros(N_FEATURES),
        target_mean=np.zeros(1),
        offset=False,
        units=None,
        hessian=False,
    )
    # In turns: the speed of a shared machine drifts.
    ratios, passes, sums = [], [], []
    for _ in range(3):
        passes.append(median_seconds(lambda: loss_sums(shard, point), repeat))
        sums.append(median_seconds(X.sum, repeat))
        ratios.append(sums[-1] / passes[-1])
    print(
        f"gradient pass over {n_rows:,} x {N_FEATURES} float64, one thread: "
        f"{X.nbytes / statistics.median(passes) / 1e9:.1f} GB/s; plain sum "
        f"{X.nbytes / statistics.median(sums) / 1e9:.1f} GB/s; "
        f"share {100 * statistics.median(ratios):.0f} %"
    )


def make_problem(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a regression problem whose X has a condition number of about 400."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, N_FEATURES))
    X *= np.logspace(0.0, -2.6, N_FEATURES)
    y = X @ (rng.standard_normal(N_FEATURES) * np.logspace(0.0, 2.0, N_FEATURES))
    y += rng.standard_normal(n_rows)
    return X, y


def objective(X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: float) -> float:
    """Return half the mean squared error plus the penalty."""
    residual = y - X @ coef - intercept
    return 0.5 * float(residual @ residual) / len(y) + 0.5 * ALPHA * float(coef @ coef)


def ridge(client: Client, n_rows: int, repeat: int) -> None:
    """Print times and errors of one ridge regression, each library with its defaults."""
    X, y = make_problem(n_rows)
    chunk = -(-n_rows // 10)
    dX, dy = client.persist([da.from_array(X, (chunk, -1)), da.from_array(y, chunk)])
    wait([dX, dy])
    # snapml penalises its intercept, so it is given the problem without one.
    best = {}
    for fit_intercept in (True, False):
        exact = Ridge(ALPHA * n_rows, fit_intercept=fit_intercept, solver="cholesky").fit(X, y)
        best[fit_intercept] = objective(X, y, exact.coef_, exact.intercept_)

    def timed(name: str, model: Any, *data: Any, intercept: bool = True) -> tuple[float, float]:
        model.fit(*data)
        reached = objective(X, y, np.ravel(model.coef_), float(model.intercept_) * intercept)
        error = reached / best[intercept] - 1.0
        seconds = median_seconds(lambda: model.fit(*data), repeat)
        print(f"  {name:42} {seconds:7.3f} s   relative objective error {error:8.1e}")
        return seconds, error

    print(f"ridge, {n_rows:,} x {N_FEATURES}, alpha={ALPHA:g}, to 1e-7:")
    ours = DistributedGDRegressor(alpha=ALPHA)
    mine, _ = timed("dask_dml, data on 2 workers", ours, dX, dy)
    theirs = []
    for solver in ("auto", "cholesky"):
        other = Ridge(ALPHA * n_rows, solver=solver)
        theirs.append(timed(f"scikit-learn Ridge(solver={solver!r})", other, X, y)[0])
    print(f"  of scikit-learn's best: {mine / min(theirs):.2f} (bar 0.20)")
    try:
        from snapml import LinearRegression
    except ImportError:
        print("  snapml is not installed")
        return
    mine, _ = timed(
        "dask_dml, no intercept",
        DistributedGDRegressor(alpha=ALPHA, fit_intercept=False),
        dX,
        dy,
        intercept=False,
    )
    for tol in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
        snap = LinearRegression(
            regularizer=ALPHA * n_rows, n_jobs=2, tol=tol, max_iter=10_000, fit_intercept=False
        )
        seconds, error = timed(f"snapml, 2 threads, tol={tol:g}", snap, X, y, intercept=False)
        if error <= 1e-7:
            print(f"  of snapml's:            {mine / seconds:.2f} (bar 0.50)")
            return


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sending large graph")
    pass_rate(options.rows, options.repeat)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        bench_rounds.report(client, options.rows, [10, 10_000])
        ridge(client, options.rows, options.repeat)


if __name__ == "__main__":
    main()
