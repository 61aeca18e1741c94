"""Exact minimisation of a quadratic plus an elastic net, in the memory of one process.

The solvers that know second moments or a Hessian reduce every step to

    min_z  z'Bz/2 - c'z + sum_j l1_j |z_j| + l2_j z_j**2 / 2.

Coordinate descent (Friedman, Hastie and Tibshirani, *Regularization paths for generalized linear
models via coordinate descent*, Journal of Statistical Software 33, 2010) finds the support where
the columns are not too dependent, and an active-set method the digits.  Where descent is slow, as
it is on more columns than rows, the active-set method alone follows the solution from strong L1
penalties to weak ones (Osborne, Presnell and Turlach, *A new approach to variable selection in
least squares problems*, IMA Journal of Numerical Analysis 20, 2000), so that the support is never
much larger than the solution's.
"""

from __future__ import annotations

import math
import time

import numpy as np
import scipy.linalg

from dask_dml.kernels.rows import jit
from dask_dml.solvers.gram import Full, Gram, Matrix

#: Rounds of fifty sweeps of coordinate descent before the penalty is taken down by steps.
_MAX_DESCENTS = 8
#: Linear systems for the exact finish from where descent ended.
_FINISH_BUDGET = 12
#: What the penalty is multiplied by from one step of the path to the next.
_PATH_FACTOR = 0.3
#: Linear systems for the whole path, per coordinate and in any case.
_PATH_BUDGET = (2, 200)
#: Added to the unit diagonal of scaled systems: a step of the proximal point method, so that a
#: singular system has an answer.
_PROXIMAL = 1e-12
#: Curvature along a step, relative to its square, that is rounding.
_NO_CURVATURE = 1e-14
#: Rounding of a slope relative to the sum of its terms' sizes.
_ROUNDING = 4.0 * np.finfo(np.float64).eps
#: Steps on one support that may fail to halve the slope that is left.
_MAX_IDLE = 6
#: Sets of entering coordinates after which the objective may not have fallen.
_MAX_FLAT = 4
#: Rows and columns of a triangle that are copied at a time.
_BLOCK = 128
#: Share of the largest violation from which coordinates enter together.
_ENTER_TOGETHER = 0.3


def symmetric(lower: np.ndarray) -> np.ndarray:
    """Return the symmetric matrix with the given lower triangle."""
    full = lower.copy()
    for start in range(0, len(full), _BLOCK):
        stop = start + _BLOCK
        square = np.tril(full[start:stop, start:stop])
        full[start:stop, start:stop] = square + np.tril(square, -1).T
        full[start:stop, stop:] = full[stop:, start:stop].T
    return full


def condition(B: np.ndarray, l2: np.ndarray, harmless: float = 1.0) -> float:
    """Return the condition number of ``B + diag(l2)`` after its diagonal is scaled to one.

    Parameters
    ----------
    B, l2 : ndarray of shape (n, n), (n,)
        The matrix.
    harmless : float, default=1
        Condition up to which an upper bound will do; it takes a tenth of the eigenvalues' time.
    """
    matrix = Full(B).scaled(_scale(Full(B), l2), l2).array
    bound = _condition_bound(matrix)
    if bound <= harmless or bound == math.inf:
        return bound
    values = np.linalg.eigvalsh(matrix)
    return float(values[-1] / values[0]) if values[0] > 0.0 else math.inf


def condition_bound(B: np.ndarray, l2: np.ndarray) -> float:
    """Return what the number of `condition` hardly ever exceeds, in a tenth of its time."""
    return _condition_bound(Full(B).scaled(_scale(Full(B), l2), l2).array)


def _condition_bound(matrix: np.ndarray) -> float:
    factor, failed = scipy.linalg.lapack.dpotrf(matrix, lower=1, clean=0)
    if failed:
        return math.inf
    norm = float(np.abs(matrix).sum(axis=0).max(initial=0.0))
    inverse, _ = scipy.linalg.lapack.dpocon(factor, norm, uplo="L")
    # LAPACK's estimate is from below, and rarely by a factor of three.
    return float(3.0 / inverse) if inverse > 0.0 else np.finfo(np.float64).max


