"""Transformers for groups of columns, which learn in passes that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing

from dask_dml.input.containers import is_sparse
from dask_dml.input.kinds import is_dask
from dask_dml.preprocessing import tables
from dask_dml.preprocessing.blockwise import rows_needed
from dask_dml.preprocessing.family import DistributedTransformerMixin, unchanged_on_error
from dask_dml.preprocessing.learning import (
    WEIGHT,
    Chain,
    Size,
    example_for,
    is_transformer,
    learn,
    learns,
    needs_rows,
)
from dask_dml.preprocessing.tables import Columns, Table, take


class DistributedColumnTransformer(DistributedTransformerMixin, ColumnTransformer):
    """Apply transformers to groups of columns; they learn in passes that they share.

    scikit-learn's `ColumnTransformer`, for Dask collections as well.  The first steps of all
    transformers learn in one pass over the chunks, the second steps of pipelines in another one,
    and so on.  There is one exception: a step after a `DistributedSimpleImputer` learns in the
    imputer's pass.

    Parameters
    ----------
    transformers : list of (name, transformer, columns)
        Name and transformer, and the columns that it is applied to: names, numbers, slices, masks,
        or a callable such as `sklearn.compose.make_column_selector`.  For Dask collections,
        transformers may be those of this package, those of scikit-learn that need no fit, fitted
        ones in `sklearn.frozen.FrozenEstimator`, pipelines of all these, ``"drop"`` and
        ``"passthrough"``.
    remainder : transformer, "drop" or "passthrough", default="drop"
        What happens to the other columns.

        - ``"drop"``: they are left out.
        - ``"passthrough"``: they are passed on unchanged.
        - A transformer is applied to them.

    sparse_threshold : float, default=0.3
        The output is sparse if any part is sparse and the share of stored values in the whole is
        below this.
    n_jobs : int, default=None
        Number of jobs for data in memory, as in scikit-learn.
    transformer_weights : dict of str to float, default=None
        Factors by which the outputs of the transformers are multiplied.
    verbose : bool, default=False
        Whether to print times, for data in memory.
    verbose_feature_names_out : bool, str or callable, default=True
        Whether names of outputs begin with the name of their transformer.  A str is a format, and a
        callable makes the name, as in scikit-learn.
    **parameters
        Further parameters of the installed version of scikit-learn's `ColumnTransformer`.

    Attributes
    ----------
    transformers_ : list of (name, transformer, columns)
        The fitted transformers.
    named_transformers_ : Bunch
        The fitted transformers, by their names.
    sparse_output_ : bool
        Whether the output is sparse.
    output_indices_ : dict of str to slice
        The outputs of each transformer.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    make_distributed_column_transformer : Names the transformers automatically.
    sklearn.compose.ColumnTransformer : Does not accept Dask DataFrames.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import pandas as pd
    >>> from dask_dml.compose import DistributedColumnTransformer
    >>> from dask_dml.preprocessing import DistributedOneHotEncoder, DistributedSimpleImputer
    >>> table = pd.DataFrame({"level": [1.0, None, 3.0], "wind": ["N", "E", "N"]})
    >>> columns = DistributedColumnTransformer(
    ...     [("fill", DistributedSimpleImputer(), ["level"]),
    ...      ("code", DistributedOneHotEncoder(), ["wind"])],
    ...     verbose_feature_names_out=False,
    ... ).fit(dd.from_pandas(table, npartitions=2))
    >>> columns.get_feature_names_out().tolist()
    ['level', 'wind_E', 'wind_N']
    """

    transformers: list[tuple[str, Any, Any]]
    transformers_: list[tuple[str, Any, Any]]
    remainder: Any
    sparse_threshold: float

    def fit(self, X: Any, y: Any = None, **params: Any) -> DistributedColumnTransformer:
        """Fit all transformers.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows.
        y : object
            Passed on to the transformers for data in memory.  Not used for Dask collections.
        **params : dict
            As in scikit-learn.  For Dask collections, only ``sample_weight``: if metadata routing
            is enabled, it is passed on to the transformers that request it.

        Returns
        -------
        self : DistributedColumnTransformer
            The fitted transformer; unchanged if an error is raised.

        Raises
        ------
        ValueError, TypeError
            The errors of scikit-learn.  Also TypeError if a transformer would have to see all rows
            of a Dask collection at once; the message names the remedy.
        """
        if not is_dask(X):
            ColumnTransformer.fit(self, tables.settled(X), y, **params)
            return self
        return self._fit_lazily(X, self._routed(params))

    def _routed(self, params: dict[str, Any]) -> Any:
        """Return the weights that some transformer requests, None where there are none."""
        if not params:
            return None
        others = [name for name in params if name != WEIGHT]
        if others or not get_config()["enable_metadata_routing"]:
            raise TypeError(
                f"{type(self).__name__} does not pass {', '.join(map(repr, others or params))} to "
                "transformers of Dask collections. They take sample_weight, after "
                "sklearn.set_config(enable_metadata_routing=True) and set_fit_request."
            )
        process_routing(self, "fit", **params)  # scikit-learn's errors
        return params[WEIGHT]

    def _fit_lazily(self, X: Any, weight: Any = None) -> Any:
        from dask_dml.preprocessing.chunked import passes_over, table_kind

        with unchanged_on_error(self):
            plan = Plan(self, table_kind(X, type(self).__name__), weighted=weight is not None)
            size = learn(list(plan.chains.values()), passes_over(X, weight))
            self._take_over(plan)
            self.sparse_output_ = plan.density(size) < self.sparse_threshold
        return self

    def _take_over(self, plan: Plan) -> None:
        """Become what scikit-learn's fit makes of transformers that are fitted already."""
        fitted = {name: FrozenEstimator(t) for name, t in plan.fitted().items()}
        asked = self.transformers, self.remainder
        self.transformers = [
            (name, fitted.get(name, t), columns) for name, t, columns in plan.transformers
        ]
        self.remainder = fitted.get("remainder", self.remainder)
        try:
            ColumnTransformer.fit(self, plan.example())
        finally:
            self.transformers, self.remainder = asked
        self.transformers_ = [
            (name, fitted[name].estimator if name in fitted else t, columns)
            for name, t, columns in self.transformers_
        ]

    def example(self, like: Table) -> Table:
        """Return a table of one row that the fitted transformer can transform.

        Parameters
        ----------
        like : table
            An empty one of the kind; of a frame, columns may be in another order than at the fit.

        Returns
        -------
        row : table
        """
        names = getattr(self, "feature_names_in_", None)
        if not tables.is_frame(like) and tables.width(like) != self.n_features_in_:
            return tables.example(like)  # `transform` will say so
        entries = [entry for entry in self.transformers_ if entry[0] != "remainder"]
        others = [t for name, t, _ in self.transformers_ if name == "remainder"]
        places = find_columns(entries, others[0] if others else "drop", names, self.n_features_in_)
        if names is not None and tables.is_frame(like):
            order = like.columns.get_indexer(names)
            places = {name: _reordered(columns, order) for name, columns in places.items()}
        fitted = self.named_transformers_
        return example_row(like, [(fitted[name], columns) for name, columns in places.items()])


