import pickle
import subprocess
import sys
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from inputs import Model, unknown
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from dask_dml import DistributedLinearSVC
from dask_dml.estimators.prediction import Residuals, linear_predict, linear_score
from dask_dml.input.read import read_input
from dask_dml.passes.predict import LinearModel, linear_values

NAMES = ["a", "b", "c"]
COEF = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
INTERCEPT = np.array([0.25, -4.0])


@pytest.fixture
def fitted(model, table):
    read_input(model, *table[:2])
    return model


@pytest.fixture
def named(model, table):
    read_input(model, pd.DataFrame(table[0], columns=NAMES), table[1])
    return model


@pytest.fixture
def frame(table):
    index = pd.Index(np.arange(100, 120), name="row")
    return dd.from_pandas(pd.DataFrame(table[0], columns=NAMES, index=index), npartitions=3)


def one(model, X):
    return linear_predict(model, X, COEF[:1], INTERCEPT[:1], squeeze=True)


def two(model, X):
    return linear_predict(model, X, COEF, INTERCEPT, squeeze=False)


# --- predict ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "container", [np.asarray, np.asfortranarray, list, sp.csr_matrix, sp.csc_array, sp.coo_matrix]
)
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8"])
def test_in_memory(fitted, table, container, dtype):
    X = (4 * table[0]).astype(dtype)
    if sp.issparse(container(table[0])) and dtype == "f2":
        X = X.astype("f4")
    want = X.astype(float) @ COEF.T + INTERCEPT
    single, both = one(fitted, container(X)), two(fitted, container(X))
    assert isinstance(both, np.ndarray)
    assert both.dtype == (np.float32 if X.dtype == np.float32 and container is not list else float)
    assert single.shape == (20,)
    rtol = 1e-6 if both.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(single, want[:, 0], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(both, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_float32_is_summed_in_float64_and_never_copied_whole(container):
    X = np.tile(np.array([[1e8, 1, -1e8]], np.float32), (5000, 1))
    seen = []

    class Watched(np.ndarray):
        def __array_finalize__(self, source):
            seen.append((self.dtype, self.size))

    values = linear_values(
        container(X) if container is sp.csr_array else X.view(Watched),
        LinearModel(np.ones((1, 3)), np.zeros(1)),
    )
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.ones((5000, 1)))
    assert all(size < X.size / 2 for dtype, size in seen if dtype == np.float64)


@pytest.mark.parametrize("columns", [3, 2])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("chunk", [np.asarray, sp.csr_matrix])
def test_dask_arrays(fitted, table, columns, known, chunk):
    X = da.from_array(table[0], ((6, 0, 13, 1), columns))
    X = X if known else unknown(X)
    X = X.map_blocks(chunk, dtype=float, meta=np.empty((0, 0)))
    want = table[0] @ COEF.T + INTERCEPT
    for lazy, truth in ((one(fitted, X), want[:, 0]), (two(fitted, X), want)):
        assert isinstance(lazy, da.Array)
        np.testing.assert_equal(lazy.chunks[0], X.chunks[0])
        assert lazy.shape[1:] == truth.shape[1:]
        np.testing.assert_allclose(lazy.compute(), truth)
    np.testing.assert_allclose((one(fitted, X) * 2).sum().compute(), 2 * want[:, 0].sum())


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "?"])
def test_dtype_is_known_beforehand(fitted, frame, table, dtype):
    want = np.float32 if dtype == "f4" else np.float64
    lazy = one(fitted, da.from_array(table[0], (6, 3)).astype(dtype))
    assert lazy.dtype == lazy.compute().dtype == want
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fitted without feature names
        for predict in (one, two):
            part = predict(fitted, frame.astype(dtype))
            kinds = np.unique(np.atleast_1d(part.dtypes))
            assert list(kinds) == list(np.unique(np.atleast_1d(part.compute().dtypes))) == [want]


def test_dask_frames(named, frame, table):
    want = table[0] @ COEF.T + INTERCEPT
    single = one(named, frame)
    assert isinstance(single, dd.Series)
    assert single.divisions == frame.divisions
    assigned = frame.assign(p=one(named, frame)).compute()
    assert list(assigned.index) == list(range(100, 120))
    np.testing.assert_allclose(assigned.p, want[:, 0])
    both = two(named, frame)
    assert isinstance(both, dd.DataFrame)
    np.testing.assert_allclose(both.compute(), want)


def test_frames_with_empty_partitions(named, frame, table):
    kept = frame[frame.a > 0]
    want = table[0][table[0][:, 0] > 0] @ COEF.T + INTERCEPT
    np.testing.assert_allclose(one(named, kept).compute(), want[:, 0])
    none = frame[frame.a > 100]
    assert len(one(named, none)) == 0
    assert two(named, none).compute().shape == (0, 2)


