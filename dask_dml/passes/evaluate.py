"""Shard functions: what one visit of a shard computes.

Each is a function of ``(shard, broadcast)`` as `dask_dml.rounds.base` wants it; the choice
between dense and CSR kernels is made here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.input.chunks import describe_infinite, describe_nonfinite, describe_overflow
from dask_dml.kernels import csr, dense
from dask_dml.kernels.rows import DUAL, N_SUMS, NO_WEIGHT
from dask_dml.passes.partials import (
    CENTRE_SPARSE,
    ColumnMoments,
    LossSums,
    Moments,
    Rows,
    Statistics,
    Triangle,
    triangular,
)

T = TypeVar("T")

#: Share of a column's weighted squares that is rounding about their mean.
ROUNDING = 1e-14
#: Columns from which on products of float32 rows may be rough: with fewer, the passes that correct
#: what they say take what they save.
ROUGH_COLUMNS = 1000


@dataclass(frozen=True)
class Point:
    """Where the losses of several problems are to be evaluated.

    Attributes
    ----------
    coef : ndarray of shape (n_problems, n_features)
        Coefficients.
    intercept : ndarray of shape (n_problems,)
        Intercepts relative to the means: predictions are
        ``target_mean + (x - mean) @ coef + intercept``.
    parameters : ndarray of shape (n_problems, 7)
        Loss parameters, see `dask_dml.objective.losses.Loss.parameters`.
    column : ndarray of shape (n_problems,)
        Which column of y belongs to which problem.
    mean : ndarray of shape (n_features,)
        What the columns of X are taken relative to.
    target_mean : ndarray of shape (n_problems,)
        What the targets are taken relative to.
    offset : bool
        Whether some column's mean is so large beside its spread that the difference has to be
        taken row by row; otherwise the mean is corrected for in the sums.
    units : ndarray of shape (n_shards,) or None
        Factor on the sample weights of each shard.
    hessian : bool
        Whether the Hessians are wanted, too.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that ``coef`` and ``mean`` are about, where many never occur: only these
        travel.
    """

    coef: np.ndarray
    intercept: np.ndarray
    parameters: np.ndarray
    column: np.ndarray
    mean: np.ndarray
    target_mean: np.ndarray
    offset: bool
    units: np.ndarray | None
    hessian: bool
    columns: np.ndarray | None = None

    def spread_out(self, n_features: int) -> Point:
        """Return the same point in terms of all columns."""
        coef, mean = np.zeros((len(self.coef), n_features)), np.zeros(n_features)
        coef[:, self.columns], mean[self.columns] = self.coef, self.mean
        return replace(self, coef=coef, mean=mean, columns=None)


@dataclass(frozen=True)
class Centre:
    """What rows are taken relative to in a factorisation, the shards' factors, and the columns.

    Attributes
    ----------
    mean : ndarray of shape (n_occurring,)
        What the columns are taken relative to.
    target_mean : ndarray of shape (n_outputs,)
        The same of the targets.
    units : ndarray of shape (n_shards,) or None
        Factor on the sample weights of each shard.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that are factorised; None for all.
    """

    mean: np.ndarray
    target_mean: np.ndarray
    units: np.ndarray | None
    columns: np.ndarray | None = None


class Use(NamedTuple):
    """What the moments of columns are for: taking the means off, dividing by the spread."""

    centre: bool
    scale: bool


def loss_sums(shard: Shard, point: Point) -> LossSums:
    """Return loss values, gradients and, if asked, Hessians of several problems."""
    if point.columns is not None:
        whole = loss_sums(shard, point.spread_out(shard.blocks[0].n_features))
        return LossSums(whole.gradient[:, point.columns], whole.sums, None)
    n_problems, p = point.coef.shape
    unit = _unit(shard, point.units)
    gradient = np.zeros((n_problems, p))
    sums = np.zeros((n_problems, N_SUMS))
    hessian = np.zeros((n_problems, p + 1, p + 1)) if point.hessian else None
    for block in shard.blocks:
        if block.is_sparse:
            _sparse_loss_sums(block, unit, point, gradient, sums, hessian)
        elif n_problems == 1 and not point.hessian and not point.offset:
            _single_loss_sums(block, unit, point, gradient[0], sums[0])
        else:
            dense.gradient_tiles(block, _weight(block), unit, point, gradient, sums, hessian)
    return LossSums(gradient, sums, hessian)


def _single_loss_sums(
    block: Block, unit: float, point: Point, gradient: np.ndarray, sums: np.ndarray
) -> None:
    part, part_sums = np.zeros_like(gradient), np.zeros_like(sums)
    shift = float(point.intercept[0] - point.mean @ point.coef[0])
    dense.gradient_single(
        block.X, block.y, int(point.column[0]), point.target_mean[0], _weight(block), unit,
        point.coef[0], shift, point.parameters[0], part, part_sums,
    )  # fmt: skip
    gradient += part - point.mean * part_sums[DUAL]
    sums += part_sums


def _sparse_loss_sums(
    block: Block,
    unit: float,
    point: Point,
    gradient: np.ndarray,
    sums: np.ndarray,
    hessian: np.ndarray | None,
) -> None:
    X, n_problems = block.X, len(point.coef)
    part, part_sums = np.zeros(point.coef.T.shape), np.zeros_like(sums)
    bends = np.empty((n_problems, block.n_rows)) if hessian is not None else np.empty((0, 0))
    shift = point.intercept - point.coef @ point.mean
    csr.gradient(
        X.data, X.indices, X.indptr, block.y, point.column, point.target_mean, _weight(block), unit,
        np.ascontiguousarray(point.coef.T), shift, point.parameters, part, part_sums, bends,
    )  # fmt: skip
    gradient += part.T - np.outer(part_sums[:, DUAL], point.mean)
    sums += part_sums
    if hessian is not None:
        for problem, bend in enumerate(bends):
            raw = np.zeros_like(hessian[problem])
            csr.hessian(X.data, X.indices, X.indptr, bend, raw)
            hessian[problem] += centred_hessian(raw, point.mean)


def centred_hessian(raw: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the Hessian in ``(x - mean, 1)`` from that in ``(x, 1)``.

    Rows are first taken relative to the mean that the Hessian itself weighs them by.  What is next
    to nothing beside the squares is rounding, and of either sign: such columns have no curvature
    about that mean.
    """
    first, total = raw[-1, :-1], float(raw[-1, -1])
    centred = raw.copy()
    if total > 0.0:
        own = first / total
        about = centred[:-1, :-1]
        about -= np.outer(first, own)
        lost = np.diagonal(about) <= ROUNDING * np.diagonal(raw)[:-1]
        about[lost], about[:, lost] = 0.0, 0.0
        shift = own - mean
        about += total * np.outer(shift, shift)
        centred[-1, :-1] = total * shift
    return centred


