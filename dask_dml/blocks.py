"""Row blocks: the form in which every kernel sees the data.

A block is a group of consecutive rows of the table with their targets and weights, held in
one process.  This module knows NumPy and scipy.sparse only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp

Matrix: TypeAlias = Any  # numpy.ndarray or scipy.sparse.csr_array


@dataclass(frozen=True)
class Block:
    """Some rows of the table, ready for the kernels.

    Attributes
    ----------
    X : ndarray or csr_array of shape (n_rows, n_features)
        float32 or float64; dense blocks are C-contiguous, CSR blocks have sorted indices and
        no duplicate entries.  All arrays of a block are read-only views, so that a kernel is
        compiled once whatever the caller handed in.
    y : ndarray of shape (n_rows, n_outputs)
        float32 or float64, C-contiguous.
    weight : ndarray of shape (n_rows,) or None
        float64 sample weights, ``None`` where every row weighs one.
    origin : tuple of (chunk number, n_rows)
        Which chunks of the input the rows came from, in order: errors name them.  A negative
        count steps over that many first rows of the chunk, see `slice_rows`.
    """

    X: Matrix
    y: np.ndarray
    weight: np.ndarray | None = None
    origin: tuple[tuple[int, int], ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return int(self.X.shape[1])

    @property
    def is_sparse(self) -> bool:
        """Whether X is held as CSR."""
        return sp.issparse(self.X)

    @property
    def nbytes(self) -> int:
        """Memory of the block's arrays, in bytes."""
        parts = (self.X.data, self.X.indices, self.X.indptr) if self.is_sparse else (self.X,)
        extra = 0 if self.weight is None else self.weight.nbytes
        return sum(part.nbytes for part in parts) + self.y.nbytes + extra

    def __sizeof__(self) -> int:
        """Report the arrays' memory, so that Dask counts (and can spill) a block truthfully."""
        return self.nbytes + 200

    @property
    def kept(self) -> bool:
        """Whether the arrays stay in memory for as long as the block does."""
        return True

    def changed(
        self,
        change: Callable[[Block], Block],
        n_features: int | None = None,  # noqa: ARG002 - of use where the block is not read now
    ) -> Block:
        """Return a block that something is done to, which may give it other columns."""
        return change(self)

    def locate(self, row: int) -> tuple[int, int]:
        """Return the chunk number of the input and the row inside it for a row of the block."""
        for chunk, n_rows in self.origin:
            if row < n_rows:
                return chunk, row
            row -= n_rows
        raise IndexError(f"row {row} lies outside the block")


@dataclass(frozen=True)
class Facts:
    """What is known of a block that is not in memory; as of `Block`."""

    n_rows: int
    n_features: int
    is_sparse: bool
    nbytes: int
    origin: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, block: Block) -> Facts:
        """Return the facts of a block."""
        return cls(block.n_rows, block.n_features, block.is_sparse, block.nbytes, block.origin)


class StoredBlock(Block):
    """A block whose arrays are read where they are asked for, and not kept.

    A node that has less memory than its rows take so visits them block by block.  Whoever needs
    an array for some time has to hold on to it.

    Parameters
    ----------
    load : callable
        Returns the block.
    facts : Facts
        What is known of it.
    """

    _load: Callable[[], Block]
    _facts: Facts

    def __init__(self, load: Callable[[], Block], facts: Facts) -> None:
        self.__dict__.update(_load=load, _facts=facts)

    @property
    def X(self) -> Matrix:
        """The rows, read now."""
        return self._load().X

    @property
    def y(self) -> np.ndarray:
        """The targets, read now."""
        return self._load().y

    @property
    def weight(self) -> np.ndarray | None:
        """The weights, read now."""
        return self._load().weight

    @property
    def origin(self) -> tuple[tuple[int, int], ...]:
        """Which chunks the rows came from."""
        return self._facts.origin

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._facts.n_rows

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return self._facts.n_features

    @property
    def is_sparse(self) -> bool:
        """Whether X is held as CSR."""
        return self._facts.is_sparse

    @property
    def nbytes(self) -> int:
        """Memory of the block's arrays, in bytes."""
        return self._facts.nbytes

    @property
    def kept(self) -> bool:
        """Whether the arrays stay in memory."""
        return False

    def changed(self, change: Callable[[Block], Block], n_features: int | None = None) -> Block:
        """Return a block that something is done to each time that it is read."""
        facts = self._facts
        if n_features is not None:
            facts = replace(facts, n_features=n_features)
        return StoredBlock(lambda: change(self._load()), facts)


