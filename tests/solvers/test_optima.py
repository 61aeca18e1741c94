"""Every solver reaches the optimum, and says truly how near it is."""

from itertools import product

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from reference import EVERY, LOSSES
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedGDRegressor

TOL = 1e-6


def excess(model, X, y, weight, best, **params):
    """Return how far the fit is above the optimum, relative as the bars are."""
    value = reference.objective(X, y, model.coef_, model.intercept_, weight, **params)
    least = reference.floor(y, weight, centred=params.get("fit_intercept", True))
    return (value - best.value) / max(best.value, least)


def assert_certified(model, X, y, weight, best, **params):
    """The reported gap bounds the true distance, whatever was reached."""
    assert excess(model, X, y, weight, best, **params) <= model.duality_gap_ + 1e-11
    value = reference.objective(X, y, model.coef_, model.intercept_, weight, **params)
    assert model.loss_curve_[-1] == pytest.approx(value, rel=1e-9, abs=1e-13)


def bar(loss):
    return 1e-8 if loss == "squared_error" else TOL


@pytest.mark.parametrize(("loss", "penalty"), EVERY)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("weighted", "alpha"), [(False, 1e-4), (True, 1e-4), (True, 0.1)])
def test_default_parameters_meet_the_bar(loss, penalty, fit_intercept, weighted, alpha):
    X, y, weight = reference.table(seed=3)
    weight = weight if weighted else None
    params = {"loss": loss, "penalty": penalty, "alpha": alpha, "fit_intercept": fit_intercept}
    best = reference.optimum(X, y, weight, **params)
    model = DistributedGDRegressor(**params).fit(X, y, weight)
    assert model.converged_
    assert excess(model, X, y, weight, best, **params) <= bar(loss)
    assert_certified(model, X, y, weight, best, **params)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("loss", "penalty"), EVERY)
def test_coefficients_are_those_of_the_optimum(loss, penalty, seed):
    """Unique here: more rows than columns, none of them special."""
    X, y, weight = reference.table(90, 4, seed=seed)
    params = {"loss": loss, "penalty": penalty, "alpha": 0.02, "epsilon": 0.3}
    best = reference.optimum(X, y, weight, **params)
    model = DistributedGDRegressor(**params).fit(X, y, weight)
    # Beside a kink the objective's tolerance allows the coefficients more.
    allowed = 1e-4 if loss == "epsilon_insensitive" else 1e-5
    scale = np.abs(best.coef).max()
    np.testing.assert_allclose(model.coef_, best.coef, atol=allowed * scale, rtol=0)


NAMED = [
    (solver, loss, penalty)
    for solver, (loss, penalty) in product(("newton", "lbfgs", "accelerated", "gd"), EVERY)
    if not (solver == "lbfgs" and penalty in ("l1", "elasticnet"))
]


@pytest.mark.parametrize(("solver", "loss", "penalty"), NAMED)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_named_solvers_converge_or_say_truly_how_far_they_came(solver, loss, penalty, sparse):
    X, y, weight = reference.table(60, 3, seed=1)
    X = sp.csr_array(X * (np.abs(X) > 0.4)) if sparse else X
    params = {"loss": loss, "penalty": penalty, "alpha": 0.05, "fit_intercept": not sparse}
    best = reference.optimum(X, y, weight, **params)
    model = DistributedGDRegressor(
        solver=solver, max_iter=500 if solver == "gd" else 5000, **params
    ).fit(X, y, weight)
    assert model.solver_ == solver
    assert_certified(model, X, y, weight, best, **params)
    if model.converged_:
        assert excess(model, X, y, weight, best, **params) <= TOL
    if solver != "gd":  # whose rate is the condition number's
        assert excess(model, X, y, weight, best, **params) <= 1e-4
        assert model.converged_ or loss == "epsilon_insensitive"


@pytest.mark.parametrize(("loss", "penalty"), EVERY)
@pytest.mark.parametrize("solver", ["auto", "accelerated", "gd"])
@pytest.mark.parametrize("max_iter", [1, 4])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_gaps_are_true_bounds_far_from_the_optimum(loss, penalty, solver, max_iter):
    X, y, weight = reference.table(50, 4, seed=2)
    for params in (
        {"loss": loss, "penalty": penalty, "alpha": 0.5, "epsilon": 0.5},
        {"loss": loss, "penalty": penalty, "alpha": 0.01, "fit_intercept": False},
    ):
        best = reference.optimum(X, y, weight, **params)
        model = DistributedGDRegressor(solver=solver, max_iter=max_iter, **params)
        assert_certified(model.fit(X, y, weight), X, y, weight, best, **params)


