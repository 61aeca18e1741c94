"""Prediction and R^2 of a linear model: at once in memory, lazily for Dask collections.

What travels to the workers is a function of this module, the coefficients and the intercept.
Nothing here imports Dask unless the caller hands over a Dask collection.
"""

from __future__ import annotations

import functools
import operator
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

from dask_dml.blocks import Shard
from dask_dml.input.chunks import checked_matrix, describe_nonfinite_rows, make_block
from dask_dml.input.containers import join_columns
from dask_dml.input.in_memory import check_in_memory
from dask_dml.input.kinds import is_dask, is_frame
from dask_dml.input.read import read_input
from dask_dml.passes.predict import LinearModel, checked_values, linear_values


def linear_predict(
    estimator: Any, X: Any, coef: np.ndarray, intercept: np.ndarray, *, squeeze: bool
) -> Any:
    """Return ``X @ coef.T + intercept``.

    Parameters
    ----------
    estimator : fitted estimator
        Feature names and their number are checked against its fit; errors name it.
    X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
            (n_samples, n_features)
        The features.
    coef : ndarray of shape (n_outputs, n_features)
        Coefficients.
    intercept : ndarray of shape (n_outputs,)
        Intercepts.
    squeeze : bool
        Whether to return one dimension; needs n_outputs = 1.

    Returns
    -------
    values : ndarray, dask array, dask Series or dask DataFrame of shape (n_samples,) or \
            (n_samples, n_outputs)
        float32 where X is, otherwise float64.  Lazy where X is: chunked (partitioned, indexed)
        like X.

    Raises
    ------
    ValueError
        If X has other features than at the fit, is not numeric or not finite; the last, for lazy
        input, when the result is computed.
    """
    model = LinearModel(np.asarray(coef, np.float64), np.asarray(intercept, np.float64))
    if not is_dask(X):
        X = check_in_memory(estimator, X, reset=False)
        return _squeezed(linear_values(X, model), squeeze)
    from dask_dml.input.collections import check_features, check_table

    check_table(X, type(estimator).__name__)
    check_features(estimator, X, reset=False)
    return (_predict_frame if is_frame(X) else _predict_array)(X, model, squeeze)


def linear_score(
    estimator: Any,
    X: Any,
    y: Any,
    coef: np.ndarray,
    intercept: np.ndarray,
    sample_weight: Any = None,
) -> float:
    """Return the coefficient of determination R^2, averaged over the outputs.

    Parameters
    ----------
    estimator : fitted estimator
        As in `linear_predict`.
    X, y, sample_weight : array-like or Dask collection
        As in `dask_dml.input.read.read_input`; any mixture of containers.
    coef : ndarray of shape (n_outputs, n_features)
        Coefficients.
    intercept : ndarray of shape (n_outputs,)
        Intercepts.

    Returns
    -------
    score : float
        What `sklearn.metrics.r2_score` gives.  Dask collections are visited once, and only
        sums leave the workers.

    Raises
    ------
    ValueError
        For invalid input, or if y has another number of outputs than the model.
    """
    model = LinearModel(np.asarray(coef, np.float64), np.asarray(intercept, np.float64))
    chunks = read_input(estimator, X, y, sample_weight, reset=False)
    if chunks.n_outputs != len(model.intercept):
        raise ValueError(
            f"y has {chunks.n_outputs} output(s), but {type(estimator).__name__} was fitted with "
            f"{len(model.intercept)}."
        )
    if chunks.lazy:
        from dask_dml.rounds import visit_once

        total: Residuals = visit_once(chunks, residuals, model)
        return total.r2()
    from sklearn.metrics import r2_score

    weight = None if chunks.weight is None else chunks.weight[0]
    predicted = linear_values(chunks.X[0], model).astype(np.float64, copy=False)
    target = chunks.y[0].astype(np.float64, copy=False).reshape(predicted.shape)
    return float(r2_score(target, predicted, sample_weight=weight))


def _squeezed(values: np.ndarray, squeeze: bool) -> np.ndarray:
    return values[:, 0] if squeeze else values


# --- Lazy prediction --------------------------------------------------------------------------


def _shipped(model: LinearModel) -> Any:
    from dask.delayed import delayed

    # A task of its own: coefficients written into every task would be sent once per chunk.
    return delayed(model, pure=True, traverse=False)


def _predict_array(X: Any, model: LinearModel, squeeze: bool) -> Any:
    import dask.array as da

    from dask_dml.input.collections import table_dtype

    dtype = table_dtype(X)
    # Not map_blocks, and not rechunk where there are chunks of columns: Dask would look into
    # chunks, or trust the array's meta, which need not know that the chunks are sparse.
    return da.blockwise(
        _predict_chunk,
        "i" if squeeze else "ik",
        X,
        "ij",
        da.arange(X.numblocks[0], chunks=1),
        "i",
        _shipped(model),
        None,
        new_axes=None if squeeze else {"k": len(model.intercept)},
        concatenate=False,
        align_arrays=False,
        squeeze=squeeze,
        as_dtype=dtype,
        dtype=dtype,
        meta=np.empty((0,) if squeeze else (0, 0), dtype),
    )


