"""Dask collections cut into the same row chunks, as Delayed objects.

X keeps its chunks of rows; y and weights are cut along them.  Collections that are chunked alike
go through one task per chunk (`Rows`), so that what they have in common, such as reading a file,
runs once.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from dask.base import compute
from dask.delayed import Delayed, delayed

from dask_dml.input.chunks import Rows
from dask_dml.input.containers import join_columns, to_dense
from dask_dml.input.kinds import is_array, is_dask, is_frame
from dask_dml.input.origin import origin_of

Collection: TypeAlias = Any  # dask.array.Array, dask.dataframe.DataFrame or Series
Cut: TypeAlias = tuple[int, int, int]  # chunk, its first row wanted, the row after the last

_REMEDY = "Give X, y and sample_weight the same number of rows."


def row_chunks(X: Collection, y: Any, weight: Any) -> tuple[list[Any], list[Any], list[Any] | None]:
    """Cut X, y and weights into the same row chunks.

    Parameters
    ----------
    X : dask array or DataFrame of shape (n_samples, n_features)
        Decides the chunks of rows.
    y : dask collection or ndarray of shape (n_samples,) or (n_samples, n_outputs), or None
        Cut along X.
    weight : dask collection or ndarray of shape (n_samples,), float or None
        Cut along X.

    Returns
    -------
    X, y, weight : list
        The entries of `dask_dml.input.chunks.Chunks`.

    Raises
    ------
    ValueError
        If the numbers of rows differ and are known.
    """
    y, weight = _align(X, y, weight)
    source, functions = _source(X, y, weight)
    # Only what is chunked like X and of its kind can share a task with it.
    together = [
        other for other in (y, weight) if is_dask(other) and is_array(other) == is_array(source)
    ]
    holds_y = any(other is y for other in together)
    holds_weight = any(other is weight for other in together)
    n = n_chunks(X)
    X_chunks = _bundles(source, y if holds_y else None, weight if holds_weight else None, functions)
    y_chunks = [None] * n if holds_y else _entries(y, n)
    if weight is None:
        return X_chunks, y_chunks, None
    return X_chunks, y_chunks, [None] * n if holds_weight else _entries(weight, n)


def _source(X: Collection, y: Any, weight: Any) -> tuple[Collection, tuple[Any, ...]]:
    """Return what can share tasks with y and weights: X, or the frame that it is made of."""
    origin = origin_of(X)
    frames = [is_dask(other) and is_frame(other) for other in (y, weight)]
    if origin is None or not any(frames) or n_chunks(X) != n_chunks(origin.frame):
        return X, ()
    return origin.frame, origin.functions


def n_chunks(collection: Collection) -> int:
    """Return the number of row chunks."""
    return int(collection.npartitions if is_frame(collection) else collection.numblocks[0])


def known_sizes(collection: Collection) -> tuple[int, ...] | None:
    """Return the number of rows of each chunk, or None where they are not known."""
    if is_frame(collection) or any(math.isnan(size) for size in collection.chunks[0]):
        return None
    return tuple(int(size) for size in collection.chunks[0])


def count_rows(collection: Collection) -> list[int]:
    """Return the number of rows of each chunk, from one pass over its first column or index."""
    return list(compute(_counts(collection))[0])


def cuts(source: Sequence[int], target: Sequence[int]) -> list[list[Cut]]:
    """Find the rows of some chunks that make up other chunks of the same rows.

    Parameters
    ----------
    source, target : sequences of int
        Rows of each chunk as it is and as it shall be; their sums are equal.

    Returns
    -------
    pieces : list of lists of (chunk, start, stop)
        For each target chunk, the rows of source chunks that make it up, in order.  An empty
        target chunk gets an empty piece, so that its columns are known.
    """
    edges = [0, *itertools.accumulate(source)]
    pieces: list[list[Cut]] = []
    for low, high in itertools.pairwise([0, *itertools.accumulate(target)]):
        piece: list[Cut] = []
        chunk = min(bisect.bisect_right(edges, low), len(source)) - 1
        while chunk < len(source) and edges[chunk] < high:
            start, stop = max(low, edges[chunk]), min(high, edges[chunk + 1])
            if start < stop:
                piece.append((chunk, start - edges[chunk], stop - edges[chunk]))
            chunk += 1
        pieces.append(piece or [(min(chunk, len(source) - 1), 0, 0)])
    return pieces


def _align(X: Collection, y: Any, weight: Any) -> tuple[Any, Any]:
    loose = [other for other in (y, weight) if not _is_aligned(X, other)]
    if not loose:
        return y, weight
    sizes = _sizes(X, *filter(is_dask, loose))
    target = sizes[id(X)]
    total = sum(target)

    def aligned(other: Any) -> Any:
        if not any(other is one for one in loose):
            return other
        lengths = sizes[id(other)] if is_dask(other) else (len(other),)
        if sum(lengths) != total:
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"{[total, sum(lengths)]}. {_REMEDY}"
            )
        if not is_dask(other):
            ends = list(itertools.accumulate(target))
            return [other[end - size : end] for end, size in zip(ends, target, strict=True)]
        if known_sizes(other) is not None:
            return other.rechunk({0: target})
        return _recut(other, cuts(lengths, target))

    return aligned(y), aligned(weight)


def _is_aligned(X: Collection, other: Any) -> bool:
    """Whether nothing has to be cut; where sizes are unknown, the blocks check them."""
    if other is None or isinstance(other, float):
        return True
    if not is_dask(other):
        return False
    mine, theirs = known_sizes(X), known_sizes(other)
    if mine is not None and theirs is not None:
        return mine == theirs
    return n_chunks(X) == n_chunks(other)


def _sizes(*collections: Collection) -> dict[int, Sequence[int]]:
    """Return the rows of each chunk by the collection's id, in at most one pass over the data."""
    sizes: dict[int, Sequence[int]] = {}
    counts: dict[int, list[Delayed]] = {}
    for one in collections:
        known = known_sizes(one)
        if known is None:
            counts[id(one)] = _counts(one)
        else:
            sizes[id(one)] = known
    return sizes | compute(counts)[0] if counts else sizes


