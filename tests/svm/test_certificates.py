"""No fit claims more than is true: certificates of all engines, and of tables that are hard."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from certificate import certify, primal
from sklearn.datasets import load_breast_cancer

from dask_dml import DistributedLinearSVC
from dask_dml.objective.certificate import certified_gap
from dask_dml.rounds import choose
from dask_dml.solvers.dual import active_set_pass

ENGINES = ["memory", "dask", "streamed", "cluster", "streamed cluster"]


@pytest.fixture
def chunked(request, monkeypatch):
    """Return a function that hands data over to an engine."""

    def chunk(engine, X, y):
        if engine == "memory":
            return X, y
        if "cluster" in engine:
            request.getfixturevalue("client")
        if "streamed" in engine:
            monkeypatch.setattr(choose, "LOCAL_SHARE", 0.0)
            monkeypatch.setattr(choose, "CLUSTER_SHARE", 0.0)
        chunks = (500, 0, 1500, len(y) - 2000)
        rows = np.split(np.arange(len(y)), np.cumsum(chunks)[:-1])
        if sp.issparse(X):
            parts = [da.from_array(X[part], chunks=-1, asarray=False) for part in rows]
        else:
            parts = [da.from_array(X[part], chunks=(max(len(part), 1), -1)) for part in rows]
        return da.concatenate(parts), da.from_array(y, chunks=(chunks,))

    return chunk


def table(n=3000, p=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    y = (X @ rng.standard_normal(p) + 2.0 * rng.standard_normal(n) > 0.5).astype(float)
    return X, y


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_every_engine_tells_the_truth(chunked, engine, sparse, loss):
    X, y = table()
    data = sp.csr_array(np.where(np.abs(X) > 1.0, X, 0.0)) if sparse else X
    kind = {"loss": loss, "C": 1e-2, "solver": "dual", "tol": 1e-5}
    best = DistributedLinearSVC(**kind | {"solver": "newton", "tol": 1e-9}).fit(data, y)
    model = DistributedLinearSVC(**kind).fit(*chunked(engine, data, y))
    whole = data.toarray() if sparse else data
    assert model.objective_ == pytest.approx(primal(model, whole, y).sum(), rel=1e-12)
    assert model.converged_
    assert model.objective_ <= best.objective_ * (1.0 + model.duality_gap_ + 1e-8)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_free_intercept(chunked, engine, n_classes):
    """No penalty of it, and none of what stands in for it, shows in the objective or the bound."""
    X, _ = table()
    X = X + 30.0
    y = np.digitize(X[:, 0] + X[:, 1], [58.0, 61.0][: n_classes - 1]).astype(float)
    kind = {"loss": "hinge", "C": 0.02, "intercept_scaling": None, "tol": 1e-6}
    best = DistributedLinearSVC(**kind | {"solver": "newton", "tol": 1e-9}).fit(X, y)
    model = DistributedLinearSVC(solver="dual", **kind).fit(*chunked(engine, X, y))
    assert model.converged_
    assert model.objective_ == pytest.approx(primal(model, X, y).sum(), rel=1e-12)
    assert model.objective_ == pytest.approx(best.objective_, rel=2e-6)
    assert best.objective_ * (1.0 - 1e-8) <= model.objective_
    if engine == "memory":
        assert certify(model, X, y) <= 1e-6


@pytest.mark.parametrize("kind", [{"loss": "squared_hinge"}, {"loss": "hinge"}])
def test_where_an_intercept_may_not_be_free(kind):
    """More rows than may travel."""
    X = sp.random_array((8300, 8400), density=1e-3, rng=np.random.default_rng(0), format="csr")
    y = np.arange(8300) % 2
    model = DistributedLinearSVC(solver="dual", intercept_scaling=None, **kind)
    with pytest.raises(ValueError, match="use solver='newton'"):
        model.fit(X, y)


def test_chunks_of_a_shard_that_are_mixed_up_are_noticed(chunked, monkeypatch):
    """What comes back for a chunk are its own rows' dual variables, or an error."""
    monkeypatch.setattr(active_set_pass, "part_of", lambda shard: (shard.number, 0))
    X, y = table()
    model = DistributedLinearSVC(loss="hinge", C=1e-2, solver="dual", n_shards=1)
    with pytest.raises(RuntimeError, match="internal error"):
        model.fit(*chunked("streamed", X, y))


