"""scikit-learn's meta-estimators around the package's, on data in memory."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - it enables the import
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OneHotEncoder

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor

RNG = np.random.default_rng(3)
N = 300
X = RNG.standard_normal((N, 4)) * (RNG.random((N, 4)) < 0.7)
Y = X @ [1.0, -2.0, 0.0, 3.0] + 4.0 + 0.1 * RNG.standard_normal(N)
LABELS = np.array(["low", "mid", "top"])[np.digitize(Y, [2.0, 6.0])]

CONTAINERS = {
    "numpy": lambda X: X,
    "pandas": lambda X: pd.DataFrame(X, columns=list("abcd")),
    "csr": sp.csr_array,
}
REGRESSORS = {
    "gd": DistributedGDRegressor(),
    "sgd": DistributedSGDRegressor(random_state=0, tol=1e-6),
}
container = pytest.mark.parametrize("container", CONTAINERS)
regressor = pytest.mark.parametrize("name", REGRESSORS)


def search_kinds(estimator, grid):
    kind = {"cv": 3, "error_score": "raise"}
    return [
        GridSearchCV(estimator, grid, **kind),
        RandomizedSearchCV(estimator, grid, n_iter=2, random_state=0, **kind),
        HalvingGridSearchCV(estimator, grid, min_resources=120, factor=2, random_state=0, **kind),
    ]


def _cube(values):
    return values**3


AROUND_REGRESSORS = {
    "pipeline": lambda est: make_pipeline(MaxAbsScaler(), est),
    "target": lambda est: TransformedTargetRegressor(est, transformer=MaxAbsScaler()),
    "cube": lambda est: TransformedTargetRegressor(est, func=np.cbrt, inverse_func=_cube),
    "bagging": lambda est: BaggingRegressor(est, n_estimators=3, random_state=0),
    "stacking": lambda est: StackingRegressor([("a", est), ("b", Ridge())], final_estimator=est),
    "voting": lambda est: VotingRegressor([("a", est), ("b", Ridge())]),
    "selection": lambda est: make_pipeline(SelectFromModel(est, threshold=0.5), est),
}


@container
@regressor
@pytest.mark.parametrize("around", AROUND_REGRESSORS)
def test_around_regressors(around, name, container):
    data = CONTAINERS[container](X)
    target = Y**3 if around == "cube" else Y
    model = AROUND_REGRESSORS[around](REGRESSORS[name]).fit(data, target)
    assert model.score(data, target) > 0.99
    assert model.predict(data).shape == (N,)


@container
@regressor
def test_several_outputs(name, container):
    data = CONTAINERS[container](X)
    both = np.column_stack([Y, -3 * Y + X[:, 0]])
    each = MultiOutputRegressor(REGRESSORS[name]).fit(data, both)
    np.testing.assert_allclose(
        each.predict(data), REGRESSORS[name].fit(data, both).predict(data), rtol=0.01, atol=0.02
    )
    chain = RegressorChain(REGRESSORS[name], order=[0, 1]).fit(data, both)
    assert chain.score(data, both) > 0.99


@container
def test_searches_and_validation_of_regressors(container):
    data = CONTAINERS[container](X)
    model = DistributedGDRegressor()
    plain = cross_val_score(Ridge(alpha=1e-4 * N * 2 / 3), X, Y, cv=3)
    np.testing.assert_allclose(cross_val_score(model, data, Y, cv=3), plain, rtol=1e-6)
    for search in search_kinds(model, {"alpha": [1e-4, 10.0]}):
        assert search.fit(data, Y).best_params_ == {"alpha": 1e-4}
    result = cross_validate(model, data, Y, cv=3, scoring=("r2", "neg_max_error"))
    np.testing.assert_allclose(result["test_r2"], plain, rtol=1e-6)
    _, train, test = learning_curve(model, data, Y, cv=3, train_sizes=[0.5, 1.0])
    assert train.min() > 0.9
    assert test.min() > 0.9


AROUND_CLASSIFIERS = {
    "pipeline": lambda est: make_pipeline(MaxAbsScaler(), est),
    "calibrated": lambda est: CalibratedClassifierCV(est, cv=3),
    "one against the rest": OneVsRestClassifier,
    "one against one": OneVsOneClassifier,
    "bagging": lambda est: BaggingClassifier(est, n_estimators=3, random_state=0),
    "stacking": lambda est: StackingClassifier(
        [("a", est)], final_estimator=LogisticRegression(C=100.0)
    ),
}


@container
@pytest.mark.parametrize("around", AROUND_CLASSIFIERS)
def test_around_classifiers(around, container):
    data = CONTAINERS[container](X)
    model = AROUND_CLASSIFIERS[around](DistributedLinearSVC(C=10.0)).fit(data, LABELS)
    assert model.score(data, LABELS) > (0.9 if around == "one against one" else 0.75)
    assert list(model.classes_) == ["low", "mid", "top"]
    if around == "calibrated":
        np.testing.assert_allclose(model.predict_proba(data).sum(axis=1), 1.0)


@container
def test_searches_of_classifiers(container):
    data = CONTAINERS[container](X)
    for search in search_kinds(DistributedLinearSVC(), {"C": [1e-4, 1.0]}):
        assert search.fit(data, LABELS).best_params_ == {"C": 1.0}
    assert cross_val_score(DistributedLinearSVC(), data, LABELS, scoring="f1_macro").min() > 0.5


@regressor
def test_column_transformer_in_front(name):
    """Names of columns go through, dense and sparse results alike."""
    town = RNG.choice(["x", "y", "z"], N)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(town=town)
    target = Y + np.where(town == "x", 5.0, 0.0)
    for sparse in (False, True):
        columns = ColumnTransformer(
            [
                ("towns", OneHotEncoder(sparse_output=sparse), ["town"]),
                ("numbers", FunctionTransformer(), list("abcd")),
            ],
            sparse_threshold=1.0,
        )
        if not sparse:
            columns.set_output(transform="pandas")
        model = make_pipeline(columns, REGRESSORS[name]).fit(frame, target)
        assert model.score(frame, target) > 0.99
        assert hasattr(model[-1], "feature_names_in_") == (not sparse)


def test_numpy_targets_come_with_dask_data():
    """TransformedTargetRegressor computes y, but leaves X as it is."""
    dX, dy = da.from_array(X, chunks=(100, 4)), da.from_array(Y**3, chunks=100)
    model = TransformedTargetRegressor(DistributedGDRegressor(), func=np.cbrt, inverse_func=_cube)
    plain = clone(model).fit(X, Y**3)
    for target in (Y**3, dy):
        lazy = clone(model).fit(dX, target)
        np.testing.assert_allclose(lazy.regressor_.coef_, plain.regressor_.coef_, rtol=1e-8)
        # It computes the predictions, to take them back through the function.
        np.testing.assert_allclose(lazy.predict(dX), plain.predict(X), rtol=1e-8)
        assert lazy.score(dX, target) == pytest.approx(plain.score(X, Y**3))