def minimise_quadratic(
    B: np.ndarray | Gram,
    c: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    start: np.ndarray,
    deadline: float = math.inf,
) -> np.ndarray:
    """Return the minimiser.

    Parameters
    ----------
    B : ndarray of shape (n, n) or Gram
        Symmetric, positive semi-definite.
    c : ndarray of shape (n,)
        Linear term.
    l1, l2 : ndarray of shape (n,)
        Weights of the penalty, coordinate by coordinate.
    start : ndarray of shape (n,)
        Where coordinate descent begins.
    deadline : float, default=inf
        `time.monotonic` value after which no further linear system is solved.

    Returns
    -------
    z : ndarray of shape (n,)
        The minimiser; one of them where there are several.  The best point found where the
        deadline passed before.
    """
    matrix = B if isinstance(B, Gram) else Full(B)
    z, problem = _by_descent(matrix, c, l1, l2, start, deadline)
    if problem is not None and time.monotonic() <= deadline:
        problem.follow_path()
        z = min(z, problem.solution(), key=lambda at: _value(matrix, c, l1, l2, at))
    return z


def try_quadratic(
    B: np.ndarray,
    c: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    start: np.ndarray,
    deadline: float = math.inf,
) -> tuple[np.ndarray, bool]:
    """Return the point that coordinate descent ends at, and whether it is the minimiser.

    Parameters are those of `minimise_quadratic`, which does not give up so soon.
    """
    z, problem = _by_descent(Full(B), c, l1, l2, start, deadline)
    return z, problem is None


def _by_descent(
    matrix: Matrix,
    c: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    start: np.ndarray,
    deadline: float,
) -> tuple[np.ndarray, _Scaled | None]:
    """Return a point, and what goes on from there where it is not the minimiser."""
    if not np.any(l1):
        return solve_smooth(matrix.block(np.arange(len(c))), c, l2), None
    z = start.astype(np.float64, copy=True)
    tolerance = 1e-13 * max(float(np.abs(c).max(initial=0.0)), float(l1.max()))
    problem = _Scaled(matrix, c, l1, l2, deadline)
    support: np.ndarray | None = None
    for _ in range(_MAX_DESCENTS):
        violation = matrix.sweep(c, l1, l2, z, 50, tolerance)
        nonzero = z != 0.0
        if violation <= tolerance or (support is not None and np.array_equal(nonzero, support)):
            if problem.finish(z, _FINISH_BUDGET):
                return problem.solution(), None
            break
        if time.monotonic() > deadline:
            break
        support = nonzero
    return z, problem


def _value(B: Matrix, c: np.ndarray, l1: np.ndarray, l2: np.ndarray, z: np.ndarray) -> float:
    return float(z @ (0.5 * B.dot(z) - c) + l1 @ np.abs(z) + 0.5 * (l2 @ z**2))


def solve_smooth(
    B: np.ndarray, c: np.ndarray, l2: np.ndarray, tiny: float | None = None
) -> np.ndarray:
    """Solve ``(B + diag(l2)) z = c`` for one or several right-hand sides.

    Of a singular system, whose pivots fall to ``tiny`` of the scaled matrix's diagonal, by default
    to rounding, the shortest solution in scaled coordinates.
    """
    pivot = 1e-7 if tiny is None else tiny**0.5
    scale = _scale(Full(B), l2)
    matrix = Full(B).scaled(scale, l2).array
    right = (c.T * scale).T
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
        if np.min(np.abs(np.diagonal(factor[0])), initial=np.inf) > pivot:
            z = scipy.linalg.cho_solve(factor, right, check_finite=False)
            return (z.T * scale).T
    except np.linalg.LinAlgError:
        pass
    return (_shortest(matrix, right, tiny).T * scale).T


