"""Validation of what is in memory, by scikit-learn's own checks."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from dask_dml.input.chunks import check_non_negative
from dask_dml.input.containers import (
    NO_NUMBERS_IN_Y,
    check_columns,
    check_kind,
    is_sparse,
    to_numbers,
)
from dask_dml.input.sparse_format import check_sparse


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
    check_container(X, "X")
    check_container(y, "y")
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
        if not any(sign in str(error) for sign in ("could not convert", "float()")):
            raise
        if frame:
            # Only now, because numbers held as objects or strings are as welcome as elsewhere.
            check_columns(X.columns, X.dtypes, objects=False)
        name = "X" if getattr(X, "dtype", np.dtype(object)).kind in "OSU" else "y"
        remedy = "every value has to be a number: encode or drop the others"
        raise type(error)(
            f"{error} (in {name}; {NO_NUMBERS_IN_Y if name == 'y' else remedy})"
        ) from error
    if isinstance(checked, tuple):
        return checked[0], _float_targets(checked[1])
    return checked


def check_targets(y: Any) -> np.ndarray:
    """Return targets in memory as a finite float array of shape (n,) or (n, n_outputs)."""
    check_container(y, "y")
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
    weights = _weight_array(sample_weight)
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


def _weight_array(sample_weight: Any) -> np.ndarray:
    check_container(sample_weight, "sample_weight")
    try:
        return check_array(
            sample_weight,
            ensure_2d=False,
            dtype=np.float64,
            order="C",
            input_name="sample_weight",
        )
    except (TypeError, ValueError) as error:
        if "sample_weight" in str(error):
            raise
        raise type(error)(
            f"sample_weight has to hold one number per row of X: {error}. To weigh classes, set "
            "the class_weight of a classifier."
        ) from error


def check_container(values: Any, name: str) -> None:
    """Raise ValueError for what scikit-learn's checks let through, or what crashes them.

    Parameters
    ----------
    values : object
        What the caller handed over.
    name : str
        Of the parameter, for the error.
    """
    if is_sparse(values):
        check_sparse(values, name)
    check_kind(values, name)


def _float_targets(y: Any) -> np.ndarray:
    if is_sparse(y):
        y = y.toarray()
    if y.dtype in (np.float32, np.float64):
        return y
    return to_numbers(y, np.dtype(np.float64), "y", "")
