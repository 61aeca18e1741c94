"""Learners of tables of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array

from dask_dml.blocks import Shard
from dask_dml.input.chunks import describe_nonfinite_rows, make_block
from dask_dml.input.containers import is_sparse, to_matrix
from dask_dml.preprocessing.digests import (
    Extremes,
    Parts,
    Sketch,
    Within,
    interpolate,
    neighbours,
)
from dask_dml.preprocessing.learning import Learned
from dask_dml.preprocessing.tables import Table, is_frame, is_nan, mask


def numbers(table: Table, number: int, dtype: np.dtype, marker: Any = np.nan) -> Any:
    """Return a chunk's numbers as an ndarray or CSR matrix, with NaN where they are missing.

    Parameters
    ----------
    table : table
        The chunk; left alone.
    number : int
        Its number, for errors.
    dtype : dtype
        float32 or float64.
    marker : object, default=nan
        What stands for a missing value.

    Raises
    ------
    ValueError
        If a column is not numeric, or something is infinite, or NaN that does not stand for a
        missing value; the message names it.
    """
    X = to_matrix(table, dtype, f" in chunk {number}")
    values = X.data if is_sparse(X) else X
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(values.sum())
    if not is_nan(marker):
        if suspicious:
            check_array(X, accept_sparse="csr", input_name="X")  # says so of NaN and infinity
        missing = mask(values, marker)
        if missing.any():
            X = X.copy()
            (X.data if is_sparse(X) else X)[missing] = np.nan
        return X
    if suspicious and np.isinf(values).any():
        names = list(table.columns) if is_frame(table) and table.ndim == 2 else None
        raise ValueError(
            describe_nonfinite_rows(
                X, names, lambda row: f"chunk {number}, row {row} of the chunk", np.isinf
            )
        )
    return X


@dataclass(frozen=True)
class WeightedMoments:
    """Moments of rows that have weights."""

    moments: Any


@dataclass(frozen=True)
class MomentsLearner:
    """Means and variances: learnt are `dask_dml.passes.partials.ColumnMoments`.

    Attributes
    ----------
    dtype : dtype
        Of the numbers.
    centre, scale : bool
        Whether means, and variances, are to be used.
    marker : object, default=nan
        What stands for a missing value.
    weighted : bool, default=False
        Whether rows have weights; learnt are `WeightedMoments` then.
    """

    dtype: np.dtype
    centre: bool
    scale: bool
    marker: Any = np.nan
    weighted: bool = False

    def observe(self, table: Table, number: int, weight: Any = None) -> Any:
        """Return the moments of a chunk's columns."""
        from dask_dml.passes.evaluate import Use, column_moments

        X = numbers(table, number, self.dtype, self.marker)
        block = make_block(
            X, None, weight, number=number, n_features=X.shape[1], n_outputs=0, dtype=self.dtype
        )
        return column_moments(Shard(number, (block,)), Use(self.centre, self.scale))

    def after(self, total: Any) -> Learned:
        """Return the moments of all rows."""
        return Learned(WeightedMoments(total) if self.weighted else total)

    def filled(self, total: Any, values: np.ndarray, marker: Any) -> Any:
        """Return the moments after missing values have been replaced, by one for each column."""
        if self.weighted or not is_nan(marker):
            return None  # the weight of the missing ones is not known
        nothing = np.zeros(len(total.weight))
        n_missing = total.n_rows - total.weight
        values = values.astype(np.float64)
        return total + type(total)(0, n_missing, values, nothing, nothing)


@dataclass(frozen=True)
class ExtremesLearner:
    """Smallest and largest values: learnt are `Extremes`."""

    dtype: np.dtype

    def observe(self, table: Table, number: int) -> Extremes:
        """Return the extremes of a chunk."""
        return Extremes.of(numbers(table, number, self.dtype))

    def after(self, total: Extremes) -> Learned:
        """Return the extremes of all rows."""
        return Learned(total)

    def filled(self, total: Extremes, values: np.ndarray, marker: Any) -> Extremes | None:
        """Return the extremes after missing values have been replaced, by one for each column."""
        return total.filled(values.astype(np.float64)) if is_nan(marker) else None


@dataclass(frozen=True)
class Quantiles:
    """What `OrderLearner` learns.

    Attributes
    ----------
    values : ndarray of shape (n_quantiles, n_features)
        NaN where a column has no value.
    n, n_missing : ndarray of shape (n_features,)
        Numbers of values, and of missing ones.
    """

    values: np.ndarray
    n: np.ndarray
    n_missing: np.ndarray


