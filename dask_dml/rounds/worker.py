"""The workers' side of `ClusterRounds`: sessions, rounds, and the task that holds a worker.

Every function here travels by reference.  Those with a parameter ``dask_worker`` are called by
`distributed.Client.run` on the worker's event loop; `hold` is a Dask task.
"""

from __future__ import annotations

import asyncio
import functools
import pickle
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import Status, get_worker, secede

from dask_dml.blocks import Block, Facts, Shard, StoredBlock
from dask_dml.rounds.base import TreeSum
from dask_dml.rounds.log import TOPICS
from dask_dml.rounds.tasks import PREFIX
from dask_dml.rounds.threads import BlasLimit

if TYPE_CHECKING:
    from distributed import Worker

#: Seconds between two looks at whether the driver is still there.
LEASE_INTERVAL = 1.0

#: Looks without a sign of the driver after which a session is dropped.
LEASE_MISSES = 10

#: The sessions of this process.  Several workers may live in one process.
_sessions: dict[tuple[str, str], Session] = {}


@dataclass
class Answer:
    """What a worker reports of a round.

    Attributes
    ----------
    nodes : dict of (level, index) to partial result
        Sums over the worker's shards, as far as they are neighbours.
    missing : tuple of int or None
        Shards whose blocks are not here; None where the worker does not know of the fit.
    stateless : tuple of int
        Shards whose state is not here.
    error : BaseException or None
        What a shard function raised.
    seconds : float
        What the visit took.
    compiling : float
        Seconds of it in which this process compiled kernels, which is done once.
    shards : dict of int to float
        Seconds that a thread took for each shard.
    """

    nodes: dict[tuple[int, int], Any] = field(default_factory=dict)
    missing: tuple[int, ...] | None = ()
    stateless: tuple[int, ...] = ()
    error: BaseException | None = None
    seconds: float = 0.0
    compiling: float = 0.0
    shards: dict[int, float] = field(default_factory=dict)


