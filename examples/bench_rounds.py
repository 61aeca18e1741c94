"""Measure what a round costs besides its kernel: run by hand, prints a table.

python examples/bench_rounds.py [--rows 1000000] [--chunks 10 10000]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait

from dask_dml.blocks import Shard
from dask_dml.input.chunks import Chunks
from dask_dml.rounds.cluster import ClusterRounds

N_FEATURES = 100


def nothing(shard: Shard, broadcast: Any) -> tuple[float, ...]:
    """Take no time."""
    return ()


def timed_gradient(shard: Shard, coef: np.ndarray) -> np.ndarray:
    """Return a least-squares gradient and, behind it, the seconds that it took."""
    start = time.perf_counter()
    gradient = np.zeros(len(coef))
    for block in shard.blocks:
        for row in range(0, block.n_rows, 1024):
            X = block.X[row : row + 1024]
            gradient += X.T @ (X @ coef - block.y[row : row + 1024, 0])
    # The shards run side by side: the slowest counts, and the sum of squares is close to it.
    return np.append(gradient, time.perf_counter() - start)


def milliseconds(rounds: ClusterRounds, function: Any, broadcast: Any, n: int) -> float:
    """Return the median time of a round."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        rounds.map_reduce(function, broadcast)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def make_chunks(X: da.Array, y: da.Array) -> Chunks:
    """Return the chunks of dask arrays."""
    return Chunks(
        X=list(X.to_delayed(optimize_graph=False).ravel()),
        y=list(y.to_delayed(optimize_graph=False).ravel()),
        weight=None,
        lazy=True,
        n_features=X.shape[1],
        n_outputs=1,
        multi_output=False,
        dtype=np.dtype(np.float64),
        feature_names=None,
        nbytes=float(X.nbytes),
    )


def report(client: Client, n_rows: int, chunk_counts: list[int]) -> None:
    """Print what placing the data, a round and closing cost, for each number of chunks."""
    print(f"{n_rows:,} x {N_FEATURES} float64 on 2 one-thread worker processes")
    coef = np.zeros(N_FEATURES)
    for n_chunks in chunk_counts:
        size = -(-n_rows // n_chunks)
        X = da.random.default_rng(0).standard_normal(
            (n_rows, N_FEATURES), chunks=(size, N_FEATURES)
        )
        X, y = client.persist([X, X[:, 0]])
        wait([X, y])
        chunks = make_chunks(X, y)
        start = time.perf_counter()
        with ClusterRounds(client, chunks) as rounds:
            placed = time.perf_counter() - start
            del X, y, chunks
            empty = milliseconds(rounds, nothing, coef, 300)
            full = milliseconds(rounds, timed_gradient, coef, 20)
            kernel = 1e3 * rounds.map_reduce(timed_gradient, coef)[-1] / 2
            closing = time.perf_counter()
        closing = time.perf_counter() - closing
        print(
            f"{n_chunks:6} chunks: placed in {placed:.2f} s ({1e3 * placed / n_chunks:.2f} ms "
            f"per chunk); empty round {empty:.2f} ms; gradient round {full:.1f} ms, of which "
            f"kernel about {kernel:.1f} ms; closed in {closing:.3f} s"
        )


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10, 10_000])
    options = parser.parse_args()
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="4 GiB",
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):
        report(client, options.rows, options.chunks)


if __name__ == "__main__":
    main()
