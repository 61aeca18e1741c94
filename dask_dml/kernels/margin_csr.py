"""Passes of the support vector machine over a CSR block: a cost per non-zero entry."""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.csr import add_row, dot_row, entries
from dask_dml.kernels.margin_rows import group_sums
from dask_dml.kernels.rows import jit


@jit
def single(
    data, indices, indptr, y, start, stop, weight, label, cost, w, b, d, db,
    parameters, grid, gradient, sums, line, bends,
):  # fmt: skip
    """Visit rows ``start`` to ``stop`` for one problem.

    ``d`` is empty where there is no move.  ``gradient`` gathers the rows with y = -1 and +1 apart
    where it has shape (2, n_features), all of them where it has shape (1, n_features).
    """
    first, second = gradient[0], gradient[gradient.shape[0] - 1]
    moving = d.shape[0] > 0
    group = 256
    F = np.empty((1, group))
    Z = np.empty((1, group if moving else 0))
    for begin in range(start, stop, group):
        size = min(group, stop - begin)
        for k in range(size):
            f = dot_row(data, indices, indptr, begin + k, w)
            if moving:
                Z[0, k] = dot_row(data, indices, indptr, begin + k, d) + db
            F[0, k] = f + b
        bend = bends[:, begin - start : begin - start + size] if bends.shape[1] > 0 else bends
        group_sums(
            F[:, :size], Z[:, :size], y, begin, weight, label, cost, parameters, grid,
            sums, line, bend,
        )  # fmt: skip
        for k in range(size):
            u = F[0, k]
            if u != 0.0:
                side = second if y[begin + k, 0] == label[0] else first
                add_row(data, indices, indptr, begin + k, u, side)


@jit
def add_squares(data, indices, indptr, weight, squares):
    """Add the weighted squares of the entries of every column."""
    weighted = weight.shape[0] > 0
    for i in range(indptr.shape[0] - 1):
        s = weight[i] if weighted else 1.0
        for at in entries(indptr, i):
            squares[np.uint64(indices[at])] += s * data[at] * data[at]


@jit
def several(  # noqa: C901 - one loop over rows
    data, indices, indptr, y, start, stop, weight, label, cost, coef, intercept, moving,
    parameters, grid, gradient, positive, sums, line, bends,
):  # fmt: skip
    """Visit rows ``start`` to ``stop`` for all problems.

    ``coef`` (n_features, n_problems), or (n_features, 2 * n_problems) with the moves behind, and
    ``gradient`` (n_features, n_problems) are transposed: a non-zero then meets its numbers side
    by side in memory.  ``positive``, the part of the rows with y = +1, may be empty.
    """
    n_problems = label.shape[0]
    wide = coef.shape[1]
    group = 256
    F = np.empty((n_problems, group))
    Z = np.empty((n_problems, group if moving else 0))
    f = np.empty(wide)
    split = positive.shape[0] > 0
    for begin in range(start, stop, group):
        size = min(group, stop - begin)
        for k in range(size):
            f[:] = intercept
            for at in entries(indptr, begin + k):
                v = data[at]
                j = np.uint64(indices[at])
                for c in range(wide):
                    f[c] += v * coef[j, c]
            for c in range(n_problems):
                F[c, k] = f[c]
                if moving:
                    Z[c, k] = f[n_problems + c]
        bend = bends[:, begin - start : begin - start + size] if bends.shape[1] > 0 else bends
        group_sums(
            F[:, :size], Z[:, :size], y, begin, weight, label, cost, parameters, grid,
            sums, line, bend,
        )  # fmt: skip
        for k in range(size):
            used = 0.0
            for c in range(n_problems):
                f[c] = F[c, k]
                used += abs(f[c])
            if used == 0.0:
                continue
            for at in entries(indptr, begin + k):
                v = data[at]
                j = np.uint64(indices[at])
                for c in range(n_problems):
                    gradient[j, c] += v * f[c]
            if split:
                for c in range(n_problems):
                    if f[c] != 0.0 and y[begin + k, 0] == label[c]:
                        for at in entries(indptr, begin + k):
                            positive[np.uint64(indices[at]), c] += data[at] * f[c]


@jit
def add_hessian(data, indices, indptr, y, start, bend, label, stride, place, total):
    """Add ``sum_i bend_i (x_i, 1, y_i)(x_i, 1, y_i)'`` to the lower triangle of ``total``.

    Every ``stride``-th of the rows with a positive bend stands for all of them.
    ``place`` (n_features,) says which row of ``total`` a column has, -1 for none; it keeps the
    columns' order.
    """
    p = total.shape[0] - 2
    longest = 0
    for k in range(bend.shape[0]):
        longest = max(longest, indptr[start + k + 1] - indptr[start + k])
    where = np.empty(longest, np.int64)
    values = np.empty(longest)
    passed = -1
    for k in range(bend.shape[0]):
        if bend[k] == 0.0:
            continue
        passed += 1
        if passed % stride:
            continue
        b = stride * bend[k]
        sign = 1.0 if y[start + k, 0] == label else -1.0
        n = 0
        for at in entries(indptr, start + k):
            if place[np.uint64(indices[at])] >= 0:
                where[n] = place[np.uint64(indices[at])]
                values[n] = data[at]
                n += 1
        for a in range(n):
            v = b * values[a]
            row = total[where[a]]
            for other in range(a + 1):
                row[where[other]] += v * values[other]
            total[p, where[a]] += v
            total[p + 1, where[a]] += sign * v
        total[p, p] += b
        total[p + 1, p] += sign * b
        total[p + 1, p + 1] += b


@jit
def add_product(data, indices, indptr, bend, d, db, total):
    """Add ``sum_i bend_i (x_i.d + db) x_i``; return the sum of the factors."""
    factors = 0.0
    for i in range(bend.shape[0]):
        if bend[i] > 0.0:
            u = bend[i] * (dot_row(data, indices, indptr, i, d) + db)
            factors += u
            add_row(data, indices, indptr, i, u, total)
    return factors


@jit
def add_weighted(data, indices, indptr, factors, totals):
    """Add ``factors @ X``, a row for each set of factors."""
    for i in range(factors.shape[1]):
        for k in range(factors.shape[0]):
            if factors[k, i] != 0.0:
                add_row(data, indices, indptr, i, factors[k, i], totals[k])
