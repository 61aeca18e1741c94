"""Lazy transformation of Dask collections, beside scikit-learn's way for data in memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils.validation import check_is_fitted

from dask_dml.input.chunks import describe_infinite, describe_nonfinite_rows, make_block
from dask_dml.input.containers import is_sparse, to_matrix
from dask_dml.input.kinds import is_dask
from dask_dml.input.origin import note_origin
from dask_dml.preprocessing.scaling import Scaling, infinite_rows

_NO_FRAME = (
    "The transformer outputs sparse chunks, which make no DataFrame. Call "
    "set_output(transform='default')."
)


class LazyScalerMixin:
    """Put in front of a scikit-learn transformer that scales columns.

    scikit-learn wraps ``transform`` and ``fit_transform`` of a transformer to give the container
    that ``set_output`` asks for, and would load a whole Dask collection to do so.  The methods
    here come before the wrapped ones, and hand on only what is in memory.
    """

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Subtract the means of the columns, and divide by their scales.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows; NaN stays NaN.
        copy : bool, default=None
            Whether X in memory stays unchanged.  None stands for the parameter `copy`.  Dask
            collections always stay unchanged.

        Returns
        -------
        X_scaled : ndarray, CSR, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            float32 if X is, otherwise float64.  For a Dask collection, a lazy dask array with
            the same chunks of rows.  After ``set_output(transform="pandas")``, a lazy dask
            DataFrame with the same index.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If X has other features than in the fit, contains infinity, or is sparse with
            ``with_mean=True``.  Errors in the values of a Dask collection are raised when the
            result is computed.
        """
        if not is_dask(X):
            return super().transform(X, copy=copy)  # type: ignore[misc]  # of the scaler
        check_is_fitted(self)
        _check(self, X)
        scaling = self._scaling()  # type: ignore[attr-defined]  # of the scaler
        kind = self._output_container()
        return _lazily(X, scaling, self if kind == "pandas" else None)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit to rows, then transform them.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows.  A Dask collection that is not persisted is read in the fit, and again when the
            result is computed.
        y : object
            Not used.
        **fit_params : dict
            Passed on to `fit`.

        Returns
        -------
        X_scaled : ndarray, CSR, DataFrame, dask array or dask DataFrame
            As from `transform`.  Lazy for a Dask collection.
        """
        if not is_dask(X):
            return super().fit_transform(X, y, **fit_params)  # type: ignore[misc]  # of the class beside
        return self.fit(X, y, **fit_params).transform(X)  # type: ignore[attr-defined]  # of the class beside

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Multiply the columns by their scales, and add the means.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Scaled rows.  Names of columns are ignored.
        copy : bool, default=None
            As for `transform`.

        Returns
        -------
        X_original : ndarray, CSR or dask array of shape (n_samples, n_features)
            float32 if X is, otherwise float64.  Lazy for a Dask collection.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            As for `transform`.
        """
        if not is_dask(X):
            return super().inverse_transform(X, copy=copy)  # type: ignore[misc]  # of the class beside
        check_is_fitted(self)
        _check(self, X, names=False)
        return _lazily(X, self._scaling()._replace(inverse=True), None)  # type: ignore[attr-defined]  # of the class beside

    def _output_container(self) -> str:
        """Return "default" or "pandas": what scikit-learn would make of a row in memory."""
        names = getattr(self, "feature_names_in_", None)
        row: Any = np.zeros((1, self.n_features_in_))  # type: ignore[attr-defined]  # of the class beside
        if names is not None:
            import pandas as pd

            row = pd.DataFrame(row, columns=names)
        made = super().transform(row)  # type: ignore[misc]  # of the class beside
        if isinstance(made, np.ndarray):
            return "default"
        if hasattr(made, "iloc"):
            return "pandas"
        raise ValueError(
            f"set_output asks for a {type(made).__module__}.{type(made).__name__}, which has no "
            "counterpart in Dask. Use transform='default' for a dask array, or 'pandas' for a "
            "dask DataFrame."
        )


