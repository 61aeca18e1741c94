"""Chunks of a stream that are few enough to be held in this process after some passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib

from dask_dml.blocks import Block, Shard
from dask_dml.rounds.base import ShardFunction, StateFunction, TreeSum
from dask_dml.rounds.tasks import add_up, chunk_name
from dask_dml.rounds.threads import BlasLimit
from dask_dml.rounds.waiting import name_chunk

#: Passes after which chunks are held: a pass of Dask tasks costs as much as many over what is held.
PASSES = 10
#: Bytes that the chunks may take: those of four million numbers.
MAX_BYTES = 4_000_000 * 8


class HeldChunks:
    """Evaluates functions as `StreamingRounds` does, with the same bits, on blocks of this process.

    Parameters
    ----------
    shards : sequence of sequence of int
        The chunks of each shard.
    blocks : mapping of int to Block
        By chunk.
    states : mapping of int to object
        What functions have kept, by chunk.
    """

    def __init__(
        self,
        shards: Sequence[Sequence[int]],
        blocks: Mapping[int, Block],
        states: Mapping[int, Any],
    ) -> None:
        self._shards = {
            chunk: Shard(number, (blocks[chunk],))
            for number, chunks in enumerate(shards)
            for chunk in chunks
        }
        self._chunks = shards
        self._states = dict(states)
        n_threads = min(len(self._shards), joblib.cpu_count())
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="dask_dml-held")
        self._blas = BlasLimit()

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, broadcast)`` on every chunk and return the sum."""
        return self._total(lambda chunk: function(self._shards[chunk], broadcast))

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, state, broadcast)``, keep the state, return the sum."""
        states: dict[int, Any] = {}

        def call(chunk: int) -> Any:
            shard, state = self._shards[chunk], self._states.get(chunk)
            states[chunk], partial = function(shard, state, broadcast)
            return partial

        total = self._total(call)
        self._states = states
        return total

    def _total(self, call: Callable[[int], Any]) -> Any:
        def visit(chunk: int) -> Any:
            try:
                return call(chunk)
            except Exception as error:
                name_chunk(error, chunk_name(chunk))
                raise

        with self._blas():
            parts = dict(zip(self._shards, self._pool.map(visit, self._shards), strict=True))
        tree: TreeSum[Any] = TreeSum(len(self._chunks))
        for number, chunks in enumerate(self._chunks):
            tree.add((0, number), add_up([parts[chunk] for chunk in chunks]))
        return tree.total()

    def close(self) -> None:
        """Stop the threads and forget the blocks."""
        self._pool.shutdown(cancel_futures=True)
        self._shards, self._states = {}, {}
