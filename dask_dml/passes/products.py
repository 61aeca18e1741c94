"""The Hessian of a support vector machine with many columns, which is never formed.

Where few rows have a curvature they are fetched; otherwise products serve conjugate gradients.
The rows' curvatures at a point stay beside the shard while products are taken there, so that a
product reads the support vectors only, and needs no margins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Block, Matrix, Shard
from dask_dml.kernels import dual_ascent, margin_csr, margin_dense
from dask_dml.kernels.margin_rows import bends_of_rows, labels_of_rows
from dask_dml.kernels.rows import NO_WEIGHT
from dask_dml.passes.evaluate import sum_parts
from dask_dml.passes.margins import spread


@dataclass(frozen=True)
class Curvatures:
    """Where the Hessians are, and what makes the rows' curvatures there.

    Attributes
    ----------
    label, cost, parameters, coef, intercept : ndarray
        As in `dask_dml.passes.margins.MarginPoint`.
    columns : ndarray of shape (n_occurring,) or None
        As there.
    """

    label: np.ndarray
    cost: np.ndarray
    parameters: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    columns: np.ndarray | None = None


@dataclass(frozen=True)
class ProductAsk:
    """Products that are wanted.

    Attributes
    ----------
    points : tuple of (int, int)
        Which point of which problem: where it is the same as before, the curvatures are, too.
    where : Curvatures or None
        The points; None where the shards have been told.
    move : ndarray of shape (n_problems, n_features) or None
        Vectors that the Hessians are to be multiplied with, of any precision, which the answer
        then has; None asks for ``X' D r`` with the curvatures D and ``r_i = y_i t_i``.
    move_intercept : ndarray of shape (n_problems,)
        Their last entries.
    columns : ndarray of shape (n_occurring,) or None
        The columns that the vectors are about; None for all.
    """

    points: tuple[tuple[int, int], ...]
    where: Curvatures | None
    move: np.ndarray | None
    move_intercept: np.ndarray
    columns: np.ndarray | None = None


#: By problem, the number of a point, and the rows' curvatures and residuals there, block by block.
_State = dict[int, tuple[int, list[tuple[np.ndarray, np.ndarray]]]]


def products(shard: Shard, state: _State | None, ask: ProductAsk) -> tuple[_State, np.ndarray]:
    """Return ``sum_i cost_i phi''(t_i) (x_i.d + d_b) (x_i, 1)``, a row for each problem."""
    after: _State = {} if state is None else dict(state)
    p = shard.blocks[0].n_features
    total = np.zeros((len(ask.points), p + 1))
    for at, (number, point) in enumerate(ask.points):
        at_point, known = after.get(number, (None, []))
        if at_point != point:
            assert ask.where is not None, "the driver sends points that are not known"
            known = _visit(shard, ask.where, at)
            after[number] = point, known
        move = None if ask.move is None else spread(ask.move[at], ask.columns, p)
        for block, (bend, residual) in zip(shard.blocks, known, strict=True):
            if move is None:
                _add_pull(block, bend * residual, total[at])
            else:
                _add_product(block, bend, move, float(ask.move_intercept[at]), total[at])
    if ask.columns is not None:
        total = total[:, np.append(ask.columns, p)]
    return after, total if ask.move is None else total.astype(ask.move.dtype)


def _add_pull(block: Block, pull: np.ndarray, total: np.ndarray) -> None:
    total[:-1] += block.X.T @ pull
    total[-1] += pull.sum()


def _add_product(
    block: Block, bend: np.ndarray, move: np.ndarray, last: float, total: np.ndarray
) -> None:
    X = block.X
    if block.is_sparse:
        total[-1] += margin_csr.add_product(
            X.data, X.indices, X.indptr, bend, move, last, total[:-1]
        )
    else:
        total[-1] += margin_dense.add_product(X, bend, move, last, total[:-1])


@dataclass(frozen=True)
class WindowRows:
    """The rows of one problem that have a curvature; ``+`` puts them one after the other.

    Attributes
    ----------
    X : ndarray or csr_array of shape (n_rows, n_features)
        The rows.
    bend : ndarray of shape (n_rows,)
        Their curvatures.
    residual : ndarray of shape (n_rows,)
        ``y_i t_i``.
    """

    X: Matrix
    bend: np.ndarray
    residual: np.ndarray

    def __add__(self, other: WindowRows) -> WindowRows:
        stack = sp.vstack if sp.issparse(self.X) else np.concatenate
        return WindowRows(
            stack([self.X, other.X]),
            np.append(self.bend, other.bend),
            np.append(self.residual, other.residual),
        )


@dataclass(frozen=True)
class Windows:
    """`WindowRows` of several problems; ``+`` adds them one by one."""

    of: tuple[WindowRows, ...]

    def __add__(self, other: Windows) -> Windows:
        return Windows(tuple(a + b for a, b in zip(self.of, other.of, strict=True)))


def window_rows(shard: Shard, where: Curvatures) -> Windows:
    """Return the rows that have a curvature, problem by problem."""
    problems = (
        zip(shard.blocks, _visit(shard, where, at), strict=True) for at in range(len(where.coef))
    )
    return Windows(
        tuple(sum_parts([_window(*part, where.columns) for part in parts]) for parts in problems)
    )


def _window(
    block: Block, visited: tuple[np.ndarray, np.ndarray], columns: np.ndarray | None
) -> WindowRows:
    bend, residual = visited
    rows = np.flatnonzero(bend)
    X = block.X[rows]
    if columns is not None:
        X = X[:, columns]
    return WindowRows(X, bend[rows], residual[rows])


def _visit(shard: Shard, where: Curvatures, at: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return curvatures and residuals of the rows, block by block."""
    w = spread(where.coef[at], where.columns, shard.blocks[0].n_features)
    b = float(where.intercept[at])
    visited = []
    for block in shard.blocks:
        f, sign, cost, bend = np.empty((4, block.n_rows))
        weight = NO_WEIGHT if block.weight is None else block.weight
        if block.is_sparse:
            dual_ascent.sparse_margins(block.X.data, block.X.indices, block.X.indptr, w, b, f)
        else:
            dual_ascent.dense_margins(block.X, w, b, f)
        labels_of_rows(block.y, 0, weight, where.label[at], where.cost[at], sign, cost)
        bends_of_rows(f, sign, cost, where.parameters[at], bend)
        visited.append((bend, sign - f))
    return visited
