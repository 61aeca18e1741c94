"""Shards larger than the memory that their worker may use."""

from __future__ import annotations

import weakref

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.input.read import read_input
from dask_dml.rounds import worker as on_worker
from dask_dml.rounds.cluster import ClusterRounds
from tests.rounds.helpers import column_sums, counting

#: Blocks of more than 4 MiB, which are not merged.
N_BLOCKS, N_ROWS, N_FEATURES = 6, 13_000, 40
BLOCK_BYTES = N_ROWS * (N_FEATURES + 1) * 8


@pytest.fixture
def small_worker():
    """A worker of one thread that keeps two blocks in memory, and writes others to disk."""
    limits = {
        "distributed.worker.memory.target": 0.6,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
    }
    with (
        dask.config.set(limits),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0",
            memory_limit=int(2.5 * BLOCK_BYTES / 0.6),
        ) as made,
        Client(made, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


def chunk(number):
    rng = np.random.default_rng(number)
    X = rng.normal(size=(N_ROWS, N_FEATURES))
    return X, X @ np.linspace(-1.0, 1.0, N_FEATURES) + rng.normal(size=N_ROWS)


def rows(number):
    return chunk(number)[0]


def targets(number, labels):
    return (chunk(number)[1] > 0.0) * 1.0 if labels else chunk(number)[1]


def made(labels=False):
    X, y = (
        da.concatenate(
            [
                da.from_delayed(dask.delayed(function)(n, *more), (N_ROWS, *shape), dtype=float)
                for n in range(N_BLOCKS)
            ]
        )
        for function, more, shape in ((rows, (), (N_FEATURES,)), (targets, (labels,), ()))
    )
    return X, y


def test_one_block_of_a_shard_is_in_memory_at_a_time(small_worker, monkeypatch):
    chunks = read_input(DistributedGDRegressor(), *made())
    sums = sum(chunk(number)[0].sum(axis=0) for number in range(N_BLOCKS))
    real, known, most = on_worker.Session._block, [], []

    def block(session, key):
        found = real(session, key)
        known.append(weakref.ref(found))
        alive = {id(one): one for ref in known if (one := ref()) is not None}
        fast = set(map(id, session.worker.data.fast.values()))
        most.append(len(set(alive) - fast))
        return found

    with ClusterRounds(small_worker, chunks, 1) as rounds:
        monkeypatch.setattr(on_worker.Session, "_block", block)
        disk = small_worker.cluster.workers[0].data.disk
        assert len(disk) >= 3
        for _ in range(2):
            np.testing.assert_allclose(rounds.map_reduce(column_sums), sums)
        assert rounds.update(counting, 1.0) == N_BLOCKS * N_ROWS
        # Beside what Dask has room for, there is the block that is visited, and the one before.
        assert len(most) > N_BLOCKS
        assert max(most) <= 2


@pytest.mark.parametrize(
    "model",
    [
        DistributedGDRegressor("huber", solver="lbfgs", max_iter=3),
        DistributedSGDRegressor(random_state=0, max_iter=4, early_stopping=True),
        DistributedLinearSVC(max_iter=3),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_answers_have_the_same_bits(small_worker, model, monkeypatch):
    X, y = made(labels=isinstance(model, DistributedLinearSVC))
    model.set_params(n_shards=1)
    monkeypatch.setattr("dask_dml.rounds.choose.cluster_memory", lambda client: 1e12)
    with small_worker.as_current():
        spilled = model.fit(X, y).coef_
        assert model.engine_ == "cluster"
    np.testing.assert_array_equal(model.fit(X, y).coef_, spilled)
