"""Fits that once went wrong: each of them as it was found, with the answer that it has to give."""

from __future__ import annotations

import itertools
import warnings
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from distributed import Client, LocalCluster
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import Ridge, SGDRegressor
from sklearn.svm import LinearSVC

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from tests.hard import programme, tables, truth
from tests.hard.cases import Case
from tests.svm.certificate import dual, primal

THRESHOLDS = {
    f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause", "terminate")
}


@pytest.fixture(scope="module")
def small_cluster():
    """A client of workers whose memory holds no table: it is read anew in every round."""
    with (
        dask.config.set(THRESHOLDS),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            memory_limit="100kB",
            dashboard_address=None,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def chunked(X, y, n_chunks=20):
    rows = -(-len(y) // n_chunks)
    return da.from_array(X, chunks=(rows, X.shape[1])), da.from_array(y, chunks=rows)


def hinge(model, X, y, weight=1.0):
    """The objective of a support vector machine of two classes, 0 and 1, with all its terms."""
    w, b = np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
    t = np.maximum(1.0 - np.where(y > 0, 1.0, -1.0) * (X @ w + b), 0.0)
    beta = 0.0 if model.intercept_scaling is None else b / model.intercept_scaling
    size = np.abs(w).sum() + abs(beta) if model.penalty == "l1" else 0.5 * (w @ w + beta**2)
    return size + model.C * np.sum(weight * (t if model.loss == "hinge" else t**2))


def gaussian_classes(n, p, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    return X, (X @ rng.standard_normal(p) + rng.standard_normal(n) > 0.0).astype(float)


def certify(model, X, y, weight=None):
    """Return the relative distance to the optimum that the dual variables prove.

    Those of the dual solver are found again, to other digits than those of the fit.
    """
    value = primal(model, X, y, weight)
    bound = dual(model, model.dual_coef(X, y, weight), X, y, weight)
    assert np.all(bound <= value * (1 + 1e-11))
    return np.max((value - bound) / bound)


@contextmanager
def any_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# 1. A certificate that was false.


@pytest.mark.parametrize("C", [1e-2, 1.0])
def test_streamed_hinge_by_dual(small_cluster, C):
    X, y = gaussian_classes(20_000, 50)
    model = DistributedLinearSVC(loss="hinge", solver="dual", C=C, tol=1e-6)
    best = DistributedLinearSVC(loss="hinge", C=C, tol=1e-6).fit(X, y)
    with small_cluster.as_current():
        model.fit(*chunked(X, y))
    assert model.converged_
    assert hinge(model, X, y) <= hinge(best, X, y) * (1 + 2e-6)
    assert hinge(model, X, y) / (1 + model.duality_gap_) <= hinge(best, X, y)


@pytest.mark.parametrize("C", [0.1, 1.0])
def test_streamed_text_by_dual(small_cluster, monkeypatch, C):
    from dask_dml.rounds import choose

    # Dask does not know how large CSR chunks are, and the package would place them.
    monkeypatch.setattr(choose, "_fits", lambda chunks, room: False)
    table = tables.load("text")
    X, y = table.X, table.labels
    ends = np.linspace(0, len(y), 11).astype(int)
    parts = [
        da.from_array(X[a:b], chunks=(b - a, X.shape[1]), asarray=False)
        for a, b in itertools.pairwise(ends)
    ]
    model = DistributedLinearSVC(loss="hinge", C=C)
    with small_cluster.as_current():
        model.fit(da.concatenate(parts), da.from_array(y, chunks=len(y) // 7))
    best = hinge(LinearSVC(loss="hinge", C=C, tol=1e-6, max_iter=10_000).fit(X, y), X, y)
    assert model.converged_
    assert hinge(model, X, y) <= best * (1 + 2e-4)
    assert hinge(model, X, y) / (1 + model.duality_gap_) <= best


# 2. Sums of weights that were taken for numbers of rows.


@pytest.mark.parametrize(
    ("solver", "factor"), [("newton", 2.0**14), ("auto", 2.0**14), ("auto", 2.0**-14)]
)
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_weights_and_C_are_one_factor(loss, solver, factor):
    X, y = gaussian_classes(20_000, 30)
    plain = DistributedLinearSVC(loss=loss, solver=solver, C=1.0).fit(X, y)
    model = DistributedLinearSVC(loss=loss, solver=solver, C=1.0 / factor)
    model.fit(X, y, np.full(len(y), factor))
    assert model.n_iter_ == plain.n_iter_
    assert model.n_rounds_ == plain.n_rounds_
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9, atol=1e-12)
    assert model.duality_gap_ == pytest.approx(plain.duality_gap_, rel=1e-3, abs=1e-12)


def test_dual_with_weights_and_C_of_one_factor():
    X, y = gaussian_classes(4000, 10)
    plain = DistributedLinearSVC(loss="hinge", solver="dual").fit(X, y)
    model = DistributedLinearSVC(loss="hinge", solver="dual", C=2.0**-14)
    model.fit(X, y, np.full(len(y), 2.0**14))
    assert model.n_rounds_ == plain.n_rounds_
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "epsilon_insensitive"])
@pytest.mark.parametrize(("penalty", "factor"), [("l2", 2.0**14), ("l1", 2.0**-14)])
def test_a_factor_of_all_weights_changes_no_regression(loss, penalty, factor):
    """The objective is a mean: alpha stays."""
    X, y = tables.load("one_hot").X, tables.load("one_hot").y
    kind = {"loss": loss, "penalty": penalty, "alpha": 1e-3}
    plain = DistributedGDRegressor(**kind).fit(X, y)
    model = DistributedGDRegressor(**kind).fit(X, y, np.full(len(y), factor))
    assert model.n_iter_ == plain.n_iter_
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_a_factor_of_all_weights_changes_no_step_of_sgd(loss):
    X, y = tables.load("one_hot").X, tables.load("one_hot").y
    kind = {"loss": loss, "random_state": 0, "max_iter": 8, "tol": None}
    plain = DistributedSGDRegressor(**kind).fit(X, y)
    model = DistributedSGDRegressor(**kind).fit(X, y, np.full(len(y), 2.0**14))
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9, atol=1e-10)


def test_uniform_weights_of_ten_thousand():
    X, y = gaussian_classes(20_000, 30)
    plain = DistributedLinearSVC().fit(X, y)
    model = DistributedLinearSVC(C=1e-4).fit(X, y, np.full(len(y), 1e4))
    assert model.converged_
    assert model.n_iter_ <= plain.n_iter_ + 2


def test_weights_over_twelve_decades_and_a_free_intercept():
    case = Case("svc", "breast_cancer", "raw", "squared_hinge l1", "1e-4", "free", "wild")
    table = tables.load("breast_cancer")
    weight = truth.sample_weight(case, len(table.y))
    model = DistributedLinearSVC(penalty="l1", intercept_scaling=None, C=1e-4)
    model.fit(table.X, table.labels, weight)
    assert model.converged_
    (best,) = programme.optimum(case)
    assert hinge(model, table.X, table.labels, weight) <= best * (1 + 2e-4)


# 3. Rare columns that a part of the rows does not show.


@pytest.mark.parametrize(
    ("loss", "C"),
    [("squared_hinge", 1.0), ("squared_hinge", 1000.0)]
    + [("hinge", C) for C in (0.1, 1.0, 10.0, 1000.0)],
)
def test_rare_columns(loss, C):
    table = tables.load("connections", "standardised")
    model = DistributedLinearSVC(loss=loss, C=C, max_iter=200).fit(table.X, table.labels)
    assert model.converged_
    assert certify(model, table.X, table.labels) <= 1e-4


# 4. Line searches that went uphill.


@pytest.mark.parametrize("weights", ["none", "wild"])
@pytest.mark.parametrize("table", ["rare", "heavy_tails", "one_hot"])
def test_the_objective_of_the_squared_hinge_never_rises(table, weights):
    table = tables.load(table, "standardised")
    rng = np.random.default_rng(0)
    weight = None if weights == "none" else 10.0 ** rng.uniform(-6, 6, len(table.y))
    model = DistributedLinearSVC(solver="newton", max_iter=50)
    with any_warning():
        model.fit(table.X, table.labels, weight)
    curve = np.array(model.loss_curve_)
    assert np.all(np.diff(curve) <= 1e-9 * curve[:-1])


# 5. Tables on which one solver fails, and another does not.


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_weights_over_twelve_decades_beside_a_large_intercept_column(loss):
    X, y = gaussian_classes(4000, 10)
    weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(y))
    model = DistributedLinearSVC(loss=loss, intercept_scaling=100.0).fit(X, y, weight)
    assert model.converged_
    assert certify(model, X, y, weight) <= 1e-4


