"""Quadratics with an elastic net: brute force over all sign patterns."""

from itertools import product

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml.solvers.gram import Gram
from dask_dml.solvers.quadratic import (
    condition,
    minimise_quadratic,
    solve_smooth,
    symmetric,
    try_quadratic,
)


def value(B, c, l1, l2, z):
    return 0.5 * z @ B @ z - c @ z + l1 @ np.abs(z) + 0.5 * l2 @ z**2


def brute_force(B, c, l1, l2):
    """Return the smallest value over the stationary points of every sign pattern."""
    n, best = len(c), 0.0
    for signs in product((-1, 0, 1), repeat=n):
        s = np.array(signs)
        on = s != 0
        if not on.any():
            continue
        H = B[np.ix_(on, on)] + np.diag(l2[on])
        z = np.zeros(n)
        z[on] = np.linalg.lstsq(H, c[on] - l1[on] * s[on], rcond=1e-12)[0]
        best = min(best, value(B, c, l1, l2, z))
    return best


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([0.0, 1e-3, 0.3, 3.0]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    st.booleans(),
)
def test_the_minimiser_beats_every_sign_pattern(seed, n, l1, l2, deficient, free_last):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((2 if deficient else 8, n)) * 10 ** rng.uniform(-2, 2, n)
    B, c = A.T @ A, A.T @ rng.standard_normal(len(A))
    weights, ridge = np.full(n, l1), np.full(n, l2)
    if free_last:
        weights[-1] = ridge[-1] = 0.0
    z = minimise_quadratic(B, c, weights, ridge, np.zeros(n))
    best = brute_force(B, c, weights, ridge)
    assert value(B, c, weights, ridge, z) <= best + 1e-10 * (1 + abs(best))


@pytest.mark.parametrize("start", ["zero", "far", "answer"])
def test_the_start_does_not_matter(start):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 6))
    B, c = A.T @ A, A.T @ rng.standard_normal(30)
    l1, l2 = np.full(6, 1.0), np.zeros(6)
    answer = minimise_quadratic(B, c, l1, l2, np.zeros(6))
    at = {"zero": np.zeros(6), "far": rng.standard_normal(6) * 1e3, "answer": answer}[start]
    np.testing.assert_allclose(minimise_quadratic(B, c, l1, l2, at), answer, atol=1e-12)


