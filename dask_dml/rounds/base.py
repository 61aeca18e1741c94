"""The protocol between the solvers and whatever holds the data.

A *round* is one visit of every shard: a function of ``(shard, broadcast)`` is evaluated where
the shard is, and the partial results are added up.  Partial results only need ``+``; what it
means (a sum, a merge of moments, a merge of triangular factors) is the result type's affair, so
that no engine knows any mathematics.

The sum is formed over a fixed binary tree whose leaves are the shards' numbers.  Whoever holds a
contiguous run of shards may add up the subtrees it covers before it sends anything; the result
has the same bits however the shards are spread over the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from dask_dml.blocks import Shard

T = TypeVar("T")

#: ``function(shard, broadcast) -> partial``; defined at the top level of a module (it travels by
#: reference) and without side effects.
ShardFunction = Callable[[Shard, Any], Any]

#: ``function(shard, state, broadcast) -> (state, partial)``; ``state`` is ``None`` at first.
StateFunction = Callable[[Shard, Any, Any], tuple[Any, Any]]


class Rounds(Protocol):
    """What a solver may ask of the data.

    Attributes
    ----------
    shard_rows : tuple of int
        Number of rows of each shard, in shard order.
    n_rounds : int
        Passes over the data so far (successful ``map_reduce`` and ``update`` calls).
    """

    shard_rows: tuple[int, ...]
    n_rounds: int

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, broadcast)`` on every shard and return the sum."""
        ...

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, state, broadcast)``, keep the state, return the sum.

        The state stays beside the shard.  A round that has to be repeated because a worker was
        lost starts from the state before it; if that state is lost, `StateLost` is raised.
        """
        ...

    def close(self) -> None:
        """Release everything the engine holds; may be called twice."""
        ...

    def __enter__(self) -> Rounds: ...

    def __exit__(self, *exc_info: object) -> None: ...


class StateLost(RuntimeError):
    """The state that `Rounds.update` kept beside some shards went down with a worker.

    Attributes
    ----------
    shards : tuple of int
        Numbers of the shards whose state is gone; their next update starts from ``None``.
    """

    def __init__(self, shards: Iterable[int]) -> None:
        self.shards = tuple(sorted(shards))
        super().__init__(f"the state of shards {self.shards} was lost with their worker")


def reduce_subtrees(partials: Mapping[int, T], n_shards: int) -> dict[tuple[int, int], T]:
    """Add up as much of the fixed reduction tree as the given nodes cover.

    Parameters
    ----------
    partials : mapping of int to partial result
        Results by shard number; any subset of ``range(n_shards)``.
    n_shards : int
        Number of leaves of the tree.

    Returns
    -------
    nodes : dict of (level, index) to partial result
        The largest complete subtrees; node ``(level, index)`` covers the shards
        ``[index * 2**level, (index + 1) * 2**level)``, cut off at ``n_shards``.
    """
    return _climb({(0, number): value for number, value in partials.items()}, n_shards)


def finish_tree(nodes: Mapping[tuple[int, int], T], n_shards: int) -> T:
    """Add up the subtrees that several workers returned to the sum over all shards."""
    done = _climb(dict(nodes), n_shards)
    if len(done) != 1:
        raise ValueError(f"the subtrees {sorted(done)} do not cover {n_shards} shards")
    return next(iter(done.values()))


def _climb(nodes: dict[tuple[int, int], T], n_shards: int) -> dict[tuple[int, int], T]:
    level = 0
    while (1 << level) < n_shards:
        width = -(-n_shards // (1 << level))  # nodes on this level of the whole tree
        for index in sorted(i for at, i in nodes if at == level and i % 2 == 0):
            left = (level, index)
            right = (level, index + 1)
            if index + 1 >= width:
                nodes[(level + 1, index // 2)] = nodes.pop(left)
            elif right in nodes:
                nodes[(level + 1, index // 2)] = nodes.pop(left) + nodes.pop(right)  # type: ignore[operator]
        level += 1
    return nodes
