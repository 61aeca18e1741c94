"""The interior-point method that `newton` goes on with where its steps get short."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from certificate import certify
from sklearn.datasets import load_breast_cancer, load_wine

from dask_dml import DistributedLinearSVC
from dask_dml.blocks import frozen
from dask_dml.objective.interior import InteriorQuery
from dask_dml.objective.margin_evaluation import MarginObjective
from dask_dml.objective.margins import MarginProblem
from dask_dml.objective.penalties import ElasticNet
from dask_dml.rounds import StateLost
from dask_dml.rounds.local import LocalRounds, make_shards
from dask_dml.solvers.margin_newton import SvmNewtonStep

KINDS = [
    {},
    {"loss": "hinge"},
    {"penalty": "l1"},
    {"intercept_scaling": None},
    {"loss": "hinge", "intercept_scaling": None},
    {"penalty": "l1", "intercept_scaling": None},
    {"loss": "hinge", "fit_intercept": False},
    {"penalty": "l1", "fit_intercept": False},
    {"intercept_scaling": 100.0},
]


@pytest.fixture
def at_once(monkeypatch):
    """Hand over after the first step."""
    monkeypatch.setattr(SvmNewtonStep, "_is_stuck", lambda *_: True)


def table(n=150, p=5, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * 10.0 ** rng.uniform(-1, 1, p)
    weight = rng.random(n) * (rng.random(n) > 0.1)
    y = np.argmax(X @ rng.standard_normal((p, n_classes)) + rng.standard_normal((n, n_classes)), 1)
    return X, y, weight


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n_classes", "make"), [(2, np.asarray), (3, sp.csr_array), (2, np.float32)]
)
def test_the_optimum_and_its_dual_variables(kind, n_classes, make):
    X, y, weight = table(n_classes=n_classes)
    data = make(X)
    X = np.asarray(data.toarray() if sp.issparse(data) else data, np.float64)
    model = DistributedLinearSVC(solver="newton", C=0.7, tol=1e-7, n_shards=3, **kind)
    model.fit(data, y, weight)
    assert model._duals is None
    duals = model.dual_coef(data, y, weight)
    assert certify(model, X, y, weight, duals) <= 1e-7
    if n_classes == 2:
        counts = [np.count_nonzero(duals[y == c]) for c in (0, 1)]
        np.testing.assert_array_equal(model.n_support_, counts)
    assert np.all(duals[weight == 0.0] == 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("load", "C"), [(load_wine, 1e-4), (load_wine, 1e4), (load_breast_cancer, 1.0)]
)
def test_weights_over_twelve_decades(load, C, kind):
    X, y = load(return_X_y=True)
    weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(y))
    model = DistributedLinearSVC(solver="newton", C=C, **kind).fit(X, y == 1, weight)
    assert model.n_iter_ <= 70
    assert certify(model, X, y == 1, weight) <= 1e-4


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X = rng.random((60, 400))
    y = rng.integers(0, 2, 60)
    model = DistributedLinearSVC(penalty="l1", C=100.0).fit(X, y)
    assert certify(model, X, y) <= 1e-4


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("kind", [{}, {"loss": "hinge", "intercept_scaling": None}])
def test_on_a_cluster(client, kind):
    X, y, weight = table(400)
    settings = {"C": 0.3, "tol": 1e-6, "solver": "newton", **kind}
    parts = (90, 0, 110, 200)
    dX = da.from_array(X, chunks=(parts, -1))
    dy, dw = (da.from_array(a, chunks=(parts,)) for a in (y, weight))
    model = DistributedLinearSVC(**settings).fit(dX, dy, dw)
    plain = DistributedLinearSVC(**settings).fit(X, y, weight)
    np.testing.assert_allclose(model.objective_, plain.objective_, rtol=2e-6)
    duals = model.dual_coef(dX, dy, dw).compute()
    assert certify(model, X, y, weight, duals) <= 1e-6


class Forgetful(LocalRounds):
    """Loses the variables of a shard in the fifth round of interior steps."""

    n_updates = 0

    def update(self, function, broadcast=None):
        self.n_updates += 1
        if self.n_updates == 5:
            self._state.pop(1)
            raise StateLost([1])
        return super().update(function, broadcast)


def objective_of(problem, kind=LocalRounds):
    X, y, weight = table()
    blocks = [
        frozen(X[at : at + 50], y[at : at + 50, None].astype(float), weight[at : at + 50], ())
        for at in range(0, 150, 50)
    ]
    return MarginObjective(kind(make_shards(blocks, 3, 1)), [problem])


@pytest.mark.parametrize("squared", [False, True])
def test_rows_that_lose_their_variables_begin_anew(squared, at_once):
    problem = MarginProblem(1.0, (0.5, 2.0), squared, ElasticNet(l2=1.0), 1.0)
    step = SvmNewtonStep(problem, np.zeros(5), 0.0, 2.0, 1e-6, 150)
    objective = objective_of(problem, Forgetful)
    while not step.n_iter or step.current.relative_gap > 1e-6:
        step.tell(objective.evaluate({0: step.query})[0])
        assert step.n_iter < 60
    assert objective.rounds.n_updates > 5


@pytest.mark.parametrize("squared", [False, True])
def test_a_direction_solves_the_linear_system(squared):
    """The rows' part of Newton's equations, by the numbers that the rows keep."""
    problem = MarginProblem(1.0, (0.5, 2.0), squared, ElasticNet(l2=1.0), 1.0)
    objective = objective_of(problem)
    X, y, weight = table()
    sign = np.where(y == 1, 1.0, -1.0)
    cost = np.where(sign > 0, 2.0, 0.5) * weight
    live = cost > 0.0
    A = sign[live, None] * np.column_stack([X, np.ones(150)])[live]
    rng = np.random.default_rng(1)
    z, first, move = 0.1 * rng.standard_normal((3, 6))

    def variables():
        shards = [objective.rounds._state[n].of[0] for n in range(3)]
        return [
            np.concatenate([getattr(v, name) for v in shards])
            for name in ("alpha", "slack", "room", "excess")
        ], shards

    def ask(stage, **kwargs):
        query = InteriorQuery(z[:-1], z[-1], kwargs.pop("centre", 0.3), stage, **kwargs)
        return objective.evaluate({0: query})[0]

    start = ask("start")
    (alpha, slack, room, excess), _ = variables()
    np.testing.assert_allclose(alpha * slack, 0.3)
    np.testing.assert_allclose(A @ z + excess - slack, 1.0)
    np.testing.assert_allclose(start.vectors[0], A.T @ alpha)
    if squared:
        np.testing.assert_allclose(excess, alpha / (2.0 * cost[live]))
    else:
        np.testing.assert_allclose(room * excess, 0.3)
        np.testing.assert_allclose(room + alpha, cost[live])
    told = ask("predict", move=first)
    ask("direct", move=move, centre=0.1)
    _, shards = variables()
    d_alpha, d_slack, d_excess = (np.concatenate([v.change[k] for v in shards]) for k in range(3))
    if squared:
        d_excess = d_alpha / (2.0 * cost[live])
    np.testing.assert_allclose(A @ move + d_excess - d_slack, 0.0, atol=1e-9)
    # The correction is that of the first direction, by the equations without a centre.
    ease = excess / room if not squared else 0.5 / cost[live]
    W = 1.0 / (slack / alpha + ease)
    aff = W * ((excess if not squared else 0.0) - slack - A @ first)
    aff_slack = -slack - slack / alpha * aff
    np.testing.assert_allclose(
        slack * d_alpha + alpha * d_slack, 0.1 - alpha * slack - aff * aff_slack, atol=1e-9
    )
    ahead = (alpha + 0.5 * aff) * (slack + 0.5 * aff_slack)
    if not squared:
        aff_excess = ease * aff - excess
        np.testing.assert_allclose(
            room * d_excess - excess * d_alpha, 0.1 - room * excess + aff * aff_excess, atol=1e-9
        )
        ahead = ahead + (room - 0.5 * aff) * (excess + 0.5 * aff_excess)
    products = start.products[0] + 0.5 * told.products[1] + 0.25 * told.products[2]
    np.testing.assert_allclose(products, ahead.sum())


@pytest.mark.parametrize(("loss", "seed"), [("hinge", 2), ("squared_hinge", 5)])
def test_a_start_far_from_the_central_path(loss, seed):
    """A class of two rows, weights over 12 decades: steps from there are short, and it is left."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((20_000, 10))
    y = np.arange(20_000) < 2
    X[:2] += 1.0
    weight = 10.0 ** rng.uniform(-6, 6, 20_000)
    model = DistributedLinearSVC(loss=loss, C=1e4, intercept_scaling=100.0, solver="newton")
    model.fit(X, y, weight)
    assert model.converged_
    assert certify(model, X, y, weight) <= 1e-4
