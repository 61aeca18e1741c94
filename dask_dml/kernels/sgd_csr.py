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

Column numbers and positions are looked up as unsigned numbers: Numba then need not ask whether
they count from the end.  Loops over a row's entries are functions of their own: written out inside
a longer one they were compiled to slower code.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.csr import entries
from dask_dml.kernels.rows import (
    MARGIN,
    SCALE,
    WIDTH,
    expect,
    inline,
    jit,
    ordered,
    slope_of_row,
    weight_of_row,
)
from dask_dml.kernels.sgd_rows import (
    CORRECTED,
    CORRECTED_SQUARES,
    difference,
    loss_of_row,
    rate,
)

#: Columns of the table of a problem's coordinates: what a non-zero meets is together.  Changes are
#: gathered times the number of iterates before them, which makes the sum of all iterates from the
#: last one (see `harvest`).  Plain steps on uncentred columns do without the second four.
ITERATE, METRIC, SHRINK, CHANGES, PUSH, MEAN, ANCHOR, THRESHOLD = (
    np.uint64(number) for number in range(8)
)
#: Columns of the table of textbook steps; what is owed and what the average lacks, see `_settle`.
AVERAGE, SEEN, PAID = np.uint64(1), np.uint64(2), np.uint64(3)
#: What textbook coordinates have in common: the scale factor, the threshold that has been owed
#: since the start, and the sum of scale factors since averaging began.
FACTOR, OWED, TOTAL = range(3)

#: Rows between asking for a row and using it.
AHEAD = 12


@inline
def _expect_row(data, indices, indptr, row):
    start, n = indptr[row], indptr[row + 1] - indptr[row]
    expect(data.ctypes.data + start * data.itemsize, n * data.itemsize)
    expect(indices.ctypes.data + start * indices.itemsize, n * indices.itemsize)


@jit
def row_norms(data, indices, indptr, metric, mean, norms):
    """Write the squared norms of the centred rows in the metric: the same in every visit."""
    for row in range(indptr.shape[0] - 1):
        square = 0.0
        for at in entries(indptr, row):
            j = np.uint64(indices[at])
            z = data[at] - mean[j]
            square += z * z * metric[j]
        norms[row] = square


