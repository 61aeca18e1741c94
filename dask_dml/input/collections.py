"""Dask collections as input: what can be checked before anything runs.

Everything here looks at names, dtypes and shapes only.  `dask_dml.input.align` then cuts the
collections into the same row chunks, and `dask_dml.input.chunks.make_block` checks their data.
"""

from __future__ import annotations

import math
import sys
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from dask.array.utils import meta_from_array
from sklearn.utils.validation import validate_data

from dask_dml.input.align import Collection, row_chunks
from dask_dml.input.chunks import Chunks
from dask_dml.input.clients import check_workers, current_client, in_task
from dask_dml.input.containers import NO_NUMBERS_IN_Y, check_columns, not_numeric
from dask_dml.input.hints import hint_at_chunks
from dask_dml.input.in_memory import check_targets, check_weights
from dask_dml.input.kinds import is_array, is_dask, is_frame


def read_collection(
    estimator: Any, X: Collection, y: Any, sample_weight: Any, *, reset: bool
) -> Chunks:
    """Validate X (a Dask collection), y and weights (any containers); see `read_input`.

    Where y is None, and the estimator has no use for it, there are no outputs.
    """
    check_table(X, type(estimator).__name__)
    if reset:
        hint_at_chunks(X, table_dtype(X))
    check_reachable(X, y, sample_weight)
    check_features(estimator, X, y=y, reset=reset)
    y, n_outputs, multi_output = (None, 0, False) if y is None else _read_targets(y)
    weight = read_weights(sample_weight)
    dtype = table_dtype(X)
    X_chunks, y_chunks, weight_chunks = row_chunks(X, y, weight)
    return Chunks(
        X=X_chunks,
        y=y_chunks,
        weight=weight_chunks,
        lazy=True,
        n_features=int(X.shape[1]),
        n_outputs=n_outputs,
        multi_output=multi_output,
        dtype=dtype,
        feature_names=getattr(estimator, "feature_names_in_", None),
        nbytes=_nbytes(X, dtype),
    )


