"""The dual solver: every node its own rows, merged by an exact line search."""

from __future__ import annotations

import numpy as np
import pytest
from certificate import certify, primal
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedLinearSVC
from dask_dml.blocks import frozen
from dask_dml.penalties import ElasticNet
from dask_dml.rounds import StateLost
from dask_dml.rounds.local import LocalRounds, make_shards
from dask_dml.solvers.base import Limits, minimise
from dask_dml.solvers.svm_dual import DualObjective, DualStep, plan_dual
from dask_dml.svm_problems import MarginProblem


def table(n=4000, p=10, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    y = (X @ rng.standard_normal(p) + rng.standard_normal(n) > 0.3).astype(float)
    return X, y


def solve(X, y, n_shards, *, squared=False, C=1e-3, tol=1e-6, rounds=LocalRounds):
    shards = make_shards([frozen(X, y[:, None], None, ())], n_shards, 1)
    problem = MarginProblem(1.0, (C, C), squared, ElasticNet(l2=1.0), 1.0)
    with rounds(shards) as data:
        shape, descends = plan_dual([problem], (X**2).sum(axis=0), data.shard_rows)
        steps = [DualStep(problem, shape, descends)]
        (outcome,) = minimise(DualObjective(data, [problem], shape), steps, Limits(1000, tol))
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


def test_rounds_do_not_grow_with_nodes():
    X, y = table()
    few, many = (solve(X, y, n, squared=True)[1] for n in (2, 32))
    assert many <= 1.5 * few
    # The hinge's kinks hold the solution of a node with few rows in place.
    X, y = table(20_000)
    few, many = (solve(X, y, n)[1] for n in (2, 32))
    assert few <= 30
    assert many <= 60


@pytest.mark.parametrize("squared", [False, True])
def test_many_rows_and_little_penalty(squared):
    """Nodes that trust their own rows only would need as many rounds as there are rows."""
    X, y = table(8000)
    X *= np.geomspace(1.0, 10.0, 10)
    outcome, n_rounds = solve(X, y, 4, squared=squared, C=1.0)
    assert outcome.converged
    assert n_rounds <= (60 if squared else 300)


def test_the_gap_is_a_bound_on_the_way():
    X, y = table(500)
    best = DistributedLinearSVC(loss="hinge", C=1.0, tol=1e-8).fit(X, y).objective_
    for n in (1, 3, 10):
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
    X, y = table(1000)
    outcome, _ = solve(X, y, 3, squared=squared, rounds=Forgetful)
    whole, _ = solve(X, y, 3, squared=squared)
    assert outcome.converged
    np.testing.assert_allclose(outcome.objective, whole.objective, rtol=1e-6)