def _predict_frame(X: Any, model: LinearModel, squeeze: bool) -> Any:
    import pandas as pd

    from dask_dml.input.collections import table_dtype

    dtype = table_dtype(X)
    columns = pd.DataFrame(np.empty((0, len(model.intercept)), dtype))
    return X.map_partitions(
        _predict_partition,
        _shipped(model),
        squeeze=squeeze,
        as_dtype=dtype,
        meta=pd.Series(np.empty(0, dtype)) if squeeze else columns,
    )


def _predict_chunk(
    parts: list[Any], number: np.ndarray, model: LinearModel, *, squeeze: bool, as_dtype: np.dtype
) -> np.ndarray:
    block = make_block(
        join_columns(parts),
        None,
        number=int(number[0]),
        n_features=model.coef.shape[1],
        n_outputs=0,
        dtype=as_dtype,
    )
    return _squeezed(checked_values(block, model), squeeze)


def _predict_partition(X: Any, model: LinearModel, *, squeeze: bool, as_dtype: np.dtype) -> Any:
    import pandas as pd

    where = f" in the partition from index {X.index[0]} on" if len(X) else ""
    matrix = checked_matrix(X, model.coef.shape[1], as_dtype, where)
    values = linear_values(matrix, model)
    if not np.isfinite(values).all():
        message = describe_nonfinite_rows(matrix, list(X.columns), lambda i: f"row {X.index[i]}")
        if message is not None:
            raise ValueError(message)
    if squeeze:
        return pd.Series(values[:, 0], index=X.index)
    return pd.DataFrame(values, index=X.index)


# --- Lazy score -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Residuals:
    """What R^2 needs to know of some rows; ``+`` gives that of all of them.

    The moments are merged (Chan, Golub and LeVeque 1983), never differences of raw sums, so that
    targets far from zero lose no digits.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    weight : float
        Sum of the sample weights.
    mean, spread : ndarray of shape (n_outputs,)
        Weighted mean of y, and weighted sum of squares around it.
    residual : ndarray of shape (n_outputs,)
        Weighted sum of squares of y minus the prediction.
    """

    n_rows: int
    weight: float
    mean: np.ndarray
    spread: np.ndarray
    residual: np.ndarray

    @classmethod
    def nothing(cls, n_outputs: int) -> Residuals:
        """Return the sums over no rows."""
        zero = np.zeros(n_outputs)
        return cls(0, 0.0, zero, zero, zero)

    @classmethod
    def of(cls, y: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None) -> Residuals:
        """Return the sums over some rows.

        Parameters
        ----------
        y, predicted : ndarray of shape (n_rows, n_outputs)
            float64.
        weight : ndarray of shape (n_rows,) or None
            Sample weights.
        """
        weight = np.ones(len(y)) if weight is None else weight
        total = float(weight.sum())
        if total == 0:
            return replace(cls.nothing(y.shape[1]), n_rows=len(y))
        # Differences from a value of the column: a constant target has no spread by rounding.
        mean = y[0] + weight @ (y - y[0]) / total
        return cls(len(y), total, mean, weight @ (y - mean) ** 2, weight @ (y - predicted) ** 2)

    def __add__(self, other: Residuals) -> Residuals:
        weight = self.weight + other.weight
        share = other.weight / weight if weight > 0 else 0.0
        step = other.mean - self.mean
        return Residuals(
            self.n_rows + other.n_rows,
            weight,
            self.mean + share * step,
            self.spread + other.spread + self.weight * share * step**2,
            self.residual + other.residual,
        )

    def r2(self) -> float:
        """Return R^2 averaged over the outputs, by the rules of `sklearn.metrics.r2_score`."""
        if self.n_rows < 2:
            warnings.warn(
                "R^2 score is not well-defined with less than two samples.",
                UndefinedMetricWarning,
                stacklevel=4,
            )
            return float("nan")
        if self.weight == 0:
            raise ValueError("Sample weights must contain at least one non-zero number.")
        constant = self.spread == 0
        scores = 1 - self.residual / np.where(constant, 1, self.spread)
        scores[constant] = self.residual[constant] == 0
        return float(scores.mean())


def residuals(shard: Shard, model: LinearModel) -> Residuals:
    """Return what R^2 needs to know of a shard."""
    parts = []
    for block in shard.blocks:
        predicted = checked_values(block, model).astype(np.float64, copy=False)
        parts.append(Residuals.of(block.y.astype(np.float64, copy=False), predicted, block.weight))
    return functools.reduce(operator.add, parts)
