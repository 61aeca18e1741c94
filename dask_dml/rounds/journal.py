"""Rounds that are written down, so that another process need not make them again.

What a solver does is a function of the answers to its rounds, and of nothing else.  So a fit is
taken up again by running its solver anew, on the answers that were written down: the solver asks
the same questions, and comes to where it was without a visit of the data.  An answer is used for
the very question that it was given to, in its turn, and for no other: were the solver to ask
anything else, what was written down ends there, and the data is visited from there on.

An answer that says so itself (``cut``: nodes ran out of time) is not one that another process with
more time would be given: it is not written down, and nothing that follows from it.

What nodes keep beside their shards is not written down.  The first round that needs it is told
that it was lost with its worker, from which every solver recovers.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dask_dml.rounds.base import Rounds, ShardFunction, StateFunction, StateLost
from dask_dml.rounds.log import logger
from dask_dml.rounds.packing import fingerprint, pack, unpack
from dask_dml.rounds.store import Segment, Store

#: Writing takes at most this share of the time.
WRITING_SHARE = 0.05


class Journal:
    """The answers to the rounds of a fit, in a folder.

    Parameters
    ----------
    store : Store
        The folder.
    facts : dict
        What is known of the fit; JSON.
    segments : list of Segment
        What has been written so far.
    seconds : float
        Time between two writes.
    rounds : int or None
        Rounds between two writes; whichever comes first.
    """

    def __init__(
        self,
        store: Store,
        facts: dict[str, Any],
        segments: list[Segment],
        seconds: float,
        rounds: int | None,
    ) -> None:
        self.store = store
        self.facts = facts
        self._segments = segments
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

    def write(self) -> None:
        """Write down what has not been written yet; a failure to do so is no failure of the fit."""
        start = time.monotonic()
        try:
            if self._new:
                self._segments.append(self.store.write_segment(len(self._segments), self._new))
            self.store.write_manifest(self.facts, self._segments)
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

    def finish(self, *, keep: bool) -> None:
        """End with a checkpoint that can be taken up again, or with none."""
        if not keep:
            self._new.clear()
            self.store.delete()
        elif self._new:
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
            total = self._update(question, lambda: self._inner.update(function, broadcast))
        else:
            total, lost = found
            if lost:
                raise StateLost(lost)
            self._stateless = True
        return self._counted(total)

    def _counted(self, total: Any) -> Any:
        self.n_rounds += 1
        self.n_recoveries = self._inner.n_recoveries
        return total

    def _update(self, question: str, update: Callable[[], Any]) -> Any:
        try:
            if self._stateless:
                self._stateless = False
                raise StateLost(range(len(self.shard_rows)))
            total = update()
        except StateLost as error:
            self._add(question, None, error.shards)
            raise
        self._add(question, total)
        return total

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
