"""What one row contributes to a linear support vector machine.

With ``f = x.w + b``, the label ``y`` in {-1, +1} and the violation ``t = 1 - y f`` the losses are
``max(t, 0)`` (hinge) and ``max(t, 0)**2`` (squared hinge).  The hinge's kink is rounded over a
window of some width around ``t = 0``:

    phi(t) = (t + width/2)**2 / (2 width)    where |t| <= width/2,
             max(t, 0)                       elsewhere.

Both are ``scale * a**2 / 2`` of ``a = max(t + shift, 0)`` up to ``a = width`` and linear beyond,
so that there is one kernel.  The slope ``phi'(t)``, times the cost of the row, is its dual
variable ``alpha``.  A window centred on the kink costs, at the same number of rows inside it, a
quarter of the duality gap of one that lies beside it.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import inline, jit

#: Columns of the array of loss parameters, one row per problem.
SHIFT, WIDTH, SCALE, SQUARED = range(4)

#: Columns of the array of sums, one row per problem.  The pairs are of rows with y = -1 and +1:
#: dual variables, their squares over four costs, and support vectors.
SMOOTH, TARGET, SLACK, ALPHA, ALPHA_POSITIVE, SQUARES, SQUARES_POSITIVE, BEND, COUNT = range(9)
COUNT_POSITIVE = 9
#: Sum of the violations of all rows, which is finite only if X is, and number of rows with a
#: curvature.
VIOLATION, BENT = 10, 11
N_SUMS = 12


@inline
def labels_of_rows(y, start, weight, label, cost, sign, costs):
    """Write the labels of some rows and what a violation costs, for one problem.

    Parameters
    ----------
    y : ndarray of shape (n_rows, 1)
        Classes, as numbers.
    start : int
        First row.
    weight : ndarray of shape (n_rows,) or (0,)
        Sample weights; empty where every row weighs one.
    label : float
        The class that is y = +1.
    cost : ndarray of shape (2,)
        Cost of a violation by a row with y = -1 and with y = +1.
    sign, costs : ndarray of shape (n,)
        Receive labels and costs of rows ``start`` to ``start + n``.
    """
    weighted = weight.shape[0] > 0
    for i in range(sign.shape[0]):
        positive = y[start + i, 0] == label
        s = weight[start + i] if weighted else 1.0
        sign[i] = 1.0 if positive else -1.0
        costs[i] = s * (cost[1] if positive else cost[0])


@inline
def bends_of_rows(f, sign, cost, parameters, bend):
    """Write the curvatures ``cost * phi''(t)`` of some rows."""
    shift, width, scale = parameters[SHIFT], parameters[WIDTH], parameters[SCALE]
    for i in range(f.shape[0]):
        a = 1.0 - sign[i] * f[i] + shift
        inner = (a >= 0.0) & (a <= width) & (cost[i] > 0.0)
        bend[i] = scale * cost[i] if inner else 0.0


@inline
def margin_sums(f, sign, cost, parameters, sums, bend):
    """Add the loss sums of some rows of one problem; replace ``f`` by ``alpha * y``.

    ``bend`` receives ``cost * phi''(t)`` unless it is empty.  ``SLACK`` gathers what the width
    costs in the duality gap, ``loss(t) - phi'(t) t >= 0``.
    """
    shift, width, scale = parameters[SHIFT], parameters[WIDTH], parameters[SCALE]
    squared = parameters[SQUARED] > 0.0
    smooth = target = slack = alphas = positive = squares = squares_positive = 0.0
    inside = bent = count = count_positive = violation = 0.0
    n = f.shape[0]
    if bend.shape[0] > 0:
        bends_of_rows(f, sign, cost, parameters, bend)
    for i in range(n):
        t = 1.0 - sign[i] * f[i]
        c = cost[i]
        violation += t
        a = max(t + shift, 0.0)
        short = min(a, width)
        slope = scale * short
        alpha = c * slope
        excess = max(t, 0.0)
        loss = excess * excess if squared else excess
        upper = 0.5 * (1.0 + sign[i])
        smooth += alpha * (a - 0.5 * short)
        target += c * loss
        slack += 0.0 if squared else c * excess - alpha * t
        alphas += alpha
        positive += upper * alpha
        squares += 0.25 * alpha * slope
        squares_positive += upper * 0.25 * alpha * slope
        curved = 1.0 if (a > 0.0) & (a <= width) & (c > 0.0) else 0.0
        inside += c * curved
        bent += curved
        support = 1.0 if alpha > 0.0 else 0.0
        count += support
        count_positive += upper * support
        f[i] = alpha * sign[i]
    sums[SMOOTH] += smooth
    sums[TARGET] += target
    sums[SLACK] += slack
    sums[ALPHA] += alphas - positive
    sums[ALPHA_POSITIVE] += positive
    sums[SQUARES] += squares - squares_positive
    sums[SQUARES_POSITIVE] += squares_positive
    sums[BEND] += scale * inside
    sums[VIOLATION] += violation
    sums[BENT] += bent
    sums[COUNT] += count - count_positive
    sums[COUNT_POSITIVE] += count_positive


@inline
def line_sums(f, z, sign, cost, parameters, grid, line):
    """Add the smoothed loss and its rate of change at ``f + grid[j] * z`` to ``line[j]``."""
    shift, width, scale = parameters[SHIFT], parameters[WIDTH], parameters[SCALE]
    for j in range(grid.shape[0]):
        step = grid[j]
        value = rate = 0.0
        for i in range(f.shape[0]):
            a = max(1.0 - sign[i] * (f[i] + step * z[i]) + shift, 0.0)
            short = min(a, width)
            alpha = cost[i] * scale * short
            value += alpha * (a - 0.5 * short)
            rate -= alpha * sign[i] * z[i]
        line[j, 0] += value
        line[j, 1] += rate


@jit
def group_sums(F, Z, y, start, weight, label, cost, parameters, grid, sums, line, bends):
    """Do what a pass asks with some rows of every problem.

    Parameters
    ----------
    F, Z : ndarray of shape (n_problems, n)
        Margins and, unless empty, their changes along the move; ``F`` is replaced by what the
        rows are to be multiplied with.
    y, start, weight
        As in `labels_of_rows`.
    label : ndarray of shape (n_problems,)
    cost : ndarray of shape (n_problems, 2)
    parameters : ndarray of shape (n_problems, 4)
    grid : ndarray of shape (n_problems, n_steps)
    sums : ndarray of shape (n_problems, 12)
        Added to.
    line : ndarray of shape (n_problems, n_steps, 2)
        Added to.
    bends : ndarray of shape (n_problems, n) or (n_problems, 0)
        Receives the curvatures.
    """
    n_problems, n = F.shape
    sign, costs = np.empty(n), np.empty(n)
    for c in range(n_problems):
        labels_of_rows(y, start, weight, label[c], cost[c], sign, costs)
        if grid.shape[1] > 0:
            line_sums(F[c], Z[c], sign, costs, parameters[c], grid[c], line[c])
        margin_sums(F[c], sign, costs, parameters[c], sums[c], bends[c])
