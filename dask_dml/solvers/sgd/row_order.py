"""Which rows of a shard stochastic gradient descent visits, and in which order.

All randomness is a function of ``(key, shard, epoch)``: a round that is repeated because a
worker was lost gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from dask_dml.blocks import Block, Shard, concatenate, frozen, slice_rows
from dask_dml.derived import derived
from dask_dml.kernels.rows import NO_WEIGHT
from dask_dml.kernels.sgd_dense import copy_rows
from dask_dml.kernels.sgd_rows import draws, held_out, spread_order, visiting_order

#: Bytes of consecutive rows that are visited together, and of the tiles inside.
STRETCH_BYTES, TILE_BYTES = 2**22, 2**16
#: Rows of a tile where rows that lie together must not be visited together, and bytes of a node's
#: rows up to which that is worth its price: larger nodes have many stretches, which mix well.
MIXED_TILE, MIXED_BYTES = 4, 2**27
#: Blocks of a shard up to which stretches that span several are kept.
MAX_BLOCKS = 32
#: Rows that a step by sampling gathers at a time.
GATHERED_ROWS = 4096


@dataclass(frozen=True)
class Split:
    """Which rows are held out for validation: a share of every shard, drawn by key."""

    key: int
    fraction: float


def training(shard: Shard, split: Split | None) -> Shard:
    """Return the shard with weight zero for the rows that are held out; X is shared."""
    if split is None:
        return shard
    blocks, first = [], 0
    for block in shard.blocks:
        out = held_out_rows(split, shard, first, block.n_rows)
        blocks.append(block.changed(partial(_without, out)))
        first += block.n_rows
    return Shard(shard.number, tuple(blocks))


def _without(out: np.ndarray, block: Block) -> Block:
    weight = np.where(out, 0.0, 1.0 if block.weight is None else block.weight)
    return frozen(block.X, block.y, weight, block.origin)


def held_out_rows(split: Split, shard: Shard, first: int, n_rows: int) -> np.ndarray:
    """Return which of some rows of a shard are held out."""
    mask = np.empty(n_rows, dtype=np.bool_)
    key = np.random.SeedSequence([split.key, shard.number]).generate_state(1, np.uint64)[0]
    held_out(key, first, shard.n_rows, mask, split.fraction)
    return mask


def stretches(
    shard: Shard, seeds: np.random.SeedSequence, shuffle: bool, whole: int = 0
) -> Iterator[tuple[Block, int, np.ndarray]]:
    """Yield the order in which a node visits its rows: block, first row, rows from there on.

    Stretches of rows are taken in random order, and so are the tiles inside (see
    `visiting_order`); both are cut from the node's rows, whatever the blocks are.  A positive
    ``whole`` makes one stretch of all rows, unless these are many; where they lie in several
    blocks, a multiple of that number is then gathered at a time.
    """
    n_rows = shard.n_rows
    row_bytes = sum(_x_bytes(block) for block in shard.blocks) / n_rows
    length = int(max(64, min(n_rows, STRETCH_BYTES // max(row_bytes, 1.0))))
    starts = np.arange(0, n_rows, length)
    keys = seeds.generate_state(len(starts) + 1, np.uint64)
    if shuffle and whole and row_bytes * n_rows <= MIXED_BYTES:
        order = visiting_order(n_rows, MIXED_TILE, keys[-1])
        if len(shard.blocks) == 1:
            yield shard.blocks[0], 0, order
            return
        length = max(length // whole, 1) * whole
        for start in range(0, n_rows, length):
            block = gathered(shard, order[start : start + length])
            yield block, 0, np.arange(block.n_rows)
        return
    if shuffle:
        starts = starts[spread_order(len(starts), keys[-1])]
    for place, key in zip(starts.tolist(), keys, strict=False):
        stop = min(place + length, n_rows)
        block, first = _rows(shard, place, stop)
        size = stop - place
        if shuffle:
            tile = max(1, min(int(TILE_BYTES // max(row_bytes, 1.0)), size // 128))
            order = visiting_order(size, tile, key)
        else:
            order = np.arange(size)
        yield block, first, order


def _rows(shard: Shard, start: int, stop: int) -> tuple[Block, int]:
    """Return a block that holds the rows, and where in it they begin."""
    firsts = np.cumsum([0, *(block.n_rows for block in shard.blocks)]).tolist()
    for block, first in zip(shard.blocks, firsts, strict=False):
        if first <= start and stop <= first + block.n_rows:
            return block, start - first

    def together() -> Block:
        parts = []
        for block, first in zip(shard.blocks, firsts, strict=False):
            low, high = max(start - first, 0), min(stop - first, block.n_rows)
            if low < high:
                parts.append(slice_rows(block, low, high))
        return concatenate(parts)

    if len(shard.blocks) > MAX_BLOCKS:
        return together(), 0
    # The same rows in every visit.
    return derived(shard.blocks[0], ("rows", start, stop), together), 0


def sampled(
    shard: Shard, seeds: np.random.SeedSequence, n: int, batch: int, *, turn: int | None
) -> Iterator[Block]:
    """Yield blocks of ``n`` rows drawn with replacement, or taken in turn from the given one."""
    n_rows = shard.n_rows
    if turn is None:
        key = seeds.generate_state(1, np.uint64)[0]
        chosen = draws(key, n, n_rows)
    else:
        chosen = (turn * n + np.arange(n)) % n_rows
    whole = GATHERED_ROWS // batch * batch or batch
    for start in range(0, n, whole):
        yield gathered(shard, chosen[start : start + whole])


def gathered(shard: Shard, numbers: np.ndarray) -> Block:
    """Return a block of the shard's rows with the given numbers, in their order."""
    if len(shard.blocks) == 1:
        return _picked(shard.blocks[0], numbers)
    ends = np.cumsum([block.n_rows for block in shard.blocks])
    owners = np.searchsorted(ends, numbers, side="right")
    pieces = []
    for owner, block in enumerate(shard.blocks):
        places = np.flatnonzero(owners == owner)
        if len(places):
            pieces.append((block, numbers[places] - (ends[owner] - block.n_rows), places))
    if any(block.is_sparse for block, _, _ in pieces):
        both = concatenate([_picked(block, rows) for block, rows, _ in pieces])
        return _picked(both, np.argsort(np.concatenate([places for _, _, places in pieces])))
    first = pieces[0][0]
    X = np.empty((len(numbers), first.n_features), np.result_type(*(b.X for b, _, _ in pieces)))
    y = np.empty((len(numbers), first.y.shape[1]), np.result_type(*(b.y for b, _, _ in pieces)))
    weighted = any(block.weight is not None for block, _, _ in pieces)
    weight = np.ones(len(numbers)) if weighted else None
    for block, rows, places in pieces:
        copy_rows(block.X, rows, places, X)
        y[places] = block.y[rows]
        if weight is not None and block.weight is not None:
            weight[places] = block.weight[rows]
    return frozen(X, y, weight, ())


def _picked(block: Block, rows: np.ndarray) -> Block:
    weight = None if block.weight is None else block.weight[rows]
    return frozen(block.X[rows], block.y[rows], weight, ())


def total_weight(block: Block) -> float:
    """Return the sum of a block's weights."""
    return float(block.n_rows) if block.weight is None else float(block.weight.sum())


def weights_of(block: Block) -> np.ndarray:
    """Return a block's weights as the kernels take them."""
    return NO_WEIGHT if block.weight is None else block.weight


def _x_bytes(block: Block) -> float:
    return 12.0 * block.X.nnz if block.is_sparse else 8.0 * block.X.size
