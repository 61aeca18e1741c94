"""Few rows of many columns: a regression in the space that the rows span.

With a smooth penalty, or none, the coefficients of an optimum are a combination of the rows, each
relative to the columns' means where the intercept is free (B. Scholkopf, R. Herbrich and A. J.
Smola, *A generalized representer theorem*, COLT 2001).  In an orthonormal basis of the space that
these span there are as many coefficients as rows, losses and penalty are the same, and a lower
bound of the optimum is one of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg

from dask_dml.blocks import Block, frozen
from dask_dml.objective.losses import Loss
from dask_dml.objective.problem import Objective, Query
from dask_dml.objective.residual_interior import InteriorObjective, ResidualQuery
from dask_dml.passes.evaluate import whole_rows
from dask_dml.passes.partials import Rows
from dask_dml.rounds.base import Rounds
from dask_dml.solvers.base import Limits, Outcome, solved
from dask_dml.solvers.margin_interior import Solve
from dask_dml.solvers.margin_rows import corrected
from dask_dml.solvers.residual_interior import InteriorPath
from dask_dml.solvers.statistics import few_rows, row_space

#: Columns from which on the space of the rows takes the place of that of the columns.
MIN_COLUMNS = 2000
#: How much farther apart the bounds of the rows and of their turned copies may be than objectives
#: are (by rounding, where columns differ very much in scale), and how far in any case.
ROOM, AGREEING = 10.0, 1e-6


def spanned_by_few(loss: Loss, n_features: int, n_rows: float) -> bool:
    """Return whether rows are so few that Newton's method is to work in the space of theirs."""
    few = n_features > MIN_COLUMNS and few_rows(n_rows, n_features)
    return few and not loss.quadratic


def solve_few_rows(
    objective: Objective,
    limits: Limits,
    solve: Callable[[Block, int, Limits], Any],
    open_local: Callable[[list[Block]], Rounds],
) -> list[Outcome]:
    """Solve a batch of problems from coefficients of zero.

    Parameters
    ----------
    objective : Objective
        The batch.
    limits : Limits
        When to stop.
    solve : callable
        ``solve(block, n_columns, limits)`` returns the solution of the same problems of the rows
        in their basis: ``coef`` and ``intercept`` of uncentred columns, and ``outcomes``.
    open_local : callable
        Makes rounds over blocks of this process.
    """
    frame = objective.frame
    rows: Rows = objective.rounds.map_reduce(whole_rows, objective.columns)
    penalty = objective.problems[0].penalty
    quiet = replace(limits, observer=None, report=None)
    if penalty.l1 > 0.0:
        block = frozen(rows.X, rows.y, rows.weight, ())
        with open_local([block]) as local:
            there = InteriorObjective(
                local, objective.problems, frame, fit_intercept=objective.fit_intercept
            )
            there.matrices = False
            found = [_from_inside(there, c, rows, quiet) for c in range(len(objective.problems))]
        points = [(outcome.coef, outcome.intercept) for outcome in found]
        return _confirmed(objective, points, found, limits, bounded=True)
    bounded = penalty.l2 > 0.0
    Z, basis = _turned(rows.X - frame.mean, least=not bounded)
    solution = solve(frozen(Z, rows.y, rows.weight, ()), Z.shape[1], quiet)
    intercepts = solution.intercept
    if objective.fit_intercept:
        intercepts = intercepts - frame.target_mean
    points = list(zip(solution.coef @ basis.T, map(float, intercepts), strict=True))
    return _confirmed(objective, points, solution.outcomes, limits, bounded=bounded)


def _from_inside(objective: InteriorObjective, number: int, rows: Rows, limits: Limits) -> Outcome:
    """Solve one problem with an L1 penalty by an interior-point method on rows of this process."""
    frame, p = objective.frame, rows.X.shape[1]
    Z = np.column_stack([rows.X - frame.mean, np.ones(len(rows.X))])

    def ask(query: Query | ResidualQuery) -> Any:
        return objective.evaluate({number: query})[number]

    def system(query: ResidualQuery, diagonal: np.ndarray, held: np.ndarray) -> Solve:
        curvature = objective.curvatures(number, query)
        live = curvature > 0.0
        return _by_rows(Z[live], curvature[live], diagonal, held)

    squares = (rows.weight @ Z**2) / frame.weight
    problem = objective.problems[number]
    spread = float(frame.target_spread[problem.column])
    # With a weak penalty the path from coefficients of zero is long: that of residuals of zero is
    # taken where it begins lower.
    target = rows.y[:, problem.column] - frame.target_mean[problem.column]
    exact = scipy.linalg.lstsq(Z[:, :p], target, lapack_driver="gelsy")[0]
    start = min((ask(Query(w, 0.0)) for w in (np.zeros(p), exact)), key=lambda e: e.objective)
    path = InteriorPath(
        problem, squares[: p + objective.fit_intercept], len(Z), spread, limits.tol, start, system
    )
    curve = [start.objective]
    if start.relative_gap > limits.tol:
        steps = path.steps()
        with suppress(StopIteration):
            query = next(steps)
            while not limits.late and path.n_iter < limits.max_iter:
                query = steps.send(ask(query))
                curve.append(path.shown.objective)
    e = path.shown
    met = e.relative_gap <= limits.tol
    return Outcome(
        e.query.coef, e.query.intercept, e.objective, e.relative_gap, path.optimality,
        max(path.n_iter, 1), met, curve,
    )  # fmt: skip


