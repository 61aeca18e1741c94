"""All weights times a factor and C divided by it: the same fit, iteration by iteration."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml import DistributedLinearSVC

KINDS = {
    "hinge": {"loss": "hinge"},
    "hinge, free": {"loss": "hinge", "intercept_scaling": None},
    "squared": {},
    "squared, free": {"intercept_scaling": None},
    "l1": {"penalty": "l1"},
}


def table(shape):
    rng = np.random.default_rng(0)
    if shape == "wide":
        X = sp.random_array((60, 2500), density=0.02, rng=rng, format="csr")
    else:
        X = rng.standard_normal((400 if shape == "narrow" else 40, 6 if shape == "narrow" else 150))
    y = X @ rng.standard_normal(X.shape[1]) + 0.3 * rng.standard_normal(X.shape[0]) > 0.0
    return X, y, 10.0 ** rng.uniform(-2, 2, len(y))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["auto", "dual", "newton"])
@pytest.mark.parametrize("shape", ["narrow", "few rows", "wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_unit_of_weights_changes_nothing(kind, shape, solver):
    kind = KINDS[kind] | {"solver": solver, "max_iter": 40, "random_state": 0}
    narrow_and_free = shape == "narrow" and "intercept_scaling" in kind and "loss" not in kind
    if solver == "dual" and ("penalty" in kind or narrow_and_free):
        return  # refused
    X, y, weight = table(shape)
    one = DistributedLinearSVC(C=3.0, **kind).fit(X, y, weight)
    for exponent in (-30, 30):  # powers of two do not round
        unit = 4.0 ** (exponent // 2)
        other = DistributedLinearSVC(C=3.0 / unit, **kind).fit(X, y, weight * unit)
        assert (other.n_iter_, other.n_rounds_) == (one.n_iter_, one.n_rounds_)
        assert other.solver_ == one.solver_
        assert other.duality_gap_ == one.duality_gap_
        np.testing.assert_array_equal(other.coef_, one.coef_)
        np.testing.assert_array_equal(other.intercept_, one.intercept_)