def test_a_bound_above_the_objective_is_an_error():
    assert certified_gap(3.0, 2.0) == 1.0
    assert 0.0 < certified_gap(3.0, 3.0 + 1e-9) < 1e-14
    assert certified_gap(np.inf, 3.0) == np.inf
    assert 0.0 < certified_gap(1.0, 1.1, terms=1e15) < 1e-14
    for bound in (3.001, np.nan):
        with pytest.raises(RuntimeError, match="internal error"):
            certified_gap(3.0, bound)


def columns_of_six_decades():
    X, y = table(4000, 13)
    return X * np.logspace(-3, 3, 13), y


def rare_columns():
    rng = np.random.default_rng(0)
    X = np.zeros((6000, 60))
    X[:, :10] = rng.standard_normal((6000, 10))
    for column in X.T[10:]:
        rows = rng.choice(6000, rng.integers(1, 20), replace=False)
        column[rows] = rng.lognormal(2.0, 1.0, len(rows))
    score = X @ rng.standard_normal(60)
    y = score + 0.05 * score.std() * rng.standard_normal(6000) > 0.0
    return (X - X.mean(axis=0)) / X.std(axis=0), y.astype(float)


@pytest.mark.parametrize("C", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("make", [columns_of_six_decades, rare_columns])
@pytest.mark.parametrize("n_shards", [1, 7])
def test_dual_on_hard_columns(make, C, n_shards):
    """Where the box-constrained problem loses its digits, the solver got stuck far off."""
    X, y = make()
    model = DistributedLinearSVC(loss="hinge", C=C, solver="dual", n_shards=n_shards).fit(X, y)
    assert model.converged_
    assert model.n_iter_ <= 15
    assert certify(model, X, y) <= 1e-4


@pytest.mark.parametrize("C", [1e-2, 1e3])
@pytest.mark.parametrize("n", [60, 400])
def test_dual_with_more_columns_than_rows(n, C):
    X, y = table(n, 700)
    X = X * np.logspace(-2, 2, 700)
    model = DistributedLinearSVC(loss="hinge", C=C, solver="dual", n_shards=3, tol=1e-6).fit(X, y)
    assert model.converged_
    assert model.n_iter_ <= 5
    assert certify(model, X, y) <= 1e-6


@pytest.mark.parametrize("C", [1e-4, 1.0])
@pytest.mark.parametrize("standardised", [False, True])
def test_dual_with_weights_of_twelve_decades(C, standardised):
    X, y = load_breast_cancer(return_X_y=True)
    if standardised:
        X = (X - X.mean(axis=0)) / X.std(axis=0)
    weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(y))
    model = DistributedLinearSVC(loss="hinge", C=C, solver="dual", intercept_scaling=100.0)
    model.fit(X, y, weight)
    assert model.converged_
    assert model.n_iter_ <= 15
    assert model.objective_ == pytest.approx(primal(model, X, y, weight).sum(), rel=1e-9)
    free = DistributedLinearSVC(loss="hinge", C=C, solver="dual", intercept_scaling=None)
    free.fit(X, y, weight)
    assert free.converged_
    assert free.n_iter_ <= 15
    assert certify(free, X, y, weight) <= 1e-4


@pytest.mark.parametrize("factor", [2.0**-14, 1e-4, 1e4])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_weights_and_their_price_in_one(loss, factor):
    """Weights times a factor, C divided by it: the same problem, the same iterations."""
    X, y = table(2000)
    weight = np.random.default_rng(1).uniform(0.1, 3.0, len(y))
    kind = {"loss": loss, "solver": "dual", "tol": 1e-6}
    one = DistributedLinearSVC(C=0.02, **kind).fit(X, y, weight)
    other = DistributedLinearSVC(C=0.02 / factor, **kind).fit(X, y, weight * factor)
    assert other.n_iter_ == one.n_iter_
    np.testing.assert_allclose(other.coef_, one.coef_, rtol=1e-8)
    np.testing.assert_allclose(other.objective_, one.objective_, rtol=1e-12)
