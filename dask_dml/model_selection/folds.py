"""Cross-validation splitters as divisions of the rows into parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    check_cv,
)

from dask_dml.input.kinds import is_dask
from dask_dml.model_selection.splitters import (
    DistributedKFold,
    DistributedStratifiedKFold,
    DistributedTimeSeriesSplit,
    each_held_out,
)
from dask_dml.passes.divisions import ClassPieces, Division, Listed, Split

#: Splits that `cv=None` stands for, as in scikit-learn.
DEFAULT_SPLITS = 5
#: Splitters that do not look at the targets.
_WITHOUT_LABELS = (KFold, RepeatedKFold, ShuffleSplit, LeaveOneOut, GroupKFold, GroupShuffleSplit)
_NEITHER, _TRAIN, _TEST, _BOTH = range(4)


def make_folds(
    cv: Any,
    n_rows: int,
    labels: Callable[[], np.ndarray | None] = lambda: None,
    groups: Any = None,
    *,
    classes: Callable[[], ClassPieces] | None = None,
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
    labels : callable
        Returns the targets, for splitters that look at them.
    groups : array-like or Dask collection of shape (n_samples,), default=None
        Groups, likewise.
    classes : callable or None, default=None
        Finds the classes of the rows, where they are.
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
    own = _without_positions(cv, n_rows, classes, groups, classifier=classifier)
    if own is not None:
        return own
    y = None if isinstance(cv, _WITHOUT_LABELS) or not hasattr(cv, "split") else labels()
    if isinstance(cv, Integral):
        y = labels()
    splitter = check_cv(cv, y, classifier=classifier)
    # Splitters look at the number of rows only, unless they are given groups or classes.
    table = np.zeros((n_rows, 1))
    if is_dask(groups):
        groups = groups.compute()
    pairs = splitter.split(table, y, groups)
    listed = [(_positions(a, n_rows), _positions(b, n_rows)) for a, b in pairs]
    if not listed:
        raise ValueError("cv makes no splits; give a splitter or an iterable that makes some.")
    part = np.full(n_rows, -1, dtype=np.int16)
    for number, (_, test) in enumerate(listed):
        part[test] = number
    if len(listed) > 1 and _divides(listed, n_rows):
        return [Listed(part, len(listed))], each_held_out(0, len(listed))
    divisions: list[Division] = [Listed(_roles(train, test, n_rows), 4) for train, test in listed]
    train_parts, test_parts = (_TRAIN, _BOTH), (_TEST, _BOTH)
    return divisions, [Split(number, train_parts, test_parts) for number in range(len(listed))]


def _without_positions(
    cv: Any,
    n_rows: int,
    classes: Callable[[], ClassPieces] | None,
    groups: Any,
    *,
    classifier: bool,
) -> tuple[list[Division], list[Split]] | None:
    """Return the folds of splitters that need no positions of rows; None of others."""
    found: tuple[list[Division], list[Split]] | None = None
    if isinstance(cv, Integral):
        if cv < 2:
            raise ValueError(
                f"Cross-validation needs at least two folds, but cv={cv}. Set cv=2 or more."
            )
        stratified = classifier and classes is not None
        if stratified:
            found = DistributedStratifiedKFold(int(cv)).divide(n_rows, classes)
        elif not classifier:
            found = DistributedKFold(int(cv)).divide(n_rows)
    elif hasattr(cv, "divide"):
        found = cv.divide(n_rows, classes, groups)
    elif type(cv) is StratifiedKFold and not cv.shuffle and classes is not None:
        found = DistributedStratifiedKFold(cv.n_splits).divide(n_rows, classes)
    elif type(cv) is KFold and not cv.shuffle:
        found = DistributedKFold(cv.n_splits).divide(n_rows)
    elif type(cv) is TimeSeriesSplit:
        found = DistributedTimeSeriesSplit(
            cv.n_splits, max_train_size=cv.max_train_size, test_size=cv.test_size, gap=cv.gap
        ).divide(n_rows)
    return found


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
