"""Steps of an interior-point method on the rows of a regression: what a row's two sides add.

The variables are those of `dask_dml.passes.residual_interior`, of shape (2, n_rows): the side of
positive residuals first.  Where the loss's slope is unbounded there is no ``room`` and no
``excess``: infinity and zero.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import (
    CURVATURE,
    DUAL,
    DUAL_ABS,
    DUAL_EXCESS,
    DUAL_SQUARE,
    RESIDUAL,
    SLACK,
    TARGET_VALUE,
    inline,
    jit,
)

#: Parameters of a loss: residuals up to this size cost nothing; the slopes beyond, of positive and
#: of negative residuals; what a slope's square adds to an excess's cost, doubled.
MARGIN, ABOVE, BELOW, INVERSE = range(4)


@inline
def _side(k, i, residual, margin, ease, alpha, slack, room, excess):
    """Return a side's sign, its weight in the system, and how far its excess is off."""
    sign = 1.0 - 2.0 * k
    a, s, e = alpha[k, i], slack[k, i], excess[k, i]
    weight = 1.0 / (s / a + ease + e / room[k, i])
    return sign, weight, sign * residual - margin - e - ease * a + s


@jit
def look(residual, cost, loss, alpha, slack, room, excess, slopes, uncentred, weights, sums):
    """Write what the next system is made of, and add the loss sums at the variables' slopes.

    Parameters
    ----------
    residual, cost : ndarray of shape (n_rows,)
        Residuals, and weights.
    loss : ndarray of shape (4,)
        Parameters.
    alpha, slack, room, excess : ndarray of shape (2, n_rows)
        The variables.
    slopes, uncentred, weights : ndarray of shape (n_rows,)
        Receive the weighted slopes, what the step without a centre is made of, and the weights in
        the system.
    sums : ndarray of shape (9,)
        Added to; see `dask_dml.kernels.rows`.

    Returns
    -------
    products : float
        Sum of the products that the central path makes equal.
    """
    margin, inverse = loss[MARGIN], loss[INVERSE]
    steepest = 0.5 * (loss[ABOVE] + loss[BELOW])
    bounded = loss[ABOVE] < np.inf  # `isfinite` does not survive reassociation
    tilt = 0.5 * (loss[ABOVE] - loss[BELOW]) if bounded else 0.0
    reach = inverse * steepest if bounded else np.inf
    products = value = gap = dual = dual_abs = dual_square = dual_excess = total = bend = 0.0
    for i in range(residual.shape[0]):
        r, s = residual[i], cost[i]
        both = without = 0.0
        for k in range(2):
            sign, weight, left = _side(k, i, r, margin, inverse / s, alpha, slack, room, excess)
            both += weight
            without += sign * weight * (left - slack[k, i] + excess[k, i])
            products += alpha[k, i] * slack[k, i]
            if bounded:
                products += room[k, i] * excess[k, i]
        net = alpha[0, i] - alpha[1, i]
        slopes[i], uncentred[i], weights[i] = net, without, both
        u = min(max(net / s - tilt, -steepest), steepest)
        beyond = max(abs(r) - margin, 0.0)
        if inverse > 0.0:
            short = min(beyond, reach)
            cost_of_row = short * (beyond - 0.5 * short) / inverse
        else:
            cost_of_row = steepest * beyond
        product = u * r - margin * abs(u)
        value += s * cost_of_row
        gap += s * (cost_of_row + 0.5 * inverse * u * u - product)
        dual += s * u
        dual_abs += s * abs(u)
        dual_square += s * u * u
        dual_excess += s * product
        total += s * r
        bend += both
    sums[TARGET_VALUE] += value
    sums[SLACK] += gap
    sums[DUAL] += dual
    sums[DUAL_ABS] += dual_abs
    sums[DUAL_SQUARE] += dual_square
    sums[DUAL_EXCESS] += dual_excess
    sums[RESIDUAL] += total
    sums[CURVATURE] += bend
    return products


@jit
def predict(
    residual, move, cost, loss, alpha, slack, room, excess,
    of_slack, of_excess, centred, corrected,
):  # fmt: skip
    """Take the step without a centre that predictions change by ``move`` in, and judge it.

    Parameters
    ----------
    residual, cost, loss, alpha, slack, room, excess
        As for `look`.
    move : ndarray of shape (n_rows,)
        Change of the predictions.
    of_slack, of_excess : ndarray of shape (2, n_rows)
        Receive the products of the directions: alpha's with the slack's, and the room's with the
        excess's.
    centred, corrected : ndarray of shape (n_rows,)
        Receive what a centre of one, and what the correction, add to what the step is made of.

    Returns
    -------
    first, second : float
        Coefficients of the products' sum along the direction.
    rate : float
        One over how far along it all variables stay positive.
    """
    margin, inverse = loss[MARGIN], loss[INVERSE]
    bounded = loss[ABOVE] < np.inf
    first = second = rate = 0.0
    for i in range(residual.shape[0]):
        with_centre = correction = 0.0
        for k in range(2):
            sign, weight, left = _side(
                k, i, residual[i], margin, inverse / cost[i], alpha, slack, room, excess
            )
            a, s, o, e = alpha[k, i], slack[k, i], room[k, i], excess[k, i]
            d_alpha = weight * (left - s + e - sign * move[i])
            d_slack = -s - s / a * d_alpha
            d_excess = e / o * d_alpha - e
            of_slack[k, i], of_excess[k, i] = d_alpha * d_slack, -d_alpha * d_excess
            first += s * d_alpha + a * d_slack
            second += d_alpha * d_slack - d_alpha * d_excess
            rate = max(rate, -d_alpha / a, -d_slack / s)
            if bounded:
                first += o * d_excess - e * d_alpha
                rate = max(rate, d_alpha / o, -d_excess / e)
            with_centre += sign * weight * (1.0 / a - 1.0 / o)
            correction += sign * weight * (of_excess[k, i] / o - of_slack[k, i] / a)
        centred[i], corrected[i] = with_centre, correction
    return first, second, rate


@jit
def direct(
    residual, move, cost, loss, alpha, slack, room, excess,
    of_slack, of_excess, centre, d_alpha, d_slack, d_excess,
):  # fmt: skip
    """Write the directions that predictions change by ``move`` in, towards a centre.

    Parameters
    ----------
    residual, cost, loss, alpha, slack, room, excess
        As for `look`.
    move, of_slack, of_excess
        As for `predict`; the products are taken off.
    centre : float
        What the products of the variables shall be.
    d_alpha, d_slack, d_excess : ndarray of shape (2, n_rows)
        Receive the directions.

    Returns
    -------
    rate : float
        One over how far along them all variables stay positive.
    """
    margin, inverse = loss[MARGIN], loss[INVERSE]
    bounded = loss[ABOVE] < np.inf
    rate = 0.0
    for i in range(residual.shape[0]):
        for k in range(2):
            sign, weight, left = _side(
                k, i, residual[i], margin, inverse / cost[i], alpha, slack, room, excess
            )
            a, s, o, e = alpha[k, i], slack[k, i], room[k, i], excess[k, i]
            wanted = centre - a * s - of_slack[k, i]
            other = centre - o * e - of_excess[k, i] if bounded else 0.0
            d = weight * (left + wanted / a - other / o - sign * move[i])
            d_alpha[k, i] = d
            d_slack[k, i] = (wanted - s * d) / a
            d_excess[k, i] = (other + e * d) / o
            rate = max(rate, -d / a, -d_slack[k, i] / s)
            if bounded:
                rate = max(rate, d / o, -d_excess[k, i] / e)
    return rate
