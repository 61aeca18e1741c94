"""Of all solutions with the same predictions the shortest, for solvers that end at any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dask_dml.objective.problem import Objective
from dask_dml.passes import evaluate as passes
from dask_dml.passes.partials import Moments, Statistics
from dask_dml.rounds.base import Rounds
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.quadratic import condition
from dask_dml.solvers.statistics import FACTORISE_ABOVE, MAX_ENTRIES, Quadratic, row_space

#: Columns up to which the triangular factor of X is formed for it, whatever the number of rows.
MAX_COLUMNS = 2000


def shortest(
    rounds: Rounds, objective: Objective, first: Moments, outcomes: list[Outcome], limits: Limits
) -> list[Outcome]:
    """Project solutions onto the space that is spanned by the centred rows.

    Iterations in scaled columns end at one of many solutions where columns depend on each other.
    The projection has the same predictions, and no other solution has a smaller norm.

    Parameters
    ----------
    rounds : Rounds
        The data.
    objective : Objective
        Problems without a penalty.
    first : Moments
        The moments that are known; second moments save a pass where X has full rank.
    outcomes : list of Outcome
        Where the problems ended.
    limits : Limits
        After the deadline the outcomes are returned as they are.

    Returns
    -------
    outcomes : list of Outcome
        With other coefficients where X does not have full rank.
    """
    p = len(objective.frame.mean)
    if p > MAX_COLUMNS and objective.frame.n_rows * p > MAX_ENTRIES:
        return outcomes
    if limits.late or _full_rank(rounds, objective, first):
        return outcomes
    frame = objective.frame
    mean = frame.mean + frame.residual_mean if objective.fit_intercept else np.zeros(p)
    centre = passes.Centre(mean, frame.target_mean, objective.units, objective.columns)
    factor = rounds.map_reduce(passes.triangle, centre).factor[:, :p]
    basis = row_space(factor, frame.n_rows)[2]
    return [_projected(objective, outcome, basis) for outcome in outcomes]


def _full_rank(rounds: Rounds, objective: Objective, first: Moments) -> bool:
    p = len(objective.frame.mean)
    if objective.frame.n_rows <= p:
        return False
    if not isinstance(first, Statistics):
        if p > MAX_COLUMNS or objective.columns is not None:
            return False
        first = rounds.map_reduce(passes.statistics, objective.units)
    assert isinstance(first, Statistics)
    B = Quadratic.of(first, centred=objective.fit_intercept).B
    return condition(B, np.zeros(p), FACTORISE_ABOVE) <= FACTORISE_ABOVE


def _projected(objective: Objective, outcome: Outcome, basis: np.ndarray) -> Outcome:
    coef = basis.T @ (basis @ outcome.coef)
    intercept = outcome.intercept
    if objective.fit_intercept:
        # In raw coordinates the intercept takes up what the columns' means contributed.
        intercept += float(objective.frame.residual_mean @ (outcome.coef - coef))
    return replace(outcome, coef=coef, intercept=intercept)
