"""Proximal Newton with damping, for every loss and penalty and a moderate number of columns.

J. D. Lee, Y. Sun and M. A. Saunders, *Proximal Newton-type methods for minimizing composite
functions*, SIAM Journal on Optimization 24 (2014).  A pass returns gradient and Hessian; the
quadratic model with its penalty is minimised exactly on the driver.  Where few rows bend the
loss, the Hessian is damped by the second moments of X (Levenberg and Marquardt), which have
full rank and the same units.  Losses with a kink, or nearly one, are solved by smoothing:
K. Madsen and H. B. Nielsen, *A finite smoothing algorithm for linear L1 estimation*, SIAM
Journal on Optimization 3 (1993).
"""

from __future__ import annotations

import numpy as np

from dask_dml.problems import Evaluation, Problem, Query
from dask_dml.solvers.base import Continuation
from dask_dml.solvers.quadratic import minimise_quadratic, symmetric


class NewtonStep:
    """Steps of one problem.

    Parameters
    ----------
    problem : Problem
        Loss and penalty.
    metric : ndarray of shape (n_features, n_features)
        Mean second moments of X, which damp the Hessian.
    coef : ndarray of shape (n_features,)
        Starting point, best the least-squares solution.
    intercept : float
        Starting point, relative to the means.
    width : float
        First smoothing width.
    fit_intercept : bool
        Whether the intercept is free.
    """

    def __init__(
        self,
        problem: Problem,
        metric: np.ndarray,
        coef: np.ndarray,
        intercept: float,
        width: float,
        *,
        fit_intercept: bool,
    ) -> None:
        self.problem = problem
        self.continuation = Continuation(problem.loss.width, width)
        self.query = Query(coef, intercept, self.continuation.width, hessian=True)
        self.current: Evaluation
        self.n_iter = 0
        self.stalled = False
        self.optimality = np.inf
        p = len(coef)
        self._free = p + 1 if fit_intercept else p
        self._metric = np.zeros((self._free, self._free))
        self._metric[:p, :p] = metric
        self._metric[p:, p:] = 1.0
        self._l1 = np.append(np.full(p, problem.penalty.l1), 0.0)[: self._free]
        self._l2 = np.append(np.full(p, problem.penalty.l2), 0.0)[: self._free]
        self._damping = 1e-6
        self._value = np.inf
        self._predicted = np.inf
        self._fresh = True

    def tell(self, evaluation: Evaluation) -> None:
        """Take the evaluation of a trial point."""
        value = evaluation.value + self.problem.penalty.value(evaluation.query.coef)
        if not self._fresh:
            gained = (self._value - value) / self._predicted if self._predicted > 0.0 else 0.0
            if not gained > 1e-4:
                self._reject(value)
                return
            if gained > 0.75:
                self._damping = max(0.25 * self._damping, 1e-9)
            elif gained < 0.25:
                self._damping *= 4.0
        first = not hasattr(self, "current")
        self.n_iter += 0 if first else 1
        self._fresh = False
        self.current, self._value = evaluation, value
        self._advance()

    def _reject(self, value: float) -> None:
        # What rounding hides cannot be gained.
        if self._predicted <= 1e-15 * abs(self._value) or self._damping > 1e12:
            if self.continuation.narrow(0.0, np.inf):
                self._fresh = True
                e = self.current.query
                self.query = Query(e.coef, e.intercept, self.continuation.width, hessian=True)
            else:
                self.stalled = True
            return
        self._damping = max(10.0 * self._damping, 1e-4)
        self._advance()

    def _advance(self) -> None:
        e = self.current
        z, self._predicted = self._model_step(e)
        scale = max(e.objective, self.problem.loss.value(0.0), 1e-300)
        self.optimality = max(self._predicted, 0.0) / scale
        if self.continuation.narrow(self._predicted, 0.3 * e.slack):
            self._fresh = True
        self.query = Query(*self._split(z), self.continuation.width, hessian=True)

    def _split(self, z: np.ndarray) -> tuple[np.ndarray, float]:
        p = len(self.current.query.coef)
        return z[:p], float(z[p]) if self._free > p else self.current.query.intercept

    def _model_step(self, e: Evaluation) -> tuple[np.ndarray, float]:
        """Return the minimiser of the damped model and the decrease it promises."""
        here = np.append(e.query.coef, e.query.intercept)[: self._free]
        slope = np.append(e.gradient, e.intercept_gradient)[: self._free]
        assert e.hessian is not None
        B = symmetric(e.hessian)[: self._free, : self._free]
        bend = e.curvature if e.curvature > 0.0 else self.problem.loss.max_curvature(e.query.width)
        B += self._damping * bend * self._metric
        z = minimise_quadratic(B, B @ here - slope, self._l1, self._l2, here)
        move = z - here
        change = slope @ move + 0.5 * move @ (B @ move)
        change += float(self._l1 @ (np.abs(z) - np.abs(here)))
        change += 0.5 * float(self._l2 @ (z**2 - here**2))
        return z, -change
