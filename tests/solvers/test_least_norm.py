"""Without a penalty every solver returns the least-squares solution of smallest norm."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LinearRegression

from dask_dml import DistributedGDRegressor

SOLVERS = ("auto", "newton", "lbfgs", "accelerated", "gd")


def table(n, p, *, alike=True):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) + 1.0
    if not alike:
        X *= 10.0 ** rng.uniform(-2, 2, p)
    return X, rng.standard_normal(n) + 3.0


def assert_shortest(model, X, y, fit_intercept):
    """Compare with SciPy's minimum-norm solution; the iterative solvers stop by the gradient."""
    best = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    error = np.linalg.norm(model.coef_ - best.coef_) / np.linalg.norm(best.coef_)
    assert error <= (1e-9 if model.solver_ in ("statistics", "newton") else 3e-4)
    np.testing.assert_allclose(model.predict(X), best.predict(X), atol=2e-3)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("solver", ["auto", "lbfgs", "accelerated", "gd"])
def test_thirty_rows_of_2500_columns(solver, fit_intercept, alike):
    X, y = table(30, 2500, alike=alike)
    model = DistributedGDRegressor(penalty=None, solver=solver, fit_intercept=fit_intercept)
    assert_shortest(model.fit(X, y), X, y, fit_intercept)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("kind", ["dense", "sparse", "chunks"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_more_columns_than_rows(solver, kind, alike):
    if solver == "gd" and not alike:
        pytest.skip("gradient descent in raw coordinates needs columns of one scale")
    X, y = table(20, 45, alike=alike)
    model = DistributedGDRegressor(penalty=None, solver=solver, max_iter=20_000, tol=1e-7)
    data = {"dense": X, "sparse": sp.csr_array(X), "chunks": da.from_array(X, chunks=(7, 45))}
    assert_shortest(model.fit(data[kind], y), X, y, True)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("solver", SOLVERS)
def test_columns_that_depend_on_each_other(solver, fit_intercept):
    X, y = table(80, 4)
    X = np.column_stack([X, X[:, 0] * 3.0, X[:, 1] - X[:, 2], np.full(80, 2.0)])
    model = DistributedGDRegressor(
        penalty=None, solver=solver, fit_intercept=fit_intercept, max_iter=20_000, tol=1e-7
    )
    assert_shortest(model.fit(X, y), X, y, fit_intercept)


def test_words_that_never_occur_stay_out_of_it():
    rng = np.random.default_rng(1)
    X = sp.random_array((40, 3000), density=0.002, format="csr", rng=rng)
    y = rng.standard_normal(40)
    model = DistributedGDRegressor(penalty=None, solver="lbfgs").fit(sp.csr_array(X), y)
    assert_shortest(model, X.toarray(), y, True)
    assert (model.coef_ == 0.0).sum() > 2500


def test_full_rank_is_left_as_it_is():
    X, y = table(200, 5)
    model = DistributedGDRegressor(penalty=None, solver="lbfgs").fit(X, y)
    assert_shortest(model, X, y, True)
