"""A primal-dual interior-point method for linear support vector machines that are not wide.

S. Mehrotra, *On the implementation of a primal-dual interior point method*, SIAM Journal on
Optimization 2 (1992); K. Woodsend and J. Gondzio, *Hybrid MPI/OpenMP parallel linear support vector
machine training*, Journal of Machine Learning Research 10 (2009), for rows that are spread over
nodes.  It needs 20 to 50 steps whatever the weights of the rows, the scales of the columns and C,
where Newton's method on the loss itself meets one row with a large cost after the other.  A step is
three rounds, and its Hessian has all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Literal

import numpy as np

from dask_dml.objective.certificate import certified_gap
from dask_dml.objective.interior import InteriorAnswer, InteriorQuery
from dask_dml.objective.margins import MarginEvaluation, MarginProblem
from dask_dml.solvers.interior_parts import ROUNDING, Pace, PenaltyParts, solver
from dask_dml.solvers.margin_systems import hessian_of, ridge_of
from dask_dml.solvers.quadratic import symmetric

#: Share of the way to where a variable would be zero that a step may go.
NEARLY = 0.995
#: Share of gap, products or residual that a step may leave, and steps that leave more after which
#: no more is to be had.
ENOUGH, PATIENCE = 0.9, 12
#: Where the central path is joined, relative to the mean loss: first steps from nearer are short.
JOINED = 30.0


#: Steps after which to ask whether the gap falls (of the hinge, whose window is narrowed first, and
#: of the squared hinge), and steps more that are too many: what the interior-point method takes.
HINGE_STEPS, MIN_STEPS, STEPS_LEFT = 22, 14, 15.0


def pace_of(problem: MarginProblem, tol: float, deadline: float) -> Pace:
    """Return what tells whether Newton's method is slow beside this one."""
    return Pace(tol, MIN_STEPS if problem.squared else HINGE_STEPS, STEPS_LEFT, deadline)


def _parts(problem: MarginProblem, z: np.ndarray, centre: float) -> PenaltyParts:
    ridge = ridge_of(problem, len(z) - 1)
    kinked = (ridge > 0.0) & problem.l1
    held = np.zeros(len(z), bool)
    held[-1] = problem.scaling == 0.0
    return PenaltyParts(np.where(kinked, ridge, 0.0), np.where(kinked, 0.0, ridge), held, z, centre)


#: Solves systems for several right-hand sides.
Solve = Callable[[np.ndarray], np.ndarray]
#: ``system(seen, diagonal, held)`` returns what solves the systems of a step.
System = Callable[[MarginEvaluation, np.ndarray, np.ndarray], Solve]


def by_columns(seen: MarginEvaluation, diagonal: np.ndarray, held: np.ndarray) -> Solve:
    """Return what solves the systems of a step by the matrix that the rows' pass has made."""
    return solver(symmetric(hessian_of(seen)[:-1, :-1]), diagonal, held)


def interior_point(
    problem: MarginProblem,
    e: MarginEvaluation,
    n_rows: int,
    look: Callable[[MarginEvaluation], None],
    system: System = by_columns,
) -> Generator[InteriorQuery, InteriorAnswer, None]:
    """Go on from a point until somebody is content, or nothing more is to be had.

    A start that is far from the central path may allow short steps only.  Where that ends before
    somebody is content, the path is followed once more, from coefficients of zero.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    e : MarginEvaluation
        Where to begin.
    n_rows : int
        Rows of the data.
    look : callable
        Told the lowest point so far after every step, with the bound of the last.
    system : callable
        Solves the systems of a step.

    Yields
    ------
    query : InteriorQuery
        Sent the answer.
    """
    reached = e

    def first(now: MarginEvaluation) -> None:
        nonlocal reached
        reached = now
        look(now)

    yield from _follow(problem, e, n_rows, first, system)
    if np.any(e.query.coef):
        nowhere = np.zeros(len(e.query.coef) + 1)
        answer = yield _query(nowhere, e.objective / n_rows)
        if answer.evaluation is not None:

            def second(now: MarginEvaluation) -> None:
                look(_better(reached, now))

            yield from _follow(problem, answer.evaluation, n_rows, second, system)


def _follow(
    problem: MarginProblem,
    e: MarginEvaluation,
    n_rows: int,
    look: Callable[[MarginEvaluation], None],
    system: System,
) -> Generator[InteriorQuery, InteriorAnswer, None]:
    """Follow the central path; see `interior_point`."""
    centre = JOINED * e.objective / n_rows
    penalty = _parts(problem, np.append(e.query.coef, e.query.intercept), centre)
    lowest, step, n_worse = e, 0.0, 0
    marks = np.array([e.gap, np.inf, centre])
    while n_worse < PATIENCE:
        z = penalty.z
        stage: Literal["start", "look"] = "look" if step else "start"
        answer = yield replace(_query(z, centre), stage=stage, step=step)
        seen = answer.evaluation
        if seen is None or not np.isfinite(seen.objective):
            return
        lowest = seen if seen.objective <= lowest.objective else lowest
        best = _with_bound(lowest, seen)
        look(best)
        total, of_penalty = penalty.products()
        number = float(answer.products[3]) + of_penalty
        centre = (float(answer.products[0]) + total) / number
        uncentred = answer.vectors[3]
        diagonal, right = penalty.system(answer.vectors[0], None)
        # Products that are nothing beside the objective close no gap any more.
        least = ROUNDING * lowest.objective / number
        now = np.array([best.gap, penalty.residual, max(centre, least)])
        better = now < ENOUGH * marks
        marks[better] = now[better]
        n_worse = 0 if better.any() else n_worse + 1
        try:
            solve = system(seen, diagonal, penalty.held)
        except np.linalg.LinAlgError:  # nothing but rounding is left of the matrix
            return
        move = solve(right + uncentred)
        along = penalty.tell(move, predicts=True)
        told = yield replace(_query(z, centre), stage="predict", move=move)
        step = min(along, told.longest)
        ahead, _ = penalty.products(step)
        ahead += float(answer.products[0] + step * told.products[1] + step**2 * told.products[2])
        mean = ahead / number
        target = centre * min(max(mean / centre, 0.0), 1.0) ** 3
        _, right = penalty.system(answer.vectors[0], target)
        move = solve(right + uncentred + target * told.vectors[0] + told.vectors[1])
        if not np.isfinite(move).all():
            return
        along = penalty.tell(move, predicts=False)
        told = yield replace(_query(z, target), stage="direct", move=move)
        step = NEARLY * min(along, told.longest)
        penalty.move(step, move)


def _query(z: np.ndarray, centre: float) -> InteriorQuery:
    return InteriorQuery(z[:-1], float(z[-1]), centre)


def _better(before: MarginEvaluation, now: MarginEvaluation) -> MarginEvaluation:
    """Return the lower point, with the higher bound."""
    lower = now if now.objective <= before.objective else before
    bounds = [e.objective - e.gap for e in (before, now)]
    return _with_bound(lower, now if bounds[1] >= bounds[0] else before)


def _with_bound(e: MarginEvaluation, last: MarginEvaluation) -> MarginEvaluation:
    bound = last.objective - last.gap
    gap = certified_gap(e.objective, bound)
    relative = gap / bound if bound > 0.0 else np.inf
    return replace(
        e, gap=gap, relative_gap=relative, dual_scale=last.dual_scale, counts=last.counts
    )
