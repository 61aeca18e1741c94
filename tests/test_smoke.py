"""Every estimator fits and predicts once: ``pytest -m smoke``, half a minute."""

import pickle

import dask.array as da
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from dask_dml import (
    DistributedGDRegressor,
    DistributedGDRegressorCV,
    DistributedLinearSVC,
    DistributedSGDRegressor,
)
from dask_dml.preprocessing import DistributedStandardScaler

pytestmark = pytest.mark.smoke
X, Y = load_diabetes(return_X_y=True)
X, Y = X / X.std(axis=0), Y / Y.std()
IRIS = load_iris(return_X_y=True)


def lazy(X, y):
    return da.from_array(X, chunks=(60, -1)), da.from_array(y, chunks=50)


@pytest.mark.parametrize("containers", [lambda X, y: (X, y), lazy], ids=["memory", "cluster"])
@pytest.mark.parametrize(
    "model",
    [
        DistributedGDRegressor(alpha=1e-4),
        DistributedGDRegressor("huber", alpha=1e-4),
        DistributedGDRegressorCV(alphas=10, penalty="l1"),
        DistributedSGDRegressor(random_state=0, alpha=1e-4),
    ],
    ids=str,
)
def test_regression(model, containers, client):
    x, y = containers(X, Y)
    model = pickle.loads(pickle.dumps(model.fit(x, y)))
    best = Ridge(alpha=1e-4 * len(Y)).fit(X, Y).score(X, Y)
    assert best - 0.03 < model.score(x, y) < best + 1e-3
    np.testing.assert_allclose(model.to_sklearn().predict(X), np.asarray(model.predict(x)))


@pytest.mark.parametrize("containers", [lambda X, y: (X, y), lazy], ids=["memory", "cluster"])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_classification(loss, containers, client):
    x, y = containers(*IRIS)
    model = DistributedLinearSVC(loss=loss).fit(x, y)
    theirs = LinearSVC(loss=loss, tol=1e-6, max_iter=100_000, dual=True, random_state=0).fit(*IRIS)
    assert model.score(x, y) >= theirs.score(*IRIS) - 0.01


def test_scaling(client):
    x, _ = lazy(X, Y)
    np.testing.assert_allclose(
        DistributedStandardScaler().fit_transform(x).compute().std(axis=0), 1.0
    )
