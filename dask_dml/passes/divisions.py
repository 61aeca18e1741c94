"""Divisions of the rows into parts, none of which depends on how the rows are chunked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: A run of rows: the chunk that they come from, and the first of them in it.
Piece = tuple[int, int]


class Division(Protocol):
    """A division of all rows of the table into parts.

    Attributes
    ----------
    n_parts : int
        Number of parts.
    """

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        ...

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Return the part of each of some consecutive rows of the table."""
        ...


@dataclass(frozen=True)
class Consecutive:
    """Parts of consecutive rows, of sizes that differ by one at most; the first are the largest.

    Attributes
    ----------
    n_rows : int
        Rows of the table.
    n_parts : int
        Number of parts.
    """

    n_rows: int
    n_parts: int

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Return the part of each of some consecutive rows of the table."""
        return self.of_positions(np.arange(start, stop))

    def of_positions(self, positions: np.ndarray) -> np.ndarray:
        """Return the part of each position."""
        sizes = np.full(self.n_parts, self.n_rows // self.n_parts)
        sizes[: self.n_rows % self.n_parts] += 1
        return np.searchsorted(np.cumsum(sizes), positions, side="right")


@dataclass(frozen=True)
class Shuffled:
    """Parts of rows at random, of the sizes of `Consecutive`.

    A row's part is a function of its position and the seed: nothing of the size of the table is
    needed.

    Attributes
    ----------
    n_rows : int
        Rows of the table.
    n_parts : int
        Number of parts.
    seed : int
        Seed.
    """

    n_rows: int
    n_parts: int
    seed: int

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Return the part of each of some consecutive rows of the table."""
        shuffled = permuted(np.arange(start, stop), self.n_rows, self.seed)
        return Consecutive(self.n_rows, self.n_parts).of_positions(shuffled)


@dataclass(frozen=True)
class Drawn:
    """Parts of rows at random, of given sizes.

    Attributes
    ----------
    n_rows : int
        Rows of the table.
    sizes : tuple of int
        Rows of every part but the last, which has the rest.
    seed : int
        Seed.
    """

    n_rows: int
    sizes: tuple[int, ...]
    seed: int

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return len(self.sizes) + 1

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Return the part of each of some consecutive rows of the table."""
        drawn = permuted(np.arange(start, stop), self.n_rows, self.seed)
        return np.searchsorted(np.cumsum(self.sizes), drawn, side="right")


@dataclass(frozen=True)
class Cut:
    """Parts between some rows.

    Attributes
    ----------
    bounds : tuple of int
        First row of every part but the first, ascending.
    """

    bounds: tuple[int, ...]

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return len(self.bounds) + 1

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Return the part of each of some consecutive rows of the table."""
        return np.searchsorted(np.array(self.bounds), np.arange(start, stop), side="right")


@dataclass(frozen=True)
class Listed:
    """Parts that are listed row by row.

    Attributes
    ----------
    part : ndarray of int of shape (n_samples,)
        Part of each row.
    n_parts : int
        Number of parts.
    """

    part: np.ndarray
    n_parts: int

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Return the part of each of some consecutive rows of the table."""
        return self.part[start:stop]


@dataclass(frozen=True)
class Runs:
    """Parts of runs of consecutive rows.

    Attributes
    ----------
    first : ndarray of int of shape (n_runs,)
        First row of each run, ascending from zero.
    part : ndarray of int of shape (n_runs,)
        Part of each run.
    n_parts : int
        Number of parts.
    """

    first: np.ndarray
    part: np.ndarray
    n_parts: int

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Return the part of each of some consecutive rows of the table."""
        low = int(np.searchsorted(self.first, start, side="right")) - 1
        high = int(np.searchsorted(self.first, stop, side="left"))
        edges = np.append(np.maximum(self.first[low:high], start), stop)
        return np.repeat(self.part[low:high], np.diff(edges))


@dataclass(frozen=True)
class ByClass:
    """Parts that all have their share of each class.

    The rows of a class are numbered, in their order or at random, and the numbers are cut.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The classes as the blocks hold them.
    bounds : ndarray of int of shape (n_classes, n_parts)
        Rows of a class in all parts up to each one.
    before : mapping of (chunk, first row) to ndarray of shape (n_classes,)
        Rows of each class before a run of rows.
    seed : int or None
        Seed; None keeps the order.
    """

    classes: np.ndarray
    bounds: np.ndarray
    before: Mapping[Piece, np.ndarray]
    seed: int | None

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return self.bounds.shape[1]

    def parts(self, start: int, stop: int) -> np.ndarray:  # noqa: ARG002 - as others
        """Raise: the part depends on the class, see `of_labels`."""
        raise TypeError("the parts of rows by class need the classes")

    def of_labels(self, y: np.ndarray, piece: Piece) -> np.ndarray:
        """Return the part of each of some consecutive rows with the given classes."""
        codes = np.searchsorted(self.classes, y)
        order = np.argsort(codes, kind="stable")
        first = np.searchsorted(codes[order], np.arange(len(self.classes)))
        number = np.empty(len(y), dtype=np.int64)
        number[order] = np.arange(len(y)) - first[codes[order]]
        number += self.before[piece][codes]
        parts = np.empty(len(y), dtype=np.int64)
        for code, bounds in enumerate(self.bounds):
            mine = codes == code
            at = number[mine]
            if self.seed is not None:
                at = permuted(at, int(bounds[-1]), self.seed + code + 1)
            parts[mine] = np.searchsorted(bounds, at, side="right")
        return parts


@dataclass(frozen=True)
class ClassPieces:
    """Which classes the runs of rows have; ``+`` joins.

    Attributes
    ----------
    of_piece : dict of (chunk, first row) to (classes, rows, first)
        By run of rows: its classes, the number of rows of each, and the first row of each in it.
    """

    of_piece: dict[Piece, tuple[np.ndarray, np.ndarray, np.ndarray]]

    def __add__(self, other: ClassPieces) -> ClassPieces:
        return ClassPieces({**self.of_piece, **other.of_piece})

    @classmethod
    def of(cls, y: np.ndarray, piece: Piece = (0, 0)) -> ClassPieces:
        """Return the classes of one run of rows."""
        classes, first, rows = np.unique(y, return_index=True, return_counts=True)
        return cls({piece: (classes, rows, first)})


@dataclass(frozen=True)
class Split:
    """The rows of one fold, as parts of a division.

    Attributes
    ----------
    division : int
        Which division.
    train, test : tuple of int
        Its parts to fit and to score.
    """

    division: int
    train: tuple[int, ...]
    test: tuple[int, ...]


def permuted(positions: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return where a random permutation of ``range(n)`` sends some positions.

    A Feistel network over the next power of four, walked until it ends below ``n`` (Black and
    Rogaway, 2002).
    """
    half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
    mask = np.uint64((1 << half) - 1)
    keys = np.random.default_rng(seed).integers(1, 2**63, size=8, dtype=np.uint64) | np.uint64(1)
    walked = positions.astype(np.uint64)
    beyond = np.ones(len(walked), dtype=np.bool_)
    while beyond.any():
        walked[beyond] = _feistel(walked[beyond], keys, np.uint64(half), mask)
        beyond = walked >= n
    return walked.astype(np.int64)


def _feistel(values: np.ndarray, keys: np.ndarray, half: np.uint64, mask: np.uint64) -> np.ndarray:
    left, right = values >> half, values & mask
    with np.errstate(over="ignore"):
        for key in keys:
            # The high bits of a product depend on all bits of its factors.
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
            mixed *= key
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
    return (left << half) | right
