"""Starts, stops, and problems with more columns than a matrix is made for."""

import warnings

import numpy as np
import pytest
import reference
import scipy.linalg
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, Ridge

from dask_dml import DistributedGDRegressor
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import make_penalty
from dask_dml.solvers.choose import choose_solver
from tests.patience import clock

X, Y, WEIGHT = reference.table(80, 4, seed=11)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "accelerated", "gd"])
@pytest.mark.parametrize("loss", ["squared_error", "squared_epsilon_insensitive"])
def test_a_warm_start_at_the_optimum_has_nothing_left_to_do(solver, loss):
    model = DistributedGDRegressor(loss, solver=solver, alpha=0.1, warm_start=True, max_iter=20000)
    first = model.fit(X, Y).n_iter_
    coef = model.coef_.copy()
    again = model.fit(X, Y)
    assert again.n_iter_ <= min(3, first)
    np.testing.assert_allclose(again.coef_, coef, rtol=1e-3)


def test_a_warm_start_takes_up_where_the_last_fit_stopped():
    options = {"solver": "gd", "learning_rate": "constant", "eta0": 0.01, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = DistributedGDRegressor(max_iter=20, **options).fit(X, Y)
        parts = DistributedGDRegressor(max_iter=10, warm_start=True, **options).fit(X, Y)
        parts.fit(X, Y)
        cold = DistributedGDRegressor(max_iter=10, **options).fit(X, Y).fit(X, Y)
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-10)
    np.testing.assert_allclose(parts.intercept_, whole.intercept_, rtol=1e-10)
    assert np.abs(cold.coef_ - whole.coef_).max() > 1e-6


def test_a_warm_start_of_another_shape_is_refused():
    model = DistributedGDRegressor(warm_start=True).fit(X, Y)
    before = model.coef_
    with pytest.raises(ValueError, match=r"warm_start=True .*shape \(1, 4\).*fit\s+a clone"):
        model.fit(X[:, :2], Y)
    assert model.coef_ is before
    assert model.n_features_in_ == 4


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "accelerated", "gd"])
def test_max_iter_of_one_is_one_iteration_and_a_warning(solver):
    model = DistributedGDRegressor("huber", solver=solver, max_iter=1, tol=0.0)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        model.fit(X, Y)
    assert model.n_iter_ == 1
    assert not model.converged_
    assert len(model.loss_curve_) == 2
    assert model.loss_curve_[1] < model.loss_curve_[0]


def test_max_time_ends_a_fit_that_would_go_on():
    model = DistributedGDRegressor(
        solver="gd", learning_rate="constant", eta0=1e-9, tol=0.0, max_iter=10**8, max_time=0.3
    )
    begin = clock()
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model.fit(X, Y)
    assert clock() - begin < 5.0
    assert 1 <= model.n_iter_ < 10**8


@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_verbose_prints_a_line_per_round(loss, verbose, capsys):
    DistributedGDRegressor(loss, verbose=verbose).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert bool(lines) == bool(verbose)
    assert all(line.startswith("[DistributedGDRegressor] round ") for line in lines)


# --- Choosing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "penalty", "p", "expected"),
    [
        ("squared_error", "l1", 2000, "statistics"),
        ("squared_error", "l2", 2001, "lbfgs"),
        ("squared_error", "l1", 2001, "accelerated"),
        ("huber", "elasticnet", 50, "newton"),
        ("huber", None, 5000, "lbfgs"),
        ("squared_epsilon_insensitive", "l1", 10, "newton"),
    ],
)
def test_auto_takes_the_first_that_fits(loss, penalty, p, expected):
    got = choose_solver("auto", make_loss(loss, 0.1), make_penalty(penalty, 0.1, 0.5), p, 1)
    assert got == expected


def test_solvers_that_do_not_fit_say_which_do():
    with pytest.raises(ValueError, match=r"solver='statistics' needs loss='squared_error'.*newton"):
        DistributedGDRegressor("huber", solver="statistics").fit(X, Y)
    with pytest.raises(ValueError, match=r"solver='lbfgs' needs a smooth penalty.*accelerated"):
        DistributedGDRegressor(penalty="l1", solver="lbfgs").fit(X, Y)
    many = sp.csr_array((len(Y), 2**17))
    for solver in ("statistics", "newton"):
        with pytest.raises(ValueError, match=r"131072 features take 137 GB; use solver='auto'"):
            DistributedGDRegressor(solver=solver).fit(many, Y)


# --- Many columns -------------------------------------------------------------------------------


def wide(p=2500, n=150):
    rng = np.random.default_rng(12)
    X = sp.random_array((n, p), density=0.02, format="csr", rng=rng)
    coef = np.zeros(p)
    coef[::100] = 5.0
    return sp.csr_array(X), X @ coef + 0.1 * rng.standard_normal(n) + 2.0


def test_many_columns_reach_ridge():
    X, y = wide()
    model = DistributedGDRegressor(alpha=1e-2).fit(X, y)
    assert model.solver_ == "lbfgs"
    ridge = Ridge(1e-2 * len(y), solver="sparse_cg", tol=1e-14, max_iter=10**5).fit(X, y)
    params = {"alpha": 1e-2}
    best = reference.objective(X, y, ridge.coef_, ridge.intercept_, **params)
    mine = reference.objective(X, y, model.coef_, model.intercept_, **params)
    assert mine <= best * (1 + 1e-8)
    assert (mine - best) / best <= model.duality_gap_ + 1e-10
    # 1e-8 in the objective is 1e-4 in the coefficients.
    np.testing.assert_allclose(model.coef_, ridge.coef_, atol=1e-3 * np.abs(ridge.coef_).max())


