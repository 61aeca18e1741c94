"""Dual variables of the rows of a block that take little room: most of them lie at a bound.

A place says for each row whether its dual variable is zero, its cost, a value of its own, or what
it was before; values of their own stand one after the other.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import exact, inline

#: Places of a dual variable.
AT_ZERO, AT_COST, BETWEEN, AS_BEFORE = range(4)


@inline
def cost_of_row(sign, cost, weight, i):
    """Return the cost of a violation by row ``i``.

    Parameters
    ----------
    sign : ndarray of shape (n_rows,)
        Labels, -1 and 1.
    cost : ndarray of shape (2,)
        Cost of a violation by a row with y = -1 and with y = +1.
    weight : ndarray of shape (n_rows,) or (0,)
        Sample weights; empty where every row weighs one.
    i : int
        The row.
    """
    # Looked up, as classes come in no order that a processor could foresee.
    unit = cost[np.uint64(sign[i] > 0)]
    if weight.shape[0] == 0:
        return unit
    return weight[i] * unit


@exact
def places(alpha, sign, cost, weight, place):
    """Write the places of dual variables; return how many have values of their own."""
    n_between = 0
    for i in range(alpha.shape[0]):
        at_zero = alpha[i] == 0.0
        at_cost = alpha[i] == cost_of_row(sign, cost, weight, i)
        between = not (at_zero | at_cost)
        place[i] = AT_ZERO if at_zero else (BETWEEN if between else AT_COST)
        n_between += between
    return n_between


@exact
def changed_places(alpha, before, sign, cost, weight, place):
    """Write the places of dual variables that some had before; return how many have own values."""
    n_between = places(alpha, sign, cost, weight, place)
    for i in range(alpha.shape[0]):
        if alpha[i] == before[i]:
            n_between -= place[i] == BETWEEN
            place[i] = AS_BEFORE
    return n_between


@exact
def take_between(alpha, place, between):
    """Write those dual variables that have values of their own."""
    at = 0
    for i in range(alpha.shape[0]):
        if place[i] == BETWEEN:
            between[at] = alpha[i]
            at += 1


@exact
def values(place, between, at, sign, cost, weight, alpha):
    """Write dual variables; ``at`` is the first of their values.  Return the next one."""
    for i in range(alpha.shape[0]):
        c = cost_of_row(sign, cost, weight, i)
        alpha[i] = c * np.float64(place[i] == AT_COST)
        if place[i] == BETWEEN:
            alpha[i] = between[at]
            at += 1
    return at


@exact
def moved(alpha, new, place, share):
    """Move dual variables by a share of the way to new ones."""
    for i in range(alpha.shape[0]):
        if place[i] != AS_BEFORE:
            alpha[i] += share * (new[i] - alpha[i])


@exact
def hold(alpha, sign, cost, weight, rounding):
    """Put dual variables at the bounds that they differ from by rounding only."""
    for i in range(alpha.shape[0]):
        c = cost_of_row(sign, cost, weight, i)
        # No branches: which rows lie where cannot be foreseen.
        a = c if alpha[i] >= (1.0 - rounding) * c else alpha[i]
        alpha[i] = 0.0 if alpha[i] <= rounding * c else a


@exact
def with_cost(sign, cost, weight, rows):
    """List the rows that have a cost; return how many."""
    n = 0
    for i in range(sign.shape[0]):
        if cost_of_row(sign, cost, weight, i) > 0.0:
            rows[n] = i
            n += 1
    return n
