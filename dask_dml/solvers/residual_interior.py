"""A primal-dual interior-point method for regressions that are not wide.

S. Mehrotra, *On the implementation of a primal-dual interior point method*, SIAM Journal on
Optimization 2 (1992); S. Portnoy and R. Koenker, *The Gaussian hare and the Laplacian tortoise:
computability of squared-error versus absolute-error estimators*, Statistical Science 12 (1997),
for losses with a kink.  It needs tens of steps whatever the weights of the rows, the scales of the
columns and the penalty, where Newton's method on a smoothed loss meets one kink after the other.  A
step is three rounds, and its Hessian has all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np

from dask_dml.objective.problem import Evaluation, Problem, Query, relative_gap
from dask_dml.objective.residual_interior import ResidualAnswer, ResidualQuery
from dask_dml.solvers.interior_parts import PenaltyParts, solver
from dask_dml.solvers.quadratic import solve_smooth, symmetric

#: What finds the solution of a system, given the look, the penalty's part and what does not move.
System: TypeAlias = Callable[
    [ResidualQuery, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]
]
#: Share of the way to where a variable would be zero that a step may go.
NEARLY = 0.995
#: Share of gap, products or residual that a step may leave, and steps that leave more after which
#: no more is to be had: of a solution that is good enough, and of others.
ENOUGH, PATIENCE_WHEN_MET, PATIENCE = 0.9, 1, 12
#: What is rounding beside an objective.
ROUNDING = 1e-12
#: Where the central path is joined, relative to the mean loss: first steps from nearer are short.
#: Where it could not be followed to its end, it is joined once more, farther away.
JOINED = (30.0, 3e4)
#: Share of ``tol`` that steps go on to: the last ones are long, and solutions at a corner get all
#: their digits from them.
AIM = 1e-3


class InteriorPath:
    """One problem on its way.

    Parameters
    ----------
    problem : Problem
        Loss and penalty.
    moments : ndarray of shape (n_free, n_free) or (n_free,)
        Mean of ``(x - mean, 1)(x - mean, 1)'``, without the intercept where it is not free.  The
        diagonal alone is enough with a penalty and a ``system``.
    n_rows : int
        Rows of the data.
    spread : float
        Of the targets.
    tol : float
        Relative gap that counts as converged.
    start : Evaluation
        Where to begin.
    system : callable or None, default=None
        ``system(query, diagonal, held)`` returns what solves the system of a look; None takes the
        matrix that the look has found.

    Attributes
    ----------
    shown : Evaluation
        The lowest point, with the best bound.
    optimality : float
        How far its objective is above the optimum, relative to it and as far as is known: what the
        rows say, and what is left of their equations.
    n_iter : int
        Steps.
    """

    def __init__(
        self,
        problem: Problem,
        moments: np.ndarray,
        n_rows: int,
        spread: float,
        tol: float,
        start: Evaluation,
        system: System | None = None,
    ) -> None:
        self.penalty, self.tol = problem.penalty, tol
        self.shown = self._best = start
        self.optimality = np.inf
        self.n_iter = 0
        self._moments, self._n_rows, self._spread = moments, n_rows, spread
        self._squares = moments if moments.ndim == 1 else np.diagonal(moments)
        self._system = system
        self._bound, self._estimate = start.objective - start.gap, -np.inf

    def steps(self) -> Generator[Query | ResidualQuery, Any, None]:
        """Go on until the solution is good enough, or nothing more is to be had.

        Yields
        ------
        query : ResidualQuery or Query
            Sent the answer.
        """
        for joined in JOINED:
            parts = yield from self._descend(joined)
            if self._met(self.tol):
                break
        zero = parts.zeros(np.sqrt(self._squares))
        coef = self._best.query.coef
        if self.penalty.l1 * np.abs(coef).sum() <= AIM * self.tol * self._best.objective:
            # Beside the largest, none of coefficients that all head for zero is small.
            zero[...] = self.penalty.l1 > 0.0
        if np.any(coef[zero] != 0.0):
            rounded = yield Query(np.where(zero, 0.0, coef), self._best.query.intercept)
            self._accept(rounded)
            self.n_iter += 1
        self.shown = self._best

    def _descend(self, joined: float) -> Generator[ResidualQuery, ResidualAnswer, PenaltyParts]:
        """Follow the central path, which is joined at a multiple of the mean loss, to its end."""
        z = np.append(self.shown.query.coef, self.shown.query.intercept)
        centre = joined * max(self.shown.objective, self.shown.floor) / self._n_rows
        parts = self._parts(z, centre)
        least, step, n_worse = np.inf, 0.0, 0
        while n_worse < (PATIENCE_WHEN_MET if self._met(self.tol) else PATIENCE):
            stage: Literal["start", "look"] = "look" if step else "start"
            query = ResidualQuery(parts.z, centre, stage, step)
            answer: ResidualAnswer = yield query
            seen, residual, before = answer.evaluation, parts.residual, self.optimality
            assert seen is not None
            if not np.isfinite(seen.objective):
                break
            self.n_iter += bool(step)
            self._take(seen)
            if self._met(AIM * self.tol):
                break
            self.shown = self._best
            total, number = parts.products()
            number += int(answer.products[3])
            centre = (float(answer.products[0]) + total) / number
            diagonal, right = parts.system(answer.vectors[0], None)
            better = self.optimality < ENOUGH * before
            better |= centre < ENOUGH * least and centre * number > ROUNDING * seen.objective
            n_worse = 0 if better or parts.residual < ENOUGH * residual else n_worse + 1
            least = min(least, centre)
            try:
                solve = self._solver(query, seen, diagonal, parts.held)
            except np.linalg.LinAlgError:  # nothing but rounding is left of the matrix
                break
            move = solve(right + answer.vectors[1])
            along = parts.tell(move, predicts=True)
            told: ResidualAnswer = yield ResidualQuery(parts.z, centre, "predict", move=move)
            step = min(along, told.longest)
            ahead, _ = parts.products(step)
            ahead += float(answer.products[0] + step * told.products[1])
            share = (ahead + step**2 * float(told.products[2])) / number / centre
            target = centre * min(max(share, 0.0), 1.0) ** 3
            _, right = parts.system(answer.vectors[0], target)
            move = solve(right + answer.vectors[1] + target * told.vectors[0] + told.vectors[1])
            if not np.isfinite(move).all():
                break
            along = parts.tell(move, predicts=False)
            told = yield ResidualQuery(parts.z, target, "direct", move=move)
            step = NEARLY * min(along, told.longest)
            parts.move(step, move)
        return parts

    def _solver(
        self, query: ResidualQuery, seen: Evaluation, diagonal: np.ndarray, held: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray]:
        if self._system is not None:
            return self._system(query, diagonal, held)
        assert seen.hessian is not None
        return solver(symmetric(seen.hessian), diagonal, held)

    def _parts(self, z: np.ndarray, centre: float) -> PenaltyParts:
        l1, l2 = np.full(len(z), self.penalty.l1), np.full(len(z), self.penalty.l2)
        l1[-1] = l2[-1] = 0.0
        held = np.zeros(len(z), bool)
        held[-1] = len(self._squares) < len(z)
        return PenaltyParts(l1, l2, held, z, centre)

    def _take(self, seen: Evaluation) -> None:
        left = seen.gap if self.penalty else seen.slack + self._rest(seen)
        self._bound = max(self._bound, seen.objective - seen.gap)
        lowest = min(seen, self._best, key=lambda e: e.objective)
        size = max(lowest.objective, lowest.floor, 1e-300)
        here = seen.objective - left
        self._estimate = max(self._estimate, here)
        if self._estimate > lowest.objective + ROUNDING * size:
            # Without a penalty it is no bound, as a lower point has shown.
            self._estimate = here if here <= lowest.objective else -np.inf
        above = max(lowest.objective - self._estimate, 0.0)
        self.optimality = above / size
        self._best = self._with_bound(lowest, above)

    def _with_bound(self, e: Evaluation, slack: float) -> Evaluation:
        gap = e.objective - self._bound
        relative = relative_gap(e.objective, gap, e.floor)
        return replace(e, gap=gap, relative_gap=relative, slack=slack)

    def _rest(self, seen: Evaluation) -> float:
        """Return what the gradient promises of predictions that change as far as they may."""
        n = len(self._moments)
        slope = np.append(seen.gradient, seen.intercept_gradient)[:n]
        z = np.append(seen.query.coef, seen.query.intercept)[:n]
        towards = solve_smooth(self._moments, slope, np.zeros(n))
        reach = self._spread + math.sqrt(max(float(z @ self._moments @ z), 0.0))
        return reach * math.sqrt(max(float(slope @ towards), 0.0))

    def _met(self, tol: float) -> bool:
        """Return whether the lowest point is near enough to the optimum."""
        return self._best.relative_gap <= tol or (not self.penalty and self.optimality <= tol)

    def _accept(self, seen: Evaluation) -> None:
        """Take a point with zeros in place of small numbers if it is as good."""
        rounded = self._with_bound(seen, self._best.slack)
        best = self._best.relative_gap
        # Zeros are worth a digit that nobody has asked for.
        if rounded.relative_gap <= max(best, AIM * self.tol, min(10.0 * best, 0.1 * self.tol)):
            self._best = rounded