# 6. A heavy-tailed one-hot table with next to no penalty.


def test_huber_with_a_weak_elastic_net_on_heavy_tails():
    table = tables.load("one_hot_sparse")
    kind = {"loss": "huber", "penalty": "elasticnet", "alpha": 1e-8, "max_time": 60.0}
    model = DistributedGDRegressor(**kind).fit(table.X, table.y)
    assert model.converged_
    assert model.duality_gap_ <= 1e-6


# 7. The solution of smallest norm, where there are many.


def wide(scaled, p=2500):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, p))
    if scaled:
        X *= 10.0 ** rng.uniform(-2, 2, p)
    return X, rng.standard_normal(30)


@pytest.mark.parametrize("solver", ["auto", "newton", "lbfgs", "accelerated", "gd"])
@pytest.mark.parametrize("scaled", [False, True])
def test_least_squares_of_smallest_norm(solver, scaled):
    X, y = wide(scaled, p=400 if solver == "newton" else 2500)
    model = DistributedGDRegressor(penalty=None, solver=solver, tol=1e-9, max_iter=10_000)
    with any_warning():
        model.fit(X, y)
    centred = X - X.mean(axis=0)
    least = np.linalg.norm(np.linalg.pinv(centred) @ (y - y.mean()))
    assert np.linalg.norm(model.coef_) <= least * (1 + 1e-5)
    if model.converged_:
        np.testing.assert_allclose(model.predict(X), y, atol=1e-4 * y.std())