class Session:
    """What one worker keeps for one fit, besides the blocks, which are Dask's.

    Parameters
    ----------
    worker : distributed.Worker
        The worker.
    fit : str
        Identifies the fit.
    n_shards : int
        Number of shards on all workers.
    """

    def __init__(self, worker: Worker, fit: str, n_shards: int) -> None:
        self.worker = worker
        self.fit = fit
        self.n_shards = n_shards
        self.plan: dict[int, tuple[str, ...]] = {}
        # Of each shard the states after the last two updates, by the number of the update.
        self.states: dict[int, dict[int, Any]] = {}
        self.closed = threading.Event()
        self.pool = ThreadPoolExecutor(
            worker.state.nthreads, thread_name_prefix=f"{PREFIX}round-{fit}"
        )
        self.blas = BlasLimit()
        self.attempt = 0
        self._busy = asyncio.Lock()
        self._seen: dict[str, weakref.ref[Block]] = {}
        self._facts: dict[str, Facts] = {}
        self._hold = ""
        self._misses = 0
        worker.loop.call_later(LEASE_INTERVAL, self._check_lease)

    def follow(self, plan: Mapping[int, tuple[str, ...]], hold: str) -> None:
        """Take over a plan (shards and the keys of their blocks) and the key of the hold task."""
        self.plan = dict(plan)
        self.states = {number: self.states[number] for number in plan if number in self.states}
        self._hold = hold
        self._misses = 0

    def close(self) -> None:
        """Drop everything; a thread that is still computing ends after its shard."""
        self.attempt += 1
        self.closed.set()
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.plan, self.states, self._seen = {}, {}, {}
        _sessions.pop((self.worker.id, self.fit), None)

    def _check_lease(self) -> None:
        """End the session when its hold task is no longer wanted: the driver is gone."""
        if self.closed.is_set():
            return
        task = self.worker.state.tasks.get(self._hold)
        wanted = task is not None and task.state in HELD_STATES
        self._misses = 0 if wanted else self._misses + 1
        if self._misses > LEASE_MISSES or self.worker.status in ENDED:
            self.close()
        else:
            self.worker.loop.call_later(LEASE_INTERVAL, self._check_lease)

    async def run(self, call: Callable[[Shard], Any]) -> Answer:
        """Evaluate ``call(shard)`` on every shard of the plan."""
        start = time.perf_counter()
        self._misses = 0
        self.attempt += 1
        visit = _Visit(self, call, self.attempt)
        # A driver that gave up on an attempt may ask again while that is still computing.
        async with self._busy:
            loop = asyncio.get_running_loop()
            spilled = getattr(self.worker.data, "disk", ())
            with self.blas():
                if spilled and any(key in spilled for keys in self.plan.values() for key in keys):
                    self._look_at_all()
                    visit.shards.extend(self.stored_shard(number, loop) for number in self.plan)
                else:
                    visit.shards.extend(self.shard(number) for number in self.plan)
                n_threads = min(self.worker.state.nthreads, len(self.plan))
                await asyncio.gather(
                    *(loop.run_in_executor(self.pool, visit.drain) for _ in range(n_threads))
                )
        seconds = time.perf_counter() - start
        if isinstance(visit.error, BlockGone):
            return Answer(missing=tuple(self.plan))
        return Answer(visit.tree.nodes, error=visit.error, seconds=seconds, shards=visit.seconds)

    def shard(self, number: int) -> Shard:
        """Return a shard; its blocks are read back from disk where Dask has spilled them."""
        return Shard(number, tuple(self._block(key) for key in self.plan[number]))

    def stored_shard(self, number: int, loop: asyncio.AbstractEventLoop) -> Shard:
        """Return a shard of which one block at a time is in memory."""
        last: list[tuple[str, Block]] = []

        def load(key: str) -> Block:
            if not last or last[0][0] != key:
                # Let go of one block before there is another one.
                last.clear()
                block = asyncio.run_coroutine_threadsafe(self._read(key), loop).result()
                last.append((key, block))
            return last[0][1]

        return Shard(
            number,
            tuple(
                StoredBlock(functools.partial(load, key), self._facts[key])
                for key in self.plan[number]
            ),
        )

    async def _read(self, key: str) -> Block:
        """Return a block, on the event loop: other threads must not use Dask's data."""
        try:
            return self._block(key)
        except KeyError:
            raise BlockGone(key) from None

    def _block(self, key: str) -> Block:
        # Dask's own look-up costs some ten microseconds.  The references are weak: a block that
        # Dask spills or moves away really leaves memory.
        seen = self._seen.get(key)
        block: Any = None if seen is None else seen()
        if block is None:
            block = self.worker.data[key]
            self._seen[key] = weakref.ref(block)
        return block

    def _look_at_all(self) -> None:
        """Find out once what there is to know of each block."""
        for key in (key for keys in self.plan.values() for key in keys):
            if key not in self._facts:
                self._facts[key] = Facts.of(self._block(key))

    def missing(self) -> tuple[int, ...]:
        """Return the shards of the plan of which some block is not here."""
        return tuple(n for n, keys in self.plan.items() if not all(map(self._here, keys)))

    def _here(self, key: str) -> bool:
        seen = self._seen.get(key)
        return (seen is not None and seen() is not None) or key in self.worker.data


class BlockGone(Exception):
    """A block went from its worker while its shard was being visited."""


class _Visit:
    """One visit of a worker's shards by its threads."""

    def __init__(self, session: Session, call: Callable[[Shard], Any], attempt: int) -> None:
        self.session = session
        self.call = call
        self.attempt = attempt
        self.shards: deque[Shard] = deque()
        self.tree: TreeSum[Any] = TreeSum(session.n_shards)
        self.error: BaseException | None = None
        self.seconds: dict[int, float] = {}

    def drain(self) -> None:
        while True:
            try:
                shard = self.shards.popleft()
            except IndexError:
                return
            self.one(shard)

    def one(self, shard: Shard) -> None:
        # Once a shard has failed, or the driver has asked anew, the rest is not worth computing.
        if self.error is not None or self.session.attempt != self.attempt:
            return
        start = time.perf_counter()
        try:
            self.tree.add((0, shard.number), self.call(shard))
            self.seconds[shard.number] = time.perf_counter() - start
        except BlockGone as error:
            self.error = error
        except BaseException as error:  # also SystemExit and the like: the driver must hear of it
            self.error = portable(error, describe(shard, self.session.worker.address))


