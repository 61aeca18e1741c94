import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from dask_dml.blocks import Shard
from dask_dml.input.chunks import Rows, describe_nonfinite, make_block
from dask_dml.input.containers import join_columns

N_ROWS = 4
DENSE = np.arange(12.0).reshape(N_ROWS, 3) % 5
TARGET = np.arange(4.0)


def block(X=DENSE, y=TARGET, weight=None, *, number=0, n_outputs=1, dtype=np.float64):
    return make_block(
        X, y, weight, number=number, n_features=3, n_outputs=n_outputs, dtype=np.dtype(dtype)
    )


def test_takes_what_is_right_without_a_copy():
    made = block(DENSE, TARGET, TARGET)
    assert np.shares_memory(made.X, DENSE)
    assert np.shares_memory(made.y, TARGET)
    assert np.shares_memory(made.weight, TARGET)
    assert made.y.shape == (N_ROWS, 1)
    assert made.origin == ((0, N_ROWS),)
    assert not made.X.flags.writeable


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("source", ["float64", "float32", "float16", "int64", "uint8", "bool", "O"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_dense_becomes_c_ordered_floats(dtype, source, order):
    values = DENSE > 2 if source == "bool" else DENSE
    made = block(np.asarray(values, dtype=source, order=order), dtype=dtype)
    assert made.X.dtype == dtype
    assert made.X.flags.c_contiguous
    np.testing.assert_array_equal(made.X, values)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("family", ["array", "matrix"])
def test_sparse_becomes_canonical_csr(kind, family):
    X = getattr(sp, f"{kind}_{family}")(DENSE)
    made = block(X)
    assert isinstance(made.X, sp.csr_array)
    assert made.X.has_canonical_format
    np.testing.assert_array_equal(made.X.toarray(), DENSE)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_unsorted_and_duplicate_entries_leave_the_caller_alone(index):
    data, indices = np.array([1.0, 2, 3]), np.array([2, 0, 2], index)
    X = sp.csr_matrix((data, indices, np.array([0, 3], index)), shape=(1, 3))
    made = block(X, [0])
    np.testing.assert_array_equal(made.X.toarray(), [[2, 0, 4]])
    assert made.X.has_canonical_format
    np.testing.assert_array_equal(X.indices, [2, 0, 2])
    np.testing.assert_array_equal(X.data, [1, 2, 3])


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-5, 5)),
        max_size=12,
    )
)
def test_sparse_entries_in_any_order(entries):
    rows, columns, values = np.array(entries, int).reshape(-1, 3).T
    X = sp.coo_array((values, (rows, columns)), shape=(N_ROWS, 3))
    want = np.zeros((N_ROWS, 3))
    np.add.at(want, (rows, columns), values)
    made = block(X)
    assert made.X.dtype == np.float64
    np.testing.assert_array_equal(made.X.toarray(), want)


def test_nullable_and_arrow_columns():
    frame = pd.DataFrame(
        {
            "int": pd.array([1, None, 3, 4], dtype="Int64"),
            "arrow": pd.array([True, None, False, True], dtype="bool[pyarrow]"),
            "plain": [1, 2, 3, 4],
        }
    )
    made = block(frame, pd.array([1, 2, 3, 4], dtype="double[pyarrow]"))
    assert made.X.flags.c_contiguous
    np.testing.assert_array_equal(made.X, [[1, 1, 1], [np.nan, np.nan, 2], [3, 0, 3], [4, 1, 4]])
    np.testing.assert_array_equal(made.y[:, 0], [1, 2, 3, 4])


def test_numbers_held_as_objects_and_strings():
    frame = pd.DataFrame(DENSE).astype({0: object, 1: str})
    np.testing.assert_array_equal(block(frame).X, DENSE)


def test_sparse_frame_stays_sparse():
    frame = pd.DataFrame(DENSE).astype(pd.SparseDtype(float, 0.0))
    made = block(frame)
    assert made.is_sparse
    np.testing.assert_array_equal(made.X.toarray(), DENSE)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b", "1", "2"]),
        pd.Series(["a", 1, 2, 3], dtype=object),
        pd.Categorical([1, 2, 3, 4]),
        pd.date_range("2020-01-01", periods=4),
        pd.array([1 + 1j] * 4),
    ],
    ids=["string", "object", "category", "datetime", "complex"],
)
def test_other_columns_are_named(column):
    frame = pd.DataFrame(DENSE, columns=["x", "y", "z"]).assign(z=column)
    with pytest.raises(ValueError, match="'z'"):
        block(frame, number=7)


@pytest.mark.parametrize("y", [TARGET, TARGET[:, None], TARGET[:, None][::-1][::-1]])
def test_targets(y):
    assert block(y=y).y.shape == (N_ROWS, 1)
    assert block(y=y.astype(np.float32)).y.dtype == np.float32
    assert block(y=y.astype(int)).y.dtype == np.float64
    pair = block(y=np.asfortranarray(np.column_stack([y, y])), n_outputs=2)
    assert pair.y.flags.c_contiguous
    assert pair.y.shape == (N_ROWS, 2)


