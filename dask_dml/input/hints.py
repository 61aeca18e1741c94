"""Warnings about input that works, but not as its owner may think."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import EfficiencyWarning

from dask_dml.input.kinds import is_dask

#: Blocks of this number, when they are small or cut along the columns, are worth a hint.
MANY = 1000
#: Bytes of a block that is small: less than a millisecond of work, and so less than its task costs.
SMALL = 2**20
#: Bytes of the blocks that are proposed.
GOOD = 64 * 2**20

#: What has been said in this process: a search would say it with every fit.
_said: set[str] = set()


def hint_at_chunks(X: Any, dtype: np.dtype) -> None:
    """Warn of a dask array in thousands of blocks that are small, or cut along the columns.

    Parameters
    ----------
    X : dask array or DataFrame of shape (n_samples, n_features)
        What the caller handed over.  Nothing is said where sizes are not known.
    dtype : dtype
        What its numbers are held as.

    Warns
    -----
    EfficiencyWarning
        With the numbers of blocks as they are, and as they might be.
    """
    if not hasattr(X, "numblocks") or math.prod(X.numblocks) < MANY or math.isnan(X.shape[0]):
        return
    n_blocks, row = math.prod(X.numblocks), X.shape[1] * dtype.itemsize
    mean = X.shape[0] * row / n_blocks
    cut = X.numblocks[1] > 1
    if mean >= SMALL and not cut:
        return
    n_rows = min(X.shape[0], max(1, GOOD // row))
    along = f", {X.numblocks[1]} side by side for the same rows" if cut else ""
    _say_once(
        f"X is cut into {n_blocks:,} blocks of {mean / 2**20:.2g} MiB on average{along}. Each is a "
        "task of Dask, which takes longer than the work on a small block. "
        f"X.rechunk({{0: {n_rows}, 1: -1}}) makes {math.ceil(X.shape[0] / n_rows):,} of them.",
    )


def hint_at_gathered(X: Any, y: Any) -> None:
    """Warn of X in memory beside a lazy y of the same length: something may have gathered X.

    Parameters
    ----------
    X, y : array-like or dask collection
        What the caller handed over.

    Warns
    -----
    EfficiencyWarning
        Naming what gathers, and what to take instead.
    """
    if is_dask(X) or not is_dask(y):
        return
    n_rows = getattr(X, "shape", (None,))[0]
    known = getattr(y, "shape", (math.nan,))[0]
    # Of a dask Series the length is not known without reading it.
    if n_rows is None or (isinstance(known, int | np.integer) and known != n_rows):
        return
    _say_once(
        f"X is a {type(X).__name__} in memory, and y a Dask collection. Transformers of "
        "scikit-learn gather a Dask collection in silence: if one is in front of this estimator, "
        "take its counterpart of dask_dml.preprocessing, or wrap it in BlockwiseTransformer. If X "
        "is meant to be in memory, hand over y.compute().",
    )


def _say_once(message: str) -> None:
    if message not in _said:
        warnings.warn(message, EfficiencyWarning, stacklevel=3)
        _said.add(message)
