"""Decisions about placing data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml.rounds.base import TreeSum, finish_tree, reduce_subtrees
from dask_dml.rounds.plan import (
    Host,
    Piece,
    check_n_shards,
    even_out,
    group_chunks,
    merge_runs,
    merged_size,
    plan_shards,
    rehome,
    round_time,
    runs_to_visit,
    slowest_thread,
    split_by_rows,
    split_chunks,
)


class Word:
    """A term of a sum that is neither commutative nor, in its brackets, associative."""

    def __init__(self, text):
        self.text = text

    def __add__(self, other):
        return Word(f"({self.text}{other.text})")


@given(st.integers(1, 40), st.data())
def test_the_tree_does_not_depend_on_who_adds(n_shards, data):
    whole = finish_tree(reduce_subtrees({i: Word(i) for i in range(n_shards)}, n_shards), n_shards)
    owners = data.draw(st.lists(st.integers(0, 3), min_size=n_shards, max_size=n_shards))
    nodes = {}
    for owner in data.draw(st.permutations(range(4))):
        mine = {i: Word(i) for i in range(n_shards) if owners[i] == owner}
        nodes |= reduce_subtrees(mine, n_shards)
    assert finish_tree(nodes, n_shards).text == whole.text


def test_the_tree_as_documented():
    text = finish_tree(reduce_subtrees({i: Word(i) for i in range(5)}, 5), 5).text
    assert text == "(((01)(23))4)"


def test_incomplete_trees_are_noticed():
    tree = TreeSum(3)
    tree.add((0, 0), 1.0)
    tree.add((0, 1), 1.0)
    with pytest.raises(ValueError, match="do not cover"):
        tree.total()


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 80))
def test_split_by_rows(rows, n_parts):
    ranges = split_by_rows(rows, n_parts)
    assert len(ranges) == min(n_parts, len(rows))
    assert [i for run in ranges for i in run] == list(range(len(rows)))
    assert all(len(run) for run in ranges)
    sizes = [sum(rows[i] for i in run) for run in ranges]
    assert max(sizes) <= sum(rows) / len(ranges) + max(rows)


@given(st.lists(st.integers(1, 100), max_size=60))
def test_merge_runs(sizes):
    runs = merge_runs(sizes, limit=50, small=20)
    assert [i for run in runs for i in run] == list(range(len(sizes)))
    for run in runs:
        parts = [sizes[i] for i in run]
        assert len(run) == 1 or (sum(parts) <= 50 and max(parts) < 20)
    joined = [sum(sizes[i] for i in run) for run in runs]
    small = [max(sizes[i] for i in run) < 20 for run in runs]
    for n in range(len(runs) - 1):
        # Neighbours were merged unless that would have been too large.
        assert not (small[n] and small[n + 1] and joined[n] + sizes[runs[n + 1][0]] <= 50)


def test_a_few_blocks_are_not_merged():
    assert runs_to_visit([5] * 8, 20) == [range(i, i + 1) for i in range(8)]
    assert runs_to_visit([5] * 12, 20) == [range(4), range(4, 8), range(8, 12)]


def test_a_merged_block_is_at_most_half_of_all():
    assert merged_size([80_000] * 10_000) == 64 * 2**20
    sizes = [100] * 1000
    assert merge_runs(sizes, merged_size(sizes)) == [range(500), range(500, 1000)]
    # What is larger than that came as one chunk.
    sizes = [10, 10, 500, 10]
    assert merge_runs(sizes, merged_size(sizes)) == [range(2), range(2, 3), range(3, 4)]


def test_group_chunks():
    assert len(group_chunks(2000, 2000.0)) == 2000
    assert len(group_chunks(10_000, 8e8)) == 2000
    assert len(group_chunks(10_000, 8e11)) == 10_000
    assert len(group_chunks(10_000, np.nan)) == 10_000
    groups = group_chunks(10_001, 8e8)
    assert [n for group in groups for n in group] == list(range(10_001))


def test_split_chunks_skips_empty_ones():
    assert split_chunks([0, 5, 0, 5, 5, 5, 0], 0.0, 2) == [[1, 3], [4, 5]]


def pieces(*holders, n_rows=10):
    return [Piece(n_rows, 80 * n_rows, frozenset(holder)) for holder in holders]


def test_shards_stay_where_the_blocks_are():
    plan = plan_shards(pieces("a", "b", "a", "b"), {"a": 1, "b": 1}, None)
    assert [(shard.pieces, shard.home) for shard in plan] == [((0, 2), "a"), ((1, 3), "b")]


def test_blocks_move_when_workers_would_idle():
    threads = {"a": 1, "b": 1, "c": 2}
    for n_shards in (None, "blocks"):
        plan = plan_shards(pieces(*"aaaaaaaa"), threads, n_shards)
        assert slowest_thread(plan, pieces(*"aaaaaaaa"), threads) <= 30
        assert {shard.home for shard in plan} == {"a", "b", "c"}


def test_large_shards_are_several_where_their_number_is_open():
    threads = {"a": 1, "b": 1}
    blocks = [Piece(10, 2**24, frozenset("ab"[n % 2])) for n in range(32)]
    # 256 MiB on each worker make four shards of 64, 96 MiB three of 32, and less than 64 one.
    for n_blocks, n_shards in ((32, 8), (12, 6), (6, 2), (2, 2)):
        plan = plan_shards(blocks[:n_blocks], threads, "several")
        assert len(plan) == n_shards
        assert sorted(n for shard in plan for n in shard.pieces) == list(range(n_blocks))
        assert all(blocks[n].holders == {shard.home} for shard in plan for n in shard.pieces)
        assert len(plan_shards(blocks[:n_blocks], threads, None)) == 2
    here = [Piece(10, 2**24, frozenset("a"))] * 32
    plan = plan_shards(here, dict.fromkeys("abc", 1), "several")
    assert sorted(shard.home for shard in plan) == list("aaaabbbbcccc")
    # So that a fourth worker has its part.
    homes = {number: shard.home for number, shard in enumerate(plan)}
    grown = even_out(homes, [2**26] * 12, {name: Host(1, np.inf) for name in "abcd"})
    assert sorted(map(list(grown.values()).count, "abcd")) == [3, 3, 3, 3]


def test_one_block_does_not_move_in_vain():
    plan = plan_shards(pieces("a"), {"a": 1, "b": 1, "c": 2}, None)
    assert [shard.home for shard in plan] == ["a"]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 8))
def test_a_number_of_shards_does_not_depend_on_the_placement(holders, n_shards):
    threads = {"a": 1, "b": 2, "c": 1}
    plan = plan_shards(pieces(*holders), threads, n_shards)
    other = plan_shards(pieces(*reversed(holders)), {"z": 3}, n_shards)
    assert [shard.pieces for shard in plan] == [shard.pieces for shard in other]
    counts = {w: sum(shard.home == w for shard in plan) for w in threads}
    assert all(counts[w] <= -(-len(plan) * threads[w] // 4) for w in threads)


def test_lost_shards_go_to_the_least_loaded():
    rows = {0: 10, 1: 10, 2: 10, 3: 10}
    homes = {0: "a", 1: "a", 2: "b", 3: "b"}
    holders = {0: [{"a"}], 1: [{"a"}], 2: [{"a"}], 3: [{"c"}, {"a"}]}
    threads = {"a": 1, "c": 1, "d": 1}
    found = rehome(rows, holders, homes, threads, {"a", "c", "d"})
    assert (found[0], found[1]) == ("a", "a")
    assert {found[2], found[3]} == {"c", "d"}
    # Where no worker takes new work, a living one is better than none.
    assert set(rehome(rows, holders, homes, {"a": 1}, set()).values()) == {"a"}


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "chunks"])
def test_n_shards_is_checked(wrong):
    with pytest.raises(ValueError, match="n_shards must be"):
        check_n_shards(wrong)


def test_the_slowest_worker_gives_shards_away():
    hosts = {"a": Host(1, np.inf), "b": Host(1, np.inf)}
    homes = dict.fromkeys(range(4), "a")
    better = even_out(homes, [10] * 4, hosts)
    assert sorted(better.values()) == ["a", "a", "b", "b"]
    assert round_time(homes, [10] * 4, hosts) == 2 * round_time(better, [10] * 4, hosts)
    # Neither a worker without room, nor one so slow that it would be waited for.
    assert even_out(homes, [10] * 4, hosts | {"b": Host(1, 9.0)}) == homes
    assert even_out(homes, [10] * 4, hosts | {"b": Host(1, np.inf, 5.0)}) == homes
    # One shard can only move as a whole; two threads are not used by it.
    assert even_out({0: "a"}, [10], hosts) == {0: "a"}
    assert round_time({0: "a"}, [10], {"a": Host(2, np.inf)}) == 10.0


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=12),
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 200), st.floats(0.1, 10.0)), min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_evening_out_loses_nothing_and_stops(nbytes, kinds, random):
    hosts = {f"w{n}": Host(*kind) for n, kind in enumerate(kinds)}
    homes = {n: random.choice(sorted(hosts)) for n in range(len(nbytes))}
    better = even_out(homes, nbytes, hosts)
    assert set(better) == set(homes)
    assert set(better.values()) <= set(hosts)

    def worst(where):
        return max(
            host.pace / host.threads * sum(nbytes[n] for n, home in where.items() if home == worker)
            for worker, host in hosts.items()
        )

    assert worst(better) <= worst(homes) * (1 + 1e-12)
    for worker, host in hosts.items():
        given_to = [n for n, home in better.items() if home == worker != homes[n]]
        assert sum(nbytes[n] for n in given_to) <= host.room
