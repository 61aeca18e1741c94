"""The engines that visit the nodes: losses of workers, streams, and what is left behind."""

import itertools
import os
import signal

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml import DistributedSGDRegressor
from dask_dml.rounds import choose
from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.streaming import StreamingRounds

N, SIZES = 400, (100, 100, 100, 100)
MODES = {
    "svrg": {},
    "averaged": {"variance_reduction": None},
    "huber": {"loss": "huber"},
    "schedule": {"learning_rate": "constant"},
    "sampled": {"local_steps": 20, "batch_size": 5},
    "early": {"early_stopping": True},
}


def rows(sparse):
    rng = np.random.default_rng(0)
    # Wide enough that nodes renumber the columns that occur.
    X = rng.standard_normal((N, 1500 if sparse else 6))
    if sparse:
        X[:, 40:] = 0.0
        X *= rng.random(X.shape) < 0.3
    y = X[:, :5] @ [1.0, -2.0, 0.0, 3.0, 0.5] + 0.3 * rng.standard_normal(N) + 2.0
    return sp.csr_array(X) if sparse else X, y


def chunked(X, y):
    ends = np.cumsum((0, *SIZES))
    parts = [
        da.from_array(X[a:b], chunks=(b - a, X.shape[1]), asarray=False)
        for a, b in itertools.pairwise(ends)
    ]
    return da.concatenate(parts), da.from_array(y, chunks=(SIZES,))


def fitted(mode, X, y):
    model = DistributedSGDRegressor(
        max_iter=6, tol=None, random_state=2, n_shards="blocks", **MODES[mode]
    ).fit(X, y)
    return np.append(model.coef_, model.intercept_), model


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("mode", ["svrg", "averaged"])
def test_a_killed_worker_changes_no_bit(process_client, monkeypatch, mode, sparse):
    """It takes along what its nodes remember: their part of the gradient, and the columns."""
    client = process_client
    client.wait_for_workers(2)
    X, y = chunked(*rows(sparse))
    expected, undisturbed = fitted(mode, X, y)
    update, killed = ClusterRounds.update, []

    def disturbed(rounds, *args):
        # Between the survey and the steps, then in the middle of the exchanges.
        if rounds.n_rounds == 4 and not killed:
            victim = rounds.homes[0]
            killed.append(victim)
            os.kill(client.run(os.getpid, workers=[victim])[victim], signal.SIGKILL)
        return update(rounds, *args)

    monkeypatch.setattr(ClusterRounds, "update", disturbed)
    found, model = fitted(mode, X, y)
    assert killed
    np.testing.assert_array_equal(found, expected)
    assert model.n_iter_ == undisturbed.n_iter_
    client.wait_for_workers(2)


@pytest.mark.parametrize(
    ("mode", "sparse"),
    [
        ("svrg", False),
        ("svrg", True),
        ("averaged", True),
        ("huber", False),
        ("schedule", True),
        ("sampled", False),
        ("early", False),
    ],
)
def test_a_stream_gives_the_numbers_of_this_process(client, monkeypatch, mode, sparse):
    X, y = chunked(*rows(sparse))
    expected, here = fitted(mode, X, y)
    opened = []
    make = StreamingRounds.__init__

    def watched(rounds, *args):
        opened.append(rounds)
        make(rounds, *args)

    monkeypatch.setattr(StreamingRounds, "__init__", watched)
    monkeypatch.setattr(choose, "_fits", lambda chunks, room: False)
    found, model = fitted(mode, X, y)
    assert len(opened) == 1
    # Sums of all nodes are rounded in the order in which they are added up.
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert model.n_iter_ == here.n_iter_
    assert model.t_ == here.t_


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("mode", ["averaged", "schedule"])
def test_partial_fits_of_dask_arrays_are_those_of_the_same_nodes_here(client, mode, sparse):
    X, y = rows(sparse)
    lazy, local = (
        DistributedSGDRegressor(random_state=2, n_shards=n_shards, **MODES[mode])
        for n_shards in ("blocks", 2)
    )
    dX, dy = chunked(X, y)
    for part, (first, last) in ((slice(0, 200), (0, 2)), (slice(200, 400), (2, 4))):
        lazy.partial_fit(dX.blocks[first:last], dy.blocks[first:last])
        local.partial_fit(X[part], y[part])
        assert lazy.n_iter_ == 1
    assert lazy.t_ == local.t_ == N + 1
    np.testing.assert_allclose(lazy.coef_, local.coef_, rtol=1e-9, atol=1e-12)
    assert lazy.intercept_ == pytest.approx(local.intercept_, rel=1e-9)


@pytest.mark.parametrize("mode", ["svrg", "averaged"])
def test_a_failed_fit_leaves_nothing_on_the_cluster(client, mode):
    """What a fit leaves is looked for after every test by the fixture."""
    X, y = rows(False)
    X[250, 3] = np.inf
    with pytest.raises(ValueError, match=r"infinity.*chunk 2"):
        fitted(mode, *chunked(X, y))
