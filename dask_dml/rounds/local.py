"""Rounds over blocks that are held in this process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import threadpoolctl

from dask_dml.blocks import Shard
from dask_dml.rounds.base import ShardFunction, StateFunction, finish_tree, reduce_subtrees


class LocalRounds:
    """Visit shards of this process, one thread per shard; the kernels release the GIL.

    Parameters
    ----------
    shards : sequence of Shard
        The data, numbered from zero.
    n_threads : int, default=1
        Number of threads; one runs everything in the calling thread.
    """

    def __init__(self, shards: Sequence[Shard], n_threads: int = 1) -> None:
        self.shards = tuple(shards)
        self.shard_rows = tuple(shard.n_rows for shard in shards)
        self.n_rounds = 0
        self._state: dict[int, Any] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._blas: threadpoolctl.threadpool_limits | None = None
        n_threads = min(n_threads, len(self.shards))
        if n_threads > 1:
            self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="dask_dml")
            # Every thread runs BLAS on its own tiles; more threads inside would only contend.
            self._blas = threadpoolctl.threadpool_limits(limits=1, user_api="blas")

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, broadcast)`` on every shard and return the sum."""
        partials = self._map(lambda shard: function(shard, broadcast))
        return self._sum(partials)

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, state, broadcast)``, keep the state, return the sum."""
        results = self._map(
            lambda shard: function(shard, self._state.get(shard.number), broadcast)
        )
        self._state = {number: state for number, (state, _) in enumerate(results)}
        return self._sum([partial for _, partial in results])

    def _map(self, call: Any) -> list[Any]:
        if self._pool is None:
            return [call(shard) for shard in self.shards]
        return list(self._pool.map(call, self.shards))

    def _sum(self, partials: list[Any]) -> Any:
        self.n_rounds += 1
        n_shards = len(partials)
        return finish_tree(reduce_subtrees(dict(enumerate(partials)), n_shards), n_shards)

    def close(self) -> None:
        """Stop the threads and forget the blocks; may be called twice."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._blas is not None:
            self._blas.restore_original_limits()
            self._blas = None
        self.shards = ()
        self._state = {}

    def __enter__(self) -> LocalRounds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
