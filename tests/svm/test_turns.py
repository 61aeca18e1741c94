"""Solvers that take turns: who hands over, when, and what becomes of what was found."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from certificate import certify, primal
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedLinearSVC
from dask_dml.objective.margins import MarginProblem
from dask_dml.objective.penalties import ElasticNet
from dask_dml.rounds import choose
from dask_dml.solvers import margin_choose
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.margin_turns import MAX_TURNS, PATIENCE, Watched, take_turns

PROBLEM = MarginProblem(1.0, (1.0, 1.0), False, ElasticNet(l2=1.0), 1.0)


class Scripted:
    """A step whose gap shrinks by a factor with every pass."""

    stalled, optimality, query = False, np.inf, None

    def __init__(self, factor):
        self.factor, self.gap, self.n_iter = factor, 1e6, 0

    def tell(self, _):
        self.gap *= self.factor
        self.n_iter += 1
        self.current = SimpleNamespace(objective=1.0 + self.gap, gap=self.gap)


@pytest.mark.parametrize(
    ("factor", "slow"), [(0.1, False), (0.6, False), (0.98, True), (1.0, True), (1.1, True)]
)
def test_who_is_slow(factor, slow):
    step = Watched(Scripted(factor), 1e-4, PATIENCE)
    for n in range(3 * PATIENCE):
        step.tell(None)
        assert step.stalled == (slow and n >= PATIENCE - 1)
        if step.stalled or step.current.gap <= 1e-4:
            break
    else:
        pytest.fail("neither done nor told to hand over")


@dataclass
class Solver:
    """Returns what it is told to, turn by turn, and notes what it is given."""

    gaps: list[list[float]]
    objective: float = 1.0
    seen: list = field(default_factory=list)

    def __call__(self, problems, start, limits, patience):
        self.seen.append((len(problems), start, limits.max_iter, patience))
        gaps = self.gaps[min(len(self.seen), len(self.gaps)) - 1]
        outcomes = [
            Outcome(
                np.full(2, self.objective), 0.0, self.objective * (1.0 + gap), gap, np.inf, 3,
                gap <= 1e-4, [9.0, 1.0 + gap],
            )
            for gap in gaps[: len(problems)]
        ]  # fmt: skip
        return SimpleNamespace(outcomes=outcomes, duals=None)


def test_who_is_left_is_handed_over():
    lines = []
    first, second = Solver([[1e-5, 0.5, 0.1]]), Solver([[1e-5, 1e-3], [0.0]])
    limits = Limits(100, 1e-4, report=lines.append)
    turns = take_turns([PROBLEM] * 3, {"a": first, "b": second}, limits)
    assert [seen[0] for seen in first.seen + second.seen] == [3, 1, 2]
    assert [seen[3] for seen in first.seen] == [PATIENCE, 4 * PATIENCE]
    assert second.seen[0][1].gap.tolist() == [0.5, 0.1]
    assert second.seen[0][2] == 97
    assert turns.taken[:2] == [("a", 3), ("b", 3)]
    assert lines[0] == "a hands over to b: gap 5.00e-01 after 3 iterations"
    # Not all of it is the last one's.
    assert turns.last is None
    assert turns.outcomes[1].n_iter == 6
    assert turns.outcomes[1].curve == [9.0, 1.5, 1.00001]


def test_the_best_point_and_the_best_bound_count():
    """One has found a good point and no bound, the other a good bound and no point."""
    first, second = Solver([[np.inf]]), Solver([[0.5]], objective=1.0)
    first = lambda *_: SimpleNamespace(  # noqa: E731 - shorter than a def
        outcomes=[Outcome(np.ones(2), 0.0, 1.00001, np.inf, np.inf, 5, False, [1.0])], duals=None
    )
    turns = take_turns([PROBLEM], {"a": first, "b": second}, Limits(100, 1e-4))
    (outcome,) = turns.outcomes
    assert outcome.converged
    assert outcome.objective == 1.00001
    assert outcome.relative_gap == pytest.approx(1e-5)
    assert turns.last is None


@pytest.mark.parametrize(
    ("gaps", "limits", "n_turns"),
    [
        ([[0.5]], Limits(1000, 1e-4), 3),
        ([[0.5]], Limits(6, 1e-4), 2),
        ([[0.5]], Limits(1000, 1e-4, deadline=time.monotonic() - 1.0), 1),
        ([[0.5**k] for k in range(100)], Limits(1000, 0.0), MAX_TURNS),
    ],
)
def test_an_end_without_success(gaps, limits, n_turns):
    """No progress in two turns, no iterations left, no time left, too many turns."""
    shared = Solver(gaps)
    turns = take_turns([PROBLEM], {"a": shared, "b": shared}, limits)
    assert len(turns.taken) == n_turns
    assert not turns.outcomes[0].converged


def weighted_wine():
    X, y = load_wine(return_X_y=True)
    weight = 10.0 ** np.random.default_rng(0).uniform(-3, 3, len(y))
    return (X - X.mean(axis=0)) / X.std(axis=0), y, weight


class Verbose(DistributedLinearSVC):
    """Keeps its lines."""

    def _report(self, verbose):
        self.lines = []
        return self.lines.append


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_newton_hands_over(monkeypatch, streamed, n_classes):
    monkeypatch.setattr(margin_choose, "DUAL_ENTRIES", 0.0)
    monkeypatch.setattr(margin_choose, "DUAL_ROWS", 0.0)
    monkeypatch.setattr(margin_choose, "take_turns", impatient)
    X, y, weight = weighted_wine()
    y = np.minimum(y, n_classes - 1)
    data = X, y, weight
    if streamed:
        monkeypatch.setattr(choose, "LOCAL_SHARE", 0.0)
        data = tuple(da.from_array(values, chunks=(50, *values.shape[1:])) for values in data)
    model = Verbose(loss="hinge", tol=1e-6).fit(*data)
    assert model.solver_ == "dual"
    assert model.converged_
    assert any(line.startswith("newton hands over to dual: gap") for line in model.lines)
    assert certify(model, X, y, weight) <= 1e-6
    newton = DistributedLinearSVC(loss="hinge", solver="dual", tol=1e-8).fit(X, y, weight)
    np.testing.assert_allclose(model.objective_, newton.objective_, rtol=2e-6)
    assert len(model.n_support_) == n_classes


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_newton_by_name_hands_over_where_all_rows_may_travel(monkeypatch, loss):
    """As with more than 2000 columns, and few rows."""
    monkeypatch.setattr(margin_choose, "take_turns", impatient)
    rng = np.random.default_rng(0)
    X = sp.csr_array(sp.random_array((80, 2600), density=0.05, format="csr", rng=rng))
    y = rng.integers(0, 2, 80)
    model = Verbose(loss=loss, solver="newton", C=1e3, tol=1e-7, intercept_scaling=None)
    model.fit(X, y)
    assert any(line.startswith("newton hands over to dual: gap") for line in model.lines)
    assert model.solver_ == "dual"
    assert model.converged_
    assert certify(model, X, y) <= 1e-7


@pytest.mark.parametrize(("density", "first"), [(0.02, "dual"), (1.0, "newton")])
def test_the_hinge_begins_by_entries_not_by_cells(density, first):
    task = SimpleNamespace(
        solver="auto", l1=False, squared=False, scaling=1.0, rows=np.array([5000, 5000]),
        n_features=500, entries=density * 10_000 * 500,
    )  # fmt: skip
    assert margin_choose.choose_solver(task) == first


def impatient(batch, solvers, limits):
    """Give the first solver three iterations."""
    first, second = solvers

    def short(problems, start, limits, patience):
        limits = replace(limits, max_iter=3) if start is None else limits
        return solvers[first](problems, start, limits, patience)

    return take_turns(batch, {first: short, second: solvers[second]}, limits)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_dual_hands_over(monkeypatch, n_classes):
    """Two rows at a time are too few; Newton goes on from the coefficients."""
    monkeypatch.setattr(margin_choose, "rows_to_merge", lambda *_: 2)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1500, 5)) * np.logspace(0, 2, 5)
    y = np.digitize(X[:, 0] + rng.standard_normal(1500), np.linspace(-1, 1, n_classes - 1))
    model = Verbose(loss="hinge", C=1.0).fit(X, y)
    assert model.solver_ == "newton"
    assert model.converged_
    assert any(line.startswith("dual hands over to newton: gap") for line in model.lines)
    assert model.objective_ == pytest.approx(primal(model, X, y).sum())
    # The dual variables may be found again by the dual solver, which needs its rows.
    monkeypatch.undo()
    assert certify(model, X, y) <= 1e-4


def test_a_named_solver_stays(monkeypatch):
    monkeypatch.setattr(margin_choose, "rows_to_merge", lambda *_: 2)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1500, 5)) * np.logspace(0, 2, 5)
    y = X[:, 0] + rng.standard_normal(1500) > 0.0
    model = Verbose(loss="hinge", solver="dual", max_iter=40)
    with pytest.warns(ConvergenceWarning, match="use solver='newton'"):
        model.fit(X, y)
    assert model.solver_ == "dual"
    assert not any("hands over" in line for line in model.lines)


@pytest.mark.parametrize("solver", ["auto", "dual"])
@pytest.mark.parametrize(("C", "merged"), [(1.0, False), (1e-6, True)])
def test_many_support_vectors_at_the_margin(solver, C, merged):
    """Merged with as many others they cost more than an interior point of all rows does."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1200, 300))
    y = X[:, 0] + 3.0 * rng.standard_normal(1200) > 0.0
    model = Verbose(loss="hinge", C=C, solver=solver, n_shards=3).fit(X, y)
    assert model.solver_ == ("newton" if solver == "auto" and not merged else "dual")
    assert model.n_rounds_ <= (7 if merged else 70)
    assert any("hands over" in line for line in model.lines) != merged
    assert certify(model, X, y) <= 1e-4


def test_weights_over_many_decades():
    """Newton's steps lead nowhere, and hand over to the interior point before they stall."""
    rng = np.random.default_rng(0)
    X = np.hstack([rng.standard_normal((3000, 6)), np.eye(20)[rng.integers(0, 20, 3000)] * 30.0])
    y = X[:, 0] + rng.standard_normal(3000) > 0.0
    weight = 10.0 ** rng.uniform(-6, 6, 3000)
    model = DistributedLinearSVC(loss="hinge", C=1e4, intercept_scaling=100.0, solver="newton")
    model.fit(X, y, weight)
    assert model.converged_
    assert certify(model, X, y, weight) <= 1e-4
