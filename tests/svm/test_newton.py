"""Steps of `newton` where weights, rare columns and overflow are hard on them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from certificate import certify
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedLinearSVC
from dask_dml.blocks import frozen
from dask_dml.objective.margin_evaluation import MarginObjective
from dask_dml.objective.margins import MarginProblem, MarginQuery
from dask_dml.objective.penalties import ElasticNet
from dask_dml.passes.products import WindowRows
from dask_dml.rounds.local import LocalRounds, make_shards
from dask_dml.solvers.margin_newton import SvmNewtonStep
from dask_dml.solvers.margin_systems import step_by_rows


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_rows", [0, 4])
def test_the_step_by_rows_solves_the_whole_system(sparse, n_rows):
    rng = np.random.default_rng(0)
    X, bend, slope = rng.normal(size=(n_rows, 7)), rng.uniform(1, 2, n_rows), rng.normal(size=8)
    rows = WindowRows(sp.csr_array(X) if sparse else X, bend, np.zeros(n_rows))
    for ridge in (0.5, 0.0):  # of the intercept
        diagonal = np.append(rng.uniform(0.5, 2, 7), ridge)
        step = step_by_rows(slope, diagonal, rows, 1.0, 1.0)
        with_ones = np.column_stack([X, np.ones(n_rows)])
        system = np.diag(diagonal) + with_ones.T @ (bend[:, None] * with_ones)
        if not n_rows and not ridge:
            # Nothing bends along the intercept: downhill is all that can be asked for.
            system, slope_there = system[:-1, :-1], slope[:-1]
            np.testing.assert_allclose(system @ step[:-1], -slope_there)
            assert step[-1] * slope[-1] < 0.0
        else:
            np.testing.assert_allclose(system @ step, -slope, atol=1e-10)


def test_a_free_intercept_on_fewer_rows_than_columns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2500))
    y = rng.random(30) < 0.4
    model = DistributedLinearSVC(loss="hinge", C=100.0, intercept_scaling=None).fit(X, y)
    assert model.converged_
    assert np.isfinite(model.coef_).all()
    assert model.score(X, y) == 1.0


def gaussian(n, p, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    return X, X @ rng.standard_normal(p) + 0.5 * np.sqrt(p) * rng.standard_normal(n) > 0


def rare_columns(n=20_000, n_dense=10, n_rare=90, seed=0):
    """A few dense columns; others are not zero in some rows only, mostly of one class."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.2
    X = np.zeros((n, n_dense + n_rare))
    side = np.where(y, 1.0, -1.0)[:, None]
    X[:, :n_dense] = np.exp(rng.standard_normal((n, n_dense)) + 0.8 * side)
    for j in range(n_dense, n_dense + n_rare):
        rows = rng.choice(np.flatnonzero(y == (j % 3 == 0)), 1 + j % 9, replace=False)
        X[rows, j] = np.exp(2.0 * rng.standard_normal(len(rows)))
    return (X - X.mean(axis=0)) / X.std(axis=0), y


KINDS = [
    {},
    {"loss": "hinge"},
    {"penalty": "l1"},
    {"intercept_scaling": None},
    {"loss": "hinge", "intercept_scaling": None},
]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(power=st.integers(-40, 40), n=st.sampled_from([60, 3000]), weighted=st.booleans())
def test_weights_times_a_constant_and_a_smaller_c(kind, power, n, weighted):
    """Powers of two are multiplied without rounding: every number of the fit is the same."""
    X, y = gaussian(n, 4)
    weight = np.random.default_rng(1).random(n) if weighted else np.ones(n)
    one, other = (
        DistributedLinearSVC(solver="newton", C=0.1 / factor, tol=1e-6, **kind).fit(
            X, y, factor * weight
        )
        for factor in (1.0, 2.0**power)
    )
    assert one.n_iter_ == other.n_iter_
    assert one.n_rounds_ == other.n_rounds_
    np.testing.assert_array_equal(one.coef_, other.coef_)
    np.testing.assert_array_equal(one.n_support_, other.n_support_)


