"""Steps of stochastic gradient descent over rows of a dense block."""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import MARGIN, SCALE, WIDTH, inline, jit, slope_of_row, weight_of_row
from dask_dml.kernels.sgd_rows import CORRECTED, CORRECTED_SQUARES, ETA0, PLAIN, loss_of_row, rate


@jit
def steps(  # noqa: C901 - one loop over rows; every branch is one of its kinds
    X, y, column, weight, unit, order, first, mean, target_mean, metric, parameters,
    kind, literal, batch, group, schedule, fixed, l2, l1, anchor, iterate, average, loss,
    tail, position,
):  # fmt: skip
    """Take one step for every ``batch`` rows; return the number of rows visited so far.

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
    metric : ndarray of shape (n_features + 1,)
        Step length of every coordinate relative to the schedule's; zero in the last place
        holds the intercept.
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
        Gradient to be added to every row's.
    l2, l1 : ndarray of shape (n_problems,)
        Weights of the penalty.
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
    slope = np.empty(batch)
    free = metric[p]
    push, shrink = np.zeros((n_problems, p + 1)), np.ones((n_problems, p + 1))
    if not literal:
        for c in range(n_problems):
            for j in range(p + 1):
                move = group * schedule[c, ETA0] * metric[j]
                push[c, j] = move * fixed[c, j]
                shrink[c, j] = 1.0 / (1.0 + move * l2[c] if j < p else 1.0)
    for begin in range(0, order.shape[0], group):
        m = min(group, order.shape[0] - begin)
        for c in range(n_problems):
            margin, width = parameters[c, MARGIN], parameters[c, WIDTH]
            scale = parameters[c, SCALE]
            w, base = iterate[c], anchor[c]
            eta = rate(schedule[c], position // batch + 1.0)
            if batch == 1 and not literal:
                loss[c] += _single_rows(
                    X, y, column[c], weight, unit, order[begin : begin + m], first, mean,
                    target_mean[c], metric, parameters[c], kind, eta, base, w,
                )  # fmt: skip
            first_batch = begin if batch > 1 or literal else begin + m
            for start in range(first_batch, begin + m, batch):
                size = min(batch, begin + m - start)
                curvature = total = 0.0
                for k in range(size):
                    i = first + order[start + k]
                    f, square = w[p], free
                    for j in range(p):
                        z = X[i, j] - mean[j]
                        f += z * w[j]
                        square += z * z * metric[j]
                    s = weight_of_row(weight, unit, i)
                    curvature += s * square
                    if kind == CORRECTED_SQUARES:
                        u = -scale * f
                    else:
                        r = y[i, column[c]] - target_mean[c]
                        if kind == CORRECTED:
                            r -= base[p]
                            for j in range(p):
                                r -= (X[i, j] - mean[j]) * base[j]
                        u = slope_of_row(r - f, margin, width, scale)
                        if kind == CORRECTED:
                            u -= slope_of_row(r, margin, width, scale)
                        else:
                            total += s * loss_of_row(r - f, margin, width, scale)
                    slope[k] = s * u
                loss[c] += total
                length = eta / (1.0 + eta * scale * curvature)
                if literal:
                    length = eta / size
                    for j in range(p):
                        w[j] -= eta * metric[j] * (fixed[c, j] + l2[c] * w[j])
                    w[p] -= eta * free * fixed[c, p]
                for k in range(size):
                    i = first + order[start + k]
                    step = length * slope[k]
                    for j in range(p):
                        w[j] += step * ((X[i, j] - mean[j]) * metric[j])
                    w[p] += step * free
            whole = eta if literal else m * eta
            if not literal:
                # The last group may be shorter; the share of its move is as good as exact.
                part = m / group
                for j in range(p + 1):
                    w[j] = (w[j] - part * push[c, j]) * (1.0 - part * (1.0 - shrink[c, j]))
            if l1[c] > 0.0:
                for j in range(p):
                    v = base[j] + w[j]
                    w[j] = np.copysign(max(abs(v) - whole * l1[c] * metric[j], 0.0), v) - base[j]
            if position >= tail:
                for j in range(p + 1):
                    average[c, j] += m * w[j]
        position += m
    return position


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
def _single_rows(
    X, y, column, weight, unit, rows, first, mean, target_mean, metric, parameters, kind, eta,
    base, w,
):  # fmt: skip
    """Take a limited step for each row; return the sum of the losses before (plain) steps.

    The loop of `steps` for the case that time is spent in.  Rows are taken in pairs: the product
    of the two says what the first one's step does to the second one's prediction, so that the
    iterate is read and written once for both.
    """
    margin, width, scale = parameters[MARGIN], parameters[WIDTH], parameters[SCALE]
    p = mean.shape[0]
    free, b, total = metric[p], w[p], 0.0
    n = rows.shape[0]
    for k in range(0, n, 2):
        i = first + rows[k]
        # A last row without a partner is its own, with weight zero.
        other = first + rows[min(k + 1, n - 1)]
        one, two = X[i], X[other]
        weight_one = weight_of_row(weight, unit, i)
        weight_two = weight_of_row(weight, unit, other) if k + 1 < n else 0.0
        f, g, square, square_two, product = b, b, free, free, free
        for j in range(p):
            z, v = one[j] - mean[j], two[j] - mean[j]
            scaled, scaled_two = z * metric[j], v * metric[j]
            f += z * w[j]
            g += v * w[j]
            square += z * scaled
            square_two += v * scaled_two
            product += z * scaled_two
        r = q = 0.0
        if kind != CORRECTED_SQUARES:
            r, q = y[i, column] - target_mean, y[other, column] - target_mean
        if kind == CORRECTED:
            r -= base[p]
            q -= base[p]
            for j in range(p):
                r -= (one[j] - mean[j]) * base[j]
                q -= (two[j] - mean[j]) * base[j]
        s = eta * weight_one
        u = _slope_change(r, f, margin, width, scale, kind)
        step = s * u / (1.0 + s * scale * square)
        g += step * product
        s = eta * weight_two
        u = _slope_change(q, g, margin, width, scale, kind)
        step_two = s * u / (1.0 + s * scale * square_two)
        if kind == PLAIN:
            total += weight_one * loss_of_row(r - f, margin, width, scale)
            total += weight_two * loss_of_row(q - g, margin, width, scale)
        b += (step + step_two) * free
        for j in range(p):
            z = step * (one[j] - mean[j]) + step_two * (two[j] - mean[j])
            w[j] += z * metric[j]
    w[p] = b
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
