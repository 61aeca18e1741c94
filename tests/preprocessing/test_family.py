"""Every transformer of the family against scikit-learn's on the gathered rows."""

import pickle

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn.impute
import sklearn.preprocessing
from hypothesis import given, settings
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from dask_dml import preprocessing

from .family_cases import (
    FRAME,
    N,
    arrayed,
    assert_same_fit,
    assert_same_values,
    chunkings,
    framed,
    gathered,
    rng,
)

NUMBERS = ["level", "count", "same"]
WORDS = ["wind", "kind", "count", "flag"]
GAPS = ["level", "nullable", "count"]

#: Name of the class, its parameters, the columns it gets.
CASES = [
    ("OneHotEncoder", {}, WORDS),
    ("OneHotEncoder", {"drop": "first", "sparse_output": False}, WORDS),
    ("OneHotEncoder", {"drop": "if_binary", "min_frequency": 0.3, "dtype": np.float32}, WORDS),
    ("OneHotEncoder", {"min_frequency": 20}, ["wind", "kind", "nullable"]),
    ("OneHotEncoder", {"max_categories": 2, "handle_unknown": "infrequent_if_exist"}, WORDS),
    ("OneHotEncoder", {"max_categories": 1}, WORDS),
    ("OneHotEncoder", {"min_frequency": 0.999}, ["flag", "void", "same"]),
    ("OneHotEncoder", {"drop": ["N", 0]}, ["wind", "count"]),
    ("OneHotEncoder", {"categories": [["N", "E", "south", np.nan], range(6)]}, ["wind", "count"]),
    ("OneHotEncoder", {"categories": [["N"]], "handle_unknown": "ignore"}, ["wind"]),
    ("OneHotEncoder", {}, ["day", "void"]),
    ("OneHotEncoder", {"max_categories": 3}, ["day", "wind"]),
    ("OrdinalEncoder", {}, [*WORDS, "nullable", "same"]),
    ("OrdinalEncoder", {"encoded_missing_value": -1, "min_frequency": 25}, WORDS),
    ("OrdinalEncoder", {"max_categories": 2}, [*WORDS, "nullable"]),
    ("OrdinalEncoder",
     {"handle_unknown": "use_encoded_value", "unknown_value": 9, "max_categories": 2}, WORDS),
    ("OrdinalEncoder",
     {"categories": [["south", "N", "E", np.nan]], "dtype": np.float32}, ["wind"]),
    ("MinMaxScaler", {}, [*NUMBERS, "nullable", "flag"]),
    ("MinMaxScaler", {"feature_range": (-2, 3), "clip": True}, NUMBERS),
    ("MaxAbsScaler", {}, NUMBERS),
    ("RobustScaler", {}, [*NUMBERS, "nullable"]),
    ("RobustScaler", {"quantile_range": (7.5, 33.3), "unit_variance": True}, NUMBERS),
    ("RobustScaler", {"with_centering": False}, NUMBERS),
    ("RobustScaler", {"with_scaling": False}, NUMBERS),
    ("QuantileTransformer", {"n_quantiles": 30}, [*NUMBERS, "nullable", "flag"]),
    ("QuantileTransformer",
     {"n_quantiles": N, "output_distribution": "normal", "subsample": None}, NUMBERS),
    *(
        ("SimpleImputer", {"strategy": strategy, **more}, columns)
        for strategy in ("mean", "median", "most_frequent", "constant")
        for more, columns in (
            ({}, GAPS),
            ({"add_indicator": True}, GAPS),
            ({"missing_values": pd.NA}, GAPS),
            ({"missing_values": 2}, ["count"]),
            ({"missing_values": -1}, ["count"]),
            ({"keep_empty_features": True}, ["level", "void"]),
        )
    ),
    ("SimpleImputer", {"strategy": "most_frequent"}, ["wind", "kind"]),
    ("SimpleImputer", {"strategy": "constant"}, ["wind", "kind"]),
    ("SimpleImputer", {"strategy": "constant", "fill_value": "?"}, ["wind"]),
    ("SimpleImputer", {"strategy": "most_frequent", "missing_values": "N"}, ["kind"]),
]  # fmt: skip
NAMES = sorted({name for name, *_ in CASES})


