"""Proximal Newton with damping, for every loss and penalty and a moderate number of columns.

J. D. Lee, Y. Sun and M. A. Saunders, *Proximal Newton-type methods for minimizing composite
functions*, SIAM Journal on Optimization 24 (2014).  A pass returns gradient and Hessian; the
quadratic model with its penalty is minimised exactly on the driver.  Where few rows bend the
loss, the Hessian is damped by the second moments of X (Levenberg and Marquardt), which have
full rank and the same units.  Losses with a kink, or nearly one, are solved by smoothing, a kink
with multipliers that the rows keep (R. T. Rockafellar, *Augmented Lagrangians and applications
of the proximal point algorithm in convex programming*, Mathematics of Operations Research 1,
1976):
K. Madsen and H. B. Nielsen, *A finite smoothing algorithm for linear L1 estimation*, SIAM
Journal on Optimization 3 (1993).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dask_dml.objective.problem import Evaluation, Problem, Query
from dask_dml.solvers.base import Continuation
from dask_dml.solvers.quadratic import minimise_quadratic, solve_smooth, symmetric

#: Damping relative to the second moments that is kept when all goes well.
_LEAST_DAMPING = 1e-6
#: Steps that are taken without asking whether the objective falls, once it is flat.
_POLISHING_STEPS = 4
#: Relative rise of the objective that such a step may show, for rounding.
_FLAT = 1e-9


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
    deadline : float, default=inf
        `time.monotonic` value after which models are no longer minimised to the end.
    multipliers : bool, default=False
        Whether the objective keeps multipliers.
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
        deadline: float = math.inf,
        multipliers: bool = False,
    ) -> None:
        self.problem = problem
        self.deadline = deadline
        self.continuation = Continuation(problem.loss.width, width, multipliers=multipliers)
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
        self._damping = _LEAST_DAMPING
        self._length = 1.0
        self._value = np.inf
        self._predicted = np.inf
        self._move = np.zeros(self._free)
        self._bend: float | None = None
        self._polished = 0
        self._fresh = True

    def tell(self, evaluation: Evaluation) -> None:
        """Take the evaluation of a trial point."""
        value = evaluation.value + self.problem.penalty.value(evaluation.query.coef)
        if self._polished and not value <= self._value + _FLAT * abs(self._value):
            # Where no row bends the loss an undamped step may lead anywhere.
            self.stalled = True
            return
        if not self._fresh:
            if self._length * self._predicted <= 1e-15 * abs(self._value):
                # Rounding hides in the value what the duality gap still shows.
                hidden = value <= self._value + 1e-13 * abs(self._value)
                if not (hidden and evaluation.gap < 0.5 * self.current.gap):
                    self._exhausted()
                    return
            elif not value <= self._value - 1e-4 * self._length * self._predicted:
                self._shorten(evaluation)
                return
            else:
                self._adapt(value)
        self.n_iter += 1 if hasattr(self, "current") else 0
        self._fresh = False
        self.current, self._value = evaluation, value
        self._advance()

    def _adapt(self, value: float) -> None:
        """Trust the Hessian more where the model was right, less where the step was cut."""
        gained = (self._value - value) / (self._length * self._predicted)
        if self._length < 0.5:
            self._damping = min(max(4.0 * self._damping, 1e-4), 1e6)
        elif gained > 0.5:
            self._damping = max(0.2 * self._damping, _LEAST_DAMPING)

    def _shorten(self, trial: Evaluation) -> None:
        start, end = self._rate(self.current), self._rate(trial)
        shorter = 0.1
        if np.isfinite(end) and end > 0.0 > start:
            # Of a piecewise quadratic the rate of change is piecewise linear: its root.
            shorter = min(max(start / (start - end), 0.05), 0.7)
        self._length *= shorter
        self._try()

    def _advance(self) -> None:
        e = self.current
        z, self._predicted = self._model_step(e)
        self._move = z - self._packed(e.query)
        self._length = 1.0
        # The duality gap tells best how well the smoothed problem is solved; going on to a
        # narrower one too early makes every later step harder.
        left = self._left(e)
        if self._narrow(left, e.slack):
            return
        self._try()

    def _left(self, e: Evaluation) -> float:
        """Return how far the smoothed problem is from its optimum, about."""
        if np.isfinite(e.gap):
            return e.gap - e.slack
        # Without a gap: as if the loss bent the same everywhere, which many rows together do;
        # the rows that bend just now would promise too little where they are few.
        if self._bend is None:
            self._bend = e.curvature
        slope = self._slope(e)
        # Near a kink hardly any row bends the loss along some directions.
        allowance = 5.0 if self.continuation.target > 0.0 else 500.0
        rest = float(slope @ solve_smooth(self._metric, slope, np.zeros(self._free)))
        left = allowance * rest / self._bend if self._bend > 0.0 else np.inf
        self.optimality = left / max(e.objective, e.floor, 1e-300)
        return left

    def _exhausted(self) -> None:
        """Go on where rounding hides what is left to gain at this width."""
        if self._narrow(0.0, np.inf):
            return
        # The objective no longer tells one point from the next, but the gap may: a weak L1
        # penalty asks for more digits of the gradient than the objective has.
        self._polished += 1
        self.stalled = self._polished > _POLISHING_STEPS
        self._damping, self._length, self._fresh = 0.0, 1.0, True
        self._try()

    def _narrow(self, left: float, slack: float) -> bool:
        if not self.continuation.narrow(left, slack):
            return False
        self._fresh = True
        self._damping = _LEAST_DAMPING
        if left <= 0.0:
            self._length = 0.0
        self._try()
        self.query = replace(self.query, advance=self.continuation.multipliers)
        return True

    def _try(self) -> None:
        z = self._packed(self.current.query) + self._length * self._move
        p = len(self.current.query.coef)
        intercept = float(z[p]) if self._free > p else self.current.query.intercept
        self.query = Query(z[:p], intercept, self.continuation.width, hessian=True)

    def _packed(self, query: Query) -> np.ndarray:
        return np.append(query.coef, query.intercept)[: self._free]

    def _rate(self, e: Evaluation) -> float:
        """Return the objective's rate of change along the move."""
        w, move = e.query.coef, self._move[: len(e.query.coef)]
        kinks = np.where(w == 0.0, np.abs(move), np.sign(w) * move)
        slope = self._slope(e) @ self._move + self.problem.penalty.l2 * float(w @ move)
        return float(slope + self.problem.penalty.l1 * kinks.sum())

    def _slope(self, e: Evaluation) -> np.ndarray:
        return np.append(e.gradient, e.intercept_gradient)[: self._free]

    def _model_step(self, e: Evaluation) -> tuple[np.ndarray, float]:
        """Return the minimiser of the damped model and the decrease it promises."""
        here, slope = self._packed(e.query), self._slope(e)
        assert e.hessian is not None
        B = symmetric(e.hessian)[: self._free, : self._free]
        bend = e.curvature if e.curvature > 0.0 else self.problem.loss.max_curvature(e.query.width)
        B += self._damping * bend * self._metric
        z = minimise_quadratic(B, B @ here - slope, self._l1, self._l2, here, self.deadline)
        move = z - here
        change = slope @ move + 0.5 * move @ (B @ move)
        change += float(self._l1 @ (np.abs(z) - np.abs(here)))
        change += 0.5 * float(self._l2 @ (z**2 - here**2))
        return z, -change
