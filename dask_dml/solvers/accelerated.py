"""Accelerated proximal gradient for any penalty and any number of columns.

A. Beck and M. Teboulle, *A fast iterative shrinkage-thresholding algorithm for linear inverse
problems*, SIAM Journal on Imaging Sciences 2 (2009); restarted as in B. O'Donoghue and
E. Candes, *Adaptive restart for accelerated gradient schemes*, Foundations of Computational
Mathematics 15 (2015).  The step length is learnt from successive gradients, so that an
iteration is one pass.
"""

from __future__ import annotations

import numpy as np

from dask_dml.objective.problem import Evaluation, Problem, Query
from dask_dml.solvers.base import Continuation, Scaling, left_to_gain, relative_optimality


class AcceleratedStep:
    """Steps of one problem.

    Parameters
    ----------
    problem : Problem
        Loss and penalty.
    scaling : Scaling
        Coordinates in which a step has the same length along every axis.
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
        self.continuation = Continuation(problem.loss.width, width)
        self.query = Query(coef, intercept, self.continuation.width)
        self.current: Evaluation
        self.n_iter = 0
        self.stalled = False
        self.optimality = np.inf
        self._metric = np.append(scaling.scale, scaling.intercept_scale) ** 2
        self._free = np.append(np.ones(len(coef)), float(scaling.fit_intercept))
        # In units of the metric, which knows the columns' size but not that of a smoothed kink.
        self._lipschitz = problem.loss.max_curvature(self.continuation.width) / scaling.curvature
        self._first: tuple[float, float] | None = None
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._best: tuple[float, np.ndarray] | None = None
        self._x = np.append(coef, intercept)
        self._momentum = 1.0

    def tell(self, evaluation: Evaluation) -> None:
        """Take the evaluation of an extrapolated point."""
        e = evaluation
        z = np.append(e.query.coef, e.query.intercept)
        slope = self._free * np.append(e.gradient, e.intercept_gradient)
        value = e.value + self.problem.penalty.value(e.query.coef)
        self.n_iter += 0 if self._first is None else 1
        if self._too_long(z, slope, value):
            return
        if self._best is None or value <= self._best[0]:
            self._best = (value, z)
        if self._first is None or self._improves(e):
            self.current = e
        x = self._prox(z - slope / (self._lipschitz * self._metric))
        moved = self._lipschitz * np.sqrt(self._metric) * (z - x)
        norm = float(np.linalg.norm(moved))
        if self._first is None:
            self._first = norm, self.current.objective
        self.optimality = relative_optimality(self.problem, e, norm, self._first)
        left = left_to_gain(e, norm)
        if self.continuation.narrow(left, e.slack):
            self._restart(x)
            self._best = self._last = None
        elif float((self._metric * (z - x)) @ (x - self._x)) > 0.0:
            self._restart(x)
        else:
            momentum = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * self._momentum**2))
            self._ask(x + (self._momentum - 1.0) / momentum * (x - self._x))
            self._x, self._momentum = x, momentum

    def _improves(self, e: Evaluation) -> bool:
        here = self.current
        return e.objective <= here.objective or e.relative_gap < here.relative_gap

    def _too_long(self, z: np.ndarray, slope: np.ndarray, value: float) -> bool:
        """Learn the curvature from two gradients; go back if the step was far too long."""
        before, self._last = self._last, (z, slope)
        if before is None:
            return False
        change, move = slope - before[1], z - before[0]
        product = float(change @ move)
        longest = 0.0
        if product > 0.0:
            # Of an L-smooth convex function |change|**2 <= L * product.
            longest = float(change @ (change / self._metric)) / product
        blown_up = not np.isfinite(value) or (
            self._best is not None and value > self._best[0] + 1.0 * abs(self._best[0])
        )
        grown = longest > self._lipschitz
        if grown:
            self._lipschitz = longest
        if blown_up and self._best is not None:
            if not grown:
                self._lipschitz *= 2.0
            self._last = None
            self._restart(self._best[1])
            return True
        return False

    def _prox(self, v: np.ndarray) -> np.ndarray:
        step = 1.0 / (self._lipschitz * self._metric[:-1])
        return np.append(self.problem.penalty.prox(v[:-1], step), v[-1])

    def _restart(self, x: np.ndarray) -> None:
        self._x, self._momentum = x, 1.0
        self._ask(x)

    def _ask(self, z: np.ndarray) -> None:
        self.query = Query(z[:-1], float(z[-1]), self.continuation.width)
