"""The same optimum as scikit-learn's estimators, by the documented map of parameters."""

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from scipy.optimize import linprog
from sklearn.linear_model import ElasticNet, HuberRegressor, Lasso, LinearRegression, Ridge
from sklearn.svm import LinearSVR

from dask_dml import DistributedGDRegressor


def data(*, sparse, n=120, p=8, seed=0):
    X, y, weight = reference.table(n, p, seed=seed)
    if sparse:
        X = sp.csr_array(np.where(np.abs(X) > 1.0, X, 0.0))
    return X, y, weight


def assert_same(model, other, rtol=1e-5):
    np.testing.assert_allclose(
        model.coef_, other.coef_, rtol=rtol, atol=rtol * np.abs(other.coef_).max() * 1e-3
    )
    np.testing.assert_allclose(model.intercept_, other.intercept_, rtol=rtol, atol=rtol)


SETUPS = pytest.mark.parametrize(
    ("sparse", "weighted", "fit_intercept"),
    [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)],
)


@SETUPS
@pytest.mark.parametrize("strength", [1e-3, 10.0])
def test_ridge(sparse, weighted, fit_intercept, strength):
    X, y, weight = data(sparse=sparse)
    weight = weight if weighted else None
    total = len(y) if weight is None else weight.sum()
    # sparse X with an intercept: scikit-learn's own exact solver there is conjugate gradients.
    ridge = Ridge(strength, fit_intercept=fit_intercept, tol=1e-14, max_iter=10**5,
                  solver="sparse_cg" if sparse else "cholesky").fit(X, y, weight)  # fmt: skip
    model = DistributedGDRegressor(alpha=strength / total, fit_intercept=fit_intercept)
    assert_same(model.fit(X, y, weight), ridge)
    assert model.n_rounds_ <= 3
    assert model.solver_ == "statistics"


@SETUPS
@pytest.mark.parametrize("l1_ratio", [1.0, 0.3])
def test_lasso_and_elastic_net(sparse, weighted, fit_intercept, l1_ratio):
    X, y, weight = data(sparse=sparse)
    weight = weight if weighted else None
    options = {"alpha": 0.1, "fit_intercept": fit_intercept, "tol": 1e-13, "max_iter": 10**5}
    if l1_ratio == 1.0:
        other = Lasso(**options).fit(X, y, weight)
        model = DistributedGDRegressor(penalty="l1", alpha=0.1, fit_intercept=fit_intercept)
    else:
        other = ElasticNet(l1_ratio=l1_ratio, **options).fit(X, y, weight)
        model = DistributedGDRegressor(
            penalty="elasticnet", alpha=0.1, l1_ratio=l1_ratio, fit_intercept=fit_intercept
        )
    model.fit(X, y, weight)
    assert_same(model, other)
    np.testing.assert_array_equal(model.coef_ == 0.0, other.coef_ == 0.0)


@SETUPS
def test_linear_regression(sparse, weighted, fit_intercept):
    X, y, weight = data(sparse=sparse)
    weight = weight if weighted else None
    dense = X.toarray() if sparse else X  # scikit-learn's sparse solver stops at 1e-6
    other = LinearRegression(fit_intercept=fit_intercept).fit(dense, y, weight)
    model = DistributedGDRegressor(penalty=None, fit_intercept=fit_intercept).fit(X, y, weight)
    assert_same(model, other, 1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("epsilon", [1.1, 1.35, 3.0])
def test_huber(sparse, weighted, epsilon):
    """scikit-learn fits the scale as well, and weighs the penalty by it."""
    X, y, weight = data(sparse=sparse)
    weight = weight if weighted else np.ones(len(y))
    other = HuberRegressor(epsilon=epsilon, alpha=0.05, tol=1e-10, max_iter=10**4)
    other.fit(X, y, weight)
    params = {"loss": "huber", "epsilon": epsilon * other.scale_,
              "alpha": 0.05 * other.scale_ / weight.sum()}  # fmt: skip
    model = DistributedGDRegressor(**params).fit(X, y, weight)
    # scikit-learn's own search ends a little before the optimum.
    best = reference.objective(X, y, other.coef_, other.intercept_, weight, **params)
    mine = reference.objective(X, y, model.coef_, model.intercept_, weight, **params)
    assert best * (1 - 1e-6) <= mine <= best * (1 + 1e-9)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-4 * np.abs(other.coef_).max())


@pytest.mark.parametrize("loss", ["epsilon_insensitive", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("C", [0.01, 1.0])
@pytest.mark.parametrize("sparse", [False, True])
def test_linear_svr(loss, C, sparse):
    X, y, weight = data(sparse=sparse)
    svr = LinearSVR(
        C=C, loss=loss, epsilon=0.2, fit_intercept=False, tol=1e-10, max_iter=10**7, dual=True
    ).fit(X, y, weight)
    params = {"loss": loss, "alpha": 1 / (C * weight.sum()), "epsilon": 0.2,
              "fit_intercept": False}  # fmt: skip
    model = DistributedGDRegressor(**params).fit(X, y, weight)
    best = reference.objective(X, y, svr.coef_, 0.0, weight, **params)
    mine = reference.objective(X, y, model.coef_, 0.0, weight, **params)
    assert mine <= best * (1 + 1e-6)
    np.testing.assert_allclose(model.coef_, svr.coef_, atol=1e-3 * np.abs(svr.coef_).max())


@pytest.mark.parametrize("penalty", [None, "l1"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_epsilon_insensitive_is_a_linear_programme(penalty, fit_intercept, seed):
    n, p, epsilon, alpha = 150, 6, 0.3, 0.05
    X, y, weight = reference.table(n, p, seed=seed)
    strength = alpha if penalty == "l1" else 0.0
    eye = np.eye(n)
    free = np.full((n, 1), float(fit_intercept))
    # w = u - v, b free, excess t: minimise s't/S + alpha (u + v) with |y - Xw - b| <= eps + t.
    c = np.concatenate([np.full(2 * p, strength), [0.0], weight / weight.sum()])
    rows = np.block([[-X, X, -free, -eye], [X, -X, free, -eye]])
    bounds = [(0, None)] * 2 * p + [(None, None)] + [(0, None)] * n
    best = linprog(c, rows, np.concatenate([epsilon - y, epsilon + y]), bounds=bounds).fun
    params = {"loss": "epsilon_insensitive", "penalty": penalty, "alpha": alpha,
              "epsilon": epsilon, "fit_intercept": fit_intercept}  # fmt: skip
    model = DistributedGDRegressor(**params).fit(X, y, weight)
    value = reference.objective(X, y, model.coef_, model.intercept_, weight, **params)
    assert value <= best * (1 + 1e-6)
    assert value >= best * (1 - 1e-9)
    assert (value - best) / best <= model.duality_gap_ + 1e-9


def test_the_reference_agrees_with_scikit_learn():
    """The truths of these tests check each other."""
    X, y, weight = data(sparse=False, n=60, p=4)
    best = reference.optimum(X, y, weight, penalty="elasticnet", alpha=0.1)
    other = ElasticNet(alpha=0.1, l1_ratio=0.15, tol=1e-13, max_iter=10**5).fit(X, y, weight)
    value = reference.objective(
        X, y, other.coef_, other.intercept_, weight, penalty="elasticnet", alpha=0.1
    )
    assert best.value == pytest.approx(value, rel=1e-10)