def _counts(collection: Collection) -> list[Delayed]:
    count = delayed(_n_rows)
    if is_frame(collection):
        # The index alone, so that a file format with columns reads no more than it must.  Not
        # map_partitions(len): over dd.from_delayed its graph lacks the partitions.
        return [count(part) for part in np.ravel(collection.index.to_delayed())]
    return [count(part) for part in _first_column(collection)]


def _n_rows(part: Any) -> int:
    return int(part.shape[0])  # sparse matrices have no len


def _first_column(array: Collection) -> list[Delayed]:
    parts = array.to_delayed()
    return list(parts if parts.ndim == 1 else parts[:, 0])


def _recut(collection: Collection, pieces: list[list[Cut]]) -> list[Delayed]:
    parts = _parts(collection)
    stitch = delayed(_stitch)
    return [
        stitch([parts[chunk] for chunk, _, _ in piece], [rows for _, *rows in piece])
        for piece in pieces
    ]


def _stitch(parts: list[Any], rows: list[list[int]]) -> np.ndarray:
    return np.concatenate(
        [to_dense(part)[start:stop] for part, (start, stop) in zip(parts, rows, strict=True)]
    )


def _entries(other: Any, n: int) -> list[Any]:
    if isinstance(other, list):
        return other
    if other is None or isinstance(other, float):
        return [other] * n
    return _parts(other)


def _parts(collection: Collection) -> list[Delayed]:
    """Return a Delayed of each row chunk, its column chunks joined."""
    if is_array(collection) and collection.ndim == 2 and collection.numblocks[1] > 1:
        join = delayed(join_columns)
        return [join(list(parts)) for parts in collection.to_delayed()]
    return list(np.ravel(collection.to_delayed()))


def _bundles(
    X: Collection,
    y: Collection | None,
    weight: Collection | None,
    functions: tuple[Any, ...] = (),
) -> list[Delayed]:
    """Return a Delayed of each row chunk of X, of `Rows` where y or weight are given."""
    if y is None and weight is None:
        return _parts(X)
    if is_frame(X):
        others = [other for other in (y, weight) if other is not None]
        import pandas as pd

        bundle = X.map_partitions(
            _bundle_frames,
            *others,
            has_y=y is not None,
            functions=functions,
            align_dataframes=False,
            enforce_metadata=False,
            meta=pd.Series([], dtype=object),
        )
        return list(bundle.to_delayed())
    return _bundle_arrays(X, y, weight)


def _bundle_arrays(X: Collection, y: Collection | None, weight: Collection | None) -> list[Delayed]:
    import dask.array as da

    operands: list[Any] = []
    for other, axes in ((X, "ij"), (y, "ik"), (weight, "i")):
        operands += [other, None if other is None else axes[: other.ndim]]
    bundle = da.blockwise(
        _bundle_parts,
        "i",
        *operands,
        concatenate=False,
        align_arrays=False,
        dtype=object,
        meta=np.empty(0, object),
    )
    return list(bundle.to_delayed())


def _bundle_parts(X: Any, y: Any, weight: Any) -> Rows:
    return Rows(join_columns(X), join_columns(y) if isinstance(y, list) else y, weight)


def _bundle_frames(
    X: Any, *others: Any, has_y: bool, functions: tuple[Callable[[Any], Any], ...]
) -> Rows:
    for function in functions:
        X = function(X)
    return Rows(X, *others) if has_y else Rows(X, None, *others)
