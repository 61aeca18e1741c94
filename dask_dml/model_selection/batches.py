"""Candidates of a search in groups that can be fitted together, and what each group does.

A group shares the rows that its fits see: those of the table, or of the table as the steps of a
pipeline before the estimator transform it.  All candidates of a group, on all folds, are fits of
one batch (`dask_dml.solvers.shared_rounds`), and their scores come from one more pass.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from dask_dml.estimators.regression import DistributedGDRegressor
from dask_dml.estimators.sgd import DistributedSGDRegressor
from dask_dml.estimators.svc import DistributedLinearSVC
from dask_dml.input.kinds import is_dask
from dask_dml.input.labels import read_labels
from dask_dml.input.read import read_input
from dask_dml.model_selection.results import Trial
from dask_dml.model_selection.scoring import Judge, Scoring
from dask_dml.passes.divisions import Division, Split
from dask_dml.passes.fold_rows import Fold
from dask_dml.passes.folds import DividedRows, chunk_rows, class_pieces
from dask_dml.passes.margins import class_sums
from dask_dml.solvers.shared_rounds import Fit, SharedRounds

#: Estimators whose fits share passes.
TOGETHER = (DistributedGDRegressor, DistributedSGDRegressor, DistributedLinearSVC)

#: Entries of X from which a pass takes long enough for fits to wait for better starts.
CHAIN_ENTRIES = 2e6
#: What a fit starts from.
_STARTS = ("coef_", "intercept_", "classes_")

MakeFolds = Callable[[int, Any, Any], tuple[list[Division], list[Split]]]


@dataclass(frozen=True)
class Wanted:
    """What a search wants of every fit.

    Attributes
    ----------
    scoring : Scoring
        The scorers.
    names : tuple of str
        Those whose scores are found without the rows themselves.
    train : bool
        Whether the training rows are scored, too.
    weighted : bool
        Whether scores are weighted.
    error_score : "raise" or float
        What takes the place of a score that cannot be found.
    on_error : callable
        Called with the exception of a scorer; returns the score.
    """

    scoring: Scoring
    names: tuple[str, ...]
    train: bool
    weighted: bool
    error_score: Any
    on_error: Callable[[Exception], float]


def last_step(estimator: Any) -> Any:
    """Return the estimator at the end of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def with_parameters(estimator: Any, parameters: Mapping[str, Any]) -> Any:
    """Return a clone with other parameters."""
    return clone(estimator).set_params(**clone(dict(parameters), safe=False))


def share_passes(estimator: Any) -> bool:
    """Whether fits of an estimator can be made together: one of ours, after any other steps.

    Callbacks of its own are told of every round of a fit that is made alone.
    """
    last = last_step(estimator)
    return type(last) in TOGETHER and not getattr(last, "_skl_callbacks", None)


def group_key(estimator: Any, parameters: Mapping[str, Any]) -> str:
    """Return what the candidates of a group have in common."""
    last = last_step(estimator)
    before: dict[str, Any] = {}
    if isinstance(estimator, Pipeline):
        name = estimator.steps[-1][0]
        before = {
            key: value
            for key, value in parameters.items()
            if key != name and not key.startswith(f"{name}__")
        }
    return str(joblib.hash((before, type(last).__name__, last.n_shards, last.n_jobs)))


def _strength(estimator: Any) -> str:
    """Return the name of the parameter that says how strong the penalty is."""
    return "C" if isinstance(estimator, DistributedLinearSVC) else "alpha"


def _weakness(estimator: Any) -> float:
    value = getattr(estimator, _strength(estimator))
    if not isinstance(value, Real):  # the fit says what is wrong
        return math.inf
    return float(value) if isinstance(estimator, DistributedLinearSVC) else -float(value)


def _may_start_anywhere(estimator: Any) -> bool:
    """Whether the result does not depend on the start, but for what is left within `tol`."""
    return type(estimator) is not DistributedSGDRegressor and estimator.solver != "gd"


