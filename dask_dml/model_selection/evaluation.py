"""Candidates on folds: which of them share passes, and what takes their place elsewhere."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import Pipeline

from dask_dml.estimators.svc import DistributedLinearSVC
from dask_dml.input.kinds import is_dask
from dask_dml.input.labels import read_labels
from dask_dml.model_selection.batches import (
    TOGETHER,
    Batch,
    Wanted,
    group_key,
    last_step,
    run_batch,
    share_passes,
    with_parameters,
)
from dask_dml.model_selection.folds import make_folds
from dask_dml.model_selection.results import Trial
from dask_dml.model_selection.row_sets import RowSets
from dask_dml.model_selection.scaled import NeedsRows, ScaledBatch, may_scale_moments
from dask_dml.model_selection.scoring import Scoring, call_scorer
from dask_dml.model_selection.splitters import by_class
from dask_dml.model_selection.watch import Propagation
from dask_dml.passes.divisions import ByClass, ClassPieces, Division, Listed, Split
from dask_dml.solvers.shared_rounds import UnderWay


@dataclass(frozen=True)
class Plan:
    """What is to be found out about every candidate.

    Attributes
    ----------
    scoring : Scoring
        The scorers.
    cv : int, splitter, iterable or None
        The splits.
    classifier : bool
        Whether a number of folds keeps the shares of the classes.
    split, fit, score : mapping of str to object
        Arguments of the splitter, of `fit` and of the scorers.
    train : bool
        Whether the training rows are scored, too.
    error_score : "raise" or float
        What takes the place of a score that cannot be found.
    routed : bool
        Whether arguments have been routed to the objects that request them.
    """

    scoring: Scoring
    cv: Any
    classifier: bool
    split: Mapping[str, Any]
    fit: Mapping[str, Any]
    score: Mapping[str, Any]
    train: bool
    error_score: Any
    routed: bool


class Evaluation:
    """Fits and scores candidates on the folds of one table.

    Parameters
    ----------
    estimator : estimator
        What candidates are clones of.
    X, y : array-like or Dask collection
        The rows.
    plan : Plan
        What is wanted.
    after_round : callable or None, default=None
        Called with what is under way after each pass that fits have shared.

    Raises
    ------
    ValueError
        If the estimator has a checkpoint, which is one of one fit.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        plan: Plan,
        after_round: Callable[[UnderWay], None] | None = None,
    ) -> None:
        if getattr(last_step(estimator), "checkpoint", None) is not None:
            raise ValueError(
                "A checkpoint belongs to one fit, and a search or cross-validation makes many: "
                "set checkpoint=None. A fit with the chosen parameters may have one (refit=False "
                "leaves that fit to you)."
            )
        self.estimator = estimator
        self.after_round = after_round
        self.X, self.y, self.plan = X, y, plan
        self.n_splits = 0
        self.fitted: list[list[Any]] = []
        self._stack = ExitStack()
        self._batches: dict[str, Batch] = {}
        self._folds: tuple[list[Division], list[Split]] | None = None
        self._sets: RowSets | None = None

    def run(self, candidates: Sequence[Mapping[str, Any]]) -> list[list[Trial]]:
        """Return the trials, by candidate and split.

        Raises
        ------
        ValueError
            If there are no candidates, or all fits failed.
        """
        if not candidates:
            raise ValueError("No fits were performed. Were there no candidates?")
        groups: dict[str, list[int]] = {}
        for number, parameters in enumerate(candidates):
            estimator = with_parameters(self.estimator, parameters)
            key = group_key(estimator, parameters) if self._is_shared(estimator) else "alone"
            groups.setdefault(key, []).append(number)
        trials: dict[int, list[Trial]] = {}
        fitted: dict[int, list[Any]] = {}
        for key, numbers in groups.items():
            estimators = [with_parameters(self.estimator, candidates[n]) for n in numbers]
            if key == "alone":
                found = self._run_alone(estimators)
            elif isinstance(self.estimator, Pipeline):
                found = self._run_scaled(key, estimators) or self._run_pipelines(estimators)
            else:
                batch = self._batch(key, estimators[0])
                found = run_batch(batch, estimators, range(self.n_splits), self._wanted())
            for number, row, models in zip(numbers, *found, strict=True):
                trials[number], fitted[number] = row, models
        ordered = [trials[number] for number in range(len(candidates))]
        self.fitted = [fitted[number] for number in range(len(candidates))]
        self._score_by_rows(ordered)
        self._put_errors(ordered)
        return ordered

    def fit_all(self, parameters: Mapping[str, Any], propagation: Propagation = nullcontext) -> Any:
        """Return a candidate fitted on all rows, with the callbacks that are passed on to it."""
        estimator = with_parameters(self.estimator, parameters)
        batch = self._batches.get(
            group_key(estimator, parameters) if self._is_shared(estimator) else "alone"
        )
        if batch is None:
            with propagation(estimator):
                return estimator.fit(self.X, self.y, **self.plan.fit)
        return batch.fit_all(estimator)

    def predictions(self, models: Sequence[Any], method: str) -> Any:
        """Return what a method of each split's model says about its test rows, in their order."""
        rows = self._rows()
        assert self._folds is not None
        divisions, splits = self._folds
        if len(divisions) > 1 or len({s.test for s in splits}) < divisions[0].n_parts:
            raise ValueError(
                "cross_val_predict only works for partitions: test rows have to "
                "divide the table. Use a splitter such as KFold."
            )
        pieces = [
            getattr(model, method)(self._divided(self.X, number)[1])
            for number, model in enumerate(models)
        ]
        return rows.together(pieces, divisions[0], splits)

    def rounds(self) -> Any:
        """Return the rounds of a search whose fits were one batch."""
        (batch,) = self._batches.values()
        return batch.rounds

    def close(self) -> None:
        """Let go of the rows."""
        self._stack.close()

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # Which way

    def _is_shared(self, estimator: Any) -> bool:
        """Whether fits can share passes: nothing but weights goes to `fit` and to scorers."""
        prefix = ""
        if isinstance(estimator, Pipeline):
            if self.plan.routed and (self.plan.fit or self.plan.score):
                return False
            prefix = f"{estimator.steps[-1][0]}__"
        score = self.plan.score
        same = not score or (
            score.keys() == {"sample_weight"}
            and score["sample_weight"] is self.plan.fit.get("sample_weight")
        )
        return (
            share_passes(estimator) and same and self.plan.fit.keys() <= {f"{prefix}sample_weight"}
        )

    def _wanted(self) -> Wanted:
        scoring = self.plan.scoring
        own = type(last_step(self.estimator)) in TOGETHER
        names = tuple(
            name
            for name in scoring.scorers
            if scoring.way(name, last_step(self.estimator), 2, own=own) != "rows"
        )
        return Wanted(
            scoring, names, self.plan.train, bool(self.plan.score), self.plan.error_score,
            self._on_error,
        )  # fmt: skip

    def _on_error(self, error: Exception) -> float:
        if isinstance(self.plan.error_score, str):
            raise error
        warnings.warn(
            "Scoring failed. The score on this train-test partition for these parameters will be "
            f"set to {self.plan.error_score}. Details: {type(error).__name__}: {error}",
            UserWarning,
            stacklevel=2,
        )
        return float(self.plan.error_score)

    # Folds

    def _make_folds(
        self, n_rows: int, y: Any, classes: Callable[[], ClassPieces] | None = None
    ) -> tuple[list[Division], list[Split]]:
        if self._folds is None:
            self._folds = make_folds(
                self.plan.cv, n_rows, lambda: _targets(y), self.plan.split.get("groups"),
                classes=classes, classifier=self.plan.classifier,
            )  # fmt: skip
            self.n_splits = len(self._folds[1])
        return self._folds

    def _batch(self, key: str, estimator: Any) -> Batch:
        if key not in self._batches:
            weight = self.plan.fit.get("sample_weight")
            batch = Batch(estimator, self.X, self.y, weight, self._make_folds)
            batch.shared.after_round = self.after_round
            self._batches[key] = self._stack.enter_context(batch)
        return self._batches[key]

    def _rows(self) -> RowSets:
        if self._sets is None:
            others = [self.y, *self.plan.fit.values(), *self.plan.score.values()]
            self._sets = RowSets(self.X, [one for one in others if _has_rows(one)])
        divisions, splits = self._make_folds(
            self._sets.n_rows, self.y, lambda: ClassPieces.of(_targets(self.y))
        )
        self._folds = [self._by_position(division) for division in divisions], splits
        return self._sets

    def _by_position(self, division: Division) -> Division:
        if not isinstance(division, ByClass):
            return division
        y = _targets(self.y)
        whole = by_class(ClassPieces.of(y), division.n_parts, division.seed)
        return Listed(whole.of_labels(y, (0, 0)), division.n_parts)

    def _divided(self, array: Any, number: int) -> tuple[Any, Any]:
        rows = self._rows()
        assert self._folds is not None
        divisions, splits = self._folds
        if not _has_rows(array):
            return array, array
        return rows.divide(array, divisions, splits[number])

    def _run_scaled(
        self, key: str, estimators: Sequence[Any]
    ) -> tuple[list[list[Trial]], list[list[Any]]] | None:
        """Run pipelines for which the moments of all rows are enough; None if there are others."""
        if self.plan.fit or not all(map(may_scale_moments, estimators)):
            return None
        try:
            if key not in self._batches:
                opened = ScaledBatch(estimators[0], self.X, self.y, self._make_folds)
                opened.shared.after_round = self.after_round
                self._batches[key] = self._stack.enter_context(opened)
            return run_batch(self._batches[key], estimators, range(self.n_splits), self._wanted())
        except NeedsRows:
            # Its rows would lie beside those that are scaled.
            batch = self._batches.pop(key, None)
            if batch is not None:
                batch.close()
            return None

    # Pipelines: a batch for each split, of rows as the first steps transform them

    def _run_pipelines(
        self, estimators: Sequence[Any]
    ) -> tuple[list[list[Trial]], list[list[Any]]]:
        self._rows()
        weight = next(iter(self.plan.fit.values()), None)
        labels, y = None, self.y
        if isinstance(last_step(estimators[0]), DistributedLinearSVC):
            labels = read_labels(y, in_memory=not is_dask(self.X))
            y = labels.y
        trials: list[list[Trial]] = [[] for _ in estimators]
        fitted: list[list[Any]] = [[] for _ in estimators]
        lasts = [last_step(one) for one in estimators]
        for number in range(self.n_splits):
            X, y_parts, weights = (self._divided(one, number) for one in (self.X, y, weight))
            original = self._divided(self.y, number)[0]
            first, tables = estimators[0][:-1], X
            if len(first.steps):
                first = clone(first)
                tables = (first.fit_transform(X[0], original), first.transform(X[1]))
            with (
                Batch(lasts[0], tables[0], y_parts[0], weights[0], labels=labels) as batch,
                Batch(lasts[0], tables[1], y_parts[1], labels=labels) as held_out,
            ):
                batch.shared.after_round = self.after_round
                found, models = run_batch(batch, lasts, [None], self._wanted(), held_out)
            for row, (trial,) in enumerate(found):
                trials[row].append(trial)
                steps = [*first.steps, (estimators[row].steps[-1][0], models[row][0])]
                fitted[row].append(Pipeline(steps))
        return trials, fitted

    # One by one

    def _run_alone(self, estimators: Sequence[Any]) -> tuple[list[list[Trial]], list[list[Any]]]:
        self._rows()
        trials: list[list[Trial]] = [[Trial() for _ in range(self.n_splits)] for _ in estimators]
        fitted: list[list[Any]] = [[None] * self.n_splits for _ in estimators]
        for number in range(self.n_splits):
            X, y = self._divided(self.X, number)[0], self._divided(self.y, number)[0]
            options = {key: self._divided(v, number)[0] for key, v in self.plan.fit.items()}
            for row, estimator in enumerate(estimators):
                trial, one = trials[row][number], clone(estimator)
                begin = time.perf_counter()
                try:
                    fitted[row][number] = one.fit(X, y, **options)
                except Exception as error:
                    trial.error = error
                trial.fit_time = time.perf_counter() - begin
        return trials, fitted

    def _score_by_rows(self, trials: Sequence[Sequence[Trial]]) -> None:
        """Have scorers look at the rows themselves, where nothing else will do."""
        for number in range(self.n_splits):
            for row, models in zip(trials, self.fitted, strict=True):
                trial, model = row[number], models[number]
                for side in ("test", "train") if self.plan.train else ("test",):
                    scores = getattr(trial, side)
                    missing = [n for n in self.plan.scoring.scorers if n not in scores]
                    if trial.error is None and missing:
                        begin = time.perf_counter()
                        scores.update(self._scores_of(model, number, side, missing))
                        trial.score_time += time.perf_counter() - begin

    def _scores_of(
        self, model: Any, number: int, side: str, names: Sequence[str]
    ) -> dict[str, float]:
        at = 0 if side == "train" else 1
        X, y = self._divided(self.X, number)[at], self._divided(self.y, number)[at]
        options = {key: self._divided(v, number)[at] for key, v in self.plan.score.items()}
        given = (X,) if y is None else (X, y)
        scores: dict[str, float] = {}
        for name in names:
            try:
                found = call_scorer(self.plan.scoring.scorers[name], model, given, options)
            except Exception as error:
                found = self._on_error(error)
            scores.update(found if isinstance(found, dict) else {name: float(found)})
        return scores

    def _put_errors(self, trials: Sequence[Sequence[Trial]]) -> None:
        failed = [trial for row in trials for trial in row if trial.error is not None]
        if not failed:
            return
        error = failed[0].error
        assert error is not None
        if isinstance(self.plan.error_score, str):
            raise error
        n_fits = sum(map(len, trials))
        said = f"{type(error).__name__}: {error}"
        if len(failed) == n_fits:
            raise ValueError(
                f"All the {n_fits} fits failed. It is very likely that your model is "
                "misconfigured. You can try to debug the error by setting error_score='raise'. "
                f"The first failure was: {said}"
            ) from error
        warnings.warn(
            f"{len(failed)} fits failed out of a total of {n_fits}. The score on these train-test "
            f"partitions for these parameters will be set to {self.plan.error_score}. The first "
            f"failure was: {said}",
            FitFailedWarning,
            stacklevel=3,
        )
        names = next(list(t.test) for row in trials for t in row if t.error is None)
        for trial in failed:
            value = float(self.plan.error_score)
            trial.test = dict.fromkeys(names, value)
            trial.train = dict.fromkeys(names, value)


def _targets(y: Any) -> Any:
    """Return y in this process."""
    if y is None:
        return None
    values = np.asarray(y.compute() if is_dask(y) else y)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _has_rows(value: Any) -> bool:
    return value is not None and (
        is_dask(value) or hasattr(value, "shape") or isinstance(value, list)
    )