def test_predictions_run_nothing_beforehand(fitted):
    def fail(block):
        raise AssertionError("the array was computed")

    X = da.zeros((4, 3), chunks=2).map_blocks(fail, meta=np.empty((0, 0)))
    lazy = one(fitted, X)
    with pytest.raises(AssertionError, match="was computed"):
        lazy.compute()


def test_other_features_than_at_the_fit(named, frame, table):
    unnamed = da.from_array(table[0], 6)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Model was"):
        one(named, unnamed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for X in (table[0][:, :2], unnamed[:, :2]):
            with pytest.raises(ValueError, match="X has 2 features, but Model is expecting 3"):
                one(named, X)
    with pytest.raises(ValueError, match="unseen at fit time:\n- d"):
        one(named, frame.rename(columns={"c": "d"}))
    with pytest.raises(ValueError, match="must be in the same order"):
        one(named, frame[["b", "a", "c"]])
    with pytest.raises(ValueError, match=r"'c' .*not numeric"):
        one(named, frame.astype({"c": str}))


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_nonfinite_chunks_are_named(fitted, table, value, name):
    table[0][13, 1] = value
    lazy = one(fitted, da.from_array(table[0], (6, 3)))
    with pytest.raises(ValueError, match=rf"contains {name}.*: chunk 2, row 1 .*, column 1\."):
        lazy.compute()


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_nonfinite_rows_of_frames_are_named(named, frame, table, value, name):
    bad = frame.assign(b=frame.b.where(frame.a != table[0][13, 0], value))
    with pytest.raises(ValueError, match=rf"contains {name}.*: row 113, column 'b'\."):
        one(named, bad).compute()


def test_the_graph_holds_neither_estimator_nor_client(fitted, table):
    lazy = one(fitted, da.from_array(table[0], 6))
    assert b"Model" not in pickle.dumps(dict(lazy.dask)).replace(b"LinearModel", b"")


def test_coefficients_travel_once():
    model = Model()
    model.n_features_in_ = 10_000
    X = da.zeros((100, 10_000), chunks=(1, -1))
    lazy = linear_predict(model, X, np.ones((1, 10_000)), np.zeros(1), squeeze=True)
    assert len(pickle.dumps(dict(lazy.dask))) < 2 * 80_000


def test_predicts_without_dask():
    code = """
import sys
for name in ("dask", "distributed"):
    sys.modules[name] = None
import numpy as np
from sklearn.linear_model import Ridge
from dask_dml.estimators.prediction import linear_predict, linear_score
X = np.arange(12.0).reshape(4, 3)
y = X[:, 0]
ridge = Ridge().fit(X, y)
model = np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
assert np.allclose(linear_predict(ridge, X, *model, squeeze=True), ridge.predict(X))
assert np.allclose(linear_score(ridge, X, y, *model), ridge.score(X, y))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- score ------------------------------------------------------------------------------------


def ridge(X, y):
    fit = Ridge().fit(X, y)
    return fit, np.atleast_2d(fit.coef_), np.atleast_1d(fit.intercept_)


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_score_is_scikit_learns(table, offset, outputs, weighted):
    X, y, weight = table
    y = y + offset if outputs == 1 else np.column_stack([y, 3 * y**2]) + offset
    weight = weight if weighted else None
    model = ridge(X, y)
    want = model[0].score(X, y, weight)
    lazy = da.from_array(X, (6, 2)), da.from_array(y, 4)
    lazy_weight = da.from_array(weight, 7) if weighted else None
    for features, targets, weights in (
        (X, y, weight),
        (*lazy, lazy_weight),
        (lazy[0], y, weight),
        (X, lazy[1], lazy_weight),
        (unknown(lazy[0]), lazy[1], weight),
        (lazy[0].map_blocks(sp.csr_matrix), lazy[1], lazy_weight),
    ):
        score = linear_score(model[0], features, targets, *model[1:], sample_weight=weights)
        assert isinstance(score, float)
        assert score == pytest.approx(want, abs=1e-9)


def test_score_of_frames(table):
    X, y, weight = table
    pandas = pd.DataFrame(X, columns=NAMES).assign(y=y, w=weight)
    frame = dd.from_pandas(pandas, npartitions=4)
    model = ridge(pandas[NAMES], y)
    want = model[0].score(pandas[NAMES], y, weight)
    score = linear_score(model[0], frame[NAMES], frame.y, *model[1:], sample_weight=frame.w)
    assert score == pytest.approx(want, abs=1e-12)


def test_score_of_float32_is_that_of_memory():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 3)).astype(np.float32)
    y = (X @ COEF[0]).astype(np.float32) + np.float32(100)
    model = ridge(X, y)
    here = linear_score(model[0], X, y, *model[1:])
    there = linear_score(model[0], da.from_array(X, 7), da.from_array(y, 7), *model[1:])
    assert there == pytest.approx(here, abs=1e-14)


def test_score_reads_the_data_once(fitted):
    made = []

    def chunk(block_id=None):
        made.append(block_id)
        return np.random.default_rng(block_id[0]).normal(size=(5, 4))

    array = da.map_blocks(chunk, chunks=((5,) * 40, (4,)), dtype=float, meta=np.empty((0, 0)))
    linear_score(fitted, array[:, :3], array[:, 3], COEF[:1], INTERCEPT[:1])
    assert sorted(made) == [(i, 0) for i in range(40)]


def test_score_refuses_what_predict_refuses(fitted, table):
    X, y, weight = (da.from_array(part, 6) for part in table)
    model = COEF[:1], INTERCEPT[:1]
    with pytest.raises(ValueError, match=r"y has 2 output\(s\), but Model was fitted with 1"):
        linear_score(fitted, X, da.stack([y, y], axis=1), *model)
    with pytest.raises(ValueError, match="X has 2 features, but Model"):
        linear_score(fitted, X[:, :2], y, *model)
    with pytest.raises(ValueError, match="Input X contains NaN: chunk 1, row 3"):
        linear_score(fitted, da.where(da.arange(20, chunks=6)[:, None] == 9, np.nan, X), y, *model)
    for zero in (0 * weight, 0 * table[2]):
        with pytest.raises(ValueError, match="at least one non-zero"):
            linear_score(fitted, X, y, *model, sample_weight=zero)


def test_accuracy_refuses_what_is_not_finite(table):
    X, labels = table[0], table[1] > np.median(table[1])
    model = DistributedLinearSVC().fit(X, labels)
    spoilt = da.where(da.arange(20, chunks=6)[:, None] == 9, np.nan, X)
    with pytest.raises(ValueError, match="Input X contains NaN: chunk 1, row 3"):
        model.score(spoilt, labels)


def test_score_of_one_row(fitted, table):
    X, y = da.from_array(table[0][:1]), da.from_array(table[1][:1])
    with pytest.warns(UndefinedMetricWarning, match="less than two samples"):
        assert np.isnan(linear_score(fitted, X, y, COEF[:1], INTERCEPT[:1]))


rows = st.tuples(
    st.floats(-1e3, 1e3),  # target
    st.floats(-1e3, 1e3),  # prediction
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),  # weight
)


@given(st.lists(st.lists(rows, max_size=4), min_size=1, max_size=5), st.floats(-1e6, 1e6))
def test_residuals_of_any_parts_add_up(parts, offset):
    everything = [row for part in parts for row in part]
    target, predicted, weight = np.array(everything).reshape(-1, 3).T
    total = Residuals.nothing(1)
    for part in parts:
        y, f, w = np.array(part).reshape(-1, 3).T
        total += Residuals.of(y[:, None] + offset, f[:, None] + offset, w)
    if len(everything) < 2 or weight.sum() == 0 or np.ptp(target[weight > 0]) < 1e-2:
        return
    want = r2_score(target, predicted, sample_weight=weight)
    assert total.r2() == pytest.approx(want, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("residual", "want"), [(0.0, 1.0), (2.0, 0.0)])
def test_score_of_a_constant_target(residual, want):
    target = np.full((3, 1), 7.0)
    predicted = target + residual
    assert Residuals.of(target, predicted, None).r2() == want
    assert r2_score(target, predicted) == want


# --- on a cluster -----------------------------------------------------------------------------


def test_on_a_cluster(client, fitted, table):
    X, y, weight = table
    lazy = [da.from_array(part, 6) for part in table]
    with dask.config.set(scheduler=client):
        chunks = read_input(fitted, unknown(lazy[0]), lazy[1].rechunk(4), weight)
        assert len(chunks.X) == 4
        np.testing.assert_allclose(one(fitted, lazy[0]).compute(), X @ COEF[0] + INTERCEPT[0])
        score = linear_score(fitted, *lazy[:2], COEF[:1], INTERCEPT[:1], sample_weight=lazy[2])
    here = linear_score(fitted, X, y, COEF[:1], INTERCEPT[:1], sample_weight=weight)
    assert score == pytest.approx(here, abs=1e-12)
