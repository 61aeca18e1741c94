"""Metadata routing: weights reach the transformers that request them, and the estimator."""

from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from dask_dml import DistributedGDRegressor
from dask_dml.compose import DistributedColumnTransformer
from dask_dml.preprocessing import (
    DistributedMinMaxScaler,
    DistributedSimpleImputer,
    DistributedStandardScaler,
)

N = 70
SIZES = (30, 0, 1, 39)
rng = np.random.default_rng(4)
FRAME = pd.DataFrame(
    {
        "level": np.where(rng.random(N) < 0.2, np.nan, rng.normal(5.0, 2.0, N)),
        "depth": rng.normal(100.0, 3.0, N),
    }
)
Y = 3.0 * FRAME["depth"] + rng.normal(size=N)
WEIGHT = np.where(rng.random(N) < 0.2, 0.0, 10.0 ** rng.uniform(-6, 6, N))
OURS = DistributedColumnTransformer, DistributedSimpleImputer, DistributedStandardScaler
THEIRS = ColumnTransformer, SimpleImputer, StandardScaler


@pytest.fixture(autouse=True)
def routing():
    with (
        dask.config.set(scheduler="synchronous"),
        sklearn.config_context(enable_metadata_routing=True),
    ):
        yield


def framed(frame):
    import dask.dataframe as dd

    pairs = list(pairwise(np.cumsum((0, *SIZES))))
    return dd.from_map(lambda pair: frame.iloc[slice(*pair)], pairs, meta=frame.iloc[:0])


def columns(kinds, *, request=True):
    transformer, imputer, scaler = kinds
    low = MinMaxScaler if kinds is THEIRS else DistributedMinMaxScaler
    scaled = scaler().set_fit_request(sample_weight=request)
    return transformer(
        [
            ("a", make_pipeline(imputer(), scaled), ["level"]),
            ("b", scaled, ["depth"]),
            ("c", low(), ["depth"]),
        ]
    )


WEIGHTS = {
    "array": lambda: da.from_array(WEIGHT, chunks=(SIZES,)),
    "other chunks": lambda: da.from_array(WEIGHT, chunks=25),
    "series": lambda: framed(pd.DataFrame({"w": WEIGHT}))["w"],
    "in memory": lambda: WEIGHT,
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_reach_who_requests_them(kind):
    theirs = columns(THEIRS).fit(FRAME, sample_weight=WEIGHT)
    for X in (framed(FRAME), FRAME):
        if X is FRAME and kind != "in memory":
            continue
        mine = columns(OURS).fit(X, sample_weight=WEIGHTS[kind]())
        assert_same(mine, theirs)
    plain = mine.to_sklearn()
    np.testing.assert_allclose(
        plain.transform(FRAME), theirs.transform(FRAME), rtol=1e-9, atol=1e-9
    )


def assert_same(mine, theirs):
    for one, other in zip(mine.transformers_, theirs.transformers_, strict=True):
        a, b = (getattr(t, "_final_estimator", t) for t in (one[1], other[1]))
        for name in ("mean_", "var_", "scale_", "n_samples_seen_", "data_min_"):
            if hasattr(b, name):
                np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9)


def test_a_pipeline_and_a_search_pass_them_on():
    last = DistributedGDRegressor(alpha=1e-3).set_fit_request(sample_weight=True)
    last.set_score_request(sample_weight=True)
    weight = 1.0 + WEIGHT / WEIGHT.max()
    truth = make_pipeline(columns(THEIRS), last).fit(FRAME, Y, sample_weight=weight)
    model = make_pipeline(columns(OURS), last)
    model.fit(framed(FRAME), Y.to_numpy(), sample_weight=weight)
    np.testing.assert_allclose(model[-1].coef_, truth[-1].coef_, rtol=1e-6)
    score = model.score(framed(FRAME), Y.to_numpy(), sample_weight=weight)
    assert score == pytest.approx(truth.score(FRAME, Y, sample_weight=weight), rel=1e-9)
    # Splitters of scikit-learn take arrays.
    rows = FRAME.fillna(0.0).to_numpy()
    by_number = [("b", DistributedStandardScaler().set_fit_request(sample_weight=True), [0, 1])]
    pipeline = make_pipeline(DistributedColumnTransformer(by_number), last)
    grid = {"distributedgdregressor__alpha": [1e-4, 1.0]}
    found = [
        GridSearchCV(pipeline, grid, cv=3).fit(X, Y.to_numpy(), sample_weight=weight).cv_results_
        for X in (da.from_array(rows, chunks=(20, 2)), rows)
    ]
    np.testing.assert_allclose(found[0]["mean_test_score"], found[1]["mean_test_score"], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"sample_weight": np.zeros(N)}, ValueError, "at least one non-zero|sum to zero"),
        ({"sample_weight": da.zeros(N, chunks=25)}, ValueError, "sum to zero"),
        ({"sample_weight": np.full(N, np.nan)}, ValueError, "NaN"),
        ({"sample_weight": da.from_array(-WEIGHT, chunks=(SIZES,))}, ValueError, "Negative.*chunk"),
        ({"sample_weight": np.ones(N - 1)}, ValueError, "inconsistent"),
        ({"groups": np.ones(N)}, TypeError, "does not pass 'groups'"),
    ],
)
def test_errors_leave_nothing_behind(given, kind, message):
    model = columns(OURS)
    before = dict(vars(model))
    with pytest.raises(kind, match=message):
        model.fit(framed(FRAME), **given)
    assert vars(model) == before


def test_who_has_not_been_asked_is_said():
    scaler = [("a", DistributedStandardScaler(), ["depth"])]
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        DistributedColumnTransformer(scaler).fit(framed(FRAME), sample_weight=WEIGHT)
    for kinds, X in ((THEIRS, FRAME), (OURS, framed(FRAME))):
        with pytest.raises(TypeError, match="not routed to any object"):
            columns(kinds, request=False).fit(X, sample_weight=WEIGHT)
    with (
        sklearn.config_context(enable_metadata_routing=False),
        pytest.raises(TypeError, match="enable_metadata_routing"),
    ):
        DistributedColumnTransformer(scaler).fit(framed(FRAME), sample_weight=WEIGHT)
