"""Decisions about placing data: pure functions of sizes, with no cluster in sight."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dask_dml.rounds.layout import Layout

#: Blocks below this size are merged with their neighbours: visiting a block costs some
#: microseconds whatever its size.
SMALL_BLOCK = 4 * 2**20

#: So few blocks of a shard are not worth a stage of tasks that merges them.
FEW_BLOCKS = 8

#: Merged blocks stay below this size, so that they can still be moved and spilled piecemeal.
MERGED_BLOCK = 64 * 2**20

#: Beyond this number small chunks are read several by a task.
MANY_CHUNKS = 2000

#: Shards that a thread gets where a fit leaves their number open, so that some can move to workers
#: that join, and bytes of the smallest: beside visiting that many, a shard costs next to nothing.
SEVERAL, LEAST_SHARD = 4, 32 * 2**20

NumberOfShards: TypeAlias = int | Literal["blocks"] | Layout | None
WantedShards: TypeAlias = NumberOfShards | Literal["several"]


@dataclass(frozen=True)
class Piece:
    """What the driver knows of a block: its size, and which workers hold it."""

    n_rows: int
    nbytes: int
    holders: frozenset[str]


@dataclass(frozen=True)
class ShardPlan:
    """The pieces of a shard by their position, in order, and the worker that is to hold them."""

    pieces: tuple[int, ...]
    home: str


def check_n_shards(n_shards: object) -> None:
    """Raise for a value of ``n_shards`` that is neither None, a known word nor a positive integer.

    Raises
    ------
    ValueError
        If the value is not one of these.
    """
    if n_shards is None or n_shards in ("blocks", "several") or isinstance(n_shards, Layout):
        return
    if isinstance(n_shards, bool) or not hasattr(n_shards, "__index__") or n_shards < 1:  # type: ignore[operator]  # a number by then
        raise ValueError(
            f'n_shards must be None, "blocks" or an integer of at least 1, got {n_shards!r}'
        )


def check_rows(n_blocks: int, n_features: int) -> None:
    """Raise where no block has any rows.

    Raises
    ------
    ValueError
        In scikit-learn's wording.
    """
    if not n_blocks:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0, {n_features})) while a minimum of 1 is "
            "required."
        )


def split_by_rows(rows: Sequence[int], n_parts: int) -> list[range]:
    """Cut consecutive blocks into contiguous ranges of about equally many rows.

    Parameters
    ----------
    rows : sequence of int
        Rows of each block.
    n_parts : int
        Number of ranges wanted; there are fewer where there are fewer blocks.

    Returns
    -------
    ranges : list of range
        Positions into ``rows``; none is empty.
    """
    n_parts = min(n_parts, len(rows))
    left = sum(rows)
    ranges, start = [], 0
    for part in range(n_parts, 0, -1):
        last_start = len(rows) - (part - 1)
        goal, taken, stop = left / part, 0, start
        # Take the next block while that brings the range nearer to its share.
        while stop < last_start and (stop == start or part == 1 or taken + rows[stop] / 2 <= goal):
            taken += rows[stop]
            stop += 1
        ranges.append(range(start, stop))
        left -= taken
        start = stop
    return ranges


def group_chunks(n_chunks: int, nbytes: float) -> list[range]:
    """Group consecutive chunks where there are too many small ones to have a task each.

    A task costs Dask a millisecond or more.  The groups depend on the input alone, so that the
    shards of all engines are made of the same rows.

    Parameters
    ----------
    n_chunks : int
        Number of chunks.
    nbytes : float
        Memory of all of them; nan where unknown, which makes each chunk a group.

    Returns
    -------
    groups : list of range
        Numbers of chunks.
    """
    size = 1
    if n_chunks > MANY_CHUNKS and nbytes / n_chunks < SMALL_BLOCK:
        size = min(-(-n_chunks // MANY_CHUNKS), MERGED_BLOCK // SMALL_BLOCK)
    return [range(start, min(start + size, n_chunks)) for start in range(0, n_chunks, size)]


def split_chunks(rows: Sequence[int], nbytes: float, n_parts: int) -> list[list[int]]:
    """Cut chunks, some of them perhaps empty, into contiguous parts of about equally many rows.

    Parameters
    ----------
    rows : sequence of int
        Rows of each chunk.
    nbytes : float
        Memory of all of them, see `group_chunks`.
    n_parts : int
        Number of parts wanted.

    Returns
    -------
    parts : list of list of int
        Numbers of the chunks that have rows.
    """
    groups = [[n for n in group if rows[n]] for group in group_chunks(len(rows), nbytes)]
    groups = [group for group in groups if group]
    return [
        [number for position in run for number in groups[position]]
        for run in split_by_rows([sum(rows[n] for n in group) for group in groups], n_parts)
    ]


def merged_size(nbytes: Iterable[int]) -> int:
    """Return the bytes that a merged block may have, for the blocks of all shards.

    At most half of them: nothing ever holds all of X, however small it is, even where all of it
    is one shard.
    """
    return min(MERGED_BLOCK, -(-sum(nbytes) // 2))


def runs_to_visit(nbytes: Sequence[int], limit: int) -> list[range]:
    """Group the blocks of a shard as by `merge_runs`; a few stay as they are."""
    if len(nbytes) <= FEW_BLOCKS:
        return [range(position, position + 1) for position in range(len(nbytes))]
    return merge_runs(nbytes, limit)


def merge_runs(nbytes: Sequence[int], limit: int, small: int = SMALL_BLOCK) -> list[range]:
    """Group consecutive blocks of a shard: small ones together, large ones alone.

    Parameters
    ----------
    nbytes : sequence of int
        Bytes of each block.
    limit : int
        See `merged_size`.
    small : int
        Bytes from which a block stays alone.

    Returns
    -------
    runs : list of range
        Positions into ``nbytes``; a run of several blocks stays below ``limit`` bytes.
    """
    runs: list[range] = []
    start = total = 0
    for position, size in enumerate(nbytes):
        alone = size >= small or (position > start and nbytes[position - 1] >= small)
        if position > start and (alone or total + size > limit):
            runs.append(range(start, position))
            start, total = position, 0
        total += size
    if nbytes:
        runs.append(range(start, len(nbytes)))
    return runs


def plan_shards(
    pieces: Sequence[Piece],
    threads: Mapping[str, int],
    n_shards: int | Literal["blocks", "several"] | list[list[int]] | None,
) -> list[ShardPlan]:
    """Decide on the shards and their workers.

    Parameters
    ----------
    pieces : sequence of Piece
        The non-empty blocks in the order of the rows.
    threads : mapping of str to int
        Number of threads of each usable worker.
    n_shards : int, "blocks", "several", list of list of int or None
        A number cuts the blocks into that many contiguous ranges of about equally many rows,
        which depends on the rows alone; ``"blocks"`` makes each block a shard; lists are the
        positions of the pieces of each shard; ``None`` makes one shard per worker thread out of
        what each worker holds, and ``"several"`` up to `SEVERAL`, each of at least `LEAST_SHARD`
        bytes.

    Returns
    -------
    shards : list of ShardPlan
        In shard order.

    Notes
    -----
    With None and words blocks stay where they are, unless the slowest thread would have
    more than twice the rows that it would have if whole blocks were moved to even out the load
    (say, everything was persisted on one worker while others idle): then they are moved.
    """
    if n_shards is None or n_shards == "several":
        most = 1 if n_shards is None else SEVERAL
        here = _shards_in_place(pieces, threads, most)
        n_parts = _parts(pieces, sum(threads.values()), most)
        moved = _spread(pieces, threads, split_by_rows(_rows(pieces), n_parts))
    elif n_shards == "blocks":
        single = [range(number, number + 1) for number in range(len(pieces))]
        homes = _holders(pieces, threads)
        here = [ShardPlan(tuple(run), homes[run[0]]) for run in single]
        moved = _spread(pieces, threads, single)
    elif isinstance(n_shards, list):
        return _spread(pieces, threads, n_shards)
    else:
        return _spread(pieces, threads, split_by_rows(_rows(pieces), int(n_shards)))
    if slowest_thread(here, pieces, threads) > 2 * slowest_thread(moved, pieces, threads):
        return moved
    return here


def slowest_thread(
    shards: Sequence[ShardPlan], pieces: Sequence[Piece], threads: Mapping[str, int]
) -> float:
    """Return the rows that the most loaded thread visits in a round."""
    loads: dict[str, list[int]] = {}
    for shard in shards:
        loads.setdefault(shard.home, []).append(sum(pieces[p].n_rows for p in shard.pieces))
    return max(max(*load, sum(load) / threads[worker]) for worker, load in loads.items())


def rehome(
    rows: Mapping[int, int],
    holders: Mapping[int, Sequence[Collection[str]]],
    homes: Mapping[int, str],
    threads: Mapping[str, int],
    movable: Collection[str],
) -> dict[int, str]:
    """Find a worker for the shards that lost theirs; all others stay.

    Parameters
    ----------
    rows : mapping of int to int
        Rows of each shard.
    holders : mapping of int to sequence of collection of str
        The workers that hold each block of each shard.
    homes : mapping of int to str
        Where the shards were.
    threads : mapping of str to int
        Number of threads of each living worker.
    movable : collection of str
        Workers that may be given new work (neither paused nor retiring); any living worker
        where none may.

    Returns
    -------
    homes : dict of int to str
        A living worker for every shard: the least loaded, and of equals the one that already
        holds most of the shard.
    """
    result = {
        number: home
        for number, home in homes.items()
        if home in threads and all(home in block for block in holders[number])
    }
    load = dict.fromkeys(threads, 0.0)
    for number, home in result.items():
        load[home] += rows[number]
    targets = sorted(set(movable) & set(threads)) or sorted(threads)
    for number in sorted(set(rows) - set(result), key=lambda number: (-rows[number], number)):
        held = {worker: sum(worker in block for block in holders[number]) for worker in targets}
        best = min(
            targets,
            key=lambda worker: ((load[worker] + rows[number]) / threads[worker], -held[worker]),
        )
        load[best] += rows[number]
        result[number] = best
    return dict(sorted(result.items()))


@dataclass(frozen=True)
class Host:
    """What is known of a worker that shards may be moved to or from.

    Attributes
    ----------
    threads : int
        Number of threads.
    room : float
        Bytes that it may be given beside what it has.
    pace : float
        Time that a thread takes for a byte, relative to other workers.
    """

    threads: int
    room: float
    pace: float = 1.0


def round_time(homes: Mapping[int, str], nbytes: Sequence[int], hosts: Mapping[str, Host]) -> float:
    """Return how long the slowest worker takes for its shards, in bytes of an ordinary thread."""
    shards: dict[str, list[int]] = {}
    for number, home in homes.items():
        shards.setdefault(home, []).append(nbytes[number])
    return max(
        hosts[home].pace * max(*sizes, sum(sizes) / hosts[home].threads)
        for home, sizes in shards.items()
    )


def even_out(
    homes: Mapping[int, str], nbytes: Sequence[int], hosts: Mapping[str, Host]
) -> dict[int, str]:
    """Have the slowest worker give shards away for as long as that makes rounds shorter.

    Parameters
    ----------
    homes : mapping of int to str
        The worker of each shard.
    nbytes : sequence of int
        Bytes of each shard.
    hosts : mapping of str to Host
        All workers, those without a shard included.

    Returns
    -------
    homes : dict of int to str
        The worker of each shard.  A shard goes to a worker that, with it, is done sooner than
        the one that gives it away.
    """
    result = dict(homes)
    cost = {worker: host.pace / host.threads for worker, host in hosts.items()}
    room = {worker: host.room for worker, host in hosts.items()}
    load = dict.fromkeys(hosts, 0.0)
    held: dict[str, list[int]] = {worker: [] for worker in hosts}
    for number in sorted(homes, key=lambda number: (nbytes[number], -number)):
        held[homes[number]].append(number)
        load[homes[number]] += nbytes[number]

    def time(worker: str, more: float = 0.0) -> float:
        return cost[worker] * (load[worker] + more)

    for _ in homes:
        giver = max(sorted(hosts), key=time)
        # Its largest shards first: few moves do most.
        for place in reversed(range(len(held[giver]))):
            number = held[giver][place]
            size = nbytes[number]
            takers = [worker for worker in sorted(hosts) if room[worker] >= size]
            taker = min(takers, key=lambda worker: time(worker, size), default=giver)
            if taker != giver and time(taker, size) < time(giver):
                break
        else:
            return result
        del held[giver][place]
        held[taker].append(number)
        load[giver] -= size
        load[taker] += size
        room[taker] -= size
        result[number] = taker
    return result


def _rows(pieces: Sequence[Piece]) -> list[int]:
    return [piece.n_rows for piece in pieces]


def _parts(pieces: Sequence[Piece], n_threads: int, most: int) -> int:
    """Return how many shards to make of pieces: at most so many for each thread."""
    size = sum(piece.nbytes for piece in pieces) // n_threads
    return n_threads * int(max(1, min(most, size // LEAST_SHARD)))


def _holders(pieces: Sequence[Piece], threads: Mapping[str, int]) -> list[str]:
    """Return one holder of each piece; of several, the one that has the fewest rows so far."""
    load = dict.fromkeys(threads, 0.0)
    chosen = []
    for piece in pieces:
        candidates = sorted(piece.holders & set(threads)) or sorted(threads)
        best = min(candidates, key=lambda worker: load[worker] / threads[worker])
        load[best] += piece.n_rows
        chosen.append(best)
    return chosen


def _shards_in_place(
    pieces: Sequence[Piece], threads: Mapping[str, int], most: int
) -> list[ShardPlan]:
    held: dict[str, list[int]] = {}
    for number, worker in enumerate(_holders(pieces, threads)):
        held.setdefault(worker, []).append(number)
    # Workers in the order of their first rows: the shards of a worker are neighbours in the
    # reduction tree, so that most of it is added up before anything is sent.
    return [
        ShardPlan(tuple(numbers[position] for position in run), worker)
        for worker, numbers in sorted(held.items(), key=lambda item: item[1][0])
        for run in split_by_rows(
            [pieces[n].n_rows for n in numbers],
            _parts([pieces[n] for n in numbers], threads[worker], most),
        )
    ]


def _spread(
    pieces: Sequence[Piece], threads: Mapping[str, int], ranges: Sequence[Sequence[int]]
) -> list[ShardPlan]:
    """Give each worker its share of the shards, moving as few bytes as is easily found."""
    total = sum(threads.values())
    room = {worker: -(-len(ranges) * n // total) for worker, n in threads.items()}
    held: list[dict[str, int]] = []
    for run in ranges:
        bytes_held: dict[str, int] = {}
        for number in run:
            for worker in pieces[number].holders & set(threads):
                bytes_held[worker] = bytes_held.get(worker, 0) + pieces[number].nbytes
        held.append(bytes_held)
    homes: dict[int, str] = {}
    offers = sorted(
        (-amount, shard, worker)
        for shard, amounts in enumerate(held)
        for worker, amount in amounts.items()
    )
    for _, shard, worker in offers:
        if shard not in homes and room[worker] > 0:
            homes[shard] = worker
            room[worker] -= 1
    for shard in range(len(ranges)):
        if shard not in homes:
            worker = max(sorted(room), key=lambda worker: room[worker] / threads[worker])
            homes[shard] = worker
            room[worker] -= 1
    return [ShardPlan(tuple(run), homes[shard]) for shard, run in enumerate(ranges)]
