"""Workers that join in the middle of a fit, and slow ones."""

from __future__ import annotations

import logging
from itertools import count

import numpy as np
from distributed import Client, LocalCluster

from dask_dml.rounds.cluster import ClusterRounds
from tests.rounds.helpers import counting, numbered, slow_sums, to_chunks


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
        client.wait_for_workers(3, timeout=30)
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
