"""Blocks and points for the tests of passes, and the same sums in plain NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from reference import loss_slopes, loss_values

from dask_dml.blocks import Shard, frozen
from dask_dml.objective.losses import make_loss
from dask_dml.passes.evaluate import Point


def make_shard(X, y, weight=None, *, number=0, cuts=(), dtype=np.float64, sparse=False):
    """Return a shard whose blocks are cut at the given rows."""
    y = y if y.ndim == 2 else y[:, None]
    bounds = [0, *cuts, len(y)]
    blocks = []
    for chunk, (low, high) in enumerate(pairwise(bounds)):
        piece = np.ascontiguousarray(X[low:high], dtype=dtype)
        blocks.append(
            frozen(
                sp.csr_array(piece) if sparse else piece,
                np.ascontiguousarray(y[low:high], dtype=np.float64),
                None if weight is None else np.ascontiguousarray(weight[low:high]),
                ((chunk, high - low),),
            )
        )
    return Shard(number, tuple(blocks))


def make_point(coef, intercept, losses, *, mean=None, target_mean=0.0, offset=False, units=None,
               hessian=False, column=None, widths=None):  # fmt: skip
    """Return a point for problems with losses given as ``(name, epsilon)``."""
    coef = np.atleast_2d(coef).astype(float)
    k, p = coef.shape
    widths = widths or [0.0] * k
    return Point(
        coef=coef,
        intercept=np.broadcast_to(np.asarray(intercept, float), (k,)).copy(),
        parameters=np.array(
            [make_loss(*loss).parameters(width) for loss, width in zip(losses, widths, strict=True)]
        ),
        column=np.zeros(k, np.intp) if column is None else np.asarray(column, np.intp),
        mean=np.zeros(p) if mean is None else np.asarray(mean, float),
        target_mean=np.broadcast_to(np.asarray(target_mean, float), (k,)).copy(),
        offset=offset,
        units=None if units is None else np.asarray(units, float),
        hessian=hessian,
    )


def plain(X, y, s, w, b, loss, mean=0.0, target_mean=0.0):
    """Return value and gradient of ``sum s loss(y - target_mean - (x - mean).w - b)``.

    The gradient is that of the *slopes*, ``sum s loss'(r) (x - mean)``, in extended precision.
    """
    wide = np.longdouble
    centred = X.astype(wide) - np.asarray(mean, wide)
    r = y.astype(wide) - wide(target_mean) - centred @ w.astype(wide) - wide(b)
    u = s.astype(wide) * loss_slopes(r, *loss)
    return (
        float(s.astype(wide) @ loss_values(r, *loss)),
        np.asarray(u @ centred, float),
        float(u.sum()),
    )
