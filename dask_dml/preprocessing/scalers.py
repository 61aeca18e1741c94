"""Scalers by extremes and by quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.base import clone
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler

from dask_dml.input.containers import is_sparse
from dask_dml.input.kinds import is_dask
from dask_dml.preprocessing.digests import Extremes
from dask_dml.preprocessing.family import (
    DistributedTransformerMixin,
    InverseMixin,
    unchanged_on_error,
)
from dask_dml.preprocessing.numbers import ExtremesLearner, OrderLearner, Quantiles
from dask_dml.preprocessing.tables import Table, build, number_dtype, settled, width


class _LearnsExtremes(InverseMixin, DistributedTransformerMixin):
    """What the scalers by extremes share: they are fitted to a table of two rows."""

    n_samples_seen_: int

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Update the extremes with more rows.

        Parameters
        ----------
        X : array-like, DataFrame, dask array or dask DataFrame of shape (n_samples, n_features)
            More rows, with as many features as at the first call.
        y : object
            Not used.

        Returns
        -------
        self : object
            The scaler; unchanged if an error is raised.
        """
        if not is_dask(X):
            return super().partial_fit(X, y)  # type: ignore[misc]  # of the class beside
        if not hasattr(self, "n_samples_seen_"):
            return self.fit(X)
        from dask_dml.preprocessing.chunked import table_kind

        with unchanged_on_error(self):
            more = clone(self).fit(X)
            seen = self.n_samples_seen_ + more.n_samples_seen_
            rows = more._extremes(settled(table_kind(X, type(self).__name__)))
            super().partial_fit(rows)  # type: ignore[misc]  # of the class beside
            self.n_samples_seen_ = seen
        return self

    def learner(self, like: Table) -> ExtremesLearner:
        """Return what has to be learnt of tables of a kind."""
        self._refuse(like)
        return ExtremesLearner(number_dtype(like))

    def _refuse(self, like: Table) -> None:
        """Raise what scikit-learn says of a container that it does not take."""
        if is_sparse(like):
            super().fit(build(like, [[1.0]] * width(like)))

    def learned(self, value: Extremes, like: Table) -> None:
        """Become fitted by the extremes of all rows."""
        rows = (
            build(like, list(np.stack([value.low, value.high], axis=1))) if value.n_rows else like
        )
        super().fit(rows)
        self.n_samples_seen_ = value.n_rows

    def _extremes(self, like: Table) -> Table:
        """Return a table with the same extremes as all rows of the fit."""
        raise NotImplementedError


