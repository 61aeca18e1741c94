"""The shards of an earlier fit, for a fit that is to have the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Which rows of which chunks every shard consists of.

    Attributes
    ----------
    shards : tuple of tuple of (int, int, int)
        Of each shard its pieces in their order: the chunk, its first row, and the row after the
        last.  Together they are all rows.
    """

    shards: tuple[tuple[tuple[int, int, int], ...], ...]

    def check_rows(self, groups: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Raise where chunks have other numbers of rows than they had.

        Parameters
        ----------
        groups : sequence of sequence of int
            Numbers of chunks.
        rows : sequence of int
            Rows of each group.

        Raises
        ------
        ValueError
            If they differ.
        """
        known: dict[int, int] = {}
        for chunk, first, stop in (piece for shard in self.shards for piece in shard):
            known[chunk] = known.get(chunk, 0) + stop - first
        for group, n_rows in zip(groups, rows, strict=True):
            before = sum(known.pop(chunk, 0) for chunk in group)
            if before != n_rows:
                raise other_rows(group[0], group[-1], n_rows, before)
        if known:
            chunk, before = min(known.items())
            raise other_rows(chunk, chunk, 0, before)

    def chunks(self) -> list[list[int]]:
        """Return the chunks of each shard, which has to consist of whole ones.

        Raises
        ------
        ValueError
            If it does not.
        """
        found = [[chunk for chunk, _, _ in shard] for shard in self.shards]
        if len({chunk for shard in found for chunk in shard}) != sum(map(len, found)):
            raise ValueError(
                "The checkpoint was written by a fit that had all rows in its own process, and "
                "shared a chunk out among several shards, which is not possible on a cluster or "
                "with data that is read anew in every pass. Go on where it was written, or give "
                "another checkpoint."
            )
        return found

    def positions(self, groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the positions of the groups that each shard consists of, which are whole ones."""
        place = {chunk: at for at, group in enumerate(groups) for chunk in group}
        return [list(dict.fromkeys(place[chunk] for chunk in shard)) for shard in self.chunks()]

    def splits(self, groups: Sequence[Sequence[int]]) -> bool:
        """Return whether some group of chunks belongs to several shards."""
        home = {chunk: n for n, shard in enumerate(self.chunks()) for chunk in shard}
        return any(len({home[c] for c in group if c in home}) > 1 for group in groups)


def other_rows(first: int, last: int, n_rows: int, before: int) -> ValueError:
    """Return the error for chunks that have other numbers of rows than they had."""
    which = f"chunk {first} of X has" if first == last else f"chunks {first} to {last} of X have"
    return ValueError(
        f"The checkpoint belongs to other data: {which} {n_rows} rows, and had {before}. Give the "
        "same data in the same chunks, or another checkpoint."
    )
