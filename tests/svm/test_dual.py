"""The dual solver: every node its own rows, and what is merged of them."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from certificate import certify, primal
from scipy.optimize import minimize as quasi_newton
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedLinearSVC
from dask_dml.blocks import frozen
from dask_dml.objective.margins import MarginProblem
from dask_dml.objective.penalties import ElasticNet
from dask_dml.rounds import StateLost
from dask_dml.rounds.local import LocalRounds, make_shards
from dask_dml.solvers.base import Limits, minimise
from dask_dml.solvers.dual import box_qp
from dask_dml.solvers.dual.active_set import MergeObjective, MergeStep, rows_to_merge
from dask_dml.solvers.dual.box import Box
from dask_dml.solvers.dual.box_qp import maximise
from dask_dml.solvers.dual.descent import DualObjective, DualStep, plan_dual


def table(n=4000, p=10, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    y = (X @ rng.standard_normal(p) + rng.standard_normal(n) > 0.3).astype(float)
    return X, y


def solve(X, y, n_shards, *, squared=False, C=1e-3, tol=1e-6, rounds=LocalRounds):
    shards = make_shards([frozen(X, y[:, None], None, ())], n_shards, 1)
    problem = MarginProblem(1.0, (C, C), squared, ElasticNet(l2=1.0), 1.0)
    with rounds(shards) as data:
        if squared:
            shape = plan_dual([problem], (X**2).sum(axis=0), len(X), len(X))
            step, objective = DualStep(problem, shape), DualObjective(data, [problem], shape)
        else:
            limit = rows_to_merge(data.shard_rows, X.shape[1], X.size, 1)
            step = MergeStep(problem, X.shape[1], limit)
            objective = MergeObjective(data, [problem])
        (outcome,) = minimise(objective, [step], Limits(1000, tol))
        return outcome, data.n_rounds


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
def test_agrees_with_newton(loss, C):
    X, y = table(300)
    weight = np.random.default_rng(1).random(300)
    kind = {"loss": loss, "C": C, "class_weight": "balanced", "tol": 1e-6}
    dual = DistributedLinearSVC(solver="dual", **kind).fit(X, y, weight)
    newton = DistributedLinearSVC(solver="newton", **kind).fit(X, y, weight)
    np.testing.assert_allclose(dual.objective_, newton.objective_, rtol=1e-6)
    assert dual.solver_ == "dual"
    assert certify(dual, X, y, weight) <= 1e-6
    assert dual.n_support_.sum() >= 10


@pytest.mark.parametrize(
    ("n", "p", "C", "squared"),
    [
        (4000, 10, 1e-3, True),
        (4000, 10, 1e-3, False),
        (20_000, 10, 1e-3, False),
        (10_000, 30, 1e-4, False),
        (10_000, 30, 1e-2, False),
        (10_000, 30, 1.0, False),
    ],
)
def test_rounds_do_not_grow_with_nodes(n, p, C, squared):
    X, y = table(n, p)
    few, many = (solve(X, y, nodes, squared=squared, C=C) for nodes in (2, 32))
    assert few[0].converged
    assert many[0].converged
    assert many[1] <= 1.5 * few[1]
    assert few[1] <= (40 if squared else 10)


def badly_scaled(n=8000):
    X, y = table(n)
    return X * np.geomspace(1.0, 10.0, 10), y


@pytest.mark.parametrize("squared", [False, True])
def test_many_rows_and_little_penalty(squared):
    """Nodes that trust their own rows only would need as many rounds as there are rows."""
    few, many = (solve(*badly_scaled(), nodes, squared=squared, C=1.0) for nodes in (4, 32))
    assert few[0].converged
    assert many[0].converged
    assert few[1] <= (60 if squared else 15)
    assert many[1] <= 1.5 * few[1]


@pytest.mark.parametrize(("load", "C"), [(load_wine, 100.0), (load_breast_cancer, 1.0)])
def test_squared_hinge_with_weights_over_twelve_decades(load, C):
    """Agreement alone gets nowhere; the dual variables are found by an interior point then."""
    X, y = load(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(y))
    model = DistributedLinearSVC(solver="dual", C=C).fit(X, y == 1, weight)
    assert model.converged_
    assert model.solver_ == "dual"
    assert model.n_rounds_ <= 200
    assert certify(model, X, y == 1, weight) <= 1e-4


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize(
    ("scaling", "most_columns"), [(1.0, 2000), (None, 2000), (100.0, 0), (None, 0)]
)
def test_few_rows_of_many_columns_travel(monkeypatch, loss, scaling, most_columns):
    """By an interior point, and by ascent, however long the intercept's column is."""
    monkeypatch.setattr(box_qp, "MAX_COLUMNS", most_columns)
    rng = np.random.default_rng(0)
    X = sp.random_array((300, 3000), density=0.01, rng=rng, format="csr")
    y = X @ rng.standard_normal(3000) > 0.0
    weight = 10.0 ** rng.uniform(-6, 6, 300)
    model = DistributedLinearSVC(loss=loss, intercept_scaling=scaling).fit(X, y, weight)
    assert model.solver_ == "dual"
    assert model.n_rounds_ <= 10
    assert certify(model, X, y, weight) <= 1e-4


