"""Placing blocks on the workers of a cluster, and placing them again after a loss."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from dask.base import is_dask_collection

from dask_dml.input.chunks import Chunks
from dask_dml.input.clients import round_timeout, worker_info, worker_threads
from dask_dml.rounds import worker as on_worker
from dask_dml.rounds.calls import WorkersGone, call_workers, timed_out
from dask_dml.rounds.layout import Layout
from dask_dml.rounds.plan import (
    Piece,
    WantedShards,
    check_rows,
    group_chunks,
    merged_size,
    plan_shards,
    rehome,
    runs_to_visit,
)
from dask_dml.rounds.tasks import (
    PREFIX,
    block_spec,
    chunk_tasks,
    group_name,
    merge_blocks,
    to_block,
    to_blocks,
)
from dask_dml.rounds.waiting import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future


class Placement:
    """The blocks of one fit on a cluster: which shard consists of which, and where it is.

    Blocks are ordinary Dask data that this object's futures keep alive: the cluster counts
    them, may spill them, and computes them again when a worker is lost.

    Parameters
    ----------
    client : Client
        The cluster.
    fit : str
        Identifies the fit; part of every key.
    chunks : Chunks
        Lazy input.
    n_shards : int, "blocks", "several", Layout or None
        See `dask_dml.rounds.plan.plan_shards`.

    Attributes
    ----------
    keys : list of tuple of str
        The blocks of each shard.
    homes : dict of int to str
        The worker of each shard.
    shard_rows : tuple of int
        Number of rows of each shard.
    shard_bytes : tuple of int
        Bytes of each shard.
    """

    def __init__(self, client: Client, fit: str, chunks: Chunks, n_shards: WantedShards) -> None:
        self.client = client
        self.fit = fit
        self.n_shards = n_shards
        self.keys: list[tuple[str, ...]] = []
        self.homes: dict[int, str] = {}
        self.shard_rows: tuple[int, ...] = ()
        self.shard_bytes: tuple[int, ...] = ()
        self._futures: dict[str, Future] = {}
        self._names: dict[str, str] = {}
        self._groups: dict[str, range] = {}
        self._number = count()
        try:
            self._place(chunks)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go of all blocks, also of those that are still being computed."""
        # One by one and by hand: frames in a traceback may hold on to the futures.
        for future in self._futures.values():
            future.release()
        self._futures.clear()

    def plans(self) -> dict[str, dict[int, tuple[str, ...]]]:
        """Return the shards and their keys by worker."""
        plans: dict[str, dict[int, tuple[str, ...]]] = {}
        for number, home in sorted(self.homes.items()):
            plans.setdefault(home, {})[number] = self.keys[number]
        return plans

    def describe(self, number: int) -> str:
        """Return the chunks of a shard in words."""
        names = list(dict.fromkeys(self._names[key] for key in self.keys[number]))
        return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

    # Placing for the first time

    def _place(self, chunks: Chunks) -> None:
        sources = self._compute_blocks(chunks)
        pieces = self._locate(sources, "chunk")
        full = [key for key in sources if pieces[key].n_rows]
        self._drop(set(sources) - set(full))
        check_rows(len(full), chunks.n_features)
        ordered = [pieces[key] for key in full]
        shards = plan_shards(ordered, self._threads(), self._wanted_shards(full, ordered))
        self.shard_rows = tuple(sum(ordered[p].n_rows for p in s.pieces) for s in shards)
        self.shard_bytes = tuple(sum(ordered[p].nbytes for p in s.pieces) for s in shards)
        limit = merged_size(piece.nbytes for piece in ordered)
        for number, shard in enumerate(shards):
            self.homes[number] = shard.home
            keys = [full[position] for position in shard.pieces]
            runs = runs_to_visit([ordered[position].nbytes for position in shard.pieces], limit)
            self.keys.append(
                tuple(
                    self._merge([keys[i] for i in run], shard.home, pieces[keys[run[0]]].holders)
                    for run in runs
                )
            )
        used = {key for keys in self.keys for key in keys}
        self._settle([key for key in used if key not in pieces])
        self._drop(set(full) - used)

    def _wanted_shards(
        self, full: Sequence[str], pieces: Sequence[Piece]
    ) -> int | Literal["blocks", "several"] | list[list[int]] | None:
        if not isinstance(self.n_shards, Layout):
            return self.n_shards
        groups = [self._groups[key] for key in full]
        self.n_shards.check_rows(groups, [piece.n_rows for piece in pieces])
        return self.n_shards.positions(groups)

    def _compute_blocks(self, chunks: Chunks) -> list[str]:
        """Turn the chunks into blocks, each where Dask finds best."""
        n_chunks = len(chunks.X)
        groups = group_chunks(n_chunks, chunks.nbytes)
        if self.n_shards == "blocks" or (
            isinstance(self.n_shards, Layout) and self.n_shards.splits(groups)
        ):
            groups = [range(number, number + 1) for number in range(n_chunks)]
        keys = [f"{PREFIX}chunk-{self.fit}-{group[0]}" for group in groups]
        self._groups = dict(zip(keys, groups, strict=True))
        self._names = {key: group_name(group) for key, group in zip(keys, groups, strict=True)}
        if len(groups) == n_chunks:
            tasks = chunk_tasks(chunks, to_block, keys, dict.fromkeys(range(n_chunks), ()))
            self._futures.update(zip(keys, self.client.compute(tasks), strict=True))
        else:
            self._compute_groups(chunks, groups, keys)
        self._settle(keys)
        return keys

    def _compute_groups(self, chunks: Chunks, groups: Sequence[range], keys: Sequence[str]) -> None:
        # With so many chunks a graph of Delayed calls costs several times what the tasks do.
        columns = [chunks.X, chunks.y, chunks.weight or [None] * len(chunks.X)]
        lazy = {
            id(entry): entry for column in columns for entry in column if is_dask_collection(entry)
        }
        computed = dict(zip(lazy, self.client.compute(list(lazy.values())), strict=True))
        try:
            for group, key in zip(groups, keys, strict=True):
                entries = [
                    [computed.get(id(column[n]), column[n]) for n in group] for column in columns
                ]
                self._futures[key] = self.client.submit(
                    to_blocks, *entries, list(group), block_spec(chunks), key=key, pure=False
                )
        finally:
            for future in computed.values():
                future.release()

    def _merge(self, keys: Sequence[str], home: str, holders: Collection[str]) -> str:
        """Have blocks joined into one on a worker; a single one that is there stays as it is."""
        if len(keys) == 1 and home in holders:
            return keys[0]
        key = f"{PREFIX}block-{self.fit}-{next(self._number)}"
        # Not strictly on that worker: a strict restriction would leave the block without a
        # place to be computed again, should the worker be lost.
        self._futures[key] = self.client.submit(
            merge_blocks,
            [self._futures[source] for source in keys],
            key=key,
            pure=False,
            workers=[home],
            allow_other_workers=True,
        )
        self._names[key] = ", ".join(self._names[source] for source in keys[:3]) + (
            ", ..." if len(keys) > 3 else ""
        )
        return key

    def _drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._futures.pop(key).release()

    # Placing again

    def replace(self, wanted: Mapping[int, str] | None = None) -> dict[int, str]:
        """Give every shard a living worker again, after workers were lost or blocks moved.

        Blocks that went down are computed again by Dask, wherever it likes; then whole shards
        are brought together on the least loaded workers, new ones among them, or on those that
        are ``wanted``.

        Returns
        -------
        moved : dict of int to str
            The shards that changed their worker, and the worker they had before.
        """
        everything = [key for keys in self.keys for key in keys]
        self._settle(everything)
        holders = self._holders(everything)
        workers = worker_info(self.client)
        homes = dict(wanted or {})
        if not homes or not set(homes.values()) <= set(workers):
            homes = rehome(
                dict(enumerate(self.shard_rows)),
                {n: [holders[key] for key in keys] for n, keys in enumerate(self.keys)},
                self.homes,
                {address: info["nthreads"] for address, info in workers.items()},
                {address for address, info in workers.items() if info["status"] == "running"},
            )
        before = self.homes
        moved = {number: before[number] for number in homes if homes[number] != before[number]}
        new: list[str] = []
        old: list[str] = []
        for number, home in homes.items():
            keys = tuple(self._merge([key], home, holders[key]) for key in self.keys[number])
            new += set(keys) - set(self.keys[number])
            old += set(self.keys[number]) - set(keys)
            self.keys[number] = keys
        self.homes = homes
        self._settle(new)
        self._drop(old)
        return moved

    def _holders(self, keys: Sequence[str]) -> dict[str, frozenset[str]]:
        """Ask the workers which blocks they have, until each is somewhere."""
        holders: dict[str, set[str]] = {}

        def look(reports: Mapping[str, Any]) -> bool:
            holders.clear()
            for address, held in reports.items():
                for key in held:
                    holders.setdefault(key, set()).add(address)
            return len(holders) == len(keys)

        self._await(look, keys, on_worker.held_keys, keys)
        return {key: frozenset(addresses) for key, addresses in holders.items()}

    # Waiting

    def _settle(self, keys: Sequence[str]) -> None:
        """Wait until blocks are computed; raise the own exception of one that cannot be."""
        settle(self.client, {key: self._futures[key] for key in keys}, self._names)

    # Finding out what is where

    def _threads(self) -> dict[str, int]:
        return worker_threads(self.client, "placement")

    def _locate(self, keys: Sequence[str], stage: str) -> dict[str, Piece]:
        """Ask the workers for the sizes of blocks, and wait for those that are on the way."""
        wanted = set(keys)
        pieces: dict[str, Piece] = {}

        def look(reports: Mapping[str, Any]) -> bool:
            found: dict[str, tuple[int, int, set[str]]] = {}
            for address, report in reports.items():
                for key, (n_rows, nbytes) in report.items():
                    found.setdefault(key, (n_rows, nbytes, set()))[2].add(address)
            pieces.clear()
            pieces.update(
                {
                    key: Piece(n_rows, nbytes, frozenset(holders))
                    for key, (n_rows, nbytes, holders) in found.items()
                    if key in wanted
                }
            )
            return wanted <= set(pieces)

        self._await(look, keys, on_worker.census, self.fit, stage)
        return pieces

    def _await(
        self,
        enough: Callable[[Mapping[str, Any]], bool],
        keys: Sequence[str],
        function: Callable[..., Any],
        *args: Any,
    ) -> None:
        """Ask all workers until their answers are enough, or some block cannot come back."""
        limit = round_timeout()
        deadline = time.monotonic() + limit
        pause = 0.01
        while True:
            try:
                reports = call_workers(
                    self.client, function, *args, workers=self._threads(), what="placement"
                )
            except WorkersGone:
                reports = {}
            if reports and enough(reports):
                return
            if time.monotonic() > deadline:
                raise timed_out("waiting for blocks to come back", limit)
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
            self._settle(keys)
