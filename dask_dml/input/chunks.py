"""Chunks of the input as the caller holds them, and their conversion to row blocks.

This module knows NumPy, pandas and scipy.sparse, not Dask: `make_block` runs wherever a chunk is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Block, Matrix, Shard, frozen
from dask_dml.input.containers import is_sparse, to_matrix, to_numbers
from dask_dml.input.sparse_format import check_sparse

_TILE_ROWS = 4096

_UNKNOWN_SIZES = (
    "Chunks of unknown size are taken as aligned when there are equally many of them; where they "
    "are not, call compute_chunk_sizes() on the arrays, and they are rechunked alike."
)


class Rows(NamedTuple):
    """X, y and weights of one chunk, produced together by one task.

    A task of its own for each of the three would run whatever they have in common (reading a
    file, say) up to three times.
    """

    X: Any
    y: Any = None
    weight: Any = None


@dataclass(frozen=True)
class Chunks:
    """The validated input: X, y and weights cut into the same row chunks.

    Attributes
    ----------
    X : list
        One entry per row chunk: an object in memory (ndarray or CSR) or, where ``lazy``, a
        `dask.delayed.Delayed` of one (ndarray, CSR, DataFrame) or of `Rows`.
    y : list
        One entry per row chunk: an object in memory, or a Delayed of one, or ``None`` where the
        entry of X is a Delayed of `Rows` that holds y, or where there are no targets at all.
    weight : list or None
        Sample weights likewise; ``None`` where every row weighs one.
    lazy : bool
        Whether the entries of X are Delayed objects.
    n_features, n_outputs : int
        Columns of X and of y.
    multi_output : bool
        Whether y was two-dimensional (``coef_`` then is, too).
    dtype : dtype
        float32 or float64: what X's blocks are held as.
    feature_names : ndarray of object or None
        Column names, where the input had string names.
    nbytes : float
        Estimated memory of X in bytes; nan where chunk sizes are unknown or X is sparse.

    Notes
    -----
    ``make_block(chunks.X[i], chunks.y[i], weight_i, number=i, ...)`` gives block ``i`` whatever
    the entries are, and so does a Delayed call of it.
    """

    X: list[Any]
    y: list[Any]
    weight: list[Any] | None
    lazy: bool
    n_features: int
    n_outputs: int
    multi_output: bool
    dtype: np.dtype
    feature_names: np.ndarray | None
    nbytes: float


def make_block(
    X: Any,
    y: Any,
    weight: Any = None,
    *,
    number: int,
    n_features: int,
    n_outputs: int,
    dtype: np.dtype,
) -> Block:
    """Convert one chunk to a block.

    Whether X is finite is not checked here: the first pass over the block finds out for free,
    and `describe_nonfinite` then says where.

    Parameters
    ----------
    X : array-like, sparse matrix or DataFrame of shape (n_rows, n_features), or Rows
        The chunk's features.  `Rows` brings y and weights along.
    y : array-like, Series or DataFrame of shape (n_rows,) or (n_rows, n_outputs)
        The chunk's targets; None where there are no outputs.
    weight : array-like of shape (n_rows,), float or None
        The chunk's sample weights.
    number : int
        Which chunk of the input this is; errors and the block's ``origin`` name it.
    n_features, n_outputs : int
        What the whole input has.
    dtype : dtype
        float32 or float64, for X.

    Returns
    -------
    block : Block
        Shares memory with the chunk where the chunk already is what a block must be.

    Raises
    ------
    TypeError
        If X or y is a ``numpy.matrix``.
    ValueError
        If the lengths differ, X has another number of columns, something is not numeric, y or
        the weights are not finite, or a weight is negative.
    """
    if isinstance(X, Rows):
        X, y, weight = X.X, X.y if y is None else y, X.weight if weight is None else weight
    where = f" in chunk {number}"
    matrix = checked_matrix(X, n_features, np.dtype(dtype), where)
    n_rows = matrix.shape[0]
    targets = _targets(y, n_outputs, where) if n_outputs else np.empty((n_rows, 0))
    if len(targets) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: "
            f"[{n_rows}, {len(targets)}] for X and y{where}. {_UNKNOWN_SIZES}"
        )
    weights = None if weight is None else _weights(weight, n_rows, where)
    return frozen(matrix, targets, weights, ((number, n_rows),))


def describe_nonfinite(
    rows: Block | Shard, feature_names: Sequence[str] | np.ndarray | None = None
) -> str | None:
    """Say where the first NaN or infinity of X is.

    Parameters
    ----------
    rows : Block or Shard
        Where to look.
    feature_names : sequence of str, optional
        Names of the columns.

    Returns
    -------
    message : str or None
        In scikit-learn's wording, with the chunk, the row in the chunk and the column; ``None``
        where all of X is finite.
    """
    for block in rows.blocks if isinstance(rows, Shard) else (rows,):
        message = describe_nonfinite_rows(block.X, feature_names, partial(_place, block))
        if message is not None:
            return message
    return None


def describe_nonfinite_rows(
    X: Matrix,
    feature_names: Sequence[str] | np.ndarray | None,
    place: Callable[[int], str],
    is_bad: Callable[[np.ndarray], np.ndarray] | None = None,
) -> str | None:
    """Do the same for a matrix whose rows ``place`` puts into words.

    ``is_bad`` says which values count, where not all that are not finite do.
    """
    found = _first_nonfinite(X, is_bad or _nonfinite)
    if found is None:
        return None
    row, column, value = found
    name = column if feature_names is None else repr(str(feature_names[column]))
    return (
        f"Input X contains {nonfinite_name(value, X.dtype)}: {place(row)}, column {name}. "
        "Impute or drop such rows first, for example with dropna() or fillna()."
    )


def describe_infinite(block: Block, first_column: int = 0) -> str | None:
    """Say where the first infinity of X is; NaN does not count, and None is no infinity.

    ``first_column`` is the number of the block's first column in the whole of X.
    """
    found = _first_nonfinite(block.X, np.isinf)
    if found is None:
        return None
    row, column, value = found
    return (
        f"Input X contains {nonfinite_name(value, block.X.dtype)}: {_place(block, row)}, column "
        f"{first_column + column}. Replace such values first, for example by NaN, which is left "
        "out."
    )


def describe_overflow(blocks: Block | Sequence[Block], remedy: str) -> str:
    """Say which value of X is the largest, where sums over finite values of blocks overflow."""
    several = [blocks] if isinstance(blocks, Block) else blocks
    places = [(block, _largest(block.X)) for block in several]
    block, place = max(places, key=lambda found: abs(found[1][2]) if found[1] else 0.0)
    chunk, row, largest = 0, 0, ""
    if place is not None:
        chunk, row = block.locate(place[0]) if block.origin else (0, place[0])
        largest = f" The largest is {place[2]:g}, in row {row} of the chunk, column {place[1]}."
    return (
        "Input X contains values so large that their squares overflow "
        f"(chunk {chunk}); {remedy}{largest}"
    )


def _largest(X: Matrix) -> tuple[int, int, float] | None:
    """Return row, column and value of the entry of the largest magnitude."""
    values = X.data if is_sparse(X) else X.reshape(-1)
    if not len(values):
        return None
    low, high = int(values.argmin()), int(values.argmax())
    place = high if values[high] >= -values[low] else low
    if is_sparse(X):
        row = int(np.searchsorted(X.indptr, place, side="right")) - 1
        return row, int(X.indices[place]), float(values[place])
    return *divmod(place, X.shape[1]), float(values[place])


def _place(block: Block, row: int) -> str:
    chunk, row = block.locate(row)
    return f"chunk {chunk}, row {row} of the chunk"


def nonfinite_name(value: float, dtype: np.dtype) -> str:
    """Return scikit-learn's name for a value that is not finite."""
    return "NaN" if np.isnan(value) else f"infinity or a value too large for {dtype!r}"


