"""Distributed gradient descent, the plain iteration.

Every node computes the gradient of its own rows, the gradients are added up, all take the same
step.  With node ``i`` holding ``m_i`` rows (weights summing to ``m_i``) and the penalty in every
node's objective, ``aggregation="uniform"`` is

    theta <- theta - eta * sum_i (1/m_i) grad J_i(theta),

and ``aggregation="weighted"`` weights the nodes by ``m_i / sum m_i``: the true mean gradient.
Coordinates are the raw ones.  An L1 penalty is taken care of by a proximal step.
"""

from __future__ import annotations

import numpy as np

from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Evaluation, Objective, Problem, Query
from dask_dml.passes.partials import Moments, Statistics
from dask_dml.solvers.base import Continuation
from dask_dml.solvers.statistics import Quadratic

#: An objective this many times the first one means that the steps are too long.
_DIVERGED = 1e10
#: What backtracking tries to lengthen its steps by, after every one that was good.
_GROWTH = 1.1
#: Where "adaptive" has shortened its first step to this share of it, it has come to rest.
_SHORTEST = 1e-9


class GDStep:
    """Steps of one problem.

    Parameters
    ----------
    problem : Problem
        Loss and penalty.
    coef : ndarray of shape (n_features,)
        Starting point.
    intercept : float
        Starting point.
    learning_rate : {"auto", "backtracking", "constant", "invscaling", "adaptive"}
        Schedule of the step length.
    eta0 : float
        First step length of the schedules that are not safe by themselves.
    lipschitz : float
        Lipschitz constant of the mean gradient of a loss of curvature one; the step length of
        ``"auto"`` and the first one of ``"backtracking"`` come from it.
    power_t : float
        Exponent of ``"invscaling"``.
    momentum : float
        Share of the last move that is added to the next (Polyak's heavy ball).
    n_terms : float
        Number of nodes whose gradients are summed up; 1 for the mean.
    width : float
        First smoothing width; zero takes subgradients of a kink.
    tol : float
        Relative decrease below which ``"adaptive"`` shortens its steps.
    spread : ndarray of shape (n_features,)
        Of the columns: their gradients count in its units, too.
    """

    def __init__(
        self,
        problem: Problem,
        coef: np.ndarray,
        intercept: float,
        *,
        learning_rate: str,
        eta0: float,
        lipschitz: float,
        power_t: float,
        momentum: float,
        n_terms: float,
        width: float,
        tol: float,
        spread: np.ndarray,
    ) -> None:
        self.problem = problem
        # Of the coordinates; columns that do not vary say nothing of the optimum.
        self._units = np.append(np.where(spread > 0.0, spread, 1.0), 1.0)
        self.continuation = Continuation(problem.loss.width, width)
        self.query = Query(coef, intercept, self.continuation.width)
        self.current: Evaluation
        self.n_iter = 0
        self.stalled = False
        self.optimality = np.inf
        self.learning_rate = learning_rate
        self.power_t = power_t
        self.momentum = momentum
        self.n_terms = n_terms
        self.tol = tol
        self._eta0 = eta0
        self._lipschitz = lipschitz
        self._eta = self._safe_length() if learning_rate == "backtracking" else eta0
        self._theta = np.append(coef, intercept)
        self._move = np.zeros(len(coef) + 1)
        self._first: tuple[np.ndarray, float] | None = None
        self._predicted = np.inf
        self._value = np.inf

    def tell(self, evaluation: Evaluation) -> None:
        """Take the gradient at the current point and move."""
        e = evaluation
        value = self.n_terms * (e.value + self.problem.penalty.value(e.query.coef))
        slope = self._slope(e)
        if self._first is None:
            self._first = (self._sizes(slope), abs(value))
        elif self.learning_rate == "backtracking" and not value <= self._predicted:
            self._shorten()
            return
        else:
            self.n_iter += 1
        self._check(value)
        if self.learning_rate == "adaptive" and value > self._value - self.tol * abs(self._value):
            self._eta /= 5.0
            self.stalled = self._eta < _SHORTEST * self._eta0
        self.current, self._value = e, value
        self._move_on(e, slope)

    def _sizes(self, slope: np.ndarray) -> np.ndarray:
        """Return the lengths of a slope as it is, and of columns that vary alike.

        Where columns differ in scale, the former is that of the largest ones alone.
        """
        return np.array([np.linalg.norm(slope), np.linalg.norm(slope / self._units)])

    def _slope(self, e: Evaluation) -> np.ndarray:
        smooth = e.gradient + self.problem.penalty.l2 * e.query.coef
        return self.n_terms * np.append(smooth, e.intercept_gradient)

    def _check(self, value: float) -> None:
        assert self._first is not None
        if np.isfinite(value) and value <= _DIVERGED * max(self._first[1], 1e-300):
            return
        raise ValueError(
            f"Gradient descent diverged in iteration {self.n_iter}: the objective is {value:.3g}. "
            f"The step length (eta0={self._eta0:g}) is too long for this data; lower eta0, or use "
            "learning_rate='auto', whose steps are safe, or scale the columns."
        )

    def _move_on(self, e: Evaluation, slope: np.ndarray) -> None:
        assert self._first is not None
        eta = self._length()
        # In the plain objective's terms a node's share of the L1 penalty is n_terms times it.
        self._theta = np.append(e.query.coef, e.query.intercept)
        self._move = self.momentum * self._move - eta * slope
        target = self._prox(self._theta + self._move, eta)
        step = self._theta - target
        norm = float(np.linalg.norm(step)) / eta
        sizes, first = self._sizes(step / eta), self._first[0]
        shares = np.divide(sizes, first, out=np.zeros(2), where=first > 0.0)
        self.optimality = float(shares.max())
        left = e.gap - e.slack if np.isfinite(e.gap) else eta * norm**2
        if self.continuation.narrow(left, e.slack):
            self._value = np.inf
            self._predicted = np.inf
        else:
            # Armijo's bound for the proximal step just taken, up to rounding.
            self._predicted = self._value - 0.25 * eta * norm**2 + 1e-15 * abs(self._value)
        self._move = -step
        self.query = Query(target[:-1], float(target[-1]), self.continuation.width)

    def _length(self) -> float:
        if self.learning_rate == "auto":
            self._eta = self._safe_length()
        if self.learning_rate == "invscaling":
            return self._eta0 / (self.n_iter + 1) ** self.power_t
        if self.learning_rate == "backtracking":
            self._eta *= _GROWTH
        return self._eta

    def _safe_length(self) -> float:
        bend = self.problem.loss.max_curvature(self.continuation.width)
        whole = bend * self._lipschitz + self.problem.penalty.l2
        return 1.0 / (self.n_terms * whole) if whole > 0.0 else 1.0

    def _shorten(self) -> None:
        if self._eta < 1e-300:
            self.stalled = True
            return
        self._eta *= 0.5 / _GROWTH
        self._move[:] = 0.0
        self._move_on(self.current, self._slope(self.current))

    def _prox(self, theta: np.ndarray, eta: float) -> np.ndarray:
        penalty = self.problem.penalty
        if penalty.l1 == 0.0:
            return theta
        shrunk = np.maximum(np.abs(theta[:-1]) - eta * self.n_terms * penalty.l1, 0.0)
        return np.append(np.sign(theta[:-1]) * shrunk, theta[-1])


