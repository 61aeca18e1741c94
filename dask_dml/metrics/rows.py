"""Targets, predictions and weights cut into the same rows, for one pass over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dask_dml.input.containers import is_sparse
from dask_dml.input.kinds import is_array, is_dask

#: ``function(y_true, y_pred, weight, options) -> digest``; of no rows, too.
RowsFunction = Callable[[np.ndarray, np.ndarray, "np.ndarray | None", Any], Any]


def any_dask(*values: Any) -> bool:
    """Whether any of some values is a Dask collection."""
    return any(map(is_dask, values))


def visit_rows(
    function: RowsFunction, options: Any, y_true: Any, y_pred: Any, sample_weight: Any
) -> Any:
    """Evaluate a function on all rows, chunk by chunk, and return the sum of the digests.

    Parameters
    ----------
    function : callable
        Defined at the top level of a module.
    options : object
        Handed to the function.
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        At least one of them, or the weights, is lazy.
    sample_weight : array-like or Dask collection of shape (n_samples,), or None
        Weights of the rows.

    Returns
    -------
    total : object
        The sum, from one pass.

    Raises
    ------
    ValueError
        If the numbers of rows differ.
    """
    from dask_dml.input.align import row_chunks
    from dask_dml.rounds.tables import visit_tables

    order = [y_true, y_pred] if is_dask(y_true) else [y_pred, y_true]
    swapped = order[0] is not y_true
    if not is_dask(order[0]):
        import dask.array as da

        order[0] = da.from_array(np.asarray(order[0]), chunks="auto")
    first, second = (y[:, np.newaxis] if is_array(y) and y.ndim == 1 else y for y in order)
    second = second if is_dask(second) else np.asarray(second)
    weight = sample_weight
    if weight is not None and not is_dask(weight):
        weight = np.asarray(weight, np.float64)
    Xs, ys, weights = row_chunks(first, second, weight)
    parts = _together(Xs, ys, weights or [None] * len(Xs))
    return visit_tables(parts, _visit, (function, options, swapped))


def _together(*entries: list[Any]) -> list[Any]:
    from dask.delayed import delayed

    together = delayed(_bundle, pure=False)
    return [together(*entry) for entry in zip(*entries, strict=True)]


def _bundle(X: Any, y: Any, weight: Any) -> tuple[Any, Any, Any]:
    if type(X).__name__ == "Rows":
        X, y, weight = X.X, X.y if y is None else y, X.weight if weight is None else weight
    return X, y, weight


def _visit(rows: tuple[Any, Any, Any], number: int, task: tuple[Any, Any, bool]) -> Any:
    function, options, swapped = task
    first, second, weight = rows
    y_true, y_pred = (second, first) if swapped else (first, second)
    y_true, y_pred = _values(y_true), _values(y_pred)
    if len(y_true) != len(y_pred):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: [{len(y_true)}, "
            f"{len(y_pred)}] in chunk {number}. Chunks of unknown size are taken as aligned when "
            "there are equally many of them; where they are not, call compute_chunk_sizes() on the "
            "arrays."
        )
    weights = None if weight is None else np.asarray(_values(weight), np.float64)
    return function(y_true, y_pred, weights, options)


def _values(values: Any) -> np.ndarray:
    values = values.toarray() if is_sparse(values) else np.asarray(values)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