class DistributedMinMaxScaler(_LearnsExtremes, MinMaxScaler):
    """Scale columns to a range, by the smallest and largest values of all rows.

    scikit-learn's `MinMaxScaler`, for Dask collections as well.  These are read once, and
    transformed chunk by chunk.  NaN is ignored in the fit, and stays NaN in the result.

    Parameters
    ----------
    feature_range : tuple of (float, float), default=(0, 1)
        Smallest and largest value of the result.
    copy : bool, default=True
        Whether X in memory stays unchanged.  Chunks of a Dask collection always do.
    clip : bool, default=False
        Whether `transform` clips values to the range.

    Attributes
    ----------
    data_min_, data_max_, data_range_ : ndarray of shape (n_features,)
        Smallest value, largest value and their difference.
    scale_, min_ : ndarray of shape (n_features,)
        A value becomes ``x * scale_ + min_``.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.preprocessing.MinMaxScaler : Loads all of a Dask collection.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.preprocessing import DistributedMinMaxScaler
    >>> X = da.arange(5, chunks=2).reshape(-1, 1)
    >>> DistributedMinMaxScaler().fit_transform(X).compute().ravel().tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    def _extremes(self, like: Table) -> Table:
        return build(like, list(np.stack([self.data_min_, self.data_max_], axis=1)))


class DistributedMaxAbsScaler(_LearnsExtremes, MaxAbsScaler):
    """Divide columns by their largest absolute values; zeros stay zeros.

    scikit-learn's `MaxAbsScaler`, for dense and CSR Dask collections as well.  These are read once,
    and transformed chunk by chunk.  NaN is ignored in the fit, and stays NaN in the result.

    Parameters
    ----------
    copy : bool, default=True
        Whether X in memory stays unchanged.  Chunks of a Dask collection always do.
    **parameters
        ``clip`` (bool, default=False), from scikit-learn 1.8.

    Attributes
    ----------
    max_abs_ : ndarray of shape (n_features,)
        Largest absolute values.
    scale_ : ndarray of shape (n_features,)
        Divisors of the columns.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.preprocessing.MaxAbsScaler : Loads all of a Dask collection.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.preprocessing import DistributedMaxAbsScaler
    >>> X = da.arange(-4, 5, 4, chunks=2).reshape(-1, 1)
    >>> DistributedMaxAbsScaler().fit_transform(X).compute().ravel().tolist()
    [-1.0, 0.0, 1.0]
    """

    def _refuse(self, like: Table) -> None:
        """Take sparse rows as well."""

    def _extremes(self, like: Table) -> Table:
        return build(like, list(np.stack([self.max_abs_, self.max_abs_], axis=1)))


class DistributedRobustScaler(InverseMixin, DistributedTransformerMixin, RobustScaler):
    """Subtract the median of each column and divide by a range of quantiles, both exact.

    scikit-learn's `RobustScaler`, for dense and CSR Dask collections as well.  Columns of at most
    8192 different values are read once, others twice.  They are transformed chunk by chunk.
    NaN is ignored in the fit, and stays NaN in the result.

    Parameters
    ----------
    with_centering : bool, default=True
        Whether to subtract the medians.  Sparse X needs False.
    with_scaling : bool, default=True
        Whether to divide by the ranges.
    quantile_range : tuple of (float, float), default=(25.0, 75.0)
        Percentiles whose difference is the range.
    copy : bool, default=True
        Whether X in memory stays unchanged.  Chunks of a Dask collection always do.
    unit_variance : bool, default=False
        Whether to scale so that normally distributed columns have a variance of one.

    Attributes
    ----------
    center_ : ndarray of shape (n_features,) or None
        Medians.
    scale_ : ndarray of shape (n_features,) or None
        Ranges.  1 where the range is zero.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.preprocessing.RobustScaler : Loads all of a Dask collection.

    Notes
    -----
    A first pass brackets the quantiles by mergeable summaries of the columns (after Agarwal et al.,
    *Mergeable summaries*, 2012).  If a bracket is not a single value, a second pass looks at the
    values inside it.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.preprocessing import DistributedRobustScaler
    >>> scaler = DistributedRobustScaler().fit(da.arange(9, chunks=4).reshape(-1, 1))
    >>> scaler.center_.tolist(), scaler.scale_.tolist()
    ([4.0], [4.0])
    """

    center_: np.ndarray
    scale_: np.ndarray

    def learner(self, like: Table) -> OrderLearner:
        """Return what has to be learnt of tables of a kind."""
        low, high = self.quantile_range
        # scikit-learn's own errors, before anything is read.
        super().fit(build(like, [[1.0]] * width(like)))
        return OrderLearner(number_dtype(like), (0.5, low / 100.0, high / 100.0))

    def learned(self, value: Quantiles, like: Table) -> None:
        """Become fitted by the quantiles of all rows."""
        there = (value.n + value.n_missing)[:1].sum() > 0
        super().fit(build(like, [[1.0]] * width(like)) if there else like)
        median, low, high = value.values
        if self.with_centering:
            self.center_ = median.astype(self.center_.dtype)
        if self.with_scaling:
            spread = (high - low).astype(self.scale_.dtype)
            # scikit-learn takes a column for constant where the spread is within rounding.
            spread[spread < 10 * np.finfo(spread.dtype).eps] = 1.0
            if self.unit_variance:
                lower, upper = (norm.ppf(q / 100.0) for q in self.quantile_range)
                spread = spread / (upper - lower)
            self.scale_ = spread
