"""The choice of a penalty by cross-validation, from the statistics of every fold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from dask_dml.model_selection.folds import make_folds
from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet, make_penalty
from dask_dml.objective.problem import Frame, Objective, Problem
from dask_dml.passes.divisions import Split
from dask_dml.passes.folds import PartStatistics
from dask_dml.passes.partials import Statistics
from dask_dml.rounds.base import Rounds
from dask_dml.solvers import statistics
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.path import (
    Path,
    collect,
    held_out_errors,
    largest_penalty,
    of_split,
    solve_path,
    whole,
)

#: Columns up to which second moments are gathered, as for a single fit.
MAX_COLUMNS = 2000


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    alpha, l1_ratio : float
        The penalty that was chosen.
    alphas : ndarray of shape (n_l1_ratios, n_alphas)
        What was tried.
    errors, gaps : ndarray of shape (n_l1_ratios, n_alphas, n_folds)
        Mean squared errors on the rows held out, and relative duality gaps.
    mean_error : float
        Mean error of the penalty that was chosen.
    coef, intercept : ndarray of shape (n_outputs, n_features), (n_outputs,)
        The fit of all rows.
    outcomes : list of Outcome
        Of that fit, one per output.
    weight : float
        Sum of the sample weights.
    converged : bool
        Whether every fit of the search met its tolerance.
    """

    alpha: float
    l1_ratio: float
    alphas: np.ndarray
    errors: np.ndarray
    gaps: np.ndarray
    mean_error: float
    coef: np.ndarray
    intercept: np.ndarray
    outcomes: list[Outcome]
    weight: float
    converged: bool


def search(
    rounds: Rounds,
    n_chunks: int,
    *,
    cv: Any,
    ratios: Sequence[float],
    alphas: int | np.ndarray,
    eps: float,
    fit_intercept: bool,
    one_standard_error: bool,
    tol: float,
) -> Found:
    """Choose a penalty by cross-validation, and fit all rows with it.

    Parameters
    ----------
    rounds : Rounds
        The data.
    n_chunks : int
        Chunks of the input.
    cv : int, splitter, iterable or None
        See `make_folds`.
    ratios : sequence of float
        Shares of the L1 norm.
    alphas : int or ndarray
        Their number, or themselves, descending.
    eps : float
        Smallest over largest alpha, where their number is given.
    fit_intercept : bool
        Whether intercepts are free.
    one_standard_error : bool
        Whether to take the strongest penalty within one standard error of the best.
    tol : float
        Relative duality gap that counts as converged.
    """
    divisions, splits = make_folds(cv, sum(rounds.shard_rows))
    parts = collect(rounds, divisions, n_chunks)
    total = whole(parts)
    check_weight(total)
    grids = [alpha_grid(total, ratio, alphas, eps, fit_intercept=fit_intercept) for ratio in ratios]
    paths = _Paths(rounds, parts, splits, fit_intercept=fit_intercept, tol=tol)
    found = [paths.follow(ratio, grid) for ratio, grid in zip(ratios, grids, strict=True)]
    errors, gaps = (np.array(values) for values in zip(*found, strict=True))
    means = errors.mean(axis=2)
    row, column = divmod(int(np.argmin(means)), means.shape[1])
    if one_standard_error:
        column = _strongest(errors[row])
    alpha, ratio = float(grids[row][column]), float(ratios[row])
    penalty = make_penalty("elasticnet", alpha, ratio)
    coef, intercept, outcomes = _fit_all(rounds, total, penalty, fit_intercept, tol)
    return Found(
        alpha,
        ratio,
        np.array(grids),
        errors,
        gaps,
        float(means[row, column]),
        coef,
        intercept,
        outcomes,
        total.weight,
        paths.converged,
    )


