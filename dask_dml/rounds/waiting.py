"""Waiting for Dask's futures: with the own exception of a chunk that fails, and without end."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dask_dml.input.clients import round_timeout, silent, worker_info, worker_threads
from dask_dml.rounds import worker as on_worker
from dask_dml.rounds.calls import WorkersGone, call_workers, timed_out

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

#: Seconds that closing waits for the workers to have dropped everything.
CLOSE_TIMEOUT = 5.0

#: Seconds after which closing no longer expects releasing to be enough.
PATIENCE = 0.2

#: Chunks that an error names where it is not known which of them it comes from.
SUSPECTS = 10

#: "lost" is no failure: it means that Dask is computing the value again.
_FAILED = ("error", "cancelled")


class DataLost(RuntimeError):
    """Data without lineage (scattered to the cluster, say) went down with its worker.

    Attributes
    ----------
    keys : tuple of str
        The futures that cannot be had any more.
    """

    def __init__(self, keys: Iterable[str], names: str) -> None:
        self.keys = tuple(keys)
        super().__init__(
            f"{names}: cancelled or lost, and cannot be computed again. Data that was scattered "
            "to the cluster is gone with its worker, and everything is after Client.restart() or "
            "Client.cancel(); build the collection from files or by tasks, or load it again"
        )


def settle(
    client: Client,
    futures: Mapping[str, Future],
    names: Mapping[str, str],
    limit: float = float("inf"),
) -> None:
    """Wait until all futures are finished.

    Parameters
    ----------
    client : Client
        The client.
    futures : mapping of str to Future
        By key.
    names : mapping of str to str
        What the futures are in words, for errors.
    limit : float, default=inf
        Seconds that this may take.  Reading a chunk may take any time, but without any worker
        that runs tasks for `round_timeout` seconds this fails in any case.

    Raises
    ------
    Exception
        Whatever the first task that failed has raised, with a note naming what it was.
    DataLost
        If a future was cancelled or cannot be computed again.
    TimeoutError
        If it took too long.
    """
    start = looked = staffed = time.monotonic()
    pending = list(futures)
    while True:
        began = time.monotonic()
        states = {key: futures[key].status for key in pending}
        if any(status in _FAILED for status in states.values()):
            _raise_failure(futures, names)
        pending = [key for key, status in states.items() if status != "finished"]
        if not pending:
            return
        now = time.monotonic()
        if now - start > limit:
            raise timed_out("a pass over the data", limit)
        if now - looked > 1:
            looked = now
            # A worker that is paused, for want of memory, begins no task.
            if any(worker["status"] == "running" for worker in worker_info(client).values()):
                staffed = now
            elif now - staffed > round_timeout():
                raise timed_out("waiting for a worker that is not paused", round_timeout())
        # Looking at ten thousand futures is cheap; waiting for each of them (`as_completed`)
        # costs more than computing them.
        time.sleep(max(0.002, 4 * (now - began)))


def _raise_failure(futures: Mapping[str, Future], names: Mapping[str, str]) -> None:
    lost = []
    for key, future in futures.items():
        if future.status == "error":
            error, trace = future.exception(), future.traceback()
            name_chunk(error, _suspects(error, futures, names) or names.get(key))
            raise error.with_traceback(trace)
        if future.status in _FAILED:
            lost.append(key)
    if lost:
        raise DataLost(lost, ", ".join(names.get(key, key) for key in lost[:3]))


def _suspects(
    error: BaseException, futures: Mapping[str, Future], names: Mapping[str, str]
) -> str | None:
    """Return in words what a worker may have died of: Dask suspects all that it was given."""
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return None
    failed = [key for key, future in futures.items() if future.status == "error"]
    found = list(dict.fromkeys(names[key] for key in failed if key in names))
    return ", or ".join(found[:SUSPECTS]) + (", or ..." if len(found) > SUSPECTS else "") or None


def name_chunk(error: BaseException, name: str | None) -> None:
    """Add a note to an error that says which chunk it comes from."""
    if name is not None and not is_named(error):
        error.add_note(f"raised in {name} (chunks are counted from 0)")


def is_named(error: BaseException) -> bool:
    """Return whether an error has a note that says where it was raised."""
    return any(note.startswith("raised in ") for note in getattr(error, "__notes__", ()))


def uninterrupted(call: Callable[..., T], *args: Any, limit: float | None = None) -> T:
    """Make a short call of the client that a KeyboardInterrupt does not cut off.

    It may take ``limit`` seconds, by default `round_timeout`; then a TimeoutError is raised.

    Cut off while it scatters, a client leaves data on the workers that nobody knows of; while it
    gathers, it may never gather again (distributed goes on waiting for the call that was
    cancelled).  So the interrupt is raised when the call, on a thread of its own, is over.
    """
    # Not an executor: interrupted while it starts its thread, it forgets to wait for it.
    result: concurrent.futures.Future[T] = concurrent.futures.Future()
    seconds = round_timeout() if limit is None else limit
    deadline = time.monotonic() + seconds

    def run() -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(call(*args))
        except BaseException as error:
            result.set_exception(error)

    try:
        threading.Thread(target=run, name="dask_dml-call", daemon=True).start()
        return result.result(seconds)
    except TimeoutError:
        raise silent("moving data", seconds) from None
    finally:
        if not result.cancel():
            concurrent.futures.wait([result], max(0.0, deadline - time.monotonic()))


def wait_until_gone(client: Client, fit: str) -> None:
    """Wait, for some seconds at most, until the workers have nothing of a fit any more."""
    begun = time.monotonic()
    pause = 0.002
    while time.monotonic() < begun + CLOSE_TIMEOUT:
        try:
            workers = set(worker_threads(client, "closing", CLOSE_TIMEOUT))
        except (TimeoutError, RuntimeError):
            return
        left = quietly(client, on_worker.leftovers, fit, workers)
        keys = {key for keys in left.values() if keys for key in keys}
        if not workers or all(keys is None for keys in left.values()):
            return
        if time.monotonic() > begun + PATIENCE:
            _cancel(client, keys)
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def _cancel(client: Client, keys: Iterable[str]) -> None:
    """Take back what futures still want that cannot be got at.

    After a KeyboardInterrupt inside of Dask they are in the frames of its traceback.
    """
    from distributed import Future

    with suppress(TimeoutError):
        uninterrupted(client.cancel, [Future(key, client) for key in keys], limit=CLOSE_TIMEOUT)


def quietly(client: Client, function: object, fit: str, workers: set[str]) -> dict[str, Any]:
    """Call a function on workers that may be gone already."""
    if not workers:
        return {}
    try:
        return call_workers(
            client,
            function,  # type: ignore[arg-type]  # of any arguments
            fit,
            workers=workers,
            what="closing",
            timeout=CLOSE_TIMEOUT,
        )
    except (WorkersGone, TimeoutError, RuntimeError):
        return {}
