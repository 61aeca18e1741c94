"""Computing the chunks of a Dask collection into this process, as long as they fit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dask_dml.blocks import Block
from dask_dml.rounds.graphs import ClusterGraphs, ThreadGraphs, TooLarge
from dask_dml.rounds.tasks import PREFIX, chunk_name, chunk_tasks, to_block
from dask_dml.rounds.waiting import settle

if TYPE_CHECKING:
    from distributed import Client

    from dask_dml.input.chunks import Chunks


def fetch_blocks(
    chunks: Chunks, client: Client | None, n_threads: int, room: float
) -> list[Block] | None:
    """Compute all chunks once.

    Parameters
    ----------
    chunks : Chunks
        Lazy chunks.
    client : Client or None
        Where to compute them; None means threads of this process.
    n_threads : int
        Number of threads where there is no client.
    room : float
        Bytes that the blocks may take.

    Returns
    -------
    blocks : list of Block or None
        None where they take more.

    Raises
    ------
    Exception
        Whatever a chunk's own task raised, with a note that names the chunk.
    """
    try:
        if client is None:
            return _from_threads(chunks, n_threads, room)
        return _from_cluster(chunks, client, room)
    except TooLarge:
        return None


class _Room:
    """Bytes that are left, counted by tasks on several threads."""

    def __init__(self, nbytes: float) -> None:
        self._left = nbytes
        self._lock = threading.Lock()

    def take(self, block: Block) -> Block:
        with self._lock:
            self._left -= block.nbytes
            if self._left < 0:
                raise TooLarge
        return block

    def __dask_tokenize__(self) -> object:
        return id(self)


def _block_in(
    X: Any, y: Any, weight: Any, number: int, spec: Mapping[str, Any], room: _Room
) -> Block:
    return room.take(to_block(X, y, weight, number, spec))


def _from_threads(chunks: Chunks, n_threads: int, nbytes: float) -> list[Block]:
    graphs = ThreadGraphs(n_threads)
    numbers = range(len(chunks.X))
    keys = [f"{PREFIX}chunk-{graphs.fit}-{number}" for number in numbers]
    room = _Room(nbytes)
    tasks = chunk_tasks(chunks, _block_in, keys, dict.fromkeys(numbers, (room,)))
    names = {key: chunk_name(number) for number, key in enumerate(keys)}
    return graphs.compute(dict(zip(keys, tasks, strict=True)), names)


def _from_cluster(chunks: Chunks, client: Client, nbytes: float) -> list[Block]:
    graphs = ClusterGraphs(client)
    numbers = range(len(chunks.X))
    keys = [f"{PREFIX}chunk-{graphs.fit}-{number}" for number in numbers]
    tasks = chunk_tasks(chunks, to_block, keys, dict.fromkeys(numbers, ()))
    futures = graphs.submit(dict(zip(keys, tasks, strict=True)))
    names = {key: chunk_name(number) for number, key in enumerate(keys)}
    room = _Room(nbytes)
    blocks = []
    try:
        settle(client, futures, names)
        for future in futures.values():
            blocks.append(room.take(future.result()))
            graphs.drop([future])
    finally:
        graphs.close()
    return blocks
