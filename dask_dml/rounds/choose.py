"""Choosing the engine for the data at hand."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import joblib

from dask_dml.blocks import Block
from dask_dml.input.chunks import Chunks, make_block
from dask_dml.input.clients import current_client, in_task, worker_info
from dask_dml.rounds.base import Rounds, ShardFunction, StateFunction
from dask_dml.rounds.local import BYTES_PER_THREAD, LocalRounds, make_shards
from dask_dml.rounds.log import readable, tell
from dask_dml.rounds.memory import CLUSTER_SHARE, cluster_memory
from dask_dml.rounds.plan import NumberOfShards, WantedShards, check_n_shards

if TYPE_CHECKING:
    from distributed import Client

#: Share of this machine's free memory that X may take.
LOCAL_SHARE = 0.5


def open_rounds(
    chunks: Chunks, *, n_shards: WantedShards = None, n_jobs: int | None = None
) -> Rounds:
    """Place the data where rounds over it are cheapest.

    Data in memory stays in this process.  Dask collections go to the workers of the current
    client if they fit there.  Without a client, and inside a Dask task (which must not wait for
    its own cluster in every round), they are computed once into this process if they fit.
    Whatever fits nowhere is read anew in every round.

    Parameters
    ----------
    chunks : Chunks
        The validated input.
    n_shards : int, "blocks", "several" or None, default=None
        Number of shards (nodes of the distributed algorithms).  ``"blocks"`` makes each
        non-empty chunk one; None makes one per thread, and fewer where there is little data.
        ``"several"`` is for fits that do not depend on it: on a cluster there are more, where
        they are large, so that workers that join can be given some.
    n_jobs : int or None, default=None
        Number of threads where the rounds run in this process, as joblib counts them; None
        means all cores.  Inside a Dask task there is one.

    Returns
    -------
    rounds : Rounds
        To be closed by the caller.

    Raises
    ------
    ValueError
        If ``n_shards`` or ``n_jobs`` is invalid, the client is asynchronous, or there are no
        rows.
    Exception
        Whatever a chunk's own task raised, with a note that names the chunk.
    """
    check_n_shards(n_shards)
    n_threads = count_threads(n_jobs, math.inf if chunks.lazy else chunks.nbytes)
    client = current_client() if chunks.lazy and not in_task() else None
    if client is not None:
        return _open_on_cluster(chunks, client, n_shards)
    n_shards = _without_growth(n_shards)
    if not chunks.lazy:
        return _local(_make_blocks(chunks), n_shards, n_threads)
    if in_task():
        return _open_in_task(chunks, n_shards)
    return _fetch_or_stream(chunks, None, n_shards, n_threads)


@dataclass(frozen=True)
class Foretold:
    """Where rounds over some data would be made; see `open_rounds`.

    Attributes
    ----------
    engine : {"memory", "cluster", "streaming"}
        The engine.
    nbytes : float
        Bytes of X; NaN where they are not known.
    room : float
        Bytes that X may take there.
    n_workers, n_threads : int
        Workers (none in this process), and threads of all of them.
    trip : float
        Seconds of a round trip to the scheduler, through which every pass goes; 0 in this process.
    """

    engine: str
    nbytes: float
    room: float
    n_workers: int
    n_threads: int
    trip: float = 0.0


def foretell(chunks: Chunks, n_jobs: int | None = None) -> Foretold:
    """Tell where `open_rounds` would place the data, and place nothing.

    Parameters
    ----------
    chunks : Chunks
        The validated input.
    n_jobs : int or None, default=None
        As for `open_rounds`.
    """
    n_threads = count_threads(n_jobs)
    client = None if in_task() else current_client()
    if chunks.lazy and client is not None:
        from dask_dml.rounds.calls import check_client

        check_client(client)
        workers, trip = _asked(client)
        room = CLUSTER_SHARE * cluster_memory(client)
        measured = _measured(chunks, room, client, 1)
        engine = "cluster" if _fits(measured, room) else "streaming"
        threads = sum(worker["nthreads"] for worker in workers.values())
        return Foretold(engine, measured.nbytes, room, len(workers), threads, trip)
    room = local_room()
    if not chunks.lazy:
        return Foretold("memory", chunks.nbytes, room, 0, n_threads)
    measured = _measured(chunks, room, None, n_threads) if chunks.nbytes > room else chunks
    engine = "memory" if _fits(measured, room) else "streaming"
    return Foretold(engine, measured.nbytes, room, 0, n_threads)


def _asked(client: Client) -> tuple[dict[str, dict[str, Any]], float]:
    """Return what is known of the workers, and the seconds until the scheduler has said so."""
    seconds = []
    for _ in range(2):  # the first time may open a connection
        began = time.perf_counter()
        workers = worker_info(client)
        seconds.append(time.perf_counter() - began)
    return workers, min(seconds)


def visit_once(chunks: Chunks, function: ShardFunction, broadcast: Any = None) -> Any:
    """Evaluate a function on all rows in one pass, and return the sum.

    Nothing is placed for rounds to come: a chunk of a Dask collection is read, visited and let
    go, on the workers of the current client or on threads of this process.

    Parameters
    ----------
    chunks : Chunks
        The validated input.
    function : callable
        ``function(shard, broadcast) -> partial``; has to take a shard with no rows.
    broadcast : object
        Sent along.

    Returns
    -------
    total : object
        The sum of the partial results; of a Dask collection over a tree of its chunks, so that
        it has the same bits wherever it is computed.

    Raises
    ------
    Exception
        Whatever the function or a chunk's own task raised, with a note that names the chunk.
    """
    if not chunks.lazy:
        with open_rounds(chunks) as rounds:
            return rounds.map_reduce(function, broadcast)
    from dask_dml.rounds.streaming import SinglePass

    n_threads = count_threads(None)
    with client_for_tasks() as client, SinglePass(chunks, client, n_threads=n_threads) as rounds:
        return rounds.map_reduce(function, broadcast)


@contextmanager
def client_for_tasks() -> Iterator[Client | None]:
    """Return a context with the client for tasks of this process, or None where there is none."""
    if not in_task():
        yield current_client()
        return
    from distributed import worker_client

    # Waiting for other tasks while holding a thread of the worker could wait for ever.
    with worker_client() as client:
        yield client


def count_threads(n_jobs: int | None, nbytes: float = math.inf) -> int:
    """Return the number of threads for rounds in this process over so many bytes.

    Raises
    ------
    ValueError
        If ``n_jobs`` is zero.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning; use None for all cores, or 1 for one")
    # To count the cores takes a tenth of a small fit.
    if (n_jobs is None and nbytes < 2 * BYTES_PER_THREAD) or in_task():
        return 1
    wanted = joblib.effective_n_jobs(-1 if n_jobs is None else n_jobs)
    # Under joblib's Dask backend the number would be the cluster's, not this machine's.
    return max(1, min(wanted, max(joblib.cpu_count(), n_jobs or 1)))


