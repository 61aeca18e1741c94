"""Scores and predictions by cross-validation, against scikit-learn's functions."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn import model_selection as theirs
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dask_dml import DistributedGDRegressor, DistributedLinearSVC
from dask_dml import model_selection as ours
from dask_dml.preprocessing import DistributedStandardScaler

RNG = np.random.default_rng(4)
N = 150
X = RNG.normal([0.0, 5.0, 0.0, 0.0], size=(N, 4))
Y = X @ [1.0, 2.0, 0.0, -1.0] + RNG.normal(size=N)
CODES = np.digitize(Y, [9.0, 11.0])
NAMES = np.array(["low", "middle", "high"])[CODES]
SIZES = (60, 0, 50, 40)


def lazily(array, kind):
    if kind == "frame":
        if array.ndim == 1:
            return dd.from_pandas(pd.Series(array), npartitions=3)
        return dd.from_pandas(pd.DataFrame(array, columns=list("abcd")), npartitions=3)
    chunked = da.from_array(array, chunks=(SIZES, *array.shape[1:]))
    return chunked[da.ones(N, dtype=bool, chunks=(SIZES,))] if kind == "unknown" else chunked


MODELS = [
    (DistributedGDRegressor("huber", tol=1e-9), Y),
    (make_pipeline(DistributedStandardScaler(), DistributedGDRegressor()), np.column_stack([Y, X])),
    (DistributedLinearSVC(tol=1e-9), CODES),
]


@pytest.mark.parametrize(("model", "y"), MODELS, ids=["alone", "pipeline", "classes"])
@pytest.mark.parametrize("cv", [3, KFold(4, shuffle=True, random_state=0)], ids=str)
def test_the_same_as_scikit_learns(model, y, cv):
    options = {"cv": cv, "return_train_score": True, "return_estimator": True}
    expected = theirs.cross_validate(model, X, y, **options)
    predicted = theirs.cross_val_predict(model, X, y, cv=cv)
    found = ours.cross_validate(model, X, y, **options)
    assert found.keys() == expected.keys()
    for name in ("test_score", "train_score"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    np.testing.assert_allclose(ours.cross_val_score(model, X, y, cv=cv), expected["test_score"])
    np.testing.assert_allclose(ours.cross_val_predict(model, X, y, cv=cv), predicted, rtol=1e-6)
    for kind in ("array", "unknown", "frame"):
        if kind == "frame" and y.ndim == 2:
            continue
        lazy = lazily(X, kind), lazily(y, kind)
        scores = ours.cross_val_score(model, *lazy, cv=cv)
        np.testing.assert_allclose(scores, expected["test_score"], rtol=1e-6)
        lazy_predicted = ours.cross_val_predict(model, *lazy, cv=cv)
        np.testing.assert_allclose(lazy_predicted.compute(), predicted, rtol=1e-6)


def test_on_a_cluster(client):
    model = DistributedGDRegressor()
    lazy = lazily(X, "array").persist(), lazily(Y, "array").persist()
    found = ours.cross_val_predict(model, *lazy, cv=3)
    np.testing.assert_allclose(found.compute(), theirs.cross_val_predict(model, X, Y, cv=3))


def test_decisions_names_groups_and_weights():
    model, groups = DistributedLinearSVC(tol=1e-9), RNG.integers(0, 8, N)
    decided = ours.cross_val_predict(model, X, NAMES, cv=3, method="decision_function")
    expected = theirs.cross_val_predict(model, X, NAMES, cv=3, method="decision_function")
    np.testing.assert_allclose(decided, expected, atol=1e-6)
    options = {"cv": GroupKFold(3), "groups": groups, "scoring": "f1_macro"}
    np.testing.assert_allclose(
        ours.cross_val_score(model, X, NAMES, **options),
        theirs.cross_val_score(model, X, NAMES, **options),
    )
    weight = RNG.uniform(0.1, 2.0, N)
    weighted = ours.cross_val_score(
        DistributedGDRegressor(), X, Y, cv=KFold(3), params={"sample_weight": weight}
    )
    for (train, test), score in zip(KFold(3).split(X), weighted, strict=True):
        alone = DistributedGDRegressor().fit(X[train], Y[train], weight[train])
        assert score == pytest.approx(alone.score(X[test], Y[test], weight[test]))


def test_any_estimator():
    model = make_pipeline(StandardScaler(), Ridge())
    np.testing.assert_allclose(
        ours.cross_val_predict(model, X, Y), theirs.cross_val_predict(model, X, Y)
    )


def test_what_cannot_be():
    with pytest.raises(ValueError, match="only works for partitions"):
        ours.cross_val_predict(DistributedGDRegressor(), X, Y, cv=ShuffleSplit(3, random_state=0))
    with pytest.raises(ValueError, match="takes one scorer"):
        ours.cross_val_score(DistributedGDRegressor(), X, Y, scoring=["r2"])
    with pytest.raises(ValueError, match="alpha"):
        ours.cross_val_predict(DistributedGDRegressor(alpha=-1.0), X, Y)
