"""Second moments in two forms: written out, and as the product of a few rows with themselves."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dask_dml.kernels.rows import jit


class Matrix(Protocol):
    """A positive semi-definite matrix, as minimising a quadratic needs it."""

    def __len__(self) -> int: ...

    def diagonal(self) -> np.ndarray:
        """Return the diagonal."""
        ...

    def scaled(self, scale: np.ndarray, ridge: np.ndarray) -> Matrix:
        """Return ``diag(scale) (M + diag(ridge)) diag(scale)``."""
        ...

    def dot(self, z: np.ndarray) -> np.ndarray:
        """Return ``M z``."""
        ...

    def size(self, z: np.ndarray) -> np.ndarray:
        """Return sums of the sizes of the terms that ``M z`` is made of."""
        ...

    def block(self, chosen: np.ndarray) -> np.ndarray:
        """Return the rows and columns with the given numbers."""
        ...

    def sweep(
        self, c: np.ndarray, l1: np.ndarray, l2: np.ndarray, z: np.ndarray, n: int, tolerance: float
    ) -> float:
        """Run ``n`` sweeps of coordinate descent on ``z``; return the last violation."""
        ...


class Full:
    """A matrix that is written out.

    Parameters
    ----------
    array : ndarray of shape (n, n)
        Its values.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._magnitude: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.array)

    def diagonal(self) -> np.ndarray:
        """Return the diagonal."""
        return np.diagonal(self.array)

    def scaled(self, scale: np.ndarray, ridge: np.ndarray) -> Full:
        """Return ``diag(scale) (M + diag(ridge)) diag(scale)``."""
        matrix = self.array * scale * scale[:, None]
        matrix[np.diag_indices_from(matrix)] += ridge * scale**2
        return Full(matrix)

    def dot(self, z: np.ndarray) -> np.ndarray:
        """Return ``M z``."""
        return np.asarray(self.array @ z)

    def size(self, z: np.ndarray) -> np.ndarray:
        """Return sums of the sizes of the terms that ``M z`` is made of."""
        if self._magnitude is None:
            self._magnitude = np.abs(self.array)
        return np.asarray(self._magnitude @ np.abs(z))

    def block(self, chosen: np.ndarray) -> np.ndarray:
        """Return the rows and columns with the given numbers."""
        return self.array[np.ix_(chosen, chosen)]

    def sweep(
        self, c: np.ndarray, l1: np.ndarray, l2: np.ndarray, z: np.ndarray, n: int, tolerance: float
    ) -> float:
        """Run ``n`` sweeps of coordinate descent on ``z``; return the last violation."""
        return float(_descend(self.array, c, l1, l2, z, n, tolerance))


class Gram:
    """``R'R + diag(ridge)`` of a matrix R of few rows, which alone is kept.

    Parameters
    ----------
    columns : ndarray of shape (n, n_rows)
        The columns of R, one after the other.
    ridge : ndarray of shape (n,), default=None
        Zero if None.
    """

    def __init__(self, columns: np.ndarray, ridge: np.ndarray | None = None) -> None:
        self.columns = np.ascontiguousarray(columns)
        self.ridge = np.zeros(len(columns)) if ridge is None else ridge

    def __len__(self) -> int:
        return len(self.columns)

    def diagonal(self) -> np.ndarray:
        """Return the diagonal."""
        return np.einsum("ij,ij->i", self.columns, self.columns) + self.ridge

    def scaled(self, scale: np.ndarray, ridge: np.ndarray) -> Gram:
        """Return ``diag(scale) (M + diag(ridge)) diag(scale)``."""
        return Gram(self.columns * scale[:, None], (self.ridge + ridge) * scale**2)

    def dot(self, z: np.ndarray) -> np.ndarray:
        """Return ``M z``."""
        return np.asarray(self.columns @ (z @ self.columns) + self.ridge * z)

    def size(self, z: np.ndarray) -> np.ndarray:
        """Return sums of the sizes of the terms that ``M z`` is made of."""
        magnitude = np.abs(self.columns)
        return np.asarray(magnitude @ (np.abs(z) @ magnitude) + self.ridge * np.abs(z))

    def block(self, chosen: np.ndarray) -> np.ndarray:
        """Return the rows and columns with the given numbers."""
        part = self.columns[chosen]
        return np.asarray(part @ part.T) + np.diag(self.ridge[chosen])

    def sweep(
        self, c: np.ndarray, l1: np.ndarray, l2: np.ndarray, z: np.ndarray, n: int, tolerance: float
    ) -> float:
        """Run ``n`` sweeps of coordinate descent on ``z``; return the last violation."""
        squares = np.einsum("ij,ij->i", self.columns, self.columns)
        ridge, fitted = self.ridge + l2, z @ self.columns
        return float(_descend_rows(self.columns, squares, c, l1, ridge, z, fitted, n, tolerance))


@jit
def _descend(
    B: np.ndarray,
    c: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    z: np.ndarray,
    n_sweeps: int,
    tolerance: float,
) -> float:
    """Run sweeps of coordinate descent on ``z``; return the violation of the last full one."""
    n = z.shape[0]
    slope = -c.copy()
    for j in range(n):
        if z[j] != 0.0:
            for i in range(n):
                slope[i] += B[j, i] * z[j]
    violation = np.inf
    for sweep in range(n_sweeps):
        full = sweep % 5 == 0
        worst = 0.0
        for j in range(n):
            if not full and z[j] == 0.0:
                continue
            bend = B[j, j] + l2[j]
            if bend <= 0.0:
                continue
            pull = B[j, j] * z[j] - slope[j]
            new = np.sign(pull) * max(abs(pull) - l1[j], 0.0) / bend
            step = new - z[j]
            if step != 0.0:
                worst = max(worst, abs(step) * bend)
                z[j] = new
                for i in range(n):
                    slope[i] += B[j, i] * step
        if full:
            violation = worst
            if worst <= tolerance:
                break
    return violation


@jit
def _descend_rows(
    columns: np.ndarray,
    squares: np.ndarray,
    c: np.ndarray,
    l1: np.ndarray,
    ridge: np.ndarray,
    z: np.ndarray,
    fitted: np.ndarray,
    n_sweeps: int,
    tolerance: float,
) -> float:
    """Do as `_descend` with ``R z``, the rows' ``fitted`` values, in place of the slopes."""
    n, k = columns.shape
    violation = np.inf
    for sweep in range(n_sweeps):
        full = sweep % 5 == 0
        worst = 0.0
        for j in range(n):
            bend = squares[j] + ridge[j]
            if bend <= 0.0 or (z[j] == 0.0 and not full):
                continue
            slope = -c[j]
            for i in range(k):
                slope += columns[j, i] * fitted[i]
            pull = squares[j] * z[j] - slope
            new = np.sign(pull) * max(abs(pull) - l1[j], 0.0) / bend
            step = new - z[j]
            if step != 0.0:
                worst = max(worst, abs(step) * bend)
                z[j] = new
                for i in range(k):
                    fitted[i] += columns[j, i] * step
        if full:
            violation = worst
            if worst <= tolerance:
                break
    return violation