def local_room() -> float:
    """Return the bytes that X may take in this process."""
    import psutil  # type: ignore[import-untyped]  # no stubs

    return LOCAL_SHARE * float(psutil.virtual_memory().available)


def _fits(chunks: Chunks, room: float) -> bool:
    return not chunks.nbytes > room


def _open_on_cluster(chunks: Chunks, client: Client, n_shards: WantedShards) -> Rounds:
    from dask_dml.rounds.calls import check_client
    from dask_dml.rounds.cluster import ClusterRounds
    from dask_dml.rounds.streaming import StreamingRounds

    check_client(client)
    room = CLUSTER_SHARE * cluster_memory(client)
    measured = _measured(chunks, room, client, 1)
    if _fits(measured, room):
        return ClusterRounds(client, chunks, n_shards)
    _tell_of_streaming(measured.nbytes, room, client)
    return StreamingRounds(chunks, client, _without_growth(n_shards))


def _without_growth(n_shards: WantedShards) -> NumberOfShards:
    """Return the number of shards where there are none to move."""
    return None if n_shards == "several" else n_shards


def _measured(chunks: Chunks, room: float, client: Client | None, n_threads: int) -> Chunks:
    """Return the chunks with their size, if it matters and is not known for certain.

    Frames and sparse arrays do not know theirs, and what says that it is dense may be sparse.
    """
    if math.isinf(room) or chunks.nbytes <= room:
        return chunks
    from dask_dml.rounds.graphs import open_graphs
    from dask_dml.rounds.sizes import estimated_bytes

    graphs = open_graphs(client, n_threads)
    try:
        return replace(chunks, nbytes=estimated_bytes(chunks, graphs))
    finally:
        graphs.close()