class Plan:
    """What a column transformer has to learn, and from which columns.

    Parameters
    ----------
    transformer : DistributedColumnTransformer
        Not fitted.
    like : table
        An empty table of the kind of the chunks, with the dtypes that selectors are to see.
    weighted : bool, default=False
        Whether passes bring weights.

    Attributes
    ----------
    transformers : list of (name, transformer, columns)
        As given, with columns that are no callables.
    chains : dict of str to Chain
        By the name of the transformer; what is dropped, passed through or without columns has none.
    """

    def __init__(self, transformer: Any, like: Table, *, weighted: bool = False) -> None:
        self.like = tables.settled(like)
        self.transformers = [
            (name, t, columns(tables.example(like)) if callable(columns) else columns)
            for name, t, columns in transformer.transformers
        ]
        self._given = {**{name: t for name, t, _ in self.transformers}}
        self._given["remainder"] = transformer.remainder
        names = list(like.columns) if tables.is_frame(like) else None
        self._columns = find_columns(
            self.transformers, transformer.remainder, names, tables.width(like), everything=True
        )
        self.chains = {
            name: Chain(
                list(steps_of(self._given[name], name)), columns, take(self.like, columns), weighted
            )
            for name, columns in self._columns.items()
            if is_transformer(self._given[name])
        }

    def fitted(self) -> dict[str, Any]:
        """Return the transformers put together of the chains' steps."""
        return {
            name: put_together(self._given[name], iter(chain.steps))
            for name, chain in self.chains.items()
        }

    def example(self) -> Table:
        """Return a table of one row that all fitted transformers can transform."""
        fitted = self.fitted()
        return example_row(
            self.like, [(fitted[n], chain.columns) for n, chain in self.chains.items()]
        )

    def density(self, size: Size) -> float:
        """Return the share of stored entries in the output, as scikit-learn counts them.

        It is one where nothing is sparse.
        """
        stored, total, sparse = 0.0, 0, False
        for name, columns in self._columns.items():
            if isinstance(self._given[name], str) and self._given[name] == "drop":
                continue
            chain = self.chains.get(name)
            row = take(self.like, columns) if chain is None else chain.example
            n_entries = size.n_rows * tables.width(row)
            total += n_entries
            sparse = sparse or is_sparse(row)
            stored += _stored(chain, columns, row, size) if is_sparse(row) else n_entries
        return stored / total if sparse and total else 1.0


def _stored(chain: Chain | None, columns: Columns, row: Any, size: Size) -> float:
    if chain is not None and chain.stored is not None:
        return chain.stored
    if size.stored is not None:
        # What keeps CSR rows sparse neither adds entries nor takes any away.
        return float(np.sum(size.stored[columns]))
    return float(row.nnz * size.n_rows)


