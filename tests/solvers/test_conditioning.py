"""Numerically hard problems, in float64: finite and right."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from reference import LOSSES
from sklearn.linear_model import Lasso, LinearRegression

from dask_dml import DistributedGDRegressor

SMOOTH = [loss for loss in LOSSES if loss != "epsilon_insensitive"]


def value(model, X, y, weight=None, **params):
    return reference.objective(X, y, model.coef_, model.intercept_, weight, **params)


def least_squares(X, y, *, fit_intercept=True):
    """Return minimum-norm least squares in extended precision of the centring."""
    wide = np.longdouble
    mean = X.astype(wide).mean(axis=0) if fit_intercept else np.zeros(X.shape[1], wide)
    target_mean = y.astype(wide).mean() if fit_intercept else wide(0)
    A, t = np.asarray(X - mean, float), np.asarray(y - target_mean, float)
    coef = np.linalg.lstsq(A, t, rcond=1e-14)[0]
    return coef, float(target_mean - mean @ coef.astype(wide))


def conditioned(n, p, condition, seed=0):
    """Return rows whose singular values fall evenly, in log, to 1 / condition of the first."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, p)) - 0.0)[0]
    V = np.linalg.qr(rng.standard_normal((p, p)))[0]
    return np.sqrt(n) * (U * np.logspace(0, -np.log10(condition), p)) @ V.T


