"""Squared error along a path of penalties, on all rows and on every training set of a search.

One pass over the data collects the sufficient statistics of every fold.  Everything else happens
on the driver: each penalty is solved on each training set, and the error on the rows held out
follows from their statistics.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Frame, Objective, Problem
from dask_dml.passes.divisions import Division, Split
from dask_dml.passes.folds import DividedRows, PartStatistics, chunk_rows, part_statistics
from dask_dml.passes.partials import Statistics
from dask_dml.rounds.base import Rounds
from dask_dml.solvers import statistics
from dask_dml.solvers.base import Outcome
from dask_dml.solvers.quadratic import condition, symmetric

#: What takes the place of a small share of the L1 norm in the largest penalty of a grid (Friedman,
#: Hastie and Tibshirani, 2010).
LEAST_RATIO = 1e-3
#: The largest ridge penalty of a grid relative to the largest mean square of a column: no ridge
#: penalty sets all coefficients to zero, but this one takes ten elevenths of each.
RIDGE = 10.0
#: Rounding of a mean squared error, relative to the terms that it is the difference of.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Path:
    """Solutions for a sequence of penalties.

    Attributes
    ----------
    coef : ndarray of shape (n_penalties, n_outputs, n_features)
        Coefficients.
    intercept : ndarray of shape (n_penalties, n_outputs)
        Intercepts for raw columns.
    gap : ndarray of shape (n_penalties, n_outputs)
        Relative duality gaps.
    converged : bool
        Whether the tolerance was met by all.
    condition : float
        Condition number of the scaled second moments with the weakest penalty.
    """

    coef: np.ndarray
    intercept: np.ndarray
    gap: np.ndarray
    converged: bool
    condition: float


def collect(rounds: Rounds, divisions: Sequence[Division], n_chunks: int) -> PartStatistics:
    """Return the statistics of every part of the rows."""
    counts = rounds.map_reduce(chunk_rows, n_chunks)
    first_row = np.concatenate([[0], np.cumsum(counts)[:-1]])
    found: PartStatistics = rounds.map_reduce(
        part_statistics, DividedRows(tuple(divisions), first_row)
    )
    return found


def whole(parts: PartStatistics) -> Statistics:
    """Return the statistics of all rows."""
    return _sum(parts, 0, range(len(parts.parts[0])))


def of_split(parts: PartStatistics, split: Split, number: int) -> tuple[Statistics, Statistics]:
    """Return the statistics of the training and of the test rows of a split.

    Those of the training rows are the sum over the other parts, never a difference, which would
    lose the digits of columns that hardly vary outside of the test rows.

    Raises
    ------
    ValueError
        If either has no rows, or no weight.
    """
    sides = []
    for name, chosen in (("train", split.train), ("test", split.test)):
        found = _sum(parts, split.division, chosen) if chosen else None
        if found is None or not found.weight > 0.0:
            raise ValueError(
                f"Fold {number} has no {name} rows of positive sample_weight. Use fewer folds, or "
                "a splitter that spreads these rows over the folds."
            )
        sides.append(found)
    return sides[0], sides[1]


def _sum(parts: PartStatistics, division: int, chosen: Sequence[int] | range) -> Statistics:
    found = [one for n in chosen if (one := parts.parts[division][n]) is not None]
    # A part without rows of weight says nothing, but the sum of nothing has no shape.
    total: Statistics | None = functools.reduce(operator.add, found) if found else None
    return total  # type: ignore[return-value]  # callers look


def largest_penalty(total: Statistics, ratio: float, *, fit_intercept: bool) -> float:
    """Return the alpha that a grid begins with.

    The smallest for which all coefficients are zero; without an L1 norm, one that leaves little of
    them, whatever the units of X.

    Parameters
    ----------
    total : Statistics
        Of all rows.
    ratio : float
        Share of the L1 norm.
    fit_intercept : bool
        Whether columns and targets are centred.
    """
    quadratic = statistics.Quadratic.of(total, centred=fit_intercept)
    if ratio == 0.0:
        return RIDGE * float(np.diagonal(quadratic.B).max(initial=0.0))
    # With several outputs the largest of theirs, as each output is a problem of its own.
    return float(np.abs(quadratic.c).max(initial=0.0)) / max(ratio, LEAST_RATIO)


def solve_path(
    rounds: Rounds,
    rows: Statistics,
    penalties: Sequence[ElasticNet],
    *,
    fit_intercept: bool,
    tol: float,
) -> Path:
    """Solve for every penalty and output, each starting from the solution before it.

    Parameters
    ----------
    rounds : Rounds
        The data; not visited.
    rows : Statistics
        Of the rows to fit.
    penalties : sequence of ElasticNet
        From the strongest to the weakest.
    fit_intercept : bool
        Whether intercepts are free.
    tol : float
        Relative duality gap that counts as converged.
    """
    frame = Frame.of(rows, centred=fit_intercept)
    n_outputs, p = len(rows.target_mean), len(rows.mean)
    problems = [Problem(c, Loss(), penalty) for penalty in penalties for c in range(n_outputs)]
    objective = Objective(rounds, problems, frame, fit_intercept=fit_intercept)
    quadratic = statistics.Quadratic.of(rows, centred=fit_intercept)
    outcomes: list[Outcome] = []
    for number in range(len(problems)):
        start = outcomes[number - n_outputs].coef if number >= n_outputs else np.zeros(p)
        outcomes.append(statistics.from_moments(objective, number, quadratic, start, tol))
    coef = np.array([outcome.coef for outcome in outcomes]).reshape(-1, n_outputs, p)
    intercept = np.zeros(coef.shape[:2])
    if fit_intercept:
        intercept = rows.target_mean - coef @ rows.mean
    weakest = min(penalty.l2 for penalty in penalties)
    return Path(
        coef,
        intercept,
        np.array([outcome.relative_gap for outcome in outcomes]).reshape(-1, n_outputs),
        all(outcome.converged for outcome in outcomes),
        condition(quadratic.B, np.full(p, weakest), statistics.FACTORISE_ABOVE),
    )


class HeldOut(NamedTuple):
    """Residuals of models on some rows, as their moments tell.

    Attributes
    ----------
    bias : ndarray of shape (n_models, n_outputs)
        Mean residuals.
    square : ndarray of shape (n_models, n_outputs)
        Mean squares of the residuals about their means.
    terms : ndarray of shape (n_models, n_outputs)
        Sums of the magnitudes that the squares are sums of.
    """

    bias: np.ndarray
    square: np.ndarray
    terms: np.ndarray


def held_out(coef: np.ndarray, intercept: np.ndarray, test: Statistics) -> HeldOut:
    """Return the moments of residuals on some rows, from the statistics of the rows.

    Parameters
    ----------
    coef : ndarray of shape (n_models, n_outputs, n_features)
        Coefficients.
    intercept : ndarray of shape (n_models, n_outputs)
        Intercepts.
    test : Statistics
        Of the rows.

    Raises
    ------
    RuntimeError
        If a square is negative by more than rounding, which cannot be.
    """
    B = symmetric(test.products) / test.weight
    c, square = test.cross / test.weight, test.target_square / test.weight
    curved = np.einsum("kop,pq,koq->ko", coef, B, coef, optimize=True)
    crossed = np.einsum("kop,po->ko", coef, c)
    about = square - 2.0 * crossed + curved
    terms = square + 2.0 * np.abs(crossed) + curved
    if np.any(about < -_ROUNDING * len(B) * terms):
        raise RuntimeError(
            "A mean squared error is negative. This is an error of dask_dml: please report it."
        )
    offset = test.target_mean - coef @ test.mean - intercept
    return HeldOut(offset, np.where(about > 0.0, about, 0.0), terms)


def held_out_errors(path: Path, test: Statistics) -> np.ndarray:
    """Return the mean squared errors of a path's solutions on some rows, from their statistics.

    Parameters
    ----------
    path : Path
        Solutions.
    test : Statistics
        Of the rows.

    Returns
    -------
    errors : ndarray of shape (n_penalties, n_outputs)
        Weighted mean squared errors.
    """
    found = held_out(path.coef, path.intercept, test)
    return np.asarray(found.square + found.bias**2)
