import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from inputs import Model, blocks_of, dense, unknown

from dask_dml.input.align import cuts
from dask_dml.input.read import read_input

NAMES = ["a", "b", "c"]


@pytest.fixture
def arrays(table):
    X, y, weight = table
    return da.from_array(X, (6, 2)), da.from_array(y, 6), da.from_array(weight, 6)


@pytest.fixture
def frame(table):
    X, y, weight = table
    pandas = pd.DataFrame(X, columns=NAMES).assign(y=y, w=weight)
    return dd.from_pandas(pandas, npartitions=3)


@pytest.fixture
def counted():
    """A dask array of 4 chunks of shape (5, 4), and the list of the chunks made so far."""
    made = []

    def chunk(block_id):
        made.append(block_id)
        return np.full((5, 4), float(block_id[0]))

    array = da.map_blocks(
        lambda block_id=None: chunk(block_id),
        chunks=((5,) * 4, (4,)),
        dtype=float,
        meta=np.empty((0, 0)),
    )
    return array, made


# --- Containers and chunks --------------------------------------------------------------------


def test_arrays(assert_reads, arrays):
    chunks, blocks = assert_reads(*arrays)
    assert chunks.lazy
    assert [block.n_rows for block in blocks] == [6, 6, 6, 2]
    assert [block.origin[0][0] for block in blocks] == [0, 1, 2, 3]
    assert chunks.nbytes == 20 * 3 * 8
    assert not chunks.multi_output


@pytest.mark.parametrize("size", [1, 4, 6, 20])
def test_y_and_weights_chunked_differently(assert_reads, arrays, size):
    X, y, weight = arrays
    _, blocks = assert_reads(X, y.rechunk(size), weight.rechunk(21 - size))
    assert [block.n_rows for block in blocks] == [6, 6, 6, 2]


@pytest.mark.parametrize("unknowns", ["X", "y", "weight", "X y", "X weight", "X y weight"])
def test_unknown_sizes_with_equally_many_chunks(assert_reads, arrays, unknowns):
    named = zip(["X", "y", "weight"], arrays, strict=True)
    chunks, _ = assert_reads(
        *(unknown(array) if name in unknowns.split() else array for name, array in named)
    )
    assert np.isnan(chunks.nbytes) == ("X" in unknowns)


@pytest.mark.parametrize("unknowns", ["X", "y", "weight", "X y", "X weight", "X y weight"])
def test_unknown_sizes_with_other_numbers_of_chunks(assert_reads, arrays, unknowns):
    arrays = (arrays[0], arrays[1].rechunk(4), arrays[2].rechunk(9))
    named = zip(["X", "y", "weight"], arrays, strict=True)
    assert_reads(*(unknown(array) if name in unknowns.split() else array for name, array in named))


def test_the_callers_arrays_keep_their_unknown_sizes(model, arrays):
    X, y = unknown(arrays[0]), unknown(arrays[1].rechunk(4))
    read_input(model, X, y)
    assert np.isnan(X.shape[0])
    assert np.isnan(y.shape[0])


@pytest.mark.parametrize("known", [True, False])
def test_y_and_weights_in_memory(assert_reads, arrays, table, known):
    X = arrays[0] if known else unknown(arrays[0])
    assert_reads(X, table[1], table[2])
    assert_reads(X, pd.Series(table[1]), list(table[2]))
    assert_reads(X, arrays[1], table[2])
    assert_reads(X, table[1], arrays[2])


def test_one_chunk_of_unknown_size_with_y_in_memory(assert_reads, arrays, table):
    assert_reads(unknown(arrays[0].rechunk(-1)), table[1])


def test_frames(assert_reads, frame, model):
    chunks, blocks = assert_reads(frame[NAMES], frame.y, frame.w)
    assert len(blocks) == 3
    assert list(model.feature_names_in_) == list(chunks.feature_names) == NAMES
    assert np.isnan(chunks.nbytes)
    assert assert_reads(frame[NAMES], frame[["y"]])[0].multi_output


def test_values_of_frames(assert_reads, frame):
    assert_reads(frame[NAMES].values, frame.y.values, frame.w.values)