@dataclass(frozen=True)
class OrderLearner:
    """Quantiles, exactly: learnt are `Quantiles`.

    The first pass brackets them; it is the only one where a column has few different values, or
    few values at all.  The second one looks at the values inside of the brackets.

    Attributes
    ----------
    dtype : dtype
        Of the numbers.
    quantiles : tuple of float
        Between 0 and 1.
    marker : object, default=nan
        What stands for a missing value.
    """

    dtype: np.dtype
    quantiles: tuple[float, ...]
    marker: Any = np.nan

    def observe(self, table: Table, number: int) -> Parts:
        """Return the sketches of a chunk's columns."""
        X = numbers(table, number, self.dtype, self.marker)
        return Parts.of(Sketch.of(*column) for column in columns_of(X))

    def after(self, total: Parts) -> OrderSearch | Learned:
        """Return the quantiles, or the search inside of their brackets."""
        search = OrderSearch(self.dtype, self.quantiles, self.marker, total)
        if any(search.open_brackets()):
            return search
        return search.after(Parts.of(Within((), ()) for _ in total.items))

    def filled(self, total: Parts, values: np.ndarray, marker: Any) -> Parts | None:
        """Return the sketches after missing values have been replaced, by one for each column."""
        if not is_nan(marker):
            return None
        return Parts.of(s.filled(v) for s, v in zip(total.items, values, strict=True))


@dataclass(frozen=True)
class SketchLearner:
    """Order statistics within bounds: learnt are the number of rows and each column's `Sketch`.

    Attributes
    ----------
    dtype : dtype
        Of the numbers.
    stored_only : bool, default=False
        Whether zeros that sparse columns do not store are left out.
    """

    dtype: np.dtype
    stored_only: bool = False

    def observe(self, table: Table, number: int) -> Parts:
        """Return the number of rows of a chunk and the sketches of its columns."""
        X = numbers(table, number, self.dtype)
        columns = columns_of(X)
        return Parts(
            (
                int(X.shape[0]),
                *(Sketch.of(v, 0 if self.stored_only else n_zeros) for v, n_zeros in columns),
            )
        )

    def after(self, total: Parts) -> Learned:
        """Return the number of all rows and the sketches of the columns."""
        return Learned(total)

    def filled(self, total: Parts, values: np.ndarray, marker: Any) -> Parts | None:
        """Return the digest after missing values have been replaced, by one for each column."""
        if not is_nan(marker):
            return None
        n_rows, *sketches = total.items
        return Parts((n_rows, *(s.filled(v) for s, v in zip(sketches, values, strict=True))))


@dataclass(frozen=True)
class OrderSearch:
    """The second pass of `OrderLearner`."""

    dtype: np.dtype
    quantiles: tuple[float, ...]
    marker: Any
    sketches: Parts

    def observe(self, table: Table, number: int) -> Parts:
        """Return what lies inside of the brackets."""
        columns = columns_of(numbers(table, number, self.dtype, self.marker))
        return Parts.of(
            Within.of(values, brackets, n_zeros)
            for (values, n_zeros), brackets in zip(columns, self.open_brackets(), strict=True)
        )

    def after(self, total: Parts) -> Learned:
        """Return the quantiles."""
        sketches = self.sketches.items
        columns = zip(sketches, self.open_brackets(), total.items, strict=True)
        values = np.array([self._column(*column) for column in columns])
        return Learned(
            Quantiles(
                values.reshape(-1, len(self.quantiles)).T,
                np.array([sketch.n for sketch in sketches], np.int64),
                np.array([sketch.n_missing for sketch in sketches], np.int64),
            )
        )

    def open_brackets(self) -> list[list[tuple[float, float]]]:
        """Return, for every column, the brackets of the order statistics not known yet."""
        every = [[s.bracket(r) for r in self._ranks(s)] for s in self.sketches.items]
        return [list(dict.fromkeys(b for b in some if b[0] < b[1])) for some in every]

    def _ranks(self, sketch: Sketch) -> list[int]:
        if not sketch.n:
            return []
        return sorted({r for q in self.quantiles for r in neighbours(sketch.n, q)[:2]})

    def _column(
        self, sketch: Sketch, brackets: Sequence[tuple[float, float]], within: Within
    ) -> list[float]:
        if not sketch.n:
            return [np.nan] * len(self.quantiles)

        def value(rank: int) -> float:
            bracket = sketch.bracket(rank)
            if bracket[0] == bracket[1]:
                return bracket[0]
            return within.value(brackets.index(bracket), rank)

        made = []
        for quantile in self.quantiles:
            low, high, share = neighbours(sketch.n, quantile)
            made.append(interpolate(value(low), value(high), share))
        return made


def columns_of(X: Any) -> list[tuple[np.ndarray, int]]:
    """Return every column's values, and how many zeros are not written down."""
    if not is_sparse(X):
        return [(values, 0) for values in X.T]
    X = X.tocsc()
    bounds = zip(X.indptr[:-1], X.indptr[1:], strict=True)
    return [(X.data[a:b], X.shape[0] - int(b - a)) for a, b in bounds]
