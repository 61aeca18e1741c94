"""Folds that keep groups of rows together, for groups in any chunks."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state

from dask_dml.estimators.parameters import (
    BOOLEAN,
    RANDOM_STATE,
    Constraint,
    Interval,
    check_parameters,
)
from dask_dml.input.columns import visit_column
from dask_dml.input.kinds import is_dask
from dask_dml.model_selection.splitters import Folds, Splitter, each_held_out
from dask_dml.passes.divisions import Listed, Runs

#: Rows for each run from which runs take less memory than a part for each row.
_ROWS_PER_RUN = 10


class DistributedGroupKFold(Splitter):
    """K folds that keep the rows of a group together, the same for every chunking.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least two.
    shuffle : bool, default=False
        Whether groups are drawn at random.  If False, the largest groups are dealt out first, each
        to the fold that has the fewest rows.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    See Also
    --------
    sklearn.model_selection.GroupKFold

    Notes
    -----
    The folds are those of scikit-learn's `GroupKFold`.  Groups in a Dask collection stay where they
    are: how many rows each group has comes to this process, and then where the fold changes from
    one row to the next.  That is little where the rows of a group follow each other.  Otherwise it
    is a byte a row.

    Examples
    --------
    >>> from dask_dml.model_selection import DistributedGroupKFold
    >>> cv = DistributedGroupKFold(2)
    >>> [test.tolist() for _, test in cv.split(range(6), groups=list("aabbbc"))]
    [[2, 3, 4], [0, 1, 5]]
    """

    # As scikit-learn's splitters of groups, it asks for groups where metadata is routed.
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    _constraints: ClassVar[dict[str, tuple[Constraint, ...]]] = {
        "n_splits": (Interval(Integral, 2),),
        "shuffle": (BOOLEAN,),
        "random_state": (RANDOM_STATE,),
    }

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def divide(self, n_rows: int, classes: Any = None, groups: Any = None) -> Folds:  # noqa: ARG002 - as others
        """Return how the rows are divided, and the parts of each split.

        Raises
        ------
        ValueError
            If there are no groups, fewer groups than folds, or another number of them than rows.
        """
        check_parameters(type(self).__name__, self.get_params(), self._constraints)
        if groups is None:
            raise ValueError("The 'groups' parameter should not be None.")
        if is_dask(groups) and groups.ndim != 1:
            raise ValueError(f"groups must have one dimension, got {groups.ndim}.")
        names, rows = _join(visit_column(groups, _count))
        if int(rows.sum()) != n_rows:
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"{[n_rows, int(rows.sum())]} for X and groups. Give every row of X a group."
            )
        if self.n_splits > len(names):
            raise ValueError(
                f"Cannot have number of splits n_splits={self.n_splits} greater than the number of "
                f"groups: {len(names)}."
            )
        part = self._deal(rows).astype(np.min_scalar_type(self.n_splits))
        found = visit_column(groups, _find_runs, names, part)
        return [_joined_runs(found, self.n_splits)], each_held_out(0, self.n_splits)

    def _deal(self, rows: np.ndarray) -> np.ndarray:
        """Return the fold of each group, given its rows, as scikit-learn chooses it."""
        part = np.empty(len(rows), dtype=np.int64)
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(len(rows))
            for number, chosen in enumerate(np.array_split(order, self.n_splits)):
                part[chosen] = number
            return part
        filled = np.zeros(self.n_splits, dtype=np.int64)
        for group in np.argsort(rows, kind="stable")[::-1]:
            part[group] = np.argmin(filled)
            filled[part[group]] += rows[group]
        return part


def _values(piece: Any, number: int) -> np.ndarray:
    values = np.asarray(piece)
    if values.ndim != 1:
        raise ValueError(f"groups must have one dimension, got {values.ndim} in chunk {number}.")
    missing = _is_missing(values)
    if np.any(missing):
        raise ValueError(
            f"Input groups contains NaN in chunk {number}, row {int(np.argmax(missing))} of the "
            "chunk. Give such rows a group of their own, or drop them."
        )
    return values


def _is_missing(values: np.ndarray) -> np.ndarray:
    if values.dtype != np.object_:
        return values != values
    import pandas as pd

    return np.asarray(pd.isna(values))


def _count(piece: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups of a chunk, and the rows of each."""
    names, rows = np.unique(_values(piece, number), return_counts=True)
    return names, rows


def _join(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    some = [(names, rows) for names, rows in found if len(names)] or list(found[:1])
    names, place = np.unique(np.concatenate([one for one, _ in some]), return_inverse=True)
    rows = np.zeros(len(names), dtype=np.int64)
    np.add.at(rows, place, np.concatenate([one for _, one in some]))
    return names, rows


def _find_runs(
    piece: Any, number: int, names: np.ndarray, part: np.ndarray
) -> tuple[int, np.ndarray | None, np.ndarray]:
    """Return the rows of a chunk, the first row of each run of a fold, and the folds of the runs.

    Where there are many runs the first rows are None, and there is a fold for each row.
    """
    values = _values(piece, number)
    parts = part[np.searchsorted(names, values)]
    first = np.flatnonzero(np.r_[np.ones(min(len(parts), 1), np.bool_), parts[1:] != parts[:-1]])
    if len(first) * _ROWS_PER_RUN > len(parts):
        return len(parts), None, parts
    return len(parts), first, parts[first]


def _joined_runs(
    found: Sequence[tuple[int, np.ndarray | None, np.ndarray]], n_parts: int
) -> Listed | Runs:
    starts = np.cumsum([0, *(n for n, _, _ in found)])
    if any(first is None and n for n, first, _ in found):
        parts = [
            part if first is None else np.repeat(part, np.diff(np.append(first, n)))
            for n, first, part in found
        ]
        return Listed(np.concatenate(parts), n_parts)
    runs = [
        (start + first, part)
        for start, (_, first, part) in zip(starts, found, strict=False)
        if first is not None
    ]
    return Runs(np.concatenate([a for a, _ in runs]), np.concatenate([b for _, b in runs]), n_parts)
