"""Steps of stochastic gradient descent over rows of a CSR block, at a cost per non-zero.

What every step does to every coordinate is done to a coordinate when a row next meets it, or not
at all until the end:

- textbook steps shrink by the L2 penalty through one scale factor of all coordinates
  (``w = scale * v``), and owe the L1 penalty: soft thresholds add up, so what is owed is taken
  off in one;
- other steps apply the penalty and the fixed gradient to the row's own coordinates only, divided
  by the share of rows that have the coordinate, which is the same in the mean (R. Leblond,
  F. Pedregosa and S. Lacoste-Julien, *ASAGA*, AISTATS 2017; F. Pedregosa et al., *Breaking the
  nonsmooth barrier*, NeurIPS 2017).

Columns are taken relative to a mean only where they have an entry in every row.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import MARGIN, SCALE, WIDTH, inline, jit, slope_of_row, weight_of_row
from dask_dml.kernels.sgd_rows import CORRECTED, CORRECTED_SQUARES, loss_of_row, rate

#: Columns of the array of what all coordinates have in common: the scale factor, the threshold
#: that has been owed since the start, and the sum of scale factors since averaging began.
FACTOR, OWED, TOTAL = range(3)

#: Columns of the table of the coordinates, a cache line each: what a non-zero meets is together.
#: The last of them is the threshold that has been paid of what is owed (textbook steps), or the
#: fixed gradient (other steps).
ITERATE, ANCHOR, AVERAGE, SEEN, MEAN, METRIC, OFTEN, PAID = range(8)
FIXED = PAID


@inline
def _settle(table, j, total, owed, literal):
    """Bring a coordinate up to date: what the average lacks, and what it owes; return it."""
    v = table[j, ITERATE]
    if total > 0.0:
        table[j, AVERAGE] += v * (total - table[j, SEEN])
        table[j, SEEN] = total
    if literal:
        due = owed - table[j, PAID]
        if due > 0.0:
            v = np.copysign(max(abs(v) - due, 0.0), v)
            table[j, ITERATE] = v
            table[j, PAID] = owed
    return v


@jit
def steps(  # noqa: C901 - one loop over rows; every branch is one of its kinds
    data, indices, indptr, place, y, column, weight, unit, order, first, target_mean, free,
    parameters, kind, literal, batch, schedule, intercepts, l2, l1, shared, tables, loss, tail,
    position,
):  # fmt: skip
    """Take one step for every ``batch`` rows; return the number of rows visited so far.

    Parameters as of `dask_dml.kernels.sgd_dense.steps`, except for these.

    Parameters
    ----------
    place : ndarray of int32 of shape (n_features,)
        Row of the tables for every column.
    free : float
        Step length of the intercept relative to the schedule's.
    intercepts : ndarray of shape (n_problems, 4)
        Iterate, anchor, fixed gradient and average of the intercepts.
    shared : ndarray of shape (n_problems, 3)
        What all coordinates have in common.
    tables : ndarray of shape (n_problems, n_columns, 8)
        The coordinates.  What is still to be done to them, `settle` does.
    """
    n_problems = tables.shape[0]
    slope = np.empty(batch)
    for start in range(0, order.shape[0], batch):
        size = min(batch, order.shape[0] - start)
        for c in range(n_problems):
            margin, width = parameters[c, MARGIN], parameters[c, WIDTH]
            scale = parameters[c, SCALE]
            table, common, intercept = tables[c], shared[c], intercepts[c]
            eta = rate(schedule[c], position // batch + 1.0)
            factor, owed, total = common[FACTOR], common[OWED], common[TOTAL]
            curvature = 0.0
            for k in range(size):
                i = first + order[start + k]
                f, r, square = 0.0, intercept[1], free
                for at in range(indptr[i], indptr[i + 1]):
                    j = np.intp(place[indices[at]])
                    v = _settle(table, j, total, owed, literal)
                    z = data[at] - table[j, MEAN]
                    f += z * v
                    r += z * table[j, ANCHOR]
                    square += z * z * table[j, METRIC]
                f = factor * f + intercept[0]
                s = weight_of_row(weight, unit, i)
                curvature += s * square
                if kind == CORRECTED_SQUARES:
                    slope[k] = -s * scale * f
                    continue
                r = y[i, column[c]] - target_mean[c] - r
                slope[k] = s * slope_of_row(r - f, margin, width, scale)
                if kind == CORRECTED:
                    slope[k] -= s * slope_of_row(r, margin, width, scale)
                else:
                    loss[c] += s * loss_of_row(r - f, margin, width, scale)
            length = eta / size
            if literal:
                common[FACTOR] *= max(1.0 - eta * l2[c], 1e-12)
                intercept[0] -= eta * free * intercept[2]
            else:
                length = eta / (1.0 + eta * scale * curvature)
                intercept[0] -= size * eta * free * intercept[2]
            factor = common[FACTOR]
            for k in range(size):
                i = first + order[start + k]
                step = length * slope[k]
                intercept[0] += step * free
                for at in range(indptr[i], indptr[i + 1]):
                    j = np.intp(place[indices[at]])
                    own = table[j, METRIC]
                    v = table[j, ITERATE]
                    move = step * (data[at] - table[j, MEAN]) * own
                    if literal:
                        table[j, ITERATE] = v + move / factor
                        continue
                    each = eta * own * table[j, OFTEN]
                    v = (v + move - each * table[j, FIXED]) / (1.0 + each * l2[c])
                    if l1[c] > 0.0:
                        v += table[j, ANCHOR]
                        v = np.copysign(max(abs(v) - each * l1[c], 0.0), v) - table[j, ANCHOR]
                    table[j, ITERATE] = v
            if literal:
                common[OWED] += eta * l1[c] / factor
            if position >= tail:
                common[TOTAL] += size * factor
                intercept[3] += size * intercept[0]
            if factor < 1e-9:
                _unscale(table, common, literal)
        position += size
    return position


@jit
def _unscale(table, common, literal):
    """Bring all coordinates up to date and the scale factor back to one."""
    for j in range(table.shape[0]):
        _settle(table, j, common[TOTAL], common[OWED], literal)
        table[j, ITERATE] *= common[FACTOR]
        if literal:
            table[j, PAID] = 0.0
    common[OWED] = 0.0
    common[FACTOR] = 1.0


@jit
def settle(tables, shared, literal):
    """Do what `steps` has put off, for all coordinates."""
    for c in range(tables.shape[0]):
        _unscale(tables[c], shared[c], literal)


@jit
def survey(
    data, indices, indptr, y, weight, unit, shift, target_shift, sums, squares, fourths, cross
):
    """Add weighted sums of ``x - shift``, its powers and its products with the targets."""
    n_outputs = y.shape[1]
    for i in range(indptr.shape[0] - 1):
        s = weight_of_row(weight, unit, i)
        for at in range(indptr[i], indptr[i + 1]):
            j = indices[at]
            v = data[at] - shift[j]
            sums[j] += s * v
            squares[j] += s * v * v
            fourths[j] += s * v * v * v * v
            for c in range(n_outputs):
                cross[c, j] += s * v * (y[i, c] - target_shift[c])
