"""Limited-memory BFGS for smooth penalties and any number of columns.

D. C. Liu and J. Nocedal, *On the limited memory BFGS method for large scale optimization*,
Mathematical Programming 45 (1989).  Coordinates are scaled by the columns' spread; losses with a
kink (or nearly so) are smoothed, with the width taken down by continuation.
"""

from __future__ import annotations

import numpy as np

from dask_dml.objective.problem import Evaluation, Problem, Query
from dask_dml.solvers.base import Continuation, Scaling, left_to_gain, relative_optimality

#: Correction pairs that are kept.
MEMORY = 20


class LBFGSStep:
    """Steps of one problem; a rejected trial of the line search costs a pass, an accepted none.

    Parameters
    ----------
    problem : Problem
        Loss and penalty; the penalty must have no L1 part.
    scaling : Scaling
        Coordinates.
    coef : ndarray of shape (n_features,)
        Starting point.
    intercept : float
        Starting point, relative to the means.
    width : float
        First smoothing width.
    """

    def __init__(
        self, problem: Problem, scaling: Scaling, coef: np.ndarray, intercept: float, width: float
    ) -> None:
        self.problem = problem
        self.scaling = scaling
        self.continuation = Continuation(problem.loss.width, width)
        self.query = Query(coef, intercept, self.continuation.width)
        self.current: Evaluation
        self.n_iter = 0
        self.stalled = False
        self.optimality = np.inf
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._first: tuple[float, float] | None = None
        self._fresh = True
        self._step = 1.0
        self._value = np.inf
        self._v = scaling.pack(coef, intercept)
        self._gradient_here = np.zeros_like(self._v)
        self._direction = np.zeros_like(self._v)

    def tell(self, evaluation: Evaluation) -> None:
        """Take the evaluation of a trial point."""
        v = self.scaling.pack(evaluation.query.coef, evaluation.query.intercept)
        value = evaluation.value + self.problem.penalty.value(evaluation.query.coef)
        gradient = self._gradient(evaluation)
        if self._fresh:
            if self._first is not None:
                self.n_iter += 1
            self._fresh = False
        else:
            slope = float(self._gradient_here @ self._direction)
            if not value <= self._value + 1e-4 * self._step * slope:
                self._backtrack(value, slope)
                return
            self._remember(v - self._v, gradient - self._gradient_here)
            self.n_iter += 1
        self.current = evaluation
        self._v, self._value, self._gradient_here = v, value, gradient
        norm = float(np.linalg.norm(gradient))
        if self._first is None:
            self._first = norm, self.current.objective
        self.optimality = relative_optimality(self.problem, evaluation, norm, self._first)
        if self._narrowed(evaluation, norm):
            return
        self._direction = self._two_loops(gradient)
        self._step = 1.0 if self._pairs else min(1.0, self._length() / max(norm, 1e-300))
        self._try()

    def _gradient(self, e: Evaluation) -> np.ndarray:
        smooth = e.gradient + self.problem.penalty.l2 * e.query.coef
        return self.scaling.gradient(smooth, e.intercept_gradient)

    def _length(self) -> float:
        # In scaled coordinates the curvature along any one axis is about one, so that the
        # gradient itself is the natural first step; a point far out keeps its own scale.
        return max(float(np.linalg.norm(self._gradient_here)), float(np.linalg.norm(self._v)))

    def _narrowed(self, e: Evaluation, norm: float) -> bool:
        left = left_to_gain(e, norm)
        if not self.continuation.narrow(left, e.slack):
            return False
        self._pairs.clear()
        self._fresh = True
        self.query = Query(e.query.coef, e.query.intercept, self.continuation.width)
        return True

    def _try(self) -> None:
        coef, intercept = self.scaling.unpack(self._v + self._step * self._direction)
        self.query = Query(coef, intercept, self.continuation.width)

    def _backtrack(self, value: float, slope: float) -> None:
        rise = value - self._value - self._step * slope
        shrink = 0.1
        if np.isfinite(value) and rise > 0.0:
            shrink = min(max(-0.5 * self._step * slope / rise, 0.1), 0.5)
        self._step *= shrink
        if self._step < 1e-12 or -slope <= 1e-17 * abs(self._value):
            if not self._pairs:
                self.stalled = True
                return
            # Rounding may have spoilt the memory: once more from steepest descent.
            self._pairs.clear()
            self._direction = -self._gradient_here
            self._step = min(1.0, self._length())
        self._try()

    def _remember(self, step: np.ndarray, change: np.ndarray) -> None:
        if step @ change > 1e-12 * np.linalg.norm(step) * np.linalg.norm(change):
            self._pairs.append((step, change))
            del self._pairs[:-MEMORY]

    def _two_loops(self, gradient: np.ndarray) -> np.ndarray:
        q = -gradient
        factors = []
        for step, change in reversed(self._pairs):
            rho = 1.0 / float(step @ change)
            factor = rho * float(step @ q)
            q = q - factor * change
            factors.append((factor, rho))
        if self._pairs:
            step, change = self._pairs[-1]
            q = q * (float(step @ change) / float(change @ change))
        for (step, change), (factor, rho) in zip(self._pairs, reversed(factors), strict=True):
            q = q + (factor - rho * float(change @ q)) * step
        return q
