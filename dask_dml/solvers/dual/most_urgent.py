"""The rows that wait for a change most urgently, found piece by piece in little room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class MostUrgent:
    """Rows with the least values, of those that are added one after the other.

    Parameters
    ----------
    quota : int
        How many rows are wanted at most.

    Notes
    -----
    Rows of minus infinity come first, all alike, and those of infinity never.
    """

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self._n_rows = 0
        self._n_first = 0
        # Which rows come first, a bit for each.
        self._first: list[tuple[int, int, np.ndarray]] = []
        self._rows, self._values = np.empty(0, np.int64), np.empty(0)

    def add(self, urgency: np.ndarray) -> None:
        """Add the next rows."""
        first = np.isneginf(urgency)
        self._first.append((self._n_rows, len(urgency), np.packbits(first)))
        self._n_first += int(np.count_nonzero(first))
        # A row that is less urgent than all that are wanted is never chosen.
        worst = self._values.max() if len(self._values) >= self.quota > 0 else np.inf
        others = np.flatnonzero(~first & (urgency < worst))
        self._rows = np.append(self._rows, others + self._n_rows)
        self._values = np.append(self._values, urgency[others])
        self._n_rows += len(urgency)
        self._shorten(self.quota)

    def _shorten(self, most: int) -> None:
        if most <= 0:
            self._rows, self._values = self._rows[:0], self._values[:0]
        elif most < len(self._values):
            kept = np.argpartition(self._values, most - 1)[:most]
            self._rows, self._values = self._rows[kept], self._values[kept]

    def chosen(self, n_rows: Sequence[int], seed: tuple[int, ...]) -> list[np.ndarray]:
        """Return positions of the most urgent rows, in order, block by block.

        Parameters
        ----------
        n_rows : sequence of int
            Rows of each block.
        seed : tuple of int
            Of the choice among rows that come first, where these are too many.
        """
        first = [
            start + np.flatnonzero(np.unpackbits(bits, count=count))
            for start, count, bits in self._first
        ]
        found = np.concatenate([np.empty(0, np.int64), *first])
        if self.quota < self._n_first:
            # Others than last time: most of those that were sent need no change any more.
            found = np.random.default_rng(seed).choice(found, self.quota, replace=False)
        else:
            self._shorten(self.quota - self._n_first)
            found = np.append(found, self._rows)
        found.sort()
        ends = np.cumsum(n_rows)
        starts = ends - n_rows
        cuts = np.searchsorted(found, np.append(starts, ends[-1]))
        return [
            found[low:high] - start
            for low, high, start in zip(cuts[:-1], cuts[1:], starts, strict=True)
        ]
