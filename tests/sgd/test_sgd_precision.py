"""Far from zero: targets and columns with an offset lose no more than its rounding."""

import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml import DistributedSGDRegressor

FAR = 1e8


def data(sparse):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 6))
    if sparse:
        X *= rng.random(X.shape) < 0.4
        X[:, 5] = 3.0 + rng.random(len(X))  # a column with an entry in every row
    y = X @ [1.0, -2.0, 0.5, 0.0, 3.0, -1.0] + 0.3 * rng.standard_normal(len(X))
    # Targets that an offset moves without rounding: the same problem, but for the intercept.
    y = np.round(y * 2.0**20) / 2.0**20
    return X, sp.csr_array(X) if sparse else X, y


def model_of(**parameters):
    return DistributedSGDRegressor(
        **{"alpha": 1e-3, "max_iter": 20, "tol": None, "random_state": 0, "n_shards": 2}
        | parameters
    )


def loss(X, y, model, offset=0.0):
    residual = (y - offset) - (X @ model.coef_ + (model.intercept_ - offset))
    return 0.5 * np.mean(residual**2) + 0.5e-3 * model.coef_ @ model.coef_


@pytest.mark.parametrize("name", ["squared_error", "huber", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("sparse", [False, True])
def test_targets_far_from_zero_are_fitted_as_well(sparse, name):
    _, X, y = data(sparse)
    near = model_of(loss=name).fit(X, y)
    far = model_of(loss=name).fit(X, y + FAR)
    # The offset is exact; the mean of the targets is rounded to some 1e-8.
    np.testing.assert_allclose(far.coef_, near.coef_, atol=1e-7)
    assert far.intercept_ - FAR == pytest.approx(near.intercept_, abs=1e-7)
    assert far.loss_curve_[-1] == pytest.approx(near.loss_curve_[-1], rel=1e-7)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_optimum_is_reached_far_from_zero(sparse):
    dense, X, y = data(sparse)
    model = model_of().fit(X, y + FAR)
    centred = dense - dense.mean(axis=0)
    matrix = centred.T @ centred / len(y) + 1e-3 * np.eye(6)
    coef = np.linalg.solve(matrix, centred.T @ (y - y.mean()) / len(y))
    residual = y - y.mean() - centred @ coef
    best = 0.5 * np.mean(residual**2) + 0.5e-3 * coef @ coef
    assert loss(dense, y + FAR, model, FAR) <= (1.0 + 1e-9) * best
    np.testing.assert_allclose(model.coef_, coef, atol=1e-6)


def test_full_sparse_columns_far_from_zero_are_those_of_the_dense_matrix():
    dense, _, y = data(True)
    dense = dense.copy()
    dense[:, 5] = np.round(dense[:, 5] * 2.0**20) / 2.0**20 + FAR
    sparse = model_of().fit(sp.csr_array(dense), y)
    moved = dense.copy()
    moved[:, 5] -= FAR
    near = model_of().fit(moved, y)
    np.testing.assert_allclose(sparse.coef_, near.coef_, atol=1e-6)
    predicted = sparse.predict(dense) - near.predict(moved)
    # A coefficient's rounding counts a hundred million times.
    assert np.abs(predicted).max() < 1e-6


@pytest.mark.parametrize("mode", [{"variance_reduction": None}, {"local_steps": 50}])
@pytest.mark.parametrize("sparse", [False, True])
def test_plain_steps_far_from_zero(sparse, mode):
    _, X, y = data(sparse)
    near, far = (model_of(max_iter=6, **mode).fit(X, y + offset) for offset in (0.0, FAR))
    np.testing.assert_allclose(far.coef_, near.coef_, atol=1e-6)
    assert far.intercept_ - FAR == pytest.approx(near.intercept_, abs=1e-6)
