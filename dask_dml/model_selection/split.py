"""Splitting of Dask collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from dask_dml.estimators.parameters import (
    BOOLEAN,
    COUNT,
    NONE,
    RANDOM_STATE,
    Constraint,
    Interval,
    check_parameters,
)
from dask_dml.input.containers import is_sparse
from dask_dml.input.kinds import is_dask
from dask_dml.model_selection.draws import (
    Draw,
    Shares,
    draw_classes,
    draw_counts,
    draw_spans,
    split_shares,
    split_sizes,
)

_FRACTION = Interval(Real, 0.0, 1.0, "neither")
_CONSTRAINTS: Mapping[str, tuple[Constraint, ...]] = {
    "test_size": (_FRACTION, COUNT, NONE),
    "train_size": (_FRACTION, COUNT, NONE),
    "random_state": (RANDOM_STATE,),
    "shuffle": (BOOLEAN,),
}
_TRAIN, _TEST = 0, 1


def train_test_split(
    *arrays: Any,
    test_size: float | int | None = None,
    train_size: float | int | None = None,
    random_state: int | np.random.RandomState | None = None,
    shuffle: bool = True,
    stratify: Any = None,
) -> list[Any]:
    """Split arrays, dataframes and series into rows for training and rows for testing.

    Every chunk of a Dask collection is split where it is.  No row moves, and the results are as
    lazy as the input.  Without a Dask collection among the arrays, this is
    `sklearn.model_selection.train_test_split`.

    Parameters
    ----------
    *arrays : dask arrays, dask DataFrames and Series, and containers in memory of shape \
            (n_samples, ...)
        Arrays with equally many rows.  Collections of known sizes may be chunked differently;
        they are rechunked like the first.  Chunks of unknown size are assumed to be aligned if
        every collection has equally many.
    test_size : float or int, default=None
        Share of the test rows (float) or their number (int).  None takes the rows that
        `train_size` leaves, or a quarter if that is None as well.
    train_size : float or int, default=None
        Share of the training rows (float) or their number (int).  None takes the rows that
        `test_size` leaves.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.  The same seed and the same chunks give the same rows on any cluster.
    shuffle : bool, default=True
        Whether rows are drawn at random.  If False, the first rows are the training rows.
    stratify : array-like or Dask collection of shape (n_samples,), default=None
        Classes whose proportions both parts keep.  The labels come to this process in one pass;
        with up to 256 classes they take one byte for each row.

    Returns
    -------
    splitting : list of length 2 * len(arrays)
        Training rows and test rows of each array in turn, in containers like those that were
        given.  Rows keep their order, even if they are drawn at random.  Chunks may be empty.

    Raises
    ------
    ValueError
        If sizes are out of range, the numbers of rows differ, chunks of unknown size cannot be
        aligned, or a class is too small; the message names the remedy.
    TypeError
        If a parameter has the wrong type, or an array is a Dask collection of another kind.

    See Also
    --------
    sklearn.model_selection.train_test_split

    Notes
    -----
    If chunk sizes are known, both parts have exactly as many rows as scikit-learn would give them,
    and with `stratify` exactly as many of each class.  (Largest remainders divide them over the
    chunks.)  Unknown sizes, like those of dataframes, are counted in one more pass if they are
    needed: for an int as size, ``shuffle=False``, `stratify`, arrays in memory, or arrays that are
    chunked differently.  Otherwise each chunk is divided by the shares when it is computed.  The
    numbers are rounded at random, and are right on average.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.model_selection import train_test_split
    >>> X, y = da.arange(20, chunks=8).reshape(10, 2), da.arange(10, chunks=5)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    >>> X_train.shape, X_test.shape
    ((7, 2), (3, 2))
    >>> bool((X_test[:, 0] == 2 * y_test).all().compute())
    True
    """
    sizes = {"test_size": test_size, "train_size": train_size}
    check_parameters(
        "train_test_split",
        {**sizes, "random_state": random_state, "shuffle": shuffle},
        _CONSTRAINTS,
    )
    test_size, train_size = (
        size.item() if isinstance(size, np.generic) else size for size in (test_size, train_size)
    )
    if not arrays:
        raise ValueError("At least one array required as input")
    if not any(map(is_dask, arrays)):
        from sklearn.model_selection import train_test_split as split_in_memory

        if is_dask(stratify):
            stratify = stratify.compute()
        return split_in_memory(
            *arrays, **sizes, random_state=random_state, shuffle=shuffle, stratify=stratify
        )
    if stratify is not None and not shuffle:
        raise ValueError("Stratified train/test split is not implemented for shuffle=False")
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    table = RowTable(arrays)
    draws = _draws(table, test_size, train_size, seed, bool(shuffle), stratify)
    return [part for array in arrays for part in table.divide(array, draws)]


def _draws(
    table: RowTable,
    test_size: float | int | None,
    train_size: float | int | None,
    seed: int,
    shuffle: bool,
    stratify: Any,
) -> list[Draw]:
    if stratify is not None:
        codes, classes, lengths = _read_classes(stratify)
        table.learn_sizes(lengths)
        chunks = table.count()
        _check_total(sum(chunks), len(codes))
        n_train, n_test = split_sizes(len(codes), test_size, train_size)
        return draw_classes(codes, classes, chunks, n_train, n_test, seed)
    numbers = any(isinstance(size, int) for size in (test_size, train_size))
    if table.sizes is None and not (numbers or not shuffle or table.needs_sizes()):
        train, test = split_shares(test_size, train_size)
        return [Shares((seed, number), train, test) for number in range(table.n_chunks)]
    chunks = table.count()
    n_train, n_test = split_sizes(sum(chunks), test_size, train_size)
    if shuffle:
        return draw_counts(chunks, n_train, n_test, seed)
    return draw_spans(chunks, n_train, n_test)


class RowTable:
    """Arrays of the same rows, cut at the chunks of one of them.

    Attributes
    ----------
    sizes : tuple of int or None
        Rows of each chunk, where known.
    n_chunks : int
        Number of chunks.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        from dask_dml.input.align import known_sizes, n_chunks
        from dask_dml.input.kinds import is_array, is_frame

        self.arrays = arrays
        self.collections = [array for array in arrays if is_dask(array)]
        for one in self.collections:
            if not is_frame(one) and not (is_array(one) and one.ndim):
                raise TypeError(
                    f"train_test_split takes dask arrays, DataFrames and Series, got {one!r}."
                )
        # Frames cannot be cut anew, and chunks of unknown size only after counting.
        order = (is_frame, lambda one: known_sizes(one) is None, is_dask)
        self.leader = next(one for first in order for one in self.collections if first(one))
        self.n_chunks = n_chunks(self.leader)
        alike = [one for one in self.collections if n_chunks(one) == self.n_chunks]
        known = [known_sizes(one) for one in (self.leader, *alike)]
        self.sizes = next((sizes for sizes in known if sizes is not None), None)

    def needs_sizes(self) -> bool:
        """Whether some array can only be cut at rows that are known."""
        from dask_dml.input.align import n_chunks

        return len(self.collections) < len(self.arrays) or any(
            n_chunks(one) != self.n_chunks for one in self.collections
        )

    def learn_sizes(self, sizes: Sequence[int]) -> None:
        """Take over the sizes of chunks that are taken as aligned."""
        if self.sizes is None and len(sizes) == self.n_chunks:
            self.sizes = tuple(sizes)

    def count(self) -> tuple[int, ...]:
        """Return the rows of each chunk, counted if they are not known."""
        if self.sizes is None:
            from dask_dml.input.align import count_rows

            self.sizes = tuple(count_rows(self.leader))
        return self.sizes

    def divide(self, array: Any, draws: Sequence[Draw]) -> list[Any]:
        """Return the training and the test rows of one of the arrays."""
        if not is_dask(array):
            return self._divide_in_memory(array, draws)
        from dask_dml.input.kinds import is_frame

        array = self._aligned(array)
        return (_divide_frame if is_frame(array) else _divide_array)(array, draws)

    def _aligned(self, array: Any) -> Any:
        from dask_dml.input.align import known_sizes, n_chunks
        from dask_dml.input.kinds import is_array

        mine = known_sizes(array)
        if mine is not None and self.sizes is not None:
            _check_total(sum(self.sizes), sum(mine))
            return array if mine == self.sizes else array.rechunk({0: self.sizes})
        if n_chunks(array) != self.n_chunks:
            raise ValueError(
                f"Arrays with {self.n_chunks} and {n_chunks(array)} chunks of rows, of unknown "
                "sizes, cannot be aligned. Call compute_chunk_sizes() on arrays, or repartition "
                "dataframes alike."
            )
        if not is_array(array) and not is_array(self.leader):
            _check_divisions(self.leader, array)
        return array

    def _divide_in_memory(self, array: Any, draws: Sequence[Draw]) -> list[Any]:
        sizes = self.count()
        n_rows = array.shape[0] if hasattr(array, "shape") else len(array)
        _check_total(sum(sizes), n_rows)
        first = np.cumsum((0, *sizes[:-1]))
        rows = [draw.rows(size) for draw, size in zip(draws, sizes, strict=True)]
        return [
            take_rows(
                array, np.concatenate([r[part] + at for r, at in zip(rows, first, strict=True)])
            )
            for part in (_TRAIN, _TEST)
        ]


