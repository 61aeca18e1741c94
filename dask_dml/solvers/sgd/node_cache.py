"""What a node remembers between two rounds of stochastic gradient descent."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Block, Shard, frozen
from dask_dml.derived import derived
from dask_dml.solvers.sgd.row_order import Split, training


@dataclass(frozen=True)
class Ground:
    """What all rounds of a fit have in common; sent once.

    Attributes
    ----------
    mean, metric : ndarray of shape (n_features,), (n_features + 1,)
        What columns are taken relative to, and the relative step lengths of the coordinates,
        intercept last; of the chosen columns.
    columns : ndarray or None
        The columns of X that have entries; None for all.  Nodes renumber theirs accordingly, and
        nothing else travels.
    units : ndarray of shape (n_shards,) or None
        Weights of the nodes where these are to count the same.
    token : str
        Tells it from others.
    """

    mean: np.ndarray
    metric: np.ndarray
    columns: np.ndarray | None
    units: np.ndarray | None
    token: str = field(default_factory=lambda: uuid.uuid4().hex, compare=False)

    def copy(self) -> Ground:
        """Return the same, with arrays of its own."""
        return replace(self, mean=np.array(self.mean), metric=np.array(self.metric))


class Scratch:
    """Room that the visits of a node use again; it is no part of what a node knows.

    Dask tells the workers' allocator to give all larger arrays back to the system at once: to
    get their pages anew in every visit would take as long as it takes to fill them.
    """

    def __init__(self) -> None:
        self._raw: dict[str, np.ndarray] = {}

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()

    def room(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of float64 with whatever it held before; it begins with a cache line."""
        size = 8 * math.prod(shape)
        raw = self._raw.get(name)
        if raw is None or len(raw) != size + 64:
            raw = self._raw[name] = np.empty(size + 64, dtype=np.uint8)
        start = -raw.ctypes.data % 64
        return raw[start : start + size].view(np.float64).reshape(shape)


@dataclass(frozen=True)
class Memory:
    """What a node keeps: its state between rounds, which holds no rows.

    Attributes
    ----------
    ground : Ground or None
        What all rounds have in common, once it is known.
    share : ndarray of shape (n_features + 1,) or (0,)
        Share of the rows that have an entry in the column, and one for the intercept; where rows
        are CSR and the ground is known.
    partial : object
        The node's part of the last sums over all nodes; for all columns in a survey.
    scratch : Scratch
        Room for the visits.
    """

    ground: Ground | None = None
    share: np.ndarray = field(default_factory=lambda: np.empty(0))
    partial: Any = None
    scratch: Scratch = field(default_factory=Scratch)


@dataclass(frozen=True)
class Node:
    """A node in a round: its rows, in the columns that occur, and its memory.

    Attributes
    ----------
    shard : Shard
        The rows; those held out have no weight.
    memory : Memory
        What the node has kept.
    """

    shard: Shard
    memory: Memory

    @property
    def ground(self) -> Ground:
        """What all rounds have in common."""
        assert self.memory.ground is not None
        return self.memory.ground

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
        units = self.ground.units
        return 1.0 if units is None else float(units[self.shard.number])


@dataclass(frozen=True)
class Request:
    """A function for all nodes.

    Attributes
    ----------
    function : callable
        ``function(node, broadcast) -> partial``.
    broadcast : object
        Its second argument.
    keep : bool
        Whether nodes remember their own results.
    split : Split or None
        Rows to leave out.
    ground : Ground or None
        What all rounds have in common, where nodes cannot be taken to know it.
    """

    function: Callable[[Node, Any], Any]
    broadcast: Any
    keep: bool
    split: Split | None
    ground: Ground | None


def on_node(shard: Shard, memory: Memory | None, request: Request) -> tuple[Memory, Any]:
    """Evaluate a request on a shard; the state function of all rounds."""
    memory = memory or Memory()
    # What has travelled is read-only, for which kernels would be compiled anew.
    ground = memory.ground if request.ground is None else request.ground.copy()
    rows = training(shard if ground is None else _narrowed(shard, ground), request.split)
    node = Node(rows, memory)
    if request.ground is not None:
        share = _share(rows) if node.sparse else memory.share
        node = Node(rows, replace(memory, ground=ground, share=share))
    result = request.function(node, request.broadcast)
    return replace(node.memory, partial=result) if request.keep else node.memory, result


def on_new_node(shard: Shard, memory: Memory | None, request: Request) -> tuple[Memory, float]:
    """Have a node that remembers nothing evaluate a request again that it remembered once."""
    if memory is None:
        memory, _ = on_node(shard, memory, request)
    return memory, 0.0


def on_shard(node: Node, request: tuple[Callable[[Shard, Any], Any], Any]) -> Any:
    """Evaluate a shard function on the node's rows."""
    function, broadcast = request
    return function(node.shard, broadcast)


def occurring(node: Node, _: None) -> np.ndarray:
    """Return which columns have an entry."""
    found = np.zeros(node.shard.blocks[0].n_features, dtype=np.bool_)
    for block in node.shard.blocks:
        found[block.X.indices if block.is_sparse else slice(None)] = True
    return found


def _narrowed(shard: Shard, ground: Ground) -> Shard:
    """Return the shard with columns renumbered; data and rows are shared."""
    if ground.columns is None:
        return shard
    key, blocks = ("columns", ground.token), shard.blocks
    p = len(ground.mean)

    def narrow(block: Block) -> Block:
        return derived(block, key, partial(_renumbered, block, ground))

    narrowed = (block.changed(narrow, n_features=p) for block in blocks)
    return Shard(shard.number, tuple(narrowed))


def _renumbered(block: Block, ground: Ground) -> Block:
    place = np.zeros(block.n_features, dtype=np.int32)
    place[ground.columns] = np.arange(len(ground.mean), dtype=np.int32)
    X = block.X
    X = sp.csr_array((X.data, place[X.indices], X.indptr), shape=(block.n_rows, len(ground.mean)))
    return frozen(X, block.y, block.weight, block.origin)


def _share(shard: Shard) -> np.ndarray:
    counts = np.zeros(shard.blocks[0].n_features)
    for block in shard.blocks:
        counts += np.bincount(block.X.indices, minlength=len(counts))
    return np.append(counts / shard.n_rows, 1.0)
