"""The columns that solvers of support vector machines get to see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_dml.passes.margins import spread

#: Share of the columns that may occur for the others to be left out.
MAX_USED = 0.5


@dataclass(frozen=True)
class Columns:
    """The columns that occur: hashed text has many that do not, which need not travel.

    Attributes
    ----------
    used : ndarray of shape (n_used,) or None
        The columns that solvers get to see; None for all.
    squares : ndarray of shape (n_used,) or None
        Their mean squares, where columns are many.
    n_features : int
        Number of all columns.
    """

    used: np.ndarray | None
    squares: np.ndarray | None
    n_features: int

    def spread(self, coef: np.ndarray) -> np.ndarray:
        """Return coefficients of all columns."""
        return spread(coef, self.used, self.n_features)


def occurring(squares: np.ndarray | None, n_features: int, *, sparse: bool) -> Columns:
    """Return the columns that occur, where leaving out the others pays.

    Parameters
    ----------
    squares : ndarray of shape (n_features,) or None
        Mean squares of the columns, where columns are many.
    n_features : int
        Number of columns.
    sparse : bool
        Whether some block is CSR.
    """
    if squares is not None and sparse:
        used = np.flatnonzero(squares != 0.0).astype(np.int32)
        if 0 < len(used) <= MAX_USED * n_features:
            return Columns(used, squares[used], n_features)
    return Columns(None, squares, n_features)