@pytest.mark.parametrize("loss", ["huber", "squared_epsilon_insensitive", "epsilon_insensitive"])
def test_other_losses_fit_wide_tables_by_a_small_norm(loss):
    """Where every row is met exactly the minimiser of least norm is that of least squares."""
    X, y = wide(True)
    model = DistributedGDRegressor(loss, penalty=None, epsilon=0.0 if "ins" in loss else 0.1)
    model.fit(X, y)
    centred = X - X.mean(axis=0)
    least = np.linalg.norm(np.linalg.pinv(centred) @ (y - y.mean()))
    assert np.linalg.norm(model.coef_) <= least * (1 + 1e-3)


# 8. Streams, and stops that came too early.


def sgd_objective(model, X, y, alpha=1e-4):
    r = np.abs(y - X @ np.ravel(model.coef_) - float(np.ravel(model.intercept_)[0]))
    e = model.epsilon
    data = {
        "squared_error": r**2 / 2,
        "huber": np.where(r <= e, r**2 / 2, e * r - e**2 / 2),
        "epsilon_insensitive": np.maximum(r - e, 0.0),
        "squared_epsilon_insensitive": np.maximum(r - e, 0.0) ** 2,
    }[model.loss]
    w = np.ravel(model.coef_)
    return data.mean() + 0.5 * alpha * w @ w


@pytest.mark.parametrize("n_epochs", [1, 5, 20])
def test_a_stream_gets_closer_with_every_epoch(n_epochs):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 10))
    y = X @ rng.standard_normal(10) + rng.standard_normal(20_000)
    ours, theirs = DistributedSGDRegressor(random_state=0), SGDRegressor(random_state=0)
    for _ in range(n_epochs):
        for rows in np.split(np.arange(20_000), 8):
            ours.partial_fit(X[rows], y[rows])
            theirs.partial_fit(X[rows], y[rows])
    best = sgd_objective(DistributedGDRegressor().fit(X, y), X, y)
    theirs.epsilon = 0.1
    excess = sgd_objective(ours, X, y) / best - 1.0
    assert excess <= sgd_objective(theirs, X, y) / best - 1.0
    if n_epochs == 20:
        assert excess <= 1e-4


@pytest.mark.parametrize("loss", ["huber", "squared_epsilon_insensitive"])
def test_a_sorted_stream_is_no_worse_than_a_constant_or_is_warned_of(loss):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 10))
    y = X @ rng.standard_normal(10) + rng.standard_normal(20_000)
    order = np.argsort(y)
    X, y = X[order], y[order]
    model, other = DistributedSGDRegressor(loss, random_state=0), SGDRegressor(loss, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for rows in np.split(np.arange(20_000), 8):
            model.partial_fit(X[rows], y[rows])
            other.partial_fit(X[rows], y[rows])
    constant = DistributedGDRegressor(loss).fit(np.zeros((len(y), 10)), y)
    bar = min(sgd_objective(constant, X, y), sgd_objective(other, X, y))
    assert sgd_objective(model, X, y) <= bar * 1.01 or caught


@pytest.mark.parametrize("loss", ["epsilon_insensitive", "huber"])
def test_a_fit_that_stops_by_default_is_near_the_optimum_or_says_so(loss):
    """One-hot columns, sorted rows, nodes of different sizes."""
    table = tables.load("one_hot")
    order = np.argsort(table.y)
    X, y = table.X[order], table.y[order]
    sizes = (3000, 1500, 800, 400, 200, 100)
    lazy = da.from_array(X, chunks=(sizes, X.shape[1])), da.from_array(y, chunks=(sizes,))
    model = DistributedSGDRegressor(loss, random_state=0, n_shards="blocks")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*lazy)
    best = sgd_objective(DistributedGDRegressor(loss, tol=1e-8).fit(X, y), X, y)
    excess = sgd_objective(model, X, y) / best - 1.0
    assert excess <= model.duality_gap_ + 1e-9
    assert excess <= 1e-3 or caught or not model.converged_


