"""Shifting and scaling columns: what a scaler does to rows once its moments are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dask_dml.blocks import Matrix
from dask_dml.input.containers import is_sparse
from dask_dml.passes.partials import CENTRE_SPARSE, ColumnMoments

#: Bytes of a tile, and entries of a CSR matrix at a time: both stay in cache.
_TILE_BYTES = 1 << 19
_TILE_ENTRIES = 1 << 16

#: scikit-learn takes a column for constant if its spread is within the rounding of its sums,
#: which grows with the number of rows.  Ours are sums of differences from a value of the column,
#: and so stay precise; what remains is rounding in the values themselves.
_ROWS_OF_ROUNDING = 1000

UNCENTRE_SPARSE = (
    "Cannot uncenter sparse matrices: pass `with_mean=False` instead. A column plus its mean has "
    "no zeros, so that all of X would be filled in."
)


class Scaling(NamedTuple):
    """An affine map of every column.

    Attributes
    ----------
    mean : ndarray of shape (n_features,) or None
        What is taken off a column.
    scale : ndarray of shape (n_features,) or None
        What it is then divided by.
    inverse : bool
        Whether to multiply by the scale, and then add the mean.
    """

    mean: np.ndarray | None
    scale: np.ndarray | None
    inverse: bool = False

    def columns(self, start: int, stop: int) -> Scaling:
        """Return the map of some consecutive columns."""
        mean, scale = (None if v is None else v[start:stop] for v in (self.mean, self.scale))
        return Scaling(mean, scale, self.inverse)

    def check_sparse(self) -> None:
        """Raise ValueError if sparse rows would have to be filled in."""
        if self.mean is not None:
            raise ValueError(UNCENTRE_SPARSE if self.inverse else CENTRE_SPARSE)

    def apply(self, X: Matrix, *, in_place: bool = False) -> Matrix:
        """Return the rows mapped.

        Parameters
        ----------
        X : ndarray or CSR of shape (n_rows, n_features)
            float32 or float64; NaN stays NaN.
        in_place : bool, default=False
            Whether X may be written to.

        Returns
        -------
        mapped : ndarray or CSR of shape (n_rows, n_features)
            In X's dtype; computed in float64, and rounded once.

        Raises
        ------
        ValueError
            If X is sparse and there is a mean.
        """
        if is_sparse(X):
            self.check_sparse()
            return self._apply_sparse(X, in_place)
        out = X if in_place and X.flags.writeable else np.empty_like(X)
        step = max(32, _TILE_BYTES // (8 * max(X.shape[1], 1)))
        for start in range(0, len(X), step):
            # float64 columns need no buffer: the steps write to where the result is to be.
            tile = out[start : start + step]
            work = tile if X.dtype == np.float64 else np.empty(tile.shape)
            self._map_tile(X[start : start + step], work)
            if work is not tile:
                tile[...] = work
        return out

    def _map_tile(self, rows: np.ndarray, work: np.ndarray) -> None:
        steps: list[tuple[np.ndarray | None, np.ufunc]]
        steps = [(self.mean, np.subtract), (self.scale, np.divide)]
        if self.inverse:
            steps = [(self.scale, np.multiply), (self.mean, np.add)]
        for operand, operation in steps:
            if operand is not None:
                operation(rows, operand, out=work)
                rows = work
        if rows is not work:
            work[...] = rows

    def _apply_sparse(self, X: Matrix, in_place: bool) -> Matrix:
        if not (in_place and X.data.flags.writeable):
            X = X.copy()
        if self.scale is not None:
            factors = self.scale if self.inverse else 1.0 / self.scale
            for start in range(0, len(X.data), _TILE_ENTRIES):
                some = slice(start, start + _TILE_ENTRIES)
                X.data[some] *= factors.take(X.indices[some])
        return X


def spread(moments: ColumnMoments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the columns' means, variances and scales.

    Parameters
    ----------
    moments : ColumnMoments
        Of all rows.

    Returns
    -------
    mean, variance : ndarray of shape (n_features,)
        NaN where a column has no value at all.
    scale : ndarray of shape (n_features,)
        Roots of the variances; one for columns that are constant within rounding.
    """
    weight = np.where(moments.weight > 0.0, moments.weight, np.nan)
    mean = moments.origin + moments.mean + 0.0 * weight
    variance = moments.square / weight
    eps = np.finfo(np.float64).eps
    n = np.minimum(weight, _ROWS_OF_ROUNDING)
    with np.errstate(over="ignore"):
        constant = variance <= n * eps * variance + (n * mean * eps) ** 2
    return mean, variance, np.where(constant, 1.0, np.sqrt(variance))


def infinite_rows(X: Matrix, mapped: Matrix) -> bool:
    """Whether X holds infinity, found for little where the mapped rows are finite."""
    after = mapped.data if is_sparse(mapped) else mapped
    before = X.data if is_sparse(X) else X
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(after.sum()):
            return False
    return bool(np.isinf(before).any())
