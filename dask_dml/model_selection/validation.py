"""Scores and predictions by cross-validation, of lazy data, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier

from dask_dml.model_selection.scoring import Scoring

if TYPE_CHECKING:
    from dask_dml.model_selection.evaluation import Evaluation


def cross_validate(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    scoring: Any = None,
    cv: Any = None,
    params: Mapping[str, Any] | None = None,
    return_train_score: bool = False,
    return_estimator: bool = False,
    error_score: Any = np.nan,
) -> dict[str, Any]:
    """Return the scores of an estimator by cross-validation, with passes that the folds share.

    Parameters
    ----------
    estimator : estimator
        See `DistributedGridSearchCV`.
    X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
            (n_samples, n_features)
        The features.  Chunks of a Dask collection may be of unknown size.
    y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    groups : array-like of shape (n_samples,), default=None
        Groups of the rows, for splitters that keep groups together.
    scoring : str, callable, list, tuple or dict, default=None
        See `DistributedGridSearchCV`.
    cv : int, splitter or iterable, default=None
        See `DistributedGridSearchCV`.
    params : dict, default=None
        Arguments of ``fit``, such as ``sample_weight``.  The weights also count in the scores.
    return_train_score : bool, default=False
        Whether to score the training rows as well.
    return_estimator : bool, default=False
        Whether to return the fitted estimators.
    error_score : "raise" or float, default=nan
        Score of a fit that fails.  ``"raise"`` raises its error.

    Returns
    -------
    scores : dict of ndarray of shape (n_splits,)
        As `sklearn.model_selection.cross_validate` returns them.

    Raises
    ------
    ValueError
        If parameters or the input are invalid, or all fits failed.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.model_selection import cross_validate
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> scores = cross_validate(DistributedGDRegressor(), X, X[:, 0], cv=4)
    >>> bool(scores["test_score"].min() > 0.99)
    True
    """
    given = {**(params or {}), "groups": groups}
    with _evaluation(
        estimator, X, y, scoring, cv, given, train=return_train_score, error_score=error_score
    ) as evaluation:
        (trials,) = evaluation.run([{}])
        results: dict[str, Any] = {
            "fit_time": np.array([trial.fit_time for trial in trials]),
            "score_time": np.array([trial.score_time for trial in trials]),
        }
        if return_estimator:
            results["estimator"] = evaluation.fitted[0]
        for name in trials[0].test:
            results[f"test_{name}"] = np.array([trial.test[name] for trial in trials])
            if return_train_score:
                results[f"train_{name}"] = np.array([trial.train[name] for trial in trials])
    return results


def cross_val_score(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    scoring: Any = None,
    cv: Any = None,
    params: Mapping[str, Any] | None = None,
    error_score: Any = np.nan,
) -> np.ndarray:
    """Return one score of an estimator for each fold, with passes that the folds share.

    Parameters
    ----------
    estimator, X, y, groups, cv, params, error_score
        See `cross_validate`.
    scoring : str or callable, default=None
        One score.  None stands for the estimator's own `score`.

    Returns
    -------
    scores : ndarray of shape (n_splits,)
        As `sklearn.model_selection.cross_val_score` returns them.

    Raises
    ------
    ValueError
        If parameters or the input are invalid, or all fits failed.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.model_selection import cross_val_score
    >>> X, y = load_diabetes(return_X_y=True)
    >>> cross_val_score(DistributedGDRegressor(), X, y, cv=3).round(2)
    array([0.47, 0.49, 0.51])
    """
    if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
        raise ValueError(f"cross_val_score takes one scorer, got {scoring!r}; see cross_validate.")
    found = cross_validate(
        estimator, X, y, groups=groups, scoring=scoring, cv=cv, params=params,
        error_score=error_score,
    )  # fmt: skip
    return np.asarray(found["test_score"])


def cross_val_predict(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    cv: Any = None,
    params: Mapping[str, Any] | None = None,
    method: str = "predict",
) -> Any:
    """Return the prediction for each row from the fit that did not see it.

    Parameters
    ----------
    estimator, X, y, groups, params
        See `cross_validate`.
    cv : int, splitter or iterable, default=None
        See `DistributedGridSearchCV`.  Every row has to be a test row exactly once.
    method : {"predict", "decision_function", "predict_proba"}, default="predict"
        Method of the estimator that predicts.

    Returns
    -------
    predictions : ndarray or dask array of shape (n_samples,) or (n_samples, n_outputs)
        In the order of the rows.  For a Dask collection, lazy and with the same chunks of rows.

    Raises
    ------
    ValueError
        If parameters or the input are invalid, a fit failed, or some row is not a test row exactly
        once.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.model_selection import cross_val_predict
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> predicted = cross_val_predict(DistributedGDRegressor(alpha=1e-6), X, X[:, 0])
    >>> bool(abs(predicted - X[:, 0]).max().compute() < 1e-4)
    True
    """
    given = {**(params or {}), "groups": groups}
    with _evaluation(
        estimator, X, y, _Nothing(), cv, given, train=False, error_score="raise"
    ) as evaluation:
        evaluation.run([{}])
        return evaluation.predictions(evaluation.fitted[0], method)


class _Nothing:
    """A scorer without scores, for fits that are not to be scored."""

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:  # noqa: ARG002 - a scorer's
        return 0.0

    def set_score_request(self) -> None:
        """Be one of those that do not look at the rows."""


def _evaluation(
    estimator: Any,
    X: Any,
    y: Any,
    scoring: Any,
    cv: Any,
    given: Mapping[str, Any],
    *,
    train: bool,
    error_score: Any,
) -> Evaluation:
    # Numba is loaded at the first fit: importing the package stays quick.
    from dask_dml.model_selection.evaluation import Evaluation, Plan

    fit = {name: value for name, value in given.items() if name != "groups" and value is not None}
    plan = Plan(
        scoring=Scoring.of(scoring, estimator),
        cv=cv,
        classifier=is_classifier(estimator),
        split={"groups": given.get("groups")},
        fit=fit,
        score={name: fit[name] for name in ("sample_weight",) if name in fit},
        train=train,
        error_score=error_score,
        routed=False,
    )
    return Evaluation(estimator, X, y, plan)
