"""When fits stop, and what they claim then: gaps, warnings, deadlines, scale of the weights."""

import time
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Problem
from dask_dml.solvers.sgd import averaging, choose, local_steps, row_order, svrg, task
from dask_dml.solvers.sgd.step_length import CorrectedStep
from dask_dml.solvers.sgd.stopping import GapWatch
from dask_dml.solvers.sgd.stream_pass import loss_and_slope

LOSSES = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")


def one_hot(n=6000):
    """Categories, some of them rare, and heavy tails."""
    rng = np.random.default_rng(0)
    share = np.geomspace(1.0, 1e-3, 30)
    X = np.eye(30)[rng.choice(30, n, p=share / share.sum())]
    X = np.column_stack([X, rng.standard_normal((n, 3))])
    return X, X @ (2.0 * rng.standard_normal(33)) + rng.standard_t(3, n)


def heavy(n=6000):
    rng = np.random.default_rng(1)
    X = np.exp(1.5 * rng.standard_normal((n, 6)))
    return X, np.log(X) @ rng.standard_normal(6) + rng.standard_normal(n)


def small(n=40):
    """Offsets beside the spread, and the kink at zero."""
    rng = np.random.default_rng(2)
    X = rng.uniform(size=(n, 5))
    return X, 3.0 * X[:, 0] + rng.standard_normal(n)


def objective(X, y, model, loss, alpha=1e-4):
    left = y - X @ model.coef_ - model.intercept_
    losses = loss_and_slope(left, make_loss(loss, model.epsilon).parameters())[0]
    return losses.mean() + 0.5 * alpha * model.coef_ @ model.coef_


