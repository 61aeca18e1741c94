"""Mapping columns to a uniform or normal distribution, by their quantiles."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.preprocessing import QuantileTransformer

from dask_dml.input.containers import is_sparse
from dask_dml.input.kinds import is_dask
from dask_dml.preprocessing.digests import Parts, quantiles
from dask_dml.preprocessing.encoders import changed
from dask_dml.preprocessing.family import DistributedTransformerMixin, InverseMixin
from dask_dml.preprocessing.numbers import SketchLearner
from dask_dml.preprocessing.tables import Table, build, number_dtype, width


class DistributedQuantileTransformer(
    InverseMixin, DistributedTransformerMixin, QuantileTransformer
):
    """Give columns a uniform or normal distribution, by quantiles of all rows.

    scikit-learn's `QuantileTransformer`, for dense and CSR Dask collections as well.  These are
    read once, and transformed chunk by chunk.  scikit-learn takes the quantiles of a random sample
    of `subsample` rows.  Here they are the quantiles of all rows of the collection: exact for
    columns of at most 8192 different values, and otherwise within the bound `rank_error_`.  NaN is
    ignored in the fit, and stays NaN in the result.

    Parameters
    ----------
    n_quantiles : int, default=1000
        Number of quantiles.  There are never more than rows.
    output_distribution : {"uniform", "normal"}, default="uniform"
        Distribution of the result.
    ignore_implicit_zeros : bool, default=False
        Whether only stored entries of sparse columns count.
    subsample : int or None, default=10_000
        Number of rows that scikit-learn samples from data in memory.  None uses all.  All rows of
        a Dask collection are used in any case.
    random_state : int, RandomState instance or None, default=None
        Seed of the sample of rows in memory.
    copy : bool, default=True
        Whether X in memory stays unchanged.  Chunks of a Dask collection always do.

    Attributes
    ----------
    n_quantiles_ : int
        Number of quantiles.
    quantiles_ : ndarray of shape (n_quantiles, n_features)
        Quantiles of the columns.
    references_ : ndarray of shape (n_quantiles,)
        The shares of rows that lie below the quantiles.
    rank_error_ : ndarray of shape (n_features,)
        Largest error of the rank of any quantile, as a share of the column's values.  0 if the
        quantiles are exact.  Only after a fit to a Dask collection.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : Loads all of a Dask collection.

    Notes
    -----
    Mergeable summaries of the columns (after Agarwal et al., *Mergeable summaries*, 2012) bound the
    rank of every value that they keep, for any distribution.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.preprocessing import DistributedQuantileTransformer
    >>> X = da.arange(10, chunks=4).reshape(-1, 1) ** 3
    >>> uniform = DistributedQuantileTransformer(n_quantiles=10).fit(X)
    >>> uniform.transform(X).compute().ravel().round(2).tolist()
    [0.0, 0.11, 0.22, 0.33, 0.44, 0.56, 0.67, 0.78, 0.89, 1.0]
    >>> uniform.rank_error_.tolist()
    [0.0]
    """

    n_quantiles: int
    n_quantiles_: int
    references_: np.ndarray
    quantiles_: np.ndarray
    rank_error_: np.ndarray

    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn the parameters of the transformation from rows.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows of numbers.  A Dask collection is read on the workers of the current client, or by
            threads of this process.
        y : object
            Not used.

        Returns
        -------
        self : DistributedQuantileTransformer
            The fitted transformer; unchanged if an error is raised.

        Raises
        ------
        ValueError
            If there are more quantiles than rows to sample, or if X is sparse with negative values,
            contains infinity or is not numeric.  A note names the chunk.
        """
        super().fit(X, y)
        if not is_dask(X) and hasattr(self, "rank_error_"):
            del self.rank_error_  # of a fit before
        return self

    def learner(self, like: Table) -> SketchLearner:
        """Return what has to be learnt of tables of a kind."""
        if self.subsample is None or self.n_quantiles <= self.subsample:
            self._fit_row(like, 1.0)
        else:
            super().fit(build(like, [[1.0]] * width(like)))  # says that there are too many
        return SketchLearner(number_dtype(like), is_sparse(like) and self.ignore_implicit_zeros)

    def learned(self, value: Parts, like: Table) -> None:
        """Become fitted by the quantiles of all rows."""
        n_rows, *sketches = value.items
        if not n_rows:
            super().fit(like)  # says what is wrong
        negative = any(s.n and s.points[0] < 0.0 for s in sketches)
        self._fit_row(like, -1.0 if negative and is_sparse(like) else 1.0)
        if self.n_quantiles > n_rows:
            warnings.warn(
                f"n_quantiles ({self.n_quantiles}) is greater than the total number of samples "
                f"({n_rows}). n_quantiles is set to n_samples.",
                stacklevel=2,
            )
        self.n_quantiles_ = max(1, min(self.n_quantiles, n_rows))
        self.references_ = np.linspace(0.0, 1.0, self.n_quantiles_)
        # Of sparse columns that store nothing scikit-learn makes zeros.
        without = (np.full(self.n_quantiles_, 0.0 if is_sparse(like) else np.nan), 0.0)
        shares = self.references_ * 100.0 / 100.0  # rounded as by percentiles
        columns = [quantiles(s, shares) if s.n else without for s in sketches]
        dtype = self.quantiles_.dtype
        self.quantiles_ = np.column_stack([values for values, _ in columns]).astype(dtype)
        self.rank_error_ = np.array([error for _, error in columns])

    def _fit_row(self, like: Table, value: float) -> None:
        """Fit to one row, for scikit-learn's own errors of containers and values."""
        with changed(self, n_quantiles=1):
            super().fit(build(like, [[value]] * width(like)))

    def to_sklearn(self) -> Any:
        """Return this transformer as a fitted transformer of scikit-learn.

        Returns
        -------
        transformer : sklearn.preprocessing.QuantileTransformer
            Fitted, with the same parameters and attributes except `rank_error_`.

        Raises
        ------
        NotFittedError
            If the transformer has not been fitted.
        """
        made = super().to_sklearn()
        if hasattr(made, "rank_error_"):
            del made.rank_error_
        return made