def test_mixed_containers(assert_reads, frame, arrays, table):
    X, y, weight = arrays
    other = frame.repartition(npartitions=2)
    assert_reads(frame[NAMES], y, frame.w)
    assert_reads(frame[NAMES], other.y, weight)
    assert_reads(frame[NAMES], frame.y.values, table[2])
    assert_reads(frame[NAMES], table[1], frame.w)
    assert_reads(X, frame.y, frame.w)
    assert_reads(X, frame[["y"]], other.w)


def test_several_outputs(model, table, arrays, frame):
    both = np.column_stack([table[1], -table[1]])
    for y in (
        both,
        da.from_array(both, (6, 1)),
        da.from_array(both, (5, 1)),
        unknown(da.from_array(both, (6, 1))),
        unknown(da.from_array(both, (3, 2))),
        frame.assign(z=-frame.y)[["y", "z"]],
    ):
        chunks = read_input(model, arrays[0], y)
        assert chunks.n_outputs == 2
        assert chunks.multi_output
        np.testing.assert_array_equal(np.concatenate([b.y for b in blocks_of(chunks)]), both)


def test_scalar_weight(model, arrays):
    blocks = blocks_of(read_input(model, *arrays[:2], 2.0))
    np.testing.assert_array_equal(np.concatenate([b.weight for b in blocks]), np.full(20, 2.0))


@pytest.mark.parametrize("columns", [3, 2])
@pytest.mark.parametrize("meta", [None, np.empty((0, 0))], ids=["inferred", "lie"])
def test_sparse_chunks(assert_reads, arrays, columns, meta):
    X = arrays[0].rechunk((6, columns)).map_blocks(sp.csr_matrix, meta=meta)
    _, blocks = assert_reads(X, *arrays[1:])
    assert all(block.is_sparse for block in blocks)


def test_hashed_text_is_read_at_its_own_size(model):
    columns = 2**20

    def hashed(number):
        return sp.csr_matrix(([1.0, 2.0], ([0, 1], [number, columns - 1])), (2, columns))

    X = da.concatenate(
        [
            da.from_delayed(dask.delayed(hashed)(i), (np.nan, columns), meta=sp.csr_matrix((0, 0)))
            for i in range(3)
        ],
        allow_unknown_chunksizes=True,
    )
    blocks = blocks_of(read_input(model, X, np.arange(6)))
    assert sum(block.X.nnz for block in blocks) == 6
    assert model.n_features_in_ == columns


@pytest.mark.parametrize("keep", [range(7, 20), range(7), [*range(7), *range(14, 20)], [3]])
def test_filters_that_empty_partitions(model, table, frame, keep):
    kept = np.isin(np.arange(20), keep)
    part = frame.map_partitions(lambda rows: rows[rows.index.isin(list(keep))])
    for X, y in ((part[NAMES], part.y), (part[NAMES].values, part.y.values)):
        blocks = blocks_of(read_input(model, X, y))
        assert any(block.n_rows == 0 for block in blocks)
        np.testing.assert_array_equal(np.concatenate([b.X for b in blocks]), table[0][kept])
        np.testing.assert_array_equal(np.concatenate([b.y for b in blocks])[:, 0], table[1][kept])


def test_empty_chunks_of_known_size(assert_reads, arrays):
    X, y, weight = arrays
    sizes = (0, 6, 0, 14, 0)
    _, blocks = assert_reads(X.rechunk((sizes, 3)), y, weight.rechunk((sizes,)))
    assert [block.n_rows for block in blocks] == list(sizes)


def test_dtypes(model, arrays, frame):
    X, y, _ = arrays
    for source, want in {"f4": "f4", "f8": "f8", "f2": "f8", "i4": "f8", "?": "f8"}.items():
        assert read_input(model, X.astype(source), y).dtype == want
    single = blocks_of(read_input(model, X.astype("f4"), y.astype("f4")))
    assert all(block.X.dtype == block.y.dtype == np.float32 for block in single)
    assert read_input(model, frame[NAMES].astype("f4"), frame.y).dtype == np.float32
    assert read_input(model, frame[NAMES].astype({"a": "f4"}), frame.y).dtype == np.float64
    nullable = frame[NAMES].astype("Float64")
    np.testing.assert_array_equal(
        np.concatenate([b.X for b in blocks_of(read_input(model, nullable, frame.y))]),
        frame[NAMES].compute(),
    )


