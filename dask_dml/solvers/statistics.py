"""Squared error from sufficient statistics: one pass, then everything happens on the driver.

Second moments lose digits with the square of X's condition number.  So a pass that computes a
true gradient refines the answer where the (column-scaled) condition number is large, and where
it is too large for that the triangular factor of X itself (TSQR) takes the moments' place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dask_dml.objective.problem import Evaluation, Objective, Query, relative_gap
from dask_dml.objective.rounding import not_negative
from dask_dml.passes import evaluate as passes
from dask_dml.passes.partials import Statistics
from dask_dml.rounds.base import Rounds
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.gram import Gram
from dask_dml.solvers.quadratic import (
    condition,
    condition_bound,
    minimise_quadratic,
    solve_smooth,
    symmetric,
)

#: Condition number of the scaled, penalised second moments above which a refining pass pays.
REFINE_ABOVE = 1e6
#: Above this the moments have lost too much for refinement to bring back.
FACTORISE_ABOVE = 1e11
#: The same for products in single precision; corrections of what these say, the relative change of
#: the coefficients that ends them, and by how much each has to be smaller than the one before.
ROUGH_CONDITION, CORRECTIONS, CHANGE, FASTER = 3e8, 8, 1e-10, 0.1
#: Share of the largest eigenvalue below which a start for other losses ignores a direction.
_HARDLY = 1e-10
#: How many times as many columns as rows there are where rows are few, and the entries of X up
#: to which they may travel.
FEW, MAX_ENTRIES = 2, 2**22
#: Rounding of a residual relative to the terms that it is the sum of.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class Quadratic:
    """The data term of squared error in a frame: ``w'Bw/2 - c'w + half the target's square``.

    Attributes
    ----------
    B : ndarray of shape (n_features, n_features)
        Mean second moments of X.
    c : ndarray of shape (n_features, n_outputs)
        Mean products of X and the targets.
    target_square : ndarray of shape (n_outputs,)
        Mean squares of the targets.
    rough : bool
        Whether B has the digits of single precision only.
    """

    B: np.ndarray
    c: np.ndarray
    target_square: np.ndarray
    rough: bool = False

    @classmethod
    def of(cls, statistics: Statistics, *, centred: bool) -> Quadratic:
        """Return the quadratic in centred or in raw coordinates."""
        weight = statistics.weight
        B = symmetric(statistics.products) / weight
        c = statistics.cross / weight
        square = statistics.target_square / weight
        if not centred:
            B = B + np.outer(statistics.mean, statistics.mean)
            c = c + np.outer(statistics.mean, statistics.target_mean)
            square = square + statistics.target_mean**2
        return cls(B, c, square, statistics.rough)


def solve(
    rounds: Rounds, quadratic: Quadratic, objective: Objective, starts: np.ndarray, limits: Limits
) -> list[Outcome]:
    """Minimise squared error plus an elastic net for all problems of a batch.

    Parameters
    ----------
    rounds : Rounds
        The data, for the passes that a bad condition asks for.
    quadratic : Quadratic
        Sufficient statistics in the objective's frame.
    objective : Objective
        The batch.
    starts : ndarray of shape (n_problems, n_features)
        Where coordinate descent begins (L1 penalties only).
    limits : Limits
        Relative duality gap that counts as converged, and the deadline.

    Returns
    -------
    outcomes : list of Outcome
        One per problem.
    """
    if quadratic.rough:
        outcomes = _solve_rough(quadratic, objective, starts, limits)
        if outcomes is not None:
            return outcomes
        exact = rounds.map_reduce(passes.statistics, objective.units)
        quadratic = Quadratic.of(exact, centred=objective.fit_intercept)
    l2 = max(problem.penalty.l2 for problem in objective.problems)
    conditioned = condition(quadratic.B, np.full(len(quadratic.B), l2), REFINE_ABOVE)
    if conditioned > FACTORISE_ABOVE:
        factor = _factorise(rounds, objective)
        return [_from_factor(objective, number, factor, limits) for number in range(len(starts))]
    columns = [problem.column for problem in objective.problems]
    coefs = {
        number: _minimise(objective, number, quadratic.B, quadratic.c[:, column], start, limits)
        for number, (column, start) in enumerate(zip(columns, starts, strict=True))
    }
    if conditioned <= REFINE_ABOVE:
        return [
            _outcome(objective, number, quadratic, coef, limits.tol)
            for number, coef in coefs.items()
        ]
    answers = objective.evaluate({number: Query(coef, 0.0) for number, coef in coefs.items()})
    final = objective.evaluate(_corrected(quadratic, objective, answers, limits))
    return [
        _better(objective, number, answers[number], final[number], limits.tol)
        for number in sorted(final)
    ]


def _corrected(
    quadratic: Quadratic, objective: Objective, answers: dict[int, Evaluation], limits: Limits
) -> dict[int, Query]:
    """Solve again with the true gradient, whose digits the second moments have lost."""
    queries = {}
    for number, answer in answers.items():
        linear = quadratic.B @ answer.query.coef - answer.gradient
        coef = _minimise(objective, number, quadratic.B, linear, answer.query.coef, limits)
        queries[number] = Query(coef, -answer.intercept_gradient)
    return queries


def _solve_rough(
    quadratic: Quadratic, objective: Objective, starts: np.ndarray, limits: Limits
) -> list[Outcome] | None:
    """Correct what rough second moments say until no more than rounding changes.

    Each correction multiplies the error by the moments' rounding times their condition number.
    None is returned where that does not get there.
    """
    l2 = min(problem.penalty.l2 for problem in objective.problems)
    if condition_bound(quadratic.B, np.full(len(quadratic.B), l2)) > ROUGH_CONDITION:
        return None
    columns = [problem.column for problem in objective.problems]
    answers = objective.evaluate(
        {
            number: Query(
                _minimise(objective, number, quadratic.B, quadratic.c[:, c], start, limits), 0.0
            )
            for number, (c, start) in enumerate(zip(columns, starts, strict=True))
        }
    )
    spread, before = objective.frame.spread, 1.0
    for n_iter in range(2, 2 + CORRECTIONS):
        queries = _corrected(quadratic, objective, answers, limits)
        change = max(
            _length(spread * (query.coef - answers[number].query.coef))
            / (_length(spread * query.coef) or 1.0)
            for number, query in queries.items()
        )
        first, answers = answers, objective.evaluate(queries)
        outcomes = [
            replace(
                _better(objective, number, first[number], answers[number], limits.tol),
                n_iter=n_iter,
            )
            for number in sorted(answers)
        ]
        # The next change is smaller by as much as this one is; the first, than the coefficients.
        settled = change <= CHANGE or change * (change / before) <= CHANGE
        if limits.late or (settled and all(outcome.converged for outcome in outcomes)):
            return outcomes
        if change > FASTER * before:
            return None
        before = change
    return None


def _length(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector))


def few_rows(n_rows: float, n_features: int) -> bool:
    """Return whether rows are so few that they may travel in place of their second moments."""
    return FEW * n_rows <= n_features and n_rows * n_features <= MAX_ENTRIES


def solve_few_rows(rounds: Rounds, objective: Objective, limits: Limits) -> list[Outcome]:
    """Do as `solve` without second moments, for few rows of any number of columns."""
    factor = _factorise(rounds, objective)
    numbers = range(len(objective.problems))
    return [_from_factor(objective, number, factor, limits) for number in numbers]


def from_moments(
    objective: Objective, number: int, quadratic: Quadratic, start: np.ndarray, tol: float
) -> Outcome:
    """Minimise one problem on the driver, with no pass over the data.

    Parameters
    ----------
    objective : Objective
        The batch.
    number : int
        The problem.
    quadratic : Quadratic
        Sufficient statistics in the objective's frame.
    start : ndarray of shape (n_features,)
        Where coordinate descent begins (L1 penalties only).
    tol : float
        Relative duality gap that counts as converged.
    """
    column = objective.problems[number].column
    linear, limits = quadratic.c[:, column], Limits(1, tol)
    coef = _minimise(objective, number, quadratic.B, linear, start, limits)
    return _outcome(objective, number, quadratic, coef, tol)


def _minimise(
    objective: Objective,
    number: int,
    B: np.ndarray | Gram,
    c: np.ndarray,
    start: np.ndarray,
    limits: Limits,
) -> np.ndarray:
    penalty, p = objective.problems[number].penalty, len(B)
    l1, l2 = np.full(p, penalty.l1), np.full(p, penalty.l2)
    return minimise_quadratic(B, c, l1, l2, start, limits.deadline)


def _outcome(
    objective: Objective, number: int, quadratic: Quadratic, coef: np.ndarray, tol: float
) -> Outcome:
    problem = objective.problems[number]
    gradient = quadratic.B @ coef - quadratic.c[:, problem.column]
    square = quadratic.target_square[problem.column]
    parts = np.array([square, coef @ gradient, -float(coef @ quadratic.c[:, problem.column])])
    # Where nearly all is explained these cancel; the residual's own digits need another pass.
    value = not_negative(0.5 * float(parts.sum()), float(np.abs(parts).sum()), "a mean square")
    total = value + problem.penalty.value(coef)
    return _finished(objective, number, coef, gradient, total, tol)


def _finished(
    objective: Objective,
    number: int,
    coef: np.ndarray,
    gradient: np.ndarray,
    total: float,
    tol: float,
) -> Outcome:
    """Return the outcome with the gap of squared error, whose dual is always feasible."""
    penalty = objective.problems[number].penalty
    left = _left(objective, number, coef, gradient)
    target_spread = float(objective.frame.target_spread[objective.problems[number].column])
    optimality = left / max(target_spread, 1e-300)
    scale = penalty.dual_scale(gradient)
    # Scaling the residuals by s costs (1 - s)**2 times half their mean square.
    gap = (1.0 - scale) ** 2 * total + penalty.fenchel_gap(coef, scale * gradient)
    gap = relative_gap(total, gap, objective.floor(number))
    met = gap <= tol or _is_exact(objective, number, coef, gradient)
    return Outcome(coef, 0.0, total, gap, optimality, 1, met, [total])


def _left(objective: Objective, number: int, coef: np.ndarray, gradient: np.ndarray) -> float:
    """Return the largest slope that is left, per unit of a column's spread."""
    spread = objective.frame.spread
    slopes = objective.problems[number].penalty.subgradient(coef, gradient)
    return float(np.abs(slopes / np.where(spread > 0.0, spread, 1.0)).max(initial=0.0))


