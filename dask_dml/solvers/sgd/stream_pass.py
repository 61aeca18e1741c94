"""Shard functions of streams: the losses of some rows as a parabola about the model.

The slope is that of the loss itself.  The curvature is an estimate of how the slope changes: with
a loss that is made of straight pieces, the share of the rows that a kink lies near, as in
M. Fernandes, E. Guerre and E. Horta, *Smoothing quantile regressions*, Journal of Business and
Economic Statistics 39 (2021); and a part of the curvature of parabolas that lie above the loss
(D. R. Hunter and K. Lange, *A tutorial on MM algorithms*, The American Statistician 58, 2004),
which no direction is without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.kernels import csr
from dask_dml.kernels.blas import add_products
from dask_dml.kernels.rows import MARGIN, SCALE, WIDTH
from dask_dml.passes import evaluate

#: Numbers of rows that are written out at a time.
TILE_NUMBERS = 2**16


@dataclass(frozen=True)
class ExpansionPoint:
    """Where the losses of several problems are to be expanded, and how.

    Attributes
    ----------
    point : ndarray of shape (n_problems, n_features + 1)
        Coefficients and intercepts relative to the means, intercept last.
    parameters : ndarray of shape (n_problems, 7)
        Loss parameters, see `dask_dml.objective.losses.Loss.parameters`.
    width : ndarray of shape (n_problems,)
        How far about a kink rows bend the loss.
    share : ndarray of shape (n_problems,)
        Share of the parabolas above the loss in the curvature.
    column : ndarray of shape (n_problems,)
        Which column of y belongs to which problem.
    mean : ndarray of shape (n_features,)
        What the columns of X are taken relative to.
    target_mean : ndarray of shape (n_problems,)
        What the targets are taken relative to.
    units : ndarray of shape (n_shards,) or None
        Factor on the sample weights of each shard.
    """

    point: np.ndarray
    parameters: np.ndarray
    width: np.ndarray
    share: np.ndarray
    column: np.ndarray
    mean: np.ndarray
    target_mean: np.ndarray
    units: np.ndarray | None


@dataclass(frozen=True)
class Expansion:
    """Sums over rows of the losses' values, slopes and curvatures, with ``+``.

    Attributes
    ----------
    weight : float
        Sum of the sample weights.
    n_rows : int
        Number of rows of positive weight.
    value : ndarray of shape (n_problems,)
        Losses.
    gradient : ndarray of shape (n_problems, n_features + 1)
        Gradients with respect to coefficients and intercept.
    hessian : ndarray of shape (n_problems, n_features + 1, n_features + 1)
        Curvatures times products of the rows ``(x - mean, 1)``; lower triangles.
    root : ndarray of shape (n_problems,)
        Roots of the residuals' sizes: an average that single large residuals hardly move.
    """

    weight: float
    n_rows: int
    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    root: np.ndarray

    def __add__(self, other: Expansion) -> Expansion:
        return Expansion(
            self.weight + other.weight,
            self.n_rows + other.n_rows,
            self.value + other.value,
            self.gradient + other.gradient,
            self.hessian + other.hessian,
            self.root + other.root,
        )


def expansion(shard: Shard, place: ExpansionPoint) -> Expansion:
    """Return the sums over a shard's rows."""
    n_problems, width = place.point.shape
    unit = 1.0 if place.units is None else float(place.units[shard.number])
    value, root = np.zeros((2, n_problems))
    gradient, hessian = np.zeros((n_problems, width)), np.zeros((n_problems, width, width))
    total, n_rows = 0.0, 0
    for block in shard.blocks:
        weight = np.full(block.n_rows, unit)
        if block.weight is not None:
            weight *= block.weight
        total += float(weight.sum())
        n_rows += int(np.count_nonzero(weight))
        for rows in _tiles(block):
            _add_rows(block, rows, weight[rows], place, value, gradient, hessian, root)
    return Expansion(total, n_rows, value, gradient, hessian, root)


def _tiles(block: Block) -> Iterator[slice]:
    step = max(TILE_NUMBERS // block.n_features, 64)
    # The kernel of CSR curvatures takes a block as a whole; its rows are not written out.
    step = max(block.n_rows, 1) if block.is_sparse else step
    for start in range(0, block.n_rows, step):
        yield slice(start, min(start + step, block.n_rows))


def _add_rows(
    block: Block,
    rows: slice,
    weight: np.ndarray,
    place: ExpansionPoint,
    value: np.ndarray,
    gradient: np.ndarray,
    hessian: np.ndarray,
    root: np.ndarray,
) -> None:
    coef, intercept = place.point[:, :-1], place.point[:, -1]
    if block.is_sparse:
        X = block.X
        predicted = X @ coef.T + (intercept - coef @ place.mean)
    else:
        X = block.X[rows] - place.mean
        predicted = X @ coef.T + intercept
    for c, parameters in enumerate(place.parameters):
        targets = block.y[rows, place.column[c]] - place.target_mean[c]
        left = targets - predicted[:, c]
        losses, slopes = loss_and_slope(left, parameters)
        value[c] += weight @ losses
        root[c] += weight @ np.sqrt(np.abs(left))
        pulls = weight * slopes
        total = pulls.sum()
        gradient[c, :-1] -= X.T @ pulls - (place.mean * total if block.is_sparse else 0.0)
        gradient[c, -1] -= total
        bend = weight * curvature(left, parameters, place.width[c], place.share[c])
        if block.is_sparse:
            raw = np.zeros_like(hessian[c])
            csr.hessian(X.data, X.indices, X.indptr, bend, raw)
            hessian[c] += evaluate.centred_hessian(raw, place.mean)
        else:
            weighted = np.empty((len(bend), X.shape[1] + 1))
            weighted[:, -1] = np.sqrt(bend)
            weighted[:, :-1] = X * weighted[:, -1:]
            add_products(weighted, hessian[c])


def loss_and_slope(left: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses of residuals, and their derivatives."""
    margin, width, scale = parameters[[MARGIN, WIDTH, SCALE]]
    excess = np.maximum(np.abs(left) - margin, 0.0)
    short = np.minimum(excess, width)
    return scale * short * (excess - 0.5 * short), np.copysign(scale * short, left)


def curvature(left: np.ndarray, parameters: np.ndarray, width: float, share: float) -> np.ndarray:
    """Return how much rows bend the loss.

    Parameters
    ----------
    left : ndarray of shape (n_rows,)
        Residuals.
    parameters : ndarray of shape (7,)
        Loss parameters.
    width : float
        How far about a kink rows count.
    share : float
        Share of the curvature of a parabola above the loss that touches it at the residual.
    """
    margin, own, scale = parameters[[MARGIN, WIDTH, SCALE]]
    size = np.abs(left)
    if np.isinf(own):
        return scale * np.where(size >= margin, 1.0, share)
    # Between the margin and where the loss turns linear, or about the kink, its slope changes.
    slope, centre, half = scale * own, margin + 0.5 * own, max(0.5 * own, width)
    near = ((left >= centre - half) & (left < centre + half)).astype(np.float64)
    near += (left <= half - centre) & (left > -centre - half)
    least = max(own, width)
    apart = 1.0 / np.maximum(2.0 * np.abs(size - margin), least)
    above = np.maximum(apart, np.where(size > margin, 1.0 / np.maximum(size, least), 0.0))
    bent: np.ndarray = slope * ((1.0 - share) * near / (2.0 * half) + share * above)
    return bent
