"""Same rows per node, same numbers: whatever holds them, and whoever computes."""

import itertools

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml import DistributedSGDRegressor
from dask_dml.blocks import Shard, frozen
from dask_dml.rounds.local import LocalRounds

MODES = {
    "svrg": {},
    "averaged": {"variance_reduction": None},
    "schedule": {"learning_rate": "invscaling", "eta0": 0.01},
    "sampled": {"local_steps": 7, "batch_size": 2},
    "early": {"early_stopping": True, "validation_fraction": 0.2},
}


def make(n=240, p=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.6)
    return X, X @ np.arange(1.0, p + 1.0) + 0.1 * rng.standard_normal(n) + 1.0


def fitted(X, y, mode, sample_weight=None, **parameters):
    model = DistributedSGDRegressor(
        max_iter=4, tol=None, random_state=5, **MODES[mode], **parameters
    ).fit(X, y, sample_weight)
    return np.append(model.coef_, model.intercept_)


@pytest.mark.parametrize("mode", MODES)
def test_a_second_fit_gives_the_same_bits_and_another_seed_does_not(mode):
    X, y = make()
    first = fitted(X, y, mode, n_shards=3)
    np.testing.assert_array_equal(fitted(X, y, mode, n_shards=3), first)
    model = DistributedSGDRegressor(
        max_iter=4, tol=None, random_state=6, n_shards=3, **MODES[mode]
    ).fit(X, y)
    assert np.any(np.append(model.coef_, model.intercept_) != first)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(1, 119), max_size=4, unique=True), wrap=st.integers(0, 3))
def test_containers_and_chunks_inside_a_node(mode, cuts, wrap):
    X, y = make()
    weight = 0.5 + np.random.default_rng(1).random(len(y))
    bounds = sorted({0, *cuts, 120, *(120 + cut for cut in cuts), 240})
    sizes = tuple(np.diff(bounds).tolist())
    if wrap == 0:
        dX = da.from_array(X, chunks=(sizes, (5,)))
    elif wrap == 1:
        dX = da.from_array(X, chunks=(sizes, (2, 3)))
    elif wrap == 2:
        dX = da.from_array(np.asfortranarray(X), chunks=(sizes, (5,)))
    else:
        frame = pd.DataFrame(X, columns=list("abcde"))
        dX = dd.from_delayed(
            [_delayed(frame.iloc[a:b]) for a, b in itertools.pairwise(bounds)],
            meta=frame.iloc[:0],
        )
    expected = fitted(X, y, mode, weight, n_shards=2)
    found = fitted(dX, da.from_array(y, chunks=(sizes,)), mode, weight, n_shards=2)
    # A sum of a first pass may be rounded otherwise where a node's rows are cut otherwise.
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def _delayed(frame):
    from dask.delayed import delayed

    return delayed(frame)


@pytest.mark.parametrize("mode", MODES)
def test_a_cluster_gives_the_bits_of_this_process(mode, client):
    X, y = make()
    sizes = (100, 30, 0, 110)
    dX, dy = da.from_array(X, chunks=(sizes, (5,))), da.from_array(y, chunks=(sizes,))
    on_workers = fitted(dX, dy, mode, n_shards="blocks")
    np.testing.assert_array_equal(on_workers, _here(X, y, mode, sizes))


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=8)
@given(cuts=st.lists(st.integers(1, 119), min_size=1, max_size=5, unique=True))
def test_blocks_inside_a_node(mode, container, cuts):
    """Small blocks are merged; large ones are not, and must not show either."""
    X, y = make()
    if mode != "schedule":
        # Offsets and heavy tails: what is taken about a point must not depend on the block.
        X = np.column_stack([X, np.exp(2.0 * X[:, 0]), X[:, 1] + 50.0])
    X = container(X)
    sizes = (120, 120)
    found = _here(X, y, mode, sizes, sorted(cuts))
    np.testing.assert_allclose(found, _here(X, y, mode, sizes), rtol=1e-9)


def _here(X, y, mode, sizes, cuts=()):
    """Fit shards made by hand, without any engine but the local one."""
    from dask_dml.solvers.sgd.choose import solve

    bounds = np.cumsum((0, *(size for size in sizes if size)))
    shards = []
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        inner = [start, *(start + cut for cut in cuts), stop]
        blocks = [
            frozen(X[a:b], np.ascontiguousarray(y[a:b, None]), None, ((number, b - a),))
            for a, b in itertools.pairwise(inner)
        ]
        shards.append(Shard(number, tuple(blocks)))
    model = DistributedSGDRegressor(max_iter=4, tol=None, random_state=5, **MODES[mode])

    class Shape:
        n_features, n_outputs = X.shape[1], 1

    task = model._task(Shape, None, None, np.inf)
    solution = solve(LocalRounds(shards), task)
    return np.append(solution.coef, solution.intercept)


@pytest.mark.parametrize("mode", ["schedule", "averaged", "svrg"])
def test_sparse_rows_are_those_of_the_dense_matrix(mode):
    X, y = make()
    dense, sparse = (
        DistributedSGDRegressor(max_iter=40, tol=None, random_state=5, alpha=0.01, **MODES[mode])
        .fit(container, y)
        .predict(X)
        for container in (X, sp.csr_array(X))
    )
    # Textbook steps are the same steps; others have another metric and the same goal.
    tolerance = {"schedule": 1e-12, "svrg": 1e-7, "averaged": 0.1}[mode]
    np.testing.assert_allclose(sparse, dense, atol=tolerance * np.abs(y).max())


def test_a_single_precision_block_is_not_copied():
    X, y = make()
    model = DistributedSGDRegressor(max_iter=30, tol=None, random_state=0)
    double = model.fit(X, y).coef_.copy()
    single = model.fit(X.astype(np.float32), y.astype(np.float32)).coef_
    np.testing.assert_allclose(single, double, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_empty_chunks_and_rows_without_weight(mode):
    X, y = make()
    sizes = (0, 120, 0, 120, 0)
    dX, dy = da.from_array(X, chunks=(sizes, (5,))), da.from_array(y, chunks=(sizes,))
    np.testing.assert_array_equal(
        fitted(dX, dy, mode, n_shards="blocks"), fitted(X, y, mode, n_shards=2)
    )
    weight = np.r_[np.zeros(120), np.ones(120)]
    assert np.all(np.isfinite(fitted(X, y, mode, weight, n_shards=4)))
