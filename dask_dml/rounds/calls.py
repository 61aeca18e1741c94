"""Calls from the driver to the workers that can neither hang nor outlive their caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import dask

from dask_dml.input.clients import TIMEOUT_OPTION, disconnected, round_timeout, silent
from dask_dml.rounds.base import MAX_RECOVERIES

if TYPE_CHECKING:
    from distributed import Client

#: Seconds between two looks at whether the workers that owe an answer still exist.
LOOK_INTERVAL = 0.5

RECOVERIES_OPTION = "dask_dml.max-recoveries"


class WorkersGone(Exception):
    """Workers left the cluster before they answered.

    Attributes
    ----------
    workers : frozenset of str
        Their addresses.
    """

    def __init__(self, message: str, workers: Iterable[str]) -> None:
        self.workers = frozenset(workers)
        super().__init__(message)


def check_client(client: Client) -> None:
    """Raise where a client cannot be waited for.

    Raises
    ------
    ValueError
        If the client is asynchronous.
    """
    if client.asynchronous:
        raise ValueError(
            "fitting needs a synchronous dask Client, and the current one is asynchronous: "
            "create it with Client(asynchronous=False), or fit in another thread"
        )


def max_recoveries() -> int:
    """Return how often in a row workers may be lost (dask config ``dask_dml.max-recoveries``).

    Raises
    ------
    ValueError
        If the value is no count.
    """
    value = dask.config.get(RECOVERIES_OPTION, MAX_RECOVERIES)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(
            f"{RECOVERIES_OPTION} in Dask's config must be an integer of at least 0, got {value!r}"
        )
    return value


def timed_out(what: str, seconds: float) -> TimeoutError:
    """Return the error for something that took too long."""
    return TimeoutError(
        f"{what} took longer than {seconds:g} s. If that is how long it takes, raise the limit: "
        f'dask.config.set({{"{TIMEOUT_OPTION}": "1h"}}); otherwise look at the logs of the '
        "workers (client.get_worker_logs())"
    )


def call_workers(
    client: Client,
    function: Callable[..., Any],
    *args: Any,
    workers: Collection[str],
    what: str,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Run a function on some workers, outside of the task system, and wait for the answers.

    Parameters
    ----------
    client : Client
        The client.
    function : callable
        See `distributed.Client.run`.
    *args
        Its arguments.
    workers : collection of str
        Addresses.
    what : str
        Names the call in an error.
    timeout : float, optional
        Seconds; `round_timeout` by default.

    Returns
    -------
    answers : dict of str to object
        By address.

    Raises
    ------
    WorkersGone
        If a worker left the cluster, or the connection to it broke.
    TimeoutError
        If the answers did not come in time.
    RuntimeError
        If the client was closed meanwhile.
    """
    limit = round_timeout() if timeout is None else timeout

    async def call() -> dict[str, Any]:
        deadline = time.monotonic() + limit
        running = asyncio.ensure_future(
            client.run(function, *args, workers=list(workers), on_error="return")
        )
        try:
            while True:
                left = deadline - time.monotonic()
                await asyncio.wait({running}, timeout=max(0.0, min(LOOK_INTERVAL, left)))
                if running.done():
                    return await running
                if left <= 0:
                    raise timed_out(what, limit)
                # A call to a worker that died is retried by the scheduler for half a minute.
                try:
                    there = await asyncio.wait_for(client.nthreads(), left)
                except TimeoutError:
                    raise silent(what, limit) from None
                gone = set(workers) - set(there)
                if gone:
                    raise WorkersGone(f"workers {sorted(gone)} left the cluster", gone)
        finally:
            running.cancel()

    try:
        answers = client.sync(call)
    except Exception as error:
        lost = isinstance(error, OSError) and not isinstance(error, TimeoutError)
        if client.status == "running" and not lost:
            raise
        raise disconnected(what) from error
    for address, answer in answers.items():
        if isinstance(answer, (OSError, asyncio.TimeoutError)):
            raise WorkersGone(f"worker {address} is gone: {answer}", [address]) from answer
        if isinstance(answer, BaseException):
            raise answer
    return answers