def statistics(shard: Shard, units: np.ndarray | None) -> Statistics:
    """Return the weighted means and second moments of a shard."""
    return sum_parts([block_statistics(b, _unit(shard, units)) for b in shard.blocks])


def rough_statistics(shard: Shard, units: np.ndarray | None) -> Statistics:
    """Do as `statistics`, in half the time for float32 rows of many columns.

    Products of these have the digits of single precision, which is enough to correct coefficients
    with, by true gradients.
    """
    unit = _unit(shard, units)
    return sum_parts([_rough_block_statistics(block, unit) for block in shard.blocks])


def _rough_block_statistics(block: Block, unit: float) -> Statistics:
    single = block.X.dtype == np.float32 and not block.is_sparse
    if not single or block.X.shape[1] < ROUGH_COLUMNS:
        return block_statistics(block, unit)
    try:
        return block_statistics(block, unit, single=True)
    except ValueError:  # squares may overflow in single precision alone
        return block_statistics(block, unit)


def block_statistics(block: Block, unit: float, *, single: bool = False) -> Statistics:
    """Return the weighted means and second moments of a block; weights are multiplied by unit."""
    n, p = block.X.shape
    n_outputs = block.y.shape[1]
    products, cross = np.zeros((p, p)), np.zeros((p, n_outputs))
    target_square = np.zeros(n_outputs)
    target_shift = np.asarray(block.y[:64], dtype=np.float64).mean(axis=0)
    if block.is_sparse:
        X, shift = block.X, csr.full_column_shift(block.X)
        sums, target_sums = np.zeros(p), np.zeros(n_outputs)
        weight = csr.statistics(
            X.data, X.indices, X.indptr, block.y, _weight(block), unit, shift, target_shift,
            products, cross, target_square, sums, target_sums,
        )  # fmt: skip
    else:
        shift = dense.first_rows_mean(block.X)
        weight, sums, target_sums = dense.statistics(
            block, _weight(block), unit, shift, target_shift, products, cross, target_square, single
        )
    check_finite(block, sums, products.diagonal())
    share = 1.0 / weight if weight > 0.0 else 0.0
    products -= share * np.outer(sums, sums)
    cross -= share * np.outer(sums, target_sums)
    return Statistics(
        weight,
        n,
        shift + share * sums,
        np.diagonal(products).copy(),
        target_shift + share * target_sums,
        target_square - share * target_sums**2,
        products,
        cross,
        single,
    )