def checked_matrix(X: Any, n_features: int, dtype: np.dtype, where: str) -> Matrix:
    """Return the rows of a chunk as `to_matrix` does, and check their columns."""
    if X is None or np.isscalar(X):
        raise ValueError(
            f"Expected 2D array, got {X!r} instead{where}. Every chunk of X must have the rows and "
            "the columns as its two axes."
        )
    matrix = to_matrix(X, dtype, where)
    if matrix.shape[0] == 0:
        # An empty chunk often lost its shape in the code that made it.
        empty = sp.csr_array if is_sparse(matrix) else np.zeros
        return empty((0, n_features), dtype=dtype)
    if matrix.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {matrix.ndim}D array instead{where}. Every chunk of X must "
            "have the rows and the columns as its two axes."
        )
    if matrix.shape[1] != n_features:
        raise ValueError(
            f"X has {matrix.shape[1]} features{where}, but the whole of X has {n_features}. Make "
            "every chunk with the same columns."
        )
    return matrix


def _targets(y: Any, n_outputs: int, where: str) -> np.ndarray:
    if is_sparse(y):
        check_sparse(y, "y", where)
        y = y.toarray()
    dtype = np.dtype(np.float32 if getattr(y, "dtype", None) == np.float32 else np.float64)
    targets = to_numbers(y, dtype, "y", where)
    if targets.ndim == 1:
        targets = targets[:, np.newaxis]
    if len(targets) == 0:
        return np.empty((0, n_outputs), dtype)
    if targets.ndim != 2 or targets.shape[1] != n_outputs:
        raise ValueError(
            f"y has shape {targets.shape}{where}, but the whole of y has {n_outputs} column(s). "
            "Make every chunk with the same columns."
        )
    targets = np.ascontiguousarray(targets)
    _check_finite(targets, "y", where)
    return targets


