"""Fits with variance reduction reach the optimum, whatever the nodes' rows are."""

import warnings

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor

ALPHA = 1e-4


def conditioned(n=20_000, p=20, condition=1e3, seed=0):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((p, p)))[0]
    X = rng.standard_normal((n, p)) * np.sqrt(np.geomspace(1.0, 1.0 / condition, p)) @ rotation
    return X, X @ rng.standard_normal(p) + 0.2 * rng.standard_normal(n)


def objective(X, y, model):
    residual = y - X @ model.coef_ - model.intercept_
    return 0.5 * np.mean(residual**2) + 0.5 * ALPHA * model.coef_ @ model.coef_


def optimum(X, y):
    centred = X - X.mean(axis=0)
    matrix = centred.T @ centred / len(y) + ALPHA * np.eye(X.shape[1])
    coef = np.linalg.solve(matrix, centred.T @ (y - y.mean()) / len(y))
    residual = y - y.mean() - centred @ coef
    return 0.5 * np.mean(residual**2) + 0.5 * ALPHA * coef @ coef


def chunked(X, y, sizes):
    return da.from_array(X, chunks=(sizes, (X.shape[1],))), da.from_array(y, chunks=(sizes,))


def sizes_of(n, n_nodes, layout):
    if "uneven" not in layout or n_nodes == 1:
        return tuple(np.diff(np.linspace(0, n, n_nodes + 1).astype(int)).tolist())
    rest = np.diff(np.linspace(0, n // 10, n_nodes).astype(int)).tolist()
    return (n - sum(rest), *rest)


@pytest.mark.parametrize("n_nodes", [1, 2, 4, 16])
@pytest.mark.parametrize("layout", ["shuffled", "sorted", "uneven", "uneven sorted"])
def test_thirty_passes_suffice(n_nodes, layout):
    X, y = conditioned()
    if "sorted" in layout:
        order = np.argsort(y)
        X, y = X[order], y[order]
    model = DistributedSGDRegressor(
        alpha=ALPHA, max_iter=30, tol=None, random_state=0, n_shards="blocks"
    ).fit(*chunked(X, y, sizes_of(len(y), n_nodes, layout)))
    assert model.n_iter_ <= 30
    assert objective(X, y, model) <= (1.0 + 1e-6) * optimum(X, y)
    assert model.duality_gap_ >= objective(X, y, model) / optimum(X, y) - 1.0 - 1e-12


@pytest.mark.parametrize("n_passes", [5, 20])
@pytest.mark.parametrize("layout", ["shuffled", "sorted"])
def test_no_worse_than_scikit_learn(n_passes, layout):
    X, y = conditioned(condition=30.0)
    order = np.argsort(y) if layout == "sorted" else np.arange(len(y))
    X, y = X[order] / X.std(axis=0), y[order]
    best = optimum(X, y)
    theirs = SGDRegressor(alpha=ALPHA, max_iter=n_passes, tol=None, random_state=0).fit(X, y)
    bar = max(1.05 * (objective(X, y, theirs) / best - 1.0), 1e-3)
    for n_shards in (1, 2, 4):
        ours = DistributedSGDRegressor(
            alpha=ALPHA, max_iter=n_passes, tol=None, random_state=0, n_shards=n_shards
        ).fit(X, y)
        assert objective(X, y, ours) / best - 1.0 <= bar
        assert ours.n_iter_ <= n_passes


def test_averaging_alone_goes_astray_where_the_nodes_differ():
    X, y = conditioned()
    order = np.argsort(y)
    X, y = X[order], y[order]
    errors = [
        objective(X, y, model) / optimum(X, y) - 1.0
        for reduction in (None, "svrg")
        for model in [
            DistributedSGDRegressor(
                alpha=ALPHA, max_iter=20, tol=None, random_state=0, n_shards=4,
                variance_reduction=reduction,
            ).fit(X, y)
        ]
    ]  # fmt: skip
    assert errors[0] > 0.1
    assert errors[1] < 1e-5


@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize(
    "loss", ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
)
def test_every_loss_and_penalty(loss, penalty, sparse, n_shards):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((2000, 8))
    if sparse:
        X = sp.csr_array(X * (rng.random(X.shape) < 0.3))
    y = X @ np.array([2.0, -1.0, 0.5, 0, 0, 0, 0, 0]) + 1.0 + 0.3 * rng.standard_normal(2000)
    same = {"loss": loss, "penalty": penalty, "alpha": 0.01, "l1_ratio": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of gaps that hardly can be closed
        exact = DistributedGDRegressor(**same, tol=1e-8).fit(X, y)
    model = DistributedSGDRegressor(
        **same, max_iter=60, tol=None, random_state=0, n_shards=n_shards
    ).fit(X, y)
    best = exact.loss_curve_[-1]
    tolerance = 2e-3 if loss == "epsilon_insensitive" else 1e-5
    assert model.loss_curve_[-1] <= (1.0 + tolerance) * best
    if penalty == "l1" and loss != "epsilon_insensitive":
        np.testing.assert_array_equal(model.coef_ == 0.0, exact.coef_ == 0.0)


def test_neither_scale_nor_offset_of_the_columns_matters():
    X, y = conditioned(n=5000)
    X = X / X.std(axis=0)
    scale, offset = np.geomspace(1e-6, 1e6, 20), np.linspace(-1e5, 1e5, 20)
    model = DistributedSGDRegressor(alpha=0.0, max_iter=40, tol=None, random_state=0)
    plain = model.fit(X, y).predict(X)
    scaled = model.fit(X * scale + scale * offset, y + 1e6).predict(X * scale + scale * offset)
    np.testing.assert_allclose(scaled - 1e6, plain, atol=1e-6 * np.abs(plain).max())


def test_a_row_of_another_size_does_no_harm():
    X, y = conditioned(n=5000)
    X[17] *= 100.0
    y[17] *= 100.0
    model = DistributedSGDRegressor(alpha=ALPHA, max_iter=40, tol=None, random_state=0).fit(X, y)
    assert objective(X, y, model) <= (1.0 + 1e-3) * optimum(X, y)


def test_outputs_are_fitted_as_if_alone():
    X, y = conditioned(n=4000)
    Y = np.column_stack([y, -3.0 * y[::-1], np.cos(y)])
    model = DistributedSGDRegressor(alpha=ALPHA, max_iter=21, tol=None, random_state=0)
    together = model.fit(X, Y).coef_.copy()
    for c in range(3):
        alone = model.fit(X, np.ascontiguousarray(Y[:, c])).coef_
        np.testing.assert_allclose(together[c], alone, rtol=1e-6)


def test_weights_are_repeated_rows():
    X, y = conditioned(n=3000)
    weight = np.random.default_rng(2).integers(0, 4, len(y)).astype(float)
    model = DistributedSGDRegressor(alpha=ALPHA, max_iter=41, tol=None, random_state=0, n_shards=2)
    weighted = model.fit(X, y, weight).coef_.copy()
    repeated = model.fit(np.repeat(X, weight.astype(int), axis=0), np.repeat(y, weight.astype(int)))
    np.testing.assert_allclose(weighted, repeated.coef_, rtol=1e-6, atol=1e-8)


def test_float32_is_good_to_its_digits():
    X, y = conditioned(n=5000)
    model = DistributedSGDRegressor(alpha=ALPHA, max_iter=30, tol=None, random_state=0)
    single = model.fit(X.astype(np.float32), y.astype(np.float32))
    assert single.coef_.dtype == np.float64
    assert objective(X, y, single) <= (1.0 + 1e-6) * optimum(X, y)
