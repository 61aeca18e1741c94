"""``solver="auto"`` hands over where a solver makes no more progress."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from dask_dml import DistributedGDRegressor
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import make_penalty
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.portfolio import hand_over, successors

BAD = Outcome(np.zeros(2), 0.0, 5.0, 3.0, 1.0, 10, False, [9.0, 5.0])


def attempts(results):
    """Return a function that answers for each solver, and what it was asked."""
    asked = []

    def attempt(solver, limits, before):
        asked.append((solver, limits.max_iter, before))
        return results[solver]

    return attempt, asked


def test_the_next_begins_where_the_last_ended():
    good = replace(BAD, objective=2.0, converged=True, n_iter=4, curve=[5.0, 2.0])
    attempt, asked = attempts({"newton": [BAD], "lbfgs": [good]})
    solver, (outcome,) = hand_over("newton", ["lbfgs"], Limits(100, 1e-6), attempt)
    assert solver == "lbfgs"
    assert outcome.n_iter == 14
    assert outcome.curve == [9.0, 5.0, 2.0]
    assert outcome.converged
    assert asked == [("newton", 80, None), ("lbfgs", 90, [BAD])]


def test_a_worse_successor_changes_nothing():
    worse = replace(BAD, objective=7.0, n_iter=4)
    attempt, _ = attempts({"newton": [BAD], "lbfgs": [worse]})
    solver, (outcome,) = hand_over("newton", ["lbfgs"], Limits(100, 1e-6), attempt)
    assert solver == "newton"
    assert outcome.objective == 5.0
    assert outcome.n_iter == 14


@pytest.mark.parametrize("why", ["converged", "deadline", "max_iter"])
def test_nothing_is_handed_over_where_it_would_not_help(why):
    first = replace(BAD, converged=why == "converged")
    limits = Limits(10 if why == "max_iter" else 100, 1e-6)
    limits = replace(limits, deadline=0.0) if why == "deadline" else limits
    attempt, asked = attempts({"newton": [first]})
    assert hand_over("newton", ["lbfgs"], limits, attempt)[0] == "newton"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("solver", "loss", "penalty", "shape", "expected"),
    [
        ("newton", "huber", "l2", (100, 10), ["lbfgs"]),
        ("newton", "huber", "l1", (100, 10), ["accelerated"]),
        ("statistics", "squared_error", "l1", (100, 10), []),
        ("lbfgs", "squared_error", "l2", (100, 3000), ["statistics"]),
        ("lbfgs", "squared_error", "l2", (100, 2**18), []),
        ("lbfgs", "squared_error", "l2", (10**7, 3000), []),
        ("lbfgs", "huber", "l2", (100, 3000), []),
    ],
)
def test_who_goes_on(solver, loss, penalty, shape, expected):
    assert successors(solver, make_loss(loss, 0.1), make_penalty(penalty, 1.0, 0.5), *shape) == (
        expected
    )


def test_a_wide_ridge_that_gradients_do_not_solve(capsys):
    rng = np.random.default_rng(12)
    X = sp.csr_array(sp.random_array((100, 2100), density=0.05, format="csr", rng=rng))
    y = X @ (5.0 * (np.arange(2100) % 100 == 0)) + 0.1 * rng.standard_normal(100)
    model = DistributedGDRegressor(alpha=1e-7, verbose=1, max_iter=35).fit(X, y)
    assert model.solver_ == "statistics"
    assert "lbfgs makes no more progress: statistics goes on from there" in capsys.readouterr().out
    assert model.converged_
    assert model.n_iter_ > 30
    assert model.loss_curve_[-1] < model.loss_curve_[-2]
    ridge = Ridge(1e-7 * 100, solver="cholesky").fit(X.toarray(), y)
    best = reference.objective(X, y, ridge.coef_, ridge.intercept_, alpha=1e-7)
    got = reference.objective(X, y, model.coef_, model.intercept_, alpha=1e-7)
    assert got <= best * (1 + 1e-6)
    assert model.loss_curve_[-1] == pytest.approx(got, rel=1e-6)


def test_a_named_solver_is_not_replaced():
    X, y, _ = reference.table(40, 4)
    model = DistributedGDRegressor("huber", solver="newton", alpha=1e-8, max_iter=1, epsilon=1e-3)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert model.solver_ == "newton"
