"""More columns than second moments are gathered for."""

from __future__ import annotations

from functools import cache

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import ElasticNet, QuantileRegressor, Ridge
from sklearn.svm import SVR

from dask_dml import DistributedGDRegressor
from dask_dml.rounds import choose


def test_wide_ridge_has_scikit_learns_coefficients():
    rng = np.random.default_rng(0)
    X = sp.random_array((1500, 2500), density=0.005, rng=rng, format="csr")
    y = X @ rng.standard_normal(2500) + rng.standard_normal(1500) + 3.0
    model = DistributedGDRegressor().fit(X, y)
    other = Ridge(1e-4 * 1500, solver="sparse_cg", tol=1e-14, max_iter=100_000).fit(X, y)
    assert model.solver_ == "lbfgs"
    scale = np.abs(other.coef_).max()
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-5 * scale, rtol=0)


def test_columns_that_never_occur_change_nothing():
    rng = np.random.default_rng(1)
    X = sp.random_array((400, 300), density=0.05, rng=rng, format="csr")
    y = X @ rng.standard_normal(300) + rng.standard_normal(400)
    wide = sp.hstack([X, sp.csr_array((400, 5000))], format="csr")
    alone = DistributedGDRegressor(solver="lbfgs", tol=1e-12).fit(X, y)
    model = DistributedGDRegressor(solver="lbfgs", tol=1e-12).fit(wide, y)
    np.testing.assert_allclose(model.coef_[:300], alone.coef_, rtol=1e-6, atol=1e-8)
    assert not model.coef_[300:].any()


@cache
def few_rows(l1_ratio):
    """Few rows of many columns, and scikit-learn's elastic net of them."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((40, 2500)) * (rng.uniform(size=(40, 2500)) < 0.3)
    Y = X[:, :2] @ rng.standard_normal((2, 2)) + 0.1 * rng.standard_normal((40, 2)) + 5.0
    weight = 10.0 ** rng.uniform(-2, 2, 40)
    exact = ElasticNet(1e-4, l1_ratio=l1_ratio, tol=1e-10, max_iter=1_000_000).fit(X, Y, weight)
    return X, Y, weight, exact


@pytest.mark.parametrize("engine", ["memory", "dask"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_lasso_on_few_rows_of_many_columns_is_exact(engine, sparse, l1_ratio):
    X, Y, weight, exact = few_rows(l1_ratio)
    rows = sp.csr_array(X) if sparse else X
    data = rows, Y, weight
    if engine == "dask":
        rows = da.from_array(X, chunks=(15, -1)).map_blocks(sp.csr_array if sparse else np.asarray)
        data = rows, da.from_array(Y, chunks=(15, -1)), da.from_array(weight, chunks=15)
    alpha = 1e-4
    model = DistributedGDRegressor(
        penalty="elasticnet", alpha=alpha, l1_ratio=l1_ratio, tol=1e-9
    ).fit(*data)
    assert (model.solver_, model.converged_) == ("statistics", True)

    def objective(coef, intercept):
        squares = (Y - X @ coef.T - intercept) ** 2
        penalty = l1_ratio * np.abs(coef).sum() + 0.5 * (1.0 - l1_ratio) * (coef**2).sum()
        return 0.5 * (weight @ squares).sum() / weight.sum() + alpha * penalty

    best = objective(exact.coef_, exact.intercept_)
    assert objective(model.coef_, model.intercept_) <= best * (1.0 + 1e-9)


@pytest.mark.parametrize("engine", ["memory", "dask", "cluster", "streaming"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_kink_on_few_rows_of_many_columns(client, monkeypatch, engine, sparse):
    """The optimum is scikit-learn's `SVR`, whose dual has as many variables as there are rows."""
    X, Y, weight, _ = few_rows(1.0)
    X = X * np.logspace(0, 2, X.shape[1])
    data = (sp.csr_array(X) if sparse else X).astype(np.float32), Y[:, 0], weight
    alpha = 1e-3
    exact = SVR(kernel="linear", C=1.0 / (alpha * weight.sum()), epsilon=0.1, tol=1e-9)
    exact.fit(data[0], Y[:, 0], weight)
    if engine != "memory":
        rows = da.from_array(X.astype(np.float32), chunks=(15, -1))
        rows = rows.map_blocks(sp.csr_array) if sparse else rows
        data = rows, da.from_array(Y[:, 0], chunks=15), da.from_array(weight, chunks=15)
        monkeypatch.setattr(choose, "current_client", lambda: None if engine == "dask" else client)
        if engine == "streaming":
            monkeypatch.setattr(choose, "_fits", lambda *_: False)
    model = DistributedGDRegressor("epsilon_insensitive", alpha=alpha, tol=1e-7).fit(*data)
    assert model.engine_ == {"dask": "memory"}.get(engine, engine)
    assert model.solver_ == "newton"
    assert model.converged_
    assert model.n_rounds_ == 3
    np.testing.assert_allclose(model.predict(X), exact.predict(X), atol=1e-5)
    coef = exact.coef_.toarray().ravel() if sparse else exact.coef_.ravel()
    np.testing.assert_allclose(model.coef_, coef, atol=1e-4 * np.abs(coef).max())