def check_reachable(*collections: Any) -> None:
    """Reject data that is held by a cluster where this process has no client of it.

    The workers of a cluster that it has a client of must be able to take part.

    Parameters
    ----------
    *collections : object
        Dask collections are looked at, anything else is let through.

    Raises
    ------
    RuntimeError
        Before Dask says that some key is missing, in whatever process that is, or closes workers
        that lack this package.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None:  # no futures can be in this process
        return
    if in_task():
        return
    client = current_client()
    if client is not None:
        check_workers(client)
        return
    if any(distributed.futures_of(one) for one in collections if is_dask(one)):
        raise RuntimeError(
            "The data was persisted on a Dask cluster, and this process has no client of that "
            "cluster. In a search with n_jobs, whose processes know nothing of the cluster, leave "
            "n_jobs=None (each fit uses the whole cluster already), or use "
            "joblib.parallel_config(backend='threading'). Otherwise connect first: "
            "Client(address)."
        )


def _nbytes(X: Collection, dtype: np.dtype) -> float:
    if is_frame(X) or sp.issparse(meta_from_array(X)):
        return math.nan
    return float(X.shape[0]) * X.shape[1] * dtype.itemsize


def check_table(X: Collection, name: str) -> None:
    """Reject a dask array or DataFrame that cannot be a table of numbers, before it runs.

    Parameters
    ----------
    X : dask collection
        What the caller handed over as X.
    name : str
        The estimator's name, for errors.

    Raises
    ------
    TypeError
        If X is another kind of Dask collection (a Bag, a Delayed, ...).
    ValueError
        If X is not two-dimensional, has no rows, no columns, an unknown number of columns, or
        columns that are not numeric.
    """
    if is_frame(X):
        _check_frame(X)
    elif is_array(X):
        _check_array(X)
    else:
        raise TypeError(
            f"X is a {type(X).__module__}.{type(X).__name__}; {name} takes dask arrays and dask "
            "DataFrames. dask.array.from_delayed or dask.dataframe.from_delayed make one of "
            "Delayed objects, Bag.to_dataframe() of a bag."
        )
    n_rows = math.nan if is_frame(X) else X.shape[0]
    for size, what in ((n_rows, "sample"), (X.shape[1], "feature")):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape=({n_rows}, {X.shape[1]})) while a minimum "
                f"of 1 is required by {name}."
            )


def _check_frame(X: Collection) -> None:
    if X.ndim == 1:
        raise ValueError(
            f"Expected a 2-dimensional container but got {type(X)} instead. Pass a DataFrame "
            "containing a single column (i.e. single feature), such as X.to_frame(), instead."
        )
    check_columns(X.columns, X.dtypes, objects=False)


def _check_array(X: Collection) -> None:
    if X.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead:\narray={X}.\nReshape your data "
            "either using array.reshape(-1, 1) if your data has a single feature or "
            "array.reshape(1, -1) if it contains a single sample."
        )
    if X.ndim > 2:
        raise ValueError(f"Found array with dim {X.ndim}, while dim <= 2 is required.")
    if math.isnan(X.shape[1]):
        raise ValueError(
            "The number of columns of X is unknown (its shape is "
            f"{X.shape}). Call X.compute_chunk_sizes(), or state the number where X is made, for "
            "example map_blocks(..., chunks=(X.chunks[0], (n_features,)))."
        )
    _check_dtype(X.dtype, "X")


def _check_dtype(dtype: np.dtype, name: str) -> None:
    if dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {dtype}.")
    # Objects may be numbers of several kinds: chunks tell.
    if dtype.kind not in "biufO":
        remedy = f"Convert it first, for example with {name}.astype(float)."
        raise ValueError(
            f"{name} has dtype {dtype}, which is not numeric. "
            f"{NO_NUMBERS_IN_Y if name == 'y' and dtype.kind in 'US' else remedy}"
        )


def check_features(estimator: Any, X: Collection, *, y: Any = "given", reset: bool) -> None:
    """Set or check ``n_features_in_`` and ``feature_names_in_``, as scikit-learn does."""
    # scikit-learn looks at the container only, so that a table with no rows stands in for X.
    if is_frame(X):
        import pandas as pd

        stand_in: Any = pd.DataFrame(columns=X.columns)
    else:
        stand_in = np.broadcast_to(np.float64(0), (1, X.shape[1]))
    validate_data(
        estimator,
        stand_in,
        None if y is None else "no_validation",
        reset=reset,
        skip_check_array=True,
    )


def table_dtype(X: Collection) -> np.dtype:
    """Return the dtype that scikit-learn would hold X in: float32 if it is, otherwise float64."""
    kinds = [X.dtype] if is_array(X) else list(X.dtypes)
    known = all(isinstance(kind, np.dtype) for kind in kinds)
    single = known and np.result_type(*kinds) == np.float32
    return np.dtype(np.float32 if single else np.float64)


def _read_targets(y: Any) -> tuple[Any, int, bool]:
    """Return y (checked as far as it can be), its number of columns, and whether it is 2-d."""
    if not is_dask(y):
        y = check_targets(y)
    elif is_frame(y):
        frame = y if y.ndim == 2 else y.to_frame(name=y.name or "y")
        bad = not_numeric(frame.columns, frame.dtypes, objects=False)
        if bad:
            raise ValueError(
                f"The columns {', '.join(bad)} of y are not numeric. {NO_NUMBERS_IN_Y}"
            )
    elif is_array(y):
        _check_dtype(y.dtype, "y")
    else:
        raise TypeError(
            f"y is a {type(y).__module__}.{type(y).__name__}; a dask array, Series or DataFrame, "
            "or an array in memory is needed."
        )
    if y.ndim not in (1, 2):
        raise ValueError(f"Found array with dim {y.ndim}, while dim 1 or 2 is required for y.")
    n_outputs = 1 if y.ndim == 1 else y.shape[1]
    if math.isnan(n_outputs):
        raise ValueError("The number of columns of y is unknown. Call y.compute_chunk_sizes().")
    if n_outputs == 0:
        raise ValueError("y has no columns; a minimum of 1 is required.")
    return y, int(n_outputs), y.ndim == 2


def read_weights(weight: Any) -> Any:
    """Return weights in any container, checked as far as they can be before anything runs."""
    if weight is None:
        return None
    if isinstance(weight, Real):
        check_weights(weight, 1)
        return float(weight)
    if not is_dask(weight):
        return check_weights(weight, len(weight))
    if not (is_frame(weight) or is_array(weight)) or weight.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {weight}. Expected either a scalar "
            "value or a 1D dask array or Series with one weight per row of X."
        )
    if is_frame(weight):
        check_columns([weight.name or "sample_weight"], [weight.dtype], objects=False)
    else:
        _check_dtype(weight.dtype, "sample_weight")
    return weight