def _weights(weight: Any, n_rows: int, where: str) -> np.ndarray:
    weights = to_numbers(weight, np.dtype(np.float64), "sample_weight", where)
    if weights.ndim == 0:
        weights = np.full(n_rows, weights)
    if weights.ndim == 2 and weights.shape[1] == 1 and len(weights) == 0:
        weights = weights[:, 0]
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}{where}. {_UNKNOWN_SIZES}"
        )
    weights = np.ascontiguousarray(weights)
    _check_finite(weights, "sample_weight", where)
    check_non_negative(weights, where)
    return weights


def check_non_negative(weights: np.ndarray, where: str = "") -> None:
    """Raise ValueError if a sample weight is negative."""
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise ValueError(
            f"Negative values in data passed to `sample_weight`{where}: {weights[row]} at row "
            f"{row}. Weights count how often a row is meant; leave rows out with a weight of 0."
        )


def _check_finite(array: np.ndarray, name: str, where: str) -> None:
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        value = next(v for v in np.ravel(array[row]) if not np.isfinite(v))
        raise ValueError(
            f"Input {name} contains {nonfinite_name(value, array.dtype)}{where}, row {row} of the "
            "chunk. Impute or drop such rows first, for example with dropna() or fillna()."
        )


def _nonfinite(values: np.ndarray) -> np.ndarray:
    return ~np.isfinite(values)


def _first_nonfinite(
    X: Matrix, is_bad: Callable[[np.ndarray], np.ndarray]
) -> tuple[int, int, float] | None:
    if is_sparse(X):
        bad = np.flatnonzero(is_bad(X.data))
        if not len(bad):
            return None
        place = bad[0]
        row = int(np.searchsorted(X.indptr, place, side="right")) - 1
        return row, int(X.indices[place]), float(X.data[place])
    for start in range(0, len(X), _TILE_ROWS):
        bad = is_bad(X[start : start + _TILE_ROWS])
        if bad.any():
            row, column = divmod(int(np.argmax(bad)), X.shape[1])
            return start + row, column, float(X[start + row, column])
    return None
