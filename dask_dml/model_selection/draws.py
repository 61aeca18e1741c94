"""Which rows of which chunk go where: the arithmetic of splitting, with no container in sight.

A *draw* belongs to one chunk.  Its ``rows(n_rows)`` gives the positions of the training and of
the test rows in the chunk, in ascending order; it can be asked as often as need be, wherever the
chunk is, and gives the same rows each time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

Rows: TypeAlias = tuple[np.ndarray, np.ndarray]
Size: TypeAlias = float | int | None

_DEFAULT_TEST_SIZE = 0.25


class Draw(Protocol):
    """The rows of a chunk for training and for testing."""

    def rows(self, n_rows: int) -> Rows:
        """Return the positions of both in a chunk of so many rows."""
        ...

    @property
    def counts(self) -> tuple[float, float]:
        """How many there will be of both; nan where that is not known."""
        ...


@dataclass(frozen=True)
class Counts:
    """Given numbers of random rows.

    Attributes
    ----------
    key : tuple of int
        Seed and number of the chunk.
    n_rows : int
        Rows that the chunk must have.
    n_train, n_test : int
        Rows to draw.
    """

    key: tuple[int, ...]
    n_rows: int
    n_train: int
    n_test: int

    def rows(self, n_rows: int) -> Rows:
        """Return the positions of both in a chunk of so many rows."""
        check_rows(self.key[-1], self.n_rows, n_rows)
        order = np.random.default_rng(self.key).permutation(n_rows)
        return (
            np.sort(order[self.n_test : self.n_test + self.n_train]),
            np.sort(order[: self.n_test]),
        )

    @property
    def counts(self) -> tuple[float, float]:
        """How many there will be of both."""
        return self.n_train, self.n_test


@dataclass(frozen=True)
class Shares:
    """Shares of a chunk whose number of rows is not known beforehand, rounded at random.

    Attributes
    ----------
    key : tuple of int
        Seed and number of the chunk.
    train, test : float
        Shares of the rows.
    """

    key: tuple[int, ...]
    train: float
    test: float

    def rows(self, n_rows: int) -> Rows:
        """Return the positions of both in a chunk of so many rows."""
        both = min(self.train + self.test, 1.0)
        # Rounding down after a random push is right on average, whatever the size of chunks is.
        first, second = np.random.default_rng((*self.key, 1)).random(2)
        n_used = min(n_rows, math.floor(n_rows * both + first)) if both < 1.0 else n_rows
        n_test = min(n_used, math.floor(n_used * self.test / both + second))
        return Counts(self.key, n_rows, n_used - n_test, n_test).rows(n_rows)

    @property
    def counts(self) -> tuple[float, float]:
        """How many there will be of both: not known."""
        return math.nan, math.nan


@dataclass(frozen=True)
class Spans:
    """Consecutive rows.

    Attributes
    ----------
    number : int
        Number of the chunk.
    n_rows : int
        Rows that the chunk must have.
    train, test : tuple of int
        First row, and the row after the last.
    """

    number: int
    n_rows: int
    train: tuple[int, int]
    test: tuple[int, int]

    def rows(self, n_rows: int) -> Rows:
        """Return the positions of both in a chunk of so many rows."""
        check_rows(self.number, self.n_rows, n_rows)
        return np.arange(*self.train), np.arange(*self.test)

    @property
    def counts(self) -> tuple[float, float]:
        """How many there will be of both."""
        return self.train[1] - self.train[0], self.test[1] - self.test[0]


@dataclass(frozen=True)
class Chosen:
    """Rows that have been chosen already, a bit for each.

    Attributes
    ----------
    number : int
        Number of the chunk.
    n_rows : int
        Rows that the chunk must have.
    train, test : ndarray of uint8
        Packed bits.
    """

    number: int
    n_rows: int
    train: np.ndarray
    test: np.ndarray

    def rows(self, n_rows: int) -> Rows:
        """Return the positions of both in a chunk of so many rows."""
        check_rows(self.number, self.n_rows, n_rows)
        train, test = (
            np.flatnonzero(np.unpackbits(bits, count=n_rows)) for bits in (self.train, self.test)
        )
        return train, test

    @property
    def counts(self) -> tuple[float, float]:
        """How many there will be of both."""
        return int(np.bitwise_count(self.train).sum()), int(np.bitwise_count(self.test).sum())


def check_rows(number: int, expected: int, n_rows: int) -> None:
    """Raise ValueError if a chunk has another number of rows than it must have."""
    if n_rows != expected:
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"[{expected}, {n_rows}] in chunk {number}. Chunks of unknown size are taken as "
            "aligned when there are equally many of them; where they are not, call "
            "compute_chunk_sizes() on arrays, or repartition dataframes alike."
        )


def split_sizes(n_samples: int, test_size: Size, train_size: Size) -> tuple[int, int]:
    """Return the numbers of training and test rows, as scikit-learn rounds them.

    Raises
    ------
    ValueError
        In scikit-learn's wording, if there are fewer rows than asked for, or none to train on.
    """
    if test_size is None and train_size is None:
        test_size = _DEFAULT_TEST_SIZE
    for name, size in (("test_size", test_size), ("train_size", train_size)):
        if isinstance(size, int) and size >= n_samples:
            raise ValueError(
                f"{name}={size} should be either positive and smaller than the number of samples "
                f"{n_samples} or a float in the (0, 1) range"
            )
    check_shares(test_size, train_size)
    n_test = n_train = 0
    if test_size is not None:
        whole = isinstance(test_size, int)
        n_test = int(test_size) if whole else math.ceil(test_size * n_samples)
    if train_size is not None:
        whole = isinstance(train_size, int)
        n_train = int(train_size) if whole else math.floor(train_size * n_samples)
    else:
        n_train = n_samples - n_test
    if test_size is None:
        n_test = n_samples - n_train
    if n_train + n_test > n_samples:
        raise ValueError(
            f"The sum of train_size and test_size = {n_train + n_test}, should be smaller than "
            f"the number of samples {n_samples}. Reduce test_size and/or train_size."
        )
    if n_train == 0:
        raise ValueError(
            f"With n_samples={n_samples}, test_size={test_size} and train_size={train_size}, the "
            "resulting train set will be empty. Adjust any of the aforementioned parameters."
        )
    return n_train, n_test


def check_shares(test_size: Size, train_size: Size) -> None:
    """Raise ValueError, in scikit-learn's wording, if two fractions are more than all."""
    if isinstance(test_size, float) and isinstance(train_size, float):
        total = test_size + train_size
        if total > 1:
            raise ValueError(
                f"The sum of test_size and train_size = {total}, should be in the (0, 1) range. "
                "Reduce test_size and/or train_size."
            )


