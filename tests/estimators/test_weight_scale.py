"""Weights are relative: their unit changes nothing, not even the number of iterations."""

from itertools import product

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml import DistributedGDRegressor

CASES = [
    (loss, solver, penalty)
    for loss, solver, penalty in product(
        reference.LOSSES,
        ("statistics", "newton", "lbfgs", "accelerated", "gd"),
        ("l2", "elasticnet", None),
    )
    if not (solver == "statistics" and loss != "squared_error")
    and not (solver == "lbfgs" and penalty == "elasticnet")
]
X, Y, WEIGHT = reference.table(60, 4)


@pytest.mark.parametrize(("loss", "solver", "penalty"), CASES)
@settings(max_examples=3)
@given(unit=st.integers(-10, 10).map(lambda k: 4.0**k) | st.floats(1e-6, 1e6))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_unit_of_weights_changes_nothing(loss, solver, penalty, unit):
    # Powers of four, and their roots, do not round; what others do must not grow too far.
    exact = np.log2(unit).is_integer() and np.log2(unit) % 2 == 0
    max_iter = 60 if exact else 15
    params = {"solver": solver, "penalty": penalty, "alpha": 0.01, "max_iter": max_iter}
    one = DistributedGDRegressor(loss, **params).fit(X, Y, WEIGHT)
    other = DistributedGDRegressor(loss, **params).fit(X, Y, WEIGHT * unit)
    assert other.n_iter_ == one.n_iter_
    assert other.n_rounds_ == one.n_rounds_
    np.testing.assert_allclose(other.coef_, one.coef_, rtol=0.0 if exact else 1e-7, atol=0.0)
