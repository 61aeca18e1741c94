"""Rounds over data that is read anew in every round, because it fits nowhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from dask.delayed import Delayed, delayed

from dask_dml.input.clients import round_timeout
from dask_dml.rounds.base import (
    LOSING_WORKERS,
    ShardFunction,
    StateFunction,
    StateLost,
    TreeSum,
)
from dask_dml.rounds.calls import max_recoveries
from dask_dml.rounds.graphs import open_graphs
from dask_dml.rounds.layout import Layout
from dask_dml.rounds.log import tell
from dask_dml.rounds.plan import NumberOfShards, check_n_shards, check_rows, split_chunks
from dask_dml.rounds.tasks import (
    PREFIX,
    add_up,
    add_up_parts,
    chunk_name,
    chunk_tasks,
    count_rows,
    pick,
    update_chunk,
    visit_chunk,
)
from dask_dml.rounds.waiting import DataLost, is_named, name_chunk

if TYPE_CHECKING:
    from distributed import Client

    from dask_dml.input.chunks import Chunks

#: Partial results of a shard that one task adds up: it has that many in memory at once.
TERMS_PER_TASK = 8

#: Updates after which states are cut off from their history: Dask would remember every task
#: that ever led to them.
UPDATES_PER_LINEAGE = 16


class StreamingRounds:
    """Read the chunks anew in every round: one small Dask graph with a tree reduction.

    Nothing but the states of `update` is kept.  For data larger than memory.

    Parameters
    ----------
    chunks : Chunks
        Lazy chunks.
    client : Client or None, default=None
        A synchronous client; None computes on threads of this process.
    n_shards : int, "blocks" or None, default=None
        Number of shards: a number cuts the chunks into contiguous ranges of about equally many
        rows; ``"blocks"`` makes every non-empty chunk a shard; None makes one per thread.
    n_threads : int, default=1
        Number of threads where there is no client.

    Attributes
    ----------
    shard_rows : tuple of int
        Number of rows of each shard.
    n_rounds : int
        Successful rounds so far; counting the rows at first is none.
    n_recoveries : int
        Times that a round was begun again, or that states were lost.
    max_recoveries : int
        How often a round may be begun again (dask config ``dask_dml.max-recoveries``).

    Raises
    ------
    ValueError
        If the client is asynchronous, ``n_shards`` is invalid, or there are no rows.
    Exception
        Whatever a chunk's own task raised, with a note that names the chunk.

    Notes
    -----
    A shard function is called once per chunk, with a shard that consists of the chunk alone and
    has the number of the chunk's shard; what it returns is added up in the order of the chunks,
    then over the tree.  State is kept per chunk.
    """

    engine = "streaming"

    def __init__(
        self,
        chunks: Chunks,
        client: Client | None = None,
        n_shards: NumberOfShards = None,
        n_threads: int = 1,
    ) -> None:
        check_n_shards(n_shards)
        self.chunks = chunks
        self.n_rounds = 0
        self.n_recoveries = 0
        self.max_recoveries = max_recoveries()
        self._graphs = open_graphs(client, n_threads)
        self._open = True
        self._number = count()
        self._states: dict[int, Any] = {}
        self._visited: dict[str, int] = {}
        self._updates = 0
        self._shards: list[list[int]] = []
        self.shard_rows: tuple[int, ...] = ()
        try:
            self._make_shards(n_shards)
        except BaseException:
            self.close()
            raise

    def _make_shards(self, n_shards: NumberOfShards) -> None:
        rows = self._count_rows()
        full = [number for number, n_rows in enumerate(rows) if n_rows]
        check_rows(len(full), self.chunks.n_features)
        if n_shards is None:
            n_shards = self._graphs.n_threads()
        if isinstance(n_shards, Layout):
            n_shards.check_rows([[n] for n in range(len(rows))], rows)
            self._shards = n_shards.chunks()
        elif n_shards == "blocks":
            self._shards = [[number] for number in full]
        else:
            self._shards = split_chunks(rows, self.chunks.nbytes, int(n_shards))
        self.shard_rows = tuple(sum(rows[number] for number in shard) for shard in self._shards)
        tell(
            logging.INFO,
            "engine",
            f"streaming: {sum(rows)} rows in {len(full)} chunks, {len(self._shards)} shards",
            self._graphs.client,
        )

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, broadcast)`` on every chunk and return the sum.

        Raises
        ------
        Exception
            Whatever the function raised, with a note that names the chunk.
        TimeoutError
            If the round took longer than ``dask_dml.round-timeout`` for each chunk of a thread.
        """

        def attempt() -> Any:
            with self._graphs.sent(broadcast) as shared:
                tasks = self._tasks(visit_chunk, lambda _: (function, shared))
                return self._compute(self._sum(tasks), {})[0]

        return self._round(attempt)

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, state, broadcast)``, keep the state, return the sum.

        Raises
        ------
        StateLost
            Once, if the state of some shards went down with a worker; the update has not
            happened then, and the next one starts those shards from None.
        Exception
            As for `map_reduce`.
        """

        def attempt() -> tuple[Any, dict[int, Any]]:
            self._check_states()
            with self._graphs.sent(broadcast) as shared:
                pairs = self._tasks(
                    update_chunk, lambda chunk: (function, shared, self._states.get(chunk))
                )
                states = {n: self._task("state", pick, pair, 0) for n, pair in pairs.items()}
                total, kept = self._compute(
                    self._sum(pairs, paired=True), {state.key: state for state in states.values()}
                )
            return total, dict(zip(states, kept, strict=True))

        total, states = self._round(attempt)
        self._graphs.drop(self._states.values())
        self._updates += 1
        if self._updates % UPDATES_PER_LINEAGE == 0:
            states = dict(zip(states, self._graphs.detached(list(states.values())), strict=True))
        self._states = states
        return total

    def _round(self, attempt: Callable[[], Any]) -> Any:
        if not self._open:
            raise RuntimeError("these rounds have been closed")
        for left in reversed(range(self.max_recoveries + 1)):
            try:
                result = attempt()
            except DataLost as lost:
                # What was sent along has no lineage; sent again, it is there again.
                if not left:
                    # A chunk that brings down whoever reads it is named by this.
                    self._count_rows()
                    raise RuntimeError(
                        f"workers were lost {self.max_recoveries + 1} times in the same pass over "
                        f"the data. {LOSING_WORKERS}"
                    ) from lost
                self._count_recovery("what was sent to the workers went down with one of them")
            else:
                break
        self.n_rounds += 1
        return result

    def _count_recovery(self, what: str) -> None:
        self.n_recoveries += 1
        tell(logging.WARNING, "recovery", f"{what}: the pass begins again.", self._graphs.client)

    def _check_states(self) -> None:
        chunks = list(self._states)
        gone = {chunks[n] for n in self._graphs.lost(list(self._states.values()))}
        if gone:
            lost = [number for number, shard in enumerate(self._shards) if gone & set(shard)]
            forgotten = {chunk for number in lost for chunk in self._shards[number]}
            self._graphs.drop(self._states.pop(chunk) for chunk in forgotten)
            self._count_recovery(f"the state of the shards {lost} went down with a worker")
            raise StateLost(lost)

    # Graphs

    def _count_rows(self) -> list[int]:
        numbers = range(len(self.chunks.X))
        keys = self._keys("rows", len(numbers))
        tasks = chunk_tasks(self.chunks, count_rows, keys, dict.fromkeys(numbers, ()))
        names = {key: chunk_name(number) for number, key in enumerate(keys)}
        return self._graphs.compute(dict(zip(keys, tasks, strict=True)), names)

    def _tasks(
        self, visit: Callable[..., Any], arguments: Callable[[int], tuple[Any, ...]]
    ) -> dict[int, Delayed]:
        """Return one task for every chunk that has rows."""
        extra = {
            chunk: (number, *arguments(chunk))
            for number, shard in enumerate(self._shards)
            for chunk in shard
        }
        keys = self._keys("round", len(extra))
        self._visited = dict(zip(keys, extra, strict=True))
        return dict(zip(extra, chunk_tasks(self.chunks, visit, keys, extra), strict=True))

    def _sum(self, parts: Mapping[int, Delayed], *, paired: bool = False) -> Delayed:
        """Return the task of the sum: inside the shards in order, then over the tree.

        Where results are ``paired`` with states, it is of the second of each pair.
        """
        tree: TreeSum[_Term] = TreeSum(len(self._shards))
        for number, shard in enumerate(self._shards):
            terms = [parts[chunk] for chunk in shard]
            some = None
            while paired and terms:
                some = self._task("sum", add_up_parts, terms[:TERMS_PER_TASK], some)
                terms = terms[TERMS_PER_TASK:]
            terms = terms if some is None else [some]
            while len(terms) > 1:
                some = self._task("sum", add_up, terms[:TERMS_PER_TASK])
                terms = [some, *terms[TERMS_PER_TASK:]]
            tree.add((0, number), _Term(self, terms[0]))
        return tree.total().task

    def _task(self, kind: str, function: Callable[..., Any], *arguments: Any) -> Delayed:
        task = delayed(function, pure=False)
        return task(*arguments, dask_key_name=self._keys(kind, 1)[0])

    def _keys(self, kind: str, n: int) -> list[str]:
        return [f"{PREFIX}{kind}-{self._graphs.fit}-{next(self._number)}" for _ in range(n)]

    def _compute(self, total: Delayed, kept: Mapping[str, Delayed]) -> tuple[Any, list[Any]]:
        n_chunks = sum(map(len, self._shards))
        limit = round_timeout() * -(-n_chunks // self._graphs.n_threads())
        try:
            return self._graphs.compute_and_keep(total, kept, limit)
        except (DataLost, TimeoutError):
            raise
        except Exception as error:
            # What dask says of a task that brings its workers down is the key.
            chunk = self._visited.get(getattr(error, "task", ""))
            if chunk is not None:
                name_chunk(error, chunk_name(chunk))
            elif not is_named(error):
                # It comes from a task that feeds a chunk: reading once more says which.
                self._count_rows()
            raise

    def close(self) -> None:
        """Release everything the engine holds; may be called twice."""
        self._open = False
        self._states = {}
        self._graphs.close()

    def __enter__(self) -> StreamingRounds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SinglePass(StreamingRounds):
    """Rounds for what needs one pass only: no row is counted before it.

    Every chunk is a shard, an empty one, too, so that the sum depends on the chunks alone.
    """

    def _make_shards(self, n_shards: NumberOfShards) -> None:  # noqa: ARG002 - as above
        self._shards = [[number] for number in range(len(self.chunks.X))]

    def _sum(self, parts: Mapping[int, Delayed], *, paired: bool = False) -> Delayed:  # noqa: ARG002 - no state
        # Wider than the tree of shards: with one task per chunk, sums should add few to them.
        terms = list(parts.values())
        while len(terms) > 1:
            starts = range(0, len(terms), TERMS_PER_TASK)
            terms = [self._task("sum", add_up, terms[at : at + TERMS_PER_TASK]) for at in starts]
        return terms[0]


class _Term:
    """A term of the tree sum whose ``+`` makes a task."""

    def __init__(self, rounds: StreamingRounds, task: Delayed) -> None:
        self.rounds = rounds
        self.task = task

    def __add__(self, other: _Term) -> _Term:
        both = self.rounds._task("sum", add_up, [self.task, other.task])
        return _Term(self.rounds, both)
