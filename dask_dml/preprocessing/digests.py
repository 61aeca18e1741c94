"""Digests: what a pass keeps of columns, and what adding two of them means.

Each is of a column's values as a collection in which order does not matter, so that the digest of
all rows is the sum of the chunks' digests.  ``filled(values)`` gives the digest of the column after
its missing values have been filled in, which saves the pass that a filled column would need.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dask_dml.input.containers import is_sparse
from dask_dml.preprocessing.tables import same_value

#: Points that a sketch of a column keeps at most; a sum has up to twice as many for a moment.
CAPACITY = 8192

_MISSING = ("None", "NaT", "NA", "NaN")


@dataclass(frozen=True)
class Counts:
    """How often each value of a column occurs.

    Attributes
    ----------
    seen : dict of object to int
        Values that are not missing.
    missing : dict of str to int
        Missing values by kind: "None", "NaT", "NA", "NaN".
    """

    seen: dict[Any, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Any) -> Counts:
        """Count the values of a Series or a one-dimensional ndarray."""
        series = values if hasattr(values, "iloc") else _series(values)
        counted = series.value_counts(dropna=False, sort=False)
        counted = counted[counted > 0]  # a categorical counts what does not occur, too
        seen: dict[Any, int] = {}
        missing: dict[str, int] = {}
        for value, count in zip(counted.index.tolist(), counted.tolist(), strict=True):
            kind = kind_of_missing(value)
            if kind is None:
                seen[value] = seen.get(value, 0) + count
            else:
                # scikit-learn turns nullable numbers into floats.
                kind = "NaN" if kind == "NA" and series.dtype != object else kind
                missing[kind] = missing.get(kind, 0) + count
        return cls(seen, missing)

    def __add__(self, other: Counts) -> Counts:
        return Counts(_merged(self.seen, other.seen), _merged(self.missing, other.missing))

    def without(self, marker: Any) -> Counts:
        """Return the counts with nothing that a marker of missing values stands for."""
        seen = {v: n for v, n in self.seen.items() if not same_value(v, marker)}
        kept = {k: n for k, n in self.missing.items() if not same_value(_VALUES[k](), marker)}
        return Counts(seen, kept)

    def filled(self, value: Any, marker: Any) -> Counts:
        """Return the counts after the values that a marker stands for have become another."""
        left = self.without(marker)
        count = self.n_rows - left.n_rows
        return left + Counts({value: count}) if count else left

    @property
    def n_rows(self) -> int:
        """Number of values, missing ones among them."""
        return sum(self.seen.values()) + sum(self.missing.values())

    def values(self) -> list[Any]:
        """Return the different values, one for each kind of missing ones among them."""
        return [*self.seen, *(_VALUES[kind]() for kind in _MISSING if kind in self.missing)]

    def count(self, value: Any) -> int:
        """Return how often a value occurs."""
        kind = kind_of_missing(value)
        return self.seen.get(value, 0) if kind is None else self.missing.get(kind, 0)


def kind_of_missing(value: Any) -> str | None:
    """Return which kind of missing value something is; None for all others."""
    import pandas as pd

    if value is None:
        return "None"
    if value is pd.NaT:
        return "NaT"
    if value is pd.NA:
        return "NA"
    return "NaN" if isinstance(value, float | np.floating) and np.isnan(value) else None


def _nothing() -> None:
    return None


def _nat() -> Any:
    import pandas as pd

    return pd.NaT


def _na() -> Any:
    import pandas as pd

    return pd.NA


def _nan() -> float:
    return float("nan")


_VALUES = {"None": _nothing, "NaT": _nat, "NA": _na, "NaN": _nan}


def _series(values: np.ndarray) -> Any:
    import pandas as pd

    # Left to itself, pandas would take an array of texts and None for texts and NaN.
    return pd.Series(values, dtype=object if values.dtype.kind in "OUS" else None)


def _merged(one: dict[Any, int], other: dict[Any, int]) -> dict[Any, int]:
    if len(one) < len(other):
        one, other = other, one
    total = dict(one)
    for value, count in other.items():
        total[value] = total.get(value, 0) + count
    return total


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest values of columns.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    low, high : ndarray of shape (n_features,)
        NaN where a column has no value.
    n_missing : ndarray of shape (n_features,)
        Values that are NaN.
    """

    n_rows: int
    low: np.ndarray
    high: np.ndarray
    n_missing: np.ndarray

    @classmethod
    def of(cls, X: Any) -> Extremes:
        """Return the extremes of an ndarray or CSR matrix of floats."""
        if not X.shape[0]:
            nothing = np.full(X.shape[1], np.nan)
            return cls(0, nothing, nothing, np.zeros(X.shape[1], np.int64))
        if is_sparse(X):
            low, high = (np.asarray(f(axis=0).todense()).ravel() for f in (X.nanmin, X.nanmax))
            holes = np.bincount(X.indices[np.isnan(X.data)], minlength=X.shape[1])
        else:
            # fmin and fmax leave NaN out, and say nothing of columns without a value.
            low, high = np.fmin.reduce(X, axis=0), np.fmax.reduce(X, axis=0)
            holes = np.isnan(X).sum(axis=0)
        return cls(X.shape[0], low, high, holes)

    def __add__(self, other: Extremes) -> Extremes:
        return Extremes(
            self.n_rows + other.n_rows,
            np.fmin(self.low, other.low),
            np.fmax(self.high, other.high),
            self.n_missing + other.n_missing,
        )

    def filled(self, values: np.ndarray) -> Extremes:
        """Return the extremes after NaN has been replaced, by a value for each column."""
        values = np.where(self.n_missing > 0, values, np.nan)
        low, high = np.fmin(self.low, values), np.fmax(self.high, values)
        return Extremes(self.n_rows, low, high, np.zeros_like(self.n_missing))


