"""Chunks of the input as the caller holds them, and their conversion to row blocks.

This module knows NumPy, pandas-like frames and scipy.sparse, not Dask: `make_block` runs wherever
a chunk is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dask_dml.blocks import Block


@dataclass(frozen=True)
class Chunks:
    """The validated input: X, y and weights cut into the same row chunks.

    Attributes
    ----------
    X, y : list
        One entry per row chunk: an object in memory (ndarray, CSR, DataFrame, Series), or a
        `dask.delayed.Delayed` of one where ``lazy``.
    weight : list or None
        Sample weights likewise; ``None`` where every row weighs one.
    lazy : bool
        Whether the entries are Delayed objects.
    n_features, n_outputs : int
        Columns of X and of y.
    multi_output : bool
        Whether y was two-dimensional (``coef_`` then is, too).
    dtype : dtype
        float32 or float64: what X's blocks are held as.
    feature_names : ndarray of object or None
        Column names, where the input had string names.
    nbytes : float
        Estimated memory of X in bytes; nan where chunk sizes are unknown.
    """

    X: list[Any]
    y: list[Any]
    weight: list[Any] | None
    lazy: bool
    n_features: int
    n_outputs: int
    multi_output: bool
    dtype: np.dtype
    feature_names: np.ndarray | None
    nbytes: float


def make_block(
    X: Any,
    y: Any,
    weight: Any = None,
    *,
    number: int,
    n_features: int,
    n_outputs: int,
    dtype: np.dtype,
) -> Block:
    """Convert one chunk to a block."""
    raise NotImplementedError
