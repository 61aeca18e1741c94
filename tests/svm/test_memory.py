"""Passes that read the rows near the kink only, against passes that read all."""

from __future__ import annotations

import numpy as np
import pytest

from dask_dml.blocks import frozen
from dask_dml.objective.margin_evaluation import MarginObjective
from dask_dml.objective.margins import MarginProblem, MarginQuery
from dask_dml.objective.penalties import ElasticNet
from dask_dml.passes import margin_cache
from dask_dml.passes.margin_cache import margins_by_memory
from dask_dml.rounds import StateLost
from dask_dml.rounds.local import LocalRounds, make_shards

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3000, 6))
Y = (X[:, 0] + RNG.standard_normal(3000) > 0.3).astype(float)
WEIGHT = RNG.random(3000)
COEF, MOVE = RNG.standard_normal((2, 6))


@pytest.fixture(autouse=True)
def _small_shards_remember(monkeypatch):
    monkeypatch.setattr(margin_cache, "MIN_ENTRIES", 0)


def rounds(weight=WEIGHT, dtype=np.float64, kind=LocalRounds):
    blocks = [
        frozen(X[at : at + 500].astype(dtype), Y[at : at + 500, None], weight[at : at + 500], ())
        for at in range(0, 3000, 500)
    ]
    return kind(make_shards(blocks, 3, 1))


def problem(scaling=1.0):
    return MarginProblem(1.0, (0.5, 2.0), False, ElasticNet(l2=1.0), scaling)


def path():
    """Points that come closer and closer, some with a line search, some with a narrower kink."""
    for k, shift in enumerate((0.0, 0.3, 0.05, 0.02, 0.03, 0.01, 0.2, 0.01)):
        move = (0.002 * MOVE, -0.001) if k % 2 else (None, 0.0)
        width = 0.1 if k < 4 else 0.04
        yield MarginQuery(COEF + shift * MOVE, 0.3 - shift, width, *move, 0.7, hessian=True)


@pytest.mark.parametrize("scaling", [1.0, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_sums_as_from_all_rows(scaling, dtype):
    near, whole = (
        MarginObjective(rounds(dtype=dtype), [problem(scaling)], remember=remember)
        for remember in (True, False)
    )
    for query in path():
        a, b = (objective.evaluate({0: query})[0] for objective in (near, whole))
        for name in ("value", "objective", "gap", "gradient", "intercept_gradient", "bend"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(a.slack, b.slack, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(a.counts, b.counts)
        np.testing.assert_allclose(np.tril(a.hessian), np.tril(b.hessian), atol=1e-9)
        if query.move is not None:
            np.testing.assert_allclose(a.line, b.line, rtol=1e-9, atol=1e-9)


def test_few_rows_are_read(monkeypatch):
    visited = []
    visit = margin_cache.single_dense_margins

    def counted(block, point, total, rows=None, **kwargs):
        visited[-1] += block.n_rows if rows is None else len(rows)
        visit(block, point, total, *([] if rows is None else [rows]), **kwargs)

    monkeypatch.setattr(margin_cache, "single_dense_margins", counted)
    objective = MarginObjective(rounds(), [problem()], remember=True)
    for query in path():
        visited.append(0)
        objective.evaluate({0: query})
    assert visited[:2] == [3000, 3000]
    assert visited[3] < visited[2] <= 3000
    assert visited[3] < 1000
    assert visited[5] < 1000


def test_rows_that_are_not_finite_are_named_although_they_are_far():
    bad = X.copy()
    bad[700, 2] = np.nan
    blocks = [frozen(bad, Y[:, None], None, ((0, 3000),))]
    objective = MarginObjective(LocalRounds(make_shards(blocks, 1, 1)), [problem()], remember=True)
    with pytest.raises(ValueError, match="row 700 of the chunk, column 2"):
        objective.evaluate({0: MarginQuery(COEF, 0.3, 0.1)})


def test_what_is_forgotten_is_read_again():
    class Forgetful(LocalRounds):
        calls = 0

        def update(self, function, broadcast=None):
            self.calls += 1
            if self.calls == 4:
                self._state = {}
                raise StateLost([0, 1, 2])
            return super().update(function, broadcast)

    forgetful, whole = (
        MarginObjective(data, [problem()], remember=remember)
        for data, remember in ((rounds(kind=Forgetful), True), (rounds(), False))
    )
    for query in path():
        a, b = (objective.evaluate({0: query})[0] for objective in (forgetful, whole))
        np.testing.assert_allclose(a.gap, b.gap, rtol=1e-9)


def test_the_squared_hinge_has_no_linear_rows():
    shard = rounds().shards[0]
    squared = MarginProblem(1.0, (0.5, 2.0), True, ElasticNet(l2=1.0), 1.0)
    asked = []

    class Recorder:
        def map_reduce(self, function, broadcast=None):
            asked.append(broadcast)
            return function(shard, broadcast)

    MarginObjective(Recorder(), [squared]).evaluate({0: MarginQuery(COEF, 0.3, 0.1)})
    memory, _ = margins_by_memory(shard, None, asked[0])
    assert memory is None