@dataclass(frozen=True)
class Sketch:
    """A column's order statistics, within bounds that hold whatever the values are.

    A sketch of few different values keeps all of them, and so is exact.  Of more, it keeps some,
    with bounds of how many values lie below: bounds add up when sketches do, so that the bracket
    of an order statistic narrows down to a share of about (levels of the sum + 1) / `CAPACITY` of
    the values.  (The merging of summaries follows Agarwal et al., 2012.)

    Attributes
    ----------
    n : int
        Number of values.
    n_missing : int
        Values that are NaN, and left out.
    points : ndarray of shape (n_points,)
        Values of the column, ascending.
    at_least, at_most : ndarray of int of shape (n_points,)
        Bounds of the number of values up to a point.
    below : ndarray of int of shape (n_points,)
        Upper bound of the number of values below a point.
    """

    n: int
    n_missing: int
    points: np.ndarray
    at_least: np.ndarray
    at_most: np.ndarray
    below: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, n_zeros: int = 0) -> Sketch:
        """Return the sketch of floats and of a number of zeros that are not written down."""
        kept = values[~np.isnan(values)].astype(np.float64, copy=False)
        points, counts = np.unique(kept, return_counts=True)
        sketch = cls.counted(points, counts, len(values) - len(kept))
        return sketch + cls.counted(np.zeros(1), np.array([n_zeros]), 0) if n_zeros else sketch

    @classmethod
    def counted(cls, points: np.ndarray, counts: np.ndarray, n_missing: int) -> Sketch:
        """Return the sketch of values that occur so often each."""
        upto = np.cumsum(counts, dtype=np.int64)
        n = int(upto[-1]) if len(upto) else 0
        return cls(n, n_missing, points, upto, upto, upto - counts)._thinned()

    def __add__(self, other: Sketch) -> Sketch:
        points = np.union1d(self.points, other.points)
        mine, theirs = self._bounds(points), other._bounds(points)
        at_least, at_most, below = (a + b for a, b in zip(mine, theirs, strict=True))
        # What holds further up holds here, too, and may be tighter; brackets need ascending bounds.
        at_most, below = (np.minimum.accumulate(b[::-1])[::-1] for b in (at_most, below))
        n, n_missing = self.n + other.n, self.n_missing + other.n_missing
        return Sketch(n, n_missing, points, at_least, at_most, below)._thinned()

    def filled(self, value: float) -> Sketch:
        """Return the sketch after NaN has been replaced."""
        kept = Sketch(self.n, 0, self.points, self.at_least, self.at_most, self.below)
        if not self.n_missing:
            return kept
        return kept + Sketch.counted(np.array([float(value)]), np.array([self.n_missing]), 0)

    def bracket(self, rank: int) -> tuple[float, float]:
        """Return the bounds of the value of a rank (from 0).

        Returns
        -------
        low, high : float
            Equal where the value is known; otherwise it is above ``low``, and up to ``high``.
        """
        last = int(np.searchsorted(self.at_least, rank + 1))
        high = float(self.points[last])
        if self.below[last] <= rank:
            return high, high
        first = int(np.searchsorted(self.at_most, rank, side="right")) - 1
        return (float(self.points[first]) if first >= 0 else -np.inf), high

    def nearest(self, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return, for each rank (from 0), the value whose own rank is certain to be closest.

        Parameters
        ----------
        ranks : ndarray of int of shape (n_ranks,)
            Below the number of values.

        Returns
        -------
        values : ndarray of shape (n_ranks,)
            Values of the column; ascending where the ranks are.
        errors : ndarray of int of shape (n_ranks,)
            How far, at most, a rank is from those of its value; 0 where the value is exact.
        """
        after = np.searchsorted(self.below + self.at_least, 2 * ranks + 1)
        places = np.stack([np.maximum(after - 1, 0), np.minimum(after, len(self.points) - 1)])
        errors = np.maximum(self.below[places] - ranks, ranks + 1 - self.at_least[places])
        errors = np.maximum(errors, 0)  # below zero the rank is one of several that the value has
        best = np.argmin(errors, axis=0)[None]
        chosen = np.take_along_axis(places, best, axis=0)[0]
        return self.points[chosen], np.take_along_axis(errors, best, axis=0)[0]

    def _bounds(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the three bounds at points, of which all of the sketch's own are some."""
        before = np.searchsorted(self.points, points, side="right")
        after = np.searchsorted(self.points, points, side="left")
        own = before > after
        at_least = np.concatenate([[0], self.at_least])[before]
        below = np.concatenate([self.below, [self.n]])[after]
        at_most = np.where(own, np.concatenate([[0], self.at_most])[before], below)
        return at_least, at_most, below

    def _thinned(self) -> Sketch:
        if len(self.points) <= CAPACITY:
            return self
        wanted = np.linspace(0, self.n, CAPACITY // 2)
        kept = np.unique(np.searchsorted(self.at_least, wanted).clip(0, len(self.points) - 1))
        kept = np.union1d(kept, [0, len(self.points) - 1])
        parts = (self.points, self.at_least, self.at_most, self.below)
        return Sketch(self.n, self.n_missing, *(part[kept] for part in parts))


@dataclass(frozen=True)
class Within:
    """The values of a column inside some intervals, and how many lie below each.

    Attributes
    ----------
    below : tuple of int
        For each interval ``(low, high]``, number of values up to ``low``.
    inside : tuple of ndarray
        The values in it.
    """

    below: tuple[int, ...]
    inside: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, values: np.ndarray, brackets: Sequence[tuple[float, float]], n_zeros: int = 0
    ) -> Within:
        """Look for values, and for a number of zeros that are not written down, in intervals."""
        below, inside = [], []
        for low, high in brackets:
            found = values[(values > low) & (values <= high)].astype(np.float64)
            if low < 0.0 <= high:
                found = np.concatenate([found, np.zeros(n_zeros)])
            below.append(int((values <= low).sum()) + (n_zeros if low >= 0.0 else 0))
            inside.append(found)
        return cls(tuple(below), tuple(inside))

    def __add__(self, other: Within) -> Within:
        below = tuple(a + b for a, b in zip(self.below, other.below, strict=True))
        inside = tuple(np.concatenate(p) for p in zip(self.inside, other.inside, strict=True))
        return Within(below, inside)

    def value(self, interval: int, rank: int) -> float:
        """Return the value of a rank (of the whole column), which lies in the interval."""
        place = rank - self.below[interval]
        return float(np.partition(self.inside[interval], place)[place])


def interpolate(low: float, high: float, share: float) -> float:
    """Return what NumPy's percentiles make of two neighbouring order statistics."""
    return float(np.percentile([low, high], 100.0 * share))


def quantiles(sketch: Sketch, shares: np.ndarray) -> tuple[np.ndarray, float]:
    """Return quantiles as close as a sketch tells them.

    Parameters
    ----------
    sketch : Sketch
        Of a column with at least one value.
    shares : ndarray of shape (n_quantiles,)
        Between 0 and 1.

    Returns
    -------
    values : ndarray of shape (n_quantiles,)
        Interpolated as by NumPy's percentiles.
    error : float
        By what share of the values, at most, the rank of any quantile is off.
    """
    last = sketch.n - 1
    places = shares * last
    low = np.minimum(places.astype(np.int64), last)
    (lower, below), (upper, above) = (
        sketch.nearest(ranks) for ranks in (low, np.minimum(low + 1, last))
    )
    share, step = places - low, upper - lower
    # NumPy's rounding: each half of the way is measured from its nearer end.
    values = np.where(share < 0.5, lower + step * share, upper - step * (1.0 - share))
    return values, float(max(below.max(), above.max()) / sketch.n)


def neighbours(n: int, quantile: float) -> tuple[int, int, float]:
    """Return the ranks on both sides of a quantile of n values, and its share of the way."""
    place = quantile * (n - 1)
    low = min(int(place), n - 1)
    return low, min(low + 1, n - 1), place - low


@dataclass(frozen=True)
class Parts:
    """Several digests that are added up one by one."""

    items: tuple[Any, ...]

    @classmethod
    def of(cls, items: Iterable[Any]) -> Parts:
        """Hold some digests."""
        return cls(tuple(items))

    def __add__(self, other: Parts) -> Parts:
        return Parts(tuple(a + b for a, b in zip(self.items, other.items, strict=True)))