@pytest.mark.parametrize(("solver", "taken"), [("auto", "statistics"), ("accelerated",) * 2])
def test_many_columns_reach_lasso(solver, taken):
    X, y = wide()
    model = DistributedGDRegressor(penalty="l1", alpha=5e-3, solver=solver).fit(X, y)
    assert model.solver_ == taken
    lasso = Lasso(alpha=5e-3, tol=1e-10, max_iter=10**6).fit(X, y)
    params = {"penalty": "l1", "alpha": 5e-3}
    best = reference.objective(X, y, lasso.coef_, lasso.intercept_, **params)
    assert reference.objective(X, y, model.coef_, model.intercept_, **params) <= best * (1 + 1e-8)
    assert (model.coef_ == 0.0).sum() > 2000


@pytest.mark.parametrize("loss", ["huber", "squared_epsilon_insensitive", "epsilon_insensitive"])
@pytest.mark.parametrize(
    ("penalty", "solver", "taken"),
    [
        ("l2", "auto", "newton"),
        ("l2", "lbfgs", "lbfgs"),
        ("elasticnet", "auto", "newton"),
        ("elasticnet", "accelerated", "accelerated"),
    ],
)
def test_many_columns_with_other_losses_meet_tol(loss, penalty, solver, taken):
    """Columns that never occur change nothing, so that the narrow fit gives the truth."""
    narrow, y = reference.table(60, 4, seed=13)[:2]
    X = sp.csr_array(sp.hstack([sp.csr_array(narrow), sp.csr_array((60, 2500))]))
    params = {"loss": loss, "penalty": penalty, "alpha": 0.1}
    best = reference.optimum(narrow, y, **params)
    model = DistributedGDRegressor(solver=solver, **params).fit(X, y)
    assert model.solver_ == taken
    np.testing.assert_array_equal(model.coef_[4:], 0.0)
    value = reference.objective(narrow, y, model.coef_[:4], model.intercept_, **params)
    assert (value - best.value) / best.value <= 1e-6
    assert (value - best.value) / best.value <= model.duality_gap_ + 1e-10


@pytest.mark.parametrize("sparse", [False, True])
def test_gd_finds_its_step_by_power_iteration_where_columns_are_many(sparse):
    X, y = wide(n=60)
    X = X if sparse else X.toarray()
    model = DistributedGDRegressor(solver="gd", alpha=0.1, max_iter=20000, random_state=0)
    model.fit(X, y)
    assert np.all(np.diff(model.loss_curve_) <= 1e-12)
    again = DistributedGDRegressor(solver="gd", alpha=0.1, max_iter=20000, random_state=0)
    np.testing.assert_array_equal(again.fit(X, y).coef_, model.coef_)


# --- Losses that can be brought to zero ---------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-9, 1e9])
@pytest.mark.parametrize("solver", ["newton", "lbfgs", "accelerated"])
@pytest.mark.parametrize("loss", ["epsilon_insensitive", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("wide", [0.5, 1.5, 30.0])
def test_a_tube_wider_than_the_residuals_is_no_reason_to_warn(loss, solver, unit, wide):
    """At zero coefficients many, some or no residuals are outside of the tube; later none is."""
    y = X @ [1.0, -1.0, 0.5, 0.0] + 0.1 * np.cos(np.arange(len(X)))
    y *= unit / y.std()
    model = DistributedGDRegressor(loss, penalty=None, epsilon=wide * unit, solver=solver)
    model.set_params(max_iter=5000).fit(X, y)
    assert model.converged_
    assert model.duality_gap_ <= model.tol
    assert np.abs(y - model.predict(X)).max() <= wide * unit * (1 + 1e-3)


# --- Deadlines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["statistics", "newton"])
def test_a_deadline_is_met_inside_of_the_drivers_work(solver, monkeypatch):
    """The model's minimiser is told the deadline, and solves nothing more after it."""
    rng = np.random.default_rng(0)
    wide_table, target = rng.standard_normal((40, 300)), rng.standard_normal(40)
    solved = []
    factorise = scipy.linalg.cho_factor
    monkeypatch.setattr(
        scipy.linalg, "cho_factor", lambda *a, **k: solved.append(0) or factorise(*a, **k)
    )
    model = DistributedGDRegressor(
        "squared_error" if solver == "statistics" else "huber",
        penalty="l1", alpha=1e-9, solver=solver, max_time=1e-9,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model.fit(wide_table, target)
    assert np.isfinite(model.coef_).all()
    assert len(solved) <= 3


@pytest.mark.parametrize("solver", ["gd", "lbfgs", "statistics"])
def test_an_offset_of_the_targets_loosens_no_tolerance(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 4))
    y = X @ np.ones(4) + rng.standard_normal(500)
    near = DistributedGDRegressor(solver=solver, tol=1e-9, alpha=1e-6).fit(X, y)
    far = DistributedGDRegressor(solver=solver, tol=1e-9, alpha=1e-6).fit(X, y + 1e6)
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=1e-4)
    residual = y + 1e6 - far.predict(X)
    objective = 0.5 * np.mean(residual**2) + 0.5e-6 * far.coef_ @ far.coef_
    np.testing.assert_allclose(objective, near.loss_curve_[-1], rtol=1e-8)
