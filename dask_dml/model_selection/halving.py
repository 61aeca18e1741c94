"""Successive halving: candidates that fall behind leave a search early."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from dask_dml.model_selection.batches import last_step, share_passes, with_parameters
from dask_dml.model_selection.results import Trial

if TYPE_CHECKING:
    from dask_dml.model_selection.evaluation import Evaluation

#: Iterations after which candidates are compared for the first time.
FIRST_ITERATIONS = 5


@dataclass(frozen=True)
class Halved:
    """The trials of candidates that may have left early.

    Attributes
    ----------
    trials : list of list of Trial
        By candidate and split: those of the last fits of each.
    rung : ndarray of int of shape (n_candidates,)
        How often a candidate has been fitted before.
    n_iterations : ndarray of int of shape (n_candidates,)
        The iterations that its last fits were given.
    """

    trials: list[list[Trial]]
    rung: np.ndarray
    n_iterations: np.ndarray


def check_factor(halving: Any, estimator: Any) -> float:
    """Return the factor of a search by halving.

    Raises
    ------
    ValueError
        If it is not a number above one, or the estimator is not one of this package.
    """
    if isinstance(halving, bool | np.bool_) or not isinstance(halving, int | float | np.number):
        raise ValueError(f"halving must be a number above 1 or None, got {halving!r}.")
    if not 1.0 < halving < math.inf:
        raise ValueError(f"halving must be a number above 1 or None, got {halving!r}.")
    if not share_passes(estimator):
        raise ValueError(
            "halving compares candidates of this package's estimators after some iterations, alone "
            f"or as the last step of a pipeline, got {estimator!r}. Set halving=None."
        )
    return float(halving)


def run_by_halving(
    evaluation: Evaluation,
    candidates: Sequence[Mapping[str, Any]],
    factor: float,
    name: str,
    say: Callable[[str], None],
) -> Halved:
    """Fit all candidates for some iterations, and ever fewer of them for ever more.

    Each fit that has not converged begins anew, so that the last fits are those of a search of
    all candidates (Jamieson and Talwalkar, 2016).

    Parameters
    ----------
    evaluation : Evaluation
        Fits and scores candidates.
    candidates : sequence of dict
        Their parameters.
    factor : float
        Of the candidates that are compared, one in so many goes on, with so many times the
        iterations.
    name : str
        The score that decides.
    say : callable
        Told of what happens, line by line.
    """
    key = _limit_name(evaluation.estimator)
    limits = np.array([_limit(evaluation.estimator, one, key) for one in candidates])
    trials: list[list[Trial]] = [[] for _ in candidates]
    rung, given = np.zeros(len(candidates), np.int64), limits.copy()
    ended = np.zeros(len(candidates), np.bool_)
    alive = list(range(len(candidates)))
    n_iterations = float(FIRST_ITERATIONS)
    while len(alive) > factor and n_iterations < limits[alive].max() and not ended[alive].all():
        going = [n for n in alive if not ended[n]]
        given[going] = np.minimum(limits[going], math.ceil(n_iterations))
        say(f"{len(going)} candidates, at most {given[going].max()} iterations")
        with warnings.catch_warnings():
            # They are meant to end before they have converged.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = evaluation.run([{**candidates[n], key: int(given[n])} for n in going])
        for n, row, models in zip(going, found, evaluation.fitted, strict=True):
            trials[n] = row
            ended[n] = all(getattr(last_step(model), "converged_", False) for model in models)
        if ended[alive].all():
            break
        scores = np.array([np.mean([trial.test[name] for trial in trials[n]]) for n in alive])
        # Candidates without a score come last; of equals, the first stays.
        order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
        alive = sorted(alive[n] for n in order[: math.ceil(len(alive) / factor)].tolist())
        rung[alive] += 1
        n_iterations *= factor
    going = [n for n in alive if not ended[n]]
    if going:
        say(f"{len(going)} candidates to the end")
        given[going] = limits[going]
        for n, row in zip(going, evaluation.run([candidates[n] for n in going]), strict=True):
            trials[n] = row
    return Halved(trials, rung, given)


def _limit_name(estimator: Any) -> str:
    if isinstance(estimator, Pipeline):
        return f"{estimator.steps[-1][0]}__max_iter"
    return "max_iter"


def _limit(estimator: Any, parameters: Mapping[str, Any], key: str) -> int:
    return int(with_parameters(estimator, parameters).get_params()[key])
