"""Metrics of regression from one pass over the chunks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

from dask_dml.estimators.prediction import Residuals
from dask_dml.metrics.rows import any_dask, visit_rows


@dataclass(frozen=True)
class Losses:
    """Losses of some rows.

    Attributes
    ----------
    weight : float
        Sum of the sample weights.
    total : ndarray of shape (n_outputs,) or float
        Weighted sums of the losses.
    """

    weight: float
    total: Any

    def __add__(self, other: Losses) -> Losses:
        if not (self.weight and other.weight):
            return self if self.weight else other
        return Losses(self.weight + other.weight, self.total + other.total)


def mean_squared_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Return the mean squared error, as `sklearn.metrics.mean_squared_error`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        True values and predictions.  Either may be lazy.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape (n_outputs,), \
            default="uniform_average"
        How the outputs are combined.

        - ``"raw_values"``: one number for each output.
        - ``"uniform_average"``: their mean.
        - array-like: their mean, with these weights.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import mean_squared_error
    >>> mean_squared_error(da.arange(4, chunks=2), da.ones(4, chunks=2))
    1.5
    """
    given = (y_true, y_pred, sample_weight)
    return _average(_mean(metrics.mean_squared_error, *given), multioutput)


def root_mean_squared_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Return the root of the mean squared error of each output, averaged over the outputs.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        True values and predictions.  Either may be lazy.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape (n_outputs,), \
            default="uniform_average"
        How the outputs are combined.

        - ``"raw_values"``: one number for each output.
        - ``"uniform_average"``: their mean.
        - array-like: their mean, with these weights.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import root_mean_squared_error
    >>> root_mean_squared_error(da.arange(4, chunks=2), da.ones(4, chunks=2))
    1.22
    """
    given = (y_true, y_pred, sample_weight)
    return _average(np.sqrt(_mean(metrics.mean_squared_error, *given)), multioutput)


def mean_absolute_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Return the mean absolute error, as `sklearn.metrics.mean_absolute_error`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        True values and predictions.  Either may be lazy.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape (n_outputs,), \
            default="uniform_average"
        How the outputs are combined.

        - ``"raw_values"``: one number for each output.
        - ``"uniform_average"``: their mean.
        - array-like: their mean, with these weights.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import mean_absolute_error
    >>> mean_absolute_error(da.arange(4, chunks=2), da.ones(4, chunks=2))
    1.0
    """
    given = (y_true, y_pred, sample_weight)
    return _average(_mean(metrics.mean_absolute_error, *given), multioutput)


def mean_pinball_loss(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    alpha: float = 0.5,
    multioutput: Any = "uniform_average",
) -> Any:
    """Return the mean pinball loss, as `sklearn.metrics.mean_pinball_loss`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        True values and predictions.  Either may be lazy.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.
    alpha : float, default=0.5
        The quantile that was predicted, between 0 and 1.
    multioutput : {"raw_values", "uniform_average"} or array-like of shape (n_outputs,), \
            default="uniform_average"
        How the outputs are combined.

        - ``"raw_values"``: one number for each output.
        - ``"uniform_average"``: their mean.
        - array-like: their mean, with these weights.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import mean_pinball_loss
    >>> mean_pinball_loss(da.arange(4, chunks=2), da.ones(4, chunks=2))
    0.5
    """
    loss = partial(metrics.mean_pinball_loss, alpha=alpha)
    return _average(_mean(loss, y_true, y_pred, sample_weight), multioutput)


def max_error(y_true: Any, y_pred: Any) -> float:
    """Return the largest absolute error, as `sklearn.metrics.max_error`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,)
        True values and predictions.  Either may be lazy.

    Returns
    -------
    error : float
        Computed in one pass over the chunks.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import max_error
    >>> max_error(da.arange(4, chunks=2), da.ones(4, chunks=2))
    2.0
    """
    if not any_dask(y_true, y_pred):
        return float(metrics.max_error(y_true, y_pred))
    return float(visit_rows(_largest, None, y_true, y_pred, None).value)