def test_a_large_penalty_leaves_nothing():
    z = minimise_quadratic(np.eye(3), np.ones(3), np.full(3, 9.0), np.zeros(3), np.ones(3))
    np.testing.assert_array_equal(z, 0.0)
    z = minimise_quadratic(np.eye(3), np.ones(3), np.full(3, 1.0), np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(z, 0.0)  # exactly at the edge


def test_no_columns_at_all():
    nothing = np.zeros(0)
    assert solve_smooth(np.zeros((0, 0)), nothing, nothing).shape == (0,)
    assert minimise_quadratic(np.zeros((0, 0)), nothing, nothing, nothing, nothing).shape == (0,)


@pytest.mark.parametrize("exponent", [0, 3, 6])
def test_badly_scaled_l1_problems_are_solved_to_the_last_digits(exponent):
    rng = np.random.default_rng(1)
    scale = 10.0 ** np.linspace(-exponent, exponent, 8)
    A = rng.standard_normal((40, 8)) * scale
    B, c = A.T @ A / 40, A.T @ (A @ (1 / scale) + 0.1 * rng.standard_normal(40)) / 40
    l1 = np.full(8, 1e-3)
    z = minimise_quadratic(B, c, l1, np.zeros(8), np.zeros(8))
    slope = B @ z - c
    on = z != 0
    assert np.all(np.abs(slope[~on]) <= l1[~on] * (1 + 1e-9))
    np.testing.assert_allclose(slope[on], -(l1 * np.sign(z))[on], atol=1e-9 * np.abs(c).max())


def test_smooth_systems_leave_unseen_directions_at_zero():
    rng = np.random.default_rng(2)
    A = rng.standard_normal((3, 5))
    B, c = A.T @ A, A.T @ rng.standard_normal((3, 2))
    z = solve_smooth(B, c, np.zeros(5))
    np.testing.assert_allclose(B @ z, c, atol=1e-10)
    np.testing.assert_allclose(solve_smooth(np.zeros((2, 2)), np.zeros(2), np.zeros(2)), 0.0)


def test_condition_is_that_of_the_scaled_matrix():
    assert condition(np.diag([1e-12, 1.0, 1e12]), np.zeros(3)) == pytest.approx(1.0)
    correlated = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert condition(correlated, np.zeros(2)) == pytest.approx(3.0)
    assert condition(np.ones((2, 2)), np.zeros(2)) > 1e15
    assert condition(np.ones((2, 2)), np.ones(2)) == pytest.approx(3.0)


def test_symmetric_reads_the_lower_triangle():
    np.testing.assert_array_equal(symmetric(np.array([[1.0, 9.0], [2.0, 3.0]])), [[1, 2], [2, 3]])
    large = np.random.default_rng(0).standard_normal((300, 300))
    expected = np.tril(large) + np.tril(large, -1).T
    np.testing.assert_array_equal(symmetric(large), expected)


def violation(B, c, l1, l2, z):
    """Return how far the optimality conditions are from met, relative to rounding."""
    slope = B @ z - c + l2 * z
    off = np.where(z == 0.0, np.maximum(np.abs(slope) - l1, 0.0), np.abs(slope + l1 * np.sign(z)))
    return float((off / (np.abs(B) @ np.abs(z) + np.abs(c) + l1)).max())


@pytest.mark.parametrize("l1_ratio", [1.0, 0.15])
@pytest.mark.parametrize("alpha", [1e-10, 1e-8, 1e-5, 1e-2])
@pytest.mark.parametrize("shape", [(30, 100), (100, 300), (300, 100)])
def test_weak_penalties_on_many_columns_take_few_systems(shape, alpha, l1_ratio, monkeypatch):
    rng = np.random.default_rng(3)
    n, p = shape
    A = rng.standard_normal(shape)
    B, c = A.T @ A / n, A.T @ (A[:, :5].sum(axis=1) + rng.standard_normal(n)) / n
    l1, l2 = np.full(p, alpha * l1_ratio), np.full(p, alpha * (1 - l1_ratio))
    solved = []
    factorise = scipy.linalg.cho_factor
    monkeypatch.setattr(
        scipy.linalg, "cho_factor", lambda *a, **k: solved.append(0) or factorise(*a, **k)
    )
    z = minimise_quadratic(B, c, l1, l2, np.zeros(p))
    assert violation(B, c, l1, l2, z) <= 1e-13
    assert len(solved) <= 250
    if l1_ratio == 1.0:
        assert np.count_nonzero(z) <= n


@pytest.mark.parametrize("start", ["zero", "dense"])
def test_a_deadline_ends_it_with_the_best_so_far(start):
    rng = np.random.default_rng(4)
    A = rng.standard_normal((40, 200))
    B, c = A.T @ A / 40, A.T @ rng.standard_normal(40) / 40
    l1, l2 = np.full(200, 1e-8), np.zeros(200)
    at = np.zeros(200) if start == "zero" else rng.standard_normal(200)
    z = minimise_quadratic(B, c, l1, l2, at, deadline=0.0)
    assert value(B, c, l1, l2, z) <= value(B, c, l1, l2, at)


@pytest.mark.parametrize("exponent", [0, 3, 6, 9])
def test_the_condition_is_that_of_the_scaled_matrix_or_bounded(exponent):
    rng = np.random.default_rng(exponent)
    Q = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    B = Q * np.logspace(0, -exponent, 30) @ Q.T
    scale = 1.0 / np.sqrt(np.diagonal(B))
    exact = np.linalg.cond(scale[:, None] * B * scale)
    np.testing.assert_allclose(condition(B, np.zeros(30)), exact, rtol=1e-3)
    bound = condition(B, np.zeros(30), harmless=1e6)
    assert exact <= bound * (1 + 1e-3)
    assert bound <= 1e6 or bound <= exact * (1 + 1e-3)


def test_the_condition_of_a_singular_matrix_is_infinite():
    rows = np.random.default_rng(0).standard_normal((5, 8))
    assert condition(rows.T @ rows, np.zeros(8)) > 1e13
    assert condition(rows.T @ rows, np.full(8, 1.0)) < 1e3


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    l1=st.sampled_from([1e-8, 1e-4, 1e-1]),
    l2=st.sampled_from([0.0, 1e-6, 1.0]),
)
def test_a_few_rows_stand_for_their_second_moments(seed, l1, l2):
    rng = np.random.default_rng(seed)
    R = rng.standard_normal((6, 25)) * np.logspace(0, 2, 25)
    c = R.T @ rng.standard_normal(6)
    weights, ridge, start = np.full(25, l1), np.full(25, l2), np.zeros(25)
    z = minimise_quadratic(Gram(R.T), c, weights, ridge, start)
    other = minimise_quadratic(R.T @ R, c, weights, ridge, start)

    def value(at):
        return 0.5 * np.sum((R @ at) ** 2) - c @ at + l1 * np.abs(at).sum() + 0.5 * l2 * at @ at

    floor = 0.5 * np.sum(np.linalg.lstsq(R.T, c)[0] ** 2)
    assert value(z) <= value(other) + 1e-12 * floor
    slope = R.T @ (R @ z) - c + l2 * z
    assert np.all(np.abs(slope) <= l1 + 1e-9 * np.abs(c).max())


def test_what_coordinate_descent_leaves_is_told():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 8))
    B, c = X.T @ X / 40, X.T @ rng.standard_normal(40) / 40
    l1, l2, zero = np.full(8, 0.05), np.zeros(8), np.zeros(8)
    z, solved = try_quadratic(B, c, l1, l2, zero)
    assert solved
    np.testing.assert_allclose(z, minimise_quadratic(B, c, l1, l2, zero), atol=1e-12)
    # More columns than rows and next to no penalty: descent creeps.
    X = rng.standard_normal((40, 300)) + 3.0 * rng.standard_normal((40, 1))
    B, c = X.T @ X / 40, X.T @ rng.standard_normal(40) / 40
    l1, l2, zero = np.full(300, 1e-6), np.zeros(300), np.zeros(300)
    _, solved = try_quadratic(B, c, l1, l2, zero)
    assert not solved
