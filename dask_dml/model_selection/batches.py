"""Candidates of a search in groups that can be fitted together, and what each group does.

A group shares the rows that its fits see: those of the table, or of the table as the steps of a
pipeline before the estimator transform it.  All candidates of a group, on all folds, are fits of
one batch (`dask_dml.solvers.shared_rounds`), and their scores come from one more pass.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
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

#: Entries of X from which a pass takes long enough for fits of folds to wait for a better start,
#: and folds from which that pays.
LEADER_ENTRIES, LEADER_FOLDS = 2e6, 3
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


def _key(estimator: Any) -> str:
    """Return what tells a candidate from others."""
    return str(joblib.hash((type(estimator).__name__, estimator.get_params(deep=False))))


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
                open_rounds(
                    self.chunks, n_shards=estimator._wanted_shards(), n_jobs=estimator.n_jobs
                )
            )
            divisions: list[Division] = []
            self.splits: list[Split] = []
            # Fits of all rows, by their parameters.
            self._leaders: dict[str, Any] = {}
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

    def fit(
        self, rows: Sequence[Sequence[Any]], folds: Sequence[Fold | None]
    ) -> list[list[Exception | None]]:
        """Fit an estimator for each candidate and fold; return what went wrong.

        Parameters
        ----------
        rows : sequence of sequence of estimators
            By candidate and fold.
        folds : sequence of Fold or None
            The rows of the table.

        Returns
        -------
        errors : list of list of Exception or None
            By candidate and fold.
        """
        leaders = self._find_leaders([row[0] for row in rows], len(folds))
        fits = [
            Fit(fold, partial(self._fit, estimator, leader), number)
            for number, (row, leader) in enumerate(zip(rows, leaders, strict=True))
            for estimator, fold in zip(row, folds, strict=True)
        ]
        errors = iter(self._run(fits))
        return [list(islice(errors, len(folds))) for _ in rows]

    def fit_all(self, estimator: Any) -> Any:
        """Return an estimator fitted on all rows: perhaps it has been already."""
        known = self._leaders.get(_key(estimator))
        if known is None:
            ((error,),) = self.fit([[estimator]], [self.everything()])
            if error is not None:
                raise error
            known = estimator
        return known

    def _run(self, fits: Sequence[Fit]) -> list[Exception | None]:
        results = self.shared.run(fits)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result[0] for result in results]

    def _find_leaders(self, candidates: Sequence[Any], n_folds: int) -> list[Any]:
        """Fit all rows first where several folds are to be fitted, which then begin there.

        The rows that a fold holds out change little: each fold takes a few passes, and the fit of
        all rows is there when it is wanted.  Where a pass reads the data anew, or takes no longer
        than a round, all fits go at once: the slowest counts.
        """
        leaders = {
            number: clone(candidate)
            for number, candidate in enumerate(candidates)
            if n_folds >= LEADER_FOLDS and self._may_lead(candidate)
        }
        keys = {number: _key(leader) for number, leader in leaders.items()}
        fits = [
            Fit(self.everything(), partial(self._fit, leader, None), number)
            for number, leader in leaders.items()
        ]
        for (number, leader), error in zip(leaders.items(), self._run(fits), strict=True):
            if error is None:
                self._leaders[keys[number]] = leader
        return [self._leaders.get(keys.get(number, "")) for number in range(len(candidates))]

    def _may_lead(self, estimator: Any) -> bool:
        """Whether a fit of all rows saves the fits of folds more than it costs.

        Regression begins at least squares, which is as good.
        """
        if not isinstance(estimator, DistributedLinearSVC) or self.rounds.engine == "streaming":
            return False
        n_rows = sum(self.rounds.shard_rows)
        if n_rows * self.chunks.n_features < LEADER_ENTRIES:
            return False
        try:
            estimator._check()
        except (TypeError, ValueError):  # the fit says what is wrong
            return False
        return estimator._method(n_rows, self.chunks).solver == "newton"

    def _fit(self, estimator: Any, leader: Any, rounds: Any) -> tuple[Exception | None]:
        """Fit an estimator; a tuple so that an exception that is returned is not one raised."""
        options = {} if leader is None else {"leader": leader}
        try:
            estimator._check()
            vars(estimator).update(self.learned)
            deadline = estimator._deadline(estimator.max_time)
            estimator._fit_rounds(rounds, self.chunks, deadline, labels=self.labels, **options)
        except Exception as error:
            return (error,)
        return (None,)

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
            moments=wanted.weighted or self.chunks.weight is None,
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
    errors = batch.fit(fitted, [batch.fold(number, train=True) for number in numbers])
    n_fits = max(len(estimators) * len(numbers), 1)
    taken = (time.perf_counter() - begin) / n_fits
    for of_candidate, found_errors in zip(trials, errors, strict=True):
        for trial, error in zip(of_candidate, found_errors, strict=True):
            trial.fit_time, trial.error = taken, error
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
            each = (time.perf_counter() - begin) / n_fits
            for trial in (trial for row in trials for trial in row):
                trial.score_time = each
    return trials, fitted
