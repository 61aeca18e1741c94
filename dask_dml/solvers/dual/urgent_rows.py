"""Rows that travel to the driver with their dual variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Matrix


@dataclass(frozen=True)
class UrgentRows:
    """Rows with their labels, dual variables and costs; ``+`` puts them one after the other."""

    X: Matrix
    sign: np.ndarray
    alpha: np.ndarray
    cost: np.ndarray

    def __add__(self, other: UrgentRows) -> UrgentRows:
        return joined([self, other])


class Gathering:
    """Rows of several blocks that are put one after the other, with no second copy of them.

    Arrays grow in place, which large ones do without being copied.

    Parameters
    ----------
    n_columns : int
        Columns of the rows.
    sparse : bool
        Whether rows of any block are sparse.
    """

    def __init__(self, n_columns: int, *, sparse: bool) -> None:
        self._n_columns, self._sparse = n_columns, sparse
        self._values = [np.empty(0) for _ in range(3)]
        self._entries: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []

    def add(self, rows: UrgentRows) -> None:
        """Put rows behind those that are there."""
        for kept, new in zip(self._values, (rows.sign, rows.alpha, rows.cost), strict=True):
            _extend(kept, new)
        entries = [np.ravel(rows.X)]
        if self._sparse:
            X = sp.csr_array(rows.X)
            before = len(self._entries[0]) if self._entries else 0
            self._ends.append(before + X.indptr[1:].astype(np.int64))
            entries = [X.data, X.indices]
        if not self._entries:
            self._entries = [np.empty(0, one.dtype) for one in entries]
        for kept, new in zip(self._entries, entries, strict=True):
            _extend(kept, new)

    def rows(self) -> UrgentRows:
        """Return all of them."""
        shape = len(self._values[0]), self._n_columns
        if not self._sparse:
            return UrgentRows(self._entries[0].reshape(shape), *self._values)
        starts = np.concatenate([np.zeros(1, np.int64), *self._ends])
        if starts[-1] <= np.iinfo(self._entries[1].dtype).max:
            # Of another type than the column numbers, they would have these copied.
            starts = starts.astype(self._entries[1].dtype)
        return UrgentRows(sp.csr_array((*self._entries, starts), shape=shape), *self._values)


def _extend(kept: np.ndarray, new: np.ndarray) -> None:
    n = len(kept)
    kept.resize(n + len(new), refcheck=False)
    kept[n:] = new


def joined(parts: Sequence[UrgentRows]) -> UrgentRows:
    """Return rows of several parts, one after the other."""
    some = [part for part in parts if len(part.sign)] or list(parts[:1])
    if len(some) == 1:
        return some[0]
    if any(sp.issparse(part.X) for part in some):
        X = sp.vstack([sp.csr_array(part.X) for part in some], format="csr")
    else:
        X = np.concatenate([part.X for part in some])
    return UrgentRows(
        X,
        np.concatenate([part.sign for part in some]),
        np.concatenate([part.alpha for part in some]),
        np.concatenate([part.cost for part in some]),
    )
