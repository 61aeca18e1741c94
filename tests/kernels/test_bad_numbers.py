"""What passes do about values that are not finite, and about memory."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from pass_inputs import make_point, make_shard

from dask_dml.blocks import Shard
from dask_dml.passes import evaluate as passes
from dask_dml.passes.evaluate import Centre, loss_sums, moments, statistics, triangle

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("function", [statistics, moments])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "inf")]
)
@pytest.mark.parametrize("row", [0, 70, 99])
def test_the_first_pass_names_where_x_is_not_finite(function, sparse, dtype, value, name, row):
    X = RNG.standard_normal((100, 3)).astype(dtype)
    X[row, 1] = value
    shard = make_shard(X, X[:, 0], cuts=(60,), sparse=sparse, dtype=dtype)
    chunk, inside = (0, row) if row < 60 else (1, row - 60)
    with pytest.raises(ValueError, match=name) as caught:
        function(shard, None)
    assert f"chunk {chunk}, row {inside} of the chunk, column 1" in str(caught.value)
    assert "fillna" in str(caught.value)


@pytest.mark.parametrize("function", [statistics, moments])
@pytest.mark.parametrize("sparse", [False, True])
def test_overflow_names_the_chunk_and_the_remedy(function, sparse):
    X = RNG.standard_normal((100, 3))
    X[70, 1] = 1e200
    shard = make_shard(X, X[:, 0], cuts=(60,), sparse=sparse)
    with pytest.raises(ValueError, match=r"overflow.*chunk 1.*divide the largest"):
        function(shard, None)


@pytest.mark.parametrize("weight", [None, 0.0])
def test_rows_of_zero_weight_may_not_hide_nan(weight):
    """Zero times NaN is NaN: such rows would spoil the sums, so they are errors, too."""
    X = np.ones((10, 2))
    X[3, 0] = np.nan
    weights = None if weight is None else np.where(np.arange(10) == 3, 0.0, 1.0)
    with pytest.raises(ValueError, match="NaN"):
        statistics(make_shard(X, np.ones(10), weights), None)


def wide_shard():
    X = sp.random_array((2000, 20_000), density=1e-3, format="csr", rng=RNG)
    block = make_shard(np.zeros((2000, 1)), RNG.standard_normal(2000)).blocks[0]
    object.__setattr__(block, "X", sp.csr_array(X))
    return Shard(0, (block,))


def test_sparse_rows_stay_sparse():
    """A dense copy would take 320 MB."""
    shard = wide_shard()
    p = shard.blocks[0].n_features
    point = make_point(np.ones((3, p)), 0.0, [("huber", 0.5)] * 3)
    loss_sums(shard, point), moments(shard, None)  # compile
    tracemalloc.start()
    try:
        loss_sums(shard, point)
        moments(shard, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * p * 8


def test_only_a_tile_of_a_factorisation_is_written_out(monkeypatch):
    sizes = []
    original = sp.csr_array.toarray

    def toarray(self, *args, **kwargs):
        sizes.append(self.shape[0])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(sp.csr_array, "toarray", toarray)
    X = RNG.standard_normal((5000, 3))
    shard = make_shard(X, X[:, 0], sparse=True)
    point = make_point(np.ones(3), 0.0, [("huber", 0.5)], hessian=True)
    loss_sums(shard, point), moments(shard, None), statistics(shard, None)
    assert sizes == []
    triangle(shard, Centre(np.zeros(3), np.zeros(1), None))
    assert sizes
    assert max(sizes) <= 256


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_blocks_are_not_copied_whole(dtype):
    X = np.ones((200_000, 5), dtype)
    shard = make_shard(X, np.ones(len(X)), dtype=dtype)
    points = [
        make_point(np.ones((k, 5)), 0.0, [("huber", 0.5)] * k, hessian=hessian)
        for k, hessian in ((1, False), (2, False), (1, True))
    ]
    for repeat in range(2):
        if repeat:
            tracemalloc.start()
        for point in points:
            loss_sums(shard, point)
        statistics(shard, None), moments(shard, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * X.nbytes


def test_shard_weights_fill_their_own_entry():
    shard = make_shard(np.ones((4, 1)), np.ones(4), np.array([1.0, 2.0, 0.0, 4.0]), number=2)
    np.testing.assert_array_equal(passes.shard_weights(shard, 4), [0, 0, 7, 0])
    shard = make_shard(np.ones((4, 1)), np.ones(4), None, number=1, cuts=(1,))
    np.testing.assert_array_equal(passes.shard_weights(shard, 2), [0, 4])
