"""Cross-validation splitters as divisions of the rows into parts."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv

from dask_dml.passes.folds import Consecutive, Division, Listed
from dask_dml.solvers.path import Split

#: Splits that `cv=None` stands for, as in scikit-learn.
DEFAULT_SPLITS = 5
_NEITHER, _TRAIN, _TEST, _BOTH = range(4)


def make_folds(
    cv: Any,
    n_rows: int,
    y: np.ndarray | None = None,
    groups: Any = None,
    *,
    classifier: bool = False,
) -> tuple[list[Division], list[Split]]:
    """Return the division of the rows that the splits of a splitter make, and the splits.

    Parameters
    ----------
    cv : int, splitter, iterable of (train, test) or None
        As in `sklearn.model_selection.check_cv`.  An int divides the rows in their order, and so
        needs no array of the size of the data.
    n_rows : int
        Rows of the table.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, for splitters that look at them.
    groups : array-like of shape (n_samples,), default=None
        Groups, likewise.
    classifier : bool, default=False
        Whether a number of folds keeps the shares of the classes in y.

    Returns
    -------
    divisions : list of Division
        One where the test rows of the splits divide the rows; otherwise one for each split.
    splits : list of Split
        One for each split, in order.

    Raises
    ------
    ValueError
        If there are fewer than two folds or more folds than rows, no splits, or positions
        outside of the table.
    """
    cv = DEFAULT_SPLITS if cv is None else cv
    if isinstance(cv, Integral) and not classifier:
        n_splits = int(cv)
        if n_splits < 2:
            raise ValueError(
                f"Cross-validation needs at least two folds, but cv={n_splits}. Set cv=2 or more."
            )
        if n_splits > n_rows:
            raise ValueError(
                f"Cannot have number of splits n_splits={n_splits} greater than the number of "
                f"samples: n_samples={n_rows}."
            )
        return [Consecutive(n_rows, n_splits)], _each_held_out(n_splits)
    splitter = check_cv(cv, y, classifier=classifier)
    # Splitters look at the number of rows only, unless they are given groups or classes.
    table = np.zeros((n_rows, 1))
    pairs = splitter.split(table, y, groups)
    listed = [(_positions(a, n_rows), _positions(b, n_rows)) for a, b in pairs]
    if not listed:
        raise ValueError("cv makes no splits; give a splitter or an iterable that makes some.")
    part = np.full(n_rows, -1, dtype=np.int16)
    for number, (_, test) in enumerate(listed):
        part[test] = number
    if len(listed) > 1 and _divides(listed, n_rows):
        return [Listed(part, len(listed))], _each_held_out(len(listed))
    divisions: list[Division] = [Listed(_roles(train, test, n_rows), 4) for train, test in listed]
    train_parts, test_parts = (_TRAIN, _BOTH), (_TEST, _BOTH)
    return divisions, [Split(number, train_parts, test_parts) for number in range(len(listed))]


def _each_held_out(n_splits: int) -> list[Split]:
    numbers = range(n_splits)
    return [Split(0, tuple(n for n in numbers if n != held), (held,)) for held in numbers]


def _positions(rows: Iterable[int], n_rows: int) -> np.ndarray:
    positions = np.asarray(rows)
    if positions.dtype == np.bool_:
        if len(positions) != n_rows:
            raise ValueError(f"cv has a mask of {len(positions)} rows for a table of {n_rows}.")
        return np.flatnonzero(positions)
    if positions.dtype.kind not in "iu" or positions.ndim != 1:
        raise ValueError(
            "cv must yield pairs of one-dimensional arrays of row positions, train and test."
        )
    if len(positions) and not (positions.min() >= 0 and positions.max() < n_rows):
        raise ValueError(f"cv names rows outside of the table, which has {n_rows}.")
    return positions


def _divides(listed: list[tuple[np.ndarray, np.ndarray]], n_rows: int) -> bool:
    """Whether the test rows divide the table, and all others are for training each time."""
    seen = np.zeros(n_rows, dtype=np.int64)
    for train, test in listed:
        np.add.at(seen, test, 1)
        if len(train) + len(test) != n_rows or len(np.intersect1d(train, test)):
            return False
    return bool(np.all(seen == 1))


def _roles(train: np.ndarray, test: np.ndarray, n_rows: int) -> np.ndarray:
    if len(np.unique(train)) < len(train) or len(np.unique(test)) < len(test):
        raise ValueError(
            "cv names a row twice in one split; give such rows a larger sample_weight instead."
        )
    roles = np.full(n_rows, _NEITHER, dtype=np.int16)
    roles[train] = _TRAIN
    roles[test] = np.where(roles[test] == _TRAIN, _BOTH, _TEST)
    return roles
