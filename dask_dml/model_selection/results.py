"""The table of results of a search, as scikit-learn lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import rankdata


@dataclass
class Trial:
    """One candidate on one split.

    Attributes
    ----------
    test, train : dict of str to float
        Scores by name; those on the training rows only where they were asked for.
    fit_time, score_time : float
        Seconds; of fits that share their passes, an equal share.
    error : Exception or None
        What the fit raised.
    """

    test: dict[str, float] = field(default_factory=dict)
    train: dict[str, float] = field(default_factory=dict)
    fit_time: float = 0.0
    score_time: float = 0.0
    error: Exception | None = None


def cv_results(
    candidates: Sequence[Mapping[str, Any]],
    trials: Sequence[Sequence[Trial]],
    *,
    train: bool,
    rung: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return ``cv_results_``.

    Parameters
    ----------
    candidates : sequence of dict
        Parameters of each candidate.
    trials : sequence of sequence of Trial
        By candidate and split.
    train : bool
        Whether there are scores on the training rows.
    rung : ndarray of int of shape (n_candidates,), default=None
        Candidates of a lower one rank behind all those of a higher one, whose scores are of longer
        fits.
    """
    results: dict[str, Any] = {}
    for name in ("fit_time", "score_time"):
        times = np.array([[getattr(trial, name) for trial in row] for row in trials])
        results[f"mean_{name}"], results[f"std_{name}"] = times.mean(axis=1), times.std(axis=1)
    results.update(_parameters(candidates))
    results["params"] = [dict(candidate) for candidate in candidates]
    for name in trials[0][0].test:
        _put(results, "test", name, [[trial.test[name] for trial in row] for row in trials])
        means = results[f"mean_test_{name}"]
        results[f"rank_test_{name}"] = _ranks(means, rung)
        if train:
            _put(results, "train", name, [[trial.train[name] for trial in row] for row in trials])
    return results


def _put(results: dict[str, Any], side: str, name: str, values: list[list[float]]) -> None:
    scores = np.array(values, dtype=np.float64)
    for number, column in enumerate(scores.T):
        results[f"split{number}_{side}_{name}"] = column
    results[f"mean_{side}_{name}"] = scores.mean(axis=1)
    results[f"std_{side}_{name}"] = scores.std(axis=1)


def _ranks(means: np.ndarray, rung: np.ndarray | None) -> np.ndarray:
    if rung is not None:
        ranks = np.empty(len(means), dtype=np.int32)
        for number in np.unique(rung):
            mine = rung == number
            ranks[mine] = _ranks(means[mine], None) + np.count_nonzero(rung > number)
        return ranks
    if np.isnan(means).all():
        return np.ones(len(means), dtype=np.int32)
    # Candidates without a score come last.
    filled = np.where(np.isnan(means), np.nanmin(means) - 1.0, means)
    return np.asarray(rankdata(-filled, method="min").astype(np.int32))


def _parameters(candidates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    names = dict.fromkeys(name for candidate in candidates for name in candidate)
    for name in names:
        given = [number for number, candidate in enumerate(candidates) if name in candidate]
        values = [candidates[number][name] for number in given]
        column = np.ma.MaskedArray(
            np.empty(len(candidates), dtype=_dtype(values)), mask=True, dtype=_dtype(values)
        )
        for number, value in zip(given, values, strict=True):
            column[number] = value
        columns[f"param_{name}"] = column
    return columns


def _dtype(values: list[Any]) -> Any:
    try:
        found = np.array(values)
    except ValueError:  # lists of different lengths, for instance
        return object
    return found.dtype if found.ndim == 1 and found.dtype.kind != "U" else object
