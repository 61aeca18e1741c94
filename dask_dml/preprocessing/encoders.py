"""Encoders of categories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from dask_dml.input.containers import is_sparse
from dask_dml.preprocessing.digests import Counts, Parts
from dask_dml.preprocessing.family import DistributedTransformerMixin, InverseMixin
from dask_dml.preprocessing.learning import Learned
from dask_dml.preprocessing.tables import Table, build, build_frame, column, example, width


@dataclass(frozen=True)
class CountsLearner:
    """How often each value of each column occurs."""

    def observe(self, table: Table, number: int) -> Parts:  # noqa: ARG002 - the protocol has it
        """Return the counts of a chunk."""
        if is_sparse(table):
            return Parts.of(_sparse_counts(table.tocsc()))
        return Parts.of(Counts.of(column(table, j)) for j in range(width(table)))

    def after(self, total: Parts) -> Learned:
        """Return the counts of all rows."""
        return Learned(total)

    def filled(self, total: Parts, values: Sequence[Any], marker: Any) -> Parts:
        """Return the counts after missing values have been replaced, by one for each column."""
        return Parts.of(c.filled(v, marker) for c, v in zip(total.items, values, strict=True))


def _sparse_counts(X: Any) -> Iterator[Counts]:
    for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        n_zeros = X.shape[0] - int(stop - start)
        written = Counts.of(X.data[start:stop])
        yield written + Counts({0.0: n_zeros}) if n_zeros else written


class _LearnsCategories(InverseMixin, DistributedTransformerMixin):
    """What the encoders share: they are fitted to a small table with the same categories."""

    categories: Any
    categories_: list[np.ndarray]
    handle_unknown: str
    max_categories: int | None
    min_frequency: float | None

    def learner(self, like: Table) -> CountsLearner:  # noqa: ARG002 - the protocol has it
        """Return what has to be learnt of tables of a kind."""
        return CountsLearner()

    def learned(self, value: Parts, like: Table) -> None:
        """Become fitted by the counts of all rows."""
        counts = value.items
        if not counts or not counts[0].n_rows:
            super().fit(like)  # says what is wrong
            return
        table = build(like, _even([count.values() for count in counts]))
        if self.min_frequency is None and self.max_categories is None:
            super().fit(table)
            return
        # What only the encoder itself checks of its parameters.
        with changed(self, min_frequency=None, max_categories=None):
            super().fit(table)
        self._fit_groups(counts, like)

    def _fit_groups(self, counts: Sequence[Counts], like: Table) -> None:
        """Fit to a table that holds all frequent categories, and no infrequent one.

        Stated categories that the table lacks have a count of zero, so that scikit-learn groups
        exactly them.
        """
        found = self.categories_
        values, stated = [], []
        for categories, count in zip(found, counts, strict=True):
            seen = [int(count.count(category)) for category in categories]
            n_counted = len(categories) - self._n_left_out(categories)
            rare = infrequent(
                np.array(seen[:n_counted]), count.n_rows, self.min_frequency, self.max_categories
            )
            frequent = [c for c, r in zip(categories[:n_counted], rare, strict=True) if not r]
            values.append(frequent or [_unknown(categories)])
            stated.append(categories.astype(np.uint8) if categories.dtype == bool else categories)
        changes = {"min_frequency": 1, "max_categories": None, "categories": stated}
        with changed(self, **changes, **self._letting_unknown_pass()):
            super().fit(_as_seen(build(like, [[c[0]] for c in found]), like, values))
        self.categories_ = found

    def _n_left_out(self, categories: np.ndarray) -> int:
        """Return how many categories, at the end, are never grouped."""
        raise NotImplementedError

    def _letting_unknown_pass(self) -> dict[str, Any]:
        """Return parameters with which a fit takes values that are no stated category."""
        raise NotImplementedError

    def example(self, like: Table) -> Table:
        """Return a table of one row that the fitted encoder can transform."""
        if not hasattr(self, "categories_") or width(like) != len(self.categories_):
            return example(like)
        return build(like, [[categories[0]] for categories in self.categories_])

    def transformed_example(self, like: Table) -> Table:
        """Return a table of one row that ``inverse_transform`` takes."""
        first = np.array([[categories[0] for categories in self.categories_]], object)
        names = getattr(self, "feature_names_in_", None)
        row = first if names is None else build_frame(first, names)
        made = super().to_sklearn().set_output(transform="default").transform(row)
        made = made.toarray() if is_sparse(made) else made
        return build(like, made.T)


def infrequent(
    counts: np.ndarray, n_rows: int, min_frequency: float | None, max_categories: int | None
) -> np.ndarray:
    """Return which categories scikit-learn's encoders group.

    Parameters
    ----------
    counts : ndarray of int of shape (n_categories,)
        How often each occurs.
    n_rows : int
        Number of rows.
    min_frequency : int, float or None
        Fewer rows, or a smaller share of them, makes a category infrequent.
    max_categories : int or None
        Largest number of categories, the group being one of them.

    Returns
    -------
    rare : ndarray of bool of shape (n_categories,)
    """
    rare = np.zeros(len(counts), np.bool_)
    if min_frequency is not None:
        share = not isinstance(min_frequency, Integral)
        rare = counts < (min_frequency * n_rows if share else min_frequency)
    if max_categories is not None and max_categories < len(counts) - rare.sum() + 1:
        # Stable, so that of equally frequent categories the last ones stay.
        order = np.argsort(counts, kind="stable")
        rare[order[: len(counts) - (max_categories - 1)]] = True
    return rare


def _even(values: list[list[Any]]) -> list[list[Any]]:
    """Repeat first values, so that all lists are equally long."""
    longest = max(map(len, values))
    return [[*some, *some[:1] * (longest - len(some))] for some in values]


@contextmanager
def changed(estimator: Any, **parameters: Any) -> Iterator[None]:
    """Give an estimator other parameters within the block."""
    before = {name: getattr(estimator, name) for name in parameters}
    vars(estimator).update(parameters)
    try:
        yield
    finally:
        vars(estimator).update(before)


def _unknown(categories: np.ndarray) -> Any:
    """Return a value that is none of the categories."""
    if categories.dtype == bool:
        return 2
    if categories.dtype.kind in "iuf":
        return np.nanmax(categories) + 1 if len(categories) else 0
    if categories.dtype.kind in "mM":
        return max(categories) + np.timedelta64(1, "D")
    known = set(categories.tolist())
    if all(isinstance(category, int | float) for category in known if category is not None):
        return max(c for c in known if c is not None and c == c) + 1
    return "unknown" + "_" * max(len(str(category)) for category in known)


def _as_seen(row: Table, like: Table, values: list[list[Any]]) -> Table:
    """Return a table of values that need not be of the kind of the chunks' columns."""
    import pandas as pd

    even = _even(values)
    if not hasattr(like, "iloc"):
        return np.array(even, object).T if row.dtype == object else np.array(even).T
    kinds = [np.asarray(row.iloc[:0, j]).dtype for j in range(width(row))]
    columns = [
        pd.Series(some, dtype=object if kind.kind == "O" else None)
        for some, kind in zip(even, kinds, strict=True)
    ]
    table = pd.concat(columns, axis=1)
    table.columns = like.columns
    return table