#: States of a worker's task in which somebody still wants it to run.
HELD_STATES = frozenset({"waiting", "ready", "constrained", "executing", "long-running"})

#: States of a worker that is no more, or soon will be.
ENDED = frozenset({Status.closing, Status.closed, Status.failed, Status.stopping, Status.stopped})


def describe(shard: Shard, address: str) -> str:
    """Say in words which shard, chunks and worker an error comes from."""
    chunks = sorted({chunk for block in shard.blocks for chunk, _ in block.origin})
    where = ""
    if len(chunks) == 1:
        where = f" (chunk {chunks[0]} of the input)"
    elif chunks:
        where = f" (chunks {chunks[0]} to {chunks[-1]} of the input)"
    return f"raised in shard {shard.number}{where} on worker {address}"


def portable(error: BaseException, note: str) -> BaseException:
    """Attach a note and the traceback's text to an error that is going to be pickled."""
    try:
        lines = "".join(traceback.format_exception(error))
    except Exception:  # it parses source code, which on several threads at once may fail
        lines = "unavailable"
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    error.add_note(f"traceback on the worker:\n{lines}")
    return error.with_traceback(None)


def open_session(
    fit: str,
    n_shards: int,
    plans: Mapping[str, Mapping[int, tuple[str, ...]]],
    holds: Mapping[str, str],
    dask_worker: Worker,
) -> tuple[int, ...]:
    """Open the fit's session, or give it a new plan; return the shards that are not here."""
    key = (dask_worker.id, fit)
    if key not in _sessions:
        _sessions[key] = Session(dask_worker, fit, n_shards)
    session = _sessions[key]
    session.follow(plans[dask_worker.address], holds[dask_worker.address])
    return session.missing()


def close_session(fit: str, dask_worker: Worker) -> None:
    """Close the fit's session, if there is one."""
    session = _sessions.get((dask_worker.id, fit))
    if session is not None:
        session.close()


def close_ended(fit: str) -> None:
    """Close the sessions of a fit on workers of this process that have ended.

    They do so by themselves only while the worker's event loop runs.
    """
    for session in list(_sessions.values()):
        if session.fit == fit and session.worker.status in ENDED:
            session.close()


def leftovers(fit: str, dask_worker: Worker) -> list[str] | None:
    """Return the keys of data and tasks of the fit on this worker; None if there is nothing."""
    keys = {str(k) for k in (*dask_worker.state.tasks, *dask_worker.data) if is_of_fit(k, fit)}
    if keys or (dask_worker.id, fit) in _sessions:
        return sorted(keys)
    return None


def is_of_fit(key: object, fit: str) -> bool:
    """Return whether a key was made for the given fit."""
    return isinstance(key, str) and key.startswith(PREFIX) and fit in key


async def run_round(
    fit: str, function: Callable[..., Any], broadcast: Any, dask_worker: Worker
) -> Answer:
    """Evaluate ``function(shard, broadcast)`` on the shards of this worker."""
    session = _sessions.get((dask_worker.id, fit))
    if session is None:
        return Answer(missing=None)
    missing = session.missing()
    if missing:
        return Answer(missing=missing)
    return await _timed(session, function, lambda shard: function(shard, broadcast))


