"""Dual coordinate descent on the rows of one block, dense and CSR.

C.-J. Hsieh, K.-W. Chang, C.-J. Lin, S. S. Keerthi and S. Sundararajan, *A dual coordinate descent
method for large-scale linear SVM*, ICML 2008.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.csr import entries
from dask_dml.kernels.dual_values import cost_of_row
from dask_dml.kernels.rows import jit

#: Rows that are shuffled among each other.  Groups are shuffled, too; a full shuffle of the rows
#: would wait for memory at every row.
GROUP = 64


@jit
def dense_margins(X, w, b, f):
    """Write ``X @ w + b``."""
    for i in range(X.shape[0]):
        row = X[i]
        total = 0.0
        for j in range(row.shape[0]):
            total += row[j] * w[j]
        f[i] = total + b


@jit
def sparse_margins(data, indices, indptr, w, b, f):
    """Write ``X @ w + b``."""
    for i in range(f.shape[0]):
        total = 0.0
        for at in entries(indptr, i):
            total += data[at] * w[np.uint64(indices[at])]
        f[i] = total + b


@jit
def dense_norms(X, inverse, norms):
    """Write the squared norms of the rows, in the metric whose inverse is given."""
    for i in range(X.shape[0]):
        total = 0.0
        for j in range(X.shape[1]):
            total += inverse[j] * np.float64(X[i, j]) * X[i, j]
        norms[i] = total


@jit
def sparse_norms(data, indices, indptr, inverse, norms):
    """Write the squared norms of the rows, in the metric whose inverse is given."""
    for i in range(norms.shape[0]):
        total = 0.0
        for at in entries(indptr, i):
            total += inverse[np.uint64(indices[at])] * np.float64(data[at]) * data[at]
        norms[i] = total


@jit
def begin(f, sign, cost, weight, squared, alpha, slack, active):
    """List the rows that are worth a visit.

    Rows whose dual variable lies at a bound, and whose gradient pushes it there by more than
    ``slack``, are shrunk away.  Returns the number of rows in ``active``, the largest violation
    of the optimality conditions, and the sum of the losses.
    """
    n_active = 0
    worst = target = 0.0
    for i in range(f.shape[0]):
        c = cost_of_row(sign, cost, weight, i)
        if c <= 0.0:
            continue
        t = 1.0 - sign[i] * f[i]
        excess = max(t, 0.0)
        target += c * (excess * excess if squared else excess)
        a = alpha[i]
        gradient = -t
        if squared:
            gradient += 0.5 * a / c
        if a <= 0.0:
            if gradient > slack:
                continue
            gradient = min(gradient, 0.0)
        elif a >= c and not squared:
            if gradient < -slack:
                continue
            gradient = max(gradient, 0.0)
        worst = max(worst, abs(gradient))
        active[n_active] = i
        n_active += 1
    return n_active, worst, target


@jit
def _urgency(t, a, c, squared):
    """Return how urgently a dual variable waits for a change; the least goes first.

    First come rows between their bounds, all alike, then those whose gradient pulls them away from
    a bound, then those that are held there, the loosest first; those without a cost never.
    """
    if c <= 0.0:
        return np.inf
    if a <= 0.0:
        return -t
    if a >= c and not squared:
        return t
    return -np.inf


@jit
def dense_survey(X, w, b, sign, cost, weight, squared, alpha, urgency, adds, effect):
    """Write the rows' urgency, and add ``sum_i alpha_i y_i x_i`` to ``effect`` if ``adds``.

    Returns how many are not held at a bound, and the sum of the losses.
    """
    unsure = 0
    target = 0.0
    for i in range(X.shape[0]):
        row = X[i]
        f = 0.0
        for j in range(row.shape[0]):
            f += row[j] * w[j]
        t = 1.0 - sign[i] * (f + b)
        c = cost_of_row(sign, cost, weight, i)
        urgency[i] = _urgency(t, alpha[i], c, squared)
        unsure += urgency[i] < 0.0
        if c > 0.0:
            excess = max(t, 0.0)
            target += c * (excess * excess if squared else excess)
        signed = sign[i] * alpha[i]
        if adds and signed != 0.0:
            for j in range(row.shape[0]):
                effect[j] += signed * row[j]
    return unsure, target


@jit
def sparse_survey(
    data, indices, indptr, w, b, sign, cost, weight, squared, alpha, urgency, adds, effect
):
    """Write and add as `dense_survey`, its twin."""
    unsure = 0
    target = 0.0
    for i in range(urgency.shape[0]):
        f = 0.0
        for at in entries(indptr, i):
            f += data[at] * w[np.uint64(indices[at])]
        t = 1.0 - sign[i] * (f + b)
        c = cost_of_row(sign, cost, weight, i)
        urgency[i] = _urgency(t, alpha[i], c, squared)
        unsure += urgency[i] < 0.0
        if c > 0.0:
            excess = max(t, 0.0)
            target += c * (excess * excess if squared else excess)
        signed = sign[i] * alpha[i]
        if adds and signed != 0.0:
            for at in entries(indptr, i):
                effect[np.uint64(indices[at])] += signed * data[at]
    return unsure, target


@jit
def _shuffle(active, n, state):
    """Shuffle rows inside groups, and return the order of the groups and the new seed."""
    n_groups = (n + GROUP - 1) // GROUP
    groups = np.arange(n_groups)
    for at in range(n_groups - 1, 0, -1):
        state = _next(state)
        other = np.int64(state % np.uint64(at + 1))
        groups[at], groups[other] = groups[other], groups[at]
    for first in range(0, n, GROUP):
        last = min(first + GROUP, n) - 1
        for at in range(last, first, -1):
            state = _next(state)
            other = first + np.int64(state % np.uint64(at - first + 1))
            active[at], active[other] = active[other], active[at]
    return groups, state


@jit
def _next(state):
    """Return the next state of Marsaglia's xorshift generator."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@jit
