"""Rounds over blocks that are held in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from dask_dml.blocks import Block, Shard, concatenate, slice_rows
from dask_dml.rounds.base import MAX_RECOVERIES, ShardFunction, StateFunction, TreeSum
from dask_dml.rounds.layout import Layout
from dask_dml.rounds.plan import (
    NumberOfShards,
    check_rows,
    merged_size,
    runs_to_visit,
    split_chunks,
)
from dask_dml.rounds.threads import BlasLimit

#: A thread with less data than this would be waited for longer than it helps.
BYTES_PER_THREAD = 2**20


class LocalRounds:
    """Visit shards of this process, one thread per shard; the kernels release the GIL.

    Parameters
    ----------
    shards : sequence of Shard
        The data, numbered from zero.
    n_threads : int, default=1
        Number of threads; one runs everything in the calling thread.

    Attributes
    ----------
    shard_rows : tuple of int
        Number of rows of each shard.
    n_rounds : int
        Successful rounds so far.
    """

    engine = "memory"
    n_recoveries = 0  # nothing is lost here, but in tests
    max_recoveries = MAX_RECOVERIES

    def __init__(self, shards: Sequence[Shard], n_threads: int = 1) -> None:
        self.shards = tuple(shards)
        self.shard_rows = tuple(shard.n_rows for shard in shards)
        self.n_rounds = 0
        self.max_recoveries = (
            MAX_RECOVERIES  # of use to those who test losses: nothing is lost here
        )
        self._state: dict[int, Any] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._blas = BlasLimit()
        n_threads = min(n_threads, len(self.shards))
        if n_threads > 1:
            self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="dask_dml-local")

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, broadcast)`` on every shard and return the sum.

        Raises
        ------
        Exception
            Whatever the function raised, with a note that names the shard.
        """
        return self._round(lambda shard: function(shard, broadcast))

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, state, broadcast)``, keep the state, return the sum.

        A call that raises leaves the states as they were before it.
        """
        states: dict[int, Any] = {}

        def call(shard: Shard) -> Any:
            states[shard.number], partial = function(
                shard, self._state.get(shard.number), broadcast
            )
            return partial

        total = self._round(call)
        self._state = states
        return total

    def _round(self, call: Callable[[Shard], Any]) -> Any:
        if not self.shards:
            raise RuntimeError("these rounds have been closed")
        tree: TreeSum[Any] = TreeSum(len(self.shards))
        failed = False

        def visit(shard: Shard) -> None:
            nonlocal failed
            if failed:
                return
            try:
                tree.add((0, shard.number), call(shard))
            except BaseException as error:
                failed = True
                error.add_note(f"raised in shard {shard.number}")
                raise

        with self._blas():
            if self._pool is None:
                for shard in self.shards:
                    visit(shard)
            else:
                tasks = [self._pool.submit(visit, shard) for shard in self.shards]
                try:
                    for task in tasks:
                        task.result()
                finally:
                    # After an error or Ctrl-C the shards that have not begun are not worth it.
                    failed = True
        self.n_rounds += 1
        return tree.total()

    def close(self) -> None:
        """Stop the threads and forget the blocks; may be called twice."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self.shards = ()
        self._state = {}

    def __enter__(self) -> LocalRounds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def make_shards(
    blocks: Sequence[Block], n_shards: NumberOfShards, n_threads: int, nbytes: float | None = None
) -> list[Shard]:
    """Group the blocks of this process into shards.

    Parameters
    ----------
    blocks : sequence of Block
        In the order of the rows.
    n_shards : int, "blocks", Layout or None
        None makes one shard per thread, fewer where there is little data.
    n_threads : int
        Number of threads.
    nbytes : float or None, default=None
        Where given (`Chunks.nbytes`), a number of shards is made of whole blocks, as on a
        cluster; otherwise of equal numbers of rows.

    Returns
    -------
    shards : list of Shard
        None is empty.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    n_features = blocks[0].n_features if blocks else 0
    everything, blocks = blocks, [block for block in blocks if block.n_rows]
    check_rows(len(blocks), n_features)
    if n_shards == "blocks":
        return [Shard(number, (block,)) for number, block in enumerate(blocks)]
    if isinstance(n_shards, Layout):
        n_shards.check_rows([[n] for n in range(len(everything))], [b.n_rows for b in everything])
        groups = [
            [slice_rows(everything[chunk], first, stop) for chunk, first, stop in shard]
            for shard in n_shards.shards
        ]
    elif n_shards is not None and nbytes is not None:
        parts = split_chunks([block.n_rows for block in everything], nbytes, n_shards)
        groups = [[everything[number] for number in part] for part in parts]
    else:
        if n_shards is None:
            size = sum(block.nbytes for block in blocks)
            n_shards = max(1, min(n_threads, size // BYTES_PER_THREAD))
        groups = _cut(blocks, n_shards)
    limit = merged_size(block.nbytes for block in blocks)
    return [Shard(number, _merged(group, limit)) for number, group in enumerate(groups)]


def _merged(blocks: Sequence[Block], limit: int) -> tuple[Block, ...]:
    runs = runs_to_visit([block.nbytes for block in blocks], limit)
    return tuple(concatenate([blocks[position] for position in run]) for run in runs)


def _cut(blocks: Sequence[Block], n_parts: int) -> list[list[Block]]:
    """Cut the rows into parts of equal size without copying dense data."""
    n_rows = sum(block.n_rows for block in blocks)
    n_parts = min(n_parts, n_rows)
    bounds = [n_rows * part // n_parts for part in range(n_parts + 1)]
    parts = []
    for start, stop in pairwise(bounds):
        part, first = [], 0
        for block in blocks:
            low, high = max(start - first, 0), min(stop - first, block.n_rows)
            if low < high:
                part.append(slice_rows(block, low, high))
            first += block.n_rows
        parts.append(part)
    return parts