def _shortest(matrix: np.ndarray, right: np.ndarray, tiny: float | None) -> np.ndarray:
    """Return the shortest solution of a singular system, from its pivoted Cholesky factor.

    With ``matrix = L L'`` and ``L = Q R`` it is ``Q inv(R R') Q' right`` (N. Higham, *Analysis of
    the Cholesky decomposition of a semi-definite matrix*, 1990): for a few rows of many columns
    some percent of the work of the eigenvectors.
    """
    tiny = len(matrix) * np.finfo(np.float64).eps if tiny is None else tiny
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(matrix, tol=tiny, lower=1)
    if rank == 0:
        return np.zeros_like(right)
    L = np.empty((len(matrix), rank))
    L[pivots - 1] = np.tril(factor[:, :rank])
    Q, R = np.linalg.qr(L)
    z = scipy.linalg.solve_triangular(R, Q.T @ right)
    return Q @ scipy.linalg.solve_triangular(R, z, trans=1)


def _scale(B: Matrix, l2: np.ndarray) -> np.ndarray:
    diagonal = B.diagonal() + l2
    return np.asarray(1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0)))


class _Scaled:
    """The problem with a unit diagonal, and an active-set method for it.

    Among the points with given signs the minimiser solves a linear system.  On the way to it
    coefficients that meet zero stop there and leave, for as long as the objective falls; at it
    those enter that violate their optimality condition.  The objective falls with every move.
    """

    def __init__(
        self, B: Matrix, c: np.ndarray, l1: np.ndarray, l2: np.ndarray, deadline: float
    ) -> None:
        self.scale = _scale(B, l2)
        self.matrix = B.scaled(self.scale, l2)
        self.c = c * self.scale
        self.l1 = l1 * self.scale
        self.alive = self.matrix.diagonal() > 0.0
        self.deadline = deadline
        self.z = np.zeros_like(self.c)
        self.sign = np.zeros_like(self.c)
        self.n_systems = 0

    def solution(self) -> np.ndarray:
        """Return the point reached, in the coordinates of the caller."""
        return self.z * self.scale

    def finish(self, start: np.ndarray, budget: int) -> bool:
        """Go on from a point near the minimiser; return whether few systems sufficed."""
        self.z = np.where(self.alive, start / self.scale, 0.0)
        self.sign = np.where(self.l1 > 0.0, np.sign(self.z), 0.0)
        return self._descend(self.l1, self.n_systems + budget, 0.0)

    def follow_path(self) -> None:
        """Take the penalty down from where nothing but free coordinates differs from zero."""
        self.z, self.sign = np.zeros_like(self.z), np.zeros_like(self.sign)
        each, least = _PATH_BUDGET
        budget = self.n_systems + each * len(self.c) + least
        penalised = (self.l1 > 0.0) & self.alive
        # Free coordinates first: what they explain is not the penalised ones' to explain.
        self._descend(np.where(self.l1 > 0.0, np.inf, 0.0), budget, 0.0)
        slope = np.abs(self.matrix.dot(self.z) - self.c)[penalised]
        factor = float((slope / self.l1[penalised]).max(initial=1.0))
        while factor > 1.0:
            factor = max(1.0, _PATH_FACTOR * factor)
            # On the way a tenth of the penalty is near enough.
            if not self._descend(self.l1 * factor, budget, 0.1 if factor > 1.0 else 0.0):
                break
        if factor > 1.0:
            self._descend(self.l1, self.n_systems + _FINISH_BUDGET, 0.0)

    def _descend(self, l1: np.ndarray, budget: int, allowance: float) -> bool:
        """Minimise with the given L1 weights; return whether the minimiser was reached.

        ``allowance`` is the share of a coordinate's L1 weight that its optimality condition may
        be violated by.
        """
        idle, flat, least, lowest = 0, 0, np.inf, np.inf
        while True:
            if time.monotonic() > self.deadline:
                return False
            chosen = np.flatnonzero(((self.sign != 0.0) | (l1 == 0.0)) & self.alive)
            smooth = self.matrix.dot(self.z) - self.c
            rounding = _ROUNDING * (self.matrix.size(self.z) + np.abs(self.c))
            allowed = np.maximum(rounding, allowance * np.where(np.isfinite(l1), l1, 0.0))
            signed = np.where(self.sign != 0.0, l1, 0.0) * self.sign
            slope = (smooth + signed)[chosen]
            left = float((np.abs(slope) / np.maximum(allowed[chosen], 1e-300)).max(initial=0.0))
            if left > 1.0 and idle < _MAX_IDLE:
                if self.n_systems >= budget:
                    return False
                if self._move(chosen, slope, l1[chosen]):
                    idle, least = 0, np.inf
                else:
                    idle = idle + 1 if left > 0.5 * least else 0
                    least = min(left, least)
                continue
            outside = (self.sign == 0.0) & (l1 > 0.0) & self.alive
            excess = np.where(outside, np.abs(smooth) - l1 - allowed, -np.inf)
            most = float(excess.max(initial=-np.inf))
            if not most > 0.0:
                return True
            value = float(0.5 * (self.z @ (smooth - self.c)) + signed @ self.z)
            flat = 0 if value < lowest else flat + 1
            lowest = min(value, lowest)
            if flat > _MAX_FLAT:
                return True  # to rounding
            # One alone always moves the way it entered by; several together need not.
            entering = np.flatnonzero(excess >= (most if flat else _ENTER_TOGETHER * most))
            entering = entering[:1] if flat else entering
            self.sign[entering] = -np.sign(smooth[entering])
            idle, least = 0, np.inf

    def _move(self, chosen: np.ndarray, slope: np.ndarray, l1: np.ndarray) -> int:
        """Step towards the minimiser on a support; return how many coefficients left it."""
        matrix = self.matrix.block(chosen)
        damped, proximal = matrix.copy(), _PROXIMAL
        while True:
            damped[np.diag_indices_from(damped)] += proximal
            try:
                factor = scipy.linalg.cho_factor(damped, lower=True, check_finite=False)
                break
            except np.linalg.LinAlgError:
                proximal *= 100.0
        self.n_systems += 1
        move = -scipy.linalg.cho_solve(factor, slope, check_finite=False)
        z, sign = self.z[chosen], self.sign[chosen]
        n_left = _follow(matrix, move, z, sign, slope, l1)
        self.z[chosen], self.sign[chosen] = z, sign
        return n_left