@pytest.mark.parametrize("aggregation", ["weighted", "uniform"])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_uniform_aggregation_certifies_its_own_problem(aggregation, penalty):
    """Nodes that count the same are rows whose weights are divided by their node's."""
    import dask.array as da

    X, y, weight = reference.table(60, 3, seed=4)
    sizes = (1, 9, 50)
    totals = np.array([part.sum() for part in np.split(weight, np.cumsum(sizes)[:-1])])
    effective = weight / np.repeat(totals, sizes) if aggregation == "uniform" else weight
    params = {"penalty": penalty, "alpha": 0.1, "loss": "huber", "epsilon": 0.5}
    best = reference.optimum(X, y, effective, **params)
    for solver, max_iter in (("newton", 100), ("gd", 30), ("gd", 1000)):
        model = DistributedGDRegressor(
            solver=solver, max_iter=max_iter, aggregation=aggregation, n_shards="blocks", **params
        )
        model.fit(da.from_array(X, chunks=(sizes, 3)), y, weight)
        assert_certified(model, X, y, effective, best, **params)
        bar = {100: TOL, 1000: 0.01}.get(max_iter, np.inf)
        assert excess(model, X, y, effective, best, **params) <= bar


@pytest.mark.parametrize(
    ("loss", "solver"),
    [
        pair
        for pair in product(LOSSES, ("auto", "newton", "accelerated", "gd"))
        if pair != ("epsilon_insensitive", "gd")  # takes plain steps too long
    ],
)
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_l1_makes_real_zeros(loss, penalty, solver):
    X, y, _ = reference.table(100, 6, seed=5)
    params = {"loss": loss, "penalty": penalty, "alpha": 0.4, "l1_ratio": 0.8}
    if loss == "huber":
        params["alpha"] = 0.02  # its slopes end at epsilon
    best = reference.optimum(X, y, **params)
    zeros = np.abs(best.coef) < 1e-7
    assert zeros.any()
    assert not zeros.all()
    model = DistributedGDRegressor(solver=solver, max_iter=5000, **params).fit(X, y)
    np.testing.assert_array_equal(model.coef_ == 0.0, zeros)


@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_penalty_large_enough_leaves_only_the_intercept(loss, penalty, fit_intercept):
    X, y, _ = reference.table(60, 3)
    params = {"loss": loss, "penalty": penalty, "alpha": 1e4, "fit_intercept": fit_intercept}
    model = DistributedGDRegressor(**params).fit(X, y)
    np.testing.assert_array_equal(model.coef_, 0.0)
    if fit_intercept:
        alone = reference.optimum(np.zeros((60, 1)), y, loss=loss, alpha=1.0).value
        value = reference.objective(X, y, model.coef_, model.intercept_, **params)
        assert value <= alone * (1 + bar(loss))
    else:
        assert model.intercept_ == 0.0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("penalty", ["l2", "l1", None])
def test_outputs_are_fitted_as_if_alone(loss, penalty):
    X, y, weight = reference.table(70, 4, seed=6)
    rng = np.random.default_rng(0)
    Y = np.column_stack([y, 10 * rng.standard_normal(70) + 5, X[:, 0] - 2])
    model = DistributedGDRegressor(loss, penalty=penalty, alpha=0.03)
    coef, intercept = (together := model.fit(X, Y, weight)).coef_, together.intercept_
    assert coef.shape == (3, 4)
    assert intercept.shape == (3,)
    rounds, curve = [], 0.0
    for c in range(3):
        alone = DistributedGDRegressor(loss, penalty=penalty, alpha=0.03).fit(X, Y[:, c], weight)
        scale = np.abs(alone.coef_).max()
        np.testing.assert_allclose(coef[c], alone.coef_, atol=1e-9 * scale, rtol=0)
        np.testing.assert_allclose(intercept[c], alone.intercept_, atol=1e-9 * (1 + scale))
        rounds.append(alone.n_rounds_)
        curve += alone.loss_curve_[-1]
    assert together.n_rounds_ == max(rounds)  # all outputs share every pass
    assert together.loss_curve_[-1] == pytest.approx(curve)


@pytest.mark.parametrize(("loss", "penalty"), EVERY)
def test_an_exact_fit_is_found(loss, penalty):
    """No residuals, no widths to learn from them."""
    X, _, _ = reference.table(40, 3)
    y = X @ np.array([1.0, -2.0, 0.5]) + 3.0
    params = {"loss": loss, "penalty": penalty, "alpha": 1e-3, "epsilon": 0.01}
    best = reference.optimum(X, y, **params)
    model = DistributedGDRegressor(**params).fit(X, y)
    assert excess(model, X, y, None, best, **params) <= bar(loss) + 1e-9


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("solver", ["auto", "lbfgs", "accelerated"])
def test_a_constant_target_is_the_intercept(loss, solver):
    X, _, _ = reference.table(30, 3)
    model = DistributedGDRegressor(loss, solver=solver).fit(X, np.full(30, 7.0))
    np.testing.assert_allclose(model.predict(X), 7.0, atol=0.11 if "insens" in loss else 1e-3)


def test_unmet_tolerance_is_a_warning_that_names_the_remedy():
    X, y, _ = reference.table()
    model = DistributedGDRegressor("huber", solver="accelerated", max_iter=1)
    with pytest.warns(ConvergenceWarning, match=r"gap is .* after 1 iter.*max_iter.*solver='auto'"):
        model.fit(X, y)
    assert not model.converged_
    assert model.n_iter_ == 1
    model = DistributedGDRegressor("huber", penalty=None, solver="lbfgs", max_iter=1)
    with pytest.warns(ConvergenceWarning, match=r"optimality is .*Increase max_iter"):
        model.fit(X, y)
    assert model.duality_gap_ == np.inf
