"""The training and the test rows of a split as containers of their own, lazily for Dask."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dask_dml.input.kinds import is_dask
from dask_dml.model_selection.draws import Draw, check_rows
from dask_dml.model_selection.split import RowTable, in_row_order, lay_out, take_rows
from dask_dml.passes.divisions import Division, Split


@dataclass(frozen=True)
class FoldDraw:
    """The rows of a split in one chunk; see `dask_dml.model_selection.draws.Draw`.

    Attributes
    ----------
    parts : ndarray of int of shape (n_rows,)
        Part of each row of the chunk.
    split : Split
        Which parts are for training and for testing.
    """

    parts: np.ndarray
    split: Split

    def rows(self, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of training and test rows in the chunk."""
        check_rows(0, len(self.parts), n_rows)
        train, test = (
            np.flatnonzero(np.isin(self.parts, side))
            for side in (self.split.train, self.split.test)
        )
        return train, test

    @property
    def counts(self) -> tuple[float, float]:
        """How many there are of both."""
        train, test = self.rows(len(self.parts))
        return len(train), len(test)


class RowSets:
    """Divides what belongs to the rows of a table.

    Parameters
    ----------
    X : array-like, sparse matrix, DataFrame or Dask collection of shape (n_samples, n_features)
        The table.
    others : sequence
        What has the same rows.
    """

    def __init__(self, X: Any, others: Sequence[Any]) -> None:
        self.X = X
        arrays = [X, *(one for one in others if one is not None)]
        self.table = RowTable(arrays) if any(map(is_dask, arrays)) else None
        self.sizes = [_n_rows(X)] if self.table is None else list(self.table.count())
        self.n_rows = sum(self.sizes)

    def divide(self, array: Any, divisions: Sequence[Division], split: Split) -> tuple[Any, Any]:
        """Return the training and the test rows of something; None of None."""
        if array is None:
            return None, None
        division = divisions[split.division]
        dtype = np.min_scalar_type(division.n_parts)
        first = np.cumsum([0, *self.sizes])
        draws: list[Draw] = [
            FoldDraw(division.parts(int(start), int(stop)).astype(dtype), split)
            for start, stop in itertools.pairwise(first)
        ]
        if self.table is None:
            train, test = (take_rows(array, rows) for rows in draws[0].rows(self.n_rows))
        else:
            train, test = self.table.divide(array, draws)
        return train, test

    def together(self, pieces: Sequence[Any], division: Division, splits: Sequence[Split]) -> Any:
        """Return what belongs to the test rows of splits that divide the table, in row order."""
        bounds = np.cumsum([0, *self.sizes])
        chunks = [
            _positions(division.parts(int(start), int(stop)), splits)
            for start, stop in itertools.pairwise(bounds)
        ]
        if self.table is None:
            return in_row_order(chunks[0], *pieces)
        return lay_out(pieces, chunks, self.sizes)


def _positions(parts: np.ndarray, splits: Sequence[Split]) -> np.ndarray:
    """Return where the test rows of all splits, one after the other, belong."""
    return np.concatenate([np.flatnonzero(np.isin(parts, split.test)) for split in splits])


def _n_rows(X: Any) -> int:
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)
