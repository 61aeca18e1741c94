"""What a node remembers between two rounds of stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Block, Shard, frozen
from dask_dml.sgd_order import Split, training


@dataclass(frozen=True)
class Ground:
    """What all rounds of a fit have in common; sent once.

    Attributes
    ----------
    mean, metric : ndarray of shape (n_features,), (n_features + 1,)
        See `dask_dml.kernels.sgd_dense.steps`; of the chosen columns.
    columns : ndarray or None
        The columns of X that have entries; None for all.  Nodes renumber theirs accordingly, and
        nothing else travels.
    units : ndarray of shape (n_shards,) or None
        Weights of the nodes where these are to count the same.
    """

    mean: np.ndarray
    metric: np.ndarray
    columns: np.ndarray | None
    units: np.ndarray | None


@dataclass(frozen=True)
class Memory:
    """A node's training rows, in the columns that occur, and its part of the last sums.

    Attributes
    ----------
    shard : Shard
        The rows; those held out have no weight.
    ground : Ground or None
        What all rounds have in common, once it is known.
    stored : ndarray of shape (n_features,)
        Rows that have an entry in the column.
    partial : object
        The node's part of the last sums over all nodes, for all columns in a survey.
    """

    shard: Shard
    ground: Ground | None
    stored: np.ndarray
    partial: Any = None

    @property
    def n_rows(self) -> int:
        """Number of rows, those held out included."""
        return self.shard.n_rows

    @property
    def sparse(self) -> bool:
        """Whether rows are CSR."""
        return any(block.is_sparse for block in self.shard.blocks)

    @property
    def unit(self) -> float:
        """Factor on the node's weights where nodes are to count the same."""
        if self.ground is None or self.ground.units is None:
            return 1.0
        return float(self.ground.units[self.shard.number])


@dataclass(frozen=True)
class Request:
    """A function for all nodes, ``function(memory, broadcast) -> (memory, partial)``.

    Attributes
    ----------
    function : callable
        The function.
    broadcast : object
        Its second argument.
    split : Split or None
        Rows to leave out.
    ground : Ground or None
        What all rounds have in common, where nodes cannot be taken to know it.
    """

    function: Callable[[Memory, Any], tuple[Memory, Any]]
    broadcast: Any
    split: Split | None
    ground: Ground | None


def on_node(shard: Shard, memory: Memory | None, request: Request) -> tuple[Memory, Any]:
    """Evaluate a request on a shard."""
    if memory is None or request.ground is not None:
        partial = None if memory is None else memory.partial
        rows, ground = training(shard, request.split), request.ground
        columns = None if ground is None else ground.columns
        memory = Memory(_narrowed(rows, columns), ground, np.empty(0), partial)
        if ground is not None and memory.sparse:
            memory = replace(memory, stored=_stored(memory.shard))
    return request.function(memory, request.broadcast)


def remember(
    memory: Memory, request: tuple[Callable[[Shard, Any], Any], Any]
) -> tuple[Memory, Any]:
    """Evaluate a shard function and keep the node's own result."""
    function, broadcast = request
    partial = function(memory.shard, broadcast)
    return replace(memory, partial=partial), partial


def ask(memory: Memory, request: tuple[Callable[[Memory, Any], Any], Any]) -> tuple[Memory, Any]:
    """Evaluate a function of a node's memory that changes nothing."""
    function, broadcast = request
    return memory, function(memory, broadcast)


def occurring(memory: Memory, _: None) -> np.ndarray:
    """Return which columns have an entry."""
    found = np.zeros(memory.shard.blocks[0].n_features, dtype=np.bool_)
    for block in memory.shard.blocks:
        found[block.X.indices if block.is_sparse else slice(None)] = True
    return found


def _narrowed(shard: Shard, columns: np.ndarray | None) -> Shard:
    """Return the shard with columns renumbered; data and rows are shared."""
    if columns is None:
        return shard
    place = np.zeros(shard.blocks[0].n_features, dtype=np.int32)
    place[columns] = np.arange(len(columns), dtype=np.int32)
    return Shard(shard.number, tuple(_renumbered(b, place, len(columns)) for b in shard.blocks))


def _renumbered(block: Block, place: np.ndarray, width: int) -> Block:
    X = sp.csr_array(
        (block.X.data, place[block.X.indices], block.X.indptr), shape=(block.n_rows, width)
    )
    return frozen(X, block.y, block.weight, block.origin)


def _stored(shard: Shard) -> np.ndarray:
    counts = np.zeros(shard.blocks[0].n_features)
    for block in shard.blocks:
        counts += np.bincount(block.X.indices, minlength=len(counts))
    return counts
