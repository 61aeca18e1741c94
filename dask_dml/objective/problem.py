"""A batch of linear problems over one X, and the conventions of their objectives.

Problem ``c`` minimises over ``w`` and ``b``::

    (1/S) sum_i s_i loss(y_ic - x_i.w - b) + l1 ||w||_1 + l2/2 ||w||_2**2,     S = sum_i s_i

with ``l1 = alpha * l1_ratio`` and ``l2 = alpha * (1 - l1_ratio)``; squared error is
``r**2 / 2``, squared epsilon-insensitive loss has no 1/2, and the intercept is never penalised.
With ``aggregation="uniform"`` the weights of every node are first divided by their sum, so that
each node counts the same.

Inside the solvers a problem is centred: predictions are ``target_mean + (x - mean).w + b``, so
that neither an offset of a column nor of the target costs digits.  Nothing is copied for it.

Fenchel duality bounds the distance to the optimum: with ``u_i = loss'(r_i)`` and the gradient
``g`` of the data term, the gap is ``sum s_i (loss + loss* - u r) / S + pen(w) + pen*(-g) + w.g``
once ``u`` is balanced (``sum s_i u_i = 0``, the dual constraint of a free intercept) and scaled
into the domain of the conjugates.  Everything in it is a by-product of the gradient pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dask_dml.kernels import rows
from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.rounding import not_negative
from dask_dml.passes import evaluate as passes
from dask_dml.passes.partials import LossSums, Moments
from dask_dml.rounds.base import Rounds

#: A column counts as offset where its mean exceeds its spread by this factor: the sums that are
#: corrected for the mean afterwards lose about as many digits as this number has.
OFFSET_RATIO = 100.0


#: Rounding of a sum relative to its terms, with room for a few operations.
ROUNDING = 1e-15
#: Rounding of an objective relative to it.
RELATIVE_ROUNDING = 1e-9


@dataclass(frozen=True)
class Query:
    """What a solver wants to know about its problem next.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients.
    intercept : float
        Intercept relative to the means.
    width : float, default=0
        Smoothing width; that of the loss itself where it is larger.
    hessian : bool, default=False
        Whether the Hessian is wanted, too.
    """

    coef: np.ndarray
    intercept: float
    width: float = 0.0
    hessian: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The answer to a `Query`.

    Attributes
    ----------
    query : Query
        What was asked.
    value : float
        Data term of the (smoothed) loss.
    objective : float
        Objective of the loss proper, penalty included.
    gap : float
        Bound of the distance of ``objective`` to the optimum; infinite where there is none.
    relative_gap : float
        The gap relative to the lower bound of the optimum.
    floor : float
        What relative errors are at least relative to; see `Objective.floor`.
    slack : float
        Part of the gap that is owed to the smoothing width.
    gradient : ndarray of shape (n_features,)
        Gradient of the (smoothed) data term with respect to the coefficients.
    intercept_gradient : float
        The same with respect to the intercept; zero where none is fitted.
    curvature : float
        Weighted mean of the second derivative of the loss.
    hessian : ndarray of shape (n_features + 1, n_features + 1) or None
        Lower triangle of the data term's Hessian, intercept last.
    """

    query: Query
    value: float
    objective: float
    gap: float
    relative_gap: float
    floor: float
    slack: float
    gradient: np.ndarray
    intercept_gradient: float
    curvature: float
    hessian: np.ndarray | None


@dataclass(frozen=True)
class Problem:
    """One problem of a batch: which target, which loss, which penalty.

    Attributes
    ----------
    column : int
        Column of y.
    loss : Loss
        Loss of the residuals.
    penalty : ElasticNet
        Penalty of the coefficients.
    """

    column: int
    loss: Loss
    penalty: ElasticNet


