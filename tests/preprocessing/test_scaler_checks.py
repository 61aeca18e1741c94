"""scikit-learn's own conformance checks of the scaler, without exceptions."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from dask_dml.preprocessing import DistributedStandardScaler

# With copy=False StandardScaler itself cannot pass: the checks compare with what it overwrote.
CONFIGURATIONS = [
    DistributedStandardScaler(),
    DistributedStandardScaler(with_mean=False),
    DistributedStandardScaler(with_std=False),
]


@parametrize_with_checks(CONFIGURATIONS)
def test_scikit_learns_checks_of_the_scaler(estimator, check):
    check(estimator)