@ordered
def _product(data, indices, indptr, row, table):
    """Return a row's product with the iterate.

    Four sums by hand: what the compiler makes of one, with vectors that are gathered, is slower.
    """
    four = np.uint64(4)
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    at, stop = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
    for _ in range((stop - at) // four):
        second_at, third_at, fourth_at = at + np.uint64(1), at + np.uint64(2), at + np.uint64(3)
        first += data[at] * table[np.uint64(indices[at]), ITERATE]
        second += data[second_at] * table[np.uint64(indices[second_at]), ITERATE]
        third += data[third_at] * table[np.uint64(indices[third_at]), ITERATE]
        fourth += data[fourth_at] * table[np.uint64(indices[fourth_at]), ITERATE]
        at += four
    for rest in range(at, stop):
        first += data[rest] * table[np.uint64(indices[rest]), ITERATE]
    return (first + second) + (third + fourth)


@ordered
def _products(data, indices, indptr, row, table):
    """Return a centred row's products with iterate and anchor."""
    f, r = 0.0, 0.0
    for at in entries(indptr, row):
        j = np.uint64(indices[at])
        z = data[at] - table[j, MEAN]
        f += z * table[j, ITERATE]
        r += z * table[j, ANCHOR]
    return f, r


@ordered
def _move(data, indices, indptr, row, table, step, counted):
    """Take a step along a row; ``counted`` iterates were before it."""
    for at in entries(indptr, row):
        j = np.uint64(indices[at])
        v = table[j, ITERATE]
        u = (v + step * data[at] * table[j, METRIC]) * table[j, SHRINK]
        table[j, ITERATE] = u
        if counted > 0.0:
            table[j, CHANGES] += counted * (u - v)


@ordered
def _push(data, indices, indptr, row, table, step, counted):
    """Take a step along a row as it is, with the fixed gradient."""
    for at in entries(indptr, row):
        j = np.uint64(indices[at])
        v = table[j, ITERATE]
        u = (v + step * data[at] * table[j, METRIC] - table[j, PUSH]) * table[j, SHRINK]
        table[j, ITERATE] = u
        if counted > 0.0:
            table[j, CHANGES] += counted * (u - v)


@ordered
def _move_all(data, indices, indptr, row, table, step, counted, thresholds):
    """Take a step along a centred row, with the fixed gradient and the L1 penalty."""
    for at in entries(indptr, row):
        j = np.uint64(indices[at])
        v = table[j, ITERATE]
        move = step * (data[at] - table[j, MEAN]) * table[j, METRIC] - table[j, PUSH]
        u = (v + move) * table[j, SHRINK]
        if thresholds:
            whole = u + table[j, ANCHOR]
            u = np.copysign(max(abs(whole) - table[j, THRESHOLD], 0.0), whole) - table[j, ANCHOR]
        table[j, ITERATE] = u
        if counted > 0.0:
            table[j, CHANGES] += counted * (u - v)


@jit
def steps(
    data, indices, indptr, norms, y, column, weight, unit, order, first, target_mean, free,
    parameters, kind, batch, lengths, intercepts, lean, thresholds, tables, loss, tail, position,
    counted,
):  # fmt: skip
    """Take one limited step for every ``batch`` rows; return the number of rows visited so far.

    Parameters as of `dask_dml.kernels.sgd_dense.steps`, except for these.

    Parameters
    ----------
    norms : ndarray of shape (n_rows,)
        Squared norms of the rows, see `row_norms`.
    free : float
        Step length of the intercept relative to the common one.
    lengths : ndarray of shape (n_problems,)
        The common step lengths.
    intercepts : ndarray of shape (n_problems, 4)
        Iterate, anchor, fixed gradient and sum of the iterates of the intercepts.
    lean : bool
        Whether rows are as they are, their products with the anchor are of no use, and there is
        no L1 penalty.
    thresholds : bool
        Whether there is an L1 penalty.
    tables : ndarray of shape (n_problems, n_features, 4) or (n_problems, n_features, 8)
        The coordinates.
    counted : int
        Iterates in the sums so far.
    """
    slope, last = np.empty(batch), order.shape[0] - 1
    for start in range(0, order.shape[0], batch):
        size = min(batch, order.shape[0] - start)
        for k in range(size):
            _expect_row(data, indices, indptr, first + order[min(start + k + AHEAD, last)])
        for c in range(tables.shape[0]):
            margin, width = parameters[c, MARGIN], parameters[c, WIDTH]
            scale = parameters[c, SCALE]
            table, intercept, eta = tables[c], intercepts[c], lengths[c]
            curvature = 0.0
            for k in range(size):
                i = first + order[start + k]
                f, r = 0.0, 0.0
                if lean:
                    f = _product(data, indices, indptr, i, table)
                else:
                    f, r = _products(data, indices, indptr, i, table)
                f += intercept[0]
                s = weight_of_row(weight, unit, i)
                curvature += s * (free + norms[i])
                if kind == CORRECTED_SQUARES:
                    # The products with the anchor are not wanted: gradients are linear.
                    slope[k] = -s * scale * f
                    continue
                r = difference(y[i, column[c]], target_mean[c]) - (r + intercept[1])
                slope[k] = s * slope_of_row(r - f, margin, width, scale)
                if kind == CORRECTED:
                    slope[k] -= s * slope_of_row(r, margin, width, scale)
                else:
                    loss[c] += s * loss_of_row(r - f, margin, width, scale)
            length = eta / (1.0 + eta * scale * curvature)
            intercept[0] -= size * eta * free * intercept[2]
            for k in range(size):
                i, step = first + order[start + k], length * slope[k]
                intercept[0] += step * free
                if tables.shape[2] == 4:
                    _move(data, indices, indptr, i, table, step, float(counted))
                elif lean:
                    _push(data, indices, indptr, i, table, step, float(counted))
                else:
                    _move_all(data, indices, indptr, i, table, step, float(counted), thresholds)
            if position >= tail:
                intercept[3] += size * intercept[0]
        counted += size if position >= tail else 0
        position += size
    return position


@jit
def fill(tables, point, plain, fixed, metric, mean, share, lengths, l2, l1):
    """Set the coordinates to where a visit begins; the last four columns only if there are eight.

    Parameters
    ----------
    tables : ndarray of shape (n_problems, n_features, 4) or (n_problems, n_features, 8)
        The coordinates.
    point, fixed : ndarray of shape (n_problems, n_features + 1)
        The point that all start from, and the gradient that every row gets.
    plain : bool
        Whether the point is the first iterate, with no anchor; otherwise it is the anchor, and
        iterates are relative to it.
    metric, mean : ndarray of shape (n_features + 1,), (n_features,)
        Relative step lengths of the coordinates, and what columns are taken relative to.
    share : ndarray of shape (n_features + 1,)
        Share of the rows that have an entry.
    lengths, l2, l1 : ndarray of shape (n_problems,)
        The common step lengths, and the penalties.
    """
    for c in range(tables.shape[0]):
        for j in range(tables.shape[1]):
            # A row does to its coordinates what every row would do to all: as much more as its
            # coordinates are rarer.
            own, each = tables[c, j], 0.0
            if share[j] > 0.0:
                each = lengths[c] * metric[j] / share[j]
            own[ITERATE] = point[c, j] if plain else 0.0
            own[METRIC] = metric[j]
            own[SHRINK] = 1.0 / (1.0 + each * l2[c])
            own[CHANGES] = 0.0
            if tables.shape[2] == 8:
                own[PUSH] = each * fixed[c, j]
                own[MEAN] = mean[j]
                own[ANCHOR] = 0.0 if plain else point[c, j]
                own[THRESHOLD] = each * l1[c]


@jit
def harvest(tables, point, plain, counted, last, mean):
    """Write how far the last iterates, and the means of those counted, are from the point.

    Each change is in all iterates that came after it.
    """
    for c in range(tables.shape[0]):
        for j in range(tables.shape[1]):
            v = tables[c, j, ITERATE] - (point[c, j] if plain else 0.0)
            last[c, j] = v
            mean[c, j] = v - tables[c, j, CHANGES] / counted if counted else v


@inline
def _settle(own, total, owed):
    """Bring a textbook coordinate up to date: what the average lacks, and what it owes."""
    v = own[ITERATE]
    if total > 0.0:
        own[AVERAGE] += v * (total - own[SEEN])
        own[SEEN] = total
    due = owed - own[PAID]
    if due > 0.0:
        v = np.copysign(max(abs(v) - due, 0.0), v)
        own[ITERATE] = v
        own[PAID] = owed
    return v


@jit
def _settled_product(data, indices, indptr, row, table, total, owed):
    f = 0.0
    for at in entries(indptr, row):
        f += data[at] * _settle(table[np.uint64(indices[at])], total, owed)
    return f


@ordered
def _add(data, indices, indptr, row, table, step):
    for at in entries(indptr, row):
        table[np.uint64(indices[at]), ITERATE] += step * data[at]


@jit
def textbook_steps(
    data, indices, indptr, y, column, weight, unit, order, first, free, parameters, batch,
    schedule, intercepts, l2, l1, shared, tables, loss, tail, position,
):  # fmt: skip
    """Take one step for every ``batch`` rows; return the number of rows visited so far.

    Parameters as of `dask_dml.kernels.sgd_dense.steps`, except for these.

    Parameters
    ----------
    free : float
        One, or zero if there is no intercept.
    intercepts : ndarray of shape (n_problems, 2)
        Iterate of the intercepts, and the sum of iterates.
    shared : ndarray of shape (n_problems, 3)
        What all coordinates have in common.
    tables : ndarray of shape (n_problems, n_features, 4)
        The coordinates.  What is still to be done to them, `settle` does.
    """
    slope, last = np.empty(batch), order.shape[0] - 1
    for start in range(0, order.shape[0], batch):
        size = min(batch, order.shape[0] - start)
        for k in range(size):
            _expect_row(data, indices, indptr, first + order[min(start + k + AHEAD, last)])
        for c in range(tables.shape[0]):
            margin, width = parameters[c, MARGIN], parameters[c, WIDTH]
            scale = parameters[c, SCALE]
            table, common, intercept = tables[c], shared[c], intercepts[c]
            eta = rate(schedule[c], position // batch + 1.0)
            factor, owed, total = common[FACTOR], common[OWED], common[TOTAL]
            for k in range(size):
                i = first + order[start + k]
                if total > 0.0 or owed > 0.0:
                    f = _settled_product(data, indices, indptr, i, table, total, owed)
                else:
                    f = _product(data, indices, indptr, i, table)
                r = y[i, column[c]] - (factor * f + intercept[0])
                s = weight_of_row(weight, unit, i)
                slope[k] = s * slope_of_row(r, margin, width, scale)
                loss[c] += s * loss_of_row(r, margin, width, scale)
            common[FACTOR] *= max(1.0 - eta * l2[c], 1e-12)
            factor = common[FACTOR]
            for k in range(size):
                step = eta / size * slope[k]
                intercept[0] += step * free
                _add(data, indices, indptr, first + order[start + k], table, step / factor)
            common[OWED] += eta * l1[c] / factor
            if position >= tail:
                common[TOTAL] += size * factor
                intercept[1] += size * intercept[0]
            if factor < 1e-9:
                _unscale(table, common)
        position += size
    return position


@jit
def _unscale(table, common):
    """Bring all coordinates up to date and the scale factor back to one."""
    for j in range(table.shape[0]):
        _settle(table[j], common[TOTAL], common[OWED])
        table[j, ITERATE] *= common[FACTOR]
        table[j, PAID] = 0.0
    common[OWED] = 0.0
    common[FACTOR] = 1.0


@jit
def settle(tables, shared):
    """Do what `textbook_steps` has put off, for all coordinates."""
    for c in range(tables.shape[0]):
        _unscale(tables[c], shared[c])


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