def moments(shard: Shard, units: np.ndarray | None) -> Moments:
    """Return the weighted means and centred squares of a shard's columns."""
    return sum_parts([_block_moments(b, _unit(shard, units)) for b in shard.blocks])


def _block_moments(block: Block, unit: float) -> Moments:
    X, weights = block.X, _weight(block)
    p, n_outputs = block.n_features, block.y.shape[1]
    sums, squares = np.zeros(p), np.zeros(p)
    target_sums, target_squares = np.zeros(n_outputs), np.zeros(n_outputs)
    target_shift = np.asarray(block.y[:64], dtype=np.float64).mean(axis=0)
    dense.moments(block.y, weights, unit, target_shift, target_sums, target_squares)
    if block.is_sparse:
        shift = csr.full_column_shift(X)
        weight = csr.moments(X.data, X.indices, X.indptr, weights, unit, shift, sums, squares)
    else:
        shift = dense.first_rows_mean(block.X)
        weight = dense.moments(X, weights, unit, shift, sums, squares)
    check_finite(block, sums, squares)
    share = 1.0 / weight if weight > 0.0 else 0.0
    return Moments(
        weight,
        block.n_rows,
        shift + share * sums,
        squares - share * sums**2,
        target_shift + share * target_sums,
        target_squares - share * target_sums**2,
    )


def column_moments(shard: Shard, use: Use) -> ColumnMoments:
    """Return the means and centred squares of a shard's columns, in which NaN is left out.

    Raises
    ------
    ValueError
        If X contains infinity, is sparse and to be centred, or holds values to be scaled whose
        squares overflow.
    """
    return sum_parts([_block_column_moments(block, use) for block in shard.blocks])


def _block_column_moments(block: Block, use: Use) -> ColumnMoments:
    if block.is_sparse and use.centre:
        raise ValueError(CENTRE_SPARSE)
    found = (_sparse_column_moments if block.is_sparse else _dense_column_moments)(block)
    wanted = (found.mean, found.square) if use.scale else (found.mean,)
    if all(np.isfinite(part).all() for part in wanted):
        return found
    remedy = "divide such columns by a constant first, or set with_std=False."
    raise ValueError(describe_infinite(block) or describe_overflow(block, remedy))


def _dense_column_moments(block: Block) -> ColumnMoments:
    weight, p = _weight(block), block.n_features
    origin, totals, means, squares = np.zeros((4, p))
    dense.first_values(block.X, weight, origin)
    dense.column_moments(block.X, weight, origin, dense.tile_rows(p), totals, means, squares)
    return ColumnMoments(block.n_rows, totals, origin, means, squares)