@dataclass(frozen=True)
class Frame:
    """The coordinates that the problems are solved in.

    Attributes
    ----------
    weight : float
        S, the sum of the sample weights.
    n_rows : int
        Number of rows.
    mean, spread : ndarray of shape (n_features,)
        What columns are taken relative to (zero without intercept), and their root mean square
        about it.
    target_mean, target_spread : ndarray of shape (n_outputs,)
        The same of the targets.
    residual_mean : ndarray of shape (n_features,)
        Mean of the columns in these coordinates; zero where they are centred.
    target_deviation : ndarray of shape (n_outputs,)
        Root mean square of the targets about their means, in whatever coordinates.
    """

    weight: float
    n_rows: int
    mean: np.ndarray
    spread: np.ndarray
    target_mean: np.ndarray
    target_spread: np.ndarray
    residual_mean: np.ndarray
    target_deviation: np.ndarray

    @classmethod
    def of(cls, moments: Moments, *, centred: bool) -> Frame:
        """Return the centred or the raw coordinates for given moments."""
        weight = moments.weight
        square = np.maximum(moments.square, 0.0) / weight
        target_square = np.maximum(moments.target_square, 0.0) / weight
        deviation = np.sqrt(target_square)
        if centred:
            return cls(
                weight,
                moments.n_rows,
                moments.mean,
                np.sqrt(square),
                moments.target_mean,
                deviation,
                np.zeros_like(moments.mean),
                deviation,
            )
        return cls(
            weight,
            moments.n_rows,
            np.zeros_like(moments.mean),
            np.sqrt(square + moments.mean**2),
            np.zeros_like(moments.target_mean),
            np.sqrt(target_square + moments.target_mean**2),
            moments.mean,
            deviation,
        )

    @property
    def offset(self) -> bool:
        """Whether differences to the mean have to be taken row by row."""
        return bool(np.any(np.abs(self.mean) > OFFSET_RATIO * self.spread))

    def raw_intercept(self, column: int, coef: np.ndarray, intercept: float) -> float:
        """Return the intercept for uncentred columns and targets."""
        return float(self.target_mean[column] + intercept - self.mean @ coef)

    def centred_intercept(self, column: int, coef: np.ndarray, intercept: float) -> float:
        """Return the intercept relative to the means."""
        return float(intercept - self.target_mean[column] + self.mean @ coef)


