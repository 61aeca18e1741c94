"""What fits take of processes' memory, with real limits: run by hand, prints a Markdown table.

    python -m tests.chaos.memory --times 0.25 1.5 4
    python -m tests.chaos.memory --times 1.5 4 --containers frame --fits "svc, hinge"
    python -m tests.chaos.memory --held 128

X is as many times the memory of two workers as is said.  Every worker's process and this one are
watched while a fit runs, the squared error unless others are named; a worker that oversteps its
limit is killed by its nanny.

With ``--held`` one worker without a limit holds X of so many MiB, for every kind of fit: the table
says how many times X its process takes at most, beyond what it took after a fit of few rows.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
import scipy.sparse as sp
from distributed import Client
from distributed.deploy import SubprocessCluster
from sklearn.base import clone

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from tests.chaos.clusters import cluster

N_FEATURES, CHUNK_BYTES = 50, 16 * 2**20
N_ROWS = CHUNK_BYTES // (8 * N_FEATURES)


def dense(number):
    """Return the rows of a chunk."""
    return np.random.default_rng(number).normal(size=(N_ROWS, N_FEATURES))


def sparse(number):
    """Return as many bytes of CSR, one entry of four stored."""
    rng = np.random.default_rng(number)
    n_rows, stored = 8 * N_ROWS // 3, N_FEATURES // 4
    # One column of every four; nothing else of the size of the rows is made on the way.
    width = N_FEATURES // stored
    indices = rng.integers(0, width, size=(n_rows, stored), dtype=np.int32)
    indices += width * np.arange(stored, dtype=np.int32)
    values = rng.normal(size=n_rows * stored)
    starts = np.arange(0, n_rows * stored + 1, stored, dtype=np.int32)
    return sp.csr_array((values, indices.ravel(), starts), shape=(n_rows, N_FEATURES))


def frame(number):
    """Return the rows of a partition."""
    return pd.DataFrame(dense(number), columns=[f"c{n}" for n in range(N_FEATURES)])


def made(container, n_chunks):
    """Return lazy X and y."""
    if container == "frame":
        X = dd.from_map(frame, range(n_chunks), meta=frame(0)[:0])
        return X, X["c0"] - X["c1"]
    make = {"dense": dense, "csr": sparse}[container]
    meta = sp.csr_array((0, N_FEATURES)) if container == "csr" else np.empty((0, 0))
    shape = make(0).shape
    parts = [
        da.from_delayed(dask.delayed(make)(n), shape, dtype=float, meta=meta)
        for n in range(n_chunks)
    ]
    rng = da.random.default_rng(0)
    return da.concatenate(parts), rng.normal(size=n_chunks * shape[0], chunks=shape[0])


class Peaks:
    """The largest memory of some processes while this is entered."""

    def __init__(self, pids):
        self._processes = [psutil.Process(pid) for pid in pids]
        self.most = [0] * len(self._processes)
        self.first = [process.memory_info().rss for process in self._processes]
        self._done = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._done.wait(0.02):
            for n, process in enumerate(self._processes):
                try:
                    self.most[n] = max(self.most[n], process.memory_info().rss)
                except psutil.NoSuchProcess:
                    self.most[n] = -1
                    return

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


FITS = {
    "gd, squared error": DistributedGDRegressor(),
    "gd, huber, newton": DistributedGDRegressor("huber"),
    "gd, huber, lbfgs": DistributedGDRegressor("huber", solver="lbfgs"),
    "gd, quantile": DistributedGDRegressor("quantile"),
    "sgd": DistributedSGDRegressor(random_state=0),
    "svc, squared hinge": DistributedLinearSVC(),
    "svc, hinge": DistributedLinearSVC(loss="hinge"),
    "svc, hinge, dual": DistributedLinearSVC(loss="hinge", solver="dual", tol=1e-3),
}


def held(mib, containers, names):
    """Print what a worker takes for each fit of rows that it holds."""
    print("| fit | X | times X |\n|---|---|---|", flush=True)
    for container in containers:
        for name, model in ((name, FITS[name]) for name in names):
            # A process of its own: memory that an earlier fit has let go of would be used again.
            with cluster(1, memory_limit=0) as client:
                pid = client.run(lambda: psutil.Process().pid).popitem()[1]
                times = 0.0
                for n_chunks in (2, mib * 2**20 // CHUNK_BYTES):
                    X, y = made(container, n_chunks)
                    y = y > 0 if hasattr(model, "C") else y
                    with Peaks([pid]) as peaks:
                        clone(model).fit(X, y)
                    times = (peaks.most[0] - peaks.first[0]) / (n_chunks * CHUNK_BYTES)
                print(f"| {name} | {container} | {times:.2f} |", flush=True)


def main():
    """Run what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=float, nargs="+", default=[0.25, 1.5, 4.0])
    parser.add_argument("--containers", nargs="+", default=["dense", "csr", "frame"])
    parser.add_argument("--limit", type=int, default=700, help="MiB of a worker")
    parser.add_argument("--held", type=int, help="MiB of X")
    parser.add_argument("--fits", nargs="+", choices=list(FITS))
    options = parser.parse_args()
    if options.held:
        held(options.held, options.containers, options.fits or list(FITS))
        return
    print("| fit | X | times the memory | engine | seconds | peak of a worker | client | lost |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    cases = itertools.product(
        options.fits or ["gd, squared error"], options.containers, options.times
    )
    for name, container, times in cases:
        # Processes of their own: what an earlier fit has let go of is not seen as taken, and what
        # the scheduler remembers of tasks is none of the client's.
        with (
            SubprocessCluster(
                host="127.0.0.1", dashboard_address="127.0.0.1:0", n_workers=2,
                threads_per_worker=1, worker_kwargs={"memory_limit": f"{options.limit}MiB"},
            ) as made_by,
            Client(made_by, set_as_default=False) as client,
            client.as_current(),
        ):  # fmt: skip
            client.wait_for_workers(2)
            streamed(client, name, container, times, options.limit)


def streamed(client, name, container, times, limit):
    """Print what workers and this process take for a fit of so many times their memory."""
    n_chunks = int(times * 2 * limit * 2**20 / CHUNK_BYTES)
    before = client.run(lambda dask_worker: dask_worker.id)
    pids = [psutil.Process().pid, *client.run(lambda: psutil.Process().pid).values()]
    # A fit of few rows loads what this process needs of libraries.
    few, classes = dense(0)[:5000], hasattr(FITS[name], "C")
    clone(FITS[name]).fit(few, few[:, 0] > 0 if classes else few[:, 0])
    X, y = made(container, n_chunks)
    model = clone(FITS[name])
    began = time.monotonic()
    with Peaks(pids) as peaks:
        model.fit(X, y > 0 if classes else y)
    lost = len(set(before) - set(client.run(lambda dask_worker: dask_worker.id)))
    print(
        f"| {name} | {container} | {times:g} | {model.engine_}, {model.n_rounds_} passes "
        f"| {time.monotonic() - began:.0f} "
        f"| {max(peaks.most[1:]) / 2**20:.0f} of {limit} MiB "
        f"| +{(peaks.most[0] - peaks.first[0]) / 2**20:.0f} MiB | {lost} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