# --- How often the caller's graph runs --------------------------------------------------------


def test_what_x_and_y_share_runs_once(model, counted):
    array, made = counted
    blocks_of(read_input(model, array[:, :3], array[:, 3], array[:, 2]))
    assert sorted(made) == [(i, 0) for i in range(4)]


def test_reading_runs_nothing_where_chunks_match(model, counted):
    array, made = counted
    read_input(model, array[:, :3], array[:, 3].rechunk(4), np.ones(20))
    read_input(model, unknown(array), unknown(array[:, 3]))
    assert made == []


def test_counting_rows_takes_one_pass(model, counted):
    array, made = counted
    read_input(model, unknown(array), unknown(array)[:, 3], np.ones(20))
    assert sorted(made) == [(i, 0) for i in range(4)]


def test_frames_read_the_columns_they_need_once(model):
    reads = []

    def load(number, columns=None):
        reads.append((number, tuple(columns)))
        return pd.DataFrame({"a": [1.0, 2], "b": 2.0, "y": 3.0, "rest": "x"})[columns]

    meta = pd.DataFrame({"a": [0.0], "b": [0.0], "y": [0.0], "rest": ["x"]})
    frame = dd.from_map(load, range(3), meta=meta)
    blocks_of(read_input(model, frame[["a", "b"]], frame.y))
    assert sorted(reads) == [(i, ("a", "b", "y")) for i in range(3)]
    reads.clear()
    read_input(model, frame[["a", "b"]], np.ones(6))
    assert sorted(reads) == [(i, ("a", "b")) for i in range(3)]


# --- What is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_lengths_differ(model, arrays, known):
    X, y, weight = arrays
    X = X if known else unknown(X)
    for short in (y[:15], y[:15].compute(), y[:13].rechunk(1)):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[20, 1[35]\]"):
            read_input(model, X, short)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[20, 3\]"):
        read_input(model, X, y, weight[:3].compute())


def test_chunks_that_only_look_aligned(model, arrays):
    y = arrays[1].rechunk(((6, 5, 7, 2),))
    with pytest.raises(ValueError, match=r"\[6, [57]\] for X and y in chunk [12].*chunk_sizes"):
        blocks_of(read_input(model, unknown(arrays[0]), y))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:, 0], "Expected 2D array, got 1D array instead"),
        (lambda X: X[:, :, None], "Found array with dim 3"),
        (lambda X: X[:0], r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\).*required by Model"),
        (lambda X: X[:, :0], r"Found array with 0 feature\(s\) \(shape=\(20, 0\)\)"),
        (lambda X: X + 1j, "Complex data not supported"),
        (lambda X: X.astype("U8"), r"X has dtype <U8.*X\.astype\(float\)"),
        (lambda X: X.astype("M8[s]"), "X has dtype datetime64"),
        (lambda X: X[:, X[0] > -9], "number of columns of X is unknown.*compute_chunk_sizes"),
    ],
)
def test_arrays_that_are_no_table(model, arrays, change, message):
    with pytest.raises(ValueError, match=message):
        read_input(model, change(arrays[0]), arrays[1])


@pytest.mark.parametrize("values", [["u", "v"] * 10, [{}] * 20, pd.Categorical([1, 2] * 10)])
def test_columns_without_numbers_are_named_before_anything_runs(model, frame, table, values):
    def fail(part):
        raise AssertionError("the frame was computed")

    pandas = pd.DataFrame(table[0], columns=NAMES).assign(wind=values, day=pd.Timestamp("2020"))
    bad = dd.from_pandas(pandas, npartitions=2)
    bad = bad.map_partitions(fail, meta=bad.dtypes.to_dict())
    with pytest.raises(ValueError, match=r"'wind' .*'day' .*get_dummies"):
        read_input(model, bad, frame.y)
    with pytest.raises(ValueError, match="'wind'"):
        read_input(model, frame[NAMES], bad.wind)


