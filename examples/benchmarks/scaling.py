"""Measure what a pass over the data costs, and what that comes to with more workers.

    python -m examples.benchmarks.scaling [--rows 1000000] [--out benchmark-results]

A pass reads every worker's share of the rows once, and waits for one call of every worker. Both
parts are measured: the rate at which one core reads, by a fused pass over blocks in memory, and
the processor time of rounds that compute nothing, on clusters of 1 to 32 workers inside of one
process. Where there are more workers than cores, processor time says what wall time cannot.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait

from dask_dml.blocks import Shard, frozen
from dask_dml.input.chunks import Chunks
from dask_dml.objective.losses import Loss
from dask_dml.passes.evaluate import Point, loss_sums
from dask_dml.rounds.cluster import ClusterRounds

N_FEATURES = 100
WORKERS = (1, 2, 4, 8, 16, 32)
#: What the model is worked out for: workers, and terabytes of X.
ON_PAPER = ((10, 0.1), (100, 1.0), (1000, 10.0))


def nothing(shard: Shard, broadcast: Any) -> tuple[np.ndarray, ...]:
    """Return as many numbers as a gradient has."""
    return (np.zeros(N_FEATURES),)


def median(call: Callable[[], Any], repeat: int, clock: Callable[[], float]) -> float:
    """Return the median time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeat):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times)


def read_rate(n_rows: int, *, hessian: bool, repeat: int = 7) -> float:
    """Return the bytes per second of one core in a pass of a smooth loss."""
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
        hessian=hessian,
    )
    return X.nbytes / median(lambda: loss_sums(shard, point), repeat, time.thread_time)


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


def rounds_of(n_workers: int, repeat: int = 100) -> dict[str, float]:
    """Return the seconds of an empty round on so many workers, by the wall and by processors."""
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=False,
            host="127.0.0.1",
            protocol="tcp",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        X = da.zeros((1000 * n_workers, N_FEATURES), chunks=(1000, N_FEATURES))
        X, y = client.persist([X, X[:, 0]])
        wait([X, y])
        with ClusterRounds(client, make_chunks(X, y), n_shards="blocks") as rounds:
            coef = np.zeros(N_FEATURES)

            def call() -> None:
                rounds.map_reduce(nothing, coef)

            wall = median(call, repeat, time.perf_counter)
            start = time.process_time()
            for _ in range(repeat):
                call()
            return {
                "workers": n_workers,
                "wall": wall,
                "processor": (time.process_time() - start) / repeat,
            }


def measure(n_rows: int) -> dict[str, Any]:
    """Return the constants of the model and the rounds that it is checked against."""
    rounds = [rounds_of(n) for n in WORKERS]
    workers = np.array([row["workers"] for row in rounds], dtype=np.float64)
    cost = np.array([row["processor"] for row in rounds])
    # Relative errors count: a straight line by weighted least squares.
    design = np.column_stack([np.ones_like(workers), workers]) / cost[:, None]
    (fixed, each), *_ = np.linalg.lstsq(design, np.ones_like(cost), rcond=None)
    for row in rounds:
        row["model"] = fixed + each * row["workers"]
    return {
        "read_rate": read_rate(n_rows, hessian=False),
        "read_rate_hessian": read_rate(n_rows, hessian=True),
        "round_fixed": fixed,
        "round_per_worker": each,
        "rounds": rounds,
    }


def report(found: dict[str, Any]) -> str:
    """Return the measurements and the model's tables in Markdown."""
    rate, fixed, each = found["read_rate"], found["round_fixed"], found["round_per_worker"]
    lines = [
        f"One core reads {rate / 1e9:.2f} GB/s in a pass for values and gradients, "
        f"{found['read_rate_hessian'] / 1e9:.2f} GB/s in one for second derivatives, too "
        f"({N_FEATURES} columns, float64). A round costs {1e3 * fixed:.2f} ms and "
        f"{1e3 * each:.2f} ms for each worker.",
        "",
        "| workers | round, ms of wall time | ms of processor time | by the model |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['workers']} | {1e3 * row['wall']:.1f} | {1e3 * row['processor']:.1f} "
        f"| {1e3 * row['model']:.1f} |"
        for row in found["rounds"]
    ]
    lines += [
        "",
        "| workers (one core each) | X | reading, s | exchange, s | pass, s |",
        "|---|---|---|---|---|",
    ]
    for workers, terabytes in ON_PAPER:
        reading, exchange = terabytes * 1e12 / workers / rate, fixed + each * workers
        lines.append(
            f"| {workers:,} | {terabytes:g} TB | {reading:.2f} | {exchange:.2f} "
            f"| {reading + exchange:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print and write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.scaling", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args()
    found = measure(options.rows)
    text = report(found)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "scaling.md").write_text(text)


if __name__ == "__main__":
    main()
