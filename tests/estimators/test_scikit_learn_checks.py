"""scikit-learn's own conformance checks; those of more configurations are beside the solvers.

The only exceptions are the two checks that weights are repetitions, where a fit draws rows at
random: whether seven digits agree then depends on the table and the machine.
"""

import warnings

import pytest
from reference import LOSSES
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    check_sample_weight_equivalence_on_sparse_data,
    parametrize_with_checks,
)

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor

CONFIGURATIONS = [
    DistributedGDRegressor(),
    DistributedGDRegressor(penalty="l1", alpha=0.01),
    DistributedGDRegressor(penalty=None),
    DistributedGDRegressor(fit_intercept=False, n_shards=3, warm_start=True),
    DistributedGDRegressor("huber"),
    DistributedGDRegressor("epsilon_insensitive", alpha=0.1),
    DistributedGDRegressor("squared_epsilon_insensitive", penalty="elasticnet"),
    DistributedGDRegressor(solver="newton"),
    DistributedGDRegressor("huber", solver="lbfgs"),
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


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "check",
    [
        check_sample_weight_equivalence_on_dense_data,
        check_sample_weight_equivalence_on_sparse_data,
    ],
)
def test_weights_are_repetitions_to_the_last_digit(loss, penalty, check):
    # With a kink in the loss and a weak L2 penalty tol leaves more digits open than the check.
    strong = loss == "epsilon_insensitive" and penalty in ("l2", "elasticnet")
    alpha, tol = (0.1, 1e-12) if strong else (1e-4, 1e-6)
    estimator = DistributedGDRegressor(loss, penalty=penalty, alpha=alpha, tol=tol)
    with warnings.catch_warnings():
        # More columns than rows, and a penalty too weak for a certificate.
        warnings.simplefilter("ignore", ConvergenceWarning)
        check("DistributedGDRegressor", estimator)


CLASSIFIERS = [
    DistributedLinearSVC(class_weight="balanced", warm_start=True),
    DistributedLinearSVC(n_shards=2, intercept_scaling=10.0),
    DistributedLinearSVC(loss="hinge", penalty="l2", C=0.1, n_jobs=1),
]


@parametrize_with_checks(CLASSIFIERS)
def test_scikit_learns_checks_of_the_classifier(estimator, check):
    check(estimator)


RANDOM = [
    DistributedLinearSVC(loss="hinge", C=0.1, solver="dual"),
    DistributedSGDRegressor(penalty="l1", n_shards=2, warm_start=True),
    DistributedSGDRegressor("epsilon_insensitive", fit_intercept=False, random_state=0),
]


def depends_on_the_rows_number(estimator):
    """Return the checks that a stochastic fit cannot pass, with the reason."""
    if isinstance(estimator, DistributedLinearSVC):
        reason = "solver='dual' visits rows in random order: equal within tol, not in each digit"
    else:
        reason = "which rows are drawn depends on how many there are"
    kinds = ("dense", "sparse")
    return {f"check_sample_weight_equivalence_on_{kind}_data": reason for kind in kinds}


@parametrize_with_checks(RANDOM)
def test_scikit_learns_checks_of_stochastic_fits(estimator, check):
    excused = depends_on_the_rows_number(estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            check(estimator)
        except AssertionError:
            if check.func.__name__ not in excused:
                raise
            pytest.xfail(excused[check.func.__name__])
