"""From whatever the caller hands to `fit` or `score` to row chunks.

Input in memory takes scikit-learn's own path and becomes one chunk; Dask collections stay lazy
(see `dask_dml.input.collections`).  Nothing here imports Dask unless the caller already has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dask_dml.input.chunks import Chunks
from dask_dml.input.containers import is_sparse
from dask_dml.input.hints import hint_at_gathered
from dask_dml.input.in_memory import check_in_memory, check_weights
from dask_dml.input.kinds import is_dask


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
    if reset:
        hint_at_gathered(X, y)
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


def _gather(*values: Any) -> tuple[Any, ...]:
    if not any(map(is_dask, values)):
        return values
    from dask.base import compute

    return tuple(compute(*values, traverse=False))


def _nbytes(X: Any) -> int:
    if is_sparse(X):
        return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    return X.nbytes
