"""Rounds that several fits share: one visit of the data answers all of them.

Every fit runs as it does alone, with the same solver and the same steps, on rounds of its own.
What the fits ask of the data is collected, and asked in one round.  So a batch of fits takes as
many passes over the data as the slowest of them, and each result is that of the fit alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from dask_dml.passes.evaluate import moments, rough_statistics, statistics
from dask_dml.passes.fold_rows import (
    Answers,
    Failed,
    Fold,
    PartRows,
    PartSums,
    Request,
    Requests,
    answer,
    divide,
)
from dask_dml.passes.folds import DividedRows
from dask_dml.passes.margins import class_sums, column_squares
from dask_dml.rounds.base import LOSING_WORKERS, Rounds, StateLost

#: What is found once for each part of the rows, and added up for every fold that has the part.
BY_PART = (statistics, rough_statistics, moments, class_sums, column_squares)
#: Fits that are under way at a time: so many states lie beside the shards.
AT_ONCE = 256


class Fit(NamedTuple):
    """One fit of a batch.

    Attributes
    ----------
    fold : Fold or None
        The rows that it sees; None for all.
    run : callable
        ``run(rounds)`` makes its rounds and returns a result.
    candidate : int, default=0
        What is fitted: fits on several folds are of the same candidate.
    """

    fold: Fold | None
    run: Callable[[Rounds], Any]
    candidate: int = 0


class UnderWay(NamedTuple):
    """How far a batch of fits is.

    Attributes
    ----------
    fits, candidates : int
        How many have not ended.
    n_fits, n_candidates : int
        How many there are.
    """

    fits: int
    candidates: int
    n_fits: int
    n_candidates: int


class Abandoned(BaseException):
    """Ends the fits that wait for a round which another error has ended."""


class SharedRounds:
    """Runs several fits at once, on folds of the same data.

    Parameters
    ----------
    rounds : Rounds
        The data.
    divided : DividedRows
        How the rows are divided into the parts that folds are made of.
    n_threads : int, default=1
        Fits that may compute at the same time between two rounds.

    Attributes
    ----------
    after_round : callable or None
        Called with what is under way after every round of fits, in the thread that runs them.
    """

    after_round: Callable[[UnderWay], None] | None = None

    def __init__(self, rounds: Rounds, divided: DividedRows, n_threads: int = 1) -> None:
        self.rounds = rounds
        self.divided = divided
        self._rows: PartRows | None = None
        self._known: dict[tuple[Any, int], PartSums] = {}
        self.numbers = count()
        self.ended: list[int] = []
        self._told = False
        self.stopped: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.turns = threading.Semaphore(n_threads)

    def run(self, fits: Sequence[Fit]) -> list[Any]:
        """Run fits, and return the result of each, or the exception that it raised.

        Raises
        ------
        Exception
            Whatever ended a round that all of them took part in.
        """
        self._begin()
        results: list[Any] = []
        for first in range(0, len(fits), AT_ONCE):
            results.extend(self._run(fits[first : first + AT_ONCE]))
        return results

    def rows_of(self, fold: Fold | None) -> tuple[int, ...]:
        """Return the number of rows that a fold has in each shard."""
        if fold is None:
            return self.rounds.shard_rows
        assert self._rows is not None
        counts = self._rows.counts[fold.division][:, list(fold.parts)]
        return tuple(int(n) for n in counts.sum(axis=1))

    def _run(self, fits: Sequence[Fit]) -> list[Any]:
        members = [_Member(self, next(self.numbers), fit, self.rows_of(fit.fold)) for fit in fits]
        threads = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(member.work, fit.run),
                name=f"dask_dml-fit-{member.number}",
                daemon=True,
            )
            for member, fit in zip(members, fits, strict=True)
        ]
        try:
            for thread in threads:
                thread.start()
            self._serve(members)
        finally:
            for member in members:
                member.abandon()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            self.ended.extend(member.number for member in members)
        return [member.result for member in members]

    def _serve(self, members: Sequence[_Member]) -> None:
        """Make rounds until every fit has ended."""
        computing = len(members)
        while True:
            while computing:
                self.stopped.get()
                computing -= 1
            waiting = [member for member in members if not member.ended]
            if not waiting:
                return
            self._answer(waiting, members)
            if self.after_round is not None:
                self.after_round(_under_way(waiting, members))
            computing = len(waiting)
            for member in waiting:
                member.ready.set()

    def sums(self, asked: Sequence[tuple[Fold | None, Callable[..., Any], Any]]) -> list[Any]:
        """Evaluate functions on the rows of folds alone, in one pass, and return the sums.

        Parameters
        ----------
        asked : sequence of (Fold or None, function, broadcast)
            ``function(shard, broadcast)`` is called with some rows at a time.

        Raises
        ------
        Exception
            Whatever a function raised.
        """
        self._begin()
        requests = {
            next(self.numbers): Request(function, broadcast, fold, alone=True)
            for fold, function, broadcast in asked
        }
        answers = self._repeated(lambda: self._round(requests), lambda _: None)
        for found in answers.values():
            if isinstance(found, Failed):
                raise found.error
        return [answers[number] for number in requests]

    def known(self, fold: Fold | None, function: Callable[..., Any]) -> Any:
        """Return a function's sum over the rows of a fold where no pass is needed; else None."""
        if fold is None or (function, fold.division) not in self._known:
            return None
        return self._known[function, fold.division].of(fold)

    def _begin(self) -> None:
        if self._rows is None:
            self._rows = self.rounds.update(divide, (self.divided, len(self.rounds.shard_rows)))
            self._told = True

    def _answer(self, waiting: Sequence[_Member], members: Sequence[_Member]) -> None:
        asking = list(waiting)

        def ask() -> dict[int, Any]:
            asking[:] = [member for member in waiting if member.request is not None]
            return self._round({m.number: m.request for m in asking if m.request is not None})

        def lose(lost: StateLost) -> None:
            for member in members:
                member.lose(lost)

        answers = self._repeated(ask, lose)
        for member in asking:
            member.take(answers[member.number])

    def _repeated(
        self, ask: Callable[[], dict[int, Any]], lose: Callable[[StateLost], None]
    ) -> dict[int, Any]:
        """Ask again where nodes have lost what they keep, which is all gone together."""
        losses = 0
        while True:
            try:
                return ask()
            except StateLost as lost:
                self._told = False
                lose(lost)
                losses += 1
                if losses > self.rounds.max_recoveries:
                    raise RuntimeError(
                        f"workers were lost {losses} times in the same pass. {LOSING_WORKERS}"
                    ) from lost

    def _round(self, asked: Mapping[int, Request]) -> dict[int, Any]:
        """Answer what is known already, and the rest by one round."""
        sent: dict[int, Request] = {}
        by_part: dict[tuple[Any, int], int] = {}
        first = _first_alike(asked)
        for number, request in asked.items():
            if not request.by_part:
                if first[number] == number:
                    sent[number] = request
                continue
            key = _key(request)
            if key not in self._known and key not in by_part:
                by_part[key] = number
                sent[number] = request
        found: dict[int, Any] = {}
        if sent:
            ended, self.ended = tuple(self.ended), []
            told = Requests(sent, None if self._told else self.divided, ended)
            total: Answers = self.rounds.update(answer, told)
            self._told = True
            found = total.of_fit
        for key, number in by_part.items():
            if not isinstance(found[number], Failed):
                self._known[key] = found[number]
        answers = {}
        for number, request in asked.items():
            if request.by_part and request.fold is not None:
                key = _key(request)
                if key in self._known:
                    answers[number] = self._known[key].of(request.fold)
                else:
                    answers[number] = found[by_part[key]]
            else:
                answers[number] = found[first[number]]
        return answers


