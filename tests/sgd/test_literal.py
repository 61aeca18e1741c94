"""The textbook's algorithm, step by step, against ten lines of NumPy."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml import DistributedSGDRegressor
from dask_dml.kernels.sgd_rows import draws

N_ROWS = 37


@pytest.fixture(params=["dense", "csr"])
def data(request):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N_ROWS, 4)) * (rng.random((N_ROWS, 4)) < 0.7)
    y = X @ [1.0, -2.0, 0.0, 0.5] + 0.3 + 0.1 * rng.standard_normal(N_ROWS)
    return X, y, sp.csr_array(X) if request.param == "csr" else X


def shards(n_rows, n_shards):
    bounds = [n_rows * part // n_shards for part in range(n_shards + 1)]
    return [np.arange(a, b) for a, b in itertools.pairwise(bounds)]


def reference(X, y, nodes, key, *, aggregation, eta, alpha, n_steps, batch=1):
    """Every node draws rows; the gradients are combined; all take the same step."""
    theta = np.zeros(X.shape[1] + 1)
    for t in range(n_steps):
        step = np.zeros_like(theta)
        for number, rows in enumerate(nodes):
            seed = np.random.SeedSequence([key, number, t]).generate_state(1, np.uint64)[0]
            i = rows[draws(seed, batch, len(rows))]
            x = np.column_stack([X[i], np.ones(batch)])
            gradient = x.T @ (x @ theta - y[i]) / batch + alpha * np.append(theta[:-1], 0.0)
            step += gradient * (1.0 if aggregation == "uniform" else len(rows) / len(X))
        theta -= eta * step
    return theta


def key_of(seed):
    return int(np.random.RandomState(seed).randint(2**31 - 1))


@pytest.mark.parametrize("aggregation", ["weighted", "uniform"])
@pytest.mark.parametrize("n_shards", [1, 3])
def test_one_row_per_node_and_step(data, aggregation, n_shards):
    X, y, given = data
    model = DistributedSGDRegressor(
        local_steps=1,
        batch_size=1,
        aggregation=aggregation,
        learning_rate="constant",
        eta0=0.02,
        alpha=0.1,
        max_iter=4,
        tol=None,
        random_state=3,
        n_shards=n_shards,
    ).fit(given, y)
    expected = reference(
        X,
        y,
        shards(N_ROWS, n_shards),
        key_of(3),
        aggregation=aggregation,
        eta=0.02,
        alpha=0.1,
        n_steps=4 * round(N_ROWS / n_shards),
    )
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), expected, rtol=1e-11)
    assert model.n_iter_ == 4


def test_batches(data):
    X, y, given = data
    model = DistributedSGDRegressor(
        local_steps=1, batch_size=5, learning_rate="constant", eta0=0.05, alpha=0.0, max_iter=3,
        tol=None, random_state=0, n_shards=2,
    ).fit(given, y)  # fmt: skip
    expected = reference(
        X, y, shards(N_ROWS, 2), key_of(0), aggregation="weighted", eta=0.05, alpha=0.0,
        n_steps=3 * round(N_ROWS / 10), batch=5,
    )  # fmt: skip
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("learning_rate", "length"),
    [
        ("invscaling", lambda t: 0.05 / t**0.25),
        ("optimal", lambda t: 1.0 / (0.01 * (1.0 / (np.sqrt(10.0) * 0.01) + t - 1.0))),
        ("constant", lambda t: 0.05),
    ],
)
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
def test_schedules_over_the_rows_in_their_order(data, learning_rate, length, penalty):
    X, y, given = data
    model = DistributedSGDRegressor(
        learning_rate=learning_rate, eta0=0.05, alpha=0.01, l1_ratio=0.4, penalty=penalty,
        shuffle=False, max_iter=2, tol=None, n_shards=1,
    ).fit(given, y)  # fmt: skip
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": 0.4}[penalty]
    w, b = np.zeros(4), 0.0
    for t in range(1, 2 * N_ROWS + 1):
        x, eta = X[(t - 1) % N_ROWS], length(t)
        residual = y[(t - 1) % N_ROWS] - x @ w - b
        w = (1.0 - eta * 0.01 * (1.0 - ratio)) * w + eta * residual * x
        w = np.sign(w) * np.maximum(np.abs(w) - eta * 0.01 * ratio, 0.0)
        b += eta * residual
    np.testing.assert_allclose(
        np.append(model.coef_, model.intercept_), np.append(w, b), rtol=1e-10
    )
    assert model.t_ == 2 * N_ROWS + 1


def test_an_average_is_that_of_all_iterates(data):
    X, y, given = data
    model = DistributedSGDRegressor(
        learning_rate="constant", eta0=0.05, alpha=0.01, shuffle=False, max_iter=2, tol=None,
        n_shards=1, average=True,
    ).fit(given, y)  # fmt: skip
    w, b, path = np.zeros(4), 0.0, []
    for i in list(range(N_ROWS)) * 2:
        residual = y[i] - X[i] @ w - b
        w = (1.0 - 0.05 * 0.01) * w + 0.05 * residual * X[i]
        b += 0.05 * residual
        path.append(np.append(w, b))
    expected = np.mean(path, axis=0)
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), expected, rtol=1e-10)


def test_models_are_averaged_by_rows(data):
    X, y, _ = data
    sizes = (30, 7)
    kwargs = {
        "learning_rate": "constant",
        "eta0": 0.01,
        "shuffle": False,
        "max_iter": 1,
        "tol": None,
    }
    import dask.array as da

    together = DistributedSGDRegressor(n_shards="blocks", **kwargs).fit(
        da.from_array(X, chunks=(sizes, (4,))), da.from_array(y, chunks=(sizes,))
    )
    alone = [
        DistributedSGDRegressor(n_shards=1, **kwargs).fit(X[rows], y[rows])
        for rows in (slice(0, 30), slice(30, None))
    ]
    expected = (30 * alone[0].coef_ + 7 * alone[1].coef_) / 37
    np.testing.assert_allclose(together.coef_, expected, rtol=1e-12)
