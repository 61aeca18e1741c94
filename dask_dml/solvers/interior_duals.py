"""Dual variables after the interior-point method, which lie beside the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_dml.blocks import Shard
from dask_dml.passes.interior import interior_alphas
from dask_dml.solvers.dual.dual_pieces import DualPieces, pieces_of
from dask_dml.solvers.dual.support import Duals


@dataclass(frozen=True)
class InteriorValues:
    """Whose dual variables are wanted.

    Attributes
    ----------
    duals : Duals
        Makes those of all problems that ended with Newton's method.
    interior : tuple of int
        The others.
    """

    duals: Duals
    interior: tuple[int, ...]


def interior_values(shard: Shard, state: object, ask: InteriorValues) -> tuple[object, DualPieces]:
    """Return the signed dual variables of a shard's rows."""
    inner = {}
    for number in ask.interior:
        label, cost, scale = (
            values[number] for values in (ask.duals.label, ask.duals.cost, ask.duals.scale)
        )
        alpha = interior_alphas(shard, state, number, float(label), cost)
        inner[number] = alpha * np.where(alpha > 0.0, scale[1], scale[0])
    pieces, start = [], 0
    for block in shard.blocks:
        parts = [values for _, values in ask.duals.tiles(block)]
        values = np.concatenate(parts) if parts else np.empty((0, len(ask.duals.label)))
        for number, alpha in inner.items():
            values[:, number] = alpha[start : start + block.n_rows]
        pieces += pieces_of(block, values)
        start += block.n_rows
    return state, DualPieces(tuple(pieces))
