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
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dask_dml.objective.certificate import certified_gap
from dask_dml.objective.interior import InteriorAnswer, InteriorQuery
from dask_dml.objective.margins import MarginEvaluation, MarginProblem
from dask_dml.solvers.margin_systems import CORRECTIONS, definite_solver, hessian_of, ridge_of
from dask_dml.solvers.quadratic import symmetric

#: Share of the way to where a variable would be zero that a step may go.
NEARLY = 0.995
#: Share of gap, products or residual that a step may leave, and steps that leave more after which
#: no more is to be had.
ENOUGH, PATIENCE = 0.9, 12
#: Where the central path is joined, relative to the mean loss: first steps from nearer are short.
JOINED = 30.0


#: Steps of another method after which to ask whether the gap falls (with the hinge, whose window
#: is narrowed first, and with the squared hinge), how many of the last tell, and how many more are
#: too many; larger gaps are as good as none, and smaller ones are rounding.
HINGE_STEPS, MIN_STEPS, LOOK_BACK, STEPS_LEFT, HUGE, ROUNDING = 22, 14, 6, 15, 1e30, 1e-14


def falls_slowly(gaps: list[float], tol: float, *, squared: bool) -> bool:
    """Return whether relative gaps fall so slowly that an interior point is found sooner."""
    if len(gaps) < (MIN_STEPS if squared else HINGE_STEPS):
        return False
    now, before = (float(np.clip(gaps[at], ROUNDING, HUGE)) for at in (-1, -1 - LOOK_BACK))
    left = np.log(max(now / max(tol, ROUNDING), 1.0))
    return bool(left > STEPS_LEFT / LOOK_BACK * np.log(max(before / now, 1.0)))


@dataclass(frozen=True)
class _Parts:
    """Positive and negative parts of coefficients with an L1 penalty, and their dual variables."""

    parts: np.ndarray
    duals: np.ndarray