def placed(data, engine, sparse, client, monkeypatch):
    """Return X, y and weights where an engine takes them from."""
    X, y, weight = data
    if engine == "memory":
        return (sp.csr_array(X) if sparse else X), y, weight
    monkeypatch.setattr(choose, "current_client", lambda: None if engine == "dask" else client)
    if engine == "streaming":
        monkeypatch.setattr(choose, "_fits", lambda *_: False)
    rows = da.from_array(X, chunks=(15, -1))
    rows = rows.map_blocks(sp.csr_array) if sparse else rows
    return rows, da.from_array(y, chunks=(15, *y.shape[1:])), da.from_array(weight, chunks=15)


@pytest.mark.parametrize("engine", ["memory", "dask", "cluster", "streaming"])
@pytest.mark.parametrize("sparse", [False, True])
def test_kinks_of_loss_and_penalty_on_few_rows(client, monkeypatch, engine, sparse):
    """The optimum is that of scikit-learn's linear programme."""
    X, Y, weight, _ = few_rows(1.0)
    alpha = 3e-3
    exact = QuantileRegressor(quantile=0.7, alpha=alpha, solver="highs").fit(X, Y[:, 0], weight)
    data = placed((X, Y[:, 0], weight), engine, sparse, client, monkeypatch)
    model = DistributedGDRegressor(
        "quantile", penalty="l1", quantile=0.7, alpha=alpha, tol=1e-8
    ).fit(*data)
    assert (model.solver_, model.converged_, model.n_rounds_) == ("newton", True, 3)

    def objective(model):
        residual = Y[:, 0] - X @ model.coef_ - model.intercept_
        pinball = np.maximum(0.7 * residual, -0.3 * residual)
        return weight @ pinball / weight.sum() + alpha * np.abs(model.coef_).sum()

    assert objective(model) == pytest.approx(objective(exact), rel=2e-8)
    assert np.count_nonzero(model.coef_) == np.count_nonzero(np.abs(exact.coef_) > 1e-9)


def test_a_wide_kink_on_few_rows_is_an_elastic_net():
    X, Y, weight, exact = few_rows(0.5)
    model = DistributedGDRegressor(
        "huber", penalty="elasticnet", epsilon=1e3, alpha=1e-4, l1_ratio=0.5, tol=1e-10
    ).fit(sp.csr_array(X), Y, weight)
    assert model.solver_ == "newton"
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, exact.intercept_, rtol=1e-6)


@pytest.mark.parametrize("alpha", [1e-10, 1e-8, 1e-2, 1e5])
def test_weak_and_strong_penalties_on_few_rows(alpha):
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((30, 2500)), rng.standard_normal(30)
    weight = 10.0 ** rng.uniform(-6, 6, 30)
    model = DistributedGDRegressor("huber", penalty="l1", epsilon=0.5, alpha=alpha, tol=1e-6)
    model.fit(X, y, weight)
    assert model.converged_
    assert model.duality_gap_ <= 1e-6
    assert model.coef_.any() == (alpha < 1.0)


@pytest.mark.parametrize("loss", ["huber", "epsilon_insensitive"])
def test_few_rows_without_a_penalty_get_the_shortest_solution(loss):
    """Also where rows repeat, or do not depend on the columns at all."""
    X, Y, _, _ = few_rows(1.0)
    X, Y = np.vstack([X, X[:5]]), np.vstack([Y, Y[:5]])
    model = DistributedGDRegressor(loss, penalty=None, epsilon=1e-3).fit(X, Y[:, 0])
    centred = X - X.mean(axis=0)
    least = np.linalg.pinv(centred) @ (Y[:, 0] - Y[:, 0].mean())
    np.testing.assert_allclose(model.predict(X), Y[:, 0], atol=1e-2)
    assert np.linalg.norm(model.coef_) <= 1.01 * np.linalg.norm(least)
    flat = DistributedGDRegressor(loss, penalty=None).fit(np.ones_like(X), Y[:, 0])
    assert not flat.coef_.any()
