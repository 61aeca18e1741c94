"""Rounds over blocks that the workers of a Dask cluster hold."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dask_dml.input.clients import check_workers, connected, worker_info, worker_threads
from dask_dml.rounds import worker as on_worker
from dask_dml.rounds.balance import Balance, Rebalancing
from dask_dml.rounds.base import (
    LOSING_WORKERS,
    ShardFunction,
    StateFunction,
    StateLost,
    TreeSum,
)
from dask_dml.rounds.calls import WorkersGone, call_workers, check_client, max_recoveries
from dask_dml.rounds.log import logger, tell
from dask_dml.rounds.memory import room_of
from dask_dml.rounds.placement import Placement
from dask_dml.rounds.plan import Host, WantedShards, check_n_shards
from dask_dml.rounds.tasks import PREFIX
from dask_dml.rounds.waiting import CLOSE_TIMEOUT, SUSPECTS, quietly, wait_until_gone

if TYPE_CHECKING:
    from distributed import Client, Future

    from dask_dml.input.chunks import Chunks
    from dask_dml.rounds.worker import Answer

#: Seconds of compilation in a round from which on it is told of.
WORTH_TELLING = 0.5
#: Seconds between two looks at which workers there are.
LOOK_AT_WORKERS = 1.0


class ClusterRounds:
    """Visit shards where a Dask cluster holds them: one call per worker and round.

    The blocks are Dask's (counted, spillable, computed again when lost); a round is not made of
    tasks, which would cost some 15 ms, but of one call to every worker, which looks its blocks
    up, evaluates the function on threads of its own and adds up what it can.  While the engine
    is open each worker holds one task named ``dask_dml-fit-runs-in-rounds-...`` outside of its
    thread pool, by which the scheduler knows that the worker is in use.

    Workers that join are given shards, and slow ones are relieved, once waiting has cost as much
    as moving does.  A lost worker costs a repeated round: its blocks are computed again by Dask.
    Shards move as a whole, so that the sum has the same bits as before.

    Parameters
    ----------
    client : Client
        A synchronous client.
    chunks : Chunks
        Lazy chunks.
    n_shards : int, "blocks", "several" or None, default=None
        Number of shards: a number cuts the chunks into contiguous ranges of about equally many
        rows; ``"blocks"`` makes every non-empty chunk a shard; None makes one per worker thread,
        and ``"several"`` more where shards are large.

    Attributes
    ----------
    shard_rows : tuple of int
        Number of rows of each shard.
    n_rounds : int
        Successful rounds so far.
    n_recoveries : int
        Times that shards had to be brought together again.
    compile_seconds : float
        Of the rounds so far, in which workers compiled kernels.
    max_recoveries : int
        How often that may happen without a successful round in between (dask config
        ``dask_dml.max-recoveries``, 5 by default).

    Raises
    ------
    ValueError
        If the client is asynchronous, ``n_shards`` is invalid, or there are no rows.
    Exception
        Whatever a chunk's own task raised, with a note that names the chunk.

    Notes
    -----
    Small blocks of a shard are merged.  Where the blocks are very unevenly spread over the
    workers they are moved, see `dask_dml.rounds.plan.plan_shards`.  A round may take as long as
    the dask config value ``dask_dml.round-timeout`` says (10 minutes by default).
    """

    engine = "cluster"

    def __init__(self, client: Client, chunks: Chunks, n_shards: WantedShards = None) -> None:
        check_n_shards(n_shards)
        check_client(client)
        self.client = client
        self.fit = uuid.uuid4().hex[:12]
        self.n_rounds = 0
        self._holds: dict[str, Future] = {}
        self._known: set[str] = set()
        self._update = 1
        self._fresh: set[int] = set()
        self._lost: set[int] = set()
        self.max_recoveries = max_recoveries()
        self.n_recoveries = 0
        # Since the last successful round: losses, and of which shards they were.
        self._in_a_row = 0
        self._losers: Counter[int] = Counter()
        self._balance = Balance()
        self.compile_seconds = 0.0
        self._looked = time.monotonic()
        self._unfit: set[str] = set()
        self._placement: Placement | None = None
        try:
            with connected(client, "placement"):
                self._placement = Placement(client, self.fit, chunks, n_shards)
                self.shard_rows = self._placement.shard_rows
                self._fresh = set(range(len(self.shard_rows)))
                self._rebalancing = Rebalancing(self._placement.shard_bytes)
                self._open()
            self._tell_of_placement()
        except BaseException:
            self.close()
            raise

    def _tell_of_placement(self) -> None:
        n_blocks = 0 if self._placement is None else sum(map(len, self._placement.keys))
        workers = set(self.homes)
        tell(
            logging.INFO,
            "engine",
            f"cluster: {sum(self.shard_rows)} rows in {n_blocks} blocks, {len(self.shard_rows)} "
            f"shards on {len(workers)} worker(s)",
            self.client,
            fit=self.fit,
            workers=sorted(workers),
        )

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, broadcast)`` on every shard and return the sum.

        Raises
        ------
        Exception
            Whatever the function raised, with a note that names the shard.
        TimeoutError
            If the round took longer than ``dask_dml.round-timeout``.
        RuntimeError
            If workers were lost again and again.
        """
        return self._round(on_worker.run_round, lambda: (function, broadcast))

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, state, broadcast)``, keep the state, return the sum.

        Raises
        ------
        StateLost
            Once, if the state of some shards went down with their worker; the update has not
            happened then, and the next one starts those shards from None.
        Exception
            As for `map_reduce`.
        """
        self._report_lost_state()
        total = self._round(
            on_worker.run_update,
            lambda: (function, broadcast, self._update, tuple(sorted(self._fresh))),
        )
        self._update += 1
        self._fresh = set()
        return total

    @property
    def homes(self) -> tuple[str, ...]:
        """Addresses of the workers that hold the shards, in shard order."""
        return () if self._placement is None else tuple(self._placement.homes.values())

    def _report_lost_state(self) -> None:
        if self._lost:
            error = StateLost(self._lost)
            self._fresh |= self._lost
            self._lost = set()
            raise error

    def _round(self, function: Callable[..., Any], arguments: Callable[[], tuple[Any, ...]]) -> Any:
        with connected(self.client, "a round"):
            return self._attempts(function, arguments)

    def _attempts(
        self, function: Callable[..., Any], arguments: Callable[[], tuple[Any, ...]]
    ) -> Any:
        placement = self._placement
        if placement is None:
            raise RuntimeError("these rounds have been closed")
        self._rebalance()
        start = time.perf_counter()
        while True:
            homes = placement.homes
            workers = set(homes.values())
            try:
                answers = call_workers(
                    self.client, function, self.fit, *arguments(), workers=workers, what="a round"
                )
            except WorkersGone as error:
                self._recover(error)
                continue
            for answer in answers.values():
                if answer.error is not None:
                    raise answer.error
            self._lost |= {shard for answer in answers.values() for shard in answer.stateless}
            if any(answer.missing is None or answer.missing for answer in answers.values()):
                self._recover(None)
            elif not self._lost or function is not on_worker.run_update:
                break
            if function is on_worker.run_update:
                self._report_lost_state()
        tree: TreeSum[Any] = TreeSum(len(self.shard_rows))
        for answer in answers.values():
            for node, value in answer.nodes.items():
                tree.add(node, value)
        self._in_a_row = 0
        self._losers.clear()
        self.n_rounds += 1
        self._note_round(arguments()[0], time.perf_counter() - start, answers)
        self._rebalancing.add({n: s for a in answers.values() for n, s in a.shards.items()}, homes)
        return tree.total()

    def _note_round(
        self, function: Callable[..., Any], seconds: float, answers: Mapping[str, Answer]
    ) -> None:
        name = getattr(function, "__qualname__", repr(function))
        logger.info("round %d: %s took %.3f s", self.n_rounds, name, seconds)
        compiling = max((answer.compiling for answer in answers.values()), default=0.0)
        self.compile_seconds += compiling
        if compiling > WORTH_TELLING:
            message = (
                f"round {self.n_rounds}: compiling kernels, once, took {compiling:.1f} s of it"
            )
            tell(logging.INFO, "compiling", message, self.client, fit=self.fit)
        warning = self._balance.add({worker: a.seconds for worker, a in answers.items()})
        if warning is not None:
            tell(logging.WARNING, "imbalance", warning, self.client, fit=self.fit)

    # Opening, closing and what comes between

    def _open(self) -> None:
        """Register the plan with its workers; repeat the placement until all is there."""
        assert self._placement is not None
        while True:
            plans = self._placement.plans()
            self._known |= set(plans)
            keys = {address: self._hold_key(address) for address in plans}
            try:
                missing = call_workers(
                    self.client,
                    on_worker.open_session,
                    self.fit,
                    len(self.shard_rows),
                    plans,
                    keys,
                    workers=set(plans),
                    what="placement",
                )
            except WorkersGone as error:
                self._count_recovery(error)
                self._move()
                continue
            self._hold(keys)
            if not any(missing.values()):
                return
            self._count_recovery(None)
            self._move()

    def _hold_key(self, address: str) -> str:
        held = self._holds.get(address)
        if held is not None and held.status == "pending":
            return str(held.key)
        # The dashboard shows the words.
        return f"{PREFIX}fit-runs-in-rounds-{self.fit}-{uuid.uuid4().hex[:8]}"

    def _hold(self, keys: Mapping[str, str]) -> None:
        for address in set(self._holds) - set(keys):
            self._holds.pop(address).release()
        for address, key in keys.items():
            held = self._holds.get(address)
            if held is not None and held.key == key:
                continue
            if held is not None:
                held.release()
            # The task must not wait for a place that is gone; elsewhere it ends at once.
            self._holds[address] = self.client.submit(
                on_worker.hold,
                self.fit,
                address,
                key=key,
                workers=[address],
                allow_other_workers=True,
                pure=False,
            )

    def _count_recovery(self, cause: BaseException | None) -> None:
        assert self._placement is not None
        self.n_recoveries += 1
        self._in_a_row += 1
        gone = cause.workers if isinstance(cause, WorkersGone) else frozenset()
        self._losers.update(n for n, home in self._placement.homes.items() if home in gone)
        if self._in_a_row > self.max_recoveries:
            suspects = [n for n, count in self._losers.items() if count >= self._in_a_row]
            named = [f"shard {n} ({self._placement.describe(n)})" for n in suspects[:SUSPECTS]]
            blame = ""
            if named:
                more = ", or others" if len(suspects) > SUSPECTS else ""
                blame = (
                    "On the lost worker every time, so that what is in its rows may be the reason: "
                    f"{', or '.join(named)}{more}. "
                )
            raise RuntimeError(
                f"workers were lost {self._in_a_row} times without a successful round in "
                f"between. {blame}{LOSING_WORKERS}"
            ) from cause
        tell(
            logging.WARNING,
            "recovery",
            f"{cause or 'Blocks or sessions of the fit are gone from their workers'}: bringing "
            f"the shards together again ({self._in_a_row} of at most {self.max_recoveries} times "
            "in a row).",
            self.client,
            fit=self.fit,
            workers=sorted(gone),
        )

    def _recover(self, cause: BaseException | None) -> None:
        """Bring the shards together again after a loss."""
        self._count_recovery(cause)
        check_workers(self.client)
        self._move()
        self._open()

    def _rebalance(self) -> None:
        """Move shards to workers that have joined, or are faster, where that pays."""
        assert self._placement is not None
        if time.monotonic() - self._looked < LOOK_AT_WORKERS:
            return
        hosts = self._hosts()
        homes = self._rebalancing.decide(self._placement.homes, hosts)
        if homes is not None:
            before = self._placement.homes
            n_moved = sum(before[number] != home for number, home in homes.items())
            tell(
                logging.INFO,
                "rebalance",
                f"{n_moved} of {len(homes)} shards move to other workers, to shorten the rounds",
                self.client,
                fit=self.fit,
                workers=sorted(set(homes.values())),
            )
            self._move(homes)
            self._open()
        self._looked = time.monotonic()

    def _hosts(self) -> dict[str, Host]:
        """Return the workers that are there, and what they may be given."""
        assert self._placement is not None
        workers = worker_info(self.client)
        used = set(self._placement.homes.values())
        if not set(workers) <= used | self._unfit:
            try:
                check_workers(self.client)
            except RuntimeError as error:
                self._unfit |= set(workers) - used
                tell(logging.WARNING, "unfit", f"New workers are not used. {error}", self.client)
        return {
            address: Host(info["nthreads"], room_of(info) if info["status"] == "running" else 0.0)
            for address, info in workers.items()
            if address in used or address not in self._unfit
        }

    def _move(self, wanted: Mapping[int, str] | None = None) -> None:
        """Place the shards again, and their state with them where that is still to be had."""
        assert self._placement is not None
        moved = self._placement.replace(wanted)
        if self._update == 1:
            return
        states: dict[int, Any] = {}
        alive = set(worker_threads(self.client, "moving state"))
        for address in set(moved.values()) & alive:
            shards = [number for number, home in moved.items() if home == address]
            try:
                answers = call_workers(
                    self.client,
                    on_worker.export_states,
                    self.fit,
                    shards,
                    workers=[address],
                    what="moving state",
                )
            except WorkersGone:
                continue
            states |= answers[address]
        if states:
            self._open()
            with suppress(WorkersGone):
                call_workers(
                    self.client,
                    on_worker.import_states,
                    self.fit,
                    states,
                    workers={self._placement.homes[number] for number in states},
                    what="moving state",
                )

    def close(self) -> None:
        """Release everything on the workers, and wait until it is gone; may be called twice.

        A worker that does not answer within some seconds is left to itself: it drops everything
        when it finds that the driver no longer wants it.
        """
        placement, self._placement = self._placement, None
        for future in self._holds.values():
            future.release()
        self._holds.clear()
        if placement is not None:
            placement.release()
        on_worker.close_ended(self.fit)
        if self.client.status != "running":
            return
        try:
            alive = self._known & set(worker_threads(self.client, "closing", CLOSE_TIMEOUT))
        except (TimeoutError, RuntimeError):
            return
        quietly(self.client, on_worker.close_session, self.fit, alive)
        wait_until_gone(self.client, self.fit)

    def __enter__(self) -> ClusterRounds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
