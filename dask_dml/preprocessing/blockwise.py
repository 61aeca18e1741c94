"""Any transformer of scikit-learn, applied chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.export import is_fitted, plain
from dask_dml.input.kinds import is_bag, is_dask
from dask_dml.preprocessing import tables
from dask_dml.preprocessing.family import DistributedTransformerMixin, unchanged_on_error
from dask_dml.preprocessing.learning import Chain, Learned, learn, needs_rows
from dask_dml.preprocessing.tables import Table


@dataclass(frozen=True)
class Sample:
    """Rows drawn at random, all sets of them being equally likely.

    Attributes
    ----------
    size : int
        How many to keep.
    n_rows : int
        How many they were drawn from.
    keys : ndarray of float of shape (n_kept,)
        A random number for each row; the rows with the smallest are kept.
    places : ndarray of int of shape (n_kept, 2)
        Chunk, and row of the chunk, in ascending order.
    table : table or None
        The rows; None where there are none.
    """

    size: int
    n_rows: int
    keys: np.ndarray
    places: np.ndarray
    table: Table

    def __add__(self, other: Sample) -> Sample:
        if not (len(self.keys) and len(other.keys)):
            full = self if len(self.keys) else other
            return Sample(self.size, self.n_rows + other.n_rows, full.keys, full.places, full.table)
        keys = np.concatenate([self.keys, other.keys])
        places = np.concatenate([self.places, other.places])
        kept = np.argsort(keys, kind="stable")[: self.size]
        kept = kept[np.lexsort(places[kept].T[::-1])]
        table = tables.rows(tables.stacked([self.table, other.table]), kept)
        return Sample(self.size, self.n_rows + other.n_rows, keys[kept], places[kept], table)


@dataclass(frozen=True)
class SampleLearner:
    """Draws rows; learnt is a `Sample`."""

    size: int
    seed: int

    def observe(self, table: Table, number: int) -> Sample:
        """Return the rows drawn of a chunk."""
        n = int(table.shape[0])
        keys = np.random.default_rng([self.seed, number]).random(n)
        kept = np.sort(np.argsort(keys, kind="stable")[: self.size])
        places = np.column_stack([np.full(len(kept), number), kept])
        return Sample(self.size, n, keys[kept], places, tables.rows(table, kept) if n else None)

    def after(self, total: Sample) -> Learned:
        """Return the rows drawn of all chunks."""
        return Learned(total)


class _Wrapped(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]  # of a mixin
    """A transformer with another one inside, for data in memory."""

    transformer: Any
    transformer_: Any
    n_samples_seen_: int

    def fit(self, X: Any, y: Any = None) -> Any:
        self.transformer_ = clone(self.transformer).fit(X, y)
        if hasattr(self, "n_samples_seen_"):
            del self.n_samples_seen_  # of a sample before
        return self

    def transform(self, X: Any) -> Any:
        return self._ready().transform(X)

    def _ready(self) -> Any:
        """Return the fitted transformer; one that needs no fit is always fitted."""
        check_is_fitted(self)
        return getattr(self, "transformer_", self.transformer)


def _inside_has(method: str) -> Any:
    def check(self: BlockwiseTransformer) -> bool:
        # Raises what says why there is none.
        getattr(getattr(self, "transformer_", self.transformer), method)
        return True

    return check


def _samples(self: BlockwiseTransformer) -> bool:
    return self.subsample is not None and needs_rows(self.transformer)


class BlockwiseTransformer(DistributedTransformerMixin, _Wrapped):
    """Apply a transformer of scikit-learn to Dask collections, lazily, chunk by chunk.

    The result is exact for transformers that learn nothing from the rows, like
    `FunctionTransformer`, `Normalizer`, `Binarizer`, `PolynomialFeatures`, `HashingVectorizer` and
    `FeatureHasher`.  Other transformers have to be fitted already, in a
    `sklearn.frozen.FrozenEstimator`, or are fitted to a random sample of `subsample` rows.

    Parameters
    ----------
    transformer : transformer
        A transformer of scikit-learn, or a pipeline of them.  It receives the chunks as they are:
        pandas DataFrames and Series, NumPy arrays, CSR matrices, or lists of the items of a bag.
    subsample : int, default=None
        Number of rows of a Dask collection to fit to, drawn at random from all chunks in one pass.
        All rows are used if there are fewer, and for data in memory.  With None, a transformer that
        has to see rows raises an error.
    random_state : int, RandomState instance or None, default=None
        Seed of the sample.  The same seed and the same chunks give the same rows.

    Attributes
    ----------
    transformer_ : transformer
        The fitted transformer.
    n_samples_seen_ : int
        Number of rows that the transformer was fitted to, if a sample was drawn.
    n_features_in_ : int
        Number of features, if `transformer_` knows it.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if `transformer_` knows them.

    See Also
    --------
    dask_dml.compose.DistributedColumnTransformer : Accepts transformers that need no
        fit as they are.

    Examples
    --------
    Texts of a Dask bag become rows of CSR chunks:

    >>> import dask.bag as db
    >>> from sklearn.feature_extraction.text import HashingVectorizer
    >>> from dask_dml.preprocessing import BlockwiseTransformer
    >>> texts = db.from_sequence(["one fish", "two fish", "red fish"], npartitions=2)
    >>> words = BlockwiseTransformer(HashingVectorizer(n_features=16)).fit(texts)
    >>> words.transform(texts).compute().shape
    (3, 16)

    Principal components of a sample:

    >>> import dask.array as da
    >>> from sklearn.decomposition import PCA
    >>> X = da.random.default_rng(0).normal(size=(1000, 4), chunks=(250, 4))
    >>> components = BlockwiseTransformer(PCA(2), subsample=100, random_state=0).fit(X)
    >>> components.n_samples_seen_, components.transform(X).shape
    (100, (1000, 2))
    """

    n_samples_seen_: int

    def __init__(
        self, transformer: Any, *, subsample: int | None = None, random_state: Any = None
    ) -> None:
        self.transformer = transformer
        self.subsample = subsample
        self.random_state = random_state

    def _fit_lazily(self, X: Any) -> Any:
        with unchanged_on_error(self):
            self._check()
            if is_bag(X):
                self._fit_example(tables.OBJECTS)
                return self
            from dask_dml.preprocessing.chunked import passes_over, table_kind

            chain = Chain([self], None, tables.settled(table_kind(X, self._name(), vectors=True)))
            if not chain.done:
                learn([chain], passes_over(X))
        return self

    def _check(self) -> None:
        size = self.subsample
        if size is not None and (isinstance(size, bool) or not _is_count(size)):
            raise ValueError(f"subsample must be a positive int or None, got {size!r}.")
        if needs_rows(self.transformer) and size is None:
            raise TypeError(rows_needed(self))

    def needs_rows(self) -> bool:
        """Whether the transformer inside has to be fitted to rows."""
        return needs_rows(self.transformer)

    def _name(self) -> str:
        return f"{type(self).__name__}({type(self.transformer).__name__})"

    def _fit_example(self, like: Table) -> None:
        if needs_rows(self.transformer):
            raise TypeError(
                f"{self._name()} cannot draw rows of a bag. Give it a Series or DataFrame, such as "
                "X.to_dataframe() makes of a bag."
            )
        self.transformer_ = clone(self.transformer).fit(self.example(like), None)

    @available_if(_samples)
    def learner(self, like: Table) -> SampleLearner:  # noqa: ARG002 - the protocol has it
        """Return what has to be learnt of tables of a kind."""
        assert self.subsample is not None
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        return SampleLearner(int(self.subsample), int(seed))

    def learned(self, value: Sample, like: Table) -> None:
        """Become fitted by the rows drawn."""
        rows = like if value.table is None else value.table
        self.transformer_ = clone(self.transformer).fit(rows, None)
        self.n_samples_seen_ = len(value.keys)

    def example(self, like: Table) -> Table:
        """Return a table of one row that the fitted transformer can transform.

        Parameters
        ----------
        like : table
            An empty one of the kind.

        Returns
        -------
        row : table
            Of objects the first that suits of a text, a mapping and a list.
        """
        row = tables.example(like)
        if row.ndim != 1 or row.dtype != object:
            return row
        candidates: tuple[Any, ...] = ("a", {}, [])
        for value in candidates:
            row = tables.build(like, [[value]])
            if self._takes(row):
                return row
        return tables.example(like)

    def _takes(self, row: Table) -> bool:
        inside = getattr(self, "transformer_", None)
        try:
            # Which error a transformer raises of a wrong value, only it knows.
            (clone(self.transformer).fit(row, None) if inside is None else inside).transform(row)
        except Exception:
            return False
        return True

    @available_if(_inside_has("inverse_transform"))
    def inverse_transform(self, X: Any) -> Any:
        """Undo `transform`, if the wrapped transformer can.

        Parameters
        ----------
        X : array-like, sparse matrix, dask array or dask DataFrame of shape \
                (n_samples, n_features_out)
            Transformed rows.

        Returns
        -------
        X_original : table
            As from the wrapped transformer.  Lazy for a Dask collection.
        """
        inside = self._ready()
        if not is_dask(X):
            return inside.inverse_transform(X)
        from dask_dml.preprocessing.chunked import apply

        return apply(self, X, "inverse_transform")

    def transformed_example(self, like: Table) -> Table:
        """Return a table of one row that ``inverse_transform`` takes."""
        return tables.example(like)

    @available_if(_inside_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the outputs of the wrapped transformer.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features.

        Returns
        -------
        names : ndarray of str
        """
        return self._ready().get_feature_names_out(input_features)

    @available_if(_inside_has("set_output"))
    def set_output(self, *, transform: str | None = None) -> BlockwiseTransformer:
        """Set the container that `transform` returns.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            None changes nothing.

        Returns
        -------
        self : BlockwiseTransformer
        """
        for inside in (self.transformer, getattr(self, "transformer_", None)):
            if inside is not None:
                inside.set_output(transform=transform)
        return self

    @property
    def n_features_in_(self) -> int:
        """Number of features."""
        return self._attribute("n_features_in_")

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features."""
        return self._attribute("feature_names_in_")

    def _attribute(self, name: str) -> Any:
        try:
            return getattr(self._ready(), name)
        except NotFittedError as error:
            raise AttributeError(f"{type(self).__name__} has no {name!r}: {error}") from error

    def to_sklearn(self) -> Any:
        """Return the fitted transformer of scikit-learn that this one wraps.

        Returns
        -------
        transformer : object
            A copy of `transformer_`.

        Raises
        ------
        NotFittedError
            If the transformer has not been fitted.
        """
        return plain(self._ready())

    def like_sklearn(self) -> Any:
        """Return the transformer inside, not fitted."""
        return plain(self.transformer)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "transformer_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inside = get_tags(self.transformer)
        tags.input_tags, tags.requires_fit = inside.input_tags, inside.requires_fit
        tags.target_tags = inside.target_tags
        return tags


def rows_needed(transformer: Any) -> str:
    """Return the message of an error: a transformer would have to see all rows at once."""
    from dask_dml import preprocessing

    remedy = "Take dask_dml.preprocessing.BlockwiseTransformer, with a number of rows as subsample"
    if isinstance(transformer, BlockwiseTransformer):
        transformer, remedy = transformer.transformer, "Give a number of rows as subsample"
    kind = type(transformer).__name__
    if f"Distributed{kind}" in preprocessing.__all__:
        remedy = f"Take dask_dml.preprocessing.Distributed{kind}"
    frozen = "hand over a fitted one in sklearn.frozen.FrozenEstimator"
    if is_fitted(transformer) and not isinstance(transformer, FrozenEstimator):
        frozen = "hand it over in sklearn.frozen.FrozenEstimator, so that it stays as fitted"
    return (
        f"{kind} learns from all rows in memory, and X is a Dask collection. {remedy}, or {frozen}."
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and int(value) > 0