def _under_way(waiting: Sequence[_Member], members: Sequence[_Member]) -> UnderWay:
    alive, all_of_them = ({one.candidate for one in some} for some in (waiting, members))
    return UnderWay(len(waiting), len(alive), len(members), len(all_of_them))


def _first_alike(asked: Mapping[int, Request]) -> dict[int, int]:
    """Return for each fit the first one that asks for the same, such as for a sample."""
    known: dict[Request, int] = {}
    first = {}
    for number, request in asked.items():
        first[number] = number
        if not request.stateful and isinstance(request.broadcast, Hashable):
            with contextlib.suppress(TypeError):  # a record of arrays
                first[number] = known.setdefault(request, number)
    return first


def _key(request: Request) -> tuple[Any, int]:
    assert request.fold is not None
    return request.function, request.fold.division


class _Member:
    """The rounds of one fit of a batch; see `dask_dml.rounds.base.Rounds`."""

    def __init__(
        self, shared: SharedRounds, number: int, fit: Fit, shard_rows: tuple[int, ...]
    ) -> None:
        self.number = number
        self.fold = fit.fold
        self.candidate = fit.candidate
        self.shard_rows = shard_rows
        self.n_rounds = 0
        self.engine = shared.rounds.engine
        self.n_recoveries = shared.rounds.n_recoveries
        self.max_recoveries = shared.rounds.max_recoveries
        self.request: Request | None = None
        self._stateful = False
        self._lost: StateLost | None = None
        self.abandoned = self.ended = False
        self.ready = threading.Event()
        self.result: Any = None
        self._shared = shared
        self._answer: Any = None

    def work(self, run: Callable[[Rounds], Any]) -> None:
        """Run the fit in this thread."""
        try:
            with self._shared.turns:
                self.result = run(self)
        except BaseException as error:
            self.result = error
        finally:
            self.ended = True
            self._shared.stopped.put(None)

    def map_reduce(self, function: Any, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, broadcast)`` on the rows of the fit, and return the sum."""
        by_part = broadcast is None and function in BY_PART and self.fold is not None
        if by_part:
            assert self.fold is not None
            broadcast = self._shared.divided.divisions[self.fold.division].n_parts
        return self._ask(Request(function, broadcast, self.fold, False, by_part))

    def update(self, function: Any, broadcast: Any = None) -> Any:
        """Evaluate ``function(shard, state, broadcast)``, keep the state, return the sum."""
        if self._lost is not None:
            lost, self._lost = self._lost, None
            raise lost
        self._stateful = True
        return self._ask(Request(function, broadcast, self.fold, True))

    def _ask(self, request: Request) -> Any:
        self.request = request
        self._shared.turns.release()  # others compute while this fit waits
        self._shared.stopped.put(None)
        self.ready.wait()
        self.ready.clear()
        self._shared.turns.acquire()
        if self.abandoned:
            raise Abandoned
        if isinstance(self._answer, Failed):
            raise self._answer.error
        self.n_rounds += 1
        self.n_recoveries = self._shared.rounds.n_recoveries
        return self._answer

    def take(self, found: Any) -> None:
        """Take the answer to what was asked."""
        self._answer, self.request = found, None

    def lose(self, lost: StateLost) -> None:
        """Take note that nodes have lost what they kept for this fit."""
        if not self._stateful:
            return
        self._stateful = False
        if self.request is not None and self.request.stateful:
            self.take(Failed(lost))
        else:
            self._lost = lost

    def abandon(self) -> None:
        """Let the fit end where it waits."""
        self.abandoned = True
        self.ready.set()

    def close(self) -> None:
        """Do nothing: the owner of the shared rounds closes them."""

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