@pytest.mark.parametrize("y", [pd.Series(TARGET), pd.DataFrame({"y": TARGET}), list(TARGET)])
def test_targets_of_other_containers(y):
    np.testing.assert_array_equal(block(y=y).y[:, 0], TARGET)


def test_weights():
    made = block(weight=pd.Series([1, 2, 0, 3]))
    assert made.weight.dtype == np.float64
    np.testing.assert_array_equal(made.weight, [1, 2, 0, 3])
    np.testing.assert_array_equal(block(weight=2.5).weight, np.full(N_ROWS, 2.5))


def test_rows_bring_y_and_weight_along():
    made = block(Rows(DENSE, TARGET, TARGET), None)
    np.testing.assert_array_equal(made.y[:, 0], TARGET)
    np.testing.assert_array_equal(made.weight, TARGET)
    np.testing.assert_array_equal(block(Rows(DENSE), TARGET).y[:, 0], TARGET)


@pytest.mark.parametrize(
    "X",
    [np.empty((0, 3)), np.empty((0, 0)), np.empty(0), pd.DataFrame({"a": []}), []],
    ids=["shaped", "no columns", "flat", "frame", "list"],
)
def test_empty_chunks(X):
    made = block(X, np.empty(0), np.empty(0), number=2)
    assert made.X.shape == (0, 3)
    assert made.y.shape == (0, 1)
    assert made.weight.shape == (0,)
    assert made.origin == ((2, 0),)


def test_empty_sparse_chunk_stays_sparse():
    assert block(sp.csc_array((0, 3)), []).is_sparse


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": TARGET[:3]}, r"inconsistent numbers of samples: \[4, 3\].*chunk 5.*chunk_sizes"),
        ({"X": DENSE[:, :2]}, "X has 2 features in chunk 5, but the whole of X has 3"),
        ({"X": DENSE[0]}, "Expected 2D array, got 1D array instead in chunk 5"),
        ({"X": DENSE + 1j}, "Complex data not supported.* chunk 5"),
        ({"X": sp.csr_array(DENSE + 1j)}, "Complex data not supported.* chunk 5"),
        ({"X": DENSE.astype("M8[s]")}, "X has dtype datetime64.* chunk 5"),
        ({"X": np.full((4, 3), "a", dtype=object)}, "could not convert.*X in chunk 5"),
        ({"y": TARGET + 1j}, "Complex data not supported in y in chunk 5"),
        ({"y": np.array([0, 1, np.nan, np.inf])}, "Input y contains NaN in chunk 5, row 2"),
        ({"y": np.array([0, -np.inf, 1, 1])}, "Input y contains infinity.*chunk 5, row 1"),
        ({"y": pd.array([1, 2, None, 3], dtype="Int64")}, "Input y contains NaN in chunk 5, row 2"),
        ({"y": np.ones((4, 2))}, "y has shape \\(4, 2\\) in chunk 5"),
        ({"y": pd.Series(list("abcd"), name="t")}, "could not convert.*chunk 5"),
        ({"weight": TARGET[:2]}, r"sample_weight.shape == \(2,\), expected \(4,\) in chunk 5"),
        ({"weight": np.array([1, 1, -2, 1])}, "Negative values.*chunk 5: -2.0 at row 2"),
        ({"weight": np.array([1, 1, 1, np.nan])}, "Input sample_weight contains NaN in chunk 5"),
    ],
)
def test_bad_chunks_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        block(**change, number=5)


@pytest.mark.parametrize("name", ["X", "y", "weight"])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrix_subclass_is_refused(name):
    with pytest.raises(TypeError, match=r"np\.matrix is not supported.*chunk 5.*asarray"):
        block(**{name: np.matrix(DENSE)}, number=5)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_nonfinite_is_found(container, value, name):
    first = block(number=3)
    X = np.zeros((5000, 3))
    X[4999, 1] = value
    second = block(container(X), np.zeros(5000), number=8)
    assert describe_nonfinite(first) is None
    message = describe_nonfinite(Shard(0, (first, second)))
    assert f"Input X contains {name}" in message
    assert "chunk 8, row 4999 of the chunk, column 1." in message
    assert "column 'b'" in describe_nonfinite(second, ["a", "b", "c"])


def test_join_columns():
    parts = [DENSE[:, :1], DENSE[:, 1:]]
    np.testing.assert_array_equal(join_columns(parts), DENSE)
    mixed = join_columns([parts[0], sp.csr_matrix(parts[1])])
    assert sp.issparse(mixed)
    np.testing.assert_array_equal(mixed.toarray(), DENSE)
