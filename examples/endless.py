"""A stream without end, a table larger than the memory, and a worker that is killed during a fit.

1. Batches come for ever; `partial_fit` learns from each after having been tested on it.
2. A table that is larger than the memory of all workers together is read chunk by chunk.
3. A worker dies in the middle of a fit, which goes on and ends where it would have.

Usage: python examples/endless.py [BATCHES]
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor

N_FEATURES = 20
TRUTH = np.linspace(-1.0, 1.0, N_FEATURES)
NOISE = 0.5


def batches(n_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows and targets, for ever."""
    for number in itertools.count():
        rng = np.random.default_rng(number)
        X = rng.normal(size=(n_rows, N_FEATURES))
        yield X, X @ TRUTH + 3.0 + rng.normal(0.0, NOISE, n_rows)


def learn_from_a_stream(n_batches: int, n_rows: int = 1_000) -> float:
    """Return the error, on the last tenth of the batches, before each has been learnt from."""
    model, errors = DistributedSGDRegressor(random_state=0), []
    for X, y in itertools.islice(batches(n_rows), n_batches):
        if errors or hasattr(model, "coef_"):
            errors.append(np.mean((y - model.predict(X)) ** 2))
        model.partial_fit(X, y)
    last = float(np.sqrt(np.mean(errors[-max(n_batches // 10, 1) :])))
    print(f"{n_batches} batches: error {np.sqrt(errors[0]):.4f} at first, {last:.4f} in the end")
    return last


def lazy_table(nbytes: float, seed: int, chunk: int = 50_000) -> tuple[da.Array, da.Array]:
    """Return a table of a size, and its targets; chunks are made when they are read."""
    n_rows = int(nbytes / N_FEATURES / 8)
    rng = da.random.default_rng(seed)
    X = rng.normal(size=(n_rows, N_FEATURES), chunks=(chunk, N_FEATURES))
    return X, X @ TRUTH + 3.0 + rng.normal(0.0, NOISE, n_rows, chunks=chunk)


def fit_more_than_fits(client: Client, times: float) -> float:
    """Fit a table so many times as large as the workers' memory; return the largest error."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    memory = sum(worker["memory_limit"] for worker in workers)
    X, y = lazy_table(times * memory, 1)
    start = time.perf_counter()
    model = DistributedGDRegressor(penalty=None).fit(X, y)
    seconds = time.perf_counter() - start
    print(
        f"{X.nbytes / 2**20:,.0f} MiB, workers of {memory / 2**20:,.0f} MiB together: "
        f"engine {model.engine_!r}, {model.n_rounds_} pass(es), {seconds:.1f} s"
    )
    return float(np.abs(model.coef_ - TRUTH).max())


class KillAWorker:
    """A callback that kills a worker's process after the second round."""

    def __init__(self, client: Client) -> None:
        self.pids = list(client.run(os.getpid).values())
        self.rounds = 0

    def setup(self, estimator, context) -> None:
        """Do nothing."""

    def teardown(self, estimator, context) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator, context) -> None:
        """Count rounds; at the second one send SIGKILL."""
        self.rounds += context.task_name == "round"
        if self.rounds == 2 and self.pids:
            os.kill(self.pids.pop(), signal.SIGKILL)
            self.pids.clear()


def fit_with_a_killed_worker(client: Client) -> float:
    """Return how far the coefficients are from those of a fit that nothing disturbs."""
    X, y = lazy_table(10 * 2**20, 2, chunk=5_000)  # so many that each worker holds some
    calm = DistributedGDRegressor("huber", solver="accelerated").fit(X, y)
    model = DistributedGDRegressor("huber", solver="accelerated")
    model.set_callbacks(KillAWorker(client)).fit(X, y)
    difference = float(np.abs(model.coef_ - calm.coef_).max())
    print(
        f"a worker killed in round 2 of {model.n_rounds_}: {model.n_recoveries_} recoveries, "
        f"coefficients differ by {difference:.1e}"
    )
    return difference


def run(n_batches: int, times: float = 1.2) -> tuple[float, float, float]:
    """Do all three; return the errors of the stream, of the large table, and of the killed fit."""
    stream = learn_from_a_stream(n_batches)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="512 MiB",
            host="127.0.0.1", dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        return stream, fit_more_than_fits(client, times), fit_with_a_killed_worker(client)


def main() -> None:
    stream, large, killed = run(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
    # What no model could know is the noise.
    if stream > 1.05 * NOISE or large > 0.01 or killed > 1e-4:
        sys.exit("the results are less good than expected")


if __name__ == "__main__":
    main()
