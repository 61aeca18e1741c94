"""What people do with dask dataframes, from the first fit to a column of predictions."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.model_selection import train_test_split
from dask_dml.preprocessing import DistributedStandardScaler

N = 240
COLUMNS = ["speed", "mass", "age"]
rng = np.random.default_rng(12)
TABLE = pd.DataFrame(
    rng.normal(size=(N, 3)) * [2.0, 1.0, 5.0] + [10.0, 0.0, 40.0],
    columns=COLUMNS,
    index=pd.RangeIndex(1000, 1000 + N, name="id"),
)
TABLE["y"] = TABLE.speed - 2.0 * TABLE.mass + 0.1 * TABLE.age + 0.1 * rng.normal(size=N)
TABLE["label"] = np.where(TABLE.y > 14.0, "fast", "slow")
TABLE["weight"] = rng.integers(0, 3, N).astype(float)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Dask currently has limited support for converting pandas extension:UserWarning"
)

REGRESSORS = {
    "GD": DistributedGDRegressor(alpha=1e-3),
    "SGD": DistributedSGDRegressor(alpha=1e-3, random_state=0, max_iter=40, tol=None),
    "pipeline": make_pipeline(DistributedStandardScaler(), DistributedGDRegressor(alpha=1e-3)),
}
MODELS = REGRESSORS | {"SVC": DistributedLinearSVC(C=0.1, tol=1e-9)}
#: SGD's nodes are other rows in memory, so that it meets the optimum from elsewhere.
TOLERANCE = {"GD": 1e-10, "SGD": 1e-4, "pipeline": 1e-10, "SVC": 1e-4}


@pytest.fixture(params=["cluster", "no cluster"])
def place(request):
    if request.param == "cluster":
        request.getfixturevalue("client")
    return request.param


def lazily(table=TABLE, npartitions=4):
    return dd.from_pandas(table, npartitions=npartitions)


def target_of(name):
    return "label" if name == "SVC" else "y"


def decisions(model, X):
    act = getattr(model, "decision_function", None) or model.predict
    return np.asarray(act(X))


def assert_same_model(name, model, expected):
    want = decisions(expected, TABLE[COLUMNS].to_numpy() if name == "arrays" else TABLE[COLUMNS])
    got = decisions(model, TABLE[COLUMNS])
    np.testing.assert_allclose(got, want, atol=TOLERANCE[name] * np.abs(want).max())


# X in memory beside a lazy y is hinted at, once in a process.
@pytest.mark.filterwarnings("ignore:X is a:sklearn.exceptions.EfficiencyWarning")
@pytest.mark.parametrize("name", MODELS)
def test_columns_of_a_frame(place, name):
    """Story 2: ``fit(ddf[cols], ddf.y)`` is the fit of the pandas dataframe."""
    frame, y = lazily(), target_of(name)
    expected = clone(MODELS[name]).fit(TABLE[COLUMNS], TABLE[y])
    model = clone(MODELS[name]).fit(frame[COLUMNS], frame[y])
    assert list(model.feature_names_in_) == COLUMNS
    assert model.n_features_in_ == 3
    assert_same_model(name, model, expected)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[COLUMNS[::-1]])
    mixtures = [(frame[COLUMNS], TABLE[y].to_numpy()), (TABLE[COLUMNS], frame[y])]
    if name != "pipeline":  # its first step turns the frame into an array
        mixtures.append((frame[COLUMNS], frame[y].values))
    for X, target in mixtures:
        assert_same_model(name, clone(MODELS[name]).fit(X, target), expected)


@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_values_of_unknown_size(place, name):
    """Story 2: and so is that of ``.values`` of both."""
    frame, y = lazily(), target_of(name)
    X, target = frame[COLUMNS].values, frame[y].values
    assert np.isnan(X.shape[0])
    expected = clone(MODELS[name]).fit(TABLE[COLUMNS], TABLE[y])
    model = clone(MODELS[name]).fit(X, target)
    assert_same_model(name, model, expected)
    assert model.score(X, target) == pytest.approx(
        expected.score(TABLE[COLUMNS], TABLE[y]), abs=1e-6
    )
    lazy = model.predict(X)
    assert isinstance(lazy, da.Array)
    assert np.isnan(lazy.shape[0])
    assert len(lazy.compute()) == N


EMPTY = {
    "first": TABLE.index >= 1060,
    "middle": (TABLE.index < 1060) | (TABLE.index >= 1180),
    "last": TABLE.index < 1180,
    "all but one": (TABLE.index >= 1120) & (TABLE.index < 1170),
}


@pytest.mark.parametrize("case", EMPTY)
@pytest.mark.parametrize("name", MODELS)
def test_partitions_that_a_filter_left_empty(place, name, case):
    """Story 3."""
    ids = TABLE.index[EMPTY[case]]
    kept = TABLE.loc[ids]
    frame = lazily(TABLE.assign(id=TABLE.index))
    frame = frame[frame.id.isin(list(ids))]
    assert 0 in [len(part) for part in dask.compute(*frame.to_delayed())]
    X, y = frame[COLUMNS], frame[target_of(name)]
    expected = clone(MODELS[name]).fit(kept[COLUMNS], kept[target_of(name)])
    model = clone(MODELS[name]).fit(X, y)
    assert_same_model(name, model, expected)
    predicted = model.predict(X)
    assert len(predicted.compute()) == len(kept)
    assert model.score(X, y) == pytest.approx(
        expected.score(kept[COLUMNS], kept[target_of(name)]), abs=1e-4
    )
    scaled = DistributedStandardScaler().fit_transform(X)
    assert scaled.compute().shape == (len(kept), 3)


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_splits_of_frames(place, name):
    """Rows of weight two count twice, those of weight zero do not, whatever holds them."""
    frame, y = lazily(), target_of(name)
    weights = {"sample_weight": frame.weight}
    if name == "pipeline":
        steps = ("distributedstandardscaler", "distributedgdregressor")
        weights = {f"{step}__sample_weight": frame.weight for step in steps}
    model = clone(MODELS[name]).fit(frame[COLUMNS], frame[y], **weights)
    repeated = TABLE.loc[TABLE.index.repeat(TABLE.weight.astype(int))]
    expected = clone(MODELS[name]).fit(repeated[COLUMNS], repeated[y])
    assert_same_model(name, model, expected)
    train, test = train_test_split(frame, test_size=0.25, random_state=0)
    score = clone(MODELS[name]).fit(train[COLUMNS], train[y]).score(test[COLUMNS], test[y])
    assert score > 0.8


def test_predictions_become_a_column(place):
    frame = lazily()
    model = DistributedGDRegressor().fit(frame[COLUMNS], frame.y)
    want = model.predict(TABLE[COLUMNS])
    lazy = model.predict(frame[COLUMNS])
    assert isinstance(lazy, dd.Series)
    assert lazy.dtype == lazy.compute().dtype == np.float64
    assert lazy.divisions == frame.divisions
    assigned = frame.assign(p=lazy)
    frame["p"] = lazy
    for result in (assigned, frame, dd.concat([frame.drop(columns="p"), lazy.rename("p")], axis=1)):
        computed = result.compute()
        assert list(computed.index) == list(TABLE.index)
        np.testing.assert_allclose(computed.p, want)
        pd.testing.assert_frame_equal(computed.drop(columns="p"), TABLE, check_dtype=False)
    error = (frame.y - frame.p).abs().max()
    assert error.compute() == pytest.approx((TABLE.y - want).abs().max())
    kept = frame[frame.mass > 0.5]
    kept["q"] = model.predict(kept[COLUMNS])
    np.testing.assert_allclose(kept.q.compute(), kept.p.compute())


@pytest.mark.parametrize("kind", ["text", "number", "boolean"])
def test_classes_become_a_column(place, kind):
    labels = {"text": TABLE.label, "number": TABLE.y.astype(int) // 4, "boolean": TABLE.y > 14.0}
    table = TABLE[COLUMNS].assign(label=labels[kind])
    frame = lazily(table)
    model = DistributedLinearSVC().fit(frame[COLUMNS], frame.label)
    want = model.predict(TABLE[COLUMNS])
    lazy = model.predict(frame[COLUMNS])
    computed = lazy.compute()
    assert computed.dtype == lazy.dtype
    np.testing.assert_array_equal(computed.to_numpy(), want)
    frame["p"] = lazy
    np.testing.assert_array_equal(frame.compute().p.to_numpy(), want)
    few = frame[frame.speed > frame.speed.max().compute() - 1e-9]
    parts = dask.compute(*model.predict(few[COLUMNS]).to_delayed())
    assert {part.dtype for part in parts} == {lazy.dtype}  # those with no rows, too
    right = (frame.p == frame.label).mean().compute()
    assert right == pytest.approx(model.score(frame[COLUMNS], frame.label))
    scores = model.decision_function(frame[COLUMNS])
    assert scores.divisions == frame.divisions
    assert scores.compute().shape == model.decision_function(TABLE[COLUMNS]).shape


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_dtype_chunks_and_meta_of_lazy_results(name, dtype):
    """Known before anything is computed, and true."""
    with dask.config.set(scheduler="synchronous"):
        table = TABLE[COLUMNS].round().astype(dtype).to_numpy()
        X = da.from_array(table, chunks=((100, 0, 140), 2))
        model = clone(MODELS[name]).fit(X, TABLE[target_of(name)].to_numpy())
        methods = ["predict"] + (["decision_function"] if name == "SVC" else [])
        for method in methods:
            lazy = getattr(model, method)(X)
            computed = lazy.compute()
            assert lazy.chunks == ((100, 0, 140),)
            assert lazy.dtype == computed.dtype
            assert type(lazy.blocks[0].compute()) is np.ndarray
            here = getattr(model, method)(table)
            assert here.dtype == lazy.dtype
            if here.dtype.kind == "f":
                np.testing.assert_allclose(computed, here, rtol=1e-6)
            else:
                np.testing.assert_array_equal(computed, here)
