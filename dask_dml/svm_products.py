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
from dask_dml.kernels import svm_dense, svm_dual, svm_sparse
from dask_dml.kernels.rows import NO_WEIGHT
from dask_dml.kernels.svm_rows import bends_of_rows, labels_of_rows
from dask_dml.passes import sum_parts


@dataclass(frozen=True)
class ProductAsk:
    """Products that are wanted.

    Attributes
    ----------
    points : tuple of (int, int)
        Which point of which problem: where it is the same as before, the curvatures are, too.
    label, cost, parameters, coef, intercept : ndarray
        The points, as in `dask_dml.svm_passes.MarginPoint`.
    move : ndarray of shape (n_problems, n_features)
        Vectors that the Hessians are to be multiplied with.
    move_intercept : ndarray of shape (n_problems,)
        Their last entries.
    """

    points: tuple[tuple[int, int], ...]
    label: np.ndarray
    cost: np.ndarray
    parameters: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    move: np.ndarray
    move_intercept: np.ndarray


#: Curvatures of the rows, block by block, at a point of a problem.
_State = dict[tuple[int, int], list[np.ndarray]]


def products(shard: Shard, state: _State | None, ask: ProductAsk) -> tuple[_State, np.ndarray]:
    """Return ``sum_i cost_i phi''(t_i) (x_i.d + d_b) (x_i, 1)``, a row for each problem."""
    after: _State = {}
    total = np.zeros((len(ask.move), ask.move.shape[1] + 1))
    for at, point in enumerate(ask.points):
        bends = None if state is None else state.get(point)
        if bends is None:
            bends = [_bends(block, ask, at) for block in shard.blocks]
        after[point] = bends
        move, last = ask.move[at], float(ask.move_intercept[at])
        for block, bend in zip(shard.blocks, bends, strict=True):
            if block.is_sparse:
                X = block.X
                total[at, -1] += svm_sparse.add_product(
                    X.data, X.indices, X.indptr, bend, move, last, total[at, :-1]
                )
            else:
                total[at, -1] += svm_dense.add_product(block.X, bend, move, last, total[at, :-1])
    return after, total


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


def window_rows(shard: Shard, ask: ProductAsk) -> Windows:
    """Return the rows that have a curvature, problem by problem."""
    return Windows(
        tuple(
            sum_parts([_window(block, ask, at) for block in shard.blocks])
            for at in range(len(ask.coef))
        )
    )


def _window(block: Block, ask: ProductAsk, at: int) -> WindowRows:
    f, sign, bend = _visit(block, ask, at)
    rows = np.flatnonzero(bend)
    return WindowRows(block.X[rows], bend[rows], sign[rows] - f[rows])


def _bends(block: Block, ask: ProductAsk, at: int) -> np.ndarray:
    return _visit(block, ask, at)[2]


def _visit(block: Block, ask: ProductAsk, at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return margins, labels and curvatures of the rows."""
    f, sign, cost, bend = np.empty((4, block.n_rows))
    w, b = ask.coef[at], float(ask.intercept[at])
    weight = NO_WEIGHT if block.weight is None else block.weight
    if block.is_sparse:
        svm_dual.sparse_margins(block.X.data, block.X.indices, block.X.indptr, w, b, f)
    else:
        svm_dual.dense_margins(block.X, w, b, f)
    labels_of_rows(block.y, 0, weight, ask.label[at], ask.cost[at], sign, cost)
    bends_of_rows(f, sign, cost, ask.parameters[at], bend)
    return f, sign, bend
