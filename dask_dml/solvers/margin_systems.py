"""Pieces of the Newton step of a support vector machine that need no state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.linalg

from dask_dml.blocks import Matrix
from dask_dml.objective.margins import MarginEvaluation, MarginProblem, ProductQuery
from dask_dml.passes.products import WindowRows
from dask_dml.solvers.quadratic import symmetric

#: Times that a solution is corrected by what is left of a system that rounding makes singular.
CORRECTIONS = 2
#: What is added to a diagonal of ones at first.
LEAST_ADDED = 1e-15


def step_by_rows(
    slope: np.ndarray, ridge: np.ndarray, rows: WindowRows, narrower: float, intercept: float
) -> np.ndarray:
    """Return the Newton step from a system of as many equations as rows have a curvature.

    By the identity of Woodbury: the inverse of ``R + X'DX`` takes no more than that of
    ``1/D + X R^-1 X'`` where ``R`` is diagonal.

    Parameters
    ----------
    slope : ndarray of shape (n_features + 1,)
        Gradient of loss and penalty, intercept last.
    ridge : ndarray of shape (n_features + 1,)
        R, the curvature of the penalty.
    rows : WindowRows
        X, D and the rows' residuals.
    narrower : float
        By how much the window of the hinge has been narrowed since.
    intercept : float
        One if there is an intercept, zero if not.

    Returns
    -------
    step : ndarray of shape (n_features + 1,)
    """
    X, bend = rows.X, rows.bend
    slope, ridge = slope.copy(), ridge.copy()
    if narrower > 1.0:
        pull = bend * rows.residual
        slope -= (narrower - 1.0) * np.append(X.T @ pull, intercept * pull.sum())
    if intercept > 0.0 and ridge[-1] == 0.0:
        return _free_intercept_step(slope, ridge[:-1], X, narrower * bend)
    if intercept == 0.0:
        slope[-1], ridge[-1] = 0.0, 1.0
    step = -slope / ridge
    if len(bend):
        scaled = X / np.sqrt(ridge[:-1]) if np.any(ridge[:-1] != 1.0) else X
        gram = scaled @ scaled.T
        gram = np.asarray(gram.toarray() if hasattr(gram, "toarray") else gram, np.float64)
        gram += intercept / ridge[-1]
        right = X @ step[:-1] + intercept * step[-1]
        weights = solve_definite(gram, right, 1.0 / (narrower * bend))
        step -= np.append(X.T @ weights, intercept * weights.sum()) / ridge
    return step


def _free_intercept_step(
    slope: np.ndarray, ridge: np.ndarray, X: Matrix, bend: np.ndarray
) -> np.ndarray:
    """Return the step where nothing penalises the intercept.

    The rows' multipliers ``v = D (X w + b)`` then add up to what cancels the intercept's slope,
    which says what ``b`` is.
    """
    step = np.append(-slope[:-1] / ridge, 0.0)
    if not len(bend):
        # No curvature says how far to go: as far as the margin is wide.
        step[-1] = -np.sign(slope[-1])
        return step
    scaled = X / np.sqrt(ridge)
    gram = scaled @ scaled.T
    gram = np.asarray(gram.toarray() if hasattr(gram, "toarray") else gram, np.float64)
    right = np.column_stack([X @ step[:-1], np.ones(len(bend))])
    weights, ones = solve_definite(gram, right, 1.0 / bend).T
    step[-1] = (-slope[-1] - weights.sum()) / ones.sum()
    step[:-1] -= X.T @ (weights + step[-1] * ones) / ridge
    return step


def solve_definite(B: np.ndarray, c: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Solve ``(B + diag(diagonal)) z = c`` with a definite matrix, which is overwritten."""
    B[np.diag_indices_from(B)] += diagonal
    return definite_solver(B)(c)


