"""The dual variables of all rows, as pieces of the input's chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.objective.margins import MarginProblem
from dask_dml.rounds.base import only_reads
from dask_dml.solvers.dual.active_set_pass import MergeState
from dask_dml.solvers.dual.block_duals import row_costs


@dataclass(frozen=True)
class DualPieces:
    """Dual variables of rows, with where these come from; ``+`` joins.

    Attributes
    ----------
    of : tuple of (int, int, ndarray of shape (n_rows, n_problems))
        Number of a chunk of the input, the first row in it, and ``y_i alpha_i`` from there on.
    """

    of: tuple[tuple[int, int, np.ndarray], ...]

    def __add__(self, other: DualPieces) -> DualPieces:
        return DualPieces(self.of + other.of)

    def balanced(self) -> DualPieces:
        """Return them with those of the heavier class scaled down, so that they sum to zero."""
        sides = sum(
            np.stack([np.maximum(values, 0.0), np.maximum(-values, 0.0)]).sum(axis=1)
            for *_, values in self.of
        )
        share = np.divide(sides.min(axis=0), sides, out=np.zeros_like(sides), where=sides > 0.0)
        return DualPieces(
            tuple(
                (*at, np.where(values > 0.0, share[0], share[1]) * values)
                for *at, values in self.of
            )
        )


@only_reads
def dual_values(
    shard: Shard, state: MergeState, batch: Sequence[MarginProblem]
) -> tuple[MergeState, DualPieces]:
    """Return the dual variables of a shard's rows for all problems of the batch."""
    pieces = []
    for position, block in enumerate(shard.blocks):
        signed = np.empty((block.n_rows, len(batch)))
        for number, problem in enumerate(batch):
            rows = row_costs(block, problem.label, np.array(problem.cost))
            signed[:, number] = rows.sign * state.alpha[number][position].values(rows)
        pieces += pieces_of(block, signed)
    return state, DualPieces(tuple(pieces))


def pieces_of(block: Block, values: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Return values of a block's rows as pieces of the input's chunks."""
    pieces, start, skipped = [], 0, 0
    for chunk, count in block.origin:
        if count < 0:
            skipped = -count
            continue
        stop = start + count - skipped
        pieces.append((chunk, skipped, values[start:stop]))
        start, skipped = stop, 0
    return pieces