class Objective:
    """Evaluates problems of a batch by rounds over the data.

    Parameters
    ----------
    rounds : Rounds
        The data.
    problems : sequence of Problem
        The batch.
    frame : Frame
        The coordinates.
    fit_intercept : bool
        Whether intercepts are free; otherwise they are held at zero.
    units : ndarray of shape (n_shards,) or None
        Factor on the weights of each shard (``aggregation="uniform"``).
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that the frame and all coefficients are about; None for all.
    """

    def __init__(
        self,
        rounds: Rounds,
        problems: Sequence[Problem],
        frame: Frame,
        *,
        fit_intercept: bool,
        units: np.ndarray | None = None,
        columns: np.ndarray | None = None,
    ) -> None:
        self.columns = columns
        self.rounds = rounds
        self.problems = tuple(problems)
        self.frame = frame
        self.fit_intercept = fit_intercept
        self.units = units
        # The largest lower bounds of the optima so far; no loss and no penalty is negative.
        self._bounds = np.zeros(len(self.problems))

    def evaluate(self, queries: dict[int, Query]) -> dict[int, Evaluation]:
        """Answer the queries of several problems, by problem number, in one round."""
        return self.answers(queries, self.rounds.map_reduce(passes.loss_sums, self.point(queries)))

    def point(self, queries: dict[int, Query]) -> passes.Point:
        """Return what nodes have to be told of the queries."""
        numbers = sorted(queries)
        chosen = [self.problems[number] for number in numbers]
        asked = [queries[number] for number in numbers]
        column = np.array([problem.column for problem in chosen], dtype=np.intp)
        return passes.Point(
            coef=np.array([query.coef for query in asked]),
            intercept=np.array([query.intercept for query in asked]),
            parameters=np.array(
                [p.loss.parameters(q.width) for p, q in zip(chosen, asked, strict=True)]
            ),
            column=column,
            mean=self.frame.mean,
            target_mean=self.frame.target_mean[column],
            offset=self.frame.offset,
            units=self.units,
            hessian=any(query.hessian for query in asked),
            columns=self.columns,
        )

    def answers(self, queries: dict[int, Query], total: LossSums) -> dict[int, Evaluation]:
        """Return what the sums over all rows say to the queries."""
        answers, found = {}, total.hessian
        for position, number in enumerate(sorted(queries)):
            bend = None if found is None else found[position] / self.frame.weight
            # A diverging solver gets to hear of it by an objective that is not finite.
            with np.errstate(over="ignore", invalid="ignore"):
                answers[number] = self.judged(
                    number,
                    queries[number],
                    -total.gradient[position] / self.frame.weight,
                    total.sums[position] / self.frame.weight,
                    bend,
                )
        return answers

    def judged(
        self,
        number: int,
        query: Query,
        gradient: np.ndarray,
        sums: np.ndarray,
        hessian: np.ndarray | None,
        *,
        own_slopes: bool = True,
    ) -> Evaluation:
        """Return what sums over the rows say of a point: its objective and its duality gap.

        Parameters
        ----------
        number : int
            Of the problem.
        query : Query
            The point.
        gradient : ndarray of shape (n_features,)
            Mean of the columns times the slopes, but for a linear term of the loss, negated.
        sums : ndarray of shape (9,)
            Means of the terms of `dask_dml.kernels.rows`, at slopes of any kind.
        hessian : ndarray of shape (n_features + 1, n_features + 1) or None
            Lower triangle, handed on.
        own_slopes : bool, default=True
            Whether the slopes are those of the (smoothed) loss at the point's residuals.
        """
        problem = self.problems[number]
        penalty = problem.penalty.value(query.coef)
        tilt = problem.loss.tilt
        tilted = tilt * float(sums[rows.RESIDUAL])
        gradient = gradient - tilt * self.frame.residual_mean
        objective = float(sums[rows.TARGET_VALUE]) + tilted + penalty
        size = _sizes(problem.loss, sums)
        # A loss of infinite width has none at its own slopes; rounding is not to be taken for it.
        slack = 0.0
        if problem.loss.bounded_slope or not own_slopes:
            slack = not_negative(float(sums[rows.SLACK]), size, "the price of smoothing")
        gap = self._gap(problem, query.coef, gradient, sums, slack, size)
        floor = self.floor(number)
        self._check_bound(number, query.coef, objective, gap)
        return Evaluation(
            query=query,
            value=float(sums[rows.VALUE]) + tilted,
            objective=objective,
            gap=gap,
            relative_gap=relative_gap(objective, gap, floor),
            floor=floor,
            slack=slack,
            gradient=gradient,
            intercept_gradient=-float(sums[rows.DUAL] + tilt) if self.fit_intercept else 0.0,
            curvature=float(sums[rows.CURVATURE]),
            hessian=hessian,
        )

    def _gap(
        self,
        problem: Problem,
        coef: np.ndarray,
        gradient: np.ndarray,
        sums: np.ndarray,
        slack: float,
        size: float,
    ) -> float:
        """Return the gap once the slopes are made feasible for the dual.

        A tilted loss has the slopes ``u = v + tilt``, of which the sums have ``v``; its conjugate
        at ``u`` is that of the symmetric part at ``u - tilt``.
        """
        loss, mean_slope = problem.loss, 0.0
        scale = 1.0
        if self.fit_intercept:
            # Not a Python float, whose overflow is an error.
            mean_slope = sums[rows.DUAL] + loss.tilt
            gradient = gradient + mean_slope * self.frame.residual_mean
            if loss.bounded_slope:
                largest = loss.slope + loss.tilt if mean_slope < 0.0 else loss.slope - loss.tilt
                scale = largest / (largest + abs(mean_slope))
        gradient, mended = self._without_rounding(problem, coef, gradient, sums)
        scale *= problem.penalty.dual_scale(scale * gradient)
        dual_residual = sums[rows.DUAL_EXCESS] + loss.margin * sums[rows.DUAL_ABS]
        moved = (
            (1.0 - scale) * dual_residual
            + (scale * mean_slope + (1.0 - scale) * loss.tilt) * sums[rows.RESIDUAL]
            + loss.margin * ((scale - 1.0) * sums[rows.DUAL_ABS] + scale * abs(mean_slope))
            + 0.5
            * loss.inverse_curvature
            * ((scale**2 - 1.0) * sums[rows.DUAL_SQUARE] - (scale * mean_slope) ** 2)
        )
        size += (abs(float(mean_slope)) + abs(loss.tilt)) * abs(float(sums[rows.RESIDUAL]))
        of_rows = not_negative(slack + float(moved), size, "the rows' part of a duality gap")
        return of_rows + mended + problem.penalty.fenchel_gap(coef, scale * gradient)

    def _check_bound(self, number: int, coef: np.ndarray, objective: float, gap: float) -> None:
        """Raise RuntimeError if an objective is below what was a lower bound of all."""
        if not np.isfinite(objective):
            return
        rounding = self._rounding(number, coef, objective)
        best = float(self._bounds[number])
        if objective < best - rounding:
            raise RuntimeError(
                f"internal error: a lower bound of the optimum, {best!r}, is above an objective, "
                f"{objective!r}; please report it with the data's shape and the parameters"
            )
        if np.isfinite(gap):
            self._bounds[number] = max(best, objective - gap - rounding)

    def _rounding(self, number: int, coef: np.ndarray, objective: float) -> float:
        """Return what rounding may do to an objective, with room to spare."""
        problem, frame = self.problems[number], self.frame
        terms = frame.target_spread[problem.column] + frame.spread @ np.abs(coef)
        terms = float(terms + abs(frame.target_mean[problem.column]))
        # Where means are taken off the sums, columns may be so much larger than their spread.
        change = ROUNDING * OFFSET_RATIO * terms
        if problem.loss.bounded_slope:
            rounding = problem.loss.slope * change
        else:
            curvature = problem.loss.curvature
            rounding = np.sqrt(2.0 * curvature * objective) * change + curvature * change**2
        return float(rounding) + RELATIVE_ROUNDING * objective

    def _without_rounding(
        self, problem: Problem, coef: np.ndarray, gradient: np.ndarray, sums: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Return the gradient nearest to an optimum's within rounding, and what that may hide.

        A weak L1 penalty asks for digits of the gradient that it has not: no coefficients of
        finite precision meet it closer than the residuals' last digits times the curvature.
        The objective depends on such a change by itself times the coefficients.
        """
        penalty, frame = problem.penalty, self.frame
        if penalty.l1 == 0.0 or penalty.l2 > 0.0:
            return gradient, 0.0
        terms = frame.target_spread[problem.column] + frame.spread @ np.abs(coef)
        slopes = np.sqrt(max(sums[rows.DUAL_SQUARE], 0.0)) + sums[rows.CURVATURE] * terms
        rounding = ROUNDING * slopes * frame.spread
        change = np.clip(penalty.subgradient(coef, gradient), -rounding, rounding)
        return gradient - change, 2.0 * float(np.abs(change) @ np.abs(coef))

    def floor(self, number: int) -> float:
        """Return what a relative error is at least relative to.

        1e-8 of the loss of a residual as large as the target's spread (for squared error: of
        half the target's variance), so that a perfect fit does not divide by nothing.  Where
        such a residual costs nothing: 1e-16 of what it costs beyond the margin.
        """
        problem, frame = self.problems[number], self.frame
        # An intercept takes the mean up at once: an offset of the targets makes no fit worse.
        spreads = frame.target_deviation if self.fit_intercept else frame.target_spread
        spread = float(spreads[problem.column])
        beyond = 1e-16 * problem.loss.value(problem.loss.margin + spread)
        return max(1e-8 * problem.loss.value(spread), beyond)


def _sizes(loss: Loss, sums: np.ndarray) -> float:
    """Return the sum of the sizes of the terms that a gap is made of."""
    conjugate = loss.margin * sums[rows.DUAL_ABS] + loss.inverse_curvature * sums[rows.DUAL_SQUARE]
    return float(sums[rows.TARGET_VALUE] + abs(sums[rows.DUAL_EXCESS]) + conjugate)


def relative_gap(objective: float, gap: float, floor: float) -> float:
    """Return the duality gap relative to the dual value, which bounds the optimum from below.

    An objective that is no more than the ``floor`` has zero for a lower bound, too: nothing is
    negative.
    """
    if objective <= floor:
        gap = min(gap, objective)
    if not np.isfinite(gap):
        return np.inf
    if gap <= 0.0:
        return 0.0
    base = max(objective - gap, floor)
    return gap / base if base > 0.0 else np.inf
