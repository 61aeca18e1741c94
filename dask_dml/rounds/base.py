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

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

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
    engine : {"memory", "cluster", "streaming"}
        Where the rows are: in this process, on the workers, or read anew in every round.
    n_recoveries : int
        Losses of workers that were made good so far.
    max_recoveries : int
        Times that something may be taken again because workers were lost, see `regaining`.
    """

    shard_rows: tuple[int, ...]
    n_rounds: int
    engine: str
    n_recoveries: int
    max_recoveries: int

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


def regaining(rounds: Rounds, step: Callable[[], T], regain: Callable[[], object]) -> T:
    """Take a step, and take it again where nodes have lost their state.

    Parameters
    ----------
    rounds : Rounds
        Its ``max_recoveries`` bounds how often that is done.
    step : callable
        Makes rounds, and returns their result.
    regain : callable
        Called before the step is taken again: gives the nodes what the step needs of their state.
        May make rounds, too.

    Returns
    -------
    result : object
        Of the step.

    Raises
    ------
    RuntimeError
        If state was lost again and again.
    """
    losses = 0
    while True:
        try:
            if losses:
                regain()
            return step()
        except StateLost as lost:
            losses += 1
            if losses > rounds.max_recoveries:
                raise RuntimeError(
                    f"workers were lost {losses} times with the state that the fit keeps on them, "
                    f"last that of the shards {lost.shards}. {LOSING_WORKERS}"
                ) from lost


_StateFunction = TypeVar("_StateFunction", bound=Callable[..., Any])


def only_reads(function: _StateFunction) -> _StateFunction:
    """Mark a state function that returns the state that it was given."""
    vars(function)["only_reads"] = True
    return function


def worth_saving(function: _StateFunction) -> _StateFunction:
    """Mark a state function whose states a checkpoint holds.

    They have a method ``saved(shard)``, which returns a record with ``nbytes``, or None, and the
    record has a method ``restored(shard)``.
    """
    vars(function)["worth_saving"] = True
    return function


#: Number of a shard and of the first chunk of the input that it holds.
Part = tuple[int, int]


def part_of(shard: Shard) -> Part:
    """Return by what a visited shard is known.

    Where data is streamed, a shard is visited chunk by chunk, each with a state of its own.
    """
    origin = shard.blocks[0].origin
    return shard.number, origin[0][0] if origin else 0


#: Times that something may be taken again where nothing else is configured.
MAX_RECOVERIES = 5

#: What to do about workers that are lost again and again.
LOSING_WORKERS = (
    "They may be running out of memory: use more or larger workers, or smaller chunks, and "
    "look at client.get_worker_logs(nanny=True). Where workers are known to come and go, raise "
    'the limit: dask.config.set({"dask_dml.max-recoveries": 20}).'
)


class TreeSum(Generic[T]):
    """A sum over the fixed binary tree, formed as its terms arrive, from any number of threads.

    Node ``(level, index)`` of the tree covers the shards
    ``[index * 2**level, (index + 1) * 2**level)``, cut off at ``n_shards``.

    Parameters
    ----------
    n_shards : int
        Number of leaves of the tree.
    """

    def __init__(self, n_shards: int) -> None:
        self.n_shards = n_shards
        self.nodes: dict[tuple[int, int], T] = {}
        self._lock = threading.Lock()

    def add(self, node: tuple[int, int], value: T) -> None:
        """Put in the value of a node and climb as far as the neighbours allow."""
        level, index = node
        while (1 << level) < self.n_shards:
            width = -(-self.n_shards // (1 << level))
            neighbour = index ^ 1
            if neighbour < width:
                with self._lock:
                    if (level, neighbour) not in self.nodes:
                        self.nodes[(level, index)] = value
                        return
                    other = self.nodes.pop((level, neighbour))
                # Outside the lock: the terms may be large, and other threads add elsewhere.
                left, right = (other, value) if neighbour < index else (value, other)
                value = left + right  # type: ignore[operator]  # partials have +
            level, index = level + 1, index // 2
        with self._lock:
            self.nodes[(level, index)] = value

    def total(self) -> T:
        """Return the sum over all shards.

        Raises
        ------
        ValueError
            If some shards are missing.
        """
        if len(self.nodes) != 1 or (1 << next(iter(self.nodes))[0]) < self.n_shards:
            raise ValueError(
                f"the subtrees {sorted(self.nodes)} do not cover {self.n_shards} shards"
            )
        return next(iter(self.nodes.values()))


def reduce_subtrees(partials: Mapping[int, T], n_shards: int) -> dict[tuple[int, int], T]:
    """Add up as much of the fixed reduction tree as the given shards cover.

    Parameters
    ----------
    partials : mapping of int to partial result
        Results by shard number; any subset of ``range(n_shards)``.
    n_shards : int
        Number of leaves of the tree.

    Returns
    -------
    nodes : dict of (level, index) to partial result
        The largest complete subtrees; see `TreeSum`.
    """
    tree: TreeSum[T] = TreeSum(n_shards)
    for number, value in partials.items():
        tree.add((0, number), value)
    return tree.nodes


def finish_tree(nodes: Mapping[tuple[int, int], T], n_shards: int) -> T:
    """Add up the subtrees that several workers returned to the sum over all shards."""
    tree: TreeSum[T] = TreeSum(n_shards)
    for node, value in nodes.items():
        tree.add(node, value)
    return tree.total()
