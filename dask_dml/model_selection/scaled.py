"""Pipelines of a scaler and least squares, from the moments of the rows as they are.

Second moments of rows that are shifted and scaled follow from those of the rows.  So nothing is
scaled: the moments that one pass collects for each part of the table give the scaler of every
fold, all fits on the rows that it would make, and their scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from dask_dml.estimators.regression import DistributedGDRegressor
from dask_dml.model_selection.batches import Batch, MakeFolds, Wanted
from dask_dml.passes.evaluate import rough_statistics, statistics
from dask_dml.passes.fold_rows import Fold
from dask_dml.passes.folds import sparse_blocks
from dask_dml.passes.partials import ColumnMoments, Statistics
from dask_dml.preprocessing.scaler import DistributedStandardScaler
from dask_dml.rounds.base import Rounds
from dask_dml.solvers.shared_rounds import Fit


class NeedsRows(Exception):
    """Moments alone do not say what a fit wants to know."""


def may_scale_moments(pipeline: Any) -> bool:
    """Whether a pipeline is a scaler and an estimator that looks at second moments only."""
    if not isinstance(pipeline, Pipeline) or len(pipeline.steps) != 2:
        return False
    scaler, last = pipeline[0], pipeline[1]
    return (
        type(scaler) is DistributedStandardScaler
        # Its output may have been chosen, which the last step would see.
        and vars(scaler).keys() == scaler.get_params().keys()
        and sklearn.get_config()["transform_output"] == "default"
        and type(last) is DistributedGDRegressor
        and last.loss == "squared_error"
        and last.solver in ("auto", "statistics")
        and last.aggregation == "weighted"
        and not last.warm_start
    )


class ScaledBatch(Batch):
    """Fits pipelines of a scaler and least squares on folds of the same rows, and scores them.

    Parameters
    ----------
    pipeline : Pipeline
        See `may_scale_moments`.
    X, y : array-like or Dask collection
        The rows, as they are.
    make_folds : callable
        As for `Batch`.

    Raises
    ------
    NeedsRows
        If the rows are sparse and would be centred, which the scaler refuses.
    """

    def __init__(self, pipeline: Pipeline, X: Any, y: Any, make_folds: MakeFolds) -> None:
        super().__init__(pipeline[-1], X, y, None, make_folds)
        if pipeline[0].with_mean and self.rounds.map_reduce(sparse_blocks):
            self.close()
            raise NeedsRows

    def fit(
        self, rows: Sequence[Sequence[Any]], folds: Sequence[Fold | None]
    ) -> list[list[Exception | None]]:
        """Fit a pipeline for each candidate and fold; return what went wrong.

        Raises
        ------
        NeedsRows
            If a fit needs more than moments.
        """
        fits = [
            Fit(fold, partial(self._fit_pipeline, pipeline), number)
            for number, row in enumerate(rows)
            for pipeline, fold in zip(row, folds, strict=True)
        ]
        errors = self._run(fits)
        for error in errors:
            if isinstance(error, NeedsRows):
                raise error
        return [errors[start : start + len(folds)] for start in range(0, len(errors), len(folds))]

    def _fit_pipeline(self, pipeline: Pipeline, rounds: Rounds) -> tuple[Exception | None]:
        scaler, last = pipeline[0], pipeline[1]
        vars(scaler).update(self.learned)
        found = self._fit(last, None, _ScaledRounds(rounds, scaler))
        # The scaler's output has no names of columns.
        vars(last).pop("feature_names_in_", None)
        return found

    def score(
        self, asked: Sequence[tuple[Fold | None, Sequence[Any]]], wanted: Wanted
    ) -> list[list[dict[str, float]]]:
        """Return the scores of each fold's pipelines."""
        return super().score(
            [(fold, [_of_rows_as_they_are(one) for one in models]) for fold, models in asked],
            wanted,
        )


class _ScaledRounds:
    """Rounds of one fit, whose moments are those of rows that a scaler has shifted and scaled.

    The scaler is fitted by the first moments.
    """

    def __init__(self, rounds: Rounds, scaler: DistributedStandardScaler) -> None:
        self._rounds = rounds
        self._scaler = scaler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rounds, name)

    def map_reduce(self, function: Any, broadcast: Any = None) -> Any:
        """Return scaled moments; anything else needs the rows."""
        if broadcast is not None or function not in (statistics, rough_statistics):
            raise NeedsRows
        found: Statistics = self._rounds.map_reduce(statistics)
        self._scaler._check_parameters()
        self._scaler._set_moments(
            ColumnMoments(
                found.n_rows,
                np.full(len(found.mean), found.weight),
                np.zeros(len(found.mean)),
                found.mean,
                found.square,
            ),
            counts=True,
        )
        return _scaled(found, self._scaler)

    def update(self, function: Any, broadcast: Any = None) -> Any:  # noqa: ARG002 - as others
        """Raise: a state belongs to rows."""
        raise NeedsRows


def _scaled(found: Statistics, scaler: DistributedStandardScaler) -> Statistics:
    scale = np.ones(len(found.mean)) if scaler.scale_ is None else scaler.scale_
    mean = np.zeros(len(scale)) if scaler.with_mean else found.mean / scale
    return Statistics(
        found.weight,
        found.n_rows,
        mean,
        found.square / scale**2,
        found.target_mean,
        found.target_square,
        found.products / np.outer(scale, scale),
        found.cross / scale[:, np.newaxis],
    )


def _of_rows_as_they_are(pipeline: Pipeline) -> Any:
    """Return the estimator that says of rows what the pipeline does."""
    scaler, last = pipeline[0], pipeline[1]
    model = clone(last)
    vars(model).update({k: v for k, v in vars(last).items() if k.endswith("_")})
    if scaler.scale_ is not None:
        model.coef_ = last.coef_ / scaler.scale_
    if scaler.with_mean:
        model.intercept_ = last.intercept_ - model.coef_ @ scaler.mean_
    return model
