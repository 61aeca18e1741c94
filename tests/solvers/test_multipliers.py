"""Kinks by the method of multipliers: few passes, any chunks, and lost multipliers."""

import dask.array as da
import numpy as np
import pytest
import reference

from dask_dml import DistributedGDRegressor
from dask_dml.blocks import frozen
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Frame, Objective, Problem, Query
from dask_dml.passes.evaluate import moments
from dask_dml.rounds.base import StateLost
from dask_dml.rounds.local import LocalRounds, make_shards

X, Y, WEIGHT = reference.table(90, 4, seed=3)
KINK, WIDTH = ("epsilon_insensitive", 0.2), 0.7


def objective(rounds):
    frame = Frame.of(rounds.map_reduce(moments, None), centred=True)
    problem = Problem(0, make_loss(*KINK), ElasticNet(l2=0.01))
    return Objective(rounds, [problem], frame, fit_intercept=True, multipliers=True)


def test_the_smoothed_loss_stays_below_the_loss():
    rng = np.random.default_rng(0)
    shards = make_shards([frozen(X, Y[:, None], WEIGHT, ())], 3, 1)
    known = objective(LocalRounds(shards))
    for _ in range(5):
        e = known.evaluate({0: Query(rng.standard_normal(4), 0.0, WIDTH, advance=True)})[0]
        assert e.value <= e.objective - 0.005 * e.query.coef @ e.query.coef + 1e-12
        assert e.slack >= 0.0


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
    assert model.n_rounds_ <= 150  # 300 to 700 where only the width goes down


class Forgetful(LocalRounds):
    """Loses what two shards keep, every few rounds."""

    calls = 0

    def update(self, function, broadcast=None):
        self.calls += 1
        if self.calls % 7 == 0:
            self._state = {number: s for number, s in self._state.items() if number > 1}
            raise StateLost((0, 1))
        return super().update(function, broadcast)


def test_lost_multipliers_cost_passes_and_no_digits(monkeypatch):
    from dask_dml import rounds as engines

    params = {"loss": "epsilon_insensitive", "alpha": 0.01, "epsilon": 0.1}
    best = reference.optimum(X, Y, WEIGHT, **params)

    def open_rounds(chunks, **_):
        block = frozen(X, Y[:, None], WEIGHT, ())
        return Forgetful(make_shards([block], 4, 1))

    monkeypatch.setattr(engines, "open_rounds", open_rounds)
    model = DistributedGDRegressor(**params).fit(X, Y, WEIGHT)
    got = reference.objective(X, Y, model.coef_, model.intercept_, WEIGHT, **params)
    assert got <= best.value * (1 + 2e-6)


def test_the_engines_agree(client):
    params = {"loss": "epsilon_insensitive", "alpha": 0.01, "epsilon": 0.1}
    here = DistributedGDRegressor(**params, n_shards=2).fit(X, Y, WEIGHT)
    chunks = da.from_array(X, chunks=(20, 4)), da.from_array(Y, chunks=20)
    there = DistributedGDRegressor(**params, n_shards=2).fit(*chunks, WEIGHT)
    both = np.column_stack([Y, -Y])
    two = DistributedGDRegressor(**params).fit(X, both, WEIGHT)
    np.testing.assert_allclose(there.coef_, here.coef_, atol=1e-5)
    np.testing.assert_allclose(two.coef_, [here.coef_, -here.coef_], atol=1e-5)