def _is_exact(objective: Objective, number: int, coef: np.ndarray, gradient: np.ndarray) -> bool:
    """Whether nothing but rounding is left, or there is no penalty and so no gap.

    The gap may still be large then: it divides the square of a slope by the penalty.
    """
    problem, frame = objective.problems[number], objective.frame
    if problem.penalty.l1 == 0.0 == problem.penalty.l2:
        return True
    terms = frame.target_spread[problem.column] + frame.spread @ np.abs(coef)
    return _left(objective, number, coef, gradient) <= _ROUNDING * float(terms)


def _better(
    objective: Objective, number: int, first: Evaluation, second: Evaluation, tol: float
) -> Outcome:
    e = second if second.objective <= first.objective else first
    return Outcome(
        e.query.coef,
        e.query.intercept,
        e.objective,
        e.relative_gap,
        np.inf,
        2,
        e.relative_gap <= tol or _is_exact(objective, number, e.query.coef, e.gradient),
        [first.objective, e.objective],
    )


def _factorise(rounds: Rounds, objective: Objective) -> np.ndarray:
    frame = objective.frame
    centre = passes.Centre(frame.mean, frame.target_mean, objective.units, objective.columns)
    return rounds.map_reduce(passes.triangle, centre).factor


def _from_factor(objective: Objective, number: int, factor: np.ndarray, limits: Limits) -> Outcome:
    """Solve one problem from the triangular factor, rank by the rule of least squares."""
    problem, frame = objective.problems[number], objective.frame
    p = len(frame.mean)
    R = factor[:, :p] / np.sqrt(frame.weight)
    z = factor[:, p + problem.column] / np.sqrt(frame.weight)
    if problem.penalty.l1 > 0.0:
        B = Gram(R.T) if FEW * len(R) <= p else R.T @ R
        coef = np.zeros(p)
        for _ in range(3):  # the residual, not the products, has the digits
            known = B.dot(coef) if isinstance(B, Gram) else B @ coef
            linear = known + R.T @ (z - R @ coef)
            coef = _minimise(objective, number, B, linear, coef, limits)
    else:
        U, values, Vt = row_space(R, frame.n_rows)
        coef = Vt.T @ (values / (values**2 + problem.penalty.l2) * (U.T @ z))
    residual = z - R @ coef
    total = 0.5 * float(residual @ residual) + problem.penalty.value(coef)
    return _finished(objective, number, coef, -R.T @ residual, total, limits.tol)


def row_space(R: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the singular value decomposition of ``R`` without what is rounding.

    The rule of `numpy.linalg.lstsq`, for a matrix of ``n_rows`` rows that ``R`` is the factor of.
    """
    U, values, Vt = np.linalg.svd(R, full_matrices=False)
    tiny = max(n_rows, R.shape[1]) * np.finfo(np.float64).eps * values.max(initial=0.0)
    kept = values > tiny
    return U[:, kept], values[kept], Vt[kept]


def least_squares(quadratic: Quadratic, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Return least-squares solutions for all problems and the root mean squares of their residuals.

    The start of solvers of other losses.  Of directions in which X hardly varies nothing is kept,
    so that it is finite, and has no digits of rounding in it, whatever X is.
    """
    p = len(quadratic.B)
    coefs, spreads = [], []
    for problem in objective.problems:
        c = quadratic.c[:, problem.column]
        coef = solve_smooth(quadratic.B, c, np.full(p, problem.penalty.l2), _HARDLY)
        square = quadratic.target_square[problem.column] + coef @ (quadratic.B @ coef - 2.0 * c)
        coefs.append(coef)
        spreads.append(np.sqrt(max(float(square), 0.0)))
    return np.array(coefs), np.array(spreads)
