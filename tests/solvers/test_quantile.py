"""Quantile regression: linear programmes, scikit-learn's, the documented objective's optima."""

import warnings
from functools import cache

import dask
import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse as sp
from scipy.optimize import linprog
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import QuantileRegressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from dask_dml import DistributedGDRegressor
from dask_dml.blocks import frozen
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Frame, Objective, Problem, Query
from dask_dml.objective.residual_interior import InteriorObjective
from dask_dml.passes.evaluate import moments
from dask_dml.rounds.local import LocalRounds, make_shards
from dask_dml.solvers.base import Limits
from dask_dml.solvers.choose import Task, run

X, Y, WEIGHT = reference.table(60, 5, seed=8)
QUANTILES = (0.05, 0.5, 0.9)


def excess(model, weight, best, **params):
    value = reference.objective(X, Y, model.coef_, model.intercept_, weight, **params)
    return value / best.value - 1.0


@pytest.mark.parametrize("quantile", QUANTILES)
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
def test_the_optimum_is_reached_and_certified(quantile, penalty, fit_intercept, weight):
    params = {
        "loss": "quantile",
        "quantile": quantile,
        "penalty": penalty,
        "alpha": 0.05,
        "fit_intercept": fit_intercept,
    }
    best = reference.optimum(X, Y, weight, **params)
    model = DistributedGDRegressor(**params).fit(X, Y, weight)
    assert model.converged_
    above = excess(model, weight, best, **params)
    assert above <= 1e-6
    assert above <= model.duality_gap_ + 1e-11


@pytest.mark.parametrize("quantile", [0.01, 0.3, 0.75, 0.99])
@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
def test_scikit_learns_linear_programme_is_no_better(quantile, alpha):
    theirs = QuantileRegressor(quantile=quantile, alpha=alpha).fit(X, Y, WEIGHT)
    params = {"loss": "quantile", "quantile": quantile, "penalty": "l1", "alpha": alpha}
    ours = DistributedGDRegressor(**params).fit(X, Y, WEIGHT)
    values = [
        reference.objective(X, Y, m.coef_, m.intercept_, WEIGHT, **params) for m in (ours, theirs)
    ]
    assert values[0] <= values[1] * (1.0 + 1e-6)


def test_a_linear_programme_says_the_same():
    n, p = X.shape
    quantile = 0.8
    # Variables: coefficients and intercept (free), then the residuals' two parts.
    cost = np.concatenate(
        [np.zeros(p + 1), np.full(n, quantile / n), np.full(n, (1 - quantile) / n)]
    )
    equal = np.hstack([X, np.ones((n, 1)), np.eye(n), -np.eye(n)])
    bounds = [(None, None)] * (p + 1) + [(0, None)] * (2 * n)
    best = linprog(cost, A_eq=equal, b_eq=Y, bounds=bounds)
    model = DistributedGDRegressor("quantile", quantile=quantile, penalty=None)
    model.fit(X, Y)
    value = reference.objective(
        X, Y, model.coef_, model.intercept_, loss="quantile", quantile=quantile, penalty=None
    )
    assert value == pytest.approx(best.fun, rel=1e-6)
    assert np.mean(model.predict(X) > Y) == pytest.approx(quantile, abs=(p + 1) / n)


@pytest.mark.parametrize("solver", ["newton", "lbfgs", "accelerated", "gd"])
def test_every_solver_certifies_truly(solver):
    params = {"loss": "quantile", "quantile": 0.9, "penalty": "l2", "alpha": 0.1}
    best = reference.optimum(X, Y, WEIGHT, **params)
    model = DistributedGDRegressor(**params, solver=solver, tol=1e-3, max_iter=2000)
    with warnings.catch_warnings():
        # Plain gradient steps do not get to tol at a kink.
        if solver == "gd":
            warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y, WEIGHT)
    above = excess(model, WEIGHT, best, **params)
    assert above <= (1e-3 if model.converged_ else 0.1)
    assert above <= model.duality_gap_ + 1e-11


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_gradients_are_finite_differences(fit_intercept, centred):
    rounds = local_rounds()
    first = rounds.map_reduce(moments, None)
    frame = Frame.of(first, centred=centred)
    problem = Problem(0, make_loss("quantile", 0.0, 0.7), ElasticNet())
    objective = Objective(rounds, [problem], frame, fit_intercept=fit_intercept)
    point, width, step = np.linspace(-1, 1, 5), 0.5, 1e-6

    def value(coef, intercept=0.3 * fit_intercept):
        return objective.evaluate({0: Query(coef, intercept, width)})[0]

    here = value(point)
    for j, axis in enumerate(np.eye(5) * step):
        slope = (value(point + axis).value - value(point - axis).value) / (2 * step)
        assert here.gradient[j] == pytest.approx(slope, abs=1e-6)
    if fit_intercept:
        slope = (value(point, 0.3 + step).value - value(point, 0.3 - step).value) / (2 * step)
        assert here.intercept_gradient == pytest.approx(slope, abs=1e-6)


