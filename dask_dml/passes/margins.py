"""Shard functions of the support vector machine: what one visit of a shard computes.

The choice between dense and CSR kernels is made here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.input.chunks import describe_nonfinite, describe_overflow
from dask_dml.kernels import margin_csr, margin_dense
from dask_dml.kernels.margin_rows import N_SUMS
from dask_dml.kernels.rows import NO_WEIGHT

#: Rows whose curvatures are held at a time; a Hessian is then added from those that bend.
ROWS_AT_A_TIME = 1 << 15

#: Rows among which classes are looked for first; where there are few, each is then counted.
CLASS_ROWS, FEW_CLASSES = 1000, 32

NOTHING = np.empty(0)

#: Stands for every column.
ALL_COLUMNS = np.empty(0, np.intp)


@dataclass(frozen=True)
class MarginPoint:
    """Where several problems are to be evaluated, and what is asked.

    Attributes
    ----------
    label : ndarray of shape (n_problems,)
        The class that is y = +1.
    cost : ndarray of shape (n_problems, 2)
        Cost of a violation by a row of weight one with y = -1 and with y = +1.
    parameters : ndarray of shape (n_problems, 4)
        Loss parameters, see `dask_dml.kernels.margin_rows`.
    coef : ndarray of shape (n_problems, n_features)
        Coefficients.
    intercept : ndarray of shape (n_problems,)
        Intercepts.
    move : ndarray of shape (n_problems, n_features) or None
        Directions of line searches, of any precision.
    move_intercept : ndarray of shape (n_problems,)
        Its intercepts.
    grid : ndarray of shape (n_problems, n_steps)
        The loss is wanted at ``coef + grid[:, j] * move``, too.
    hessian : bool
        Whether the Hessians are wanted.
    stride : ndarray of int of shape (n_problems,)
        Every so many of the rows with a curvature stand for all of them in the Hessian.
    columns : ndarray of shape (n_columns,)
        Columns of the Hessians, in order; empty for all.
    split : bool
        Whether the rows with y = +1 are to be summed apart.
    occurring : ndarray of shape (n_occurring,) or None
        The columns of X that all of this is about, where many never occur: only these travel.
    """

    label: np.ndarray
    cost: np.ndarray
    parameters: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    move: np.ndarray | None
    move_intercept: np.ndarray
    grid: np.ndarray
    stride: np.ndarray
    hessian: bool = False
    columns: np.ndarray = field(default_factory=lambda: ALL_COLUMNS)
    split: bool = False
    occurring: np.ndarray | None = None

    def spread_out(self, n_features: int) -> MarginPoint:
        """Return the same point in terms of all columns."""
        assert self.occurring is not None
        return replace(
            self,
            coef=spread(self.coef, self.occurring, n_features),
            move=None if self.move is None else spread(self.move, self.occurring, n_features),
            columns=self.occurring[self.columns] if len(self.columns) else self.occurring,
            occurring=None,
        )


@dataclass(frozen=True)
class MarginSums:
    """What a visit returns; ``+`` adds.

    Attributes
    ----------
    gradient : ndarray of shape (n_problems, n_features)
        ``sum_i alpha_i y_i x_i``.
    positive : ndarray of shape (n_problems, n_features) or None
        The part of it that comes from rows with y = +1, where it was asked for.
    sums : ndarray of shape (n_problems, 12)
        The columns are named in `dask_dml.kernels.margin_rows`.
    line : ndarray of shape (n_problems, n_steps, 2)
        Smoothed loss and its rate of change along the move.
    hessian : ndarray of shape (n_problems, n_columns + 2, n_columns + 2) or None
        Lower triangles of ``sum_i cost_i phi''(t_i) (x_i, 1, y_i)(x_i, 1, y_i)'``.
    """

    gradient: np.ndarray
    positive: np.ndarray | None
    sums: np.ndarray
    line: np.ndarray
    hessian: np.ndarray | None

    def __add__(self, other: MarginSums) -> MarginSums:
        positive, hessian = self.positive, self.hessian
        if positive is not None and other.positive is not None:
            positive = positive + other.positive
        if hessian is not None and other.hessian is not None:
            hessian = hessian + other.hessian
        return MarginSums(
            self.gradient + other.gradient,
            positive,
            self.sums + other.sums,
            self.line + other.line,
            hessian,
        )


@dataclass(frozen=True)
class ClassSums:
    """Rows and weight of each class; ``+`` merges.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Classes that occur, as numbers, in order.
    rows, weight : ndarray of shape (n_classes,)
        Number of rows and sum of weights.
    entries : float
        Entries of X that are held.
    sparse : bool
        Whether some block is CSR.
    """

    classes: np.ndarray
    rows: np.ndarray
    weight: np.ndarray
    entries: float = 0.0
    sparse: bool = False

    def __add__(self, other: ClassSums) -> ClassSums:
        classes = np.union1d(self.classes, other.classes)
        rows, weight = np.zeros(len(classes)), np.zeros(len(classes))
        for part in (self, other):
            at = np.searchsorted(classes, part.classes)
            rows[at] += part.rows
            weight[at] += part.weight
        return ClassSums(
            classes, rows, weight, self.entries + other.entries, self.sparse or other.sparse
        )


def class_sums(shard: Shard, _: None = None) -> ClassSums:
    """Return which classes occur, and how often."""
    total = ClassSums(np.empty(0), np.empty(0), np.empty(0))
    for block in shard.blocks:
        total += ClassSums(
            *_counted(np.ascontiguousarray(block.y[:, 0]), block.weight),
            float(block.X.data.size if block.is_sparse else block.X.size),
            block.is_sparse,
        )
    return total


def _counted(y: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return classes, their rows and weights; to sort all rows would take as long as a pass."""
    classes = np.unique(y[:: max(1, len(y) // CLASS_ROWS)])
    if len(classes) <= FEW_CLASSES:
        chosen = [y == value for value in classes]
        rows = np.array([np.count_nonzero(mask) for mask in chosen], dtype=np.float64)
        if rows.sum() == len(y):
            if weight is None:
                return classes, rows, rows
            return classes, rows, np.array([weight[mask].sum() for mask in chosen])
    classes, codes = np.unique(y, return_inverse=True)
    rows = np.bincount(codes, minlength=len(classes)).astype(np.float64)
    if weight is None:
        return classes, rows, rows
    return classes, rows, np.bincount(codes, weights=weight, minlength=len(classes))


def margins(shard: Shard, point: MarginPoint) -> MarginSums:
    """Return loss sums, gradients, line searches and, if asked, Hessians."""
    if point.occurring is not None:
        whole = margins(shard, point.spread_out(shard.blocks[0].n_features))
        positive = None if whole.positive is None else whole.positive[:, point.occurring]
        return replace(whole, gradient=whole.gradient[:, point.occurring], positive=positive)
    if point.move is not None:
        point = replace(point, move=point.move.astype(np.float64, copy=False))
    total = no_sums(point)
    for block in shard.blocks:
        visit = _sparse_margins if block.is_sparse else dense_margins
        visit(block, point, total)
        check_finite(block, total)
    return total


def no_sums(point: MarginPoint) -> MarginSums:
    """Return the sums over no rows."""
    n_problems, p = point.coef.shape
    n_columns = len(point.columns) if len(point.columns) else p
    return MarginSums(
        np.zeros((n_problems, p)),
        np.zeros((n_problems, p)) if point.split else None,
        np.zeros((n_problems, N_SUMS)),
        np.zeros((n_problems, point.grid.shape[1], 2)),
        np.zeros((n_problems, n_columns + 2, n_columns + 2)) if point.hessian else None,
    )


def check_finite(block: Block, total: MarginSums) -> None:
    """Raise where something in the block is not finite, or squares of its values overflow.

    Other sums that are not finite are due to the coefficients; the caller finds out.
    """
    large = total.hessian is not None and not np.isfinite(_diagonals(total.hessian)).all()
    if large or not np.isfinite(total.sums).all() or not np.isfinite(total.gradient).all():
        message = describe_nonfinite(block)
        if message is None and large:
            message = describe_overflow(block, "divide the largest columns by a constant first.")
        if message is not None:
            raise ValueError(message)


def _diagonals(matrices: np.ndarray) -> np.ndarray:
    return np.diagonal(matrices, axis1=1, axis2=2)


def _slices(n_rows: int, point: MarginPoint) -> list[tuple[int, int]]:
    step = ROWS_AT_A_TIME if point.hessian else max(n_rows, 1)
    return [(at, min(at + step, n_rows)) for at in range(0, n_rows, step)]


def _bends(point: MarginPoint, n_rows: int) -> np.ndarray:
    return np.empty((len(point.coef), n_rows if point.hessian else 0))


def dense_margins(
    block: Block, point: MarginPoint, total: MarginSums, rows: np.ndarray = margin_dense.ALL_ROWS
) -> None:
    """Add what a dense block contributes, or some of its rows in case of a single problem."""
    if len(point.coef) == 1:
        single_dense_margins(block, point, total, rows)
        return
    weight = NO_WEIGHT if block.weight is None else block.weight
    for start, stop in _slices(block.n_rows, point):
        bends = _bends(point, stop - start)
        margin_dense.several(
            block, weight, start, stop, point, total.gradient, total.positive, total.sums,
            total.line, bends,
        )  # fmt: skip
        _add_dense_hessians(block, point, start, bends, rows, total)


def single_dense_margins(
    block: Block,
    point: MarginPoint,
    total: MarginSums,
    rows: np.ndarray = margin_dense.ALL_ROWS,
    margins: np.ndarray = NOTHING,
    norms: np.ndarray = NOTHING,
) -> None:
    """Add what some rows contribute to a single problem; see `margin_dense.single`."""
    y, weight = block.y, NO_WEIGHT if block.weight is None else block.weight
    if len(rows):
        y, weight = y[rows], weight[rows] if len(weight) else weight
    sides = np.zeros((2, block.n_features))
    move = NOTHING if point.move is None else point.move[0]
    for start, stop in _slices(len(y), point):
        bends = _bends(point, stop - start)
        margin_dense.single(
            block.X, rows, y, start, stop, weight, point.label, point.cost, point.coef[0],
            float(point.intercept[0]), move, float(point.move_intercept[0]),
            point.parameters, point.grid, sides, total.sums, total.line, bends, margins, norms,
        )  # fmt: skip
        _add_dense_hessians(block, point, start, bends, rows, total)
    total.gradient[0] += sides[0] + sides[1]
    if total.positive is not None:
        total.positive[0] += sides[1]


def _add_dense_hessians(
    block: Block,
    point: MarginPoint,
    start: int,
    bends: np.ndarray,
    rows: np.ndarray,
    total: MarginSums,
) -> None:
    if total.hessian is None:
        return
    for bend, label, stride, hessian in zip(
        bends, point.label, point.stride, total.hessian, strict=True
    ):
        margin_dense.add_hessian(block, start, bend, label, stride, point.columns, hessian, rows)


def _sparse_margins(block: Block, point: MarginPoint, total: MarginSums) -> None:
    if len(point.coef) == 1:
        _single_sparse_margins(block, point, total)
        return
    X, moving = block.X, point.move is not None
    weight = NO_WEIGHT if block.weight is None else block.weight
    coef, intercept = point.coef, point.intercept
    if point.move is not None:
        coef = np.concatenate([coef, point.move])
        intercept = np.concatenate([intercept, point.move_intercept])
    coef = np.ascontiguousarray(coef.T)
    gradient = np.zeros((block.n_features, len(point.coef)))
    positive = np.zeros(gradient.shape if point.split else (0, 0))
    place = places(point.columns, block.n_features) if point.hessian else None
    for start, stop in _slices(block.n_rows, point):
        bends = _bends(point, stop - start)
        margin_csr.several(
            X.data, X.indices, X.indptr, block.y, start, stop, weight, point.label, point.cost,
            coef, intercept, moving, point.parameters, point.grid, gradient,
            positive, total.sums, total.line, bends,
        )  # fmt: skip
        _add_sparse_hessians(block, point, start, bends, place, total)
    total.gradient[...] += gradient.T
    if total.positive is not None:
        total.positive[...] += positive.T


def _single_sparse_margins(block: Block, point: MarginPoint, total: MarginSums) -> None:
    X = block.X
    weight = NO_WEIGHT if block.weight is None else block.weight
    move = np.empty(0) if point.move is None else point.move[0]
    sides = np.zeros((2 if point.split else 1, block.n_features))
    place = places(point.columns, block.n_features) if point.hessian else None
    for start, stop in _slices(block.n_rows, point):
        bends = _bends(point, stop - start)
        margin_csr.single(
            X.data, X.indices, X.indptr, block.y, start, stop, weight, point.label, point.cost,
            point.coef[0], float(point.intercept[0]), move, float(point.move_intercept[0]),
            point.parameters, point.grid, sides, total.sums, total.line, bends,
        )  # fmt: skip
        _add_sparse_hessians(block, point, start, bends, place, total)
    total.gradient[0] += sides.sum(axis=0) if point.split else sides[0]
    if total.positive is not None:
        total.positive[0] += sides[1]


def _add_sparse_hessians(
    block: Block,
    point: MarginPoint,
    start: int,
    bends: np.ndarray,
    place: np.ndarray | None,
    total: MarginSums,
) -> None:
    if total.hessian is None:
        return
    X = block.X
    for bend, label, stride, hessian in zip(
        bends, point.label, point.stride, total.hessian, strict=True
    ):
        margin_csr.add_hessian(
            X.data, X.indices, X.indptr, block.y, start, bend, label, stride, place, hessian
        )


def spread(values: np.ndarray, columns: np.ndarray | None, n_features: int) -> np.ndarray:
    """Return values of some columns, the last axis, as float64 values of all of them."""
    if columns is None:
        return values.astype(np.float64, copy=False)
    full = np.zeros((*values.shape[:-1], n_features))
    full[..., columns] = values
    return full


def column_squares(shard: Shard, _: None = None) -> np.ndarray:
    """Return the weighted sums of squares of the columns, shape (n_features,)."""
    squares = np.zeros(shard.blocks[0].n_features)
    for block in shard.blocks:
        weight = NO_WEIGHT if block.weight is None else block.weight
        if block.is_sparse:
            X = block.X
            margin_csr.add_squares(X.data, X.indices, X.indptr, weight, squares)
        else:
            weights = np.ones(block.n_rows) if block.weight is None else weight
            squares += np.einsum("ij,ij,i->j", block.X, block.X, weights, optimize=False)
    return squares


def places(columns: np.ndarray, n_features: int) -> np.ndarray:
    """Return which row of a Hessian of some columns a column has, -1 for none."""
    if not len(columns):
        return np.arange(n_features)
    place = np.full(n_features, -1)
    place[columns] = np.arange(len(columns))
    return place