def _check_total(expected: int, n_rows: int) -> None:
    if n_rows != expected:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {[expected, n_rows]}"
        )


def _check_divisions(leader: Any, other: Any) -> None:
    if leader.known_divisions and other.known_divisions and leader.divisions != other.divisions:
        raise ValueError(
            "The dataframes are divided at different places of their indexes. Give them the same "
            "partitions first, for example y = y.repartition(divisions=X.divisions)."
        )


def _divide_array(array: Any, draws: Sequence[Draw]) -> list[Any]:
    import dask.array as da
    from dask.array.utils import meta_from_array

    items = np.empty(len(draws), dtype=object)
    items[:] = draws
    lazy = da.from_array(items, chunks=1)
    axes = tuple(range(array.ndim))
    parts = []
    for part in (_TRAIN, _TEST):
        chunks = tuple(draw.counts[part] for draw in draws)
        parts.append(
            da.blockwise(
                _take_chunk,
                axes,
                array,
                axes,
                lazy,
                axes[:1],
                part=part,
                adjust_chunks={0: chunks},
                dtype=array.dtype,
                meta=meta_from_array(array),
                align_arrays=False,
            )
        )
    return parts


def _take_chunk(chunk: Any, draw: np.ndarray, *, part: int) -> Any:
    return take_rows(chunk, draw[0].rows(chunk.shape[0])[part])


