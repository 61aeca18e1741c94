"""The interior-point method that `newton` goes on with where its steps get short."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse as sp
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedGDRegressor
from dask_dml.blocks import frozen
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Frame, Problem
from dask_dml.objective.residual_interior import InteriorObjective, ResidualQuery
from dask_dml.passes.evaluate import centred_hessian, moments
from dask_dml.rounds.base import StateLost
from dask_dml.rounds.local import LocalRounds, make_shards
from dask_dml.solvers.newton import NewtonStep

X, Y, WEIGHT = reference.table(90, 4, seed=3)
LOSSES = [
    ("huber", 0.3, 0.5),
    ("epsilon_insensitive", 0.2, 0.5),
    ("epsilon_insensitive", 0.0, 0.5),
    ("squared_epsilon_insensitive", 0.2, 0.5),
    ("quantile", 0.0, 0.8),
]


@pytest.fixture
def at_once(monkeypatch):
    """Hand over after the first step."""
    monkeypatch.setattr(NewtonStep, "_falls_slowly", lambda *_: True)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize(("make", "free"), [(np.asarray, True), (sp.csr_array, False)])
def test_the_optimum(loss, penalty, make, free):
    name, epsilon, quantile = loss
    params = {"loss": name, "epsilon": epsilon, "quantile": quantile, "penalty": penalty}
    params |= {"alpha": 1e-3, "fit_intercept": free}
    weight = np.where(np.arange(len(Y)) % 5 == 0, 0.0, WEIGHT)
    model = DistributedGDRegressor(**params, solver="newton", n_shards=3)
    model.fit(make(X), np.column_stack([Y, -2.0 * Y]), weight)
    assert model.converged_
    for output, y in enumerate((Y, -2.0 * Y)):
        got = reference.objective(
            X, y, model.coef_[output], model.intercept_[output], weight, **params
        )
        best = reference.optimum(X, y, weight, **params).value
        assert best * (1 - 1e-9) <= got <= best * (1 + 2e-6)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_columns_far_from_zero_and_nodes_that_count_the_same(dtype):
    offset = np.array([0.0, 300.0, -200.0, 0.0])
    moved = (X + offset).astype(dtype)
    params = {"loss": "epsilon_insensitive", "epsilon": 0.2, "alpha": 1e-3}
    model = DistributedGDRegressor(**params, aggregation="uniform", n_shards=2)
    model.fit(moved, Y)
    weight = np.full(len(Y), 1.0)
    best = reference.optimum(moved.astype(float) - offset, Y, weight, **params)
    got = reference.objective(moved, Y, model.coef_, model.intercept_, weight, **params)
    assert got <= best.value * (1 + 2e-6)


@pytest.mark.parametrize("loss", ["huber", "epsilon_insensitive", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("penalty", ["l2", "l1", None])
def test_weights_over_twelve_decades(loss, penalty):
    table, y = (part[:60] for part in load_diabetes(return_X_y=True))
    weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(y))
    params = {"loss": loss, "penalty": penalty, "alpha": 1e-4, "epsilon": 10.0}
    model = DistributedGDRegressor(**params).fit(table, y, weight)
    assert model.converged_
    assert model.n_iter_ <= 60
    best = reference.optimum(table, y, weight, **params)
    got = reference.objective(table, y, model.coef_, model.intercept_, weight, **params)
    assert got <= best.value * (1 + 2e-6)


@pytest.mark.parametrize("penalty", ["l2", "l1", None])
@pytest.mark.parametrize("seed", range(3))
def test_kinks_take_tens_of_passes(penalty, seed):
    table, y, weight = reference.table(150, 5, seed=seed)
    params = {"penalty": penalty, "alpha": 1e-4, "epsilon": 0.05}
    best = reference.optimum(table, y, weight, loss="epsilon_insensitive", **params)
    model = DistributedGDRegressor("epsilon_insensitive", **params).fit(table, y, weight)
    got = reference.objective(
        table, y, model.coef_, model.intercept_, weight, loss="epsilon_insensitive", **params
    )
    assert got <= best.value * (1 + 2e-6)
    assert model.n_rounds_ <= 100  # 300 to 700 where only the width goes down


class Forgetful(LocalRounds):
    """Loses what two shards keep, every few rounds."""

    calls = 0

    def update(self, function, broadcast=None):
        self.calls += 1
        if self.calls % 17 == 0:
            self._state = {number: s for number, s in self._state.items() if number > 1}
            raise StateLost((0, 1))
        return super().update(function, broadcast)


@pytest.mark.usefixtures("at_once")
def test_rows_that_lose_their_variables_begin_anew(monkeypatch):
    from dask_dml import rounds as engines

    params = {"loss": "epsilon_insensitive", "alpha": 0.01, "epsilon": 0.1}
    best = reference.optimum(X, Y, WEIGHT, **params)
    made = []

    def open_rounds(chunks, **_):
        made.append(Forgetful(make_shards([frozen(X, Y[:, None], WEIGHT, ())], 4, 1)))
        return made[0]

    monkeypatch.setattr(engines, "open_rounds", open_rounds)
    model = DistributedGDRegressor(**params).fit(X, Y, WEIGHT)
    got = reference.objective(X, Y, model.coef_, model.intercept_, WEIGHT, **params)
    assert got <= best.value * (1 + 2e-6)
    assert made[0].calls > 17


@pytest.mark.usefixtures("at_once")
def test_the_engines_agree(client):
    params = {"loss": "epsilon_insensitive", "alpha": 0.01, "epsilon": 0.1}
    here = DistributedGDRegressor(**params, n_shards=2).fit(X, Y, WEIGHT)
    chunks = da.from_array(X, chunks=((20, 0, 30, 40), 4)), da.from_array(Y, chunks=20)
    there = DistributedGDRegressor(**params, n_shards=2).fit(*chunks, WEIGHT)
    np.testing.assert_allclose(there.coef_, here.coef_, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_a_direction_solves_the_linear_system(loss, make):
    """The rows' part of Newton's equations, by the numbers that the rows keep."""
    name, epsilon, quantile = loss
    known = make_loss(name, epsilon, quantile)
    block = frozen(make(X), Y[:, None], WEIGHT, ())
    rounds = LocalRounds(make_shards([block], 2, 1))
    frame = Frame.of(rounds.map_reduce(moments, None), centred=True)
    problem = Problem(0, known, ElasticNet(l2=0.01))
    objective = InteriorObjective(rounds, [problem], frame, fit_intercept=True)
    A = np.column_stack([X - frame.mean, np.ones(len(Y))])
    rng = np.random.default_rng(1)
    z, first, move = 0.3 * rng.standard_normal((3, 5))

    def ask(stage, centre=0.3, **kwargs):
        return objective.evaluate({0: ResidualQuery(z, centre, stage, **kwargs)})[0]

    def variables(*names):
        shards = [rounds._state[number].of[0] for number in range(2)]
        return [np.concatenate([getattr(v, each) for v in shards], axis=-1) for each in names]

    start = ask("start")
    alpha, slack, room, excess = variables("alpha", "slack", "room", "excess")
    signs, s = np.array([[1.0], [-1.0]]), WEIGHT / WEIGHT.sum()
    ease = known.inverse_curvature / s
    bounded = name != "squared_epsilon_insensitive"
    left = signs * (Y - frame.target_mean[0] - A @ z) - known.margin
    left = left - excess - ease * alpha + slack
    np.testing.assert_allclose(alpha * slack, 0.3)
    if name != "huber":
        np.testing.assert_allclose(left, 0.0, atol=1e-9)
    if bounded:
        np.testing.assert_allclose(room * excess, 0.3)
        slopes = np.array([[known.slope + known.tilt], [known.slope - known.tilt]])
        np.testing.assert_allclose(room + alpha, slopes * s)
    np.testing.assert_allclose(start.vectors[0], A.T @ (alpha[0] - alpha[1]), atol=1e-12)
    told = ask("predict", move=first)
    ask("direct", move=move, centre=0.1)
    shards = [rounds._state[number].of[0] for number in range(2)]
    d_alpha, d_slack, d_excess = (
        np.concatenate([v.change[k] for v in shards], axis=1) for k in range(3)
    )
    rest = left - signs * (A @ move) - d_excess - ease * d_alpha + d_slack
    np.testing.assert_allclose(rest, 0.0, atol=1e-8 * np.abs(d_slack).max())
    # The correction is that of the first direction, by the equations without a centre.
    give = excess / room if bounded else 0.0
    W = 1.0 / (slack / alpha + ease + give)
    lower = np.tril(start.evaluation.hessian)
    bends = lower + np.tril(lower, -1).T
    np.testing.assert_allclose(bends, (W.sum(axis=0) * A.T) @ A, atol=1e-9 * W.max())
    aff = W * (left - slack + excess - signs * (A @ first))
    aff_slack = -slack - slack / alpha * aff
    wanted = 0.1 - alpha * slack - aff * aff_slack
    np.testing.assert_allclose(slack * d_alpha + alpha * d_slack, wanted, atol=1e-8)
    ahead = (alpha + 0.5 * aff) * (slack + 0.5 * aff_slack)
    if bounded:
        aff_excess = give * aff - excess
        wanted = 0.1 - room * excess + aff * aff_excess
        np.testing.assert_allclose(room * d_excess - excess * d_alpha, wanted, atol=1e-8)
        ahead = ahead + (room - 0.5 * aff) * (excess + 0.5 * aff_excess)
    products = start.products[0] + 0.5 * told.products[1] + 0.25 * told.products[2]
    np.testing.assert_allclose(products, ahead.sum())


def test_curvature_that_rounding_hides_is_none():
    """Weights over many decades, on rows where a column is constant: never less than nothing."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 6))
    X[:, 4] = np.where(np.arange(400) < 3, rng.standard_normal(400), 7.3)
    X[:, 5] = 11.7
    bends = 10.0 ** rng.uniform(-8, 8, 400)
    bends[:3] = 1e-12
    mean = X.mean(axis=0)
    rows = np.column_stack([X, np.ones(400)])
    found = np.tril(centred_hessian(np.tril((rows.T * bends) @ rows), mean))
    found = found + np.tril(found, -1).T
    exact = np.column_stack([X - mean, np.ones(400)]).astype(np.longdouble)
    exact = ((exact.T * bends) @ exact).astype(float)
    size = np.sqrt(np.diagonal(exact))
    size[5] = size[0]  # constant: what is left of it is rounding of its mean
    np.testing.assert_allclose(
        found / size / size[:, None], exact / size / size[:, None], atol=1e-6
    )
    assert np.all(np.diagonal(found) >= 0.0)
    assert found[5, 5] <= 1e-12 * found[0, 0]
    assert np.linalg.eigvalsh(found / size / size[:, None]).min() > -1e-12


def test_a_matrix_of_rounding_ends_the_path(monkeypatch):
    """Newton's coefficients then are the result, with a warning, and another solver goes on."""

    def fail(*_):
        raise np.linalg.LinAlgError

    monkeypatch.setattr("dask_dml.solvers.residual_interior.solver", fail)
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((60, 4)), rng.standard_normal(60)
    model = DistributedGDRegressor("quantile", quantile=0.7, tol=1e-10, max_iter=200)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y, sample_weight=10.0 ** rng.uniform(-6, 6, 60))
    assert np.isfinite(model.coef_).all()
