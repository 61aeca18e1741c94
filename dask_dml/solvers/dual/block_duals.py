"""Dual variables of a block's rows in little room, and a block's rows piece by piece.

Of N rows mostly few lie between their bounds: so a byte for each row and a number for each of those
are kept, and written out as N numbers only while they are worked on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dask_dml.blocks import Block
from dask_dml.kernels import dual_values as kernel
from dask_dml.solvers.dual.ascent_pass import in_half_the_room, weight_of

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
    for part in _parts(block.n_rows):
        if block.is_sparse:
            indptr = X.indptr[part.start : part.stop + 1]
            piece: tuple[np.ndarray, ...] = X.data, X.indices, indptr
        else:
            piece = (X[part],)
        yield Tile(piece, rows.part(part), part)


def _parts(n_rows: int) -> Iterator[slice]:
    for start in range(0, n_rows, TILE_ROWS):
        yield slice(start, min(start + TILE_ROWS, n_rows))


@dataclass(frozen=True)
class BlockDuals:
    """Dual variables of the rows of one block.

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
        """Return dual variables, one for each row, in little room, bit by bit."""
        place = np.empty(len(alpha), np.int8)
        counts = [
            kernel.places(alpha[part], *rows.part(part), place[part]) for part in _parts(len(alpha))
        ]
        return cls._with_places(alpha, place, counts)

    @classmethod
    def proposed(cls, alpha: np.ndarray, before: np.ndarray, rows: RowCosts) -> BlockDuals:
        """Return what some dual variables are to become; values of their own may be rounded."""
        place = np.empty(len(alpha), np.int8)
        counts = [
            kernel.changed_places(alpha[part], before[part], *rows.part(part), place[part])
            for part in _parts(len(alpha))
        ]
        found = cls._with_places(alpha, place, counts)
        return replace(found, between=in_half_the_room(found.between))

    @classmethod
    def _with_places(cls, alpha: np.ndarray, place: np.ndarray, counts: list[int]) -> BlockDuals:
        between = np.empty(sum(counts))
        kernel.take_between(alpha, place, between)
        return cls(place, between, np.append(0, np.cumsum(counts, dtype=np.int64))[:-1])

    def values(self, rows: RowCosts) -> np.ndarray:
        """Return the dual variables of all rows."""
        alpha = np.empty(len(self.place))
        kernel.values(self.place, self.between, 0, *rows, alpha)
        return alpha

    def part(self, part: slice, rows: RowCosts) -> np.ndarray:
        """Return those of the rows of a tile, whose labels and costs are given."""
        alpha = np.empty(part.stop - part.start)
        first = self.starts[part.start // TILE_ROWS]
        kernel.values(self.place[part], self.between, first, *rows, alpha)
        return alpha

    def draw(self, alpha: np.ndarray, share: float, part: slice, rows: RowCosts) -> None:
        """Move other dual variables of a tile a share of the way to these."""
        kernel.moved(alpha, self.part(part, rows), self.place[part], share)

    def settled(self, _: Block) -> BlockDuals:
        """Return these."""
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.place.nbytes + self.between.nbytes + self.starts.nbytes

    @property
    def positive(self) -> np.ndarray:
        """Which are above zero."""
        return self.place != kernel.AT_ZERO


@dataclass(frozen=True)
class MovedDuals:
    """Dual variables that others have become: worked out where they are looked at.

    So that a round that may have to be repeated keeps no second copy of them.

    Attributes
    ----------
    before : BlockDuals
        What they were.
    proposed : BlockDuals or None
        What was proposed, if any of that is kept.
    share : float
        How much of it.
    sent : ndarray of shape (n_sent,)
        Positions of rows, in order, that the driver has solved for.
    merged : ndarray of shape (n_sent,) or (0,)
        What it has found; empty if nothing.
    rounding : float
        Those closer to a bound than this share of the cost lie at it; negative for any.
    label, cost : float, ndarray of shape (2,)
        See `row_costs`.
    """

    before: BlockDuals
    proposed: BlockDuals | None
    share: float
    sent: np.ndarray
    merged: np.ndarray
    rounding: float
    label: float
    cost: np.ndarray

    def values(self, rows: RowCosts) -> np.ndarray:
        """Return the dual variables of all rows."""
        alpha = np.empty(len(rows.sign))
        for part in _parts(len(alpha)):
            alpha[part] = self.part(part, rows.part(part))
        return alpha

    def part(self, part: slice, rows: RowCosts) -> np.ndarray:
        """Return those of the rows of a tile, whose labels and costs are given."""
        alpha = self.before.part(part, rows)
        if self.proposed is not None:
            self.proposed.draw(alpha, self.share, part, rows)
        if len(self.merged):
            low, high = np.searchsorted(self.sent, (part.start, part.stop))
            alpha[self.sent[low:high] - part.start] = self.merged[low:high]
        if self.rounding >= 0.0:
            kernel.hold(alpha, *rows, self.rounding)
        return alpha

    def settled(self, block: Block) -> BlockDuals:
        """Return the same dual variables by themselves."""
        rows = row_costs(block, self.label, self.cost)
        return BlockDuals.of(self.values(rows), rows)
