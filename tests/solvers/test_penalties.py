"""The elastic net: proximal map, conjugate and gap by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_dml.objective.penalties import ElasticNet, make_penalty

strength = st.sampled_from([0.0, 0.01, 0.5, 2.0])
number = st.floats(-5, 5)
GRID = np.linspace(-12, 12, 240_001)


@given(strength, strength, number, st.floats(0.01, 4))
def test_the_proximal_map_minimises(l1, l2, v, step):
    penalty = ElasticNet(l1, l2)
    costs = (GRID - v) ** 2 / (2 * step) + l1 * np.abs(GRID) + l2 * GRID**2 / 2
    got = penalty.prox(np.array([v]), step)[0]
    cost = (got - v) ** 2 / (2 * step) + l1 * abs(got) + l2 * got**2 / 2
    assert cost <= costs.min() + 1e-12
    assert got == pytest.approx(GRID[np.argmin(costs)], abs=2e-4)


def test_the_proximal_map_makes_real_zeros_and_takes_steps_per_coordinate():
    got = ElasticNet(1.0, 0.5).prox(np.array([0.3, -3.0, 2.0]), np.array([1.0, 2.0, 0.5]))
    np.testing.assert_allclose(got, [0.0, -1.0 / 2.0, 1.5 / 1.25])
    assert got[0] == 0.0


@given(strength, st.sampled_from([0.01, 0.5, 2.0]), number, number)
def test_the_gap_is_fenchels_inequality(l1, l2, w, g):
    """The conjugate maximised over a grid; with an L2 part it is finite everywhere."""
    reach = GRID * (abs(g) + l1) / l2 / 10 + 0.0
    conjugate = np.max(-g * reach - l1 * np.abs(reach) - l2 * reach**2 / 2)
    expected = l1 * abs(w) + l2 * w**2 / 2 + conjugate + w * g
    got = ElasticNet(l1, l2).fenchel_gap(np.array([w]), np.array([g]))
    assert got >= -1e-14
    assert got == pytest.approx(expected, abs=1e-6 * (1 + expected))


@given(st.sampled_from([0.01, 0.5, 2.0]), number, number)
def test_without_an_l2_part_the_conjugate_has_a_bounded_domain(l1, w, g):
    got = ElasticNet(l1, 0.0).fenchel_gap(np.array([w]), np.array([g]))
    if abs(g) > l1 * (1 + 1e-9):
        assert got == np.inf
    elif abs(g) <= l1:
        assert got == pytest.approx(l1 * abs(w) + g * w, abs=1e-12)
        assert got >= -1e-14


@given(strength, strength, st.lists(number, min_size=1, max_size=4))
def test_the_dual_scale_leads_into_the_domain(l1, l2, gradient):
    g = np.array(gradient)
    penalty = ElasticNet(l1, l2)
    scale = penalty.dual_scale(g)
    assert 0.0 <= scale <= 1.0
    if l1 > 0.0 or l2 > 0.0:
        assert np.isfinite(penalty.fenchel_gap(np.ones_like(g), scale * g))
    elif np.any(g):
        assert penalty.fenchel_gap(np.ones_like(g), g) == np.inf


@given(strength, strength, number, number)
def test_the_subgradient_is_the_smallest(l1, l2, w, g):
    got = ElasticNet(l1, l2).subgradient(np.array([w]), np.array([g]))[0]
    if w == 0.0:
        choices = g + np.linspace(-l1, l1, 2001)
        assert abs(got) == pytest.approx(np.abs(choices).min(), abs=l1 / 1000 + 1e-15)
    else:
        assert got == pytest.approx(g + l2 * w + l1 * np.sign(w))


def test_values_and_names():
    w = np.array([1.0, -2.0])
    assert make_penalty("l2", 0.5, 0.9).value(w) == pytest.approx(0.25 * 5)
    assert make_penalty("l1", 0.5, 0.1).value(w) == pytest.approx(0.5 * 3)
    assert make_penalty("elasticnet", 0.5, 0.2).value(w) == pytest.approx(0.1 * 3 + 0.2 * 5)
    assert make_penalty(None, 0.5, 0.2).value(w) == 0.0
