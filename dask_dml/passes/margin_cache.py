"""What a shard remembers of its margins, so that late passes read the rows near the kink only.

The hinge is linear on either side of its kink.  A row whose margin at some earlier point was so
far from it that no coefficients as close as the new ones can bring it there (by the inequality of
Cauchy and Schwarz) adds to all sums what it added before, or a linear function of the
coefficients.  So nothing is approximated, and near the optimum most of X is not read.  This is
the safe screening of El Ghaoui, Viallon and Rabbani (2012), for steps of a solver in place of a
bound of the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dask_dml.blocks import Shard
from dask_dml.kernels import margin_rows as sums_at
from dask_dml.passes.margins import (
    NOTHING,
    MarginPoint,
    MarginSums,
    check_finite,
    margins,
    no_sums,
    single_dense_margins,
)

#: Entries of a shard from which it pays to remember.
MIN_ENTRIES = 200_000
#: Share of the rows near the kink up to which the others are left out.
MAX_SHARE = 0.25
#: One of so many rows tells whether to look at all of them.
SKIP = 16
#: How much further than asked the next points may lie before rows have to be chosen anew.
ROOM = 2.0


@dataclass(frozen=True)
class Near:
    """The rows that may reach the kink, and what all others add.

    Attributes
    ----------
    rows : tuple of ndarray of int
        Of each block.
    reach : float
        How far from the point coefficients may be.
    width : float
        Largest width of the rounded kink.
    others : MarginSums
        Sums over all other rows, at the point.
    """

    rows: tuple[np.ndarray, ...]
    reach: float
    width: float
    others: MarginSums


@dataclass(frozen=True)
class Memory:
    """The rows' margins at a point.

    Attributes
    ----------
    point : MarginPoint
        The point.
    total : MarginSums
        Sums over all rows there.
    margins, norms : tuple of ndarray
        Of each block the rows' predictions there, and the norms of ``(x_i, 1)``.
    near : Near or None
        Chosen once a point has come close.
    """

    point: MarginPoint
    total: MarginSums
    margins: tuple[np.ndarray, ...]
    norms: tuple[np.ndarray, ...]
    near: Near | None = None


def remembers(shard: Shard, point: MarginPoint) -> bool:
    """Return whether a shard is one that remembers: dense, large, asked about one hinge."""
    squared = point.parameters[0, sums_at.SQUARED] > 0.0
    large = sum(block.X.size for block in shard.blocks) >= MIN_ENTRIES
    dense = not any(block.is_sparse for block in shard.blocks)
    return dense and large and len(point.coef) == 1 and not squared and point.occurring is None


def margins_by_memory(
    shard: Shard, memory: Memory | None, point: MarginPoint
) -> tuple[Memory | None, MarginSums]:
    """Return what `margins` does, from as few rows as possible."""
    if not remembers(shard, point):
        return None, margins(shard, point)
    if memory is not None:
        memory = _nearing(shard, memory, point)
        if memory.near is not None:
            return memory, _near_sums(shard, memory, memory.near, point)
    return _visit_all(shard, memory, point)


def _visit_all(
    shard: Shard, memory: Memory | None, point: MarginPoint
) -> tuple[Memory, MarginSums]:
    total = no_sums(point)
    values = tuple(np.empty(block.n_rows) for block in shard.blocks)
    norms = tuple(np.empty(block.n_rows) for block in shard.blocks) if memory is None else None
    for number, block in enumerate(shard.blocks):
        wanted = NOTHING if norms is None else norms[number]
        single_dense_margins(block, point, total, margins=values[number], norms=wanted)
        check_finite(block, total)
    if norms is None:
        assert memory is not None
        norms = memory.norms
    return Memory(point, replace(total, hessian=None), values, norms), total


def _nearing(shard: Shard, memory: Memory, point: MarginPoint) -> Memory:
    """Return the memory with the rows near the kink chosen for a point; without, if too many."""
    width = float(point.parameters[0, sums_at.WIDTH])
    reach = _distance(memory.point, point)
    near = memory.near
    if near is not None and reach <= near.reach and width <= near.width:
        return memory
    reach *= ROOM
    # All that is linear now must be linear at the point that is remembered, too.
    width = max(width, float(memory.point.parameters[0, sums_at.WIDTH]))
    if sum(_near(memory, shard, width, reach, SKIP)[1]) > MAX_SHARE * shard.n_rows / SKIP:
        return replace(memory, near=None)
    rows, counts = _near(memory, shard, width, reach)
    if sum(counts) > MAX_SHARE * shard.n_rows:
        return replace(memory, near=None)
    plain = replace(
        memory.point, move=None, grid=np.empty((1, 0)), hessian=False, split=point.split
    )
    theirs = _rows_sums(shard, rows, plain)
    others = MarginSums(
        memory.total.gradient - theirs.gradient,
        _difference(memory.total.positive, theirs.positive),
        memory.total.sums - theirs.sums,
        theirs.line,
        None,
    )
    return replace(memory, near=Near(tuple(rows), reach, width, others))


def _near(
    memory: Memory, shard: Shard, width: float, reach: float, skip: int = 1
) -> tuple[list[np.ndarray], list[int]]:
    """Return the rows of each block (of every so many) that may reach the kink; their numbers."""
    rows = []
    for block, f, norm in zip(shard.blocks, memory.margins, memory.norms, strict=True):
        sign = np.where(block.y[::skip, 0] == memory.point.label[0], 1.0, -1.0)
        room = 0.5 * width + (1.0 + 1e-9) * reach * norm[::skip]
        rows.append(np.flatnonzero(np.abs(1.0 - sign * f[::skip]) <= room))
    return rows, [len(chosen) for chosen in rows]


def _difference(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return None if a is None or b is None else a - b


def _distance(a: MarginPoint, b: MarginPoint) -> float:
    """Return how far the points of a pass, with those of its line search, are from another."""
    away = np.append(b.coef[0] - a.coef[0], b.intercept[0] - a.intercept[0])
    if b.move is None:
        return float(np.linalg.norm(away))
    move = np.append(b.move[0], b.move_intercept[0])
    return max(float(np.linalg.norm(away + step * move)) for step in (0.0, *b.grid[0]))


def _rows_sums(shard: Shard, rows: list[np.ndarray], point: MarginPoint) -> MarginSums:
    total = no_sums(point)
    for block, chosen in zip(shard.blocks, rows, strict=True):
        if len(chosen):
            single_dense_margins(block, point, total, chosen)
            check_finite(block, total)
    return total


def _near_sums(shard: Shard, memory: Memory, near: Near, point: MarginPoint) -> MarginSums:
    total = _rows_sums(shard, list(near.rows), point)
    others, sums = near.others, near.others.sums[0].copy()
    pull = others.gradient[0]
    pull_intercept = sums[sums_at.ALPHA_POSITIVE] - sums[sums_at.ALPHA]
    away = point.coef[0] - memory.point.coef[0]
    last = float(point.intercept[0] - memory.point.intercept[0])
    change = -float(pull @ away) - float(pull_intercept) * last
    sums[[sums_at.SMOOTH, sums_at.TARGET]] += change
    sums[[sums_at.SLACK, sums_at.BEND, sums_at.BENT]] = 0.0
    total.sums[0] += sums
    total.gradient[0] += pull
    if total.positive is not None and others.positive is not None:
        total.positive[...] += others.positive
    if point.move is not None:
        rate = -float(pull @ point.move[0]) - float(pull_intercept * point.move_intercept[0])
        total.line[0, :, 0] += sums[sums_at.SMOOTH] + rate * point.grid[0]
        total.line[0, :, 1] += rate
    return total
