"""Passes against the formulas, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml.blocks import frozen
from dask_dml.objective.margin_evaluation import MarginObjective
from dask_dml.objective.margins import (
    STEPS,
    MarginProblem,
    MarginQuery,
    ProductQuery,
)
from dask_dml.objective.penalties import ElasticNet
from dask_dml.passes.margins import class_sums
from dask_dml.rounds import StateLost
from dask_dml.rounds.local import LocalRounds, make_shards

RNG = np.random.default_rng(0)
X = RNG.standard_normal((700, 5))
Y = RNG.integers(0, 3, 700).astype(float)
WEIGHT = RNG.random(700)
COEF, MOVE = RNG.standard_normal((2, 5))


def rounds(kind, dtype=np.float64):
    data = (sp.csr_array(X) if kind == "sparse" else X).astype(dtype)
    return LocalRounds(make_shards([frozen(data, Y[:, None], WEIGHT, ())], 3, 1))


def problem(label=1.0, squared=False, scaling=np.inf):
    return MarginProblem(label, (0.5, 2.0), squared, ElasticNet(l2=1.0), scaling)


def by_hand(p, coef, intercept, width):
    """Smoothed loss, dual variables with signs, and curvatures."""
    sign = np.where(p.label == Y, 1.0, -1.0)
    cost = WEIGHT * np.where(sign > 0, p.cost[1], p.cost[0])
    t = 1.0 - sign * (X @ coef + intercept)
    if p.squared:
        return cost @ np.maximum(t, 0) ** 2, 2 * cost * np.maximum(t, 0) * sign, 2 * cost * (t > 0)
    inside = np.abs(t) <= width / 2
    loss = np.where(inside, (t + width / 2) ** 2 / (2 * width), np.maximum(t, 0))
    slope = np.clip((t + width / 2) / width, 0, 1)
    return cost @ loss, cost * slope * sign, cost * inside / width


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("labels", [(1.0,), (0.0, 1.0, 2.0)])
def test_evaluation(kind, squared, labels):
    batch = [problem(label, squared) for label in labels]
    query = MarginQuery(COEF, 0.3, 0.7, MOVE, -0.2, 0.5, hessian=True)
    answers = MarginObjective(rounds(kind), batch).evaluate(dict.fromkeys(range(len(batch)), query))
    for number, p in enumerate(batch):
        e = answers[number]
        value, duals, bend = by_hand(p, COEF, 0.3, 0.7)
        np.testing.assert_allclose(e.value, value)
        np.testing.assert_allclose(e.gradient, -duals @ X)
        np.testing.assert_allclose(e.intercept_gradient, -duals.sum())
        sign = np.where(p.label == Y, 1.0, -1.0)
        rows = np.column_stack([X, np.ones(700), sign])
        np.testing.assert_allclose(np.tril(e.hessian), np.tril(rows.T * bend @ rows), atol=1e-9)
        for (line, _), share in zip(e.line, STEPS, strict=True):
            there = (share - 1.0) * 0.5
            np.testing.assert_allclose(
                line, by_hand(p, COEF + there * MOVE, 0.3 - 0.2 * there, 0.7)[0]
            )


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_products(kind):
    class Forgetful(LocalRounds):
        lost = False

        def update(self, function, broadcast=None):
            if self._state and not self.lost:
                self._state, self.lost = {}, True
                raise StateLost([0, 1, 2])
            return super().update(function, broadcast)

    data = rounds(kind)
    objective = MarginObjective(Forgetful(data.shards), [problem()])
    bend = by_hand(problem(), COEF, 0.3, 0.7)[2]
    where = (COEF, 0.3, 0.7, 1)
    for _ in range(3):
        told = objective.evaluate({0: ProductQuery(*where, "product", MOVE, -0.2)})[0]
        factor = bend * (X @ MOVE - 0.2)
        np.testing.assert_allclose(told.vector, factor @ X)
        np.testing.assert_allclose(told.intercept, factor.sum())
    short = objective.evaluate({0: ProductQuery(*where, "product", np.float32(MOVE), -0.2)})[0]
    assert short.vector.dtype == np.float32
    np.testing.assert_allclose(short.vector, factor @ X, rtol=1e-4)
    told = objective.evaluate({0: ProductQuery(*where, "pull")})[0]
    residual = np.where(Y == 1.0, 1.0, -1.0) - X @ COEF - 0.3
    np.testing.assert_allclose(told.vector, (bend * residual) @ X)
    np.testing.assert_allclose(told.intercept, (bend * residual).sum())
    told = objective.evaluate({0: ProductQuery(*where, "rows")})[0]
    assert told.X.shape == ((bend > 0).sum(), 5)
    np.testing.assert_allclose(np.sort(told.bend), np.sort(bend[bend > 0]))


def test_products_of_problems_in_turns():
    """A shard that is asked about one problem keeps what it knows of the others."""
    objective = MarginObjective(rounds("dense"), [problem(0.0), problem(1.0)])
    for asked in ((0,), (1,), (0, 1), (0,)):
        queries = {n: ProductQuery(COEF, 0.3, 0.7, 1, "product", MOVE, -0.2) for n in asked}
        answers = objective.evaluate(queries)
        for n in asked:
            bend = by_hand(problem(float(n)), COEF, 0.3, 0.7)[2]
            np.testing.assert_allclose(answers[n].vector, (bend * (X @ MOVE - 0.2)) @ X)


def test_only_columns_that_occur_travel():
    wide = np.zeros((700, 9))
    columns = np.array([1, 2, 4, 7, 8])
    wide[:, columns] = X
    for kind in (sp.csr_array, np.asarray):
        blocks = [frozen(kind(wide), Y[:, None], WEIGHT, ())]
        objective = MarginObjective(LocalRounds(make_shards(blocks, 3, 1)), [problem()], columns)
        plain = MarginObjective(rounds("dense"), [problem()])
        for query in (
            MarginQuery(COEF, 0.3, 0.7, MOVE, -0.2, 0.5, hessian=True),
            MarginQuery(COEF, 0.3, 0.7, hessian=True, columns=np.array([0, 3])),
        ):
            a, b = (o.evaluate({0: query})[0] for o in (objective, plain))
            np.testing.assert_allclose(a.gradient, b.gradient)
            np.testing.assert_allclose(np.tril(a.hessian), np.tril(b.hessian), atol=1e-9)
            np.testing.assert_allclose(a.gap, b.gap)
        for asked in ("product", "pull"):
            move = (MOVE, -0.2) if asked == "product" else ()
            query = ProductQuery(COEF, 0.3, 0.7, 1, asked, *move)
            a, b = (o.evaluate({0: query})[0] for o in (objective, plain))
            np.testing.assert_allclose(a.vector, b.vector)
        query = ProductQuery(COEF, 0.3, 0.7, 1, "rows")
        assert objective.evaluate({0: query})[0].X.shape[1] == 5


@pytest.mark.parametrize("weighted", [False, True])
def test_classes_that_are_rare_or_many(weighted):
    """Most classes are found among some rows; those that are not must not be lost."""
    for y in (np.append(np.zeros(2999), 7.0), RNG.integers(0, 60, 3000).astype(float)):
        weight = RNG.random(3000) if weighted else None
        (shard,) = make_shards([frozen(np.zeros((3000, 1)), y[::-1, None], weight, ())], 1, 1)
        found = class_sums(shard)
        share = np.ones(3000) if weight is None else weight
        classes, rows = np.unique(y, return_counts=True)
        np.testing.assert_array_equal(found.classes, classes)
        np.testing.assert_array_equal(found.rows, rows)
        expected = [share[y[::-1] == value].sum() for value in classes]
        np.testing.assert_allclose(found.weight, expected)


def test_float32_sums_in_float64():
    for kind in ("dense", "sparse"):
        a, b = (
            MarginObjective(rounds(kind, dtype), [problem()]).evaluate(
                {0: MarginQuery(COEF, 0.3, 0.7)}
            )[0]
            for dtype in (np.float32, np.float64)
        )
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-4)
        assert a.gradient.dtype == np.float64


def test_a_false_certificate_is_not_given():
    """Without its balance, the dual of a free intercept would prove what is not true."""
    answer = MarginObjective(rounds("dense"), [problem(squared=True)]).evaluate(
        {0: MarginQuery(0.1 * COEF, -0.5, 0.0)}
    )[0]
    low, high = answer.dual_scale
    sign = np.where(Y == 1.0, 1.0, -1.0)
    duals = np.where(sign > 0, high, low) * by_hand(problem(squared=True), 0.1 * COEF, -0.5, 0)[1]
    assert abs(duals.sum()) <= 1e-12 * np.abs(duals).sum()
    cost = WEIGHT * np.where(sign > 0, 2.0, 0.5)
    bound = np.abs(duals).sum() - 0.5 * np.sum((duals @ X) ** 2) - np.sum(duals**2 / cost) / 4
    np.testing.assert_allclose(answer.objective - answer.gap, bound)
