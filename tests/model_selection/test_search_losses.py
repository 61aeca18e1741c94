"""Searches that lose a worker, in processes of their own."""

import os
import signal

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.base import clone

from dask_dml import DistributedGDRegressor, DistributedLinearSVC
from dask_dml.model_selection import DistributedGridSearchCV
from dask_dml.solvers.shared_rounds import SharedRounds

RNG = np.random.default_rng(5)
N, P = 400, 4
X = RNG.normal(size=(N, P))
Y = X @ [1.0, -1.0, 0.5, 0.0] + RNG.standard_t(3, size=N)
SEARCHES = {
    "huber": (
        DistributedGridSearchCV(
            DistributedGDRegressor("huber", tol=1e-9), {"alpha": [1e-3, 0.1]}, cv=3, refit=False
        ),
        Y,
    ),
    "hinge": (
        DistributedGridSearchCV(
            DistributedLinearSVC(loss="hinge", solver="newton", tol=1e-6),
            {"C": [0.01, 1.0]},
            cv=3,
            refit=False,
        ),
        (Y > 0.0).astype(float),
    ),
}


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("name", SEARCHES)
def test_a_lost_worker_costs_a_round(name, client, monkeypatch):
    search, y = SEARCHES[name]
    client.wait_for_workers(2)
    asked, recoveries = [], []
    original = SharedRounds._round

    def lose_one(self, requests):
        asked.append(len(requests))
        if len(asked) == 4:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        try:
            return original(self, requests)
        finally:
            recoveries.append(self.rounds.n_recoveries)

    chunked = da.from_array(X, chunks=(100, P)), da.from_array(y, chunks=100)
    expected = clone(search).fit(*chunked)
    with monkeypatch.context() as patch:
        patch.setattr(SharedRounds, "_round", lambda self, r: asked.append(0) or original(self, r))
        clone(search).fit(*chunked)
    n_rounds, asked[:] = len(asked), []
    monkeypatch.setattr(SharedRounds, "_round", lose_one)
    found = clone(search).fit(*chunked)
    assert recoveries[-1] >= 1
    # Where nodes kept something, it is found anew; nothing else is asked again.
    assert len(asked) <= n_rounds + 2
    for key in ("mean_test_score", "rank_test_score"):
        np.testing.assert_allclose(found.cv_results_[key], expected.cv_results_[key], rtol=1e-6)
