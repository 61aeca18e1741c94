"""Passes of the support vector machine over a dense block: X is read once.

The twins for CSR are in `dask_dml.kernels.margin_csr`.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.blas import add_products
from dask_dml.kernels.dense import tile_rows
from dask_dml.kernels.margin_rows import group_sums
from dask_dml.kernels.rows import jit

#: Stands for every row of a block.
ALL_ROWS = np.empty(0, np.intp)


@jit
def single(
    X, rows, y, start, stop, weight, label, cost, w, b, d, db, parameters, grid,
    gradient, sums, line, bends, margins, norms,
):  # fmt: skip
    """Visit rows ``start`` to ``stop`` for one problem.

    A group of rows is read for its margins and, still in cache, once more for the gradient; rows
    that are no support vectors are skipped there.  ``gradient`` (2, n_features) gathers the rows
    with y = -1 and +1 apart.  ``d`` is empty where there is no move.  ``rows`` are the rows of X
    that y and the weights belong to, empty for all.  ``margins`` and ``norms`` receive, unless
    empty, the rows' predictions and the norms of ``(x_i, 1)``.
    """
    p = X.shape[1]
    moving = d.shape[0] > 0
    chosen = rows.shape[0] > 0
    group = max(16, min(256, (1 << 15) // max(p, 1)))
    F = np.empty((1, group))
    Z = np.empty((1, group if moving else 0))
    for begin in range(start, stop, group):
        size = min(group, stop - begin)
        for k in range(size):
            row = X[rows[begin + k] if chosen else begin + k]
            f = 0.0
            if moving:
                z = 0.0
                for j in range(p):
                    f += row[j] * w[j]
                    z += row[j] * d[j]
                Z[0, k] = z + db
            else:
                for j in range(p):
                    f += row[j] * w[j]
            F[0, k] = f + b
            if margins.shape[0] > 0:
                margins[begin + k] = F[0, k]
            if norms.shape[0] > 0:
                square = 1.0
                for j in range(p):
                    square += row[j] * row[j]
                norms[begin + k] = np.sqrt(square)
        bend = bends[:, begin - start : begin - start + size] if bends.shape[1] > 0 else bends
        group_sums(
            F[:, :size], Z[:, :size], y, begin, weight, label, cost, parameters, grid,
            sums, line, bend,
        )  # fmt: skip
        for k in range(size):
            u = F[0, k]
            if u != 0.0:
                row = X[rows[begin + k] if chosen else begin + k]
                side = gradient[1 if y[begin + k, 0] == label[0] else 0]
                for j in range(p):
                    side[j] += u * row[j]


@jit
def copy_tile(X, start, tile):
    """Copy (and convert) rows."""
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            tile[i, j] = X[start + i, j]


@jit
def add_positive(U, tile, y, start, label, positive):
    """Add the part of ``U @ tile`` that comes from the rows with y = +1."""
    for i in range(tile.shape[0]):
        for c in range(label.shape[0]):
            u = U[c, i]
            if u != 0.0 and y[start + i, 0] == label[c]:
                for j in range(tile.shape[1]):
                    positive[c, j] += u * tile[i, j]


def several(block, weight, start, stop, point, gradient, positive, sums, line, bends):
    """Visit rows ``start`` to ``stop`` for several problems: two or three GEMMs per tile.

    Parameters
    ----------
    block : Block
        Dense rows.
    weight : ndarray of shape (n_rows,) or (0,)
        Sample weights.
    start, stop : int
        The rows.
    point : MarginPoint
        Where, and what to evaluate.
    gradient : ndarray of shape (n_problems, n_features)
        Added to.
    positive : ndarray of shape (n_problems, n_features) or None
        The part of the rows with y = +1, where wanted.
    sums, line, bends : ndarray
        As in `dask_dml.kernels.margin_rows.group_sums`.
    """
    p = block.n_features
    step = tile_rows(p)
    buffer = np.empty((min(step, stop - start), p))
    for begin in range(start, stop, step):
        tile = buffer[: min(step, stop - begin)]
        copy_tile(block.X, begin, tile)
        with np.errstate(invalid="ignore", over="ignore"):  # infinities are reported later
            F = point.coef @ tile.T
            F += point.intercept[:, None]
            Z = np.empty((len(F), 0))
            if point.move is not None:
                Z = point.move @ tile.T
                Z += point.move_intercept[:, None]
        bend = bends[:, begin - start : begin - start + len(tile)]
        group_sums(
            F, Z, block.y, begin, weight, point.label, point.cost,
            point.parameters, point.grid, sums, line, bend,
        )  # fmt: skip
        with np.errstate(invalid="ignore", over="ignore"):
            gradient += F @ tile
        if positive is not None:
            add_positive(F, tile, block.y, begin, point.label, positive)


@jit
def _bent_rows(X, y, rows, label, columns, bend, factor, out):
    p = out.shape[1] - 2
    for k in range(rows.shape[0]):
        i = rows[k]
        root = np.sqrt(factor * bend[k])
        row = X[i]
        if columns.shape[0] == 0:
            for j in range(p):
                out[k, j] = root * row[j]
        else:
            for j in range(p):
                out[k, j] = root * row[columns[j]]
        out[k, p] = root
        out[k, p + 1] = root if y[i, 0] == label else -root


def add_hessian(block, start, bend, label, stride, columns, total, chosen=ALL_ROWS):
    """Add ``sum_i bend_i (x_i, 1, y_i)(x_i, 1, y_i)'`` to the lower triangle of ``total``.

    Only rows with a positive bend are read; in the end these are few.  Where they are many,
    every ``stride``-th of them stands for all.  ``columns`` are the columns that are wanted; none
    means all.  ``chosen`` are the rows of the block that ``bend`` is about, from ``start`` on;
    none means all.
    """
    bent = np.flatnonzero(bend)[::stride]
    bend = bend[bent]
    rows = chosen[start + bent] if len(chosen) else start + bent
    step = tile_rows(len(total))
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        scaled = np.empty((len(rows[part]), len(total)))
        _bent_rows(block.X, block.y, rows[part], label, columns, bend[part], stride, scaled)
        add_products(scaled, total)


@jit
def add_product(X, bend, d, db, total):
    """Add ``sum_i bend_i (x_i.d + db) x_i``; return the sum of the factors."""
    p = X.shape[1]
    factors = 0.0
    for i in range(X.shape[0]):
        if bend[i] > 0.0:
            row = X[i]
            z = 0.0
            for j in range(p):
                z += row[j] * d[j]
            u = bend[i] * (z + db)
            factors += u
            for j in range(p):
                total[j] += u * row[j]
    return factors


@jit
def add_weighted(X, factors, totals):
    """Add ``factors @ X``, a row for each set of factors."""
    for i in range(X.shape[0]):
        row = X[i]
        for k in range(factors.shape[0]):
            u = factors[k, i]
            if u != 0.0:
                total = totals[k]
                for j in range(row.shape[0]):
                    total[j] += u * row[j]
