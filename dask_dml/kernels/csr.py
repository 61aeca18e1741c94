"""Passes over a CSR block: the twins of `dask_dml.kernels.dense`, at a cost per non-zero.

Centring is algebra here (``sum u (x - mean) = sum u x - mean sum u``): no entry is ever filled
in.  Columns that have an entry in every row of the block are the ones that can carry a large
offset; the second moments take them relative to their first value, so that no digits are lost.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import (
    exact,
    group_targets,
    group_weights,
    inline,
    jit,
    loss_sums,
    weight_of_row,
)


@inline
def entries(indptr, row):
    """Return the positions of a row's entries.

    Unsigned, as the column numbers should be where they are looked up: Numba then need not ask
    whether they count from the end, and the loop runs three times as fast.
    """
    return range(np.uint64(indptr[row]), np.uint64(indptr[row + 1]))


# The next two are functions of their own because their loops, written out inside a longer
# function, were compiled to code that is two to three times slower.


@jit
def add_row(data, indices, indptr, row, u, total):
    """Add a multiple of a row."""
    for at in entries(indptr, row):
        total[np.uint64(indices[at])] += u * data[at]


@jit
def dot_row(data, indices, indptr, row, w):
    """Return the product of a row with a vector."""
    f = 0.0
    for at in entries(indptr, row):
        f += data[at] * w[np.uint64(indices[at])]
    return f


@jit
def _subtract_predictions(data, indices, indptr, begin, coef, intercept, residual):
    """Subtract the predictions for some rows of several problems."""
    n_problems, size = residual.shape
    if n_problems == 1:
        w = coef.reshape(coef.shape[0])
        for k in range(size):
            residual[0, k] -= intercept[0] + dot_row(data, indices, indptr, begin + k, w)
        return
    f = np.empty(n_problems)
    for k in range(size):
        f[:] = intercept
        for at in entries(indptr, begin + k):
            v, j = data[at], np.uint64(indices[at])
            for c in range(n_problems):
                f[c] += v * coef[j, c]
        for c in range(n_problems):
            residual[c, k] -= f[c]


@jit
def _add_rows(data, indices, indptr, begin, slope, total):
    """Add multiples of some rows to the sums of several problems."""
    n_problems, size = slope.shape
    if n_problems == 1:
        whole = total.reshape(total.shape[0])
        for k in range(size):
            add_row(data, indices, indptr, begin + k, slope[0, k], whole)
        return
    for k in range(size):
        for at in entries(indptr, begin + k):
            v, j = data[at], np.uint64(indices[at])
            for c in range(n_problems):
                total[j, c] += v * slope[c, k]


@jit
def gradient(
    data, indices, indptr, y, column, target_mean, weight, unit, coef, intercept, parameters,
    gradient, sums, bends,
):  # fmt: skip
    """Add loss sums and ``sum_i u_i x_i`` of several problems in one pass.

    ``coef`` and ``gradient`` are transposed, (n_features, n_problems): a non-zero then meets the
    problems side by side in memory.  ``intercept`` belongs to X as it is and the target minus
    its mean.
    ``bends`` (n_problems, n_rows) receives the weighted curvatures unless empty.
    """
    n, n_problems = indptr.shape[0] - 1, coef.shape[1]
    group = 256
    residuals = np.empty((n_problems, group))
    slopes = np.empty((n_problems, group))
    s, none = np.ones(group), np.empty(0)
    for begin in range(0, n, group):
        size = min(group, n - begin)
        residual, slope = residuals[:, :size], slopes[:, :size]
        group_weights(weight, begin, s[:size])
        for c in range(n_problems):
            group_targets(y, begin, column[c], target_mean[c], residual[c])
        _subtract_predictions(data, indices, indptr, begin, coef, intercept, residual)
        for c in range(n_problems):
            bend = bends[c, begin : begin + size] if bends.shape[0] > 0 else none
            loss_sums(residual[c], s[:size], unit, parameters[c], sums[c], slope[c], bend)
        _add_rows(data, indices, indptr, begin, slope, gradient)


@jit
def hessian(data, indices, indptr, bend, total):
    """Add ``sum_i d_i (x_i, 1)(x_i, 1)'`` to the lower triangle of ``total``; d is the bend."""
    p = total.shape[0] - 1
    for i in range(indptr.shape[0] - 1):
        d = bend[i]
        if d > 0.0:
            for at in range(indptr[i], indptr[i + 1]):
                v = d * data[at]
                row = total[indices[at]]
                for other in range(indptr[i], at + 1):
                    row[indices[other]] += v * data[other]
                total[p, indices[at]] += v
            total[p, p] += d


