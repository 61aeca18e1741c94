"""Which cluster this process can reach, and whether it can be used.

Dask is imported by the caller or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

TIMEOUT_OPTION = "dask_dml.round-timeout"

#: What kernels and blocks need on a worker beside this package.
REQUIRED = ("numba", "numpy", "pandas", "scipy", "sklearn")

#: Stands for the scheduler among the addresses of the workers.
SCHEDULER = "the scheduler"

#: Who has been looked at, by client.
_known: WeakKeyDictionary[Client, set[str]] = WeakKeyDictionary()


def in_task() -> bool:
    """Return whether this is running inside a Dask task."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def current_client() -> Client | None:
    """Return the current Dask client, if there is one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def round_timeout() -> float:
    """Return how long a round may take, in seconds (dask config ``dask_dml.round-timeout``)."""
    import dask
    from dask.utils import parse_timedelta

    return float(parse_timedelta(dask.config.get(TIMEOUT_OPTION, "10 minutes")))


def ask(
    client: Client, call: Callable[[], Awaitable[T]], what: str, limit: float | None = None
) -> T:
    """Wait for the answer to a call of a client, but not for ever.

    Parameters
    ----------
    client : Client
        A synchronous client.
    call : callable
        Makes the call in the client's event loop, such as ``client.nthreads``.
    what : str
        Names it in an error.
    limit : float, optional
        Seconds; `round_timeout` by default.

    Returns
    -------
    answer : object
        Of the call.

    Raises
    ------
    TimeoutError
        If there was no answer in time: the scheduler hangs, or cannot be reached.
    RuntimeError
        If the client was closed meanwhile.
    """
    import asyncio

    seconds = round_timeout() if limit is None else limit

    async def bounded() -> T:
        return await asyncio.wait_for(call(), seconds)

    try:
        return client.sync(bounded)
    except TimeoutError:
        raise silent(what, seconds) from None
    except OSError as error:
        raise disconnected(what) from error
    except Exception as error:
        if client.status == "running":
            raise
        raise disconnected(what) from error


def silent(what: str, seconds: float) -> TimeoutError:
    """Return the error for a scheduler that does not answer."""
    return TimeoutError(
        f"The Dask scheduler has not answered for {seconds:g} s ({what}): it hangs, or cannot be "
        "reached. Look at its log, and connect again. The limit is set by "
        f'dask.config.set({{"{TIMEOUT_OPTION}": "1h"}}).'
    )


def disconnected(what: str) -> RuntimeError:
    """Return the error for a client that is of no more use."""
    return RuntimeError(
        f"the Dask client was closed, or lost its scheduler, while {what} was under way. "
        "Connect again, and repeat the fit."
    )


@contextmanager
def connected(client: Client, what: str) -> Iterator[None]:
    """Say so where something fails because the client is of no more use.

    Dask's own words differ with what the client was doing at that moment.
    """
    try:
        yield
    except Exception as error:
        if client.status == "running":
            raise
        raise disconnected(what) from error


def worker_threads(client: Client, what: str, limit: float | None = None) -> dict[str, int]:
    """Return the number of threads of each worker by its address; see `ask`."""
    return dict(ask(client, client.nthreads, what, limit))


def worker_info(client: Client) -> dict[str, dict[str, Any]]:
    """Return what the scheduler knows of each worker by its address; see `ask`."""

    async def identity() -> Any:
        if client.scheduler is None:
            raise disconnected("looking at the workers")
        return await client.scheduler.identity(n_workers=-1)

    return dict(ask(client, identity, "looking at the workers")["workers"])


def check_workers(client: Client | None) -> None:
    """Reject a scheduler and workers that cannot read or run what is sent to them.

    Each is looked at once.

    Parameters
    ----------
    client : Client or None
        None, and an asynchronous one, are left to others.

    Raises
    ------
    RuntimeError
        If some lack this package, have another version of it, or lack what it needs.
    """
    if client is None or client.asynchronous:
        return
    known = _known.setdefault(client, set())
    new = set(worker_threads(client, "looking at the workers")) - known
    if not new and SCHEDULER in known:
        return
    look = _look(REQUIRED)

    async def answers() -> dict[str, Any]:
        found: dict[str, Any] = {}
        if SCHEDULER not in known:
            # It reads graphs of tasks, too, unless it is told to refuse all that is pickled.
            with suppress(ValueError):
                found[SCHEDULER] = await client.run_on_scheduler(look)
        if new:
            found |= await client.run(look, workers=list(new), on_error="return")
        return found

    found = ask(client, answers, "looking at the workers")
    # One that left meanwhile does not matter; it is looked at again should it come back.
    reports = {address: report for address, report in found.items() if isinstance(report, dict)}
    _check_reports(reports)
    known |= {SCHEDULER, *reports}


def _look(required: Collection[str]) -> Callable[[], dict[str, str | None]]:
    # A function inside of another travels by value, and so runs where this package is not.
    def look() -> dict[str, str | None]:
        from importlib.util import find_spec

        try:
            import dask_dml

            found: dict[str, str | None] = {"dask_dml": dask_dml.__version__}
        except Exception:
            found = {"dask_dml": None}
        return found | {name: None for name in required if find_spec(name) is None}

    return look


def _check_reports(reports: dict[str, dict[str, str | None]]) -> None:
    from dask_dml import __version__

    faults: dict[str, list[str]] = {}
    for address, report in sorted(reports.items()):
        lacking = [name for name, version in report.items() if version is None]
        version = report["dask_dml"]
        if lacking:
            faults.setdefault(f"without {', '.join(lacking)}", []).append(address)
        elif version != __version__:
            faults.setdefault(f"with dask_dml {version}", []).append(address)
    if faults:
        told = "; ".join(f"{', '.join(there)} ({fault})" for fault, there in faults.items())
        raise RuntimeError(
            f"Parts of the Dask cluster cannot run dask_dml: {told}. Install dask_dml "
            f"{__version__}, which this process has, and all that it depends on, in the "
            "environment (or image) of the scheduler and of every worker."
        )
