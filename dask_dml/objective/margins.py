"""A batch of linear support vector machines over one X, and the conventions of their objectives.

Problem ``c`` minimises over ``w`` and ``b``, with y_i = +1 for its class and -1 for the rest::

    pen(w, b) + sum_i C_i loss(1 - y_i (x_i.w + b)),

``loss(t) = max(t, 0)`` or its square, ``pen = (||w||_2**2 + (b/B)**2) / 2`` or
``||w||_1 + |b|/B``.  ``B`` is scikit-learn's ``intercept_scaling``: a column of that value beside
X whose coefficient is ``b/B``.  It is never made; an infinite ``B`` leaves ``b`` free.

Every ``alpha_i >= 0`` (at most ``C_i`` for the hinge) with ``u = sum_i alpha_i y_i (x_i, 1)``
bounds the optimum from below by::

    D = sum_i alpha_i - sum_i alpha_i**2 / (4 C_i) - pen*(u),

without the squares for the hinge.  ``pen*`` is ``(||u_w||**2 + (B u_b)**2) / 2``, or zero while
``max |u_w| <= 1`` and ``B |u_b| <= 1``.  With a free intercept it is infinite unless the alphas
of the two classes have the same sum, so these are balanced first: without that, D would be a
bound of nothing.  Scaling all alphas keeps them balanced, and D is the best over the scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dask_dml.kernels import margin_rows as rows
from dask_dml.objective.certificate import certified_gap
from dask_dml.objective.penalties import ElasticNet
from dask_dml.passes.margins import ALL_COLUMNS

#: Where the smoothed loss of a line search is evaluated, relative to the whole step.
STEPS = np.array([0.0, 0.01, 0.05, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 3.0])


@dataclass(frozen=True)
class MarginProblem:
    """One problem of a batch.

    Attributes
    ----------
    label : float
        The class that is y = +1.
    cost : tuple of float
        C times the class weights: cost of a violation by a row with y = -1 and with y = +1.
    squared : bool
        Squared hinge, otherwise hinge.
    penalty : ElasticNet
        Of the coefficients: one of its weights is one, the other zero.
    scaling : float
        B, the value of the intercept's column: infinite leaves the intercept free, zero holds it
        at zero.
    """

    label: float
    cost: tuple[float, float]
    squared: bool
    penalty: ElasticNet
    scaling: float

    @property
    def l1(self) -> bool:
        """Whether the penalty is the L1 norm."""
        return self.penalty.l1 > 0.0

    @property
    def free(self) -> bool:
        """Whether the intercept is not penalised."""
        return bool(np.isinf(self.scaling))

    def penalty_value(self, coef: np.ndarray, intercept: float) -> float:
        """Return the penalty of coefficients and intercept."""
        if self.scaling == 0.0 or self.free:
            return self.penalty.value(coef)
        beta = np.array([intercept / self.scaling])
        return self.penalty.value(coef) + self.penalty.value(beta)

    def parameters(self, width: float) -> np.ndarray:
        """Return the kernels' parameters, shape (4,), of the loss at a smoothing width."""
        if self.squared:
            return np.array([0.0, np.inf, 2.0, 1.0])
        width = max(width, 1e-300)
        return np.array([0.5 * width, width, 1.0 / width, 0.0])


@dataclass(frozen=True)
class MarginQuery:
    """What a solver wants to know at a point.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients.
    intercept : float
        Intercept.
    width : float
        Width of the window in which the hinge is rounded.
    move : ndarray of shape (n_features,) or None
        The direction in which the point was reached.
    move_intercept : float
        Its intercept.
    step : float
        The point is this many moves away from where the search began.
    hessian : bool
        Whether the Hessian is wanted.
    stride : int
        Every so many of the rows with a curvature stand for all of them in the Hessian.
    columns : ndarray of shape (n_columns,)
        Its columns; empty for all.
    """

    coef: np.ndarray
    intercept: float
    width: float
    move: np.ndarray | None = None
    move_intercept: float = 0.0
    step: float = 1.0
    hessian: bool = False
    stride: int = 1
    columns: np.ndarray = field(default_factory=lambda: ALL_COLUMNS)


@dataclass(frozen=True)
class ProductQuery:
    """A product of the loss's Hessian at a point with a vector.

    Attributes
    ----------
    coef, intercept, width
        The point, as in `MarginQuery`.
    point : int
        Number of the point, by which the next product at the same point knows it.
    kind : {"product", "pull", "rows"}
        The product; ``X' D r`` with the curvatures D and ``r_i = y_i t_i``; or the rows that
        have a curvature.
    move : ndarray of shape (n_features,) or None
        The vector of a product.  The answer has its precision.
    move_intercept : float
        Its last entry.
    """

    coef: np.ndarray
    intercept: float
    width: float
    point: int
    kind: Literal["product", "pull", "rows"] = "product"
    move: np.ndarray | None = None
    move_intercept: float = 0.0