def local_rounds():
    block = frozen(X, Y[:, None].copy(), WEIGHT, ((0, len(X)),))
    return LocalRounds(make_shards([block], 2, 1), 1)


def test_several_quantiles_are_one_batch():
    from dask_dml.passes.evaluate import statistics

    rounds = local_rounds()
    first = rounds.map_reduce(statistics, None)
    frame = Frame.of(first, centred=True)
    penalties = [ElasticNet(l2=0.05), ElasticNet(l1=0.05)]
    problems = [Problem(0, make_loss("quantile", 0.0, q), p) for q in QUANTILES for p in penalties]
    objective = InteriorObjective(rounds, problems, frame, fit_intercept=True)
    limits = Limits(1000, 1e-6)
    task = Task(
        loss=problems[0].loss, penalty=penalties[0], n_features=5, n_outputs=1,
        fit_intercept=True, solver="newton", uniform=False, learning_rate="auto", eta0=0.01,
        power_t=0.25, momentum=0.0, limits=limits,
    )  # fmt: skip
    before = rounds.n_rounds
    outcomes = run("newton", task, objective, first)
    shared = rounds.n_rounds - before
    alone = []
    for number, (quantile, penalty) in enumerate((q, p) for q in QUANTILES for p in ("l2", "l1")):
        params = {"loss": "quantile", "quantile": quantile, "penalty": penalty, "alpha": 0.05}
        best = reference.optimum(X, Y, WEIGHT, **params)
        assert outcomes[number].objective == pytest.approx(best.value, rel=1e-6)
        alone.append(DistributedGDRegressor(**params).fit(X, Y, WEIGHT).n_rounds_)
    assert shared <= max(alone) + 2


UPPER = {"loss": "quantile", "quantile": 0.75, "penalty": "l1", "alpha": 0.2}


@cache
def upper_optimum(dtype):
    return reference.optimum(X.astype(dtype), Y, WEIGHT, **UPPER).value


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", ["memory", "cluster", "streaming", "no client"])
def test_engines_and_containers_do_not_matter(request, monkeypatch, engine, sparse, dtype):
    table = X.astype(dtype)
    model = DistributedGDRegressor(**UPPER)
    best = upper_optimum(dtype)
    if engine == "memory":
        model.fit(sp.csr_array(table) if sparse else table, Y, WEIGHT)
    else:
        if engine != "no client":
            request.getfixturevalue("client")
        if engine == "streaming":
            monkeypatch.setattr("dask_dml.rounds.choose._fits", lambda chunks, room: False)
        sizes = (7, 0, len(X) - 10, 3)
        chunked = da.from_array(table, chunks=(sizes, 5))
        if sparse:
            chunked = chunked.map_blocks(sp.csr_matrix)
        y, weight = (da.from_array(values, chunks=(sizes,)) for values in (Y, WEIGHT))
        with dask.config.set(scheduler="threads" if engine == "no client" else None):
            model.fit(chunked, y, weight)
    value = reference.objective(
        table.astype(float), Y, model.coef_, model.intercept_, WEIGHT, **UPPER
    )
    assert model.converged_
    assert value == pytest.approx(best, rel=2e-6)


def test_conversion_to_scikit_learn():
    model = DistributedGDRegressor("quantile", quantile=0.8, penalty="l1", alpha=0.1)
    model.fit(X, Y, WEIGHT)
    twin = model.to_sklearn()
    assert isinstance(twin, QuantileRegressor)
    np.testing.assert_allclose(twin.predict(X), model.predict(X))
    refitted = clone(twin).fit(X, Y, WEIGHT)
    np.testing.assert_allclose(refitted.coef_, model.coef_, atol=2e-3)
    several = clone(model).fit(X, np.column_stack([Y, -Y]))
    assert isinstance(several.to_sklearn(), MultiOutputRegressor)
    np.testing.assert_allclose(several.to_sklearn().predict(X), several.predict(X))


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.5, "median"])
def test_quantiles_out_of_range_are_named(quantile):
    with pytest.raises((ValueError, TypeError), match="'quantile'"):
        DistributedGDRegressor("quantile", quantile=quantile).fit(X, Y)


@parametrize_with_checks([DistributedGDRegressor("quantile", penalty="l1", alpha=0.1)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)
