import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge

from dask_dml.input.in_memory import check_weights
from dask_dml.input.read import read_input


@pytest.mark.parametrize(
    "container",
    [
        np.asarray,
        np.asfortranarray,
        np.ndarray.tolist,
        pd.DataFrame,
        sp.csr_matrix,
        sp.csr_array,
        sp.csc_matrix,
        sp.coo_array,
    ],
)
def test_containers(assert_reads, table, container):
    X, y, weight = table
    for targets in (y, list(y), pd.Series(y), y[:, None], pd.DataFrame({"y": y})):
        chunks, blocks = assert_reads(container(X), targets, weight)
        assert len(blocks) == 1
        assert not chunks.lazy
        assert chunks.multi_output == (np.ndim(targets) == 2)
        assert chunks.n_outputs == 1
    assert blocks[0].is_sparse == sp.issparse(container(X))


def test_sparse_targets(assert_reads, table):
    chunks, _ = assert_reads(table[0], sp.csr_array(table[1][:, None]))
    assert chunks.multi_output


def test_dtypes(model):
    X, y = np.arange(6).reshape(3, 2), np.arange(3)
    assert read_input(model, X, y).dtype == np.float64
    assert read_input(model, X.astype(np.float16), y).dtype == np.float64
    single = read_input(model, X.astype(np.float32), y.astype(np.float32))
    assert single.dtype == single.y[0].dtype == np.float32
    assert single.nbytes == 24
    assert read_input(model, X, np.array([1, 2, 3], dtype=object)).y[0].dtype == np.float64


def test_feature_names_come_and_go(model, table):
    frame = pd.DataFrame(table[0], columns=["a", "b", "c"])
    chunks = read_input(model, frame, table[1])
    assert list(model.feature_names_in_) == list(chunks.feature_names) == ["a", "b", "c"]
    assert read_input(model, table[0], table[1]).feature_names is None
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.filterwarnings("ignore:X is a ndarray in memory")
def test_lazy_targets_and_weights(assert_reads, table):
    X, y, weight = table
    chunks, _ = assert_reads(X, da.from_array(y, chunks=7), da.from_array(weight, chunks=6))
    assert not chunks.lazy


@pytest.mark.parametrize(
    "case", ["complex", "y inf", "nan", "empty", "no columns", "1d", "lengths"]
)
def test_errors_are_scikit_learns(table, case):
    X, y, _ = table
    X, y = {
        "complex": (X + 1j, y),
        "y inf": (X, np.where(np.arange(20) == 3, np.inf, y)),
        "nan": (np.where(np.arange(60).reshape(20, 3) == 7, np.nan, X), y),
        "empty": (X[:0], y[:0]),
        "no columns": (X[:, :0], y),
        "1d": (X[:, 0], y),
        "lengths": (X, y[:-1]),
    }[case]
    with pytest.raises(ValueError, match=r".") as theirs:
        Ridge().fit(X, y)
    with pytest.raises(ValueError, match=r".") as ours:
        read_input(Ridge(), X, y)
    assert str(ours.value) == str(theirs.value)


def test_missing_target(model, table):
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        read_input(model, table[0], None)


@pytest.mark.parametrize(
    "column", [pd.Series(["u", "v"] * 10), pd.Categorical([1, 2] * 10), pd.Series([{}] * 20)]
)
def test_columns_without_numbers_are_named(model, table, column):
    frame = pd.DataFrame(table[0], columns=["a", "b", "c"]).assign(wind=column)
    with pytest.raises((ValueError, TypeError), match="'wind'"):
        read_input(model, frame, table[1])


def test_number_like_strings_are_scikit_learns_business(assert_reads, table):
    assert_reads(pd.DataFrame(table[0]).astype({0: str, 1: object}), table[1])


def test_scalar_weights():
    assert check_weights(None, 3) is None
    np.testing.assert_array_equal(check_weights(2, 3), [2, 2, 2])
    assert check_weights([1, 2, 3], 3).dtype == np.float64


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, 2, -1], "Negative values in data passed to `sample_weight`: -1.0 at row 2"),
        (-1.0, "Negative values"),
        ([0, 0, 0], "at least one non-zero number.*Leave sample_weight out"),
        (0, "at least one non-zero number"),
        ([1, 2], r"sample_weight.shape == \(2,\), expected \(3,\)!"),
        (np.ones((3, 1)), "must be 1D array or scalar, got 2D"),
        ([1, np.nan, 1], "sample_weight contains NaN"),
        (np.array([1, 1j, 1]), "Complex data not supported"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weight, 3)


def test_reading_copies_nothing_that_is_right(model, table):
    X, y, weight = table
    chunks = read_input(model, X, y, weight)
    assert chunks.X[0] is X or np.shares_memory(chunks.X[0], X)
    assert np.shares_memory(chunks.y[0], y)
    assert np.shares_memory(chunks.weight[0], weight)


def test_check_against_the_fit(model, table):
    X, y, _ = table
    read_input(model, X, y)
    with pytest.raises(ValueError, match="X has 2 features, but Model is expecting 3 features"):
        read_input(model, X[:, :2], y, reset=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_input(model, X, y, reset=False)