class DistributedOneHotEncoder(_LearnsCategories, OneHotEncoder):
    """Encode every category as a column of its own, with categories from all chunks.

    scikit-learn's `OneHotEncoder`, for Dask collections as well: these are read once, and
    transformed chunk by chunk.  The estimators of this package accept the CSR chunks directly.

    Parameters
    ----------
    categories : "auto" or list of array-like, default="auto"
        The categories of each column.  ``"auto"`` takes those that occur, sorted.
    drop : {"first", "if_binary"} or array-like of shape (n_features,), default=None
        Which category of each column has no output.

        - ``"first"``: the first category.
        - ``"if_binary"``: the first category of columns with two.
        - array-like: the given category of each column.
        - None: every category has an output.

    sparse_output : bool, default=True
        Whether the result is CSR.
    dtype : dtype, default=float64
        Data type of the result.
    handle_unknown : {"error", "ignore", "infrequent_if_exist", "warn"}, default="error"
        What `transform` does with a category that the fit did not see.

        - ``"error"``: raises an error.
        - ``"ignore"``: encodes it as zeros.
        - ``"infrequent_if_exist"``: counts it as infrequent, or encodes it as zeros if no
          category is.
        - ``"warn"``: does the same with a warning.

    min_frequency : int or float, default=None
        Categories in fewer rows (int) or in a smaller share of the rows (float) are grouped as
        infrequent.
    max_categories : int, default=None
        Largest number of outputs of a column.  The least frequent categories are grouped.
    feature_name_combiner : "concat" or callable, default="concat"
        Makes the name of an output from the name of the column and a category.  ``"concat"`` joins
        them by an underscore.

    Attributes
    ----------
    categories_ : list of ndarray
        The categories of each column, sorted; missing values come last.
    drop_idx_ : ndarray of shape (n_features,) or None
        Position of the category of each column that has no output.
    infrequent_categories_ : list of ndarray
        The grouped categories of each column.  Only with `min_frequency` or `max_categories`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.preprocessing.OneHotEncoder : Loads all of a Dask collection.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import pandas as pd
    >>> from dask_dml.preprocessing import DistributedOneHotEncoder
    >>> table = pd.DataFrame({"wind": ["N", "E", None, "N"]})
    >>> encoder = DistributedOneHotEncoder().fit(dd.from_pandas(table, npartitions=2))
    >>> encoder.get_feature_names_out().tolist()
    ['wind_E', 'wind_N', 'wind_nan']
    """

    def stored(self, value: Parts) -> int:
        """Return how many ones the encoded rows hold, by their counts."""
        groups = getattr(self, "infrequent_categories_", [None] * len(self.categories_))
        return sum(
            count.n_rows - sum(map(count.count, self._dropped(number, groups[number])))
            for number, count in enumerate(value.items)
        )

    def _dropped(self, number: int, group: np.ndarray | None) -> list[Any]:
        """Return the categories of a column that have no output of their own."""
        place = None if self.drop_idx_ is None else self.drop_idx_[number]
        if place is None:
            return []
        category = self.categories_[number][place]
        return list(group) if group is not None and category in group else [category]

    def _n_left_out(self, categories: np.ndarray) -> int:  # noqa: ARG002 - missing ones count, too
        return 0

    def _letting_unknown_pass(self) -> dict[str, Any]:
        return {"handle_unknown": "ignore"}