@pytest.mark.parametrize("most_columns", [2000, 0])
@pytest.mark.parametrize("n_columns", [10, 60])
def test_the_squared_hinge_over_all_rows(monkeypatch, n_columns, most_columns):
    """By an interior point, and by ascent: what bounded quasi-Newton steps find."""
    monkeypatch.setattr(box_qp, "MAX_COLUMNS", most_columns)
    rng = np.random.default_rng(0)
    X, sign = rng.standard_normal((40, n_columns)), rng.choice([-1.0, 1.0], 40)
    cost, nothing = 10.0 ** rng.uniform(-2, 2, 40), np.zeros(n_columns + 1)
    box = Box(X, sign, 1.0, cost, np.zeros(40), nothing, nothing, 0.0, squared=True, whole=True)
    Z = sign[:, None] * np.column_stack([X, np.ones(40)])

    def price(a):
        u = Z.T @ a
        return 0.5 * u @ u + 0.25 * a @ (a / cost) - a.sum(), Z @ u + 0.5 * a / cost - 1.0

    best = quasi_newton(price, np.ones(40), jac=True, bounds=[(0.0, None)] * 40, tol=1e-14)
    # A call of the ascent leaves a share of what it has gained.
    found = maximise(box, 1e-12)
    for _ in range(6):
        found = maximise(replace(box, start=found.a), 1e-12)
    assert price(found.a)[0] == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(found.point, Z.T @ found.a, rtol=1e-4, atol=1e-5)


def test_digits():
    """Columns of counts, some of them always zero; classes that are all but separable."""
    X, y = load_digits(return_X_y=True)
    y = np.where(y == 8, 1.0, 0.0)
    best = DistributedLinearSVC(loss="hinge", solver="newton", tol=1e-8).fit(X, y)
    model = DistributedLinearSVC(loss="hinge", solver="dual", tol=1e-6, n_shards=32).fit(X, y)
    assert model.converged_
    assert model.n_rounds_ <= 20
    assert model.objective_ <= best.objective_ * (1 + 1e-6)
    assert certify(model, X, y) <= 1e-6


@pytest.mark.parametrize("scaling", [None, 0.1, 30.0])
def test_intercepts(scaling):
    X, y = table(500, 5)
    kind = {"loss": "hinge", "tol": 1e-7, "C": 0.1, "fit_intercept": scaling is not None}
    kind["intercept_scaling"] = scaling or 1.0
    dual = DistributedLinearSVC(solver="dual", n_shards=3, **kind).fit(X + 1.0, y)
    newton = DistributedLinearSVC(solver="newton", **kind).fit(X + 1.0, y)
    np.testing.assert_allclose(dual.objective_, newton.objective_, rtol=1e-7)


def test_more_rows_at_the_margin_than_may_travel():
    """With as many columns as rows most support vectors lie there; some go every time."""
    rng = np.random.default_rng(0)
    X = sp.random_array((200, 300), density=0.05, rng=rng, format="csr")
    y = (X @ rng.standard_normal(300) > 0.0).astype(float)
    best = DistributedLinearSVC(loss="hinge", C=10.0, tol=1e-7).fit(X, y).objective_
    shards = make_shards([frozen(X, y[:, None], None, ())], 4, 1)
    problem = MarginProblem(1.0, (10.0, 10.0), False, ElasticNet(l2=1.0), 1.0)
    with LocalRounds(shards) as data:
        step = MergeStep(problem, 300, 75)
        (outcome,) = minimise(MergeObjective(data, [problem]), [step], Limits(300, 1e-5))
    assert outcome.converged
    assert best * (1 - 1e-7) <= outcome.objective <= best * (1 + 1e-5)


def test_the_gap_is_a_bound_on_the_way():
    X, y = badly_scaled()
    best = DistributedLinearSVC(loss="hinge", C=1.0, tol=1e-8).fit(X, y).objective_
    for n in (1, 2, 3):
        model = DistributedLinearSVC(loss="hinge", solver="dual", tol=0.0, max_iter=n)
        with pytest.warns(ConvergenceWarning, match="use solver='newton'"):
            model.fit(X, y)
        assert model.objective_ == pytest.approx(primal(model, X, y).sum())
        assert (model.objective_ - best) / best <= model.duality_gap_ + 1e-8


