"""Coordinate descent for an L1 penalty, on rows that have travelled to the driver."""

from __future__ import annotations

import time

import numpy as np
import scipy.sparse as sp

from dask_dml.kernels import margin_rows as at_sums
from dask_dml.kernels.coordinate_descent import l1_sweep
from dask_dml.objective.margins import MarginProblem, dual_bound
from dask_dml.passes.products import WindowRows
from dask_dml.solvers.margin_systems import ridge_of

#: Sweeps between two looks at the gap, of which the first visits columns that are zero, too.
SWEEPS = 5
#: Looks after which the objective has to be lower by this share, and looks in all.
PATIENCE, PROGRESS, MAX_LOOKS = 20, 1e-4, 1000
#: Rows for which an interior point follows, each step of which takes less than a second, and looks
#: before it does.
FEW_ROWS, FEW_LOOKS = 1500, 30


def descend(
    problem: MarginProblem,
    rows: WindowRows,
    tol: float,
    deadline: float,
    seed: int = 0,
) -> np.ndarray:
    """Return coefficients, intercept last, from where coordinate descent makes no more progress.

    Parameters
    ----------
    problem : MarginProblem
        The problem, with the squared hinge and an L1 penalty.
    rows : WindowRows
        All rows that cost anything, as they are at coefficients of zero.
    tol : float
        Relative gap at which to stop.
    deadline : float
        `time.monotonic` value at which to stop.
    seed : int, default=0
        Of the order of the columns.
    """
    X = sp.csr_array(rows.X).astype(np.float64)
    sign, cost = np.sign(rows.residual), 0.5 * rows.bend
    bias = {True: 1.0, False: problem.scaling}[problem.free]
    signed = sp.diags_array(sign) @ X
    whole = sp.csc_array(sp.hstack([signed, sp.csr_array((bias * sign)[:, None])]))
    ridge = ridge_of(problem, X.shape[1])
    l1 = ridge * np.append(np.ones(X.shape[1]), bias)
    largest = np.asarray(whole.multiply(whole).T @ cost).ravel()
    occurring = np.flatnonzero(largest > 0.0)
    z, t = np.zeros(len(l1)), np.ones(len(sign))
    random = np.random.default_rng(seed)
    bound, mark, waiting = 0.0, np.inf, 0
    for _ in range(FEW_LOOKS if len(sign) <= FEW_ROWS else MAX_LOOKS):
        for number in range(SWEEPS):
            order = random.permutation(occurring)
            matrix = whole.data, whole.indices, whole.indptr
            l1_sweep(*matrix, cost, l1, largest, order, number > 0, z, t)
        excess = np.maximum(t, 0.0)
        objective = float(cost @ excess**2 + l1 @ np.abs(z))
        bound = max(bound, _bound(problem, signed, sign, cost, 2.0 * cost * excess))
        if objective - bound <= tol * bound or time.monotonic() > deadline:
            break
        waiting += 1
        if objective < (1.0 - PROGRESS) * mark:
            mark, waiting = objective, 0
        if waiting == PATIENCE:
            break
    z[-1] *= bias
    return z


def _bound(
    problem: MarginProblem, signed: sp.csr_array, sign: np.ndarray, cost: np.ndarray, a: np.ndarray
) -> float:
    """Return the lower bound of the optimum that dual variables give."""
    sums, positive = np.zeros(at_sums.N_SUMS), sign > 0.0
    squares = 0.25 * a**2 / cost
    sums[at_sums.ALPHA], sums[at_sums.ALPHA_POSITIVE] = a[~positive].sum(), a[positive].sum()
    sums[at_sums.SQUARES] = squares[~positive].sum()
    sums[at_sums.SQUARES_POSITIVE] = squares[positive].sum()
    return dual_bound(problem, sums, signed.T @ a, signed.T @ np.where(positive, a, 0.0))[1]