class Batch:
    """Fits estimators on folds of the same rows, and scores them.

    Parameters
    ----------
    estimator : estimator
        One of the batch: reads the input and says where the rows are placed.
    X, y : array-like or Dask collection
        The rows.
    weight : array-like, Dask collection or None
        Their weights.
    make_folds : callable or None, default=None
        ``make_folds(n_rows, y, classes)`` divides the rows; None fits all of them.
    labels : Labels or None, default=None
        How y holds classes, where it has been read already.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        weight: Any = None,
        make_folds: MakeFolds | None = None,
        labels: Any = None,
    ) -> None:
        from dask_dml.rounds import open_rounds
        from dask_dml.rounds.choose import count_threads

        self._stack = ExitStack()
        self.template = clone(estimator)
        self.labels = labels
        if labels is None and isinstance(estimator, DistributedLinearSVC):
            self.labels = read_labels(y, in_memory=not is_dask(X))
            y = self.labels.y
        self.chunks = read_input(self.template, X, y, weight)
        self.learned = {
            name: value for name, value in vars(self.template).items() if name.endswith("_in_")
        }
        try:
            self.rounds = self._stack.enter_context(
                open_rounds(self.chunks, n_shards=estimator.n_shards, n_jobs=estimator.n_jobs)
            )
            divisions: list[Division] = []
            self.splits: list[Split] = []
            first_row = np.zeros(1, dtype=np.int64)
            if make_folds is not None:
                counts = self.rounds.map_reduce(chunk_rows, len(self.chunks.X))
                first_row = np.concatenate([[0], np.cumsum(counts)[:-1]])
                divisions, self.splits = make_folds(
                    int(counts.sum()),
                    y,
                    None if self.labels is None else lambda: self.rounds.map_reduce(class_pieces),
                )
            self.shared = SharedRounds(
                self.rounds,
                DividedRows(tuple(divisions), first_row),
                count_threads(estimator.n_jobs),
            )
        except BaseException:
            self.close()
            raise

    def fit(self, estimators: Sequence[tuple[Any, Fold | None]]) -> list[Exception | None]:
        """Fit every estimator on its rows; return what went wrong."""
        chains = self._chains(estimators)
        fits = [
            Fit(estimators[chain[0]][1], partial(self._fit, [estimators[n][0] for n in chain]))
            for chain in chains
        ]
        errors: list[Exception | None] = [None] * len(estimators)
        for chain, results in zip(chains, self.shared.run(fits), strict=True):
            if isinstance(results, BaseException):
                raise results
            for number, error in zip(chain, results, strict=True):
                errors[number] = error
        return errors

    def _chains(self, estimators: Sequence[tuple[Any, Fold | None]]) -> list[list[int]]:
        """Return which fits go one after the other, from the strongest penalty to the weakest.

        Each begins where the one before has ended, and so needs half as many passes of its own.
        Where a pass reads the data anew, or takes no longer than a round, all fits go at once: the
        slowest counts.
        """
        n_entries = sum(self.rounds.shard_rows) * self.chunks.n_features
        chained = self.rounds.engine != "streaming" and n_entries >= CHAIN_ENTRIES
        chains: dict[Any, list[int]] = {}
        for number, (estimator, fold) in enumerate(estimators):
            key: Any = number
            if chained and _may_start_anywhere(estimator):
                parameters = estimator.get_params(deep=False)
                parameters.pop(_strength(estimator))
                key = joblib.hash((type(estimator).__name__, parameters, fold))
            chains.setdefault(key, []).append(number)
        for chain in chains.values():
            chain.sort(key=lambda number: _weakness(estimators[number][0]))
        return list(chains.values())

    def _fit(self, estimators: Sequence[Any], rounds: Any) -> list[Exception | None]:
        errors: list[Exception | None] = []
        before: dict[str, Any] = {}
        for number, estimator in enumerate(estimators):
            if number:
                rounds.begin_anew()
            given = estimator.warm_start
            try:
                estimator._check()
                vars(estimator).update({**self.learned, **before})
                estimator.warm_start = bool(before)
                deadline = estimator._deadline(estimator.max_time)
                estimator._fit_rounds(rounds, self.chunks, deadline, labels=self.labels)
                errors.append(None)
                before = {name: value for name, value in vars(estimator).items() if name in _STARTS}
            except Exception as error:
                errors.append(error)
            finally:
                estimator.warm_start = given
        return errors

    def fold(self, number: int | None, *, train: bool) -> Fold | None:
        """Return the training or the test rows of a split; None for all rows."""
        if number is None:
            return None
        split = self.splits[number]
        return Fold(split.division, split.train if train else split.test)

    def everything(self) -> Fold | None:
        """Return all rows, as the parts whose sums are known."""
        if not self.splits:
            return None
        return Fold(0, tuple(range(self.shared.divided.divisions[0].n_parts)))

    def score(
        self, asked: Sequence[tuple[Fold | None, Sequence[Any]]], wanted: Wanted
    ) -> list[list[dict[str, float]]]:
        """Return the scores of each fold's estimators."""
        classes = None
        if self.labels is not None:
            if self.labels.classes is not None:
                classes = np.arange(len(self.labels.classes), dtype=np.float64)
            else:
                found = self.shared.sums([(None, class_sums, None)])[0].classes
                known = [one.classes_.astype(np.float64) for _, models in asked for one in models]
                classes = functools.reduce(np.union1d, known, found)
        judge = Judge(
            wanted.scoring, self.labels, classes, self.chunks.n_outputs,
            weighted=wanted.weighted, on_error=wanted.on_error,
        )  # fmt: skip
        return judge.score(self.shared, asked, wanted.names)

    def close(self) -> None:
        """Let go of the rows."""
        self._stack.close()

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def run_batch(
    batch: Batch,
    estimators: Sequence[Any],
    numbers: Sequence[int | None],
    wanted: Wanted,
    held_out: Batch | None = None,
) -> tuple[list[list[Trial]], list[list[Any]]]:
    """Fit every estimator on the training rows of the splits, and score it on the others.

    Parameters
    ----------
    batch : Batch
        The rows.
    estimators : sequence of estimators
        One for each candidate.
    numbers : sequence of int or None
        The splits; None fits all rows.
    wanted : Wanted
        What is wanted of every fit.
    held_out : Batch or None, default=None
        The rows to score, where they are not of the batch.

    Returns
    -------
    trials : list of list of Trial
        By candidate and split.
    fitted : list of list of estimators
        Likewise.
    """
    fitted = [[clone(estimator) for _ in numbers] for estimator in estimators]
    trials = [[Trial() for _ in numbers] for _ in estimators]
    begin = time.perf_counter()
    errors = batch.fit(
        [
            (one, batch.fold(number, train=True))
            for row in fitted
            for one, number in zip(row, numbers, strict=True)
        ]
    )
    taken = (time.perf_counter() - begin) / max(len(errors), 1)
    for position, error in enumerate(errors):
        row, column = divmod(position, len(numbers))
        trials[row][column].fit_time, trials[row][column].error = taken, error
    for side in ("test", "train") if wanted.train else ("test",):
        begin = time.perf_counter()
        asked = []
        for column, number in enumerate(numbers):
            good = [row for row in range(len(fitted)) if trials[row][column].error is None]
            asked.append((batch.fold(number, train=side == "train"), good, column))
        if any(good for _, good, _ in asked):
            scored = held_out if held_out is not None and side == "test" else batch
            found = scored.score(
                [(fold, [fitted[row][column] for row in good]) for fold, good, column in asked],
                wanted,
            )
            for (_, good, column), scores in zip(asked, found, strict=True):
                for row, score in zip(good, scores, strict=True):
                    getattr(trials[row][column], side).update(score)
        if side == "test":
            each = (time.perf_counter() - begin) / max(len(errors), 1)
            for trial in (trial for row in trials for trial in row):
                trial.score_time = each
    return trials, fitted
