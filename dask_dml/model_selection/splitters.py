"""Splitters that need no array of the size of the table, for data in any chunks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
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
from dask_dml.input.kinds import is_dask
from dask_dml.model_selection.draws import split_sizes
from dask_dml.passes.divisions import (
    ByClass,
    ClassPieces,
    Consecutive,
    Cut,
    Division,
    Drawn,
    Shuffled,
    Split,
)

#: What a splitter finds of a table: how the rows are divided, and which parts each split has.
Folds = tuple[list[Division], list[Split]]
_SPLITS = Interval(Integral, 2)
#: Share of the rows that `DistributedShuffleSplit` holds out, as scikit-learn's.
TEST_SHARE = 0.1


class Splitter(BaseEstimator):
    """What the splitters share: index arrays for those who want them."""

    n_splits: int
    _constraints: ClassVar[dict[str, tuple[Constraint, ...]]]

    def divide(
        self,
        n_rows: int,
        classes: Callable[[], ClassPieces] | None = None,
        groups: Any = None,
    ) -> Folds:
        """Return how the rows are divided, and the parts of each split.

        Parameters
        ----------
        n_rows : int
            Rows of the table.
        classes : callable or None, default=None
            Finds the classes of the rows.
        groups : array-like or Dask collection of shape (n_samples,), default=None
            Groups of the rows.
        """
        raise NotImplementedError

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: ARG002 - scikit-learn's
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Ignored, for scikit-learn's searches.
        """
        return int(self.n_splits)

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the positions of the rows of each split, for scikit-learn's searches.

        Parameters
        ----------
        X : array-like or Dask collection of shape (n_samples, n_features)
            Rows to split.  They are counted if their number is not known.
        y : array-like or Dask collection of shape (n_samples,), default=None
            Classes of the rows, for splitters that keep their proportions.
        groups : array-like or Dask collection of shape (n_samples,), default=None
            Groups of the rows, for splitters that keep them together.

        Yields
        ------
        train, test : ndarray of int
            Positions of the training rows and of the test rows.
        """
        n_rows = _count(X)
        labels = None if y is None else _in_memory(y)
        divisions, splits = self.divide(
            n_rows, None if labels is None else lambda: ClassPieces.of(labels), groups
        )
        for split in splits:
            division = divisions[split.division]
            if isinstance(division, ByClass):
                assert labels is not None
                parts = division.of_labels(labels, (0, 0))
            else:
                parts = division.parts(0, n_rows)
            yield (
                np.flatnonzero(np.isin(parts, split.train)),
                np.flatnonzero(np.isin(parts, split.test)),
            )

    def _check(self, n_rows: int) -> None:
        check_parameters(type(self).__name__, self.get_params(), self._constraints)
        if self.n_splits > n_rows:
            raise ValueError(
                f"Cannot have number of splits n_splits={self.n_splits} greater than the number "
                f"of samples: n_samples={n_rows}."
            )


class DistributedKFold(Splitter):
    """K folds of consecutive or random rows, the same for every chunking.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least two.
    shuffle : bool, default=False
        Whether folds are made of random rows.  If False, they are made of consecutive rows.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    See Also
    --------
    sklearn.model_selection.KFold

    Notes
    -----
    The fold of a row is a function of its position and the seed.  Shuffled folds are not those of
    scikit-learn's `KFold` with the same seed.

    Examples
    --------
    >>> from dask_dml.model_selection import DistributedKFold
    >>> cv = DistributedKFold(3, shuffle=True, random_state=0)
    >>> [test.tolist() for _, test in cv.split(range(7))]
    [[0, 4, 6], [2, 5], [1, 3]]
    """

    _constraints: ClassVar[dict[str, tuple[Constraint, ...]]] = {
        "n_splits": (_SPLITS,),
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
        """Return how the rows are divided, and the parts of each split."""
        self._check(n_rows)
        division: Division = Consecutive(n_rows, self.n_splits)
        if self.shuffle:
            division = Shuffled(n_rows, self.n_splits, _seed(self.random_state))
        return [division], each_held_out(0, self.n_splits)


class DistributedRepeatedKFold(Splitter):
    """K folds of random rows, repeated several times, the same for every chunking.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least two.
    n_repeats : int, default=10
        Number of repetitions.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    See Also
    --------
    sklearn.model_selection.RepeatedKFold

    Examples
    --------
    >>> from dask_dml.model_selection import DistributedRepeatedKFold
    >>> DistributedRepeatedKFold(n_splits=5, n_repeats=2).get_n_splits()
    10
    """

    _constraints: ClassVar[dict[str, tuple[Constraint, ...]]] = {
        "n_splits": (_SPLITS,),
        "n_repeats": (COUNT,),
        "random_state": (RANDOM_STATE,),
    }

    def __init__(
        self,
        *,
        n_splits: int = 5,
        n_repeats: int = 10,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: ARG002 - scikit-learn's
        """Return the number of splits."""
        return int(self.n_splits * self.n_repeats)

    def divide(self, n_rows: int, classes: Any = None, groups: Any = None) -> Folds:  # noqa: ARG002 - as others
        """Return how the rows are divided, and the parts of each split."""
        self._check(n_rows)
        seeds = np.random.default_rng(_seed(self.random_state)).integers(2**31, size=self.n_repeats)
        divisions: list[Division] = [Shuffled(n_rows, self.n_splits, int(seed)) for seed in seeds]
        splits = [s for number in range(len(seeds)) for s in each_held_out(number, self.n_splits)]
        return divisions, splits


class DistributedShuffleSplit(Splitter):
    """Random test and training rows, drawn anew for each split, the same for every chunking.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits.
    test_size, train_size : float, int or None, default=None
        Share (float) or number (int) of the test rows and of the training rows.  None takes the
        rows that the other leaves.  If both are None, a tenth are test rows.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    See Also
    --------
    sklearn.model_selection.ShuffleSplit

    Notes
    -----
    Splits have the same sizes as those of scikit-learn's `ShuffleSplit`, but other rows.

    Examples
    --------
    >>> from dask_dml.model_selection import DistributedShuffleSplit
    >>> cv = DistributedShuffleSplit(2, test_size=0.3, random_state=0)
    >>> [(len(train), len(test)) for train, test in cv.split(range(10))]
    [(7, 3), (7, 3)]
    """

    _constraints: ClassVar[dict[str, tuple[Constraint, ...]]] = {
        "n_splits": (COUNT,),
        "test_size": (Interval(Real, 0.0, 1.0, "neither"), COUNT, NONE),
        "train_size": (Interval(Real, 0.0, 1.0, "neither"), COUNT, NONE),
        "random_state": (RANDOM_STATE,),
    }

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | None = None,
        train_size: float | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.test_size = test_size
        self.train_size = train_size
        self.random_state = random_state

    def divide(self, n_rows: int, classes: Any = None, groups: Any = None) -> Folds:  # noqa: ARG002 - as others
        """Return how the rows are divided, and the parts of each split."""
        check_parameters(type(self).__name__, self.get_params(), self._constraints)
        test_size = self.test_size
        if test_size is None and self.train_size is None:
            test_size = TEST_SHARE
        n_train, n_test = split_sizes(n_rows, test_size, self.train_size)
        seeds = np.random.default_rng(_seed(self.random_state)).integers(2**31, size=self.n_splits)
        divisions: list[Division] = [Drawn(n_rows, (n_test, n_train), int(seed)) for seed in seeds]
        return divisions, [Split(number, (1,), (0,)) for number in range(len(seeds))]


class DistributedStratifiedKFold(Splitter):
    """K folds that keep the proportions of the classes, the same for every chunking.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least two.
    shuffle : bool, default=False
        Whether the rows of each class are drawn at random.  If False, the folds are those of
        scikit-learn's `StratifiedKFold`.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    See Also
    --------
    sklearn.model_selection.StratifiedKFold

    Notes
    -----
    Searches of this package count the rows of each class on the workers.  The labels stay there.

    Examples
    --------
    >>> from dask_dml.model_selection import DistributedStratifiedKFold
    >>> cv = DistributedStratifiedKFold(2)
    >>> [test.tolist() for _, test in cv.split(range(6), [0, 0, 1, 1, 1, 1])]
    [[0, 2, 3], [1, 4, 5]]
    """

    _constraints = DistributedKFold._constraints

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

    def divide(
        self,
        n_rows: int,
        classes: Callable[[], ClassPieces] | None = None,
        groups: Any = None,  # noqa: ARG002 - as others
    ) -> Folds:
        """Return how the rows are divided, and the parts of each split."""
        self._check(n_rows)
        if classes is None:
            raise ValueError(f"{type(self).__name__} keeps the shares of classes: y is needed.")
        seed = _seed(self.random_state) if self.shuffle else None
        return [by_class(classes(), self.n_splits, seed)], each_held_out(0, self.n_splits)


class DistributedTimeSeriesSplit(Splitter):
    """Training rows that come before the test rows, for tables in the order of time.

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits, at least two.
    max_train_size : int or None, default=None
        Largest number of training rows.  None takes all rows before the gap.
    test_size : int or None, default=None
        Number of test rows.  None stands for ``n_samples // (n_splits + 1)``.
    gap : int, default=0
        Rows between the training rows and the test rows that are left out.

    See Also
    --------
    sklearn.model_selection.TimeSeriesSplit

    Notes
    -----
    The splits are those of scikit-learn's `TimeSeriesSplit`.  Rows are known by their position
    alone.

    Examples
    --------
    >>> from dask_dml.model_selection import DistributedTimeSeriesSplit
    >>> cv = DistributedTimeSeriesSplit(2)
    >>> [(train.tolist(), test.tolist()) for train, test in cv.split(range(6))]
    [([0, 1], [2, 3]), ([0, 1, 2, 3], [4, 5])]
    """

    _constraints: ClassVar[dict[str, tuple[Constraint, ...]]] = {
        "n_splits": (_SPLITS,),
        "max_train_size": (COUNT, NONE),
        "test_size": (COUNT, NONE),
        "gap": (Interval(Integral, 0),),
    }

    def __init__(
        self,
        n_splits: int = 5,
        *,
        max_train_size: int | None = None,
        test_size: int | None = None,
        gap: int = 0,
    ) -> None:
        self.n_splits = n_splits
        self.max_train_size = max_train_size
        self.test_size = test_size
        self.gap = gap

    def divide(self, n_rows: int, classes: Any = None, groups: Any = None) -> Folds:  # noqa: ARG002 - as others
        """Return how the rows are divided, and the parts of each split.

        Raises
        ------
        ValueError
            If there are not enough rows.
        """
        check_parameters(type(self).__name__, self.get_params(), self._constraints)
        size = n_rows // (self.n_splits + 1) if self.test_size is None else self.test_size
        first = n_rows - self.n_splits * size
        if size == 0 or first - self.gap <= 0:
            raise ValueError(
                f"Too many splits={self.n_splits} for number of samples={n_rows} with "
                f"test_size={size} and gap={self.gap}."
            )
        spans = []
        for start in range(first, n_rows, size):
            end = start - self.gap
            begin = 0 if self.max_train_size is None else max(end - self.max_train_size, 0)
            spans.append((begin, end, start, start + size))
        bounds = sorted({bound for span in spans for bound in span} - {0, n_rows})
        starts_of_parts = np.array([0, *bounds])

        def between(low: int, high: int) -> tuple[int, ...]:
            inside = (starts_of_parts >= low) & (starts_of_parts < high)
            return tuple(int(part) for part in np.flatnonzero(inside))

        splits = [Split(0, between(a, b), between(c, d)) for a, b, c, d in spans]
        return [Cut(tuple(bounds))], splits


def by_class(pieces: ClassPieces, n_splits: int, seed: int | None) -> ByClass:
    """Return the division that gives each part its share of each class.

    Raises
    ------
    ValueError
        If there are more folds than rows of any class.
    """
    of_piece = dict(sorted(pieces.of_piece.items()))
    classes = np.unique(np.concatenate([found for found, _, _ in of_piece.values()]))
    totals = np.zeros(len(classes), dtype=np.int64)
    seen: list[int] = []
    before = {}
    for piece, (found, rows, first) in of_piece.items():
        codes = np.searchsorted(classes, found)
        before[piece] = totals.copy()
        totals[codes] += rows
        seen.extend(int(code) for code in codes[np.argsort(first)] if code not in seen)
    if n_splits > totals.max():
        raise ValueError(
            f"n_splits={n_splits} cannot be greater than the number of members in each class."
        )
    if n_splits > totals.min():
        warnings.warn(
            f"The least populated class in y has only {totals.min()} members, which is less than "
            f"n_splits={n_splits}.",
            UserWarning,
            stacklevel=2,
        )
    # As scikit-learn: the classes in the order in which they occur, dealt out row by row.
    ends = np.cumsum(totals[seen])
    starts = ends - totals[seen]
    number = np.arange(n_splits)
    dealt = (ends[:, None] - number - 1) // n_splits - (starts[:, None] - number - 1) // n_splits
    bounds = np.empty_like(dealt)
    bounds[seen] = np.cumsum(dealt, axis=1)
    return ByClass(classes, bounds, before, seed)


def each_held_out(division: int, n_parts: int) -> list[Split]:
    """Return the splits that hold out one part of a division each."""
    numbers = range(n_parts)
    return [Split(division, tuple(n for n in numbers if n != held), (held,)) for held in numbers]


def _seed(random_state: Any) -> int:
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _count(X: Any) -> int:
    if is_dask(X):
        from dask_dml.input.align import count_rows, known_sizes

        known = known_sizes(X)
        return int(sum(count_rows(X) if known is None else known))
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _in_memory(y: Any) -> np.ndarray:
    labels = np.asarray(y.compute() if is_dask(y) else y)
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
