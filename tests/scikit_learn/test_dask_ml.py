"""dask-ml's wrappers, search and scaler around the package's estimators; where it is installed."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import sklearn.model_selection
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor

pytest.importorskip("dask_ml")

from dask_ml.model_selection import GridSearchCV, train_test_split
from dask_ml.preprocessing import StandardScaler
from dask_ml.wrappers import Incremental, ParallelPostFit

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((600, 4)) * [1.0, 10.0, 0.1, 1.0] + [0.0, 100.0, 0.0, -5.0]
Y = X @ [1.0, 0.2, 3.0, 0.0] + 0.1 * RNG.standard_normal(600)
LABELS = (np.median(Y) < Y).astype(int)

MODELS = {
    "gd": (DistributedGDRegressor(), {"alpha": [1e-4, 1e-1]}, Y),
    "sgd": (DistributedSGDRegressor(random_state=0), {"alpha": [1e-4, 1e-1]}, Y),
    "svc": (DistributedLinearSVC(), {"C": [1e-3, 1e-1]}, LABELS),
}
each = pytest.mark.parametrize("name", MODELS)


def chunked(array):
    return da.from_array(array, chunks=(100, *array.shape[1:]))


@each
def test_parallel_post_fit(name):
    model, _, y = MODELS[name]
    for data, target in ((X, y), (chunked(X), chunked(y))):
        wrapped = ParallelPostFit(clone(model)).fit(data, target)
        plain = clone(model).fit(data, target)
        predicted = wrapped.predict(chunked(X))
        assert isinstance(predicted, da.Array)
        np.testing.assert_allclose(predicted.compute(), plain.predict(X), rtol=1e-9)
        assert wrapped.score(chunked(X), chunked(y)) == pytest.approx(plain.score(X, y))


def test_incremental():
    data = (X - X.mean(0)) / X.std(0)
    wrapped = Incremental(DistributedSGDRegressor(random_state=0)).fit(chunked(data), chunked(Y))
    assert wrapped.score(chunked(data), chunked(Y)) > 0.95
    before = wrapped.coef_.copy()
    wrapped.partial_fit(chunked(data), chunked(Y))
    assert wrapped.score(chunked(data), chunked(Y)) > 0.95
    assert (wrapped.coef_ != before).any()


@each
@pytest.mark.parametrize("make", [lambda array: array, chunked], ids=["numpy", "dask"])
def test_grid_search(name, make):
    model, grid, y = MODELS[name]
    search = GridSearchCV(model, grid, cv=3).fit(make(X), make(y))
    plain = sklearn.model_selection.GridSearchCV(model, grid, cv=3).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, plain.cv_results_["mean_test_score"], rtol=1e-3)
    assert search.best_params_ == plain.best_params_
    assert search.score(X, y) == pytest.approx(plain.score(X, y), rel=1e-3)


@each
@pytest.mark.parametrize("frame", [False, True])
def test_standard_scaler_in_front(name, frame):
    model, _, y = MODELS[name]
    data, target = chunked(X), chunked(y)
    if frame:
        data = dd.from_pandas(pd.DataFrame(X, columns=list("abcd")), npartitions=3)
        target = dd.from_pandas(pd.Series(y), npartitions=3)
    pipeline = make_pipeline(StandardScaler(), clone(model)).fit(data, target)
    plain = clone(model).fit((X - X.mean(0)) / X.std(0), y)
    np.testing.assert_allclose(pipeline[-1].coef_, plain.coef_, rtol=1e-3, atol=1e-3)
    assert pipeline.score(data, target) == pytest.approx(plain.score(
        (X - X.mean(0)) / X.std(0), y), abs=2e-3)  # fmt: skip


@each
def test_train_test_split(name):
    model, _, y = MODELS[name]
    train, test, y_train, y_test = train_test_split(chunked(X), chunked(y), random_state=0)
    assert clone(model).fit(train, y_train).score(test, y_test) > 0.9