@dataclass(frozen=True)
class Shard:
    """A node of the distributed algorithms: a fixed group of blocks, visited in order.

    Attributes
    ----------
    number : int
        Position of the shard; partial results are combined in this order.
    blocks : tuple of Block
        The rows.  An engine that streams hands the blocks of a shard over one by one, each as a
        shard of its own with the same number.
    """

    number: int
    blocks: tuple[Block, ...]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return sum(block.n_rows for block in self.blocks)


def concatenate(blocks: Sequence[Block]) -> Block:
    """Return one block holding the rows of several, in their order."""
    if len(blocks) == 1:
        return blocks[0]
    if any(block.is_sparse for block in blocks):
        X = sp.vstack([sp.csr_array(block.X) for block in blocks], format="csr")
    else:
        X = np.concatenate([block.X for block in blocks])
    weight = None
    if any(block.weight is not None for block in blocks):
        weight = np.concatenate(
            [np.ones(b.n_rows) if b.weight is None else b.weight for b in blocks]
        )
    return frozen(
        X,
        np.concatenate([block.y for block in blocks]),
        weight,
        tuple(piece for block in blocks for piece in block.origin),
    )


def frozen(
    X: Matrix,
    y: np.ndarray,
    weight: np.ndarray | None,
    origin: tuple[tuple[int, int], ...],
) -> Block:
    """Return a block over read-only views of the given arrays."""
    if isinstance(X, np.ndarray):
        X = read_only(X)
    else:
        parts = (read_only(X.data), read_only(X.indices), read_only(X.indptr))
        X = sp.csr_array(parts, shape=X.shape)
    return Block(X, read_only(y), None if weight is None else read_only(weight), origin)


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def slice_rows(block: Block, start: int, stop: int) -> Block:
    """Return consecutive rows of a block as a block that shares its memory."""
    if (start, stop) == (0, block.n_rows):
        return block
    origin: list[tuple[int, int]] = []
    first = skipped = 0
    for chunk, count in block.origin:
        if count < 0:
            skipped = -count
            continue
        n_rows = count - skipped
        low, high = max(start - first, 0), min(stop - first, n_rows)
        if low < high:
            # `Block.locate` counts rows from the chunk's beginning: a negative count steps over
            # those that are not in the slice.
            if skipped + low:
                origin.append((chunk, -(skipped + low)))
            origin.append((chunk, skipped + high))
        first += n_rows
        skipped = 0
    return frozen(
        _matrix_rows(block.X, start, stop),
        block.y[start:stop],
        None if block.weight is None else block.weight[start:stop],
        tuple(origin),
    )


def _matrix_rows(X: Matrix, start: int, stop: int) -> Matrix:
    if not sp.issparse(X):
        return X[start:stop]
    # scipy's own slicing copies.
    return _csr_rows(X, start, stop)


def _csr_rows(X: Any, start: int, stop: int) -> sp.csr_array:
    low, high = X.indptr[start], X.indptr[stop]
    parts = (X.data[low:high], X.indices[low:high], X.indptr[start : stop + 1] - low)
    rows = sp.csr_array(parts, shape=(stop - start, X.shape[1]))
    rows.has_sorted_indices = rows.has_canonical_format = True
    return rows