def _divide_frame(frame: Any, draws: Sequence[Draw]) -> list[Any]:
    import dask.dataframe as dd
    import pandas as pd
    from dask.dataframe.dispatch import make_meta

    # A frame of one draw in each partition, which says so of none: objects would become strings.
    lazy = dd.from_map(
        _itself, list(draws), meta=pd.Series([], dtype=np.int64), enforce_metadata=False
    )
    return [
        frame.map_partitions(
            _take_partition, lazy, part=part, meta=make_meta(frame), align_dataframes=False
        )
        for part in (_TRAIN, _TEST)
    ]


def _itself(draw: Draw) -> Draw:
    return draw


def _take_partition(frame: Any, draw: Draw, *, part: int) -> Any:
    return frame.iloc[draw.rows(len(frame))[part]]


def take_rows(array: Any, rows: np.ndarray) -> Any:
    """Return some rows of a container in memory."""
    if hasattr(array, "iloc"):
        return array.iloc[rows]
    if is_sparse(array):
        return array.tocsr()[rows]
    if hasattr(array, "shape"):
        return array[rows]
    return [array[row] for row in rows]


def _read_classes(stratify: Any) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return the class of every row as a number, the classes, and the rows of each chunk."""
    if is_dask(stratify):
        from dask.base import compute
        from dask.delayed import delayed

        encode = delayed(_encode)
        pieces = list(compute(*(encode(chunk) for chunk in np.ravel(stratify.to_delayed()))))
    else:
        pieces = [_encode(stratify)]
    classes = np.unique(np.concatenate([known for known, codes in pieces if len(codes)]))
    dtype = np.min_scalar_type(len(classes))
    codes = [
        np.searchsorted(classes, known).astype(dtype)[codes] if len(codes) else codes.astype(dtype)
        for known, codes in pieces
    ]
    return np.concatenate(codes), classes, [len(piece) for piece in codes]


def _encode(labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of some labels, and each label's position among them."""
    import pandas as pd

    labels = np.asarray(labels)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        raise ValueError(
            f"stratify should be a 1d array, got an array of shape {labels.shape} instead."
        )
    if pd.isna(labels).any():
        raise ValueError(
            "Input stratify contains NaN. Drop rows without a class first, or give them one."
        )
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, codes.astype(np.min_scalar_type(len(classes)))


def in_row_order(positions: np.ndarray, *pieces: Any) -> np.ndarray:
    """Return the rows of some arrays, one after the other, at the positions that they belong to."""
    rows = np.concatenate([np.asarray(piece) for piece in pieces])
    ordered = np.empty_like(rows)
    ordered[positions] = rows
    return ordered


def lay_out(pieces: Sequence[Any], chunks: Sequence[np.ndarray], sizes: Sequence[int]) -> Any:
    """Do as `in_row_order` for each chunk of dask arrays or frames; returns a dask array."""
    import dask.array as da
    from dask.delayed import delayed

    parts = [np.ravel(piece.to_delayed()) for piece in pieces]
    first = pieces[0]
    dtype = first.dtype if hasattr(first, "dtype") else np.result_type(*first.dtypes)
    columns = first.shape[1:] if first.ndim == 2 else ()
    together = delayed(in_row_order, pure=True)
    laid = [
        da.from_delayed(
            together(positions, *(part[number] for part in parts)),
            shape=(size, *(int(n) for n in columns)),
            dtype=dtype,
        )
        for number, (positions, size) in enumerate(zip(chunks, sizes, strict=True))
    ]
    return da.concatenate(laid)
