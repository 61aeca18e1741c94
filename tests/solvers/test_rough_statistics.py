"""Float32 rows of many columns: rough products, corrected, give the digits of exact ones."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml import DistributedGDRegressor
from dask_dml.blocks import Shard, frozen
from dask_dml.model_selection import cross_val_predict
from dask_dml.passes import evaluate
from dask_dml.passes.evaluate import rough_statistics, statistics

P = 60


@pytest.fixture(autouse=True)
def few_columns_are_many(monkeypatch):
    monkeypatch.setattr(evaluate, "ROUGH_COLUMNS", P)


def table(n_rows=1500, decades=1.0, n_outputs=1):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, P))
    X[:, 1:] += X[:, :1]  # correlated columns
    X = (X * np.logspace(0, -decades, P) + 3.0).astype(np.float32)
    y = X[:, :30].sum(axis=1, keepdims=True) + rng.standard_normal((n_rows, n_outputs))
    return X, y[:, 0] if n_outputs == 1 else y, rng


def shard(X):
    return Shard(0, (frozen(X, np.zeros((len(X), 1)), None, ((0, len(X)),)),))


def test_products_are_rough_for_wide_float32_rows_only():
    X = table(300)[0]
    found, exact = rough_statistics(shard(X), None), statistics(shard(X), None)
    assert found.rough
    assert not exact.rough
    assert (found + found).rough
    scale = np.sqrt(np.outer(exact.square, exact.square))
    error = np.abs(np.tril(found.products - exact.products) / scale).max()
    assert 1e-10 < error < 1e-5
    for other in (X.astype(np.float64), X[:, : P - 1].copy()):
        assert not rough_statistics(shard(other), None).rough
    rows = sp.csr_array(X)
    block = frozen(rows, np.zeros((len(X), 1)), None, ((0, len(X)),))
    assert not rough_statistics(Shard(0, (block,)), None).rough


@pytest.mark.parametrize("engine", ["memory", "dask"])
@pytest.mark.parametrize("penalty", ["l2", "elasticnet"])
def test_coefficients_have_the_digits_of_exact_products(penalty, engine):
    X, y, rng = table(n_outputs=2)
    weight = 10.0 ** rng.uniform(-3, 3, len(X))
    model = DistributedGDRegressor(penalty=penalty, alpha=1e-2, tol=1e-8)
    exact = DistributedGDRegressor(penalty=penalty, alpha=1e-2, tol=1e-8)
    exact.fit(X.astype(np.float64), y, weight)
    if engine == "dask":
        X, y, weight = (
            da.from_array(part, chunks=(400, *part.shape[1:])) for part in (X, y, weight)
        )
    model.fit(X, y, weight)
    assert exact.n_rounds_ == 1
    assert 3 <= model.n_rounds_ <= 6
    assert model.converged_
    scale = np.abs(exact.coef_).max()
    np.testing.assert_allclose(model.coef_, exact.coef_, rtol=0, atol=1e-7 * scale)
    np.testing.assert_allclose(model.intercept_, exact.intercept_, rtol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1e20])
def test_what_cannot_be_corrected_is_computed_exactly(factor):
    """Columns that depend on each other, and squares beyond what single precision holds."""
    X, y, _ = table(1200)
    X[:, 1] = X[:, 0]
    X *= np.float32(factor)
    model = DistributedGDRegressor(penalty=None).fit(X, y)
    exact = DistributedGDRegressor(penalty=None).fit(X.astype(np.float64), y)
    assert model.converged_
    expected = exact.predict(X.astype(np.float64))
    np.testing.assert_allclose(model.predict(X), expected, rtol=0, atol=1e-4 * np.abs(y).max())


def test_folds_share_rough_products():
    X, y, _ = table(1500)
    model = DistributedGDRegressor(alpha=1e-2)
    found = cross_val_predict(model, X, y, cv=3)
    expected = cross_val_predict(model, X.astype(np.float64), y, cv=3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(y).max())