def test_large_weights_are_no_rows():
    X, y = gaussian(20_000, 30)
    one = DistributedLinearSVC(solver="newton", C=1.0).fit(X, y)
    other = DistributedLinearSVC(solver="newton", C=1e-4).fit(X, y, np.full(len(y), 1e4))
    assert one.n_iter_ == other.n_iter_ <= 6
    np.testing.assert_allclose(other.coef_, one.coef_, rtol=1e-6)


@pytest.mark.parametrize("standardised", [False, True])
def test_weights_over_twelve_decades(standardised):
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0) if standardised else X
    weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(y))
    settings = {"penalty": "l1", "intercept_scaling": None, "C": 1e-4}
    model = DistributedLinearSVC(**settings).fit(X, y, weight)
    assert certify(model, X, y, weight) <= 1e-4


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
def test_rare_columns(C):
    """A Hessian of some of the rows has not seen them."""
    X, y = rare_columns()
    model = DistributedLinearSVC(solver="newton", C=C).fit(X, y)
    assert model.n_iter_ <= 25
    certify(model, X, y)


def test_a_hessian_of_few_rows_becomes_one_of_all_where_a_step_is_cut():
    X, y = rare_columns()
    rounds = LocalRounds(make_shards([frozen(X, y[:, None].astype(float), None, ())], 1, 1))
    problem = MarginProblem(1.0, (1.0, 1.0), True, ElasticNet(l2=1.0), 1.0)
    step = SvmNewtonStep(problem, np.zeros(X.shape[1]), 0.0, 2.0, 1e-4, len(y))
    objective = MarginObjective(rounds, [problem])
    strides, cut = [], False
    while step.n_iter < 3:
        query = step.query
        cut = cut or query.step < 1.0
        strides.append((cut, query.stride))
        step.tell(objective.evaluate({0: query})[0])
    assert strides[0][1] > 1
    assert cut
    assert all(stride == 1 for late, stride in strides if late)


@pytest.mark.parametrize("kind", [{}, {"penalty": "l1"}, {"intercept_scaling": None}])
@pytest.mark.parametrize("C", [1e-2, 1e4])
def test_no_step_goes_up(kind, C):
    X, y = load_breast_cancer(return_X_y=True)
    weight = 10.0 ** np.random.default_rng(1).uniform(-6, 6, len(y))
    model = DistributedLinearSVC(solver="newton", C=C, max_iter=15, **kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, weight)
    values = np.array(model.loss_curve_)
    assert np.all(np.diff(values) <= 1e-10 * values[:-1])


def test_a_direction_that_goes_up_is_not_followed():
    """A Hessian with the wrong sign points uphill: the step ends where it began."""
    X, y = gaussian(200, 3)
    rounds = LocalRounds(make_shards([frozen(X, y[:, None].astype(float), None, ())], 1, 1))
    problem = MarginProblem(1.0, (1.0, 1.0), True, ElasticNet(l2=1.0), 1.0)

    class Uphill(SvmNewtonStep):
        def _newton_direction(self, e):
            return -super()._newton_direction(e)

        def _is_stuck(self, e):  # no other method is to help
            return False

    step = Uphill(problem, np.full(3, 0.1), 0.0, 2.0, 1e-4, len(y))
    objective = MarginObjective(rounds, [problem])
    first = None
    while not step.stalled:
        step.tell(objective.evaluate({0: step.query})[0])
        first = first or step.current
        assert step.current.objective <= first.objective
    np.testing.assert_array_equal(step.current.query.coef, first.query.coef)


def test_coefficients_that_overflow_are_not_the_fault_of_x():
    X, y = gaussian(50, 2)
    weights = np.full(50, 1e6)
    blocks = [frozen(X, y[:, None].astype(float), weights, ())]
    problem = MarginProblem(1.0, (1.0, 1.0), True, ElasticNet(l2=1.0), 1.0)
    objective = MarginObjective(LocalRounds(make_shards(blocks, 1, 1)), [problem])
    e = objective.evaluate({0: MarginQuery(np.full(2, 1e153), 0.0, 0.0)})[0]
    assert np.isinf(e.objective)
    assert np.isinf(e.gap)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_overflow_are_named(kind):
    X, y = gaussian(50, 2)
    X[3, 1] = 1e200
    with pytest.raises(ValueError, match=r"Input X contains values so large.*divide the largest"):
        DistributedLinearSVC(solver="newton", **kind).fit(X, y)