def largest_eigenvalue(
    objective: Objective, first: Moments, random_state: np.random.RandomState | None
) -> float:
    """Return the largest eigenvalue of the mean of ``(x, 1)(x, 1)'``, or a little more.

    From the second moments where they are known, by power iteration (a pass each) otherwise.
    """
    frame, free = objective.frame, objective.fit_intercept
    p = len(frame.mean)
    if isinstance(first, Statistics):
        matrix = np.zeros((p + 1, p + 1))
        matrix[:p, :p] = Quadratic.of(first, centred=False).B
        if free:
            matrix[p, :p] = matrix[:p, p] = first.mean
            matrix[p, p] = 1.0
        return float(np.linalg.eigvalsh(matrix)[-1])
    squares = Objective(
        objective.rounds,
        [Problem(0, Loss(), ElasticNet())],
        frame,
        fit_intercept=free,
        units=objective.units,
        columns=objective.columns,
    )

    def slope(v: np.ndarray) -> np.ndarray:
        e = squares.evaluate({0: Query(v[:p], float(v[p]) if free else 0.0)})[0]
        return np.append(e.gradient, e.intercept_gradient)

    v = (random_state or np.random.RandomState(0)).standard_normal(p + 1)
    v[:p] *= frame.spread
    at_zero, value = slope(np.zeros(p + 1)), 0.0
    for _ in range(30):
        v /= np.linalg.norm(v)
        v = slope(v) - at_zero
        before, value = value, float(np.linalg.norm(v))
        if value <= before * 1.01:
            break
    return 1.1 * value  # power iteration comes from below
