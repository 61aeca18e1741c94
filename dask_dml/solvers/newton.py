"""Proximal Newton with damping, for every loss and penalty and a moderate number of columns.

J. D. Lee, Y. Sun and M. A. Saunders, *Proximal Newton-type methods for minimizing composite
functions*, SIAM Journal on Optimization 24 (2014).  A pass returns gradient and Hessian; the
quadratic model with its penalty is minimised exactly on the driver.  Where few rows bend the
loss, the Hessian is damped by the second moments of X (Levenberg and Marquardt), which have
full rank and the same units.  Losses with a kink, or nearly one, are solved by smoothing, for as
long as that takes few steps:
K. Madsen and H. B. Nielsen, *A finite smoothing algorithm for linear L1 estimation*, SIAM
Journal on Optimization 3 (1993).
"""

from __future__ import annotations

import math

import numpy as np

from dask_dml.objective.problem import Evaluation, Problem, Query
from dask_dml.objective.residual_interior import ResidualAnswer, ResidualQuery
from dask_dml.solvers.base import Continuation
from dask_dml.solvers.interior_parts import Pace
from dask_dml.solvers.quadratic import solve_smooth, symmetric, try_quadratic
from dask_dml.solvers.residual_interior import AIM, InteriorPath

#: Steps after which to ask whether the gap falls, and how many more are too many: as many passes as
#: the interior-point method takes.
MIN_STEPS, STEPS_LEFT = 14, 20.0
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
    tol : float, default=0
        Relative gap that is to be met; where steps would take long to get there, an interior-point
        method takes their place, of an `InteriorObjective`.
    n_rows : int, default=1
        Rows of the data.
    spread : float, default=1
        Of the targets.
    impatient : bool, default=False
        Whether the interior-point method is to begin at once.
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
        tol: float = 0.0,
        n_rows: int = 1,
        spread: float = 1.0,
        impatient: bool = False,
    ) -> None:
        self.problem = problem
        self.tol = tol
        self.aim = 1.0
        self._n_rows, self._spread, self._impatient = n_rows, spread, impatient
        self._path: InteriorPath | None = None
        self.deadline = deadline
        self.continuation = Continuation(problem.loss.width, width)
        self.query: Query | ResidualQuery
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
        self._pace = Pace(tol, MIN_STEPS, STEPS_LEFT, deadline)

    def tell(self, answer: Evaluation | ResidualAnswer) -> None:
        """Take the evaluation of a trial point, or what the rows say of the interior."""
        if self._path is not None:
            self._go_on(answer)
            return
        assert isinstance(answer, Evaluation)
        evaluation = answer
        value = evaluation.value + self.problem.penalty.value(evaluation.query.coef)
        if self._polished and not value <= self._value + _FLAT * abs(self._value):
            # Where no row bends the loss an undamped step may lead anywhere.
            self._enter()
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
        if self._impatient or self._falls_slowly(evaluation):
            self._enter()

    def _enter(self) -> None:
        """Let the interior-point method go on from here."""
        self._path = InteriorPath(
            self.problem, self._metric, self._n_rows, self._spread, self.tol, self.current
        )
        self.aim, self._n_before = AIM, self.n_iter
        self._steps = self._path.steps()
        self.query = next(self._steps)

    def _go_on(self, answer: Evaluation | ResidualAnswer) -> None:
        path = self._path
        assert path is not None
        try:
            self.query = self._steps.send(answer)
        except StopIteration:
            self.stalled = True
        self.current, self.optimality = path.shown, path.optimality
        self.n_iter = self._n_before + path.n_iter

    def _falls_slowly(self, e: Evaluation) -> bool:
        """Return whether the gap, or what takes its place without a penalty, falls slowly."""
        gap = e.relative_gap
        if not self.problem.penalty:
            gap = self.optimality + e.slack / max(e.objective, e.floor, 1e-300)
        return self._pace.is_slow(gap)

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
        if self._polished > _POLISHING_STEPS:
            self._enter()
            return
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
        right = B @ here - slope
        z, solved = try_quadratic(B, right, self._l1, self._l2, here, self.deadline)
        # Models that coordinate descent does not solve take longer than steps from the interior.
        self._impatient |= not solved
        move = z - here
        change = slope @ move + 0.5 * move @ (B @ move)
        change += float(self._l1 @ (np.abs(z) - np.abs(here)))
        change += 0.5 * float(self._l2 @ (z**2 - here**2))
        return z, -change