def test_several_classes():
    X, _ = table(300, 4)
    y = np.argmax(X[:, :3], axis=1)
    kind = {"C": 0.05, "tol": 1e-5}
    dual = DistributedLinearSVC(solver="dual", **kind).fit(X, y)
    newton = DistributedLinearSVC(solver="newton", **kind).fit(X, y)
    np.testing.assert_allclose(dual.objective_, newton.objective_, rtol=1e-5)


class Forgetful(LocalRounds):
    """Loses the state of a shard in the middle of the fit, and once more right after."""

    calls = 0

    def update(self, function, broadcast=None):
        self.calls += 1
        if self.calls in (4, 5, 9):
            self._state.pop(1, None)
            raise StateLost([1])
        return super().update(function, broadcast)


@pytest.mark.parametrize("squared", [False, True])
def test_lost_state(squared):
    X, y = badly_scaled(4000)
    outcome, n_rounds = solve(X, y, 3, squared=squared, C=1.0, rounds=Forgetful)
    whole, _ = solve(X, y, 3, squared=squared, C=1.0)
    # Up to the third loss, at least.
    assert n_rounds >= 7
    assert outcome.converged
    np.testing.assert_allclose(outcome.objective, whole.objective, rtol=1e-6)


@pytest.mark.parametrize("container", ["numpy", "csr", "dask", "cluster"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_dual_variables_are_found_again(request, container, n_classes):
    """Those of the hinge, in the order of the rows, with the certificate of the fit."""
    X, _ = table(300, 6)
    y = np.argsort(np.argsort(X[:, 0] + 0.7 * X[:, 1])) * n_classes // 300
    data = X, y
    if container == "csr":
        data = sp.csr_array(X), y
    elif container in ("dask", "cluster"):
        if container == "cluster":
            request.getfixturevalue("client")
        chunks = (40, 0, 160, 100)
        data = da.from_array(X, chunks=(chunks, 6)), da.from_array(y, chunks=(chunks,))
    # Nodes that are the chunks: otherwise they are made of what lies together on a worker.
    n_shards = "blocks" if container in ("dask", "cluster") else 2
    kind = {"loss": "hinge", "solver": "dual", "C": 0.3, "tol": 1e-7, "n_shards": n_shards}
    model = DistributedLinearSVC(**kind).fit(*data)
    duals = model.dual_coef(*data)
    if container in ("dask", "cluster"):
        assert duals.chunks[0] == chunks
        assert np.array_equal(model.support(*data).compute(), np.flatnonzero(_any(duals)))
    duals = np.asarray(duals).reshape(300, -1)
    signs = np.where(y[:, None] == np.arange(n_classes)[-duals.shape[1] :], 1.0, -1.0)
    alpha = signs * duals
    assert alpha.min() >= 0.0
    assert alpha.max() <= 0.3
    for c in range(duals.shape[1]):
        u = np.append(duals[:, c] @ X, duals[:, c].sum())
        w = np.append(model.coef_[c], model.intercept_[c])
        np.testing.assert_allclose(u, w, atol=1e-2 * np.abs(w).max())
    bound = alpha.sum() - 0.5 * ((duals.T @ X) ** 2).sum() - 0.5 * (duals.sum(axis=0) ** 2).sum()
    assert (model.objective_ - bound) / bound <= 1e-7 * duals.shape[1]
    counts = np.bincount(y[_any(duals)], minlength=n_classes)
    assert np.array_equal(counts, model.n_support_)


def _any(duals):
    return np.asarray(duals).reshape(len(duals), -1).any(axis=1)


def test_dual_variables_of_other_data_are_refused():
    X, y = table(200, 4)
    model = DistributedLinearSVC(loss="hinge", solver="dual", C=0.1).fit(X, y)
    for labels in (np.where(y > 0, 1.0, 7.0), np.ones(200)):
        with pytest.raises(ValueError, match="hand over the data of the fit"):
            model.dual_coef(X, labels)


@pytest.mark.parametrize(
    ("n_nodes", "n_features", "expected"),
    [(2, 100, 5000), (8, 100, 8000), (32, 100, 32_000), (64, 100, 32_000), (64, 10, 32_768)],
)
def test_the_more_nodes_the_more_rows_travel(n_nodes, n_features, expected):
    n = 640_000
    limit = rows_to_merge((n // n_nodes,) * n_nodes, n_features, n * n_features, 1)
    assert limit == expected
    # Ten classes share the traffic, and little data never travels whole.
    assert rows_to_merge((n // n_nodes,) * n_nodes, n_features, n * n_features, 10) < expected
    assert rows_to_merge((50,) * n_nodes, n_features, 50 * n_nodes * n_features, 1) <= max(
        0.25 * 50 * n_nodes, 3 * n_features + 50
    )
