"""From whatever the caller hands to `fit` or `score` to row chunks.

Input in memory takes scikit-learn's own path and becomes one chunk; Dask collections stay lazy
(see `dask_dml.input.collections`).  Nothing here imports Dask unless the caller already has.
"""

from __future__ import annotations

import sys
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from dask_dml.input.chunks import Chunks, check_non_negative
from dask_dml.input.containers import check_columns, is_sparse


def read_input(
    estimator: Any, X: Any, y: Any, sample_weight: Any = None, *, reset: bool = True
) -> Chunks:
    """Validate X, y and weights and cut them into the same row chunks.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set (or checked, see ``reset``), and
        errors name it.
    X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
            (n_samples, n_features)
        The chunks of rows of a Dask collection are kept; chunks of columns are joined.
    y : array-like, Series, DataFrame or Dask collection of shape (n_samples,) or \
            (n_samples, n_outputs)
        Need not be the same kind of container as X, nor chunked like it.
    sample_weight : array-like, Dask collection, float or None, of shape (n_samples,)
        Likewise.
    reset : bool, default=True
        Whether this is a fit, or a check against the fit before.

    Returns
    -------
    chunks : Chunks
        Delayed where X is a Dask collection.  Chunks whose sizes are unknown are taken as aligned
        where X and y have as many of them; only otherwise the rows are counted, by one pass.

    Raises
    ------
    TypeError, ValueError
        In scikit-learn's wording where it has one.  What can only be seen in the data of a
        Dask collection is raised by `dask_dml.input.chunks.make_block`, with the chunk's number.
    """
    if is_dask(X):
        from dask_dml.input.collections import read_collection

        return read_collection(estimator, X, y, sample_weight, reset=reset)
    X, y, sample_weight = _gather(X, y, sample_weight)
    X, y = check_in_memory(estimator, X, y, reset=reset)
    return _one_chunk(estimator, X, y, check_weights(sample_weight, X.shape[0]))


def read_table(estimator: Any, X: Any, sample_weight: Any = None, *, reset: bool = True) -> Chunks:
    """Validate X and weights, with no targets and with NaN let through.

    Parameters
    ----------
    estimator, X, sample_weight, reset
        As in `read_input`.

    Returns
    -------
    chunks : Chunks
        ``n_outputs`` is zero.

    Raises
    ------
    TypeError, ValueError
        As in `read_input`.
    """
    if is_dask(X):
        from dask_dml.input.collections import read_collection

        return read_collection(estimator, X, None, sample_weight, reset=reset)
    (sample_weight,) = _gather(sample_weight)
    X = check_in_memory(estimator, X, reset=reset, allow_nan=True)
    return _one_chunk(estimator, X, None, check_weights(sample_weight, X.shape[0]))


def _one_chunk(estimator: Any, X: Any, y: Any, weights: np.ndarray | None) -> Chunks:
    n_outputs = 0
    if y is not None:
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
    return Chunks(
        X=[X],
        y=[y],
        weight=None if weights is None else [weights],
        lazy=False,
        n_features=X.shape[1],
        n_outputs=n_outputs,
        multi_output=y is not None and y.ndim == 2,
        dtype=X.dtype,
        feature_names=getattr(estimator, "feature_names_in_", None),
        nbytes=float(_nbytes(X)),
    )


def is_dask(value: Any) -> bool:
    """Whether a value is a Dask collection; never imports Dask."""
    dask = sys.modules.get("dask")
    return dask is not None and bool(dask.is_dask_collection(value))


def check_in_memory(
    estimator: Any,
    X: Any,
    y: Any = "no_validation",
    *,
    reset: bool,
    allow_nan: bool = False,
) -> Any:
    """Validate input in memory as scikit-learn's linear models do.

    Parameters
    ----------
    estimator : estimator
        Whose ``n_features_in_`` and ``feature_names_in_`` are set or checked.
    X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)
        The features.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
        The targets.
    reset : bool
        Whether this is a fit.
    allow_nan : bool, default=False
        Whether X may hold NaN.

    Returns
    -------
    X : ndarray or CSR of shape (n_samples, n_features)
        float32 or float64, finite but for NaN that is allowed.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        float32 or float64, finite; only where y was given.
    """
    frame = hasattr(X, "iloc") and hasattr(X, "columns")
    if frame:
        check_columns(X.columns, X.dtypes, objects=True)
    accepted: dict[str, Any] = {
        "accept_sparse": "csr",
        "dtype": [np.float64, np.float32],
        "ensure_all_finite": "allow-nan" if allow_nan else True,
    }
    if y is not None and not isinstance(y, str):
        accepted |= {"multi_output": True, "y_numeric": True}
    try:
        checked = validate_data(estimator, X, y, reset=reset, **accepted)
    except (TypeError, ValueError) as error:
        if frame and any(sign in str(error) for sign in ("could not convert", "float()")):
            # Only now, because numbers held as objects or strings are as welcome as elsewhere.
            check_columns(X.columns, X.dtypes, objects=False)
        raise
    if isinstance(checked, tuple):
        return checked[0], _float_targets(checked[1])
    return checked


def check_targets(y: Any) -> np.ndarray:
    """Return targets in memory as a finite float array of shape (n,) or (n, n_outputs)."""
    y = check_array(
        y, accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y", ensure_min_samples=0
    )
    return _float_targets(y)


def check_weights(sample_weight: Any, n_samples: int) -> np.ndarray | None:
    """Return sample weights in memory as an array.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), float or None
        The weights; one number weighs every row.
    n_samples : int
        Number of rows of X.

    Returns
    -------
    weights : ndarray of shape (n_samples,) or None
        float64; ``None`` where every row weighs one.

    Raises
    ------
    ValueError
        If the weights are not finite, negative, all zero, or of another length.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, float(sample_weight))
    weights = check_array(
        sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        order="C",
        input_name="sample_weight",
    )
    if weights.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {weights.ndim}D array. Expected "
            f"either a scalar value or a 1D array of length {n_samples}."
        )
    if len(weights) != n_samples:
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_samples,)}! Give one weight "
            "per row of X."
        )
    check_non_negative(weights)
    if not weights.any():
        raise ValueError(
            "Sample weights must contain at least one non-zero number: with zero total weight no "
            "row counts. Leave sample_weight out to weigh all rows alike."
        )
    return weights


def _gather(*values: Any) -> tuple[Any, ...]:
    if not any(map(is_dask, values)):
        return values
    from dask.base import compute

    return tuple(compute(*values, traverse=False))


def _float_targets(y: Any) -> np.ndarray:
    if is_sparse(y):
        y = y.toarray()
    if y.dtype.kind in "mM":
        raise ValueError(f"y has dtype {y.dtype}; convert it to numbers first.")
    if y.dtype in (np.float32, np.float64):
        return y
    return y.astype(np.float64)


def _nbytes(X: Any) -> int:
    if is_sparse(X):
        return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    return X.nbytes
