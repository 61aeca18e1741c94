"""Exact minimisation of a quadratic plus an elastic net, in the memory of one process.

The solvers that know second moments or a Hessian reduce every step to

    min_z  z'Bz/2 - c'z + sum_j l1_j |z_j| + l2_j z_j**2 / 2.

Coordinate descent (Friedman, Hastie and Tibshirani, 2010) finds the support; a linear system on
it then gives the digits.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from dask_dml.kernels.rows import jit

#: Rounds of fifty sweeps of coordinate descent, and changes of the support after them.
_MAX_DESCENTS = 200
_MAX_CHANGES = 100


def symmetric(lower: np.ndarray) -> np.ndarray:
    """Return the symmetric matrix with the given lower triangle."""
    full = np.tril(lower)
    return full + np.tril(lower, -1).T


def condition(B: np.ndarray, l2: np.ndarray) -> float:
    """Return the condition number of ``B + diag(l2)`` after its diagonal is scaled to one."""
    scale = _scale(B, l2)
    values = np.linalg.eigvalsh(_scaled(B, l2, scale))
    return float(values[-1] / values[0]) if values[0] > 0.0 else np.inf


def minimise_quadratic(
    B: np.ndarray, c: np.ndarray, l1: np.ndarray, l2: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return the minimiser.

    Parameters
    ----------
    B : ndarray of shape (n, n)
        Symmetric, positive semi-definite.
    c : ndarray of shape (n,)
        Linear term.
    l1, l2 : ndarray of shape (n,)
        Weights of the penalty, coordinate by coordinate.
    start : ndarray of shape (n,)
        Where coordinate descent begins.

    Returns
    -------
    z : ndarray of shape (n,)
        The minimiser; one of them where there are several.
    """
    if not np.any(l1):
        return solve_smooth(B, c, l2)
    z = start.astype(np.float64, copy=True)
    tolerance = 1e-13 * max(float(np.abs(c).max(initial=0.0)), float(l1.max()))
    support: np.ndarray | None = None
    for _ in range(_MAX_DESCENTS):
        violation = _descend(B, c, l1, l2, z, 50, tolerance)
        nonzero = z != 0.0
        if violation <= tolerance or (support is not None and np.array_equal(nonzero, support)):
            exact = _finish_exactly(B, c, l1, l2, z)
            if exact is not None:
                return exact
            if violation <= tolerance:
                break
        support = nonzero
    return z


def solve_smooth(
    B: np.ndarray, c: np.ndarray, l2: np.ndarray, tiny: float | None = None
) -> np.ndarray:
    """Solve ``(B + diag(l2)) z = c`` for one or several right-hand sides.

    Directions in which the scaled matrix has no more than ``tiny`` of its largest eigenvalue, by
    default rounding, are left at zero.
    """
    pivot = 1e-7 if tiny is None else tiny**0.5
    scale = _scale(B, l2)
    matrix = _scaled(B, l2, scale)
    right = (c.T * scale).T
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
        if np.min(np.abs(np.diagonal(factor[0])), initial=np.inf) > pivot:
            z = scipy.linalg.cho_solve(factor, right, check_finite=False)
            return (z.T * scale).T
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(matrix)
    tiny = len(values) * np.finfo(np.float64).eps if tiny is None else tiny
    keep = values > tiny * max(values[-1], 0.0)
    kept = vectors[:, keep]
    z = kept @ ((kept.T @ right).T / values[keep]).T
    return (z.T * scale).T


def _scale(B: np.ndarray, l2: np.ndarray) -> np.ndarray:
    diagonal = np.diagonal(B) + l2
    return 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))


def _scaled(B: np.ndarray, l2: np.ndarray, scale: np.ndarray) -> np.ndarray:
    matrix = B * scale * scale[:, None]
    matrix[np.diag_indices_from(matrix)] += l2 * scale**2
    return matrix


def _finish_exactly(
    B: np.ndarray, c: np.ndarray, l1: np.ndarray, l2: np.ndarray, z: np.ndarray
) -> np.ndarray | None:
    """Go on by an active-set method from a point near the minimiser; None if it takes long.

    Among the points with given signs the minimiser solves a linear system.  On the way to it a
    coefficient that would change its sign stops at zero and leaves; at it the coefficient that
    violates its optimality condition most enters.  The objective falls with every move.
    """
    z = z.copy()
    sign = np.sign(z)
    magnitude = np.abs(B)
    for _ in range(_MAX_CHANGES):
        chosen = np.flatnonzero((sign != 0.0) | (l1 == 0.0))
        move = np.zeros_like(z)
        slope = B @ z - c + l2 * z + l1 * sign
        move[chosen] = -solve_smooth(B[np.ix_(chosen, chosen)], slope[chosen], l2[chosen])
        if _stop_at_zero(z, sign, l1, move, 1.0):
            continue
        z += move
        slope = B @ z - c + l2 * z
        rounding = 1e-11 * (magnitude @ np.abs(z) + np.abs(c) + l1)
        rest = (slope + l1 * sign)[chosen]
        if np.any(np.abs(rest) > 100.0 * rounding[chosen]):
            # A singular system without a solution: along what is left of the slope the objective
            # falls, and does not bend, until a coefficient meets zero.
            move = np.zeros_like(z)
            scale = _scale(B[np.ix_(chosen, chosen)], l2[chosen])
            move[chosen] = -(scale**2) * rest
            if _stop_at_zero(z, sign, l1, move, np.inf):
                continue
            return None
        excess = np.where(sign == 0.0, np.abs(slope) - l1 - rounding, -np.inf)
        excess[chosen] = -np.inf
        entering = int(np.argmax(excess))
        if not excess[entering] > 0.0:
            return z
        sign[entering] = -np.sign(slope[entering])
    return None


def _stop_at_zero(
    z: np.ndarray, sign: np.ndarray, l1: np.ndarray, move: np.ndarray, longest: float
) -> bool:
    """Move ``z`` to where the first coefficient changes its sign, if any does; it leaves there."""
    at_risk = np.flatnonzero((move * sign < 0.0) & (l1 > 0.0))
    reach = np.abs(z[at_risk]) / np.abs(move[at_risk])
    first = float(reach.min(initial=np.inf))
    if first >= longest:
        return False
    z += first * move
    gone = at_risk[reach <= first * (1.0 + 1e-12)]
    z[gone] = sign[gone] = 0.0
    return True


@jit
def _descend(
    B: np.ndarray,
    c: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    z: np.ndarray,
    n_sweeps: int,
    tolerance: float,
) -> float:
    """Run sweeps of coordinate descent on ``z``; return the violation of the last full one."""
    n = z.shape[0]
    slope = -c.copy()
    for j in range(n):
        if z[j] != 0.0:
            for i in range(n):
                slope[i] += B[j, i] * z[j]
    violation = np.inf
    for sweep in range(n_sweeps):
        full = sweep % 5 == 0
        worst = 0.0
        for j in range(n):
            if not full and z[j] == 0.0:
                continue
            bend = B[j, j] + l2[j]
            if bend <= 0.0:
                continue
            pull = B[j, j] * z[j] - slope[j]
            new = np.sign(pull) * max(abs(pull) - l1[j], 0.0) / bend
            step = new - z[j]
            if step != 0.0:
                worst = max(worst, abs(step) * bend)
                z[j] = new
                for i in range(n):
                    slope[i] += B[j, i] * step
        if full:
            violation = worst
            if worst <= tolerance:
                break
    return violation