def pair(name, parameters=None):
    module = sklearn.impute if name == "SimpleImputer" else sklearn.preprocessing
    mine = getattr(preprocessing, f"Distributed{name}")
    if parameters is None:  # a thousand quantiles would be more than there are rows
        parameters = {"n_quantiles": 7} if name == "QuantileTransformer" else {}
    return mine(**parameters), getattr(module, name)(**parameters)


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


@settings(max_examples=3)
@given(sizes=chunkings)
@pytest.mark.parametrize(("name", "parameters", "columns"), CASES)
def test_every_chunking_of_a_frame_gives_scikit_learns_answer(name, parameters, columns, sizes):
    mine, theirs = pair(name, parameters)
    frame, lazy = FRAME[columns], framed(FRAME[columns], sizes)
    want = theirs.fit(frame).transform(frame)
    result = mine.fit(lazy).transform(lazy)
    assert_same_fit(mine, theirs)
    assert isinstance(result, da.Array)
    assert result.dtype == want.dtype
    assert sp.issparse(result._meta) == sp.issparse(want)
    assert_same_values(gathered(result), want)
    assert mine.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    plain = mine.to_sklearn()
    assert type(plain) is type(theirs)
    assert b"dask_dml" not in pickle.dumps(plain)
    assert_same_values(plain.transform(frame), want)


ARRAYS = {
    "numbers": FRAME[NUMBERS].to_numpy(),
    "float32": FRAME[NUMBERS].to_numpy(np.float32),
    "int": FRAME[["count", "flag"]].to_numpy(int),
    "objects": FRAME[["wind", "flag"]].to_numpy(object),
    "text": FRAME[["kind"]].to_numpy(str),
    "None": FRAME[["wind", "flag"]].to_numpy(object),
}
ARRAYS["None"][pd.isna(ARRAYS["None"])] = None
ON_ARRAYS = [
    ("OneHotEncoder", {}, ["numbers", "int", "objects", "text", "None"]),
    ("OneHotEncoder", {"max_categories": 2}, ["numbers", "int", "objects", "text", "None"]),
    ("OrdinalEncoder", {"max_categories": 2}, ["numbers", "int", "objects", "text", "None"]),
    ("MinMaxScaler", {}, ["numbers", "float32", "int"]),
    ("MaxAbsScaler", {"copy": False}, ["numbers", "float32", "int"]),
    ("RobustScaler", {"copy": False}, ["numbers", "float32", "int"]),
    ("QuantileTransformer", {"n_quantiles": 19, "copy": False}, ["numbers", "float32", "int"]),
    ("SimpleImputer", {}, ["numbers", "float32", "int"]),
    ("SimpleImputer", {"strategy": "median", "missing_values": 0}, ["int"]),
    ("SimpleImputer", {"strategy": "most_frequent"}, ["numbers", "float32", "int", "objects"]),
    ("SimpleImputer", {"strategy": "most_frequent", "missing_values": None}, ["None"]),
]


@pytest.mark.parametrize("sizes", [(N,), (30, 0, 1, 49)])
@pytest.mark.parametrize(
    ("name", "parameters", "kind"),
    [(name, parameters, kind) for name, parameters, kinds in ON_ARRAYS for kind in kinds],
)
def test_arrays(name, parameters, kind, sizes):
    mine, theirs = pair(name, parameters)
    array = ARRAYS[kind]
    want = theirs.fit(array.copy()).transform(array.copy())
    for columns, unknown in ((-1, False), (1, False), (-1, True)):
        mine = clone(mine)
        lazy = arrayed(array.copy(), sizes, columns=columns, unknown=unknown)
        before = lazy.compute()
        result = mine.fit(lazy).transform(lazy)
        assert_same_fit(mine, theirs, 1e-6 if kind == "float32" else 1e-12)
        assert (result.dtype, result.shape[1]) == (want.dtype, want.shape[1])
        assert np.isnan(result.shape[0]) == unknown
        assert_same_values(gathered(result), want, 1e-6 if kind == "float32" else 1e-12)
        assert_same_values(lazy.compute(), before)
        if name != "SimpleImputer" and not parameters:
            back = mine.inverse_transform(result)
            assert_same_values(gathered(back), theirs.inverse_transform(want), 1e-6)