class DistributedOrdinalEncoder(_LearnsCategories, OrdinalEncoder):
    """Encode categories as numbers, with categories from all chunks.

    scikit-learn's `OrdinalEncoder`, for Dask collections as well.  These are read once, and
    transformed chunk by chunk.

    Parameters
    ----------
    categories : "auto" or list of array-like, default="auto"
        The categories of each column in their order.  ``"auto"`` takes those that occur, sorted.
    dtype : dtype, default=float64
        Data type of the result.
    handle_unknown : {"error", "use_encoded_value"}, default="error"
        What `transform` does with a category that the fit did not see.

        - ``"error"``: raises an error.
        - ``"use_encoded_value"``: encodes it as `unknown_value`.

    unknown_value : int or np.nan, default=None
        The number for categories that the fit did not see.
    encoded_missing_value : int or np.nan, default=np.nan
        The number for missing values.
    min_frequency : int or float, default=None
        Categories in fewer rows (int) or in a smaller share of the rows (float) are grouped as
        infrequent.
    max_categories : int, default=None
        Largest number of different outputs of a column.  The least frequent categories are
        grouped.

    Attributes
    ----------
    categories_ : list of ndarray
        The categories of each column; missing values come last.
    infrequent_categories_ : list of ndarray
        The grouped categories of each column.  Only with `min_frequency` or `max_categories`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.preprocessing.OrdinalEncoder : Loads all of a Dask collection.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import pandas as pd
    >>> from dask_dml.preprocessing import DistributedOrdinalEncoder
    >>> table = dd.from_pandas(pd.DataFrame({"size": ["S", "L", "M"]}), npartitions=2)
    >>> encoder = DistributedOrdinalEncoder(categories=[["S", "M", "L"]]).fit(table)
    >>> encoder.transform(table).compute().tolist()
    [[0.0], [2.0], [1.0]]
    """

    def _n_left_out(self, categories: np.ndarray) -> int:
        last = categories[-1]
        return int(isinstance(last, float | np.floating) and np.isnan(last))

    def _letting_unknown_pass(self) -> dict[str, Any]:
        if self.handle_unknown != "error":
            return {}
        return {"handle_unknown": "use_encoded_value", "unknown_value": -1}
