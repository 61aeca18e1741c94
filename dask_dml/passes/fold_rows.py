"""What several fits on different rows of the table ask of a node, answered in one visit.

A fold is a choice among the parts of a division of the rows.  Its fit sees a shard that has the
rows of those parts only: consecutive ones as slices, any others by weights of zero for the rest.
Nothing is copied, and no pass needs to know of folds.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dask_dml.blocks import Block, Shard, slice_rows
from dask_dml.input.chunks import describe_nonfinite
from dask_dml.passes import margin_stacks
from dask_dml.passes.folds import DividedRows, added, parts_of, rows_of_part
from dask_dml.passes.margin_cache import margins_by_memory
from dask_dml.passes.margins import margins

#: Runs of consecutive rows in a block up to which they are slices.
MAX_SLICES = 8
#: What the sums of requests that are answered at once may take.
STACK_BYTES = 1 << 28


@dataclass(frozen=True)
class Fold:
    """Rows that a fit sees.

    Attributes
    ----------
    division : int
        Which division of the rows.
    parts : tuple of int
        Which of its parts.
    """

    division: int
    parts: tuple[int, ...]


class Request(NamedTuple):
    """What one fit asks of every shard.

    Attributes
    ----------
    function : callable
        A shard function, or one that keeps state, see `dask_dml.rounds.base`.
    broadcast : object
        Its argument.
    fold : Fold or None
        The rows; None for all.
    stateful : bool, default=False
        Whether the function keeps state.
    by_part : bool, default=False
        Whether the function, which has no argument, is to be evaluated on each part of the fold's
        division alone; `broadcast` is their number.
    alone : bool, default=False
        Whether the function is to see no other rows, not even with weights of zero: it is called
        with some of them at a time.
    """

    function: Callable[..., Any]
    broadcast: Any
    fold: Fold | None
    stateful: bool = False
    by_part: bool = False
    alone: bool = False


class Stack(NamedTuple):
    """How requests of several fits are answered at once.

    Attributes
    ----------
    function : callable
        A shard function that answers several requests, joined, without a state.
    least : int
        Requests from which that is quicker than one by one.
    """

    function: Callable[..., Any]
    least: int


#: Functions whose requests are answered at once.  A few problems are quicker by what nodes keep.
STACKS = {margins: Stack(margins, 2), margins_by_memory: Stack(margins, 5)}


@dataclass(frozen=True)
class Requests:
    """What all fits ask in one round.

    Attributes
    ----------
    of_fit : mapping of int to Request
        By the number of the fit.
    divided : DividedRows or None
        How the rows are divided; None where nodes have been told.
    ended : tuple of int
        Fits whose state is of no more use.
    """

    of_fit: Mapping[int, Request]
    divided: DividedRows | None = None
    ended: tuple[int, ...] = ()


class Kept(NamedTuple):
    """What a node keeps from round to round.

    Attributes
    ----------
    parts : tuple of tuple of ndarray
        Part of each row, by division and block.
    states : dict of int to object
        State of each fit.
    """

    parts: tuple[tuple[np.ndarray, ...], ...]
    states: dict[int, Any]


@dataclass(frozen=True)
class Failed:
    """What takes the place of an answer where a function raised."""

    error: Exception

    def __add__(self, other: object) -> Failed:
        return self

    def __radd__(self, other: object) -> Failed:
        return self


@dataclass(frozen=True)
class PartSums:
    """An answer for each part of a division; None for a part that has no rows here."""

    parts: tuple[Any, ...]

    def __add__(self, other: PartSums) -> PartSums:
        return PartSums(
            tuple(added(one, two) for one, two in zip(self.parts, other.parts, strict=True))
        )

    def of(self, fold: Fold) -> Any:
        """Return the sum over the parts of a fold; None where they have no rows.

        It is never a difference, which would lose the digits of columns that hardly vary
        elsewhere.
        """
        total = None
        for part in fold.parts:
            total = added(total, self.parts[part])
        return total


@dataclass(frozen=True)
class Answers:
    """The answers to the requests, by the number of the fit; none where it has no rows here."""

    of_fit: dict[int, Any]

    def __add__(self, other: Answers) -> Answers:
        both = dict(self.of_fit)
        for number, answer in other.of_fit.items():
            mine = both.get(number)
            if isinstance(answer, Failed) or mine is None:
                both[number] = answer
            elif not isinstance(mine, Failed):
                both[number] = mine + answer
        return Answers(both)


@dataclass(frozen=True)
class PartRows:
    """Rows of each part in every shard: by division, an array of shape (n_shards, n_parts)."""

    counts: tuple[np.ndarray, ...]

    def __add__(self, other: PartRows) -> PartRows:
        return PartRows(
            tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        )


def divide(shard: Shard, _: Any, broadcast: tuple[DividedRows, int]) -> tuple[Kept, PartRows]:
    """Find the part of each row, keep that, and return how many rows the parts have."""
    divided, n_shards = broadcast
    kept = Kept(_find_parts(shard, divided), {})
    counts = []
    for division, of_block in zip(divided.divisions, kept.parts, strict=True):
        rows = np.zeros((n_shards, division.n_parts), dtype=np.int64)
        for parts in of_block:
            rows[shard.number] += np.bincount(parts, minlength=division.n_parts)
        counts.append(rows)
    return kept, PartRows(tuple(counts))


def answer(shard: Shard, kept: Kept | None, requests: Requests) -> tuple[Kept, Answers]:
    """Answer what several fits ask of a shard.

    A function that raises fails its own fit only.
    """
    if kept is None:
        if requests.divided is None:
            raise RuntimeError("internal error: a node was not told how the rows are divided")
        kept = Kept(_find_parts(shard, requests.divided), {})
    states = {n: state for n, state in kept.states.items() if n not in requests.ended}
    answers: dict[int, Any] = {}
    for group in _together(requests.of_fit):
        # If that fails, one of them may be to blame, which will be found one by one.
        with contextlib.suppress(Exception):
            answers |= _at_once(shard, kept, group)
    views: dict[Fold | None, Shard] = {None: shard}
    for number, request in requests.of_fit.items():
        if number in answers:
            continue
        try:
            found = _answer_one(shard, kept, states, views, number, request)
        except Exception as error:
            found = Failed(error)
        if found is not None:
            answers[number] = found
    return Kept(kept.parts, states), Answers(answers)


def _answer_one(
    shard: Shard,
    kept: Kept,
    states: dict[int, Any],
    views: dict[Fold | None, Shard],
    number: int,
    request: Request,
) -> Any:
    """Return the answer to a request, None if its fit has no rows here."""
    if request.by_part:
        return _by_part(shard, kept, request)
    if request.alone:
        return _alone(shard, kept, request)
    fold = request.fold
    if fold not in views:
        views[fold] = _view(shard, kept, fold)
    return _call(views[fold], states, number, request) if views[fold].blocks else None


def _call(rows: Shard, states: dict[int, Any], number: int, request: Request) -> Any:
    if not request.stateful:
        return request.function(rows, request.broadcast)
    state, partial = request.function(rows, states.get(number), request.broadcast)
    states[number] = state
    return partial


def _together(of_fit: Mapping[int, Request]) -> list[dict[int, Request]]:
    """Return the requests that are to be answered at once, in groups."""
    groups: dict[Any, dict[int, Request]] = {}
    for number, request in of_fit.items():
        if request.function not in STACKS:
            continue
        kind = margin_stacks.kind(request.broadcast)
        if kind is not None:
            division = None if request.fold is None else request.fold.division
            groups.setdefault((request.function, division, kind), {})[number] = request
    return [
        {number: group[number] for number in numbers}
        for group in groups.values()
        for numbers in _batched(group)
    ]


def _batched(group: Mapping[int, Request]) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of so many requests that their sums do not take too much."""
    first = next(iter(group.values()))
    most = max(STACK_BYTES // margin_stacks.n_bytes(first.broadcast), 1)
    for start in range(0, len(group), most):
        numbers = tuple(group)[start : start + most]
        if len(numbers) >= STACKS[first.function].least:
            yield numbers


def _at_once(shard: Shard, kept: Kept, group: Mapping[int, Request]) -> dict[int, Any]:
    """Answer requests of the same kind: rows of a part are visited once for all who see them.

    Fits of several folds that begin at the same point have the same sums over a part.
    """
    first = next(iter(group.values()))
    function = STACKS[first.function].function
    contents = {n: margin_stacks.content(request.broadcast) for n, request in group.items()}
    totals: dict[int, Any] = {}
    for at, block in enumerate(shard.blocks):
        parts = np.zeros(block.n_rows, np.uint8)
        if first.fold is not None:
            parts = kept.parts[first.fold.division][at]
        for part in np.unique(parts):
            seen: dict[Any, list[int]] = {}
            for number, request in group.items():
                if request.fold is None or part in request.fold.parts:
                    seen.setdefault(contents[number], []).append(number)
            if not seen:
                continue
            points = [group[numbers[0]].broadcast for numbers in seen.values()]
            joined = margin_stacks.joined(points)
            found = _sum_of_rows(shard, block, parts == part, function, joined)
            for numbers, sums in zip(
                seen.values(), margin_stacks.parted(found, points), strict=True
            ):
                for number in numbers:
                    totals[number] = added(totals.get(number), sums)
    return totals


def _find_parts(shard: Shard, divided: DividedRows) -> tuple[tuple[np.ndarray, ...], ...]:
    return tuple(
        tuple(
            # A byte a row, as long as there are not more parts.
            parts_of(block, division, divided).astype(np.min_scalar_type(division.n_parts))
            for block in shard.blocks
        )
        for division in divided.divisions
    )


def _view(shard: Shard, kept: Kept, fold: Fold | None) -> Shard:
    assert fold is not None
    blocks: list[Block] = []
    for block, parts in zip(shard.blocks, kept.parts[fold.division], strict=True):
        blocks.extend(_rows_of_fold(block, parts, fold.parts))
    return Shard(shard.number, tuple(blocks))


def _rows_of_fold(block: Block, parts: np.ndarray, chosen: Sequence[int]) -> list[Block]:
    mask = _is_in(parts, chosen)
    edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    bounds = [0, *edges[: 2 * MAX_SLICES].tolist(), block.n_rows]
    if len(edges) < 2 * MAX_SLICES:
        return [
            slice_rows(block, start, stop)
            for start, stop in itertools.pairwise(bounds)
            if start < stop and mask[start]
        ]
    weight = mask.astype(np.float64) if block.weight is None else block.weight * mask
    weight.flags.writeable = False
    return [Block(block.X, block.y, weight, block.origin)]


def _by_part(shard: Shard, kept: Kept, request: Request) -> PartSums:
    assert request.fold is not None
    of_block = kept.parts[request.fold.division]
    totals: list[Any] = [None] * request.broadcast
    for block, parts in zip(shard.blocks, of_block, strict=True):
        for part in np.unique(parts):
            found = _sum_of_rows(shard, block, parts == part, request.function, None)
            totals[part] = added(totals[part], found)
    return PartSums(tuple(totals))


def _alone(shard: Shard, kept: Kept, request: Request) -> Any:
    """Return the sum over the rows of a fold, or None if there are none."""
    if request.fold is None:
        return request.function(shard, request.broadcast)
    of_block = kept.parts[request.fold.division]
    total = None
    for block, parts in zip(shard.blocks, of_block, strict=True):
        chosen = _is_in(parts, request.fold.parts)
        if chosen.any():
            found = _sum_of_rows(shard, block, chosen, request.function, request.broadcast)
            total = added(total, found)
    return total


def _sum_of_rows(
    shard: Shard, block: Block, chosen: np.ndarray, function: Callable[..., Any], broadcast: Any
) -> Any:
    total = None
    for rows in rows_of_part(block, chosen):
        try:
            found = function(Shard(shard.number, (rows,)), broadcast)
        except ValueError as error:
            # Rows copied out of their block no longer know where they come from.
            raise ValueError(describe_nonfinite(block) or str(error)) from None
        total = added(total, found)
    return total


def _is_in(parts: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    wanted = np.zeros(1 + max(int(parts.max(initial=0)), *chosen), dtype=np.bool_)
    wanted[list(chosen)] = True
    return wanted[parts]
