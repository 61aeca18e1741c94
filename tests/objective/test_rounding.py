"""What cannot be negative is an error, not zero."""

import numpy as np
import pytest
import reference

from dask_dml.blocks import frozen
from dask_dml.objective.losses import make_loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Frame, Objective, Problem, Query, relative_gap
from dask_dml.objective.rounding import not_negative
from dask_dml.passes import evaluate
from dask_dml.rounds.local import LocalRounds, make_shards


@pytest.mark.parametrize(("value", "expected"), [(2.0, 2.0), (0.0, 0.0), (-1e-13, 0.0)])
def test_rounding_is_forgiven(value, expected):
    assert not_negative(value, 1.0, "a gap") == expected


def test_more_than_rounding_is_an_internal_error():
    with pytest.raises(RuntimeError, match=r"internal error: a gap is -1e-05"):
        not_negative(-1e-5, 1.0, "a gap")
    assert np.isnan(not_negative(np.nan, 1.0, "a gap"))


@pytest.mark.parametrize("loss", reference.LOSSES)
def test_a_bound_above_an_objective_is_an_internal_error(loss, monkeypatch):
    X, y, weight = reference.table(40, 3)
    rounds = LocalRounds(make_shards([frozen(X, y[:, None], weight, ())], 1, 1))
    frame = Frame.of(rounds.map_reduce(evaluate.moments, None), centred=True)
    problem = Problem(0, make_loss(loss, 0.1), ElasticNet(l2=0.1))
    objective = Objective(rounds, [problem], frame, fit_intercept=True)
    objective.evaluate({0: Query(np.ones(3), 0.0, 0.5)})
    objective.evaluate({0: Query(np.full(3, 1e9), 0.0)})  # far off, and not wrong
    # A certificate that claims half the gap is wrong as soon as a better point is seen.
    monkeypatch.setattr(Objective, "_gap", lambda *_: 0.0)
    objective.evaluate({0: Query(np.full(3, 5.0), 0.0)})
    with pytest.raises(RuntimeError, match="internal error: a lower bound of the optimum"):
        objective.evaluate({0: Query(np.zeros(3), 0.0)})


def test_an_objective_of_nothing_has_a_gap():
    """Zero is a lower bound, which counts where the objective is nearly that."""
    assert relative_gap(0.0, np.inf, 0.0) == 0.0
    assert relative_gap(1e-38, np.inf, 1e-8) == pytest.approx(1e-30)
    assert relative_gap(1e-38, 1e3, 1e-8) == pytest.approx(1e-30)
    assert relative_gap(1.0, np.inf, 1e-8) == np.inf