SPARSE = sp.random_array((N, 4), density=0.4, rng=rng, format="csr")
SPARSE.data[::7] = np.nan
SPARSE.data[1::7] = 0.25


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("MaxAbsScaler", {}),
        ("RobustScaler", {"with_centering": False}),
        ("QuantileTransformer", {"n_quantiles": 19}),
        ("QuantileTransformer", {"n_quantiles": 19, "ignore_implicit_zeros": True}),
        *(
            ("SimpleImputer", {"strategy": strategy, "add_indicator": indicator})
            for strategy in ("mean", "median", "most_frequent", "constant")
            for indicator in (False, True)
        ),
        ("SimpleImputer", {"strategy": "median", "missing_values": 0.25}),
    ],
)
def test_sparse_chunks_stay_sparse(name, parameters, kind, dtype):
    mine, theirs = pair(name, parameters)
    table = kind(SPARSE.astype(dtype))
    if "missing_values" in parameters:
        table.data[np.isnan(table.data)] = 1.0
    want = theirs.fit(table).transform(table)
    lazy = arrayed(table, (30, 0, 50))
    result = mine.fit(lazy).transform(lazy)
    rtol = 1e-6 if dtype == np.float32 else 1e-12
    assert_same_fit(mine, theirs, rtol)
    assert sp.issparse(result._meta)
    assert result.dtype == want.dtype
    assert_same_values(gathered(result), want, rtol)


@pytest.mark.parametrize("name", NAMES)
def test_frames_out(name):
    mine, theirs = (model.set_output(transform="pandas") for model in pair(name))
    if name == "OneHotEncoder":
        mine, theirs = (model.set_params(sparse_output=False) for model in (mine, theirs))
    frame, lazy = FRAME[["count", "level"]], framed(FRAME[["count", "level"]], (20, 0, 60))
    want = theirs.fit_transform(frame)
    result = mine.fit_transform(lazy)
    assert isinstance(result, dd.DataFrame)
    assert result.dtypes.tolist() == want.dtypes.tolist()
    pd.testing.assert_frame_equal(result.compute(), want)
    assert result.partitions[1].compute().index.name == "row"
    array = lazy.to_dask_array()
    unnamed = clone(mine).fit_transform(array)
    assert list(unnamed.columns) == list(clone(theirs).fit_transform(frame.to_numpy()).columns)