# 9. Losses that can be brought to zero, and small tables with weights over twelve decades.


@pytest.mark.parametrize("loss", ["epsilon_insensitive", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("penalty", ["l2", "l1", None])
@pytest.mark.parametrize("alpha", [1e-8, 1e-4])
@pytest.mark.parametrize("scale", [0.2, 10.0])
def test_a_tube_wider_than_all_residuals(loss, penalty, alpha, scale):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 8))
    y = X @ rng.standard_normal(8) + 0.1 * rng.standard_normal(500)
    kind = {"loss": loss, "penalty": penalty, "epsilon": scale * y.std()}
    model = DistributedGDRegressor(**kind, alpha=alpha).fit(X, y)
    assert model.converged_
    assert model.duality_gap_ <= 1e-6 or penalty is None
    if penalty is None or scale > 5.0:
        assert model.loss_curve_[-1] <= 1e-8 * y.std()


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
@pytest.mark.parametrize("C", [1e-2, 1.0, 100.0])
def test_small_tables_with_weights_over_twelve_decades(load, loss, C):
    X, y = load(return_X_y=True)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y > 0).astype(float)
    weight = 10.0 ** np.random.default_rng(0).uniform(-6, 6, len(y))
    model = DistributedLinearSVC(loss=loss, C=C).fit(X, y, weight)
    assert model.converged_
    assert model.n_iter_ <= 200
    assert certify(model, X, y, weight) <= 1e-4


# 10. Columns scaled over six decades.


@pytest.mark.parametrize("solver", ["auto", "dual"])
@pytest.mark.parametrize("engine", ["memory", "dask", "cluster", "streaming"])
def test_columns_over_six_decades(request, small_cluster, engine, solver):
    table = tables.load("six_decades")
    X, y = table.X, table.labels
    model = DistributedLinearSVC(loss="hinge", C=100.0, solver=solver)
    if engine == "cluster":
        request.getfixturevalue("client")
    if engine == "streaming":
        with small_cluster.as_current():
            model.fit(*chunked(X, y, 6))
    else:
        model.fit(*((X, y) if engine == "memory" else chunked(X, y, 6)))
    assert model.converged_
    assert certify(model, X, y) <= 1e-4


# 11. The twins' habits.


def test_sparsify_and_densify():
    X, y = gaussian_classes(200, 4)
    model = DistributedLinearSVC().fit(X, y)
    expected = model.predict(X)
    assert sp.issparse(model.sparsify().coef_)
    np.testing.assert_array_equal(model.predict(X), expected)
    assert isinstance(model.densify().coef_, np.ndarray)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_sgd_takes_what_scikit_learn_takes():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 4))
    y = X @ [1.0, 2.0, 3.0, 4.0]
    DistributedSGDRegressor(l1_ratio=None, random_state=0).fit(X, y)
    model = DistributedSGDRegressor(random_state=0)
    model.fit(X, y, coef_init=np.array([1.0, 2.0, 3.0, 4.0]), intercept_init=0.0)
    np.testing.assert_allclose(model.coef_, [1.0, 2.0, 3.0, 4.0], atol=0.05)
    DistributedSGDRegressor(
        learning_rate="invscaling", eta0=1e-4, power_t=-0.1, max_iter=2, tol=None, random_state=0
    ).fit(X, y)


@pytest.mark.parametrize("estimator", [DistributedGDRegressor, DistributedSGDRegressor])
def test_a_single_column_of_targets(estimator):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 4))
    y = X @ [[1.0], [2.0], [3.0], [4.0]]
    shape = Ridge().fit(X, y).coef_.shape
    assert estimator().fit(X, y).coef_.shape == shape == (4,)