@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("make", [one_hot, heavy, small])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_fit_converges_or_warns(loss, make, order):
    X, y = make()
    if order == "sorted":
        by = np.argsort(y)
        X, y = X[by], y[by]
    model = DistributedSGDRegressor(loss=loss, random_state=0, n_jobs=1, n_shards=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
        exact = DistributedGDRegressor(loss=loss, tol=1e-9, n_jobs=1).fit(X, y)
    told = [w for w in caught if "DistributedSGDRegressor stopped" in str(w.message)]
    error = objective(X, y, model, loss) / objective(X, y, exact, loss) - 1.0
    assert bool(told) == (not model.converged_)
    assert error <= model.duality_gap_ + 1e-9
    if model.converged_:
        assert error <= 1e-3
        assert model.duality_gap_ <= (1e-2 if loss == "epsilon_insensitive" else 1e-3)


def test_a_fit_without_a_penalty_stops_where_it_stands_still():
    X, y = heavy(3000)
    model = DistributedSGDRegressor(penalty=None, random_state=0, n_jobs=1).fit(X, y)
    exact = DistributedGDRegressor(penalty=None).fit(X, y)
    assert model.converged_
    assert np.isinf(model.duality_gap_)
    assert objective(X, y, model, "squared_error", 0.0) <= 1.001 * objective(
        X, y, exact, "squared_error", 0.0
    )


def asked(tol=1e-3, loss="squared_error", l2=1e-4, max_iter=100):
    return task.SGDTask(
        loss=make_loss(loss, 0.1), penalty=ElasticNet(l2=l2), alpha=1e-4, n_features=2, n_outputs=1,
        fit_intercept=True, corrected=True, uniform=False, learning_rate="auto", eta0=0.01,
        power_t=0.25, local_steps=None, batch_size=1, shuffle=True, max_iter=max_iter, tol=tol,
        n_iter_no_change=5, average=0, split=None, key=0,
    )  # fmt: skip


def test_the_watch_stops_by_the_gap_and_gives_up_where_it_will_not_close():
    watch = GapWatch(asked(), 0.0)
    assert not watch.met(1.0, 2e-3, 3)
    assert watch.met(1.0, 1e-3, 5)
    # Ten passes per tenfold decrease are in time, none at all are not.
    closing, open_ = GapWatch(asked(), 0.0), GapWatch(asked(), 0.0)
    for n in range(21):
        assert not closing.met(1.0, 10.0 ** (1 - n / 10), n)
        assert not open_.met(1.0, 0.5, n)
    assert not closing.hopeless
    assert open_.hopeless
    falling = GapWatch(asked(), 0.0)
    for n in range(60):
        falling.met(0.9**n, 1.0, n)
    assert not falling.hopeless
    still = GapWatch(asked(l2=0.0), 0.0)
    assert [still.met(1.0, np.inf, n) for n in (0, 10, 19, 20)] == [False, False, False, True]
    assert not GapWatch(asked(tol=None), 0.0).met(1.0, 0.0, 1)


def test_with_few_columns_a_slow_gap_is_enough_to_hand_over():
    slow, steady = GapWatch(asked(), 0.0), GapWatch(asked(), 0.0)
    wide = GapWatch(replace(asked(), n_features=5000), 0.0)
    # Few rows of many columns are as good, unless the loss is squared error.
    spanned = GapWatch(replace(asked(loss="huber"), n_features=5000), 0.0, n_rows=100)
    # A tenfold decrease in thirty passes takes ninety, in ten thirty.
    for n in range(9):
        for watch, pace in ((slow, 30), (steady, 10), (wide, 30), (spanned, 30)):
            watch.met(0.9**n, 10.0 ** (-n / pace), n)
    assert slow.slow
    assert spanned.slow
    assert not steady.slow
    assert not wide.slow
    hurried = GapWatch(replace(asked(), deadline=time.monotonic()), 0.0)
    for n in range(9):
        hurried.met(0.9**n, 10.0 ** (-n / 10), n)
    assert hurried.slow


@pytest.mark.parametrize(("seconds", "first"), [(np.inf, 41), (-1.0, 8)])
def test_many_columns_without_a_penalty_hand_over_after_a_share_of_the_passes(seconds, first):
    """No gap says how slow the steps are: they have a fifth of the passes, or of the time."""
    task = replace(
        asked(l2=0.0, max_iter=200), n_features=5000, deadline=time.monotonic() + seconds
    )
    watch, slow = GapWatch(task, 0.0), []
    for n in range(60):
        assert not watch.met(0.9**n, np.inf, n)
        slow.append(watch.slow)
    assert slow.index(True) == first


def test_a_bound_above_the_objective_is_an_internal_error():
    problem = Problem(0, make_loss("squared_error", 0.1), ElasticNet(l2=1e-4))
    step = CorrectedStep(problem, np.zeros(3), 0.0, np.ones(3), 1e-8, np.zeros(2))
    nothing = np.zeros(3)
    assert step.bounded(nothing, 1.0, nothing, 1.0, 0.25).relative_gap == pytest.approx(1 / 3)
    # Bounds of earlier points serve later ones.
    assert step.bounded(nothing, 0.8, nothing, 0.8, 0.7).relative_gap == pytest.approx(1 / 15)
    with pytest.raises(RuntimeError, match=r"Internal error.*lower bound"):
        step.bounded(nothing, 0.7, nothing, 0.7, 0.1)


@pytest.mark.parametrize(
    ("parameters", "n_rounds"),
    [
        ({}, 1),
        ({"loss": "huber"}, 1),
        ({"variance_reduction": None}, 1),
        ({"local_steps": 1, "learning_rate": "constant"}, 1),
        ({"local_steps": 1}, 1),
    ],
)
def test_no_pass_begins_after_the_deadline(parameters, n_rounds):
    X, y = small(400)
    model = DistributedSGDRegressor(max_time=1e-9, random_state=0, n_jobs=1, **parameters)
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model.fit(X, y)
    assert model.n_rounds_ <= n_rounds
    assert np.all(np.isfinite(model.coef_))


@pytest.mark.parametrize("module", [svrg, averaging])
def test_a_deadline_between_passes_keeps_what_is_known(module, monkeypatch):
    X, y = heavy(2000)
    calls = []

    def late(_):
        calls.append(None)
        return len(calls) > 4

    for each in (module, choose):
        monkeypatch.setattr(each, "late", late)
    reduction = "svrg" if module is svrg else None
    model = DistributedSGDRegressor(
        loss="huber", variance_reduction=reduction, random_state=0, n_jobs=1, n_shards=2
    )
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert model.n_iter_ <= 7
    assert model.loss_curve_[-1] <= model.loss_curve_[0]


@pytest.mark.parametrize("reduction", ["svrg", None])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_pass_ends_in_its_middle_when_time_is_over(reduction, sparse, monkeypatch, tmp_path):
    X, y = heavy(1000)
    X = sp.csr_array(X) if sparse else X
    monkeypatch.setattr(row_order, "STRETCH_BYTES", 2**10)
    monkeypatch.setattr(row_order, "MIXED_BYTES", 0)
    walk = local_steps.SparseWalk if sparse else local_steps.DenseWalk
    real, visited = walk._steps, []

    def steps(self, block, first, order):
        visited.append(len(order))
        real(self, block, first, order)

    class Clock:
        """Looked at by a node once as it begins, and before every slice but the first."""

        looks, jump = 0, 0.0

        def node(self):
            self.looks += 1
            self.jump = 1e9 if self.looks > 3 else 0.0
            return self.driver()

        def driver(self):
            return time.monotonic() + self.jump

    def made(**limits):
        return DistributedSGDRegressor(
            "huber", variance_reduction=reduction, random_state=0, n_shards=1, n_jobs=1, **limits
        )

    whole = made().fit(X, y)
    with monkeypatch.context() as patch:
        clock = Clock()
        patch.setattr(walk, "_steps", steps)
        patch.setattr(local_steps, "monotonic", clock.node)
        patch.setattr(task, "time", SimpleNamespace(monotonic=clock.driver))
        model = made(max_time=1e6, checkpoint=tmp_path / "fit")
        with pytest.warns(ConvergenceWarning, match="max_time"):
            model.fit(X, y)
    assert len(visited) == 3
    assert sum(visited) < 0.3 * len(y)
    rows = X.toarray() if sparse else X
    nothing = SimpleNamespace(coef_=np.zeros(6), intercept_=0.0, epsilon=model.epsilon)
    assert objective(rows, y, model, "huber") < 0.97 * objective(rows, y, nothing, "huber")
    # What a process with more time goes on with is what it would have come to itself.
    again = made(checkpoint=tmp_path / "fit").fit(X, y)
    np.testing.assert_array_equal(again.coef_, whole.coef_)


@settings(max_examples=12)
@given(
    exponent=st.floats(-8.0, 8.0),
    loss=st.sampled_from(LOSSES),
    penalty=st.sampled_from(["l2", "elasticnet"]),
    n_shards=st.sampled_from([1, 3]),
    aggregation=st.sampled_from(["weighted", "uniform"]),
)
def test_weights_have_no_scale(exponent, loss, penalty, n_shards, aggregation):
    X, y = heavy(400)
    weight = np.random.default_rng(0).uniform(0.1, 2.0, 400)
    model = DistributedSGDRegressor(
        loss=loss, penalty=penalty, max_iter=12, tol=None, random_state=0, n_jobs=1,
        n_shards=n_shards, aggregation=aggregation,
    )  # fmt: skip
    plain = model.fit(X, y, weight)
    expected = plain.coef_.copy(), plain.n_iter_, plain.n_rounds_, np.array(plain.loss_curve_)
    model.fit(X, y, 10.0**exponent * weight)
    np.testing.assert_allclose(model.coef_, expected[0], rtol=1e-6, atol=1e-9)
    assert (model.n_iter_, model.n_rounds_) == expected[1:3]
    np.testing.assert_allclose(model.loss_curve_, expected[3], rtol=1e-9)


@pytest.mark.parametrize("sparse", [False, True])
def test_whole_gradients_go_on_from_stuck_problems(monkeypatch, sparse):
    """Of eight rows few lie off the kink, which no averaged direction leads along."""
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(8, 3))
    Y = np.column_stack([3.0 * X[:, 0] + rng.standard_normal(8), 5.0 * rng.standard_normal(8)])
    rows = sp.csr_array(X) if sparse else X
    model = DistributedSGDRegressor(
        loss="epsilon_insensitive", epsilon=0.0, fit_intercept=False, random_state=0, n_shards=4
    )
    model.fit(rows, Y)
    assert model.converged_
    exact = DistributedGDRegressor(
        loss="epsilon_insensitive", epsilon=0.0, fit_intercept=False, tol=1e-6
    ).fit(X, Y)
    assert model.loss_curve_[-1] <= 1.001 * exact.loss_curve_[-1]
    monkeypatch.setattr(choose, "_go_on", lambda _, __, solution, *___: solution)
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        model.fit(rows, Y)


@pytest.mark.parametrize("sparse", [False, True])
def test_without_a_penalty_the_end_is_checked_by_whole_gradients(sparse):
    """Weights over decades: steps stand still far from the optimum, and no gap tells."""
    rng = np.random.default_rng(3)
    X = (rng.uniform(size=(400, 30)) < 0.1).astype(float)
    y = X @ rng.standard_normal(30) + rng.standard_t(2, 400)
    weight = 10.0 ** rng.uniform(-6, 6, 400)
    model = DistributedSGDRegressor(loss="huber", epsilon=0.1, penalty=None, random_state=0)
    model.fit(sp.csr_array(X) if sparse else X, y, weight)
    exact = DistributedGDRegressor(loss="huber", epsilon=0.1, penalty=None, tol=1e-9)
    exact.fit(X, y, weight)
    assert model.converged_
    np.testing.assert_allclose(model.loss_curve_[-1], exact.loss_curve_[-1], rtol=1e-3)