def find_columns(
    transformers: Sequence[tuple[str, Any, Any]],
    remainder: Any,
    names: Any,
    n_features: int,
    *,
    everything: bool = False,
) -> dict[str, Columns]:
    """Return which columns a column transformer's transformers get.

    scikit-learn's class finds out, and says what is wrong with them.

    Parameters
    ----------
    transformers : sequence of (name, transformer, columns)
        No columns are callables.
    remainder : transformer, "drop" or "passthrough"
        What becomes of the other columns.
    names : sequence of str or None
        The columns' names.
    n_features : int
        Number of columns.
    everything : bool, default=False
        Whether columns that are dropped or passed through are asked for, too.

    Returns
    -------
    columns : dict of str to int or list of int
        A number where the transformer gets a vector.  Without what gets no columns.
    """
    row: Any = np.arange(n_features)[np.newaxis]
    if names is not None:
        import pandas as pd

        row = pd.DataFrame(row, columns=names)
    scouts: dict[str, _Scout] = {}

    def scout(name: str, transformer: Any) -> Any:
        if not (is_transformer(transformer) or everything):
            return transformer
        return scouts.setdefault(name, _Scout())

    with config_context(transform_output="default"):
        ColumnTransformer(
            [(name, scout(name, t), columns) for name, t, columns in transformers],
            remainder=scout("remainder", remainder),
        ).fit(row)
    return {name: one.seen for name, one in scouts.items() if one.seen is not None}


class _Scout(TransformerMixin, BaseEstimator):
    """Notes which columns it gets, in a table that holds their numbers."""

    seen: int | list[int] | None = None

    def fit(self, X: Any, y: Any = None) -> _Scout:  # noqa: ARG002 - scikit-learn's signature
        self.seen = np.asarray(X)[0].tolist()
        return self

    def transform(self, X: Any) -> np.ndarray:
        return np.zeros((len(X), 1))

    def __sklearn_clone__(self) -> _Scout:
        return self


def example_row(like: Table, users: Sequence[tuple[Any, Columns]]) -> Table:
    """Return a table of one row of values that transformers of its columns can transform.

    Parameters
    ----------
    like : table
        An empty one of the kind.
    users : sequence of (transformer, columns)
        Fitted.
    """
    example = tables.example(like)
    usual = [tables.column(example, j)[0:1] for j in range(tables.width(like))]
    values = list(usual)
    for transformer, columns in users:
        for number, value in zip(*_examples(transformer, columns, like), strict=True):
            # Of several users of a column, one that takes the usual value takes others as well.
            (one,), (other,) = value, usual[number]
            if not tables.same_value(one, other):
                values[number] = value
    return tables.build(like, [list(value) for value in values])


def _examples(transformer: Any, columns: Columns, like: Table) -> tuple[list[int], list[Any]]:
    numbers = [columns] if isinstance(columns, int) else list(columns or [])
    if min(numbers, default=0) < 0 or not is_transformer(transformer):
        return [], []
    row = example_for(transformer, take(like, columns))
    return numbers, [tables.column(row, j)[0:1] for j in range(len(numbers))]


def _reordered(columns: Columns, order: np.ndarray) -> Columns:
    return int(order[columns]) if isinstance(columns, int) else order[columns].tolist()


def steps_of(transformer: Any, name: str) -> Iterator[Any]:
    """Yield the steps of a transformer, pipelines taken apart, as copies to be fitted.

    Raises
    ------
    TypeError
        If a step would have to see all rows at once.
    """
    if isinstance(transformer, Pipeline):
        for _, step in transformer.steps:
            if is_transformer(step):
                yield from steps_of(step, name)
        return
    if not learns(transformer) and needs_rows(transformer):
        raise TypeError(f"In the transformer {name!r}, {rows_needed(transformer)}")
    yield clone(transformer)


def put_together(transformer: Any, fitted: Iterator[Any]) -> Any:
    """Return a transformer like another, of steps that are fitted, in the order of `steps_of`."""
    if not isinstance(transformer, Pipeline):
        return next(fitted)
    whole = clone(transformer)
    whole.steps = [
        (name, put_together(step, fitted) if is_transformer(step) else step)
        for name, step in transformer.steps
    ]
    return whole


def make_distributed_column_transformer(*transformers: Any, **parameters: Any) -> Any:
    """Make a `DistributedColumnTransformer` whose transformers are named after their classes.

    Parameters
    ----------
    *transformers : tuples of (transformer, columns)
        Each transformer and the columns that it is applied to.
    **parameters
        `remainder`, `sparse_threshold`, `n_jobs`, `verbose` and `verbose_feature_names_out` of
        `DistributedColumnTransformer`.

    Returns
    -------
    transformer : DistributedColumnTransformer
        The column transformer, not fitted.

    Examples
    --------
    >>> from sklearn.compose import make_column_selector
    >>> from dask_dml.compose import make_distributed_column_transformer
    >>> from dask_dml.preprocessing import DistributedStandardScaler
    >>> numbers = make_column_selector(dtype_include="number")
    >>> columns = make_distributed_column_transformer((DistributedStandardScaler(), numbers))
    >>> columns.transformers[0][0]
    'distributedstandardscaler'
    """
    plain = make_column_transformer(*transformers, **parameters)
    return DistributedColumnTransformer(**plain.get_params(deep=False))
