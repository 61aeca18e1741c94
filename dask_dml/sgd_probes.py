"""Shard functions that look at some rows only: a sample, or those held out for validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_dml.blocks import Matrix, Shard
from dask_dml.kernels.sgd_rows import draws
from dask_dml.sgd_order import (
    GATHERED_ROWS,
    Split,
    gathered,
    held_out_rows,
    total_weight,
    training,
)
from dask_dml.sgd_passes import Visit


@dataclass(frozen=True)
class Directions:
    """Changes of the model whose joint curvature is to be learnt from a sample of rows.

    Attributes
    ----------
    changes : ndarray of shape (n_problems, n_directions, n_features + 1)
        The changes.
    visit : Visit
        The visit that they come from.
    n_rows : int
        Rows to draw from every node.
    """

    changes: np.ndarray
    visit: Visit
    n_rows: int


def curvatures(shard: Shard, request: Directions) -> np.ndarray:
    """Return sums of products of the changes' effects on some rows, weighted for the whole node.

    Returns
    -------
    sums : ndarray of shape (n_problems, n_directions + 1, n_directions)
        The products, and in the last row the node's weight.
    """
    visit = request.visit
    shard = training(shard, visit.split)
    n_problems, n_directions, _ = request.changes.shape
    sums = np.zeros((n_problems, n_directions + 1, n_directions))
    seeds = np.random.SeedSequence([visit.key, shard.number, visit.epoch, 1])
    key = seeds.generate_state(1, np.uint64)[0]
    rows = gathered(shard, draws(key, min(request.n_rows, shard.n_rows), shard.n_rows))
    total = sum(total_weight(block) for block in shard.blocks)
    sampled = total_weight(rows)
    if not sampled > 0.0:
        return sums
    unit = 1.0 if visit.units is None else float(visit.units[shard.number])
    weight = np.ones(rows.n_rows) if rows.weight is None else rows.weight
    X = rows.X if visit.columns is None else rows.X[:, visit.columns]
    for c, changes in enumerate(request.changes):
        effect = _effect(X, changes, visit.mean)
        left = rows.y[:, visit.column[c]] - visit.target_mean[c]
        left = left - _effect(X, visit.point[c][None], visit.mean)[:, 0]
        bend = weight * majorant_curvature(left, visit.parameters[c])
        sums[c, :-1] = (effect.T * bend) @ effect * (unit * total / sampled)
        sums[c, -1] = unit * total
    return sums


def _effect(X: Matrix, changes: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return X @ changes[:, :-1].T + (changes[:, -1] - changes[:, :-1] @ mean)


def majorant_curvature(r: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Return the curvature of the parabolas that lie above the loss and touch it at ``r``."""
    margin, width, scale = parameters[:3]
    excess = np.maximum(np.abs(r) - margin, 0.0)
    slope = scale * np.minimum(excess, width)
    return np.divide(slope, np.abs(r), out=np.full(len(r), 1e-3 * scale), where=slope > 0.0)


@dataclass(frozen=True)
class Examination:
    """Models to be tried on the held-out rows: coefficients and intercepts for raw columns."""

    coef: np.ndarray
    intercept: np.ndarray
    column: np.ndarray
    target_shift: np.ndarray
    split: Split


def examine(shard: Shard, request: Examination) -> np.ndarray:
    """Return the sums that R^2 on the held-out rows is made of.

    Returns
    -------
    sums : ndarray of shape (n_problems, 4)
        Sums of the weights, the weighted targets less the shift, their squares, and the
        squares of the residuals.
    """
    sums = np.zeros((len(request.coef), 4))
    first = 0
    for block in shard.blocks:
        chosen = np.flatnonzero(held_out_rows(request.split, shard.number, first, block.n_rows))
        first += block.n_rows
        for start in range(0, len(chosen), GATHERED_ROWS):
            rows = chosen[start : start + GATHERED_ROWS]
            y = block.y[rows][:, request.column].astype(np.float64)
            left = y - (block.X[rows] @ request.coef.T + request.intercept)
            s = np.ones(len(rows)) if block.weight is None else block.weight[rows]
            y -= request.target_shift
            sums += np.stack([np.full(len(sums), s.sum()), s @ y, s @ y**2, s @ left**2], axis=1)
    return sums