def _check(estimator: Any, X: Any, *, names: bool = True) -> None:
    from dask_dml.input.collections import check_features, check_table

    name = type(estimator).__name__
    check_table(X, name)
    if names:
        check_features(estimator, X, reset=False)
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {name} is expecting {estimator.n_features_in_} "
            "features as input."
        )


def _lazily(X: Any, scaling: Scaling, framed_for: Any) -> Any:
    """Return the scaled collection: a dask array, or a DataFrame with an estimator's names."""
    from dask.array.utils import meta_from_array

    from dask_dml.input.collections import table_dtype
    from dask_dml.input.kinds import is_frame

    dtype = table_dtype(X)
    if is_frame(X):
        names = None if framed_for is None else framed_for.get_feature_names_out()
        return _scale_frame(X, scaling, dtype, names)
    scaled = _scale_array(X, scaling, dtype)
    if framed_for is None:
        return scaled
    if is_sparse(meta_from_array(scaled)):
        raise ValueError(_NO_FRAME)
    import dask.dataframe as dd

    return dd.from_dask_array(scaled, columns=list(framed_for.get_feature_names_out()))


def _scale_array(X: Any, scaling: Scaling, dtype: np.dtype) -> Any:
    from dask.array.utils import meta_from_array

    meta = meta_from_array(X)
    if is_sparse(meta):
        scaling.check_sparse()
        meta = _like(meta, meta.tocsr())
    first = tuple(np.cumsum((0, *X.chunks[1])).tolist())
    return X.map_blocks(
        _scale_chunk,
        _shipped(scaling),
        first=first,
        as_dtype=dtype,
        dtype=dtype,
        meta=meta.astype(dtype),
    )


def _shipped(scaling: Scaling) -> Any:
    from dask.delayed import delayed

    # A task of its own: means written into every task would be sent once per chunk.
    return delayed(scaling, pure=True, traverse=False)


def _scale_chunk(
    X: Any,
    scaling: Scaling,
    *,
    first: tuple[int, ...],
    as_dtype: np.dtype,
    block_id: tuple[int, ...] = (0, 0),
) -> Any:
    number, begin, end = block_id[0], *first[block_id[1] : block_id[1] + 2]
    block = make_block(X, None, number=number, n_features=end - begin, n_outputs=0, dtype=as_dtype)
    scaled = scaling.columns(begin, end).apply(block.X)
    if infinite_rows(block.X, scaled):
        raise ValueError(describe_infinite(block, begin))
    return _like(X, scaled)


def _like(original: Any, rows: Any) -> Any:
    """Return a matrix for a matrix, and an array for an array: code downstream may use ``*``."""
    return sp.csr_matrix(rows) if isinstance(original, sp.spmatrix) else rows


def _scale_frame(X: Any, scaling: Scaling, dtype: np.dtype, names: Any) -> Any:
    from dask.dataframe.dispatch import make_meta

    empty = make_meta(X)
    meta = to_matrix(empty, dtype)
    if is_sparse(meta):
        scaling.check_sparse()
    if names is not None:
        meta = _framed(meta, names, empty.index[:0])
    # Not shipped: Dask cannot optimise an array that is made of a frame and a Delayed.
    step = partial(_scale_partition, scaling=scaling, as_dtype=dtype, names=names)
    made = X.map_partitions(step, meta=meta)
    return made if names is not None else note_origin(made, X, step)


def _scale_partition(X: Any, scaling: Scaling, *, as_dtype: np.dtype, names: Any) -> Any:
    matrix = to_matrix(X, as_dtype)
    scaled = scaling.apply(matrix)
    if infinite_rows(matrix, scaled):
        raise ValueError(
            describe_nonfinite_rows(
                matrix, list(X.columns), lambda i: f"row {X.index[i]}", np.isinf
            )
        )
    return scaled if names is None else _framed(scaled, names, X.index)


def _framed(rows: Any, names: Any, index: Any) -> Any:
    import pandas as pd

    if is_sparse(rows):
        raise ValueError(_NO_FRAME)
    return pd.DataFrame(rows, columns=names, index=index)