def _sparse_column_moments(block: Block) -> ColumnMoments:
    X, p = block.X, block.n_features
    origin, missing, totals, means, squares = np.zeros((5, p))
    entries = np.zeros(p, np.int64)
    weight, counting = csr.column_moments(
        X.data, X.indices, X.indptr, _weight(block),
        origin, entries, missing, totals, means, squares,
    )  # fmt: skip
    # By number first: rounding in sums of weights must not make up a zero beside large entries.
    implicit = np.where(entries == counting, 0.0, np.maximum(weight - totals - missing, 0.0))
    nothing = np.zeros(p)
    return ColumnMoments(block.n_rows, totals, origin, means, squares) + ColumnMoments(
        0, implicit, nothing, nothing, nothing
    )


def triangle(shard: Shard, centre: Centre) -> Triangle:
    """Return the triangular factor of a shard's weighted rows ``[X - mean, y - target_mean]``."""
    unit = _unit(shard, centre.units)
    factor = np.empty((0, len(centre.mean) + len(centre.target_mean)))
    for block in shard.blocks:
        for rows in _weighted_tiles(block, unit, centre):
            factor = triangular(np.concatenate([factor, rows]))
    return Triangle(factor)


def _weighted_tiles(block: Block, unit: float, centre: Centre) -> Iterator[np.ndarray]:
    X, y, weight = block.X, block.y, _weight(block)
    n, p = X.shape[0], len(centre.mean)
    width = p + y.shape[1]
    # A tile has the size of the factor, whatever the number of rows of the block; that is why
    # a CSR block may be written out tile by tile here.
    step = max(2 * width, 256)
    for start in range(0, n, step):
        stop = min(start + step, n)
        rows = np.empty((stop - start, width))
        piece = X[start:stop]
        if centre.columns is not None:
            piece = piece[:, centre.columns]
        rows[:, :p] = piece.toarray() if block.is_sparse else piece
        rows[:, p:] = y[start:stop]
        rows[:, :p] -= centre.mean
        rows[:, p:] -= centre.target_mean
        rows *= np.sqrt(unit * weight[start:stop])[:, None] if len(weight) else np.sqrt(unit)
        yield rows


def whole_rows(shard: Shard, columns: np.ndarray | None) -> Rows:
    """Return all rows of a shard, for what has few of them."""

    def rows_of(block: Block) -> Rows:
        X = block.X if columns is None else block.X[:, columns]
        X = np.asarray(X if isinstance(X, np.ndarray) else X.toarray(), np.float64)
        weight = np.ones(block.n_rows) if block.weight is None else block.weight
        return Rows(X, np.asarray(block.y, np.float64), np.asarray(weight, np.float64))

    return sum_parts([rows_of(block) for block in shard.blocks])


def shard_weights(shard: Shard, n_shards: int) -> np.ndarray:
    """Return an array of the shards' total weights with this shard's entry filled in."""
    totals = np.zeros(n_shards)
    for block in shard.blocks:
        totals[shard.number] += block.n_rows if block.weight is None else block.weight.sum()
    return totals


def sum_parts(parts: list[T]) -> T:
    """Return the sum of partial results, added in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part  # type: ignore[operator]  # partials have +
    return total


def check_finite(rows: Block | Shard, *sums: np.ndarray) -> None:
    """Raise a ValueError that says where X is not finite, if sums over it are not."""
    if all(np.isfinite(part).all() for part in sums):
        return
    blocks = rows.blocks if isinstance(rows, Shard) else rows
    raise ValueError(
        describe_nonfinite(rows)
        or describe_overflow(blocks, "divide the largest columns by a constant first.")
    )


def _unit(shard: Shard, units: np.ndarray | None) -> float:
    return 1.0 if units is None else float(units[shard.number])


def _weight(block: Block) -> np.ndarray:
    return NO_WEIGHT if block.weight is None else block.weight