def split_shares(test_size: Size, train_size: Size) -> tuple[float, float]:
    """Return the shares of training and test rows for two sizes that are fractions or None."""
    check_shares(test_size, train_size)
    if test_size is None:
        test_size = _DEFAULT_TEST_SIZE if train_size is None else 1.0 - train_size
    return (1.0 - test_size if train_size is None else float(train_size)), float(test_size)


def apportion(
    total: int, weights: Sequence[int] | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Divide a number by weights, exactly: no part is off its quota by one or more.

    Parameters
    ----------
    total : int
        What to divide; at most the sum of the weights.
    weights : sequence of int
        Non-negative.
    rng : numpy.random.Generator
        Breaks ties among the largest remainders.

    Returns
    -------
    parts : ndarray of int
        They add up to ``total``, and none is larger than its weight.
    """
    weights = np.asarray(weights, dtype=object if total else np.int64)  # beyond 2**63 on the way
    whole = int(weights.sum())
    if total == 0 or whole == 0:
        return np.zeros(len(weights), np.int64)
    parts = (weights * total // whole).astype(np.int64)
    remainder = (weights * total % whole).astype(np.float64)
    short = total - int(parts.sum())
    parts[np.lexsort((rng.random(len(parts)), remainder))[len(parts) - short :]] += 1
    return parts


def draw_counts(sizes: Sequence[int], n_train: int, n_test: int, seed: int) -> list[Draw]:
    """Draw at random, from every chunk its share."""
    rng = np.random.default_rng(seed)
    used = apportion(n_train + n_test, sizes, rng)
    test = apportion(n_test, used, rng)
    return [
        Counts((seed, number), int(size), int(n_used - n), int(n))
        for number, (size, n_used, n) in enumerate(zip(sizes, used, test, strict=True))
    ]


def draw_spans(sizes: Sequence[int], n_train: int, n_test: int) -> list[Draw]:
    """Take the first rows for training, and those that follow for testing."""
    draws: list[Draw] = []
    first = 0
    for number, size in enumerate(sizes):
        cuts = [min(max(n - first, 0), size) for n in (0, n_train, n_train + n_test)]
        draws.append(Spans(number, int(size), (cuts[0], cuts[1]), (cuts[1], cuts[2])))
        first += size
    return draws


def draw_classes(
    codes: np.ndarray,
    classes: np.ndarray,
    sizes: Sequence[int],
    n_train: int,
    n_test: int,
    seed: int,
) -> list[Draw]:
    """Draw at random, so that both parts have the classes' proportions.

    Parameters
    ----------
    codes : ndarray of int of shape (n_samples,)
        Class of every row, as a position in ``classes``.
    classes : ndarray of shape (n_classes,)
        The classes.
    sizes : sequence of int
        Rows of each chunk.
    n_train, n_test : int
        Rows to draw in all.
    seed : int
        Seed.

    Returns
    -------
    draws : list of Draw
        Each class has as many rows in both parts as scikit-learn gives it, and every chunk gives
        its share of each class.

    Raises
    ------
    ValueError
        In scikit-learn's wording, if a class has one row only, or a part fewer rows than there
        are classes.
    """
    counts = np.bincount(codes, minlength=len(classes))
    _check_classes(counts, classes, n_train, n_test)
    rng = np.random.default_rng(seed)
    train_of_class = apportion(n_train, counts, rng)
    test_of_class = apportion(n_test, counts - train_of_class, rng)
    bounds = np.cumsum((0, *sizes))
    chunks = [codes[low:high] for low, high in itertools.pairwise(bounds)]
    held = np.array([np.bincount(chunk, minlength=len(classes)) for chunk in chunks])
    train, test = np.zeros_like(held), np.zeros_like(held)
    for c, (n_class_train, n_class_test) in enumerate(
        zip(train_of_class.tolist(), test_of_class.tolist(), strict=True)
    ):
        used = apportion(n_class_train + n_class_test, held[:, c], rng)
        test[:, c] = apportion(n_class_test, used, rng)
        train[:, c] = used - test[:, c]
    return [
        _choose(number, chunk, train[number], test[number], seed)
        for number, chunk in enumerate(chunks)
    ]


def _choose(
    number: int, codes: np.ndarray, n_train: np.ndarray, n_test: np.ndarray, seed: int
) -> Chosen:
    order = np.random.default_rng((seed, number)).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    ordered = codes[order]
    first = np.searchsorted(ordered, np.arange(len(n_train)))
    rank = np.arange(len(codes)) - first[ordered]
    chosen = np.zeros((2, len(codes)), np.bool_)
    chosen[0, order] = (rank >= n_test[ordered]) & (rank < (n_test + n_train)[ordered])
    chosen[1, order] = rank < n_test[ordered]
    return Chosen(number, len(codes), *np.packbits(chosen, axis=1))


def _check_classes(counts: np.ndarray, classes: np.ndarray, n_train: int, n_test: int) -> None:
    if counts.min() < 2:
        raise ValueError(
            "The least populated classes in y have only 1 member, which is too few. The minimum "
            "number of groups for any class cannot be less than 2. Classes with too few members "
            f"are: {classes[counts < 2].tolist()}"
        )
    for name, size in (("train_size", n_train), ("test_size", n_test)):
        if size < len(counts):
            raise ValueError(
                f"The {name} = {size} should be greater or equal to the number of classes = "
                f"{len(counts)}"
            )