def r2_score(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    force_finite: bool = True,
) -> Any:
    """Return the coefficient of determination, as `sklearn.metrics.r2_score`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        True values and predictions.  Either may be lazy.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.
    multioutput : {"raw_values", "uniform_average", "variance_weighted"} or array-like of shape \
            (n_outputs,), default="uniform_average"
        How the outputs are combined.

        - ``"raw_values"``: one number for each output.
        - ``"uniform_average"``: their mean.
        - ``"variance_weighted"``: their mean, weighted by the variances of the outputs.
        - array-like: their mean, with these weights.

    force_finite : bool, default=True
        Whether a constant target scores 1 (if it is predicted exactly) or 0.  If False, NaN or
        -inf.

    Returns
    -------
    score : float or ndarray of shape (n_outputs,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import r2_score
    >>> r2_score(da.arange(4, chunks=2), da.ones(4, chunks=2))
    -0.2
    """
    if not any_dask(y_true, y_pred, sample_weight):
        return metrics.r2_score(
            y_true,
            y_pred,
            sample_weight=sample_weight,
            multioutput=multioutput,
            force_finite=force_finite,
        )
    found = visit_rows(_residuals, None, y_true, y_pred, sample_weight).value
    if found.n_rows < 2:
        warnings.warn(
            "R^2 score is not well-defined with less than two samples.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 1.0 - found.residual / found.spread
    if force_finite:
        constant = found.spread == 0.0
        scores[constant] = found.residual[constant] == 0.0
    if isinstance(multioutput, str) and multioutput == "variance_weighted":
        multioutput = found.spread if found.spread.any() else "uniform_average"
    return _average(scores, multioutput)


def _mean(metric: Callable[..., Any], y_true: Any, y_pred: Any, sample_weight: Any) -> np.ndarray:
    """Return the means of a loss, for each output."""
    if not any_dask(y_true, y_pred, sample_weight):
        return np.atleast_1d(
            metric(y_true, y_pred, sample_weight=sample_weight, multioutput="raw_values")
        )
    found = visit_rows(_losses, metric, y_true, y_pred, sample_weight)
    if not found.weight:
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    return np.atleast_1d(found.total / found.weight)


def _losses(
    y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray | None, metric: Callable[..., Any]
) -> Losses:
    total = float(len(y_true) if weight is None else weight.sum())
    if not total:
        return Losses(0.0, 0.0)
    means = metric(y_true, y_pred, sample_weight=weight, multioutput="raw_values")
    return Losses(total, means * total)


@dataclass(frozen=True)
class Largest:
    """The largest of some numbers."""

    value: float

    def __add__(self, other: Largest) -> Largest:
        return Largest(max(self.value, other.value))


def _largest(y_true: np.ndarray, y_pred: np.ndarray, weight: Any, metric: Any) -> Largest:  # noqa: ARG001 - as all
    return Largest(metrics.max_error(y_true, y_pred) if len(y_true) else 0.0)


@dataclass(frozen=True)
class Merged:
    """Residuals of some rows; of none, whatever the number of outputs is."""

    value: Residuals | None

    def __add__(self, other: Merged) -> Merged:
        if self.value is None or other.value is None:
            return other if self.value is None else self
        return Merged(self.value + other.value)


def _residuals(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    weight: np.ndarray | None,
    options: Any,  # noqa: ARG001 - what is visited has it
) -> Merged:
    if not len(y_true):
        return Merged(None)
    metrics.mean_squared_error(y_true[:1], y_pred[:1])  # says what is wrong with kinds and shapes
    y, predicted = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (y_true, y_pred))
    return Merged(Residuals.of(y, predicted, weight))


def _average(values: np.ndarray, multioutput: Any) -> Any:
    if isinstance(multioutput, str):
        if multioutput == "raw_values":
            return values
        if multioutput != "uniform_average":
            raise ValueError(
                "Allowed 'multioutput' string values are 'raw_values', 'uniform_average' and, for "
                f"r2_score, 'variance_weighted'. Got multioutput={multioutput!r}."
            )
        multioutput = None
    return float(np.average(values, weights=multioutput))