@pytest.mark.parametrize("penalty", ["l2", "l1", None])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("column", [0.0, 1e6])
@pytest.mark.parametrize("target", [0.0, 1e6])
def test_offsets_change_nothing(loss, penalty, column, target):
    X, y, weight = reference.table(80, 4)
    params = {"loss": loss, "penalty": penalty, "alpha": 0.01}
    moved = X.copy()
    moved[:, 1] += column
    best = reference.optimum(X, y, weight, **params)
    model = DistributedGDRegressor(**params).fit(moved, y + target, weight)
    # What an intercept of this size rounds to is not the fit's affair.
    intercept = np.longdouble(model.intercept_) + np.longdouble(column) * model.coef_[1] - target
    shifted = reference.objective(X, y, model.coef_, float(intercept), weight, **params)
    bar = 1e-8 if loss == "squared_error" else 1e-6
    assert (shifted - best.value) / best.value <= bar + 1e-9 * (column + target > 0)
    if loss != "epsilon_insensitive":  # flat near its optimum
        np.testing.assert_allclose(model.coef_, best.coef, atol=1e-4 * np.abs(best.coef).max())


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_full_sparse_columns_may_have_offsets_too(sparse, offset):
    X, y, _ = reference.table(80, 3)
    moved = X.copy()
    moved[:, 0] += offset
    coef, _ = least_squares(moved, y)
    model = DistributedGDRegressor(penalty=None)
    model.fit(sp.csr_array(moved) if sparse else moved, y + offset)
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("penalty", [None, "l2"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_statistics_at_bad_condition(condition, penalty, fit_intercept):
    X = conditioned(300, 6, condition)
    rng = np.random.default_rng(1)
    y = X @ rng.standard_normal(6) + 0.1 * rng.standard_normal(300)
    alpha = 1e-9 if penalty else 0.0
    model = DistributedGDRegressor(penalty=penalty, alpha=alpha, fit_intercept=fit_intercept)
    model.fit(X, y)
    mean, target_mean = (X.mean(axis=0), y.mean()) if fit_intercept else (0.0, 0.0)
    rows = np.vstack([(X - mean) / np.sqrt(300), np.sqrt(alpha) * np.eye(6)])
    coef = np.linalg.lstsq(rows, np.append((y - target_mean) / np.sqrt(300), np.zeros(6)))[0]
    best = reference.objective(
        X, y, coef, target_mean - mean @ coef if fit_intercept else 0.0, penalty="l2", alpha=alpha
    )
    assert value(model, X, y, penalty="l2", alpha=alpha) <= best * (1 + 1e-8)
    # Of the coefficients as many digits are determined as the condition leaves.
    np.testing.assert_allclose(
        model.coef_, coef, atol=max(1e-5, 1e-13 * condition) * np.abs(coef).max()
    )


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("penalty", ["l2", None])
@pytest.mark.parametrize("condition", [1e4, 1e7])
def test_other_losses_at_bad_condition(loss, penalty, condition):
    X = conditioned(200, 5, condition)
    rng = np.random.default_rng(2)
    y = X @ rng.standard_normal(5) + 0.3 * rng.standard_t(3, 200)
    params = {"loss": loss, "penalty": penalty, "alpha": 1e-8, "epsilon": 0.2}
    best = reference.optimum(X, y, **params)
    model = DistributedGDRegressor(**params).fit(X, y)
    assert value(model, X, y, **params) <= best.value * (1 + 1e-6)


@pytest.mark.parametrize("penalty", ["l2", "l1", None])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_a_column_of_another_scale_does_no_harm(loss, penalty, scale):
    X, y, weight = reference.table(80, 4)
    scales = np.array([1.0, scale, 1.0, 1.0])
    params = {"loss": loss, "penalty": penalty, "alpha": 1e-6}
    model = DistributedGDRegressor(**params).fit(X * scales, y, weight)
    free = reference.optimum(X, y, weight, **(params | {"penalty": None}))
    at_free = reference.objective(
        X * scales, y, free.coef / scales, free.intercept, weight, **params
    )
    assert value(model, X * scales, y, weight, **params) <= at_free * (1 + 1e-6)
    if penalty is None and loss != "epsilon_insensitive":
        np.testing.assert_allclose(model.coef_ * scales, free.coef, atol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize("sparse", [False, True])
def test_duplicate_and_constant_columns(loss, penalty, sparse):
    X, y, _ = reference.table(60, 3)
    wide = np.column_stack([X, X[:, 1], np.full(60, 4.0), np.zeros(60)])
    params = {"loss": loss, "penalty": penalty, "alpha": 0.05, "epsilon": 0.3}
    best = reference.optimum(wide, y, **params)
    model = DistributedGDRegressor(**params).fit(sp.csr_array(wide) if sparse else wide, y)
    assert np.isfinite(model.coef_).all()
    bar = 1e-8 if loss == "squared_error" else 1e-6
    assert value(model, wide, y, **params) <= best.value * (1 + bar)
    assert model.coef_[5] == 0.0
    if penalty is not None:
        assert abs(model.coef_[4]) < 1e-6
    if penalty in ("l2", "elasticnet"):
        assert model.coef_[1] == pytest.approx(model.coef_[3], abs=1e-3)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shape", [(10, 30), (20, 20), (1, 5), (30, 31)])
def test_without_a_penalty_the_smallest_coefficients_win(fit_intercept, sparse, shape):
    rng = np.random.default_rng(3)
    X = rng.standard_normal(shape)
    y = rng.standard_normal(shape[0]) + 5
    other = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    model = DistributedGDRegressor(penalty=None, fit_intercept=fit_intercept)
    model.fit(sp.csr_array(X) if sparse else X, y)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, other.intercept_, atol=1e-8)


def test_rank_is_decided_as_least_squares_does():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((50, 4))
    X = np.column_stack([X, X @ [1.0, 2.0, 0.0, -1.0]]) * [1.0, 1e-3, 1.0, 1e3, 1.0]
    y = X[:, 0] + rng.standard_normal(50)
    other = LinearRegression().fit(X, y)
    model = DistributedGDRegressor(penalty=None).fit(X, y)
    np.testing.assert_allclose(model.coef_, other.coef_, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_more_columns_than_rows(loss, penalty):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((25, 60))
    y = X[:, :3] @ [1.0, -2.0, 3.0] + 0.1 * rng.standard_normal(25)
    params = {"loss": loss, "penalty": penalty, "alpha": 0.05}
    best = reference.optimum(X, y, **params)
    model = DistributedGDRegressor(**params).fit(X, y)
    bar = 1e-8 if loss == "squared_error" else 1e-6
    assert value(model, X, y, **params) <= best.value * (1 + bar)


@pytest.mark.parametrize("collinear", [False, True])
@pytest.mark.parametrize("penalty", ["l2", "elasticnet"])
def test_what_only_rounding_keeps_from_tol_has_converged(penalty, collinear):
    """Columns so long that the gap, a slope's square by the penalty, has no digits to show it."""
    X = 1e6 * np.arange(4000.0).reshape(-1, 2)
    if not collinear:
        X += 1e6 * np.random.default_rng(0).standard_normal(X.shape)
    y = np.arange(2000.0)
    model = DistributedGDRegressor(penalty=penalty).fit(X, y)
    assert model.converged_
    if penalty == "l2":
        # Compared in units of y: at this scale the penalty is none.
        residual = y - model.predict(X)
        assert np.abs((X - X.mean(0)).T @ residual).max() <= 1e-10 * np.abs(X.T @ y).max()


@pytest.mark.parametrize("alpha", [0.02, 0.2])
def test_a_wide_and_badly_scaled_lasso(alpha):
    rng = np.random.default_rng(6)
    X = rng.standard_normal((40, 100)) * 10 ** rng.uniform(-2, 2, 100)
    y = X @ (rng.standard_normal(100) * (rng.random(100) < 0.1)) + rng.standard_normal(40)
    model = DistributedGDRegressor(penalty="l1", alpha=alpha).fit(X, y)
    other = Lasso(alpha=alpha, tol=1e-12, max_iter=10**6).fit(X, y)
    params = {"penalty": "l1", "alpha": alpha}
    assert value(model, X, y, **params) <= value(other, X, y, **params) * (1 + 1e-8)
    assert model.duality_gap_ <= 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_single_rows_and_single_columns(loss):
    one = DistributedGDRegressor(loss).fit([[2.0, 3.0]], [5.0])
    assert abs(one.predict([[2.0, 3.0]])[0] - 5.0) <= 0.11
    X, y, weight = reference.table(30, 1)
    params = {"loss": loss, "alpha": 1e-3}
    best = reference.optimum(X, y, weight, **params)
    assert value(DistributedGDRegressor(**params).fit(X, y, weight), X, y, weight, **params) <= (
        best.value * (1 + 1e-6)
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_float32_data_loses_no_more_than_its_own_digits(loss):
    X, y, weight = reference.table(200, 4)
    X = X.astype(np.float32)
    params = {"loss": loss, "alpha": 0.01}
    best = reference.optimum(X, y, weight, **params)
    model = DistributedGDRegressor(**params).fit(X, y, weight)
    assert model.coef_.dtype == np.float64
    assert value(model, X, y, weight, **params) <= best.value * (1 + 1e-6)
