"""Losses: their values, slopes, smoothed versions and conjugates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import LOSSES, loss_slopes, loss_values

from dask_dml.blocks import Shard, frozen
from dask_dml.kernels import rows
from dask_dml.objective.losses import make_loss
from dask_dml.passes.evaluate import Point, loss_sums

GRID = np.linspace(-6, 6, 2401)


def sums_of_rows(name, epsilon, residuals, width=0.0):
    """Return the kernels' nine sums for each residual alone."""
    loss = make_loss(name, epsilon)
    found = []
    for r in residuals:
        block = frozen(np.zeros((1, 1)), np.array([[r]], float), None, ((0, 1),))
        point = Point(
            np.zeros((1, 1)), np.zeros(1), loss.parameters(width)[None], np.zeros(1, np.intp),
            np.zeros(1), np.zeros(1), False, None, False,
        )  # fmt: skip
        found.append(loss_sums(Shard(0, (block,)), point).sums[0])
    return np.array(found)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("epsilon", [1e-9, 0.1, 2.0])
def test_values_and_slopes_are_the_documented_ones(name, epsilon):
    residuals = GRID[::40]
    sums = sums_of_rows(name, epsilon, residuals)
    expected = loss_values(residuals, name, epsilon)
    for column in (rows.VALUE, rows.TARGET_VALUE):
        np.testing.assert_allclose(sums[:, column], expected, rtol=1e-13, atol=1e-150)
    slopes = loss_slopes(residuals, name, epsilon)
    smooth = np.abs(np.abs(residuals) - epsilon) > 1e-9 if name == "epsilon_insensitive" else ...
    np.testing.assert_allclose(sums[:, rows.DUAL][smooth], slopes[smooth], atol=1e-13)
    value = [make_loss(name, epsilon).value(r) for r in residuals]
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-150)


@pytest.mark.parametrize("name", ["huber", "epsilon_insensitive"])
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
@pytest.mark.parametrize("width", [0.05, 0.5, 3.0])
def test_a_wider_loss_lies_below_by_at_most_half_slope_times_width(name, epsilon, width):
    residuals = GRID[::20]
    smooth = sums_of_rows(name, epsilon, residuals, width)
    short = loss_values(residuals, name, epsilon) - smooth[:, rows.VALUE]
    slope = epsilon if name == "huber" else 1.0
    assert np.all(short >= -1e-14)
    assert np.all(short <= slope * width / 2 + 1e-14)
    # The value of the loss proper comes with it.
    np.testing.assert_allclose(
        smooth[:, rows.TARGET_VALUE], loss_values(residuals, name, epsilon), atol=1e-14
    )
    assert np.all(
        np.abs(np.diff(smooth[:, rows.DUAL])) <= np.diff(residuals) * slope / width + 1e-9
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("width", [0.0, 0.7])
def test_the_slack_is_fenchels_inequality_of_the_loss_proper(name, width):
    """``phi(r) + phi*(u) - u r`` with the conjugate maximised over a grid."""
    epsilon = 0.5
    residuals = np.array([-4.0, -0.8, -0.3, 0.0, 0.2, 0.6, 1.1, 5.0])
    sums = sums_of_rows(name, epsilon, residuals, width)
    grid = np.linspace(-40, 40, 800_001)
    values = loss_values(grid, name, epsilon)
    u = sums[:, rows.DUAL]
    conjugate = np.array([np.max(one * grid - values) for one in u])
    expected = loss_values(residuals, name, epsilon) + conjugate - u * residuals
    np.testing.assert_allclose(sums[:, rows.SLACK], expected, atol=1e-7)
    assert np.all(sums[:, rows.SLACK] >= -1e-15)


@given(
    st.sampled_from(LOSSES),
    st.sampled_from([1e-9, 0.1, 1.0, 5.0]),
    st.floats(-100, 100),
    st.floats(-100, 100),
)
def test_losses_are_convex_with_the_slopes_given(name, epsilon, a, b):
    values = sums_of_rows(name, epsilon, [a, b])
    tangent = values[0, rows.VALUE] + values[0, rows.DUAL] * (b - a)
    assert values[1, rows.VALUE] >= tangent - 1e-9 * (1 + abs(tangent))


def test_max_curvature_is_that_of_the_width():
    assert make_loss("squared_error", 0.1).max_curvature(5.0) == 1.0
    assert make_loss("squared_epsilon_insensitive", 0.1).max_curvature() == 2.0
    assert make_loss("huber", 0.5).max_curvature() == 1.0
    assert make_loss("huber", 0.5).max_curvature(2.0) == 0.25
    assert make_loss("epsilon_insensitive", 0.5).max_curvature(2.0) == 0.5


def test_tubes_of_no_width_are_the_absolute_and_the_squared_error():
    for name in ("epsilon_insensitive", "squared_epsilon_insensitive"):
        sums = sums_of_rows(name, 0.0, GRID[::100])
        np.testing.assert_allclose(sums[:, rows.VALUE], loss_values(GRID[::100], name, 0.0))


def test_hubers_loss_without_a_parabola_is_refused():
    with pytest.raises(ValueError, match=r"epsilon > 0.*epsilon_insensitive"):
        make_loss("huber", 0.0)


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match="'hinge'"):
        make_loss("hinge", 0.1)