def full_column_shift(X, *more) -> np.ndarray:
    """Return the first value of every column that has an entry in each row, zero elsewhere."""
    p = X.shape[1]
    shift, n_entries = np.zeros(p), np.zeros(p, dtype=np.intp)
    first = X.indices[: X.indptr[1]]
    shift[first] = X.data[: X.indptr[1]]
    for part in (X, *more):
        n_entries += np.bincount(part.indices, minlength=p)
    shift[n_entries < sum(part.shape[0] for part in (X, *more))] = 0.0
    return shift


@jit
def statistics(
    data, indices, indptr, y, weight, unit, shift, target_shift,
    products, cross, target_square, sums, target_sums,
):  # fmt: skip
    """Add the second moments about ``shift`` (lower triangle); return the sum of weights."""
    total = 0.0
    n_outputs = y.shape[1]
    target = np.empty(n_outputs)
    for i in range(indptr.shape[0] - 1):
        s = weight_of_row(weight, unit, i)
        total += s
        for c in range(n_outputs):
            target[c] = y[i, c] - target_shift[c]
            target_sums[c] += s * target[c]
            target_square[c] += s * target[c] * target[c]
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            v = s * (data[at] - shift[j])
            sums[j] += v
            row = products[j]
            for other in range(indptr[i], at + 1):
                row[indices[other]] += v * (data[other] - shift[indices[other]])
            for c in range(n_outputs):
                cross[j, c] += v * target[c]
    return total


@jit
def moments(data, indices, indptr, weight, unit, shift, sums, squares):
    """Add weighted sums of ``x - shift`` and of its square; return the sum of weights."""
    total = 0.0
    for i in range(indptr.shape[0] - 1):
        s = weight_of_row(weight, unit, i)
        total += s
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            v = data[at] - shift[j]
            sums[j] += s * v
            squares[j] += s * v * v
    return total


@exact
def column_moments(data, indices, indptr, weight, origin, entries, missing, totals, means, squares):
    """Add the moments of the columns' entries, leaving NaN out; return two sums over rows.

    ``entries`` counts the entries in rows that weigh something, ``missing`` and ``totals`` are
    the weights of NaN and of other entries, ``means`` are relative to ``origin`` (the first
    entry), and ``squares`` are sums about the means.  Returned are the weight of all rows, and
    how many weigh something.
    """
    weight_sum, counting = 0.0, 0
    for i in range(indptr.shape[0] - 1):
        s = weight_of_row(weight, 1.0, i)
        weight_sum += s
        counting += s > 0.0
        for at in range(indptr[i], indptr[i + 1]):
            j, v = indices[at], data[at]
            entries[j] += s > 0.0
            if v != v:
                missing[j] += s
                continue
            if totals[j] == 0.0 and s > 0.0 and np.isfinite(v):
                origin[j] = v
            totals[j] += s
            means[j] += s * (v - origin[j])
    for j in range(means.shape[0]):
        means[j] = means[j] / totals[j] if totals[j] > 0.0 else means[j]
    for i in range(indptr.shape[0] - 1):
        s = weight_of_row(weight, 1.0, i)
        for at in range(indptr[i], indptr[i + 1]):
            j, v = indices[at], data[at]
            if v == v:
                d = (v - origin[j]) - means[j]
                squares[j] += s * d * d
    return weight_sum, counting
