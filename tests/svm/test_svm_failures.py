"""A worker that goes down in the middle of a fit."""

from __future__ import annotations

import os
import signal

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dask_dml import DistributedLinearSVC


def columns(block, block_info=None):
    rng = np.random.default_rng(block_info[0]["chunk-location"][0])
    return rng.standard_normal(block.shape)


@pytest.fixture(scope="module")
def data():
    X = da.map_blocks(columns, da.zeros((8000, 6), chunks=(1000, 6)), dtype=float)
    y = X[:, 0] + X[:, 1] ** 2 > 0.8
    return X, y


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ({"solver": "newton", "loss": "hinge"}, 4),
        ({"solver": "dual", "loss": "squared_hinge"}, 4),
        ({"solver": "dual", "loss": "hinge"}, 1),
    ],
)
def test_a_killed_worker(data, kind, when):
    class Watched(DistributedLinearSVC):
        def _report(self, verbose):
            def report(line):
                if line.startswith(f"round {when}:"):
                    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
                lines.append(line)

            return report

    lines = []
    model = Watched(C=1e-2, tol=1e-7, n_shards=4, **kind)
    plain = DistributedLinearSVC(C=1e-2, tol=1e-7, n_shards=4, **kind)
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        client.as_current(),
    ):
        model.fit(*data)
        assert not any(client.has_what().values())
    plain.fit(*(part.compute() for part in data))
    assert len(lines) > when
    assert model.converged_
    np.testing.assert_allclose(model.objective_, plain.objective_, rtol=1e-7)