def alpha_grid(
    total: Statistics, ratio: float, alphas: int | np.ndarray, eps: float, *, fit_intercept: bool
) -> np.ndarray:
    """Return the strengths of the penalty to try, descending.

    Parameters
    ----------
    total : Statistics
        Of all rows.
    ratio : float
        Share of the L1 norm.
    alphas : int or ndarray
        Their number, or themselves.
    eps : float
        Smallest over largest, where their number is given.
    fit_intercept : bool
        Whether intercepts are free.
    """
    if not isinstance(alphas, int):
        return alphas
    largest = largest_penalty(total, ratio, fit_intercept=fit_intercept)
    if not largest > np.finfo(np.float64).resolution:
        # No column says anything about the targets: every penalty gives the same solution.
        return np.full(alphas, np.finfo(np.float64).resolution)
    return np.geomspace(largest, eps * largest, num=alphas)


class _Paths:
    """Follows the path of each fold, and says whether all of its solutions are good."""

    def __init__(
        self,
        rounds: Rounds,
        parts: PartStatistics,
        splits: Sequence[Split],
        *,
        fit_intercept: bool,
        tol: float,
    ) -> None:
        self.rounds = rounds
        self.folds = [of_split(parts, split, number) for number, split in enumerate(splits)]
        self.fit_intercept, self.tol = fit_intercept, tol
        self.converged = True

    def follow(self, ratio: float, alphas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return errors and gaps of shape (n_alphas, n_folds)."""
        errors, gaps = np.empty((2, len(alphas), len(self.folds)))
        penalties = [make_penalty("elasticnet", float(alpha), ratio) for alpha in alphas]
        for number, (train, test) in enumerate(self.folds):
            path = solve_path(
                self.rounds, train, penalties, fit_intercept=self.fit_intercept, tol=self.tol
            )
            warn_of_condition(path, f"fold {number}")
            self.converged &= path.converged
            errors[:, number] = held_out_errors(path, test).mean(axis=1)
            gaps[:, number] = path.gap.max(axis=1)
        return errors, gaps


def _strongest(errors: np.ndarray) -> int:
    """Return the first position (strongest penalty) within a standard error of the best."""
    means = errors.mean(axis=1)
    best = int(np.argmin(means))
    error = errors[best].std(ddof=1) / np.sqrt(errors.shape[1]) if errors.shape[1] > 1 else 0.0
    return int(np.flatnonzero(means <= means[best] + error)[0])


def _fit_all(
    rounds: Rounds, total: Statistics, penalty: ElasticNet, fit_intercept: bool, tol: float
) -> tuple[np.ndarray, np.ndarray, list[Outcome]]:
    frame = Frame.of(total, centred=fit_intercept)
    problems = [Problem(c, Loss(), penalty) for c in range(len(total.target_mean))]
    objective = Objective(rounds, problems, frame, fit_intercept=fit_intercept)
    quadratic = statistics.Quadratic.of(total, centred=fit_intercept)
    starts = np.zeros((len(problems), len(total.mean)))
    outcomes = statistics.solve(rounds, quadratic, objective, starts, Limits(1, tol))
    coef = np.array([outcome.coef for outcome in outcomes])
    intercept = np.zeros(len(outcomes))
    if fit_intercept:
        intercept[:] = [
            frame.raw_intercept(number, outcome.coef, outcome.intercept)
            for number, outcome in enumerate(outcomes)
        ]
    return coef, intercept, outcomes


def check_weight(total: Statistics) -> None:
    """Reject tables without weight."""
    if not total.weight > 0.0:
        raise ValueError(
            "The sample weights sum to zero: there is nothing to fit. Give at least one row a "
            "positive sample_weight."
        )


def check_columns(n_features: int, name: str) -> None:
    """Reject tables of more columns than second moments can be gathered of."""
    if n_features > MAX_COLUMNS:
        raise ValueError(
            f"{name} gathers second moments of up to {MAX_COLUMNS} columns, but X has "
            f"{n_features}. Use sklearn.model_selection.GridSearchCV with DistributedGDRegressor."
        )


def warn_of_condition(path: Path, where: str) -> None:
    """Warn if the second moments have lost too many digits."""
    if path.condition > statistics.FACTORISE_ABOVE:
        warnings.warn(
            f"The second moments of {where} have a condition number of {path.condition:.1e} even "
            "with the weakest penalty, so that solutions and errors have few correct digits. "
            "Leave out columns that depend on others, or try larger alphas.",
            ConvergenceWarning,
            stacklevel=6,
        )
