"""Sufficient statistics of the parts that cross-validation divides the rows into, from one pass.

A part is a set of rows, such as the rows that one fold holds out.  No fold is a copy of the data:
every visit of a shard finds out which part a row belongs to and adds the row to the statistics of
that part.  The statistics of a training set are then the sum of those of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dask_dml.blocks import Block, Shard, frozen, slice_rows
from dask_dml.input.chunks import describe_nonfinite
from dask_dml.passes.divisions import ByClass, ClassPieces, Division
from dask_dml.passes.evaluate import block_statistics
from dask_dml.passes.partials import Statistics

T = TypeVar("T")

#: Rows that are copied at a time where the rows of a part do not follow each other.
_GATHERED_ROWS = 1 << 13
#: Rows that follow each other from which they are no copy.
_LONG_RUN = 1 << 10


@dataclass(frozen=True)
class DividedRows:
    """What a shard needs to know to find the parts of its rows.

    Attributes
    ----------
    divisions : tuple of Division
        How the rows are divided; more than once where folds overlap.
    first_row : ndarray of shape (n_chunks,)
        Position in the table of each chunk's first row.
    """

    divisions: tuple[Division, ...]
    first_row: np.ndarray


@dataclass(frozen=True)
class PartStatistics:
    """Sufficient statistics of every part of every division.

    Attributes
    ----------
    parts : tuple of tuples of Statistics or None
        By division and part; None for a part with no rows here.
    """

    parts: tuple[tuple[Statistics | None, ...], ...]

    def __add__(self, other: PartStatistics) -> PartStatistics:
        return PartStatistics(
            tuple(
                tuple(added(one, two) for one, two in zip(mine, theirs, strict=True))
                for mine, theirs in zip(self.parts, other.parts, strict=True)
            )
        )


def chunk_rows(shard: Shard, n_chunks: int) -> np.ndarray:
    """Return the number of rows that a shard holds of each chunk of the input."""
    counts = np.zeros(n_chunks, dtype=np.int64)
    for block in shard.blocks:
        for chunk, start, stop in _pieces(block):
            counts[chunk] += stop - start
    return counts


def sparse_blocks(shard: Shard, _: None = None) -> int:
    """Return how many blocks of a shard are sparse."""
    return sum(block.is_sparse for block in shard.blocks)


def part_statistics(shard: Shard, divided: DividedRows) -> PartStatistics:
    """Return the statistics of every part's rows in a shard."""
    found = []
    for division in divided.divisions:
        totals: list[Statistics | None] = [None] * division.n_parts
        for block in shard.blocks:
            parts = parts_of(block, division, divided)
            for part in np.unique(parts):
                for rows in rows_of_part(block, parts == part):
                    totals[part] = added(totals[part], _statistics_of(rows, block))
        found.append(tuple(totals))
    return PartStatistics(tuple(found))


def _statistics_of(rows: Block, block: Block) -> Statistics:
    try:
        return block_statistics(rows, 1.0)
    except ValueError as error:
        # Rows that were copied out of their block no longer know where they come from.
        raise ValueError(describe_nonfinite(block) or str(error)) from None


def added(one: T | None, two: T | None) -> T | None:
    """Return the sum of what two sets of rows contribute; None stands for no rows."""
    if one is None or two is None:
        return two if one is None else one
    return one + two  # type: ignore[operator]  # partials have +


def parts_of(block: Block, division: Division, divided: DividedRows) -> np.ndarray:
    """Return the part of each row of a block."""
    parts = []
    at = 0
    for chunk, start, stop in _pieces(block):
        first = int(divided.first_row[chunk])
        if isinstance(division, ByClass):
            y = block.y[at : at + stop - start, 0]
            parts.append(division.of_labels(y, (chunk, start)))
        else:
            parts.append(division.parts(first + start, first + stop))
        at += stop - start
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.intp)


def class_pieces(shard: Shard, _: None = None) -> ClassPieces:
    """Return which classes the runs of rows of a shard have."""
    total = ClassPieces({})
    for block in shard.blocks:
        at = 0
        for chunk, start, stop in _pieces(block):
            total += ClassPieces.of(block.y[at : at + stop - start, 0], (chunk, start))
            at += stop - start
    return total


def _pieces(block: Block) -> Iterator[tuple[int, int, int]]:
    """Yield the chunk, the first row in it, and the row after the last, of each run of rows."""
    skipped = 0
    for chunk, count in block.origin:
        if count < 0:  # see `Block.origin`
            skipped = -count
            continue
        yield chunk, skipped, count
        skipped = 0


def rows_of_part(block: Block, chosen: np.ndarray) -> Iterator[Block]:
    """Yield the chosen rows of a block: long runs as slices, others copied some at a time."""
    rows = np.flatnonzero(chosen)
    edges = np.flatnonzero(np.diff(rows) > 1) + 1
    starts, stops = np.append(0, edges), np.append(edges, len(rows))
    long = (stops - starts >= _LONG_RUN) | (len(starts) == 1)
    for start, stop in zip(starts[long], stops[long], strict=True):
        yield slice_rows(block, int(rows[start]), int(rows[stop - 1]) + 1)
    rest = rows[~np.repeat(long, stops - starts)]
    for start in range(0, len(rest), _GATHERED_ROWS):
        some = rest[start : start + _GATHERED_ROWS]
        weight = None if block.weight is None else block.weight[some]
        yield frozen(block.X[some], block.y[some], weight, block.origin)