def definite_solver(matrix: np.ndarray, corrections: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that solves a definite system for one or several right-hand sides.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        Symmetric; where rounding makes it singular, the smallest multiple of its diagonal that
        cures it is added, and the solution corrected by what is left.
    corrections : int, default=0
        Corrections in any case: what is next to nothing is then added at once, as those who ask for
        them have singular systems again and again.
    """
    scale = np.diagonal(matrix).copy()
    scale = 1.0 / np.sqrt(np.where(scale > 0.0, scale, 1.0))
    scaled = matrix * scale
    scaled *= scale[:, None]
    factor, more = _factor(scaled, LEAST_ADDED if corrections else 0.0)

    def solve(right: np.ndarray) -> np.ndarray:
        goal = (scale * right.T).T
        found = scipy.linalg.cho_solve(factor, goal, check_finite=False)
        for _ in range(CORRECTIONS if more > 0.0 else corrections):
            rest = goal - scaled @ found
            found += scipy.linalg.cho_solve(factor, rest, check_finite=False)
        solution: np.ndarray = (scale * found.T).T
        return solution

    return solve


def _factor(matrix: np.ndarray, more: float) -> tuple[tuple[np.ndarray, bool], float]:
    """Return the Cholesky factor, and what had to be added to the diagonal, at least ``more``."""
    while True:
        # In the order of LAPACK, which so needs no copy of its own.
        tried = matrix.copy().T
        tried[np.diag_indices_from(tried)] += more
        try:
            found = scipy.linalg.cho_factor(tried, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            more = max(100.0 * more, LEAST_ADDED)
            if more > 1.0:
                raise
        else:
            return found, more


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Return the product of two long vectors, without the threads of BLAS.

    These are woken for some microseconds of work, and on a busy machine waited for.
    """
    return float(np.einsum("i,i->", a, b))


class Preconditioner:
    """Approximates the inverse of a Hessian too large to be formed.

    It is exact for the columns with the largest squares (the words that every text has), whose
    block of the Hessian is given, and diagonal for the others.

    Parameters
    ----------
    diagonal : ndarray of shape (n_features + 1,)
        Diagonal of the Hessian, about; the intercept is last.
    columns : ndarray of shape (n_columns,)
        The columns of the block.
    block : ndarray of shape (n_columns + 1, n_columns + 1)
        Lower triangle of the loss's part of the Hessian for these columns and the intercept.
    ridge : ndarray of shape (n_features + 1,)
        The penalty's part, a diagonal.
    """

    def __init__(
        self, diagonal: np.ndarray, columns: np.ndarray, block: np.ndarray, ridge: np.ndarray
    ) -> None:
        self.inverse = 1.0 / diagonal
        self.at = np.append(columns, len(diagonal) - 1)
        matrix = symmetric(block)
        at = np.diag_indices_from(matrix)
        # Columns that are the same leave a free intercept, or a weak ridge, to rounding.
        matrix[at] = (1.0 + 1e-10) * matrix[at] + ridge[self.at]
        self.factor = scipy.linalg.cho_factor(
            matrix, lower=True, overwrite_a=True, check_finite=False
        )

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """Return the product with the inverse."""
        product = self.inverse * vector
        product[self.at] = scipy.linalg.cho_solve(self.factor, vector[self.at], check_finite=False)
        return product


class ConjugateGradients:
    """Solves a system by products of its matrix with vectors, which somebody else computes.

    Parameters
    ----------
    right : ndarray of shape (n,)
        Right-hand side.
    precondition : callable
        Approximates the product with the matrix's inverse.
    forcing : float
        Share of the squared residual, as preconditioned, that may be left.
    enough : float
        Squared residual that may be left in any case.
    max_products : int
        Products after which to stop in any case.

    Attributes
    ----------
    vector : ndarray of float32 of shape (n,) or None
        What the matrix is to be multiplied with next; None at the end.  An inexact step needs no
        more digits, and half of them cost half the time on the way to the workers.
    solution : ndarray of shape (n,)
        Of the system, as far as it has been solved.
    left : int
        Products that are left.
    """

    def __init__(
        self,
        right: np.ndarray,
        precondition: Callable[[np.ndarray], np.ndarray],
        forcing: float,
        enough: float,
        max_products: int,
    ) -> None:
        self.solution = np.zeros_like(right)
        self.vector: np.ndarray | None = None
        self._rest = right.copy()
        self._precondition = precondition
        self.left = max_products
        along = precondition(right)
        self._size = dot(right, along)
        self._least, self._enough = forcing * self._size, enough
        if self._size > 0.0:
            self.vector = along.astype(np.float32)

    def tell(self, image: np.ndarray) -> None:
        """Take the product with ``vector`` and set the next one."""
        assert self.vector is not None
        along = self.vector.astype(np.float64)
        bend = dot(along, image)
        self.left -= 1
        if bend <= 0.0:
            self.vector = None
            return
        # The vector has been rounded: the residual is at a right angle to it only about.
        length = dot(along, self._rest) / bend
        self.solution += length * along
        self._rest -= length * image
        towards = self._precondition(self._rest)
        before, self._size = self._size, dot(self._rest, towards)
        done = self._size <= self._least or dot(self._rest, self._rest) <= self._enough
        if done or self.left <= 0:
            self.vector = None
            return
        self.vector = (towards + (self._size / before) * along).astype(np.float32)


def secant(H: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return a Hessian that agrees with how much the gradient has changed along a step.

    The update of Broyden, Fletcher, Goldfarb and Shanno.
    """
    image = H @ step
    old, new = float(step @ image), float(step @ change)
    if not (old > 0.0 and new > 0.0):
        return H
    return H - np.outer(image, image / old) + np.outer(change, change / new)


def working_set(coef: np.ndarray, gradient: np.ndarray, limit: int) -> np.ndarray:
    """Return the columns that an L1 step is about, at most so many unless more are not zero.

    They are those that are not zero, and as many again that most want not to be.
    """
    support = np.flatnonzero(coef)
    pull = np.abs(gradient)
    pull[support] = 0.0
    room = min(max(2 * len(support), 100), limit) - len(support)
    worst = np.argpartition(pull, -room)[-room:] if 0 < room < len(pull) else np.empty(0, int)
    return np.union1d(support, worst[pull[worst] > 1.0]).astype(np.intp)


def hessian_of(e: MarginEvaluation) -> np.ndarray:
    """Return the lower triangle of the Hessian of an evaluation that was to have one."""
    if e.hessian is None:
        raise ValueError("this point was evaluated without a Hessian")
    return e.hessian


def check_start(e: MarginEvaluation) -> MarginEvaluation:
    """Return the evaluation of a first point.

    Raises
    ------
    ValueError
        If its sums overflow, which the coefficients have no part in.
    """
    if not np.isfinite(e.objective):
        raise ValueError(
            "Input X contains values so large that sums over its rows, times C and the sample "
            "weights, overflow; divide the largest columns by a constant first."
        )
    return e


def ridge_of(problem: MarginProblem, n_columns: int) -> np.ndarray:
    """Return the weights of the penalty, coordinate by coordinate, intercept last."""
    power = 1 if problem.l1 else 2
    scaling = problem.scaling
    return np.append(np.ones(n_columns), 0.0 if scaling == 0.0 else scaling**-power)


def slope_of(problem: MarginProblem, e: MarginEvaluation) -> np.ndarray:
    """Return the gradient of loss and smooth penalty, intercept last."""
    slope = np.append(e.gradient, e.intercept_gradient)
    if not problem.l1:
        coef = e.query.coef
        slope += np.append(coef, e.query.intercept) * ridge_of(problem, len(coef))
    return slope


def predicted_gain(problem: MarginProblem, e: MarginEvaluation, move: np.ndarray) -> float:
    """Return how much a quadratic model gains by a move to its minimiser, about."""
    coef, intercept = e.query.coef, e.query.intercept
    first = float(slope_of(problem, e) @ move)
    if problem.l1:
        after = problem.penalty_value(coef + move[:-1], intercept + float(move[-1]))
        first += after - problem.penalty_value(coef, intercept)
    return -0.5 * first


def intercept_curvature(problem: MarginProblem, e: MarginEvaluation) -> float:
    """Return the curvature along the intercept: no row in the window need hold a free one."""
    usual = e.alpha_sum / max(sum(e.counts), 1.0)
    return max(e.bend, 1e-2 * usual) if problem.free else e.bend


def product_query(
    e: MarginEvaluation,
    point: int,
    kind: Literal["product", "pull", "rows"],
    vector: np.ndarray | None = None,
) -> ProductQuery:
    """Return the query of a product with the Hessian at a point, known by its number."""
    q = e.query
    if vector is None:
        return ProductQuery(q.coef, q.intercept, q.width, point, kind)
    move, last = vector[:-1], float(vector[-1])
    return ProductQuery(q.coef, q.intercept, q.width, point, kind, move, last)
