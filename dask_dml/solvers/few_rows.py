"""Few rows of many columns: a regression in the space that the rows span.

With a smooth penalty, or none, the coefficients of an optimum are a combination of the rows, each
relative to the columns' means where the intercept is free (B. Scholkopf, R. Herbrich and A. J.
Smola, *A generalized representer theorem*, COLT 2001).  In an orthonormal basis of the space that
these span there are as many coefficients as rows, losses and penalty are the same, and a lower
bound of the optimum is one of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg

from dask_dml.blocks import Block, frozen
from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Objective, Query
from dask_dml.passes.evaluate import whole_rows
from dask_dml.passes.partials import Rows
from dask_dml.solvers.base import Limits, Outcome, solved
from dask_dml.solvers.statistics import few_rows, row_space

#: Columns from which on the space of the rows takes the place of that of the columns.
MIN_COLUMNS = 2000
#: How much farther apart the bounds of the rows and of their turned copies may be than objectives
#: are (by rounding, where columns differ very much in scale), and how far in any case.
ROOM, AGREEING = 10.0, 1e-6


def spanned_by_few(loss: Loss, penalty: ElasticNet, n_features: int, n_rows: float) -> bool:
    """Return whether rows are so few that Newton's method is to work in the space of theirs."""
    few = n_features > MIN_COLUMNS and few_rows(n_rows, n_features)
    return few and penalty.l1 == 0.0 and not loss.quadratic


def solve_few_rows(
    objective: Objective, limits: Limits, solve: Callable[[Block, int, Limits], Any]
) -> list[Outcome]:
    """Solve a batch of problems without an L1 penalty, from coefficients of zero.

    Parameters
    ----------
    objective : Objective
        The batch.
    limits : Limits
        When to stop.
    solve : callable
        ``solve(block, n_columns, limits)`` returns the solution of the same problems of the rows
        in their basis: ``coef`` and ``intercept`` of uncentred columns, and ``outcomes``.
    """
    frame = objective.frame
    rows: Rows = objective.rounds.map_reduce(whole_rows, objective.columns)
    bounded = objective.problems[0].penalty.l2 > 0.0
    Z, basis = _turned(rows.X - frame.mean, least=not bounded)
    block = frozen(Z, rows.y, rows.weight, ())
    found = solve(block, Z.shape[1], replace(limits, observer=None, report=None))
    intercepts = found.intercept - frame.target_mean if objective.fit_intercept else found.intercept
    points = zip(found.coef @ basis.T, map(float, intercepts), strict=True)
    seen = objective.evaluate({c: Query(*point) for c, point in enumerate(points)})
    outcomes = []
    for c, outcome in enumerate(found.outcomes):
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