def _tell_of_streaming(nbytes: float, room: float, client: Client | None) -> None:
    where = "This process" if client is None else "The workers"
    size = "more than that" if math.isnan(nbytes) else f"about {readable(nbytes)}"
    tell(
        logging.WARNING,
        "streaming",
        f"{where} may hold {readable(room)} of X, which takes {size}: it is "
        "read anew in every pass (engine_ is 'streaming'), which takes longer. Use more or larger "
        "workers, or float32, to keep it in memory.",
        client,
        nbytes=nbytes,
        room=room,
    )


def _open_in_task(chunks: Chunks, n_shards: NumberOfShards) -> Rounds:
    from distributed import worker_client

    # Waiting for other tasks while holding a thread of the worker could wait for ever.
    stack = ExitStack()
    try:
        client = stack.enter_context(worker_client())
        rounds = _fetch_or_stream(chunks, client, n_shards, 1)
    except BaseException:
        stack.close()
        raise
    if isinstance(rounds, LocalRounds):
        stack.close()
        return rounds
    return _Closing(rounds, stack)


def _fetch_or_stream(
    chunks: Chunks, client: Client | None, n_shards: NumberOfShards, n_threads: int
) -> Rounds:
    from dask_dml.rounds.fetch import fetch_blocks
    from dask_dml.rounds.streaming import StreamingRounds

    room = local_room()
    measured = chunks
    if chunks.nbytes > room:  # where nothing is known, fetching finds out
        measured = _measured(chunks, room, client, n_threads)
    blocks = fetch_blocks(chunks, client, n_threads, room) if _fits(measured, room) else None
    if blocks is None:
        _tell_of_streaming(measured.nbytes, room, client)
        return StreamingRounds(chunks, client, n_shards, n_threads)
    return _local(blocks, n_shards, n_threads, chunks.nbytes)


def _make_blocks(chunks: Chunks) -> list[Block]:
    weight = chunks.weight or [None] * len(chunks.X)
    return [
        make_block(
            X,
            y,
            w,
            number=number,
            n_features=chunks.n_features,
            n_outputs=chunks.n_outputs,
            dtype=chunks.dtype,
        )
        for number, (X, y, w) in enumerate(zip(chunks.X, chunks.y, weight, strict=True))
    ]


def _local(
    blocks: Sequence[Block],
    n_shards: NumberOfShards,
    n_threads: int,
    nbytes: float | None = None,
) -> LocalRounds:
    return LocalRounds(make_shards(blocks, n_shards, n_threads, nbytes), n_threads)


class _Closing:
    """Rounds that end something else, too, when they are closed."""

    def __init__(self, rounds: Rounds, stack: ExitStack) -> None:
        self._rounds = rounds
        self._stack = stack
        self.shard_rows = rounds.shard_rows
        self.n_rounds = 0
        self.engine = rounds.engine
        self.n_recoveries = 0
        self.max_recoveries = rounds.max_recoveries

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        total = self._rounds.map_reduce(function, broadcast)
        self.n_rounds, self.n_recoveries = self._rounds.n_rounds, self._rounds.n_recoveries
        return total

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        total = self._rounds.update(function, broadcast)
        self.n_rounds, self.n_recoveries = self._rounds.n_rounds, self._rounds.n_recoveries
        return total

    def close(self) -> None:
        try:
            self._rounds.close()
        finally:
            self._stack.close()

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
