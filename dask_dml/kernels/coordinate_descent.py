"""Coordinate descent on the coefficients of a support vector machine with an L1 penalty.

G.-X. Yuan, K.-W. Chang, C.-J. Hsieh and C.-J. Lin, *A comparison of optimization methods and
software for large-scale L1-regularized linear classification*, Journal of Machine Learning
Research 11 (2010).
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.csr import entries
from dask_dml.kernels.rows import jit

#: Share of the decrease that the slope promises which a step has to bring, and halvings of it.
SUFFICIENT, MAX_HALVINGS = 0.01, 30
#: Curvature of a column, relative to that with all rows, that is none.
NO_CURVATURE = 1e-12


@jit
def l1_sweep(data, indices, indptr, cost, l1, largest, order, skips, w, t):
    """Visit columns once; return the largest violation of the optimality conditions.

    The matrix has a compressed column for each coefficient, and rows that are multiplied with
    their labels; ``t`` is one minus its product with ``w``.  ``largest`` has the columns' sums of
    ``cost`` times squares.  If ``skips``, coefficients that are zero are left alone.
    """
    worst = 0.0
    for j in order:
        if skips and w[j] == 0.0:
            continue
        slope = bend = 0.0
        for at in entries(indptr, j):
            i = np.uint64(indices[at])
            if t[i] > 0.0:
                x = cost[i] * data[at]
                slope -= 2.0 * x * t[i]
                bend += 2.0 * x * data[at]
        bend = max(bend, NO_CURVATURE * largest[j])
        if w[j] == 0.0:
            violation = max(abs(slope) - l1[j], 0.0)
        else:
            violation = abs(slope + np.sign(w[j]) * l1[j])
        if violation == 0.0 or bend == 0.0:
            continue
        worst = max(worst, violation)
        pull = w[j] - slope / bend
        new = np.sign(pull) * max(abs(pull) - l1[j] / bend, 0.0)
        step = new - w[j]
        promised = slope * step + l1[j] * (abs(new) - abs(w[j]))
        for _ in range(MAX_HALVINGS):
            penalty = l1[j] * (abs(w[j] + step) - abs(w[j]))
            change = largest[j] * step * step + slope * step
            if change + penalty > SUFFICIENT * promised:
                # The bound of the loss's change is too coarse.
                change = 0.0
                for at in entries(indptr, j):
                    i = np.uint64(indices[at])
                    old, there = max(t[i], 0.0), max(t[i] - step * data[at], 0.0)
                    change += cost[i] * (there * there - old * old)
            if change + penalty <= SUFFICIENT * promised:
                for at in entries(indptr, j):
                    t[np.uint64(indices[at])] -= step * data[at]
                w[j] += step
                break
            step *= 0.5
            promised *= 0.5
    return worst