def test_other_collections(model, arrays):
    bag = db.from_sequence([1, 2])
    with pytest.raises(TypeError, match=r"X is a dask\.bag.*Model takes dask arrays"):
        read_input(model, bag, arrays[1])
    with pytest.raises(TypeError, match=r"y is a dask\.bag"):
        read_input(model, arrays[0], bag)


def test_series_as_x(model, frame):
    with pytest.raises(ValueError, match=r"Expected a 2-dimensional container.*to_frame"):
        read_input(model, frame.a, frame.y)


def test_bad_targets(model, arrays):
    X, y, _ = arrays
    with pytest.raises(ValueError, match="requires y to be passed"):
        read_input(model, X, None)
    with pytest.raises(ValueError, match=r"y has dtype <U9.*DistributedLinearSVC"):
        read_input(model, X, y.astype("U9"))
    with pytest.raises(ValueError, match="dim 3"):
        read_input(model, X, y[:, None, None])
    with pytest.raises(ValueError, match="Input y contains NaN in chunk 2, row 1"):
        blocks_of(read_input(model, X, da.where(da.arange(20, chunks=6) == 13, np.nan, y)))


def test_bad_weights(model, arrays):
    X, y, weight = arrays
    with pytest.raises(ValueError, match="must be 1D array or scalar"):
        read_input(model, X, y, weight[:, None])
    with pytest.raises(ValueError, match="at least one non-zero"):
        read_input(model, X, y, np.zeros(20))
    with pytest.raises(ValueError, match=r"Negative values.*chunk 1"):
        blocks_of(read_input(model, X, y, da.where(da.arange(20, chunks=6) == 7, -1.0, weight)))


def test_the_callers_exception_comes_through(model, arrays):
    def fail(x):
        raise KeyError("mine")

    X = arrays[0].map_blocks(fail, meta=np.empty((0, 0)))
    with pytest.raises(KeyError, match="mine"):
        blocks_of(read_input(model, X, arrays[1]))


def test_check_against_the_fit(model, frame, arrays):
    read_input(model, frame[NAMES], frame.y)
    with pytest.raises(ValueError, match="Feature names seen at fit time, yet now missing:\n- c"):
        read_input(model, frame[["a", "b"]], frame.y, reset=False)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Model"):
        read_input(model, *arrays, reset=False)
    read_input(model, *arrays)
    assert not hasattr(model, "feature_names_in_")


# --- Any chunks -------------------------------------------------------------------------------

sizes = st.lists(st.integers(0, 7), min_size=1, max_size=8)


@st.composite
def two_chunkings(draw):
    source, target = draw(sizes), draw(sizes)
    short, long = sorted([source, target], key=sum)
    short.append(sum(long) - sum(short))
    return source, target


@given(two_chunkings())
def test_cuts_give_back_the_rows_in_order(chunkings):
    source, target = chunkings
    ends = np.cumsum(source)
    pieces = cuts(source, target)
    assert [sum(stop - start for _, start, stop in piece) for piece in pieces] == target
    assert all(0 <= start <= stop <= source[k] for piece in pieces for k, start, stop in piece)
    rows = [
        np.arange(ends[k] - source[k] + start, ends[k] - source[k] + stop)
        for piece in pieces
        for k, start, stop in piece
    ]
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(sum(source)))
    assert all(piece for piece in pieces)


@given(two_chunkings(), st.sampled_from(["", "X", "y", "Xy"]), st.booleans())
def test_any_chunks_give_the_same_rows(chunkings, unknowns, swap):
    mine, theirs = reversed(chunkings) if swap else chunkings
    n_rows = sum(mine)
    if n_rows == 0 or (unknowns and len(mine) == len(theirs) and mine != theirs):
        return
    rows = np.arange(float(n_rows))
    X = da.from_array(np.column_stack([rows, -rows]), (tuple(mine), (1, 1)))
    y = da.from_array(rows, (tuple(theirs),))
    chunks = read_input(
        Model(), unknown(X) if "X" in unknowns else X, unknown(y) if "y" in unknowns else y
    )
    blocks = blocks_of(chunks)
    assert [block.n_rows for block in blocks] == mine
    for block in blocks:
        np.testing.assert_array_equal(dense(block)[:, 0], block.y[:, 0])
    np.testing.assert_array_equal(np.concatenate([b.y for b in blocks])[:, 0], rows)
