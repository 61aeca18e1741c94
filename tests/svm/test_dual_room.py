"""What the dual solver keeps for each row: nothing is rounded, nothing is chosen otherwise."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml.blocks import frozen
from dask_dml.objective.margins import MarginProblem
from dask_dml.objective.penalties import ElasticNet
from dask_dml.rounds.local import LocalRounds, make_shards
from dask_dml.solvers.base import Limits, minimise
from dask_dml.solvers.dual import block_duals
from dask_dml.solvers.dual.active_set import MergeObjective, MergeStep, rows_to_merge
from dask_dml.solvers.dual.ascent_pass import forget
from dask_dml.solvers.dual.block_duals import BlockDuals, MovedDuals, row_costs, tiles
from dask_dml.solvers.dual.most_urgent import MostUrgent
from dask_dml.solvers.dual.urgent_rows import Gathering, UrgentRows, joined


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_dual_variables_come_back_bit_by_bit(monkeypatch, weighted, sparse):
    monkeypatch.setattr(block_duals, "TILE_ROWS", 64)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((301, 3)) * (rng.random((301, 3)) < 0.5)
    y = rng.integers(0, 3, (301, 1)).astype(float)
    weight = 10.0 ** rng.uniform(-6, 6, 301) * (rng.random(301) < 0.9) if weighted else None
    block = frozen(sp.csr_array(X) if sparse else X, y, weight, ((0, 301),))
    rows = row_costs(block, 1.0, np.array([0.3, 0.7]))
    sign = np.where(y[:, 0] == 1.0, 1.0, -1.0)
    cost = np.where(sign > 0, 0.7, 0.3) * (1.0 if weight is None else weight)
    np.testing.assert_array_equal(rows.sign, sign)
    np.testing.assert_array_equal(rows.all(), cost)
    alpha, new = (
        np.choose(rng.integers(0, 3, 301), [np.zeros(301), cost, cost * rng.random(301)])
        for _ in range(2)
    )
    held, other = BlockDuals.of(alpha, rows), BlockDuals.of(new, rows)
    np.testing.assert_array_equal(held.values(rows), alpha)
    np.testing.assert_array_equal(held.positive, alpha > 0.0)
    signed, whole = np.zeros(3), []
    for tile in tiles(block, rows):
        whole.append(held.part(tile.slice, tile.rows))
        assert len(whole[-1]) == tile.n_rows <= 64
        part = sp.csr_array(tile.X, shape=(tile.n_rows, 3)) if tile.is_sparse and (
            tile.X[2][0] == 0
        ) else X[tile.slice]  # fmt: skip
        signed += part.T @ (whole[-1] * tile.rows.sign)
    np.testing.assert_array_equal(np.concatenate(whole), alpha)
    np.testing.assert_allclose(signed, X.T @ (alpha * sign), rtol=1e-12)
    np.testing.assert_array_equal(other.values(rows), new)
    # A proposal is rounded, but for what is at a bound or as it was, and is no farther than meant.
    new[:100] = alpha[:100]
    sent, merged = np.array([5, 70, 71, 300]), np.zeros(4)
    proposed = BlockDuals.proposed(new, alpha, rows)
    moved = MovedDuals(held, proposed, 0.25, sent, merged, 1e-13, 1.0, rows.cost)
    expected = alpha + 0.25 * (new - alpha)
    expected[sent] = 0.0
    np.testing.assert_allclose(moved.values(rows), expected, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(moved.values(rows)[:100], expected[:100])
    at_bound = (alpha == 0.0) & (new == cost)
    np.testing.assert_array_equal(moved.values(rows)[at_bound], expected[at_bound])
    settled = moved.settled(block)
    np.testing.assert_array_equal(settled.values(rows), moved.values(rows))
    for tile in tiles(block, rows):
        np.testing.assert_array_equal(
            moved.part(tile.slice, tile.rows), moved.values(rows)[tile.slice]
        )


@pytest.mark.parametrize("quota", [0, 1, 7, 40, 99, 500])
@pytest.mark.parametrize("first", [0.0, 0.2])
def test_most_urgent_rows_are_those_of_a_sort(quota, first):
    rng = np.random.default_rng(1)
    parts = [rng.standard_normal(n) for n in (50, 0, 120, 30)]
    for part in parts:
        part[rng.random(len(part)) < first] = -np.inf
        part[rng.random(len(part)) < 0.1] = np.inf
    urgent = MostUrgent(quota)
    for part in parts:
        for piece in np.array_split(part, 3):
            urgent.add(piece)
    found = urgent.chosen([len(part) for part in parts], (0, 1))
    whole = np.concatenate(parts)
    starts = np.cumsum([0, *map(len, parts)])
    chosen = np.concatenate([at + start for at, start in zip(found, starts[:-1], strict=True)])
    assert (np.diff(chosen) > 0).all()
    n_first = np.isneginf(whole).sum()
    if quota < n_first:
        assert len(chosen) == quota
        assert np.isneginf(whole[chosen]).all()
    else:
        expected = np.argsort(whole)[:quota]
        expected = np.sort(expected[whole[expected] < np.inf])
        np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize(("sparse", "dtype"), [(False, np.float32), (True, np.float64)])
def test_a_round_takes_little_room_beside_the_rows(sparse, dtype):
    """Classes at random: nearly all rows are support vectors, and change in every round."""
    rng = np.random.default_rng(2)
    n, p = 60_000, 40
    X = rng.standard_normal((n, p)).astype(dtype)
    if sparse:
        X = sp.csr_array(X * (rng.random((n, p)) < 0.2))
    y = (rng.random((n, 1)) < 0.5).astype(float)
    problem = MarginProblem(1.0, (1.0, 1.0), False, ElasticNet(l2=1.0), 1.0)
    blocks = [frozen(X[at : at + n // 4], y[at : at + n // 4], None, ()) for at in (0, 15_000)]
    blocks += [
        frozen(X[at : at + n // 4], y[at : at + n // 4], None, ()) for at in (30_000, 45_000)
    ]
    with LocalRounds(make_shards(blocks, 1, 1)) as data:
        limit = min(rows_to_merge(data.shard_rows, p, n * p, 1), 1000)

        def solve():
            step = MergeStep(problem, p, limit)
            return minimise(MergeObjective(data, [problem]), [step], Limits(4, 1e-9))[0]

        solve()  # compiled
        data.update(forget)
        tracemalloc.start()
        try:
            solve()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak <= 64 * n


@pytest.mark.parametrize("kind", ["dense", "csr", "mixed"])
def test_rows_that_travel_are_gathered_once(kind):
    rng = np.random.default_rng(3)
    parts = []
    for number, n_rows in enumerate((0, 40, 1, 0, 300)):
        X = rng.standard_normal((n_rows, 5)) * (rng.random((n_rows, 5)) < 0.5)
        if kind == "csr" or (kind == "mixed" and number % 2):
            X = sp.csr_array(X)
        parts.append(UrgentRows(X, *rng.standard_normal((3, n_rows))))
    gathering = Gathering(5, sparse=kind != "dense")
    for part in parts:
        gathering.add(part)
    found, expected = gathering.rows(), joined(parts)
    assert sp.issparse(found.X) == (kind != "dense")
    for one, other in ((found.X, expected.X), (found.alpha, expected.alpha)):
        np.testing.assert_array_equal(*(x.toarray() if sp.issparse(x) else x for x in (one, other)))
    np.testing.assert_array_equal(found.sign, expected.sign)
    np.testing.assert_array_equal(found.cost, expected.cost)


@pytest.mark.parametrize("sparse", [False, True])
def test_gathering_takes_no_second_copy(sparse):
    X = np.ones((20_000, 8))
    parts = [UrgentRows(sp.csr_array(X) if sparse else X, *np.ones((3, len(X)))) for _ in range(16)]
    size = len(parts) * (X.nbytes * (1.5 if sparse else 1.0) + 24 * len(X))
    tracemalloc.start()
    gathering = Gathering(8, sparse=sparse)
    for part in parts:
        gathering.add(part)
    gathering.rows()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * size