@dataclass(frozen=True)
class MarginEvaluation:
    """The answer to a `MarginQuery`.

    Attributes
    ----------
    query : MarginQuery
        What was asked.
    value : float
        Smoothed loss, without the penalty.
    objective : float
        Objective of the loss proper, penalty included.
    gap, relative_gap : float
        Bound of the distance of ``objective`` to the optimum; the same relative to the lower
        bound of the optimum.
    slack : float
        Part of the gap that is owed to the smoothing width.
    gradient : ndarray of shape (n_features,)
        Gradient of the smoothed loss.
    intercept_gradient : float
        The same with respect to the intercept.
    dual_scale : tuple of float
        What the alphas of rows with y = -1 and y = +1 were multiplied by for the bound.
    line : ndarray of shape (n_steps, 2)
        Smoothed loss and its rate of change at `STEPS` of the search.
    bend : float
        Sum of the curvatures.
    n_bent : float
        Number of rows that have one.
    alpha_sum : float
        Sum of the dual variables, not scaled.
    counts : tuple of float
        Support vectors with y = -1 and y = +1.
    hessian : ndarray of shape (n_columns + 2, n_columns + 2) or None
        Lower triangle of ``sum_i cost_i phi''(t_i) (x_i, 1, y_i)(x_i, 1, y_i)'``.
    """

    query: MarginQuery
    value: float
    objective: float
    gap: float
    relative_gap: float
    slack: float
    gradient: np.ndarray
    intercept_gradient: float
    dual_scale: tuple[float, float]
    line: np.ndarray
    bend: float
    n_bent: float
    alpha_sum: float
    counts: tuple[float, float]
    hessian: np.ndarray | None


@dataclass(frozen=True)
class Product:
    """The answer to a `ProductQuery`: coefficients' and intercept's part."""

    vector: np.ndarray
    intercept: float


def evaluation(
    problem: MarginProblem,
    query: MarginQuery,
    sums: np.ndarray,
    gradient: np.ndarray,
    positive: np.ndarray | None,
    line: np.ndarray,
    hessian: np.ndarray | None,
) -> MarginEvaluation:
    """Return what the sums over all rows say about a point.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    query : MarginQuery
        The point.
    sums : ndarray of shape (12,)
        See `dask_dml.kernels.margin_rows`.
    gradient : ndarray of shape (n_features,)
        ``sum_i alpha_i y_i x_i``.
    positive : ndarray of shape (n_features,) or None
        The part of it from rows with y = +1; needed where the intercept is free.
    line : ndarray of shape (n_steps, 2)
        Line search.
    hessian : ndarray or None
        Lower triangle.

    Returns
    -------
    evaluation : MarginEvaluation
        With the duality gap.
    """
    penalty = problem.penalty_value(query.coef, query.intercept)
    objective = float(sums[rows.TARGET]) + penalty
    if np.isfinite(objective) and np.isfinite(sums).all() and np.isfinite(gradient).all():
        with np.errstate(over="ignore", invalid="ignore"):  # no bound follows then
            scale, bound = dual_bound(problem, sums, gradient, positive)
    else:
        # The point is too far out for its sums: no step leads there.
        objective, scale, bound = np.inf, (0.0, 0.0), 0.0
    gap = certified_gap(objective, bound) if np.isfinite(objective) else np.inf
    u_b = 0.0
    if problem.scaling > 0.0:
        u_b = float(sums[rows.ALPHA_POSITIVE] - sums[rows.ALPHA])
    return MarginEvaluation(
        query=query,
        value=float(sums[rows.SMOOTH]),
        objective=objective,
        gap=gap,
        relative_gap=gap / bound if bound > 0.0 else np.inf,
        slack=max(float(sums[rows.SLACK]), 0.0),
        gradient=-gradient,
        intercept_gradient=-u_b,
        dual_scale=scale,
        line=line,
        bend=float(sums[rows.BEND]),
        n_bent=float(sums[rows.BENT]),
        alpha_sum=float(sums[rows.ALPHA] + sums[rows.ALPHA_POSITIVE]),
        counts=(float(sums[rows.COUNT]), float(sums[rows.COUNT_POSITIVE])),
        hessian=hessian,
    )


def dual_bound(
    problem: MarginProblem,
    sums: np.ndarray,
    gradient: np.ndarray,
    positive: np.ndarray | None,
) -> tuple[tuple[float, float], float]:
    """Return the factors that make the alphas feasible, and the best D along their scale.

    Returns
    -------
    scale : tuple of float
        Factors of the alphas of rows with y = -1 and y = +1.
    bound : float
        D, a lower bound of the optimum; zero if the alphas are.
    """
    alphas = sums[[rows.ALPHA, rows.ALPHA_POSITIVE]]
    balance = np.ones(2)
    if problem.free:
        if positive is None:
            raise ValueError("a free intercept needs the classes' sums apart")
        balance = np.divide(alphas.min(), alphas, out=np.zeros(2), where=alphas > 0.0)
        gradient = balance[0] * (gradient - positive) + balance[1] * positive
    linear = float(balance @ alphas)
    quadratic = 0.0
    if problem.squared:
        quadratic = float(balance**2 @ sums[[rows.SQUARES, rows.SQUARES_POSITIVE]])
    largest = np.inf if problem.squared else 1.0
    pull = 0.0 if problem.free else abs(float(alphas[1] - alphas[0])) * problem.scaling
    if problem.l1:
        steepest = max(float(np.abs(gradient).max(initial=0.0)), pull)
        largest = min(largest, 1.0 / steepest) if steepest > 0.0 else largest
    else:
        quadratic += 0.5 * (float(gradient @ gradient) + pull**2)
    scale = largest
    if quadratic > 0.0:
        scale = min(largest, linear / (2.0 * quadratic))
    if not np.isfinite(scale):
        return (0.0, 0.0), 0.0
    factors = (float(scale * balance[0]), float(scale * balance[1]))
    return factors, float(scale * linear - scale**2 * quadratic)
