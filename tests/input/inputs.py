"""What the input tests share."""

import dask
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from dask_dml.input.chunks import make_block


class Model(RegressorMixin, BaseEstimator):
    """A regressor that is nothing but its name and its fitted attributes."""


def blocks_of(chunks):
    """Make every block, as the engines do."""
    weights = chunks.weight or [None] * len(chunks.X)
    known = {"n_features": chunks.n_features, "n_outputs": chunks.n_outputs, "dtype": chunks.dtype}
    make = dask.delayed(make_block) if chunks.lazy else make_block
    made = [
        make(X, y, weight, number=number, **known)
        for number, (X, y, weight) in enumerate(zip(chunks.X, chunks.y, weights, strict=True))
    ]
    return list(dask.compute(*made)) if chunks.lazy else made


def dense(block):
    """Return a block's X as an ndarray."""
    return block.X.toarray() if block.is_sparse else block.X


def unknown(array):
    """Return the dask array with chunk sizes that Dask does not know."""
    sizes = (np.nan,) * array.numblocks[0]
    return array.map_blocks(np.copy, chunks=(sizes, *array.chunks[1:]), dtype=array.dtype)
