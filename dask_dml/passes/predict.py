"""Values of a linear model at some rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dask_dml.blocks import Block, Matrix
from dask_dml.input.chunks import describe_nonfinite

_TILE_ROWS = 2048  # a tile of 100 columns stays in the second-level cache


class LinearModel(NamedTuple):
    """What a worker needs for predictions.

    Attributes
    ----------
    coef : ndarray of shape (n_outputs, n_features)
    intercept : ndarray of shape (n_outputs,)
    """

    coef: np.ndarray
    intercept: np.ndarray


def linear_values(X: Matrix, model: LinearModel) -> np.ndarray:
    """Return ``X @ coef.T + intercept`` of X in memory, summed in float64.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_rows, n_features)
        float32 or float64.
    model : LinearModel
        Coefficients and intercepts.

    Returns
    -------
    values : ndarray of shape (n_rows, n_outputs)
        In X's dtype.
    """
    if X.dtype == np.float64:
        return np.asarray(X @ model.coef.T + model.intercept)
    values = np.empty((X.shape[0], len(model.intercept)), X.dtype)
    for start in range(0, X.shape[0], _TILE_ROWS):
        tile = X[start : start + _TILE_ROWS].astype(np.float64)
        values[start : start + _TILE_ROWS] = tile @ model.coef.T + model.intercept
    return values


def checked_values(block: Block, model: LinearModel) -> np.ndarray:
    """Return what `linear_values` does; raise ValueError where X is not finite."""
    values = linear_values(block.X, model)
    if not np.isfinite(values).all():
        # Whatever is not finite in X shows in the values, which are far fewer.
        message = describe_nonfinite(block)
        if message is not None:
            raise ValueError(message)
    return values
