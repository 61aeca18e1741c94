"""scikit-learn's own conformance checks, without exceptions."""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from dask_dml import DistributedGDRegressor

CONFIGURATIONS = [
    DistributedGDRegressor(),
    DistributedGDRegressor(penalty="l1", alpha=0.01),
    DistributedGDRegressor(penalty=None),
    DistributedGDRegressor("huber"),
    DistributedGDRegressor("epsilon_insensitive", alpha=0.1),
    DistributedGDRegressor("squared_epsilon_insensitive", penalty="elasticnet"),
    DistributedGDRegressor(solver="newton"),
    DistributedGDRegressor(solver="lbfgs"),
    DistributedGDRegressor(solver="accelerated", penalty="l1"),
    DistributedGDRegressor(solver="gd"),
    DistributedGDRegressor(solver="gd", learning_rate="backtracking", aggregation="uniform"),
]


@parametrize_with_checks(CONFIGURATIONS)
def test_scikit_learns_checks_of_the_regressor(estimator, check):
    with warnings.catch_warnings():
        # The checks' unscaled tables take plain gradient descent long.
        if estimator.solver in ("gd", "accelerated"):
            warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)
