"""Requests of several fits that a node answers at once, against the same requests one by one."""

from dataclasses import fields

import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml.blocks import Shard, frozen
from dask_dml.kernels.margin_rows import VIOLATION
from dask_dml.objective.margins import STEPS
from dask_dml.passes import fold_rows
from dask_dml.passes.divisions import Consecutive, Listed
from dask_dml.passes.fold_rows import Failed, Fold, Request, Requests, answer
from dask_dml.passes.folds import DividedRows
from dask_dml.passes.margin_cache import margins_by_memory
from dask_dml.passes.margins import MarginPoint, margins

RNG = np.random.default_rng(3)
SIZES, P, PARTS = (3000, 0, 1500), 4, 5
N = sum(SIZES)
# Long runs of a part, and rows here and there.
MIXED = np.repeat(np.arange(PARTS), N // PARTS)
MIXED[RNG.integers(0, N, 40)] = 2
DIVISIONS = {
    "consecutive": Consecutive(N, PARTS),
    "shuffled": Listed(RNG.integers(0, PARTS, N), PARTS),
    "mixed": Listed(MIXED, PARTS),
}


def make_shard(kind, weighted):
    blocks = []
    for number, n in enumerate(SIZES):
        X = RNG.normal(size=(n, P)).astype(np.float32 if kind == "float32" else np.float64)
        X = sp.csr_array(np.where(RNG.random((n, P)) < 0.5, X, 0.0)) if kind == "csr" else X
        weight = RNG.uniform(0.0, 2.0, n) if weighted else None
        blocks.append(frozen(X, RNG.integers(0, 3, (n, 1)) * 1.0, weight, ((number, n),)))
    return Shard(0, tuple(blocks))


def make_point(k=1, seed=0, *, squared=False, moving=False, hessian=True, stride=1):
    random = np.random.default_rng(seed)
    width = 0.5
    parameters = [0.0, np.inf, 2.0, 1.0] if squared else [0.5 * width, width, 1.0 / width, 0.0]
    return MarginPoint(
        label=np.arange(k) * 1.0,
        cost=random.uniform(0.5, 2.0, (k, 2)),
        parameters=np.tile(parameters, (k, 1)),
        coef=random.normal(size=(k, P)),
        intercept=random.normal(size=k),
        move=random.normal(size=(k, P)) if moving else None,
        move_intercept=np.ones(k),
        grid=np.tile(STEPS - 1.0, (k, 1)) if moving else np.empty((k, 0)),
        stride=np.full(k, stride),
        hessian=hessian,
        split=True,
    )


def ask(shard, division, requests):
    offsets = np.concatenate([[0], np.cumsum(SIZES)[:-1]])
    _, found = answer(shard, None, Requests(requests, DividedRows((division,), offsets)))
    return found.of_fit


def assert_same(one, other):
    assert one.keys() == other.keys()
    for number, sums in one.items():
        for field in fields(sums):
            mine, theirs = (getattr(answers[number], field.name) for answers in (one, other))
            if theirs is None:
                assert mine is None
                continue
            if field.name == "sums":  # violations know no weights: these have to be finite
                mine, theirs = (np.delete(values, VIOLATION, axis=1) for values in (mine, theirs))
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["float64", "float32", "csr"])
@pytest.mark.parametrize("name", DIVISIONS)
def test_the_same_as_one_by_one(kind, name, monkeypatch):
    shard = make_shard(kind, weighted=name != "mixed")
    folds = [Fold(0, tuple(part for part in range(PARTS) if part != held)) for held in range(PARTS)]
    requests = {}
    for number, fold in enumerate([*folds, None]):
        # The same point on every fold, and others; with line searches, without, of more classes.
        requests[number] = Request(margins_by_memory, make_point(), fold, True)
        requests[10 + number] = Request(margins_by_memory, make_point(seed=number), fold, True)
        requests[20 + number] = Request(
            margins, make_point(3, number, squared=True, moving=number % 2 == 0), fold
        )
        requests[30 + number] = Request(margins, make_point(hessian=False, seed=number), fold)
    together = ask(shard, DIVISIONS[name], requests)
    monkeypatch.setattr(fold_rows, "STACK_BYTES", 5000)
    few = ask(shard, DIVISIONS[name], requests)
    monkeypatch.setattr(fold_rows, "STACKS", {})
    alone = ask(shard, DIVISIONS[name], requests)
    assert_same(together, alone)
    assert_same(few, alone)


def test_rows_are_visited_once_for_all(monkeypatch):
    shard = make_shard("float64", weighted=False)
    visits = []

    def counted(rows, point):
        visits.append((rows.n_rows, len(point.coef)))
        return margins(rows, point)

    monkeypatch.setitem(fold_rows.STACKS, margins, fold_rows.Stack(counted, 2))
    folds = [Fold(0, tuple(part for part in range(PARTS) if part != held)) for held in range(PARTS)]
    ask(shard, DIVISIONS["consecutive"], {n: Request(margins, make_point(), f) for n, f in
                                          enumerate(folds)})  # fmt: skip
    assert sum(n_rows for n_rows, _ in visits) == N
    assert {n_points for _, n_points in visits} == {1}  # all begin at the same point


def test_rows_that_are_not_finite_fail_every_fit_that_sees_them():
    shard = make_shard("float64", weighted=False)
    X = shard.blocks[0].X.copy()
    X[5, 1] = np.nan  # part 0
    bad = frozen(X, shard.blocks[0].y, None, shard.blocks[0].origin)
    requests = {
        number: Request(margins, make_point(), Fold(0, parts))
        for number, parts in enumerate([(0, 1), (1, 2), (0, 3), (3, 4)])
    }
    found = ask(Shard(0, (bad, *shard.blocks[1:])), DIVISIONS["consecutive"], requests)
    assert [isinstance(found[n], Failed) for n in range(4)] == [True, False, True, False]
    assert "column 1" in str(found[0].error)
