"""Moments, second moments and triangular factors, over any split and at any offset."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_inputs import make_shard

from dask_dml.passes.evaluate import Centre, moments, statistics, triangle

N, P = 60, 4
RNG = np.random.default_rng(1)
X = RNG.standard_normal((N, P)) * (RNG.random((N, P)) < 0.7)
X[:, 0] = RNG.standard_normal(N) + 3.0  # full in CSR, too
Y = RNG.standard_normal((N, 2))
WEIGHT = RNG.uniform(0, 2, N) * (RNG.random(N) < 0.9)

splits = st.lists(st.integers(1, N - 1), max_size=12, unique=True).map(sorted)


def direct(X, Y, s):
    """Return the moments by their definitions, in extended precision."""
    X, Y, s = (np.asarray(a, np.longdouble) for a in (X, Y, s))
    mean, target_mean = s @ X / s.sum(), s @ Y / s.sum()
    A, T = X - mean, Y - target_mean
    return {
        "weight": s.sum(),
        "mean": mean,
        "square": s @ A**2,
        "target_mean": target_mean,
        "target_square": s @ T**2,
        "products": np.tril((A * s[:, None]).T @ A),
        "cross": (A * s[:, None]).T @ T,
    }


def assert_moments(got, expected, tolerance=1e-12):
    spread = np.sqrt(np.asarray(expected["square"], float))
    target_spread = np.sqrt(np.asarray(expected["target_square"], float))
    scales = {
        "weight": 1.0,
        "mean": np.abs(np.asarray(expected["mean"], float)) + spread,
        "square": spread**2,
        "target_mean": np.abs(np.asarray(expected["target_mean"], float)) + target_spread,
        "target_square": target_spread**2,
        "products": np.outer(spread, spread),
        "cross": np.outer(spread, target_spread),
    }
    for name, scale in scales.items():
        if not hasattr(got, name):
            continue
        value = np.tril(got.products) if name == "products" else getattr(got, name)
        error = np.abs(value - np.asarray(expected[name], float))
        assert np.all(error <= tolerance * scale + 1e-300), name


def merged(function, X, Y, s, cuts, broadcast, *, sparse):
    bounds = [0, *cuts, len(Y)]
    parts = [
        function(
            make_shard(X[a:b], Y[a:b], None if s is None else s[a:b], sparse=sparse), broadcast
        )
        for a, b in pairwise(bounds)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


@settings(max_examples=25)
@given(cuts=splits, sparse=st.booleans(), weighted=st.booleans())
@pytest.mark.parametrize("function", [statistics, moments])
def test_any_split_gives_the_direct_formulas(function, cuts, sparse, weighted):
    s = WEIGHT if weighted else None
    got = merged(function, X, Y, s, cuts, None, sparse=sparse)
    assert got.n_rows == N
    assert_moments(got, direct(X, Y, np.ones(N) if s is None else s))


@settings(max_examples=15)
@given(cuts=splits, dense=st.booleans())
def test_blocks_of_a_shard_merge_as_shards_do(cuts, dense):
    shard = make_shard(X, Y, WEIGHT, cuts=cuts, sparse=not dense)
    for function in (statistics, moments):
        assert_moments(function(shard, None), direct(X, Y, WEIGHT))


@pytest.mark.parametrize("function", [statistics, moments])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_scale_the_weights_of_their_shard(function, sparse, dtype):
    shard = make_shard(X, Y, WEIGHT, number=1, sparse=sparse, dtype=dtype)
    expected = direct(X.astype(dtype), Y, 0.25 * WEIGHT)
    assert_moments(function(shard, np.array([7.0, 0.25])), expected)


@pytest.mark.parametrize("function", [statistics, moments])
@pytest.mark.parametrize(("shift", "tolerance"), [(1e6, 1e-10), (1e9, 1e-7)])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("cuts", [(), (20, 21, 41)])
def test_offsets_cost_no_digits(function, shift, tolerance, sparse, cuts):
    """Against the moments of the very numbers that are stored at the offset.

    In CSR only a column with an entry in every row can have one.
    """
    moved, targets = X.copy(), Y + shift
    moved[:, [0] if sparse else slice(None)] += shift
    got = merged(function, moved, targets, WEIGHT, cuts, None, sparse=sparse)
    # A merged mean has the last digit of its offset; sums of squares would have lost 1e12 or all.
    assert_moments(got, direct(moved, targets, WEIGHT), tolerance)


@pytest.mark.parametrize("function", [statistics, moments])
def test_shards_of_zero_weight_add_only_their_rows(function):
    nothing = function(make_shard(X[:5] + 1e9, Y[:5], np.zeros(5)), None)
    rest = function(make_shard(X, Y, WEIGHT), None)
    for total in (nothing + rest, rest + nothing, nothing + nothing + rest):
        assert total.n_rows > N
        assert_moments(total, direct(X, Y, WEIGHT))


@settings(max_examples=15)
@given(cuts=splits, sparse=st.booleans())
def test_the_triangular_factor_is_that_of_all_rows(cuts, sparse):
    mean, target_mean = X.mean(axis=0), Y.mean(axis=0)
    centre = Centre(mean, target_mean, None)
    R = merged(triangle, X, Y, WEIGHT, cuts, centre, sparse=sparse).factor
    rows = np.column_stack([X - mean, Y - target_mean]) * np.sqrt(WEIGHT)[:, None]
    assert len(R) <= N
    np.testing.assert_allclose(R.T @ R, rows.T @ rows, atol=1e-12 * np.linalg.norm(rows) ** 2)


def test_the_triangular_factor_keeps_small_singular_values():
    """Products of columns would lose everything below 1e-8 of the largest."""
    U, _, Vt = np.linalg.svd(RNG.standard_normal((N, P)), full_matrices=False)
    values = np.array([1.0, 1e-3, 1e-7, 1e-11])
    ill = (U * values) @ Vt
    centre = Centre(np.zeros(P), np.zeros(2), None)
    R = merged(triangle, ill, Y, None, (7, 30), centre, sparse=False).factor
    got = np.linalg.svd(R[:, :P], compute_uv=False)
    np.testing.assert_allclose(got, values, rtol=1e-4)


def test_long_tiles_are_reduced():
    tall = np.random.default_rng(2).standard_normal((2000, 3))
    R = triangle(make_shard(tall, tall[:, :1]), Centre(np.zeros(3), np.zeros(1), None)).factor
    assert R.shape == (4, 4)
