"""Workers that join in the middle of a fit, and slow ones."""

from __future__ import annotations

import logging
import os
from itertools import count

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.rounds import balance, plan
from dask_dml.rounds.cluster import ClusterRounds
from tests.rounds.helpers import counting, halting, hard_sums, numbered, slow_sums, to_chunks


def test_a_fit_can_use_workers_that_join_without_being_told_so(client, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_SHARD", 400)
    X = da.from_array(np.random.default_rng(0).normal(size=(800, 2)), chunks=(25, 2))
    y = X.sum(axis=1)
    found = []
    real = ClusterRounds.close

    def close(self):
        found.append(len(self.shard_rows))
        real(self)

    monkeypatch.setattr(ClusterRounds, "close", close)
    n_threads = sum(client.nthreads().values())
    for model, per_thread in (
        (DistributedGDRegressor("huber"), 4),
        (DistributedLinearSVC(), 4),
        # What these compute depends on the nodes.
        (DistributedGDRegressor("huber", solver="gd", aggregation="uniform"), 1),
        (DistributedLinearSVC(solver="dual"), 1),
        (DistributedSGDRegressor(random_state=0), 1),
    ):
        found.clear()
        model.fit(X, (y > 0) if hasattr(model, "C") else y)
        assert set(found) == {per_thread * n_threads}, model


def test_workers_that_join_are_used_from_a_later_round_on(caplog):
    caplog.set_level(logging.INFO, "dask_dml")
    X = np.arange(800.0).reshape(400, 2)
    options = {"threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=1, **options) as cluster,
        Client(cluster, set_as_default=False) as client,
        ClusterRounds(client, to_chunks(X, X[:, 0], range(50, 400, 50)), 8) as rounds,
    ):
        rounds.update(counting, 1.0)
        alone = rounds.map_reduce(slow_sums, 0.02)
        numbers = rounds.map_reduce(numbered)
        cluster.scale(3)
        client.wait_for_workers(3)
        for made in count():
            if len(set(rounds.homes)) == 3:
                break
            assert made < 60, "new workers are not used"
            np.testing.assert_array_equal(rounds.map_reduce(slow_sums, 0.02), alone)
        # The same shards, and what was kept beside them has moved along.
        assert rounds.map_reduce(numbered) == numbers
        assert rounds.update(counting, 1.0) == 2 * 400
        assert sorted(map(rounds.homes.count, client.nthreads())) == [2, 3, 3]
        assert rounds.n_recoveries == 0
        assert sum("move to other workers" in line for line in caplog.messages) <= 2
        # As many workers go again.
        cluster.scale(1)
        np.testing.assert_array_equal(rounds.map_reduce(slow_sums, 0.0), alone)
        assert rounds.map_reduce(numbered) == numbers


def test_shards_move_away_from_a_worker_that_is_persistently_slow(process_client, monkeypatch):
    """Its process is stopped for three quarters of the time."""
    monkeypatch.setattr(balance, "MOVING", 0.05)
    X = np.arange(800.0).reshape(400, 2)
    pids = process_client.run(os.getpid)
    slow = min(pids)
    with ClusterRounds(process_client, to_chunks(X, X[:, 0], range(50, 400, 50)), 8) as rounds:
        rounds.update(counting, 1.0)
        alone = rounds.map_reduce(hard_sums, 0.01)
        numbers = rounds.map_reduce(numbered)
        n_before = rounds.homes.count(slow)
        assert n_before >= 3
        with halting(pids[slow]):
            for made in count():
                if rounds.homes.count(slow) < n_before - 1:
                    break
                assert made < 60, "the slow worker keeps its shards"
                np.testing.assert_array_equal(rounds.map_reduce(hard_sums, 0.01), alone)
            assert rounds.update(counting, 1.0) == 2 * 400
        assert rounds.map_reduce(numbered) == numbers
        assert rounds.n_recoveries == 0
