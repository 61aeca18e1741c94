"""Filling in missing values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.utils import check_array

from dask_dml.input.containers import is_sparse
from dask_dml.preprocessing.digests import Counts, Parts, kind_of_missing
from dask_dml.preprocessing.encoders import CountsLearner
from dask_dml.preprocessing.family import DistributedTransformerMixin, InverseMixin
from dask_dml.preprocessing.learning import Learned
from dask_dml.preprocessing.numbers import MomentsLearner, OrderLearner, Quantiles
from dask_dml.preprocessing.tables import (
    Table,
    build,
    column,
    example,
    mask,
    number_dtype,
    same_value,
    width,
)


@dataclass(frozen=True)
class Gaps:
    """Missing values of columns.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    n_missing : ndarray of int of shape (n_features,)
        Values that a marker stands for.
    n_written : ndarray of int of shape (n_features,)
        Values that are there; of sparse columns those that are stored.
    n_nan : ndarray of int of shape (n_features,)
        NaN that the marker does not stand for.
    """

    n_rows: int
    n_missing: np.ndarray
    n_written: np.ndarray
    n_nan: np.ndarray

    def __add__(self, other: Gaps) -> Gaps:
        return Gaps(
            self.n_rows + other.n_rows,
            self.n_missing + other.n_missing,
            self.n_written + other.n_written,
            self.n_nan + other.n_nan,
        )


@dataclass(frozen=True)
class GapsLearner:
    """Where values are missing: learnt are `Gaps`."""

    marker: Any

    def observe(self, table: Table, number: int) -> Gaps:  # noqa: ARG002 - the protocol has it
        """Return the gaps of a chunk."""
        if is_sparse(table):
            return self._sparse(table)
        n_rows, p = int(table.shape[0]), width(table)
        counts = [self._column(column(table, j)) if n_rows else (0, 0, 0) for j in range(p)]
        return Gaps(n_rows, *np.array(counts, np.int64).reshape(-1, 3).T)

    def _column(self, values: Any) -> tuple[int, int, int]:
        values = check_array(values, ensure_2d=False, dtype=None, ensure_all_finite=False)
        missing = mask(values, self.marker)
        n_nan = int(np.isnan(values[~missing]).sum()) if values.dtype.kind == "f" else 0
        return int(missing.sum()), int((~missing).sum()), n_nan

    def _sparse(self, X: Any) -> Gaps:
        missing = mask(X.data, self.marker)
        n_nan = np.isnan(X.data) & ~missing
        kinds = (missing, ~missing, n_nan)
        return Gaps(X.shape[0], *(np.bincount(X.indices[k], minlength=X.shape[1]) for k in kinds))

    def after(self, total: Gaps) -> Learned:
        """Return the gaps of all rows."""
        return Learned(total)


class DistributedSimpleImputer(InverseMixin, DistributedTransformerMixin, SimpleImputer):
    """Replace missing values by a value for their column, learnt from all rows.

    scikit-learn's `SimpleImputer`, for Dask collections as well.  These are read once, and
    transformed chunk by chunk.  Exact medians of columns with more than 8192 different values take
    a second pass.

    Parameters
    ----------
    missing_values : int, float, str, np.nan, None or pandas.NA, default=np.nan
        The value that marks a missing value.  Dask reads missing text as `pandas.NA`, which counts
        as NaN.
    strategy : {"mean", "median", "most_frequent", "constant"}, default="mean"
        The value that replaces missing ones.  For data in memory also a callable, as in
        scikit-learn.

        - ``"mean"``: the mean of the column.
        - ``"median"``: the exact median of the column.
        - ``"most_frequent"``: the most frequent value of the column.
        - ``"constant"``: `fill_value`.

    fill_value : str or number, default=None
        The value for ``strategy="constant"``.  None stands for 0 in numeric columns and for
        "missing_value" in others.
    copy : bool, default=True
        Whether X in memory stays unchanged.  Chunks of a Dask collection always do.
    add_indicator : bool, default=False
        Whether to add a column for each column with missing values, which marks where they were.
    keep_empty_features : bool, default=False
        Whether to keep columns without any value, as zeros or `fill_value`.  If False, they are
        dropped.

    Attributes
    ----------
    statistics_ : ndarray of shape (n_features,)
        The values that replace missing ones.
    indicator_ : sklearn.impute.MissingIndicator or None
        Marks missing values.  None if `add_indicator` is False.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.impute.SimpleImputer : Loads all of a Dask collection.

    Notes
    -----
    Medians are exact.  A first pass brackets the median by a mergeable summary of the column (after
    Agarwal et al., *Mergeable summaries*, 2012).  A second pass looks at the values inside the
    bracket.  Columns of at most 8192 different values need no second pass.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from dask_dml.preprocessing import DistributedSimpleImputer
    >>> X = da.from_array(np.array([[1.0, np.nan], [3.0, 4.0], [np.nan, 8.0]]), chunks=(2, 2))
    >>> imputer = DistributedSimpleImputer().fit(X)
    >>> imputer.statistics_.tolist()
    [2.0, 6.0]
    >>> imputer.transform(X).compute().tolist()
    [[1.0, 6.0], [3.0, 4.0], [2.0, 8.0]]
    """

    missing_values: Any
    strategy: Any
    keep_empty_features: bool
    add_indicator: bool
    statistics_: np.ndarray

    def learner(self, like: Table) -> Any:
        """Return what has to be learnt of tables of a kind."""
        if is_sparse(like) and self.missing_values == 0:
            super().fit(build(like, [[1]] * width(like)))  # says that this is not possible
        if callable(self.strategy):
            raise TypeError(
                "A strategy of your own needs all values of a column at once, which are in many "
                "chunks. Use 'mean', 'median', 'most_frequent' or 'constant', or fit on a sample "
                "in memory."
            )
        if self.strategy == "most_frequent":
            return CountsLearner()
        if self.strategy == "constant":
            return GapsLearner(self.missing_values)
        dtype = number_dtype(like)
        if self.strategy == "median":
            return OrderLearner(dtype, (0.5,), self.missing_values)
        return MomentsLearner(dtype, centre=False, scale=False, marker=self.missing_values)

    def learned(self, value: Any, like: Table) -> None:
        """Become fitted by what the learner has learnt."""
        if self.strategy == "most_frequent":
            self._fit_counts(value, like)
        elif self.strategy == "constant":
            self._fit_gaps(value, like)
        elif self.strategy == "median":
            self._fit_quantiles(value, like)
        else:
            self._fit_moments(value, like)

    def _fit_counts(self, total: Parts, like: Table) -> None:
        columns = []
        for count in total.items:
            left = count.without(self.missing_values)
            # What else is missing is for scikit-learn to judge.
            gaps = [
                value
                for value in count.values()
                if kind_of_missing(value) or same_value(value, self.missing_values)
            ]
            columns.append(([most_frequent(left)] if left.n_rows else [], gaps))
        n_rows = total.items[0].n_rows if total.items else 0
        self._fit_miniature(columns, like, n_rows)

    def _fit_gaps(self, total: Gaps, like: Table) -> None:
        row = np.asarray(example(like)) if not is_sparse(like) else np.ones((1, width(like)))
        columns = []
        for value, n_missing, n_written, n_nan in zip(
            row[0], total.n_missing, total.n_written, total.n_nan, strict=True
        ):
            values = [self._not_the_marker(value)] if n_written else []
            if not n_written and is_sparse(like) and n_missing < total.n_rows:
                values = [0.0]
            gaps = [self.missing_values] if n_missing else []
            columns.append((values, [*gaps, np.nan] if n_nan else gaps))
        self._fit_miniature(columns, like, total.n_rows)

    def _fit_quantiles(self, total: Quantiles, like: Table) -> None:
        n_rows = int((total.n + total.n_missing)[:1].sum())
        self._fit_numbers(total.values[0], total.n, total.n_missing, n_rows, like)

    def _fit_moments(self, total: Any, like: Table) -> None:
        means = total.origin + total.mean
        self._fit_numbers(means, total.weight, total.n_rows - total.weight, total.n_rows, like)

    def _fit_numbers(
        self, values: np.ndarray, n: np.ndarray, n_missing: np.ndarray, n_rows: int, like: Table
    ) -> None:
        there = self._not_the_marker(0.0)
        columns = [
            ([there] if some else [], [self.missing_values] if gaps else [])
            for some, gaps in zip(n, n_missing, strict=True)
        ]
        self._fit_miniature(columns, like, n_rows)
        self.statistics_ = np.where(n > 0, values, self.statistics_).astype(self.statistics_.dtype)

    def _fit_miniature(
        self, columns: Sequence[tuple[list[Any], list[Any]]], like: Table, n_rows: int
    ) -> None:
        """Fit to a table whose columns hold some values and some gaps, each value often enough."""
        if not n_rows:
            super().fit(like)  # says what is wrong
            return
        most = 1 + max(len(gaps) for _, gaps in columns)
        even = []
        for values, gaps in columns:
            kept = [*gaps, *(values * most)] or gaps
            even.append([*kept, *[kept[-1]] * (2 * most - len(kept))])
        super().fit(build(like, even))

    def _not_the_marker(self, value: Any) -> Any:
        if not same_value(value, self.missing_values):
            return value
        return f"{value}_" if isinstance(value, str) else value + 1

    def fills(self, following: Any, like: Table) -> Callable[[Any], Any] | None:
        """Return what turns a digest of the rows into one of the filled rows, if possible.

        Parameters
        ----------
        following : Learner
            Whose digest it is.
        like : table
            An empty table of the rows' kind.

        Returns
        -------
        fill : callable or None
            None where the imputer also adds or leaves out columns.
        """
        values = self.statistics_
        if self.add_indicator or mask(values, np.nan).any() or is_sparse(like):
            return None
        if values.dtype.kind == "f" and number_dtype(like) == np.float32:
            values = values.astype(np.float32)
        return lambda total: following.filled(total, values, self.missing_values)

    def example_before(self, like: Table, following: Table) -> Table:
        """Return a table of one row that becomes one that a following step can transform.

        Parameters
        ----------
        like : table
            An empty one of the kind.
        following : table
            A row that the step behind can transform.

        Returns
        -------
        row : table
        """
        # Columns that are left out may hold anything, and indicators come last.
        left_out = np.zeros(width(like), np.bool_)
        if not self.keep_empty_features:
            left_out = mask(self.statistics_, np.nan)
        values = [column(example(like), j) for j in range(width(like))]
        for number, j in enumerate(np.flatnonzero(~left_out)):
            values[j] = column(following, number)
        return build(like, [list(value) for value in values])


def most_frequent(counts: Counts) -> Any:
    """Return the most frequent value, and of several the one that scikit-learn takes."""
    values = counts.values()
    highest = max(counts.count(value) for value in values)
    tied = [value for value in values if counts.count(value) == highest]
    try:
        return min(tied)
    except TypeError:  # they cannot be compared
        return min(tied, key=lambda value: (str(type(value)), str(value)))
