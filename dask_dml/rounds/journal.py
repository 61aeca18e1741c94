"""Rounds that are written down, so that another process need not make them again.

What a solver does is a function of the answers to its rounds, and of nothing else.  So a fit is
taken up again by running its solver anew, on the answers that were written down: the solver asks
the same questions, and comes to where it was without a visit of the data.  An answer is used for
the very question that it was given to, in its turn, and for no other: were the solver to ask
anything else, what was written down ends there, and the data is visited from there on.

An answer that says so itself (``cut``: nodes ran out of time) is not one that another process with
more time would be given: it is not written down, and nothing that follows from it.

What nodes keep beside their shards is written down where that cannot be worked out again, in
another file that each time replaces the one before (`worth_saving`), if it is not too large to pass
through the driver.  It belongs to the rounds so far: a process that has come to the end of these
gives it back to the nodes.  Where there is none, the first round that needs it is told that it was
lost with its worker, from which every solver recovers.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dask_dml.blocks import Shard
from dask_dml.rounds.base import Part, Rounds, ShardFunction, StateFunction, StateLost, part_of
from dask_dml.rounds.log import logger
from dask_dml.rounds.packing import fingerprint, pack, unpack
from dask_dml.rounds.store import Manifest, Segment, Store

#: Writing takes at most this share of the time.
WRITING_SHARE = 0.05


#: What nodes keep passes through the driver where it takes no more than that in all.
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SavedStates:
    """What nodes keep; ``+`` joins.

    Attributes
    ----------
    parts : dict of (int, int) to object, or None
        By `part_of` a shard; None where something is missing or too large.
    changes : int
        Rounds that have made it so.
    """

    parts: dict[Part, Any] | None
    changes: int = 0

    def __add__(self, other: SavedStates) -> SavedStates:
        if self.parts is None or other.parts is None:
            return SavedStates(None)
        return SavedStates(self.parts | other.parts)


@dataclass(frozen=True)
class SaveLimit:
    """Bytes that all nodes may send, in proportion to their rows."""

    nbytes: int
    n_rows: int


def save_states(shard: Shard, state: Any, limit: SaveLimit) -> tuple[Any, SavedStates]:
    """Return what a node keeps, if there is something, and not too much of it."""
    saved = None if state is None else state.saved(shard)
    if saved is None or saved.nbytes > limit.nbytes * shard.n_rows / limit.n_rows:
        return state, SavedStates(None)
    return state, SavedStates({part_of(shard): saved})


def restore_states(shard: Shard, _: Any, parts: Mapping[Part, Any]) -> tuple[Any, float]:
    """Have a node keep what it kept in another process."""
    return parts[part_of(shard)].restored(shard), 0.0


class Journal:
    """The answers to the rounds of a fit, in a folder.

    Parameters
    ----------
    store : Store
        The folder.
    known : Manifest
        What has been written so far.
    seconds : float
        Time between two writes.
    rounds : int or None
        Rounds between two writes; whichever comes first.
    """

    def __init__(
        self,
        store: Store,
        known: Manifest,
        seconds: float,
        rounds: int | None,
    ) -> None:
        self.store = store
        self.facts = known.facts
        segments = self._segments = list(known.segments)
        # What nodes kept when that was written, and whether it has changed since.
        self._state, self._changed = known.state, False
        self.ask_nodes: Callable[[], SavedStates | None] = lambda: None
        self._seconds, self._rounds = seconds, rounds
        self._ahead: Iterator[Any] = self._written(segments)
        self._left = sum(segment.records for segment in segments)
        self._used = 0
        self._new: list[Any] = []
        self._last = time.monotonic()
        self._cost = 0.0
        self._failed = False

    @property
    def n_recorded(self) -> int:
        """Answers that have been written down and not been asked for yet."""
        return self._left

    def _written(self, segments: list[Segment]) -> Iterator[Any]:
        for segment in tuple(segments):
            yield from self.store.read_segment(segment)

    def recall(self, question: str) -> tuple[Any, tuple[int, ...]] | None:
        """Return the answer to the next question, and the shards whose state was lost.

        None where nothing was written down; what follows another question is forgotten.
        """
        if not self._left:
            return None
        known, text, buffers, lost = next(self._ahead)
        if known != question:
            logger.warning(
                "%d rounds of the checkpoint in %r are made again: this process asks for other "
                "ones, because its processor or its libraries round differently.",
                self._left,
                self.store.url,
            )
            self._forget()
            return None
        self._left -= 1
        self._used += 1
        return unpack(json.loads(text), buffers), lost

    def _forget(self) -> None:
        """Keep what has been asked for only."""
        kept, used = [], self._used
        for segment in self._segments:
            records = min(segment.records, used)
            used -= records
            if records:
                kept.append(Segment(segment.name, segment.size, segment.sha256, records))
        self._segments, self._left = kept, 0

    def add(self, question: str, answer: Any, lost: tuple[int, ...] = ()) -> None:
        """Write an answer down, now or with those that come after it."""
        tree, buffers = pack(answer)
        raw = [np.frombuffer(one, dtype=np.uint8) for one in buffers]
        self._new.append((question, json.dumps(tree), raw, lost))
        since = time.monotonic() - self._last
        due = since >= max(self._seconds, self._cost / WRITING_SHARE)
        if due or (self._rounds is not None and len(self._new) >= self._rounds):
            self.write()

    def changed(self) -> None:
        """Take note that nodes keep something else now."""
        self._changed = True

    def state(self) -> SavedStates | None:
        """Return what nodes kept when that was written last."""
        if self._state is None:
            return None
        (text, buffers), *_ = self.store.read_segment(self._state)
        found: SavedStates = unpack(json.loads(text), [zlib.decompress(raw) for raw in buffers])
        return found

    def forget_state(self) -> None:
        """Take no note any more of what nodes kept."""
        self._state = None

    def write(self) -> None:
        """Write down what has not been written yet; a failure to do so is no failure of the fit."""
        start = time.monotonic()
        try:
            before, segments = self._state, list(self._segments)
            state = self._new_state() if self._changed else before
            if self._new:
                segments.append(self.store.write_segment(f"{len(segments):06d}", self._new))
            self.store.write_manifest(Manifest(self.facts, segments, state))
            self._segments, self._state, self._changed = segments, state, False
            if before is not None and before != state:
                self.store.remove(before)
        except Exception as error:  # each file system has its own
            logger.log(
                logging.DEBUG if self._failed else logging.WARNING,
                "the checkpoint in %r cannot be written, and stays as it is: %s",
                self.store.url,
                error,
            )
            self._failed = True
        else:
            self._new.clear()
            self._failed = False
        self._last = time.monotonic()
        self._cost = self._last - start

    def _new_state(self) -> Segment | None:
        states = self.ask_nodes()
        if states is None:
            return None
        tree, buffers = pack(states)
        small = [np.frombuffer(zlib.compress(raw, 1), dtype=np.uint8) for raw in buffers]
        return self.store.write_segment("state", [(json.dumps(tree), small)])

    def finish(self, *, keep: bool) -> None:
        """End with a checkpoint that can be taken up again, or with none.

        The nodes are not asked any more: what they were asked after they were saved last is not
        written down then, as it would be of no use without what they keep.
        """
        if not keep:
            self._new.clear()
            self.store.delete()
        elif self._new and not (self._changed and self._state is not None):
            self._changed = False
            self.write()


class RecordedRounds:
    """Rounds whose answers a journal knows, or is told.

    Parameters
    ----------
    rounds : Rounds
        Where the data is; closed by its owner.
    journal : Journal
        What is known.
    """

    def __init__(self, rounds: Rounds, journal: Journal) -> None:
        self._inner = rounds
        self._journal = journal
        self.shard_rows = rounds.shard_rows
        self.engine = rounds.engine
        self.max_recoveries = rounds.max_recoveries
        self.n_rounds = 0
        self.n_recoveries = rounds.n_recoveries
        # Whether nodes ought to keep what they were told by rounds that were not made.
        self._stateless = False
        self._cut = False
        # Rounds that have changed what nodes keep, and whether a checkpoint holds that.
        self._changes, self._saved = 0, False
        self._lost: tuple[int, ...] = ()
        self._told = False
        journal.ask_nodes = self._ask_nodes

    def map_reduce(self, function: ShardFunction, broadcast: Any = None) -> Any:
        """Return the sum over the shards, known or new."""
        question = fingerprint(("map_reduce", function, broadcast))
        found = self._journal.recall(question)
        total = self._inner.map_reduce(function, broadcast) if found is None else found[0]
        if found is None:
            self._add(question, total)
        return self._counted(total)

    def update(self, function: StateFunction, broadcast: Any = None) -> Any:
        """Return the sum over the shards, known or new; state is kept by new rounds only."""
        question = fingerprint(("update", function, broadcast))
        found = self._journal.recall(question)
        if found is None:
            total = self._update(question, function, broadcast)
        else:
            total, lost = found
            self._count_change(function)
            if lost:
                raise StateLost(lost)
            self._stateless = True
        return self._counted(total)

    def _counted(self, total: Any) -> Any:
        self.n_rounds += 1
        self.n_recoveries = self._inner.n_recoveries
        return total

    def _count_change(self, function: StateFunction) -> bool:
        changes = not hasattr(function, "only_reads")
        if changes:
            self._changes += 1
            self._saved = hasattr(function, "worth_saving")
        return changes

    def _update(self, question: str, function: StateFunction, broadcast: Any) -> Any:
        try:
            self._regain()
            total = self._inner.update(function, broadcast)
        except StateLost as error:
            self._count_change(function)
            self._saved = False
            self._journal.changed()
            self._add(question, None, error.shards)
            raise
        if self._count_change(function):
            self._journal.changed()
        self._add(question, total)
        return total

    def _regain(self) -> None:
        """Give the nodes back what they kept, or say that it is lost."""
        if self._lost:
            lost, self._lost = self._lost, ()
            raise StateLost(lost)
        if not self._stateless:
            return
        self._stateless = False
        states = self._journal.state()
        if states is None or states.changes != self._changes or states.parts is None:
            self._journal.forget_state()
            raise StateLost(range(len(self.shard_rows)))
        self._inner.update(restore_states, states.parts)

    def _ask_nodes(self) -> SavedStates | None:
        """Return what the nodes keep, where that is written down."""
        if self._cut or not self._saved:
            return None
        limit = SaveLimit(MOST_BYTES, sum(self.shard_rows))
        try:
            found: SavedStates = self._inner.update(save_states, limit)
        except StateLost as error:
            # The solver is told by its next round.
            self._lost = error.shards
            return None
        if found.parts is None:
            logger.log(
                logging.DEBUG if self._told else logging.WARNING,
                "what the solver keeps beside the rows takes more than %d MiB: the checkpoint in "
                "%r does not hold it, and it is worked out again if the fit is taken up again.",
                MOST_BYTES // 2**20,
                self._journal.store.url,
            )
            self._told = True
            return None
        return replace(found, changes=self._changes)

    def _add(self, question: str, total: Any, lost: tuple[int, ...] = ()) -> None:
        self._cut |= getattr(total, "cut", False)
        if not self._cut:
            self._journal.add(question, total, lost)

    def close(self) -> None:
        """Do nothing: the rounds are closed, and the journal is finished, by their owners."""

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