async def run_update(
    fit: str,
    function: Callable[..., Any],
    broadcast: Any,
    number: int,
    fresh: Iterable[int],
    dask_worker: Worker,
) -> Answer:
    """Evaluate ``function(shard, state, broadcast)`` and keep the state.

    Parameters
    ----------
    number : int
        Number of the update; it starts from the states after update ``number - 1``, which are
        kept until the next one, so that it can be repeated.
    fresh : iterable of int
        Shards that start from ``None``.
    """
    session = _sessions.get((dask_worker.id, fit))
    if session is None:
        return Answer(missing=None)
    fresh = frozenset(fresh)
    states = session.states
    stateless = tuple(
        shard
        for shard in session.plan
        if shard not in fresh and number - 1 not in states.get(shard, {})
    )
    missing = session.missing()
    if missing or stateless:
        return Answer(missing=missing, stateless=stateless)

    def call(shard: Shard) -> Any:
        before = None if shard.number in fresh else states[shard.number][number - 1]
        # What came before that is not asked for again: there is no room for three of them.
        states[shard.number] = {number - 1: before}
        after, partial = function(shard, before, broadcast)
        states[shard.number] = {number - 1: before, number: after}
        return partial

    return await _timed(session, function, call)


def export_states(fit: str, shards: Iterable[int], dask_worker: Worker) -> dict[int, Any]:
    """Return the states of some shards that are to move to another worker."""
    session = _sessions.get((dask_worker.id, fit))
    if session is None:
        return {}
    return {number: session.states[number] for number in shards if number in session.states}


def import_states(fit: str, states: Mapping[int, Any], dask_worker: Worker) -> None:
    """Take over the states of shards of this worker's plan from another worker."""
    session = _sessions[(dask_worker.id, fit)]
    session.states |= {number: state for number, state in states.items() if number in session.plan}


async def _timed(
    session: Session, function: Callable[..., Any], call: Callable[[Shard], Any]
) -> Answer:
    clock = compile_clock()
    compiled = clock.duration if clock.done else 0.0
    answer = await session.run(call)
    answer.compiling = (clock.duration if clock.done else 0.0) - compiled
    name = getattr(function, "__qualname__", repr(function))
    event = {
        "action": f"dask_dml round: {name}",
        "kind": "round",
        "message": f"{name}: {len(session.plan)} shard(s) in {answer.seconds:.3f} s",
        "fit": session.fit,
        "round": name,
        "shards": len(session.plan),
        "seconds": answer.seconds,
        "compiling": answer.compiling,
    }
    session.worker.log_event(TOPICS, event)
    return answer


@functools.cache
def compile_clock() -> Any:
    """Return the clock of all compilation in this process, which runs from the first call on."""
    from numba.core.event import TimingListener, register

    clock = TimingListener()
    register("numba:compile", clock)
    return clock


def hold(fit: str, address: str) -> None:
    """Show the scheduler that a fit is using this worker, until the session is closed.

    Rounds are no tasks: without this one, the scheduler would take the cluster for idle, shut
    it down by its ``idle_timeout`` or let adaptive scaling close workers.
    """
    worker = get_worker()
    session = _sessions.get((worker.id, fit))
    if session is None or worker.address != address:
        return
    closed = session.closed
    del session
    secede()
    while not closed.wait(5 * LEASE_INTERVAL):
        # The event loop, which sets the event, may end before it could.
        if worker.status in ENDED:
            return


def census(fit: str, stage: str, dask_worker: Worker) -> dict[str, tuple[int, int]]:
    """Return rows and bytes of the fit's blocks on this worker, by key."""
    prefix = f"{PREFIX}{stage}-{fit}-"
    data = dask_worker.data
    keys = [key for key in data if isinstance(key, str) and key.startswith(prefix)]
    found = {}
    for key in keys:
        block: Any = data[key]
        found[key] = (block.n_rows, block.nbytes)
    return found


def held_keys(keys: Iterable[str], dask_worker: Worker) -> list[str]:
    """Return which of the keys are on this worker."""
    return [key for key in keys if key in dask_worker.data]


def open_fits() -> list[str]:
    """Return the fits that have a session in this process."""
    return sorted({fit for _, fit in _sessions})
