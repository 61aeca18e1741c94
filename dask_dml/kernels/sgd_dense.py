"""Steps of stochastic gradient descent over rows of a dense block."""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import (
    MARGIN,
    SCALE,
    WIDTH,
    expect,
    inline,
    jit,
    slope_of_row,
    weight_of_row,
)
from dask_dml.kernels.sgd_rows import (
    CORRECTED,
    CORRECTED_SQUARES,
    ETA0,
    PLAIN,
    difference,
    loss_of_row,
    rate,
)

#: Rows between asking for a row and using it.
AHEAD = 24


@jit
def steps(  # noqa: C901 - one loop over rows; every branch is one of its kinds
    X, y, column, weight, unit, order, first, mean, target_mean, scales, free, parameters,
    kind, literal, batch, group, schedule, fixed, l2, l1, anchor, iterate, average, loss,
    tail, position,
):  # fmt: skip
    """Take one step for every ``batch`` rows; return the number of rows visited so far.

    Coordinates are those of scaled columns: a change of ``v`` changes a coefficient by
    ``scales * v``.  The intercept comes last and is not scaled.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        Rows.
    y : ndarray of shape (n_rows, n_outputs)
        Targets.
    column : ndarray of shape (n_problems,)
        Which column of y belongs to which problem.
    weight : ndarray of shape (n_rows,) or (0,)
        Sample weights.
    unit : float
        Factor on all weights that makes their mean one.
    order : ndarray of shape (n,)
        Rows to visit, counted from ``first``.
    mean, target_mean : ndarray of shape (n_features,), (n_problems,)
        What columns and targets are taken relative to.
    scales : ndarray of shape (n_features,)
        What columns are multiplied by: the roots of their relative step lengths.
    free : float
        Relative step length of the intercept; zero holds it.
    parameters : ndarray of shape (n_problems, 7)
        Loss parameters.
    kind : int
        Kind of the steps, see `dask_dml.kernels.sgd_rows`.
    literal : bool
        True takes the step as the textbook has it: the batch's mean gradient, then the length of
        the schedule.  False limits a step to what the curvature of its rows allows (the implicit
        step of squared error), so that no row, however large, can make the iterate diverge.
    batch, group : int
        Rows of a step; rows (a multiple) after which the penalty and ``fixed`` are applied.
    schedule : ndarray of shape (n_problems, 5)
        Step lengths.
    fixed : ndarray of shape (n_problems, n_features + 1)
        Gradient to be added to every row's, for coefficients.
    l2, l1 : ndarray of shape (n_problems,)
        Weights of the penalty of the coefficients.
    anchor : ndarray of shape (n_problems, n_features + 1)
        Point that corrected steps are relative to; zero for plain ones.
    iterate : ndarray of shape (n_problems, n_features + 1)
        Changed in place; relative to the anchor.
    average : ndarray of shape (n_problems, n_features + 1)
        Sum of the iterates after each row; added to once ``position`` has reached ``tail``.
    loss : ndarray of shape (n_problems,)
        Sum of the losses before each (plain) step; added to.
    tail, position : int
        Rows visited before averaging begins, and before this call.
    """
    n_problems, p = iterate.shape[0], X.shape[1]
    slope, tile = np.empty(batch), np.empty((group, p))
    targets, weights = np.empty((n_problems, group)), np.empty(group)
    push, shrink = np.zeros((n_problems, p + 1)), np.ones((n_problems, p + 1))
    for c in range(n_problems):
        move = group * schedule[c, ETA0]
        for j in range(p):
            push[c, j] = move * scales[j] * fixed[c, j]
            shrink[c, j] = 1.0 / (1.0 + move * scales[j] * scales[j] * l2[c])
        push[c, p] = move * free * fixed[c, p]
    for begin in range(0, order.shape[0], group):
        rows = order[begin : begin + group]
        m = rows.shape[0]
        _gather(X, order, begin, first, mean, scales, tile[:m])
        for k in range(m):
            weights[k] = weight_of_row(weight, unit, first + rows[k])
        for c in range(n_problems):
            for k in range(m):
                targets[c, k] = difference(y[first + rows[k], column[c]], target_mean[c])
        for c in range(n_problems):
            margin, width = parameters[c, MARGIN], parameters[c, WIDTH]
            scale = parameters[c, SCALE]
            v, base = iterate[c], anchor[c]
            eta = rate(schedule[c], position // batch + 1.0)
            if batch == 1 and not literal:
                loss[c] += _single_rows(
                    tile[:m], targets[c], weights, free, parameters[c], kind, eta, base, v
                )
            first_batch = 0 if batch > 1 or literal else m
            for start in range(first_batch, m, batch):
                size = min(batch, m - start)
                curvature = total = 0.0
                for k in range(size):
                    x, s, r = tile[start + k], weights[start + k], targets[c, start + k]
                    f, square = v[p], free
                    for j in range(p):
                        f += x[j] * v[j]
                        square += x[j] * x[j]
                    curvature += s * square
                    if kind == CORRECTED:
                        r -= _product(x, base)
                    if kind == PLAIN:
                        total += s * loss_of_row(r - f, margin, width, scale)
                    slope[k] = s * _slope_change(r, f, margin, width, scale, kind)
                loss[c] += total
                length = eta / (1.0 + eta * scale * curvature)
                if literal:
                    length = eta / size
                    for j in range(p):
                        own = scales[j] * (fixed[c, j] + l2[c] * scales[j] * v[j])
                        v[j] -= eta * own
                    v[p] -= eta * free * fixed[c, p]
                for k in range(size):
                    x, step = tile[start + k], length * slope[k]
                    for j in range(p):
                        v[j] += step * x[j]
                    v[p] += step * free
            whole = eta if literal else m * eta
            if not literal:
                # The last group may be shorter; the share of its move is as good as exact.
                part = m / group
                for j in range(p + 1):
                    v[j] = (v[j] - part * push[c, j]) * (1.0 - part * (1.0 - shrink[c, j]))
            if l1[c] > 0.0:
                for j in range(p):
                    u = base[j] + v[j]
                    due = whole * l1[c] * scales[j]
                    v[j] = np.copysign(max(abs(u) - due, 0.0), u) - base[j]
            if position >= tail:
                for j in range(p + 1):
                    average[c, j] += m * v[j]
        position += m
    return position


@inline
def _gather(X, order, begin, first, mean, scales, tile):
    """Copy the next rows, centred and scaled, to where all problems find them in cache."""
    last = order.shape[0] - 1
    for k in range(tile.shape[0]):
        ahead = first + order[min(begin + k + AHEAD, last)]
        expect(X.ctypes.data + ahead * X.strides[0], X.strides[0])
        row, x = X[first + order[begin + k]], tile[k]
        for j in range(tile.shape[1]):
            x[j] = (row[j] - mean[j]) * scales[j]


@inline
def _product(x, point):
    """Return the prediction for a row at a point, intercept last."""
    f = point[x.shape[0]]
    for j in range(x.shape[0]):
        f += x[j] * point[j]
    return f


@inline
def _slope_change(r, f, margin, width, scale, kind):
    """Return what pulls a row: its slope, or the change of it since the anchor."""
    if kind == CORRECTED_SQUARES:
        return -scale * f
    u = slope_of_row(r - f, margin, width, scale)
    if kind == CORRECTED:
        u -= slope_of_row(r, margin, width, scale)
    return u


@jit
def _single_rows(tile, targets, weights, free, parameters, kind, eta, base, v):
    """Take a limited step for each row; return the sum of the losses before (plain) steps.

    The loop of `steps` for the case that time is spent in.  Rows are taken in pairs: the product
    of the two says what the first one's step does to the second one's prediction, so that the
    iterate is read and written once for both.
    """
    margin, width, scale = parameters[MARGIN], parameters[WIDTH], parameters[SCALE]
    n, p = tile.shape
    b, total = v[p], 0.0
    for k in range(0, n, 2):
        # A last row without a partner is its own, with weight zero.
        partner = min(k + 1, n - 1)
        one, two = tile[k], tile[partner]
        weight_one = weights[k]
        weight_two = weights[partner] if k + 1 < n else 0.0
        f, g, square, square_two, product = b, b, free, free, free
        for j in range(p):
            f += one[j] * v[j]
            g += two[j] * v[j]
            square += one[j] * one[j]
            square_two += two[j] * two[j]
            product += one[j] * two[j]
        r, q = targets[k], targets[partner]
        if kind == CORRECTED:
            r -= _product(one, base)
            q -= _product(two, base)
        s = eta * weight_one
        step = s * _slope_change(r, f, margin, width, scale, kind) / (1.0 + s * scale * square)
        g += step * product
        s = eta * weight_two
        step_two = s * _slope_change(q, g, margin, width, scale, kind)
        step_two /= 1.0 + s * scale * square_two
        if kind == PLAIN:
            total += weight_one * loss_of_row(r - f, margin, width, scale)
            total += weight_two * loss_of_row(q - g, margin, width, scale)
        b += (step + step_two) * free
        for j in range(p):
            v[j] += step * one[j] + step_two * two[j]
    v[p] = b
    return total


@jit
def copy_rows(X, rows, places, out):
    """Copy rows of X to the given places of ``out``."""
    for k in range(rows.shape[0]):
        for j in range(X.shape[1]):
            out[places[k], j] = X[rows[k], j]


@jit
def survey(X, y, weight, unit, shift, target_shift, sums, squares, fourths, cross):
    """Add weighted sums of ``x - shift``, its powers and its products with the targets."""
    n, p = X.shape
    n_outputs = y.shape[1]
    part, part_squares, part_fourths = np.zeros(p), np.zeros(p), np.zeros(p)
    part_cross = np.zeros((n_outputs, p))
    group = 512
    for begin in range(0, n, group):
        # Some hundred rows are summed apart first: rounding grows with the number of groups.
        part[:] = 0.0
        part_squares[:] = 0.0
        part_fourths[:] = 0.0
        part_cross[:] = 0.0
        for i in range(begin, min(begin + group, n)):
            s = weight_of_row(weight, unit, i)
            x = X[i]
            t = s * (y[i, 0] - target_shift[0])
            for j in range(p):
                v = x[j] - shift[j]
                square = s * v * v
                part[j] += s * v
                part_squares[j] += square
                part_fourths[j] += square * v * v
                part_cross[0, j] += t * v
            for c in range(1, n_outputs):
                t = s * (y[i, c] - target_shift[c])
                for j in range(p):
                    part_cross[c, j] += t * (x[j] - shift[j])
        sums += part
        squares += part_squares
        fourths += part_fourths
        cross += part_cross
