"""An L1 penalty on few rows of many columns, which travel to the driver."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from certificate import certify, primal
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from dask_dml import DistributedLinearSVC
from dask_dml.objective.margins import MarginProblem
from dask_dml.objective.penalties import ElasticNet
from dask_dml.passes.products import WindowRows
from dask_dml.solvers.margin_descent import descend


def table(n=300, p=3000, density=0.01):
    rng = np.random.default_rng(0)
    X = sp.random_array((n, p), density=density, rng=rng, format="csr")
    return X, X @ rng.standard_normal(p) + 0.1 * rng.standard_normal(n) > 0.0


@pytest.mark.parametrize("scaling", [0.0, 1.0, 10.0, np.inf])
@pytest.mark.parametrize("sparse", [False, True])
def test_what_quasi_newton_steps_find_on_split_coefficients(sparse, scaling):
    rng = np.random.default_rng(0)
    X, sign, cost = rng.standard_normal((50, 8)), rng.choice([-1.0, 1.0], 50), rng.uniform(1, 9, 50)
    X[:, 3] = 0.0
    problem = MarginProblem(1.0, (1.0, 1.0), True, ElasticNet(l1=1.0), scaling)
    rows = WindowRows(sp.csr_array(X) if sparse else X, 2.0 * cost, sign)
    found = descend(problem, rows, 1e-9, np.inf)
    weights = np.append(np.ones(8), 0.0 if scaling == 0.0 else 1.0 / scaling)
    Z = sign[:, None] * np.column_stack([X, np.full(50, float(scaling > 0.0))])

    def price(parts):
        t = np.maximum(1.0 - Z @ (parts[:9] - parts[9:]), 0.0)
        slope = -2.0 * Z.T @ (cost * t)
        value = cost @ t**2 + np.tile(weights, 2) @ parts
        return value, np.append(slope, -slope) + np.tile(weights, 2)

    best = minimize(price, np.zeros(18), jac=True, bounds=[(0.0, None)] * 18, tol=1e-13).fun
    value = price(np.append(np.maximum(found, 0.0), np.maximum(-found, 0.0)))[0]
    assert value == pytest.approx(best, rel=1e-7)
    assert found[3] == 0.0


@pytest.mark.parametrize("scaling", [1.0, None])
def test_a_fit_that_is_done_on_the_driver(scaling):
    X, y = table()
    model = DistributedLinearSVC("l1", C=1.0, intercept_scaling=scaling).fit(X, y)
    assert model.n_rounds_ <= 10
    assert certify(model, X, y) <= 1e-4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classes_that_are_all_but_separated():
    """Where hardly anything but the penalty is left of the objective, liblinear is no closer."""
    X, y = table()
    weight = 10.0 ** np.random.default_rng(1).uniform(-6, 6, len(y))
    model = DistributedLinearSVC("l1", C=1e3, max_iter=20).fit(X, y, weight)
    other = LinearSVC(penalty="l1", dual=False, C=1e3, tol=1e-4, random_state=0).fit(X, y, weight)
    theirs = primal(model, X, y, weight, other.coef_, other.intercept_)
    assert model.objective_ <= 1.001 * theirs.sum()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", [{}, {"intercept_scaling": None}, {"fit_intercept": False}])
def test_separable_classes_of_few_rows(kind, sparse):
    """Coordinate descent hardly moves there: an interior point of the rows ends it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2500)) * np.geomspace(0.1, 10.0, 2500)
    y = X @ rng.standard_normal(2500) > 0.0
    data = sp.csr_array(X) if sparse else X
    model = DistributedLinearSVC("l1", C=1e3, **kind).fit(data, y)
    assert model.converged_
    assert np.count_nonzero(model.coef_) <= 60
    assert certify(model, X, y) <= 1e-4
