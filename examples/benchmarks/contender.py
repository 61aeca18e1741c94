"""A contestant in a process of its own: it holds the table, and fits when it is told to."""

from __future__ import annotations

import multiprocessing
import threading
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from .data import from_disk, load
from .peers import Contestant
from .workloads import WORKLOADS

#: Loopback traffic is what a cluster on one machine sends.
LOOPBACK = "lo"


@dataclass(frozen=True)
class Fit:
    """What one fit gave and cost.

    ``peak`` is the memory in bytes that the contestant's processes took beyond what they held
    before the fit, ``sent`` the bytes that the machine sent over the loopback device meanwhile.
    """

    seconds: float
    coef: np.ndarray
    intercept: np.ndarray
    rounds: int | None
    peak: int
    sent: int


class Failed(Exception):
    """A contestant that cannot take part, or did not end in time."""


def hold(stack: ExitStack, contestant: Contestant, place: Path) -> tuple[Any, Any]:
    """Place the rows where the contestant wants them."""
    if contestant.cluster is None:
        return load(place)
    import dask.array as da
    from distributed import Client, LocalCluster, wait

    n_workers, n_threads = contestant.cluster
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=n_threads,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=contestant.memory_limit,
        )
    )
    client = stack.enter_context(Client(cluster))
    if contestant.streamed:
        return from_disk(place, contestant.n_chunks)
    X, y = load(place)
    step = -(-X.shape[0] // contestant.n_chunks)
    addresses = list(client.scheduler_info(n_workers=-1)["workers"])
    starts = range(0, X.shape[0], step)
    parts, targets = [], []
    for i, start in enumerate(starts):
        rows, owner = slice(start, start + step), addresses[i * len(addresses) // len(starts)]
        for array, found in ((X, parts), (y, targets)):
            piece = client.scatter(array[rows], workers=[owner], hash=False)
            found.append(da.from_delayed(piece, array[rows].shape, array.dtype, meta=array[:0]))
    held = client.persist([da.concatenate(parts), da.concatenate(targets)])
    wait(held)
    return held[0], held[1]


def serve(connection: Connection, workload: str, name: str, place: Path) -> None:
    """Fit as often as the other end of the connection asks for it."""
    warnings.simplefilter("ignore")
    contestant = WORKLOADS[workload].contestants[name]
    with ExitStack() as stack:
        try:
            contestant.make(contestant.tolerances[0])
        except ImportError as error:
            connection.send(Failed(f"not installed ({error.name})"))
            return
        X, y = hold(stack, contestant, place)
        connection.send(None)
        while (tol := connection.recv()) is not None:
            try:
                start = time.perf_counter()
                for _ in range(contestant.repeat):
                    model = contestant.make(tol).fit(X, y)
                seconds = (time.perf_counter() - start) / contestant.repeat
            except Exception as error:
                connection.send(Failed(f"{type(error).__name__}: {error}"[:200]))
                continue
            intercept = getattr(model, "intercept_", 0.0)
            if not getattr(model, "fit_intercept", True):
                intercept = 0.0
            rounds = getattr(model, "n_rounds_", None)
            connection.send((seconds, np.array(model.coef_), np.array(intercept), rounds))


class Contender:
    """The near end of a contestant's process.

    Parameters
    ----------
    workload, name : str
        Which contestant of which workload.
    place : Path
        Folder of the saved table.
    limit : float
        Seconds that a fit may take.

    Raises
    ------
    Failed
        Where the contestant's library is not installed, or the rows could not be placed.
    """

    def __init__(self, workload: str, name: str, place: Path, limit: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._near, far = context.Pipe()
        self._process = context.Process(target=serve, args=(far, workload, name, place))
        self._process.start()
        far.close()
        self._limit = limit
        self._answer(600.0)

    def _answer(self, limit: float) -> Any:
        if not self._near.poll(limit):
            self.close(kill=True)
            raise Failed(f"more than {limit:g} s")
        try:
            answer = self._near.recv()
        except EOFError:
            raise Failed("its process ended") from None
        if isinstance(answer, Failed):
            raise answer
        return answer

    def _memory(self) -> int:
        total = 0
        try:
            parent = psutil.Process(self._process.pid)
            for process in [parent, *parent.children(recursive=True)]:
                total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass
        return total

    def fit(self, tol: float) -> Fit:
        """Fit once; Failed where it raises or takes too long."""
        before, peak, done = self._memory(), 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, self._memory() - before)

        watcher = threading.Thread(target=watch)
        sent = psutil.net_io_counters(pernic=True)[LOOPBACK].bytes_sent
        watcher.start()
        try:
            self._near.send(tol)
            seconds, coef, intercept, rounds = self._answer(self._limit)
        finally:
            done.set()
            watcher.join()
        sent = psutil.net_io_counters(pernic=True)[LOOPBACK].bytes_sent - sent
        return Fit(seconds, coef, intercept, rounds, peak, sent)

    def close(self, *, kill: bool = False) -> None:
        """End the process and those that it started."""
        if not self._process.is_alive():
            return
        if not kill:
            self._near.send(None)
            self._process.join(30.0)
        try:
            family = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        if self._process.is_alive():
            self._process.kill()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.join()
