"""Gradient descent to the letter: the mission's formula in ten lines of NumPy, step by step."""

from itertools import pairwise

import dask.array as da
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import loss_slopes, strengths
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedGDRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SIZES = (1, 7, 50, 2, 20)
X, Y, WEIGHT = reference.table(80, 3, seed=9)


def descend(sizes, steps, *, loss="squared_error", penalty="l2", alpha=0.01, eta0=0.01,
            momentum=0.0, power_t=0.0, uniform=False, fit_intercept=True, weight=None,
            epsilon=0.1, l1_ratio=0.15):  # fmt: skip
    """theta <- theta - eta * sum_i (share_i / m_i) grad J_i(theta), node by node."""
    s = np.ones(len(Y)) if weight is None else weight
    bounds = np.cumsum((0, *sizes))
    l1, l2 = strengths(penalty, alpha, l1_ratio)
    rows = np.column_stack([X, np.full(len(Y), float(fit_intercept))])
    theta, move = np.zeros(4), np.zeros(4)
    for t in range(steps):
        total = 0.0
        for low, high in pairwise(bounds):
            A, y, si = rows[low:high], Y[low:high], s[low:high]
            node = -A.T @ (si * loss_slopes(y - A @ theta, loss, epsilon)) / si.sum()
            node[:3] += l2 * theta[:3]
            total = total + node * (1.0 if uniform else si.sum() / s.sum())
        eta = eta0 / (t + 1) ** power_t
        target = theta + momentum * move - eta * total
        threshold = eta * l1 * (len(sizes) if uniform else 1)
        target[:3] = np.sign(target[:3]) * np.maximum(np.abs(target[:3]) - threshold, 0.0)
        theta, move = target, target - theta
    return theta


def fitted(sizes, steps, *, uniform=False, weight=None, power_t=0.0, **params):
    schedule = {"learning_rate": "invscaling", "power_t": power_t} if power_t else {
        "learning_rate": "constant"}  # fmt: skip
    model = DistributedGDRegressor(
        solver="gd", max_iter=steps, tol=0.0, n_shards="blocks",
        aggregation="uniform" if uniform else "weighted", **schedule, **params,
    )  # fmt: skip
    model.fit(da.from_array(X, chunks=(sizes, 3)), Y, weight)
    assert model.n_iter_ == steps
    return np.append(model.coef_, model.intercept_)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 25])
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("power_t", [0.0, 0.25])
def test_every_step_is_the_formula(steps, uniform, momentum, power_t):
    options = {"uniform": uniform, "momentum": momentum, "power_t": power_t, "eta0": 0.004}
    np.testing.assert_allclose(
        fitted(SIZES, steps, alpha=0.01, **options), descend(SIZES, steps, **options), rtol=1e-10
    )


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize("loss", reference.LOSSES)
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_every_loss_and_penalty_follows_it(penalty, loss, uniform, fit_intercept):
    options = {"penalty": penalty, "loss": loss, "alpha": 0.3, "eta0": 0.003, "uniform": uniform,
               "fit_intercept": fit_intercept, "weight": WEIGHT}  # fmt: skip
    np.testing.assert_allclose(
        fitted(SIZES, 12, **options), descend(SIZES, 12, **options), rtol=1e-10, atol=1e-14
    )


@settings(max_examples=20)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.booleans())
def test_nodes_may_be_as_uneven_as_they_like(cuts, uniform):
    sizes = tuple(np.diff([0, *sorted(set(np.cumsum(cuts)[np.cumsum(cuts) < 80])), 80]).tolist())
    options = {"uniform": uniform, "eta0": 0.002, "momentum": 0.3}
    np.testing.assert_allclose(
        fitted(sizes, 5, alpha=0.01, **options), descend(sizes, 5, **options), rtol=1e-9
    )


def test_weighted_steps_do_not_depend_on_the_nodes():
    one = fitted((80,), 40, alpha=0.01, eta0=0.01)
    for sizes in (SIZES, (40, 40), (1,) * 80):
        np.testing.assert_allclose(fitted(sizes, 40, alpha=0.01, eta0=0.01), one, rtol=1e-8)


def test_uniform_steps_do():
    """A node of one row counts as much as one of fifty."""
    two = fitted((1, 79), 5, uniform=True, alpha=0.01, eta0=0.004)
    other = fitted((40, 40), 5, uniform=True, alpha=0.01, eta0=0.004)
    assert np.abs(two - other).max() > 1e-3


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("loss", reference.LOSSES)
@pytest.mark.parametrize("rate", ["auto", "backtracking"])
def test_safe_steps_never_raise_the_objective(uniform, loss, rate):
    """With as many nodes the plain sum of their gradients needs steps that much shorter."""
    model = DistributedGDRegressor(
        loss, solver="gd", aggregation="uniform" if uniform else "weighted", n_shards="blocks",
        learning_rate=rate, max_iter=60,
    ).fit(da.from_array(X, chunks=(SIZES, 3)), Y)  # fmt: skip
    curve = np.array(model.loss_curve_)
    assert curve[-1] < 0.6 * curve[0]
    if "squared" in loss:  # of the others a smoothed form is what falls
        assert np.all(np.diff(curve) <= 1e-12 * curve[0])


def test_without_an_intercept_there_is_none():
    model = DistributedGDRegressor(solver="gd", fit_intercept=False, max_iter=5).fit(X, Y)
    assert model.intercept_ == 0.0


@pytest.mark.parametrize("rate", ["constant", "invscaling"])
@pytest.mark.parametrize("scale", [1.0, 1e6, 1e100])
def test_divergence_is_an_error_that_names_eta0_and_the_safe_choice(rate, scale):
    model = DistributedGDRegressor(solver="gd", learning_rate=rate, eta0=50.0, power_t=0.01)
    with pytest.raises(ValueError, match=r"diverged in iteration .*eta0=50.*learning_rate='auto'"):
        model.fit(X * scale, Y)
    assert not hasattr(model, "coef_")


def test_adaptive_steps_recover_from_a_first_one_that_is_too_long():
    safe = DistributedGDRegressor(solver="gd", max_iter=2000).fit(X, Y)
    model = DistributedGDRegressor(
        solver="gd", learning_rate="adaptive", eta0=0.3, max_iter=2000
    ).fit(X, Y)
    assert model.loss_curve_[-1] <= safe.loss_curve_[-1] * 1.01


def test_curves_and_counts():
    model = DistributedGDRegressor(solver="gd", max_iter=7, tol=0.0, eta0=1e-3,
                                   learning_rate="constant").fit(X, Y)  # fmt: skip
    assert model.n_iter_ == 7
    assert len(model.loss_curve_) == 8
    assert model.n_rounds_ == 9  # the moments, the start, and a pass per step
    params = {"alpha": 1e-4}
    assert model.loss_curve_[0] == pytest.approx(
        reference.objective(X, Y, np.zeros(3), 0.0, **params)
    )


def test_one_large_column_does_not_tell_that_all_is_well():
    """Its gradient is all of the gradient, and vanishes in the first step."""
    rng = np.random.default_rng(3)
    X, noise = rng.standard_normal((400, 4)), rng.standard_normal(400)
    X[:, 0] *= 1e6
    y = X @ [1e-3, 1.0, -2.0, 0.5] + 0.1 * noise
    model = DistributedGDRegressor(penalty=None, solver="gd", max_iter=50)
    with pytest.warns(ConvergenceWarning, match="optimality"):
        model.fit(X, y)
    assert not model.converged_
    even = X / X.std(axis=0)
    model = DistributedGDRegressor(penalty=None, solver="gd").fit(even, y)
    assert model.converged_
