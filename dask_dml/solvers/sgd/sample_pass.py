"""Shard functions that look at some rows only: a sample, or those held out for validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_dml.blocks import Matrix, Shard
from dask_dml.kernels.rows import MARGIN, SCALE, WIDTH
from dask_dml.kernels.sgd_rows import draws
from dask_dml.solvers.sgd.local_steps import Visit
from dask_dml.solvers.sgd.node_cache import Node
from dask_dml.solvers.sgd.row_order import (
    GATHERED_ROWS,
    Split,
    gathered,
    held_out_rows,
    total_weight,
)

#: Fewest rows that a node draws, if it has them.
MIN_SAMPLE = 64


@dataclass(frozen=True)
class Directions:
    """Changes of the model whose joint curvature is to be learnt from a sample of rows.

    Attributes
    ----------
    changes : ndarray of shape (n_problems, n_directions, n_features + 1) or None
        The changes; None for the coordinates, of which there must be few.
    visit : Visit
        The visit that they come from.
    n_rows : tuple of int
        Rows to draw from every node.
    """

    changes: np.ndarray | None
    visit: Visit
    n_rows: tuple[int, ...]


def sample_sizes(shard_rows: tuple[int, ...], n_rows: int) -> tuple[int, ...]:
    """Return how many rows to draw from every node: about in proportion to what it has."""
    total = max(sum(shard_rows), 1)
    return tuple(min(rows, max(MIN_SAMPLE, n_rows * rows // total)) for rows in shard_rows)


def curvatures(node: Node, request: Directions) -> np.ndarray:
    """Return sums of products of the changes' effects on some rows, weighted for the whole node.

    Returns
    -------
    sums : ndarray of shape (n_problems, 2, n_directions + 1, n_directions)
        The products for either half of the sample, and in the last row the node's weight.  For
        coordinates and squared error all problems have the same, which is given once.
    """
    visit, changes = request.visit, request.changes
    parameters = visit.parameters
    alike = changes is None and not np.any(parameters[:, MARGIN])
    alike = alike and bool(np.all(np.isinf(parameters[:, WIDTH])))
    n_problems, n_directions = 1 if alike else len(visit.point), visit.point.shape[1]
    if changes is not None:
        n_directions = changes.shape[1]
    sums = np.zeros((n_problems, 2, n_directions + 1, n_directions))
    shard, mean = node.shard, node.ground.mean
    total = node.unit * sum(total_weight(block) for block in shard.blocks)
    chosen = _drawn(shard, visit, request.n_rows[shard.number])
    for half in range(2):
        rows = gathered(shard, chosen[half::2])
        sampled = total_weight(rows)
        if not sampled > 0.0:
            continue
        weight = np.ones(rows.n_rows) if rows.weight is None else rows.weight
        for c in range(n_problems):
            bend = weight * parameters[c, SCALE]
            if not alike:
                left = rows.y[:, visit.column[c]] - visit.target_mean[c]
                left = left - _effect(rows.X, visit.point[c][None], mean)[:, 0]
                bend = weight * majorant_curvature(left, parameters[c])
            if changes is None:
                products = _gram(rows.X, mean, bend)
            else:
                effect = _effect(rows.X, changes[c], mean)
                products = (effect.T * bend) @ effect
            sums[c, half, :-1] = products * (total / sampled)
            sums[c, half, -1] = total
    return sums


def _drawn(shard: Shard, visit: Visit, n_rows: int) -> np.ndarray:
    if n_rows >= shard.n_rows:
        return np.arange(shard.n_rows)
    seeds = np.random.SeedSequence([visit.key, shard.number, visit.epoch, 1])
    key = seeds.generate_state(1, np.uint64)[0]
    return draws(key, n_rows, shard.n_rows)


def _gram(X: Matrix, mean: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """Return weighted second moments of the centred columns and of a column of ones."""
    p = len(mean)
    gram = np.empty((p + 1, p + 1))
    if isinstance(X, np.ndarray):
        Z = X - mean
        bent = Z.T * bend
        gram[:p, :p] = bent @ Z
        sums = bent.sum(axis=1)
    else:
        raw = X.T @ bend
        cross = np.outer(mean, raw)
        gram[:p, :p] = (X.T @ X.multiply(bend[:, None]).tocsr()).toarray()
        gram[:p, :p] += bend.sum() * np.outer(mean, mean) - cross - cross.T
        sums = raw - bend.sum() * mean
    gram[p, :p] = gram[:p, p] = sums
    gram[p, p] = bend.sum()
    return gram


def _effect(X: Matrix, changes: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return X @ changes[:, :-1].T + (changes[:, -1] - changes[:, :-1] @ mean)


def majorant_curvature(r: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Return the curvature of the parabolas about zero with the loss's slope at ``r``.

    Those of Huber's loss lie above it.
    """
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
        chosen = np.flatnonzero(held_out_rows(request.split, shard, first, block.n_rows))
        first += block.n_rows
        for start in range(0, len(chosen), GATHERED_ROWS):
            rows = chosen[start : start + GATHERED_ROWS]
            y = block.y[rows][:, request.column].astype(np.float64)
            left = y - (block.X[rows] @ request.coef.T + request.intercept)
            s = np.ones(len(rows)) if block.weight is None else block.weight[rows]
            y -= request.target_shift
            sums += np.stack([np.full(len(sums), s.sum()), s @ y, s @ y**2, s @ left**2], axis=1)
    return sums