class _Penalty:
    """What the penalty adds to the systems.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    z : ndarray of shape (n_features + 1,)
        The first point, intercept last.
    centre : float
        Where the central path is joined.
    """

    def __init__(self, problem: MarginProblem, z: np.ndarray, centre: float) -> None:
        self.ridge = ridge_of(problem, len(z) - 1)
        self.z = z
        self.held = np.zeros(len(z), bool)
        self.held[-1] = problem.scaling == 0.0
        self.l1 = (self.ridge > 0.0) & problem.l1
        weight = np.where(self.l1, self.ridge, 1.0)
        root = np.sqrt(0.25 * z**2 + (centre / weight) ** 2)
        parts = np.array([root + 0.5 * z, root - 0.5 * z])
        self._at = _Parts(parts, centre / parts)
        self._change = _Parts(np.zeros_like(parts), np.zeros_like(parts))
        self._correction = np.zeros_like(parts)
        # How far from feasible the dual variables are.
        self.residual = np.inf

    def products(self, step: float = 0.0) -> tuple[float, int]:
        """Return sum and number of the products that the central path makes equal."""
        parts = self._at.parts + step * self._change.parts
        duals = self._at.duals + step * self._change.duals
        return float((parts * duals)[:, self.l1].sum()), 2 * int(self.l1.sum())

    def system(self, u: np.ndarray, centre: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the penalty adds to the matrix's diagonal and to the right-hand side.

        Parameters
        ----------
        u : ndarray of shape (n_features + 1,)
            ``sum_i alpha_i y_i (x_i, 1)``.
        centre : float or None
            What the products shall be; None for zero, and without a correction.
        """
        smooth = ~self.l1
        diagonal = np.where(smooth, self.ridge, 0.0)
        right = u - diagonal * self.z
        parts, duals = self._at.parts, self._at.duals
        wanted = -parts * duals
        if centre is not None:
            wanted = wanted + centre - self._correction
        rest = np.array([self.ridge - u, self.ridge + u]) - duals
        ease = (parts / duals).sum(axis=0)
        shift = (wanted - parts * rest) / duals
        apart = self.z - parts[0] + parts[1]
        self._wanted, self._rest = wanted, rest
        self.residual = float(np.abs(right[smooth]).sum() + np.abs(rest[:, self.l1]).sum())
        self._ease, self._shift = ease, shift[0] - shift[1] - apart
        diagonal[self.l1] = 1.0 / ease[self.l1]
        right[self.l1] = (self._shift / ease)[self.l1]
        return diagonal, right

    def tell(self, move: np.ndarray, *, predicts: bool) -> float:
        """Take the solution of the last system; return how far parts and duals stay positive."""
        du = (move - self._shift) / self._ease
        duals = self._rest + np.array([-du, du])
        parts = (self._wanted - self._at.parts * duals) / self._at.duals
        duals[:, ~self.l1] = parts[:, ~self.l1] = 0.0
        self._change = _Parts(parts, duals)
        if predicts:
            self._correction = parts * duals
        rate = max(
            float((-parts / self._at.parts).max(initial=0.0)),
            float((-duals / self._at.duals).max(initial=0.0)),
        )
        return min(1.0 / rate, 1.0) if rate > 0.0 else 1.0

    def move(self, step: float, move: np.ndarray) -> None:
        """Take a step."""
        self.z = self.z + step * move
        self._at = _Parts(
            self._at.parts + step * self._change.parts, self._at.duals + step * self._change.duals
        )


def interior_point(
    problem: MarginProblem,
    e: MarginEvaluation,
    n_rows: int,
    look: Callable[[MarginEvaluation], None],
) -> Generator[InteriorQuery, InteriorAnswer, None]:
    """Go on from a point until somebody is content, or nothing more is to be had.

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

    Yields
    ------
    query : InteriorQuery
        Sent the answer.
    """
    centre = JOINED * e.objective / n_rows
    penalty = _Penalty(problem, np.append(e.query.coef, e.query.intercept), centre)
    lowest, gap, step, n_worse = e, e.gap, 0.0, 0
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
        total, number = penalty.products()
        mean = (float(answer.products[0]) + total) / (answer.products[3] + number)
        uncentred, residual = answer.vectors[3], penalty.residual
        diagonal, right = penalty.system(answer.vectors[0], None)
        better = best.gap < ENOUGH * gap or mean < ENOUGH * centre
        n_worse = 0 if better or penalty.residual < ENOUGH * residual else n_worse + 1
        centre, gap = mean, min(gap, best.gap)
        solve = _solver(hessian_of(seen), diagonal, penalty.held)
        move = solve(right + uncentred)
        along = penalty.tell(move, predicts=True)
        told = yield replace(_query(z, centre), stage="predict", move=move)
        step = min(along, told.longest)
        ahead, _ = penalty.products(step)
        ahead += float(answer.products[0] + step * told.products[1] + step**2 * told.products[2])
        mean = ahead / (answer.products[3] + number)
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


def _with_bound(e: MarginEvaluation, last: MarginEvaluation) -> MarginEvaluation:
    bound = last.objective - last.gap
    gap = certified_gap(e.objective, bound)
    relative = gap / bound if bound > 0.0 else np.inf
    return replace(
        e, gap=gap, relative_gap=relative, dual_scale=last.dual_scale, counts=last.counts
    )


def _solver(
    hessian: np.ndarray, diagonal: np.ndarray, held: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that solves the system for a right-hand side, some coordinates held."""
    free = np.flatnonzero(~held)
    K = symmetric(hessian[:-1, :-1])[np.ix_(free, free)]
    K[np.diag_indices_from(K)] += diagonal[free]
    solve_free = definite_solver(K, CORRECTIONS)

    def solve(right: np.ndarray) -> np.ndarray:
        z = np.zeros(len(right))
        z[free] = solve_free(right[free])
        return z

    return solve
