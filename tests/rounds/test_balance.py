from collections import Counter
from itertools import count

import numpy as np

from dask_dml.rounds.balance import FIRST_ROUNDS, Balance, Rebalancing
from dask_dml.rounds.plan import Host


def told(*times, rounds=20):
    balance = Balance()
    seconds = {f"w{n}": time for n, time in enumerate(times)}
    lines = [balance.add(seconds) for _ in range(rounds)]
    return [line for line in lines if line is not None]


def test_a_slow_worker_is_named_once():
    (line,) = told(0.1, 0.1, 0.5)
    assert line.startswith("Worker w2 has taken 2.5 s")
    assert "0.5 s on average" in line


def test_nothing_is_said_of_equal_short_or_single_workers():
    assert not told(0.5, 0.5, 0.6)
    assert not told(0.001, 0.01)
    assert not told(3.0)
    assert not told(0.1, 2.0, rounds=FIRST_ROUNDS)


def test_other_workers_begin_anew():
    balance = Balance()
    for _ in range(20):
        balance.add({"a": 0.1, "b": 0.15})
    for _ in range(FIRST_ROUNDS):
        assert balance.add({"a": 1.0, "c": 90.0}) is None
    assert balance.add({"a": 1.0, "c": 90.0}).startswith("Worker c")


SHARDS = dict.fromkeys(range(4), "a")
NEW = {"a": Host(1, np.inf), "b": Host(1, np.inf)}


def moves(seconds, hosts, homes, rounds=40):
    """Return in which rounds shards are moved, and where they end; ``seconds(worker, shard)``."""
    rebalancing, homes, when = Rebalancing([100] * len(homes)), dict(homes), []
    for number in range(rounds):
        rebalancing.add({n: seconds(home, n) for n, home in homes.items()}, homes)
        better = rebalancing.decide(homes, hosts(number))
        if better is not None:
            when.append(number)
            homes = better
    return when, homes


def test_a_worker_that_joins_is_used_once_that_pays():
    when, homes = moves(lambda *_: 0.05, lambda n: NEW if n > 9 else {"a": NEW["a"]}, SHARDS)
    # 0.1 s of each round of 0.2 are waste, and moving takes half a second.
    assert when == [15]
    assert sorted(homes.values()) == ["a", "a", "b", "b"]
    assert moves(lambda *_: 1e-4, lambda _: NEW, SHARDS) == ([], SHARDS)
    # Where it has come to stay only, and where shards can be had.
    assert moves(lambda *_: 0.05, lambda _: NEW, {0: "a"}) == ([], {0: "a"})


def test_a_slow_worker_is_relieved_and_a_short_halt_is_not():
    even = {n: "ab"[n % 2] for n in range(8)}
    when, homes = moves(lambda worker, _: 0.2 if worker == "b" else 0.05, lambda _: NEW, even)
    assert len(when) == 1
    assert Counter(homes.values()) == {"a": 7, "b": 1}
    calls = count()
    halt = lambda worker, _: 3.0 if worker == "b" and 40 < next(calls) < 45 else 0.05  # noqa: E731 - shorter than a def
    assert moves(halt, lambda _: NEW, even) == ([], even)


def test_moves_that_do_not_help_become_rare():
    """The shard is what is slow, not its worker: where it goes, rounds are as long."""
    homes = {0: "a", 1: "a", 2: "b", 3: "b"}
    when, _ = moves(lambda _, n: 0.5 if n == 0 else 0.05, lambda _: NEW, homes, rounds=400)
    assert len(when) <= 8
