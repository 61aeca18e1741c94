"""Scaling of columns before a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from dask_dml.estimators.base import LinearEstimator
from dask_dml.estimators.export import transfer
from dask_dml.estimators.parameters import BOOLEAN, Constraint
from dask_dml.input.in_memory import check_container, check_in_memory
from dask_dml.input.read import read_table
from dask_dml.preprocessing.lazy import LazyScalerMixin
from dask_dml.preprocessing.scaling import Scaling, spread


class _ScalerInMemory(OneToOneFeatureMixin, TransformerMixin, LinearEstimator):
    """What scikit-learn wraps for `set_output`: the scaler's methods for data in memory."""

    copy: bool
    with_mean: bool
    with_std: bool
    mean_: np.ndarray | None
    var_: np.ndarray | None
    scale_: np.ndarray | None
    n_samples_seen_: Any

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        check_is_fitted(self)
        X = check_in_memory(self, X, reset=False, allow_nan=True)
        return self._map(X, copy, inverse=False)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        check_is_fitted(self)
        check_container(X, "X")
        X = check_array(
            X,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return self._map(X, copy, inverse=True)

    def _map(self, X: Any, copy: bool | None, *, inverse: bool) -> Any:
        in_place = not (self.copy if copy is None else copy)
        return self._scaling()._replace(inverse=inverse).apply(X, in_place=in_place)

    def _scaling(self) -> Scaling:
        return Scaling(
            self.mean_ if self.with_mean else None, self.scale_ if self.with_std else None
        )


class DistributedStandardScaler(LazyScalerMixin, _ScalerInMemory):
    """Scale columns to mean zero and variance one, by moments of all rows of a Dask collection.

    A column becomes ``(x - mean) / scale``.  The moments of a Dask collection are computed in one
    pass over its chunks, and no chunk is kept.  Its `transform` is lazy.  In a pipeline with an
    estimator of this package, X never leaves the workers.

    Parameters
    ----------
    copy : bool, default=True
        Whether `transform` keeps X in memory unchanged.  If False, an ndarray or CSR matrix of
        float32 or float64 is scaled in place.  Dask collections never are.
    with_mean : bool, default=True
        Whether to subtract the means.  Sparse X needs False.
    with_std : bool, default=True
        Whether to divide by the standard deviations.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,) or None
        Means.  NaN for a column without values.  None with ``with_mean=False, with_std=False``.
    var_ : ndarray of shape (n_features,) or None
        Variances, as sums of squares divided by the number of rows.  None with
        ``with_std=False``.
    scale_ : ndarray of shape (n_features,) or None
        Standard deviations.  1 for columns that are constant within rounding.  None with
        ``with_std=False``.
    n_samples_seen_ : int, float or ndarray of shape (n_features,)
        Number of rows, or sum of sample weights, in all calls of `partial_fit`.  An array with a
        number for each column if values are missing.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.preprocessing.StandardScaler : Loads all of a dask array.

    Notes
    -----
    NaN is ignored in the fit, and stays NaN in `transform`.  Moments are computed about a value of
    the column and merged pairwise (Chan, Golub and LeVeque, 1983).  A column with a mean of 1e9
    therefore keeps the digits of its spread.  A column counts as constant only if its spread is
    within the rounding of the values themselves (about 1e-13 of the mean).  The bound of
    `StandardScaler` grows with the number of rows.  It takes 1e8 rows with a mean of 1e9 and a
    spread of 20 for constant.  The same chunks give the same bits on any cluster.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.preprocessing import DistributedStandardScaler
    >>> X = da.arange(20, chunks=8).reshape(10, 2)
    >>> scaler = DistributedStandardScaler().fit(X)
    >>> scaler.mean_.tolist(), scaler.var_.tolist()
    ([9.0, 10.0], [33.0, 33.0])
    >>> scaler.transform(X)[:2].compute().round(2).tolist()
    [[-1.57, -1.57], [-1.22, -1.22]]
    """

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {
        "copy": (BOOLEAN,),
        "with_mean": (BOOLEAN,),
        "with_std": (BOOLEAN,),
    }

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(
        self,
        X: Any,
        y: Any = None,  # noqa: ARG002 - pipelines hand it over
        sample_weight: Any = None,
    ) -> DistributedStandardScaler:
        """Compute the means and variances of the columns.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows.  A Dask collection is read once, on the workers of the current client, or by
            threads of this process.
        y : object
            Not used.
        sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
            Non-negative weights of the rows; None gives each row a weight of one.

        Returns
        -------
        self : DistributedStandardScaler
            The fitted scaler; unchanged if an error is raised.

        Raises
        ------
        ValueError
            If a parameter, X or the weights are invalid (the message names the parameter, column
            or chunk and the remedy), or if X is sparse with ``with_mean=True``.
        TypeError
            If a parameter or a column has the wrong type.
        """
        return self._update(X, sample_weight, before=None)

    def partial_fit(
        self,
        X: Any,
        y: Any = None,  # noqa: ARG002 - pipelines hand it over
        sample_weight: Any = None,
    ) -> DistributedStandardScaler:
        """Update the means and variances with more rows.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            More rows, with as many features as at the first call.
        y : object
            Not used.
        sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        self : DistributedStandardScaler
            The scaler; unchanged if an error is raised.

        Raises
        ------
        ValueError
            As for `fit`, or if X has other features than before.
        TypeError
            As for `fit`.
        """
        return self._update(X, sample_weight, before=getattr(self, "_moments", None))

    def _update(self, X: Any, sample_weight: Any, before: Any) -> DistributedStandardScaler:
        self._check_parameters()
        # Numba is loaded at the first fit: importing the package stays quick.
        from dask_dml.passes.evaluate import Use, column_moments
        from dask_dml.rounds import check_rows, visit_once

        with self._unchanged_on_error():
            chunks = read_table(self, X, sample_weight, reset=before is None)
            use = Use(bool(self.with_mean), bool(self.with_std))
            moments = visit_once(chunks, column_moments, use)
            check_rows(moments.n_rows, chunks.n_features)
            if chunks.weight is not None:
                _check_weights(moments)
            counts = chunks.weight is None and (
                before is None or np.asarray(self.n_samples_seen_).dtype.kind == "i"
            )
            self._set_moments(moments if before is None else before + moments, counts)
        return self

    def _set_moments(self, moments: Any, counts: bool) -> None:
        self._moments = moments
        mean, variance, scale = spread(moments)
        seen = moments.weight.astype(np.int64) if counts else moments.weight
        self.n_samples_seen_ = seen[0] if (seen == seen[0]).all() else seen
        self.mean_ = mean if self.with_mean or self.with_std else None
        self.var_, self.scale_ = (variance, scale) if self.with_std else (None, None)

    def learner(self, like: Any) -> Any:
        """Return what has to be learnt of tables of a kind."""
        from dask_dml.preprocessing.numbers import MomentsLearner
        from dask_dml.preprocessing.tables import number_dtype

        self._check_parameters()
        return MomentsLearner(number_dtype(like), bool(self.with_mean), bool(self.with_std))

    def learned(self, value: Any, like: Any) -> None:
        """Become fitted by the moments of all rows."""
        from dask_dml.preprocessing.numbers import WeightedMoments
        from dask_dml.rounds import check_rows

        weighted = isinstance(value, WeightedMoments)
        moments = value.moments if weighted else value
        validate_data(self, like, reset=True, skip_check_array=True)
        check_rows(moments.n_rows, self.n_features_in_)
        if weighted:
            _check_weights(moments)
        self._set_moments(moments, counts=not weighted)

    def example(self, like: Any) -> Any:
        """Return a table of one row that the fitted scaler can transform."""
        from dask_dml.preprocessing import tables

        return tables.example(like)

    def like_sklearn(self) -> Any:
        """Return a `StandardScaler` with the same parameters, not fitted."""
        from sklearn.preprocessing import StandardScaler

        return StandardScaler(**self.get_params())

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.preprocessing.StandardScaler` with the same results.

        Returns
        -------
        model : StandardScaler
            With the same parameters and attributes.  For float64 its results have the same bits.

        Raises
        ------
        NotFittedError
            If the scaler has not been fitted.
        """
        check_is_fitted(self)
        names = ("mean_", "var_", "scale_", "n_samples_seen_")
        fitted = {name: getattr(self, name) for name in names}
        return transfer(self, self.like_sklearn(), **fitted)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = not self.with_mean
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _check_weights(moments: Any) -> None:
    if not moments.weight.any():
        raise ValueError(
            "The sample weights sum to zero: there is nothing to fit. Give at least one row with "
            "values a positive sample_weight."
        )