def _by_rows(Z: np.ndarray, weights: np.ndarray, diagonal: np.ndarray, held: np.ndarray) -> Solve:
    """Return what solves ``(Z' diag(weights) Z + diag(diagonal)) z = r``.

    Coordinates that the diagonal holds firmly are eliminated by Woodbury's identity.  As many as
    there are rows, those that it holds least, stay unknowns beside the rows: their large inverses
    would hide what the rows say of the others.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n)
        Rows.
    weights : ndarray of shape (n_rows,)
        Positive.
    diagonal : ndarray of shape (n,)
        Not negative, and positive but for at most as many coordinates as there are rows.
    held : ndarray of bool of shape (n,)
        Coordinates of the solution that are zero.
    """
    n_rows, n = Z.shape
    squares = (Z**2).sum(axis=0)
    ease = np.divide(squares, diagonal, out=np.full(n, np.inf), where=diagonal > 0.0)
    ease[held] = -1.0
    loose = np.argpartition(-ease, min(n_rows, n - 1))[:n_rows]
    loose = loose[~held[loose]]
    firm = ~held
    firm[loose] = False
    inverse = np.divide(1.0, diagonal, out=np.zeros(n), where=firm)
    beside = Z[:, loose]
    inner = (Z * inverse) @ Z.T
    inner[np.diag_indices_from(inner)] += 1.0 / weights
    system = np.block([[np.diag(diagonal[loose]), beside.T], [beside, -inner]])
    of_rows = np.sqrt(np.diagonal(inner))
    of_loose = np.sqrt(diagonal[loose] + ((beside / of_rows[:, None]) ** 2).sum(axis=0))
    scale = 1.0 / np.concatenate([np.where(of_loose > 0.0, of_loose, 1.0), of_rows])
    # A system that is singular has no finite solution, which whoever asks finds out.
    factors, pivots, _ = scipy.linalg.lapack.dgetrf(
        scale[:, None] * system * scale, overwrite_a=True
    )

    def about(right: np.ndarray) -> np.ndarray:
        first = inverse * right
        known = np.concatenate([right[loose], -(Z @ first)])
        found = scale * scipy.linalg.lapack.dgetrs(factors, pivots, scale * known)[0]
        z: np.ndarray = first - inverse * (Z.T @ found[len(loose) :])
        z[loose] = found[: len(loose)]
        return z

    def image(z: np.ndarray) -> np.ndarray:
        return np.asarray(Z.T @ (weights * (Z @ z)) + diagonal * z)

    return corrected(about, image, held)


def _confirmed(
    objective: Objective,
    points: Sequence[tuple[np.ndarray, float]],
    found: Sequence[Outcome],
    limits: Limits,
    *,
    bounded: bool,
) -> list[Outcome]:
    """Return the outcomes of other rounds as the rows themselves see their points."""
    seen = objective.evaluate({c: Query(*point) for c, point in enumerate(points)})
    outcomes = []
    for c, outcome in enumerate(found):
        e = seen[c]
        size = max(e.objective, e.floor)
        apart = ROOM * abs(e.objective - outcome.objective) / size if size > 0.0 else 0.0
        agreeing = apart <= max(AGREEING, limits.tol)
        gap = outcome.relative_gap + apart if agreeing else e.relative_gap
        outcomes.append(
            replace(
                outcome,
                coef=e.query.coef,
                intercept=e.query.intercept,
                objective=e.objective,
                relative_gap=gap,
                converged=gap <= limits.tol or (agreeing and outcome.converged and not bounded),
                curve=[*outcome.curve, e.objective],
            )
        )
    if limits.observer is not None:
        limits.observer.tell(solved(objective.rounds.n_rounds, outcomes))
    return outcomes


def _turned(X: np.ndarray, *, least: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in an orthonormal basis of the space that they span, and the basis.

    ``least`` leaves out directions that are rounding: the shortest of all solutions has no part in
    them.
    """
    basis, factor = scipy.linalg.qr(X.T, mode="economic", overwrite_a=True)
    Z = factor.T
    if least:
        U, values, Vt = row_space(Z, len(Z))
        Z, basis = U * values, basis @ Vt.T
        if not len(values):
            Z, basis = np.zeros((len(X), 1)), np.zeros((X.shape[1], 1))
    return np.ascontiguousarray(Z), basis