def _moved(gradient, a, c, norm, squared):
    """Return the new value of a dual variable."""
    if squared:
        bend = norm + 0.5 / c
        return max(a - gradient / bend, 0.0)
    if norm <= 0.0:
        return c if gradient < 0.0 else a
    return min(max(a - gradient / norm, 0.0), c)


@jit
def dense_epochs(
    X, sign, cost, weight, norms, squared, bias, inverse, factor, alpha, active, n, n_epochs, seed,
    w, b,
):  # fmt: skip
    """Visit the active rows of a dense block some times; return the intercept.

    What a violation by a row costs is said by `dask_dml.kernels.dual_values.cost_of_row`.
    ``alpha``, ``w`` and the intercept ``b`` are changed: ``w`` by ``factor * inverse * x_i`` and
    ``b`` by ``factor * bias`` for every unit that ``alpha_i y_i`` grows.  ``norms`` are the
    rows' squared norms without ``factor``, the part of the intercept included.
    """
    state = np.uint64(seed) | np.uint64(1)
    for _ in range(n_epochs):
        groups, state = _shuffle(active, n, state)
        for g in groups:
            for at in range(g * GROUP, min((g + 1) * GROUP, n)):
                i = active[at]
                row = X[i]
                f = 0.0
                for j in range(row.shape[0]):
                    f += row[j] * w[j]
                gradient = sign[i] * (f + b) - 1.0
                c = cost_of_row(sign, cost, weight, i)
                if squared:
                    gradient += 0.5 * alpha[i] / c
                new = _moved(gradient, alpha[i], c, factor * norms[i], squared)
                change = factor * (new - alpha[i]) * sign[i]
                if change != 0.0:
                    alpha[i] = new
                    b += bias * change
                    for j in range(row.shape[0]):
                        w[j] += change * inverse[j] * row[j]
    return b


@jit
def sparse_epochs(
    data, indices, indptr, sign, cost, weight, norms, squared, bias, inverse, factor, alpha, active,
    n, n_epochs, seed, w, b,
):  # fmt: skip
    """Visit the active rows of a CSR block some times; the twin of `dense_epochs`."""
    state = np.uint64(seed) | np.uint64(1)
    for _ in range(n_epochs):
        groups, state = _shuffle(active, n, state)
        for g in groups:
            for at in range(g * GROUP, min((g + 1) * GROUP, n)):
                i = active[at]
                f = 0.0
                for k in entries(indptr, i):
                    f += data[k] * w[np.uint64(indices[k])]
                gradient = sign[i] * (f + b) - 1.0
                c = cost_of_row(sign, cost, weight, i)
                if squared:
                    gradient += 0.5 * alpha[i] / c
                new = _moved(gradient, alpha[i], c, factor * norms[i], squared)
                change = factor * (new - alpha[i]) * sign[i]
                if change != 0.0:
                    alpha[i] = new
                    b += bias * change
                    for k in entries(indptr, i):
                        j = np.uint64(indices[k])
                        w[j] += change * inverse[j] * data[k]
    return b


@jit
def dense_effect(X, signed, effect):
    """Add multiples of the rows of a dense block to ``effect``."""
    for i in range(X.shape[0]):
        if signed[i] != 0.0:
            row = X[i]
            for j in range(row.shape[0]):
                effect[j] += signed[i] * row[j]


@jit
def sparse_effect(data, indices, indptr, signed, effect):
    """Add multiples of the rows of a CSR block to ``effect``."""
    for i in range(signed.shape[0]):
        if signed[i] != 0.0:
            for at in entries(indptr, i):
                effect[np.uint64(indices[at])] += signed[i] * data[at]
