"""Tables in the chunks of Dask collections: passes over them, and lazy transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dask_dml.input.align import row_chunks
from dask_dml.input.chunks import Rows
from dask_dml.input.collections import check_reachable, read_weights
from dask_dml.input.containers import is_sparse, join_columns
from dask_dml.input.kinds import is_array, is_bag, is_frame
from dask_dml.input.origin import note_origin
from dask_dml.preprocessing import tables
from dask_dml.preprocessing.learning import example_for, on_chunks
from dask_dml.preprocessing.tables import Table


def table_kind(X: Any, name: str, *, vectors: bool = False) -> Table:
    """Return an empty table of the kind of a Dask collection's chunks.

    Parameters
    ----------
    X : dask array, DataFrame or Series
        The collection.
    name : str
        The estimator's name, for errors.
    vectors : bool, default=False
        Whether one dimension will do.

    Raises
    ------
    TypeError
        If X is another kind of collection.
    ValueError
        If X has another number of dimensions, or an unknown number of columns, or no rows.
    """
    if is_frame(X):
        from dask.dataframe.dispatch import make_meta

        if X.ndim == 1 and not vectors:
            raise ValueError(
                f"Expected a 2-dimensional container but got {type(X)} instead. Pass a DataFrame "
                "containing a single column (i.e. single feature), such as X.to_frame(), instead."
            )
        return make_meta(X).iloc[:0]
    if not is_array(X):
        raise TypeError(
            f"X is a {type(X).__module__}.{type(X).__name__}; {name} takes dask arrays and dask "
            "DataFrames. dask.array.from_delayed or dask.dataframe.from_delayed make one of "
            "Delayed objects, Bag.to_dataframe() of a bag."
        )
    if not (X.ndim == 2 or (vectors and X.ndim == 1)):
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead:\narray={X}.\nReshape your data "
            "either using array.reshape(-1, 1) if your data has a single feature or "
            "array.reshape(1, -1) if it contains a single sample."
        )
    if X.shape[0] == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required by "
            f"{name}."
        )
    if X.ndim == 2 and np.isnan(X.shape[1]):
        raise ValueError(
            f"The number of columns of X is unknown (its shape is {X.shape}). Call "
            "X.compute_chunk_sizes(), or state the number where X is made, for example "
            "map_blocks(..., chunks=(X.chunks[0], (n_features,)))."
        )
    from dask.array.utils import meta_from_array

    meta = meta_from_array(X)
    if is_sparse(meta):
        return type(meta.tocsr())((0, X.shape[1]), dtype=X.dtype)
    return np.empty((0, *X.shape[1:]), X.dtype)


def passes_over(X: Any, weight: Any = None) -> Callable[[Any, Any], Any]:
    """Return what makes a pass over a Dask collection's chunks; see `learn`.

    With weights, chunks are `Rows`.
    """
    from dask.delayed import delayed

    from dask_dml.rounds.tables import visit_tables

    check_reachable(X, weight)
    parts, _, weights = row_chunks(X, None, read_weights(weight))
    if weights is not None:
        together = delayed(_weighted, pure=False)
        parts = [together(part, some) for part, some in zip(parts, weights, strict=True)]

    def make_pass(function: Any, broadcast: Any) -> Any:
        return visit_tables(parts, function, broadcast)

    return make_pass


def _weighted(X: Any, weight: Any) -> Rows:
    return X if isinstance(X, Rows) else Rows(X, None, weight)


def apply(estimator: Any, X: Any, method: str = "transform") -> Any:
    """Apply a fitted transformer to a Dask collection, lazily, chunk by chunk.

    Parameters
    ----------
    estimator : transformer
        Fitted; its method takes tables in memory.
    X : dask array, DataFrame, Series or bag
        Rows.
    method : {"transform", "inverse_transform"}, default="transform"
        What is called with each chunk that has rows.

    Returns
    -------
    result : dask array or DataFrame
        What a row gives decides: frames give a DataFrame, arrays and CSR matrices an array.
    """
    like = tables.OBJECTS
    if not is_bag(X):
        like = tables.settled(table_kind(X, type(estimator).__name__, vectors=True))
    # A copy keeps what has been learnt when the estimator is fitted again.
    estimator = on_chunks(estimator)
    if method == "transform":
        row = estimator.transform(example_for(estimator, like))
    else:
        row = estimator.inverse_transform(estimator.transformed_example(like))
    return _mapped(X, _Step(estimator, method, _kind(row)))


def _kind(row: Any) -> Any:
    """Return an empty table, of a row that a transformer has made."""
    if getattr(row, "ndim", 2) != 2:
        raise ValueError(
            f"The transformer gives {row.ndim}-dimensional output (a {type(row).__name__}), where "
            "a table is needed. Let it return a DataFrame, or an array of shape (n_samples, n)."
        )
    if isinstance(row, np.ndarray) or is_sparse(row):
        # Dask knows CSR chunks only.
        return row[:0].copy() if isinstance(row, np.ndarray) else row.tocsr()[:0]
    if hasattr(row, "iloc"):
        return row.iloc[:0]
    raise ValueError(
        f"The transformer gives a {type(row).__module__}.{type(row).__name__}, which has no "
        "counterpart in Dask. Use set_output(transform='default') for a dask array, or 'pandas' "
        "for a dask DataFrame."
    )


class _Step:
    """A fitted transformer as a function of chunks."""

    def __init__(self, estimator: Any, method: str, empty: Any) -> None:
        self.estimator = estimator
        self.method = method
        self.empty = empty

    def __call__(self, table: Any) -> Any:
        table = tables.settled(join_columns(table) if isinstance(table, list) else table)
        if not table.shape[0]:
            return self._nothing(table)
        made = getattr(self.estimator, self.method)(table)
        if made.shape[0] != table.shape[0]:
            raise ValueError(
                f"The transformer made {made.shape[0]} rows of {table.shape[0]} in a chunk. It has "
                "to keep all rows, as y and the weights do; drop rows of X and y together before."
            )
        return made.tocsr() if is_sparse(made) else made

    def _nothing(self, table: Any) -> Any:
        """Return what no rows become: scikit-learn would refuse them."""
        if not hasattr(self.empty, "iloc"):
            return self.empty
        nothing = self.empty.copy()
        nothing.index = table.index if hasattr(table, "index") else nothing.index
        return nothing


def _mapped(X: Any, step: _Step) -> Any:
    framed = hasattr(step.empty, "iloc")
    if is_bag(X):
        return _mapped_bag(X, step)
    if is_frame(X):
        # The index comes with the rows; of chunks without rows, from the empty table.
        meta = step.empty
        if framed:
            meta = meta.set_index(table_kind(X, "", vectors=True).index)
        made = X.map_partitions(step, meta=meta, enforce_metadata=False)
        if framed:
            return made
        if is_sparse(meta):
            # Dask takes every array that is made of a frame for a dense one.
            made = made.map_blocks(_same, dtype=meta.dtype, meta=meta)
        return note_origin(made, X, step)
    made = _mapped_array(X, step)
    if not framed:
        return note_origin(made, X, step)
    import dask.dataframe as dd

    return dd.from_dask_array(made, columns=list(step.empty.columns))


def _mapped_bag(X: Any, step: _Step) -> Any:
    import dask.array as da
    from dask.delayed import delayed

    shipped, call = delayed(step, pure=True, traverse=False), delayed(_call_list, pure=True)
    parts = [call(shipped, part) for part in X.to_delayed()]
    if hasattr(step.empty, "iloc"):
        import dask.dataframe as dd

        return dd.from_delayed(parts, meta=step.empty, verify_meta=False)
    shape, empty = (np.nan, step.empty.shape[1]), step.empty
    return da.concatenate(
        [da.from_delayed(part, shape, empty.dtype, meta=empty) for part in parts],
        allow_unknown_chunksizes=True,
    )


def _call_list(step: _Step, items: Any) -> Any:
    return step(tables.objects(list(items)))


def _mapped_array(X: Any, step: _Step) -> Any:
    import dask.array as da
    from dask.delayed import delayed

    empty = step.empty
    if hasattr(empty, "iloc"):
        empty = empty.to_numpy()
        step = _Step(step.estimator, step.method, step.empty)
    # A task of its own: what has been learnt would otherwise be sent with every chunk.
    shipped = delayed(step, pure=True, traverse=False)
    axes = "ij"[: X.ndim]
    return da.blockwise(
        _call,
        "ik",
        shipped,
        None,
        X,
        axes,
        new_axes={"k": empty.shape[1]},
        concatenate=False,
        align_arrays=False,
        dtype=empty.dtype,
        meta=empty,
    )


def _same(chunk: Any) -> Any:
    return chunk


def _call(step: _Step, table: Any) -> Any:
    made = step(table)
    return made.to_numpy() if hasattr(made, "iloc") else made