@pytest.mark.parametrize("size", [50, 300])
def test_quantiles_of_many_values_are_exact(monkeypatch, size):
    """With sketches of 16 points nearly every bracket is open after the first pass."""
    monkeypatch.setattr("dask_dml.preprocessing.digests.CAPACITY", 16)
    local = np.random.default_rng(size)
    table = np.column_stack(
        [
            local.normal(size=3000),
            local.exponential(size=3000).round(2),
            np.sort(local.integers(0, 50, 3000)).astype(float),
            np.where(local.random(3000) < 0.4, np.nan, local.normal(size=3000)),
        ]
    )
    lazy = da.from_array(table, chunks=(size, 4))
    parameters = {"quantile_range": (1.0, 99.5)}
    mine, theirs = pair("RobustScaler", parameters)
    assert_same_fit(mine.fit(lazy), theirs.fit(table))
    mine, theirs = pair("SimpleImputer", {"strategy": "median"})
    assert_same_fit(mine.fit(lazy), theirs.fit(table))
    table = sp.csr_array(np.where(local.random((3000, 4)) < 0.5, 0.0, table))
    lazy = arrayed(table, (size,) * (3000 // size))
    mine, theirs = pair("RobustScaler", {**parameters, "with_centering": False})
    assert_same_fit(mine.fit(lazy), theirs.fit(table))


def test_quantiles_within_bounds(monkeypatch):
    """Of columns with more values than a sketch keeps, each quantile's rank is as stated."""
    monkeypatch.setattr("dask_dml.preprocessing.digests.CAPACITY", 256)
    local = np.random.default_rng(0)
    table = np.column_stack(
        [
            local.normal(size=20_000),
            np.sort(local.exponential(size=20_000)),
            local.integers(0, 100, 20_000),
            np.where(local.random(20_000) < 0.3, np.nan, local.normal(size=20_000).round(2)),
        ]
    )
    mine = preprocessing.DistributedQuantileTransformer(n_quantiles=100)
    lazy = da.from_array(table, chunks=(1_000, 4))
    mine.fit(lazy)
    assert np.all(np.diff(mine.quantiles_, axis=0) >= 0.0)
    error = mine.rank_error_
    assert error[2] == 0.0
    assert np.all(error[[0, 1, 3]] > 0.0)
    assert np.all(error < 0.05)
    for column, quantiles, bound in zip(table.T, mine.quantiles_.T, error, strict=True):
        ordered = np.sort(column[~np.isnan(column)])
        ranks = mine.references_ * (len(ordered) - 1)
        # Between two values that are off by the bound each.
        slack = bound * len(ordered) + 1.0
        assert np.all(np.searchsorted(ordered, quantiles, side="left") <= ranks + slack)
        assert np.all(np.searchsorted(ordered, quantiles, side="right") >= ranks + 1.0 - slack)
    uniform = np.sort(mine.transform(lazy)[:, 0].compute())
    assert np.abs(uniform - np.linspace(0.0, 1.0, len(uniform))).max() < 2.0 * error[0] + 0.01
    assert not hasattr(mine.to_sklearn(), "rank_error_")
    assert not hasattr(mine.fit(table), "rank_error_")


def test_more_quantiles_than_rows():
    lazy = da.from_array(np.arange(12.0).reshape(-1, 2), chunks=(3, 2))
    mine, theirs = pair("QuantileTransformer", {})
    for model, table in ((mine, lazy), (theirs, lazy.compute())):
        with pytest.warns(UserWarning, match=r"n_quantiles \(1000\) is greater .* \(6\)"):
            model.fit(table)
    assert_same_fit(mine, theirs)


@pytest.mark.parametrize("name", ["MinMaxScaler", "MaxAbsScaler"])
def test_partial_fit_adds_up(name):
    mine, theirs = pair(name)
    table = ARRAYS["numbers"]
    theirs.fit(table)
    for part in (table[:20], table[20:21], table[21:]):
        mine.partial_fit(da.from_array(part, chunks=(15, 2)))
    assert_same_fit(mine, theirs)
    mine.partial_fit(table)
    assert mine.n_samples_seen_ == 2 * N
    with pytest.raises(ValueError, match="is expecting 3 features"):
        mine.partial_fit(da.ones((5, 2)))


WRONG = [
    ("OneHotEncoder", {"drop": "last"}, FRAME[["wind"]]),
    ("OneHotEncoder", {"categories": [["N"]]}, FRAME[["wind"]]),
    ("OneHotEncoder", {"categories": [["N"]]}, FRAME[["wind", "flag"]]),
    ("OneHotEncoder", {"categories": [["N", "N"]], "handle_unknown": "ignore"}, FRAME[["wind"]]),
    ("OneHotEncoder", {"drop": ["W"]}, FRAME[["wind"]]),
    ("OneHotEncoder", {}, np.array([["a"], [1], ["b"]], object)),
    ("OneHotEncoder", {"max_categories": 0}, FRAME[["wind"]]),
    ("OrdinalEncoder", {"handle_unknown": "use_encoded_value"}, FRAME[["kind"]]),
    ("OrdinalEncoder", {"handle_unknown": "use_encoded_value", "unknown_value": 1},
     FRAME[["kind"]]),
    ("OrdinalEncoder", {"dtype": int}, FRAME[["wind"]]),
    ("OrdinalEncoder", {"dtype": int, "encoded_missing_value": 1, "max_categories": 3},
     FRAME[["wind"]]),
    ("SimpleImputer", {"strategy": "mode"}, FRAME[["level"]]),
    ("SimpleImputer", {"strategy": "constant", "fill_value": "x"}, FRAME[["level"]]),
    ("SimpleImputer", {"strategy": "most_frequent"}, FRAME[["flag"]]),
    ("SimpleImputer", {"missing_values": 0}, sp.csr_array(np.eye(4))),
    ("SimpleImputer", {"missing_values": -1}, FRAME[["level"]]),
    ("MinMaxScaler", {"feature_range": (1, 0)}, FRAME[["level"]]),
    ("MinMaxScaler", {}, SPARSE),
    ("MinMaxScaler", {}, np.array([[1.0], [np.inf]])),
    ("RobustScaler", {"quantile_range": (75.0, 25.0)}, FRAME[["level"]]),
    ("RobustScaler", {}, SPARSE),
    ("QuantileTransformer", {"subsample": 10}, FRAME[["level"]]),
    ("QuantileTransformer", {"n_quantiles": 5}, -SPARSE),
    ("QuantileTransformer", {"n_quantiles": 5, "output_distribution": "gamma"}, FRAME[["level"]]),
    ("QuantileTransformer", {"n_quantiles": 5}, FRAME[["level"]].iloc[:0]),
    ("MaxAbsScaler", {}, FRAME[["wind"]]),
    ("MaxAbsScaler", {}, FRAME[["level"]].iloc[:0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "table"), WRONG)
def test_errors_are_scikit_learns_and_leave_nothing_behind(name, parameters, table):
    mine, theirs = pair(name, parameters)
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is
        theirs.fit(table)
    sizes = (table.shape[0] // 2, table.shape[0] - table.shape[0] // 2)
    lazy = framed(table, sizes) if hasattr(table, "iloc") else arrayed(table, sizes)
    before = dict(vars(mine))
    with pytest.raises((ValueError, TypeError)) as found:
        mine.fit(lazy)
    wrong = str(expected.value)
    # What numbers are made of each chunk is the package's affair, and so are the words for it.
    wrong = (
        "could not convert string"
        if "could not convert" in wrong
        else wrong.split(".", maxsplit=1)[0]
    )
    wrong = "infinity" if "infinity" in wrong else wrong
    assert wrong[:60] in str(found.value).replace("Distributed", "")
    assert isinstance(found.value, TypeError) == isinstance(expected.value, TypeError)
    assert vars(mine) == before


def test_what_comes_too_late_for_a_fit_is_said_with_its_chunk():
    model = pair("OneHotEncoder")[0].fit(framed(FRAME[["wind"]].iloc[:40], (40,)))
    lazy = framed(pd.DataFrame({"wind": ["N", "west"]}), (1, 1))
    with pytest.raises(ValueError, match=r"Found unknown categories \['west'\]"):
        model.transform(lazy).compute()
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(lazy.rename(columns={"wind": "winds"}))
    with pytest.raises(ValueError, match="could not convert") as found:
        pair("MaxAbsScaler")[0].fit(framed(pd.DataFrame({"a": [1, "x"]}, dtype=object), (1, 1)))
    assert "chunk 1" in str(found.value)
    with pytest.raises(TypeError, match="sample in memory"):
        preprocessing.DistributedSimpleImputer(strategy=np.nanmax).fit(da.ones((4, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_other_collections_are_refused(name):
    model = pair(name)[0]
    with pytest.raises(NotFittedError):
        model.transform(da.ones((5, 2)))
    with pytest.raises(TypeError, match=r"Bag.to_dataframe\(\)"):
        model.fit(db.from_sequence([1]))
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.fit(da.ones(5))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        model.fit(da.ones((0, 2)))


def test_text_of_dask_has_nan_in_its_gaps():
    """Dask reads text with pandas.NA, pandas itself with NaN: the two make the same model."""
    frame = pd.DataFrame({"wind": ["N", None, "E"]})
    lazy = dd.from_pandas(frame, npartitions=2)
    for name in ("OneHotEncoder", "OrdinalEncoder"):
        mine, theirs = pair(name)
        want = theirs.fit_transform(frame)
        assert_same_fit(mine.fit(lazy), theirs)
        assert_same_values(mine.transform(lazy.compute()).astype(float), want)
        assert_same_fit(mine.fit(lazy.compute()), theirs)


@parametrize_with_checks([pair(name)[0] for name in NAMES])
def test_scikit_learns_checks(estimator, check):
    check(estimator)
