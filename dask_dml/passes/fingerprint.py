"""A fingerprint of the rows, by which two tables are told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_dml.blocks import Block, Matrix, Shard

#: Entries that are looked at in one go: what is computed of them stays in the cache.
TILE = 2**15

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


@dataclass(frozen=True)
class Fingerprint:
    """Which rows of which chunks the shards consist of, in their order, and hashes of them.

    Attributes
    ----------
    pieces : ndarray of int64 of shape (n_pieces, 4)
        Shard, chunk, first row in the chunk, and the row after the last.
    hashes : ndarray of uint64 of shape (n_pieces, 3)
        Of X, y and the weights.
    """

    pieces: np.ndarray
    hashes: np.ndarray

    def __add__(self, other: Fingerprint) -> Fingerprint:
        return Fingerprint(
            np.concatenate([self.pieces, other.pieces]),
            np.concatenate([self.hashes, other.hashes]),
        )


def fingerprint(shard: Shard, _: None = None) -> Fingerprint:
    """Return the fingerprint of a shard.

    A row counts by the bits of its values, and by its place in its chunk.  Dense rows and CSR
    rows of the same values have the same hash.

    Notes
    -----
    Multilinear hashing (Carter and Wegman, 1979) modulo ``2**64``, with the mixing function of
    Steele, Lea and Flood (2014).
    """
    pieces, hashes = [], []
    for block in shard.blocks:
        rows = [_row_hashes(block.X), _row_hashes(block.y), _weight_hashes(block)]
        start = 0
        for chunk, first, stop in pieces_of(block):
            n_rows = stop - first
            place = _mixed(np.arange(first, stop, dtype=np.uint64) + np.uint64(1))
            part = slice(start, start + n_rows)
            hashes.append([_mixed(one[part] + place).sum() for one in rows])
            pieces.append((shard.number, chunk, first, stop))
            start += n_rows
    return Fingerprint(
        np.array(pieces, dtype=np.int64).reshape(-1, 4),
        np.array(hashes, dtype=np.uint64).reshape(-1, 3),
    )


def pieces_of(block: Block) -> list[tuple[int, int, int]]:
    """Return the chunks that a block's rows came from, each with its first row and its end."""
    found, first = [], 0
    for chunk, stop in block.origin:
        if stop < 0:
            first = -stop
            continue
        if stop > first:
            found.append((chunk, first, stop))
        first = 0
    return found


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> _SHIFTS[0])) * _MIX[0]
    values = (values ^ (values >> _SHIFTS[1])) * _MIX[1]
    return values ^ (values >> _SHIFTS[2])


def _factors(columns: np.ndarray) -> np.ndarray:
    return _mixed((columns.astype(np.uint64) + np.uint64(1)) * _ODD) | np.uint64(1)


def _bits(values: np.ndarray) -> np.ndarray:
    # Zero has two signs, which no sum can tell apart.
    values = np.ascontiguousarray(values, dtype=np.float64) + 0.0
    return values.view(np.uint64)


def _weight_hashes(block: Block) -> np.ndarray:
    if block.weight is None:
        return np.zeros(block.n_rows, dtype=np.uint64)
    return _row_hashes(block.weight[:, np.newaxis])


def _row_hashes(rows: Matrix) -> np.ndarray:
    n_rows, n_columns = rows.shape
    hashes = np.zeros(n_rows, dtype=np.uint64)
    if isinstance(rows, np.ndarray):
        factors = _factors(np.arange(n_columns))
        step = max(1, TILE // max(1, n_columns))
        for start in range(0, n_rows, step):
            hashes[start : start + step] = (_bits(rows[start : start + step]) * factors).sum(axis=1)
        return hashes
    bounds = np.searchsorted(rows.indptr, np.arange(0, rows.nnz + TILE, TILE), side="right") - 1
    for start, stop in zip(bounds, np.append(bounds[1:], n_rows), strict=True):
        low, high = rows.indptr[start], rows.indptr[stop]
        terms = np.zeros(high - low + 1, dtype=np.uint64)
        factors = _factors(rows.indices[low:high])
        np.cumsum(_bits(rows.data[low:high]) * factors, out=terms[1:])
        hashes[start:stop] = np.diff(terms[rows.indptr[start : stop + 1] - low])
    return hashes