@jit
def _follow(
    matrix: np.ndarray,
    move: np.ndarray,
    z: np.ndarray,
    sign: np.ndarray,
    slope: np.ndarray,
    l1: np.ndarray,
) -> int:
    """Move ``z`` along ``move`` for as long as the objective falls; return how many stopped.

    A coefficient that meets zero stays there: its ``sign`` becomes zero, and the others go on.
    ``move`` and ``slope`` are overwritten.
    """
    n = z.shape[0]
    change = matrix @ move
    reach = np.full(n, np.inf)
    for i in range(n):
        if l1[i] > 0.0 and sign[i] * move[i] < 0.0:
            reach[i] = -z[i] / move[i]
    order = np.argsort(reach)
    length = 0.0
    n_left = 0
    for k in range(n + 1):
        rate = curvature = square = 0.0
        for i in range(n):
            rate += slope[i] * move[i]
            curvature += change[i] * move[i]
            square += move[i] * move[i]
        if rate >= 0.0:
            break
        stop = reach[order[k]] - length if k < n else np.inf
        best = -rate / max(curvature, _NO_CURVATURE * square)
        step = min(stop, best)
        for i in range(n):
            z[i] += step * move[i]
            slope[i] += step * change[i]
        length += step
        if best <= stop:
            break
        gone = order[k]
        n_left += 1
        z[gone] = sign[gone] = 0.0
        part = move[gone]
        move[gone] = 0.0
        for i in range(n):
            change[i] -= matrix[gone, i] * part
    return n_left
