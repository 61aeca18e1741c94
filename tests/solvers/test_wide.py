"""More columns than second moments are gathered for."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import Ridge

from dask_dml import DistributedGDRegressor


def test_wide_ridge_has_scikit_learns_coefficients():
    rng = np.random.default_rng(0)
    X = sp.random_array((1500, 2500), density=0.005, rng=rng, format="csr")
    y = X @ rng.standard_normal(2500) + rng.standard_normal(1500) + 3.0
    model = DistributedGDRegressor().fit(X, y)
    other = Ridge(1e-4 * 1500, solver="sparse_cg", tol=1e-14, max_iter=100_000).fit(X, y)
    assert model.solver_ == "lbfgs"
    scale = np.abs(other.coef_).max()
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-5 * scale, rtol=0)


def test_columns_that_never_occur_change_nothing():
    rng = np.random.default_rng(1)
    X = sp.random_array((400, 300), density=0.05, rng=rng, format="csr")
    y = X @ rng.standard_normal(300) + rng.standard_normal(400)
    wide = sp.hstack([X, sp.csr_array((400, 5000))], format="csr")
    alone = DistributedGDRegressor(solver="lbfgs", tol=1e-12).fit(X, y)
    model = DistributedGDRegressor(solver="lbfgs", tol=1e-12).fit(wide, y)
    np.testing.assert_allclose(model.coef_[:300], alone.coef_, rtol=1e-6, atol=1e-8)
    assert not model.coef_[300:].any()
