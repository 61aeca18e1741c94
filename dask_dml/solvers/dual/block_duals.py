"""Dual variables of a block's rows in little room, and a block's rows piece by piece.

Of N rows mostly few lie between their bounds: so a byte for each row and a number for each of those
are kept, and written out as N numbers only while they are worked on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dask_dml.blocks import Block
from dask_dml.kernels import dual_values as kernel
from dask_dml.solvers.dual.ascent_pass import weight_of

#: Rows that are looked at together.
TILE_ROWS = 2**15


class RowCosts(NamedTuple):
    """Labels of a block's rows, and what makes their costs.

    Attributes
    ----------
    sign : ndarray of int8 of shape (n_rows,)
        Labels, -1 and 1.
    cost : ndarray of shape (2,)
        Cost of a violation by a row of weight one with y = -1 and with y = +1.
    weight : ndarray of shape (n_rows,) or (0,)
        Sample weights; empty where every row weighs one.
    """

    sign: np.ndarray
    cost: np.ndarray
    weight: np.ndarray

    def all(self) -> np.ndarray:
        """Return the costs of all rows."""
        costs = np.where(self.sign > 0, self.cost[1], self.cost[0])
        return costs * self.weight if len(self.weight) else costs

    def part(self, rows: slice) -> RowCosts:
        """Return those of consecutive rows."""
        weight = self.weight[rows] if len(self.weight) else self.weight
        return RowCosts(self.sign[rows], self.cost, weight)


def row_costs(block: Block, label: float, cost: np.ndarray) -> RowCosts:
    """Return labels and costs of a block's rows for one problem."""
    sign = (block.y[:, 0] == label).astype(np.int8)
    sign *= 2
    sign -= 1
    return RowCosts(sign, cost, weight_of(block))


@dataclass(frozen=True)
class Tile:
    """Consecutive rows of a block.

    Attributes
    ----------
    X : tuple of ndarray
        The rows as kernels take them: a dense array, or the three arrays of CSR.
    rows : RowCosts
        Their labels and costs.
    slice : slice
        Where they are in the block.
    """

    X: tuple[np.ndarray, ...]
    rows: RowCosts
    slice: slice

    @property
    def is_sparse(self) -> bool:
        """Whether the rows are CSR."""
        return len(self.X) == 3

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rows.sign)

    def visit(self, dense: Callable[..., Any], sparse: Callable[..., Any], *arguments: Any) -> Any:
        """Call the kernel for the kind of X."""
        return (sparse if self.is_sparse else dense)(*self.X, *arguments)


def tiles(block: Block, rows: RowCosts) -> Iterator[Tile]:
    """Yield the rows of a block in order, some at a time."""
    X: Any = block.X
    for start in range(0, block.n_rows, TILE_ROWS):
        stop = min(start + TILE_ROWS, block.n_rows)
        part = slice(start, stop)
        if block.is_sparse:
            piece: tuple[np.ndarray, ...] = X.data, X.indices, X.indptr[start : stop + 1]
        else:
            piece = (X[part],)
        yield Tile(piece, rows.part(part), part)


@dataclass(frozen=True)
class BlockDuals:
    """Dual variables of the rows of one block, bit by bit.

    Attributes
    ----------
    place : ndarray of int8 of shape (n_rows,)
        Where they lie, see `dask_dml.kernels.dual_values`.
    between : ndarray of shape (n_between,)
        The values of those that lie at no bound, in order.
    starts : ndarray of int of shape (n_tiles,)
        How many of them come before each tile.
    """

    place: np.ndarray
    between: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, alpha: np.ndarray, rows: RowCosts) -> BlockDuals:
        """Return dual variables, one for each row, in little room."""
        place = np.empty(len(alpha), np.int8)
        counts = [
            kernel.places(alpha[part], *rows.part(part), place[part])
            for part in (slice(at, at + TILE_ROWS) for at in range(0, len(alpha), TILE_ROWS))
        ]
        between = np.empty(sum(counts))
        kernel.take_between(alpha, place, between)
        return cls(place, between, np.append(0, np.cumsum(counts))[:-1])

    def values(self, rows: RowCosts) -> np.ndarray:
        """Return the dual variables of all rows."""
        alpha = np.empty(len(self.place))
        kernel.values(self.place, self.between, 0, *rows, alpha)
        return alpha

    def of_tile(self, tile: Tile) -> np.ndarray:
        """Return those of a tile's rows."""
        alpha = np.empty(tile.n_rows)
        first = self.starts[tile.slice.start // TILE_ROWS]
        kernel.values(self.place[tile.slice], self.between, first, *tile.rows, alpha)
        return alpha

    def draw(self, alpha: np.ndarray, share: float, rows: RowCosts) -> None:
        """Move other dual variables a share of the way to these."""
        for start in range(0, len(alpha), TILE_ROWS):
            part = slice(start, min(start + TILE_ROWS, len(alpha)))
            new = np.empty(part.stop - start)
            first = self.starts[start // TILE_ROWS]
            kernel.values(self.place[part], self.between, first, *rows.part(part), new)
            kernel.moved(alpha[part], new, share)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.place.nbytes + self.between.nbytes + self.starts.nbytes

    @property
    def positive(self) -> np.ndarray:
        """Which are above zero."""
        return self.place != kernel.AT_ZERO
