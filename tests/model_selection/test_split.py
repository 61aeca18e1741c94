"""train_test_split: exact sizes, aligned rows, laziness, and scikit-learn's words."""

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn.model_selection
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml.model_selection import train_test_split
from dask_dml.model_selection.draws import Shares, apportion

N = 103
X = np.arange(3.0 * N).reshape(N, 3)
Y = np.arange(N)
LABELS = np.random.default_rng(0).choice(["x", "y", "z"], N, p=[0.7, 0.2, 0.1])
FRAME = pd.DataFrame(X, columns=list("abc"), index=np.arange(N) + 50).assign(y=Y)

chunkings = st.lists(st.integers(0, N), max_size=19).map(
    lambda cuts: tuple(np.diff([0, *sorted(cuts), N]).tolist())
)


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def unknown(array):
    sizes = (np.nan,) * array.numblocks[0]
    return array.map_blocks(np.copy, chunks=(sizes, *array.chunks[1:]), dtype=array.dtype)


def values(parts):
    return [part.compute() if dask.is_dask_collection(part) else part for part in parts]


def assert_aligned(parts, n_arrays):
    """Every array tells the number of its rows; return those for training and for testing."""
    numbers = [
        (part.y.to_numpy() if hasattr(part, "y") else np.asarray(part))
        if np.ndim(part) == 1 or hasattr(part, "y")
        else np.asarray(part)[:, 0] / 3
        for part in values(parts)
    ]
    assert len(numbers) == 2 * n_arrays
    for side in (0, 1):
        for other in numbers[side::2]:
            np.testing.assert_array_equal(other, numbers[side])
    train, test = numbers[:2]
    assert len(np.unique(np.r_[train, test])) == len(train) + len(test)
    return train, test


SIZES = [
    {},
    {"test_size": 0.2},
    {"train_size": 0.5},
    {"train_size": 0.3, "test_size": 0.31},
    {"test_size": 7},
    {"train_size": np.int64(50), "test_size": 11},
    {"test_size": 0.4, "shuffle": False},
]


@settings(max_examples=6)
@given(sizes=chunkings, other=chunkings, columns=st.integers(1, 3))
@pytest.mark.parametrize("parameters", SIZES, ids=str)
def test_sizes_are_scikit_learns_whatever_the_chunks(parameters, sizes, other, columns):
    arrays = [da.from_array(X, chunks=(sizes, columns)), da.from_array(Y, chunks=(other,)), Y]
    parts = train_test_split(*arrays, random_state=3, **parameters)
    expected = sklearn.model_selection.train_test_split(X, random_state=3, **parameters)
    assert [part.shape for part in parts[:2]] == [part.shape for part in expected]
    train, test = assert_aligned(parts, 3)
    if "shuffle" in parameters:
        np.testing.assert_array_equal(train, expected[0][:, 0] / 3)
        np.testing.assert_array_equal(test, expected[1][:, 0] / 3)
    np.testing.assert_array_equal(train, np.sort(train))  # no row changes places
    for part, lazy in zip(values(parts[:2]), parts, strict=False):
        assert lazy.chunks[1] == arrays[0].chunks[1]
        assert lazy.dtype == part.dtype
    quota = np.array(sizes) * len(test) / N
    if "shuffle" not in parameters:
        assert (np.abs(np.array(parts[1].chunks[0]) - quota) < 2).all()


@settings(max_examples=50)
@given(
    weights=st.lists(st.integers(0, 10**10), min_size=1, max_size=30),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_apportioning_is_exact(weights, share, seed):
    total = min(int(share * sum(weights)), sum(weights))
    parts = apportion(total, weights, np.random.default_rng(seed))
    assert parts.sum() == total
    assert (parts <= np.array(weights)).all()
    if sum(weights):
        quota = [total * weight / sum(weights) for weight in weights]
        assert (np.abs(parts - quota) < 1 + 1e-6 * np.array(quota)).all()


def test_seeds():
    data = da.from_array(X, chunks=(20, 3))
    first, again, other = (
        train_test_split(data, random_state=seed)[1].compute() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    stream = np.random.RandomState(0)
    third, fourth = (train_test_split(data, random_state=stream)[1].compute() for _ in range(2))
    assert not np.array_equal(third, fourth)
    assert len(set(first[:, 0] // 3 % 20)) > 10  # chunks draw different rows


def test_the_cluster_does_not_matter(process_client):
    data = [da.from_array(X, chunks=(20, 3)), dd.from_pandas(FRAME, npartitions=5)]
    for one in data:
        lazy = train_test_split(one, random_state=1)
        here = [np.asarray(part.compute()) for part in lazy]
        there = process_client.gather(process_client.compute(lazy))
        for mine, theirs in zip(here, there, strict=True):
            np.testing.assert_array_equal(mine, np.asarray(theirs))


def test_frames_stay_frames():
    frame = dd.from_pandas(FRAME, npartitions=4)
    parts = train_test_split(frame, frame.y, test_size=0.3, random_state=0)
    assert [type(part) for part in parts] == [dd.DataFrame] * 2 + [dd.Series] * 2
    assert parts[0].divisions == frame.divisions
    assert list(parts[1].dtypes) == list(FRAME.dtypes)
    train, test = assert_aligned(parts, 2)
    assert len(train) + len(test) == N
    assert abs(len(test) - 0.3 * N) <= 4
    assert (parts[1].compute().index == test + 50).all()
    exact = train_test_split(frame, frame.y.values, Y, test_size=30, random_state=0)
    assert len(assert_aligned(exact, 3)[1]) == 30
    ordered = train_test_split(frame, shuffle=False)
    np.testing.assert_array_equal(ordered[0].y.compute(), Y[:77])
    kept = frame[frame.y > 60]  # empty partitions
    train, test = assert_aligned(train_test_split(kept, kept[["a"]].values, random_state=0), 2)
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), Y[61:])


def test_unknown_sizes_stay_lazy_and_are_right_on_average():
    def fail(block):
        raise AssertionError("the array was computed")

    poison = unknown(da.from_array(X, chunks=(20, 3))).map_blocks(fail, meta=np.empty((0, 0)))
    train, test = train_test_split(poison, test_size=0.3)
    assert np.isnan(train.shape[0])
    assert test.numblocks == poison.numblocks
    with pytest.raises(AssertionError, match="was computed"):
        test.compute()
    pair = [unknown(da.from_array(array, chunks=20)) for array in (X, Y)]
    train, test = assert_aligned(train_test_split(*pair, random_state=0), 2)
    assert len(train) + len(test) == N
    some = train_test_split(*pair, train_size=0.2, test_size=0.1, random_state=0)
    assert_aligned(some, 2)
    # 2000 chunks of 3 rows: the expectation is 1500, the standard deviation 19.
    counts = [len(Shares((0, number), 0.75, 0.25).rows(3)[1]) for number in range(2000)]
    assert abs(sum(counts) - 1500) < 100
    none, all_of_it = Shares((0, 0), 0.75, 0.25).rows(0)
    assert len(none) == len(all_of_it) == 0


@pytest.mark.parametrize("kind", ["numpy", "array", "series", "list"])
@pytest.mark.parametrize("parameters", [{}, {"test_size": 0.1}, {"train_size": 30, "test_size": 9}])
def test_stratified_parts_have_scikit_learns_classes(kind, parameters):
    stratify = {
        "numpy": LABELS,
        "array": da.from_array(LABELS, chunks=17),
        "series": dd.from_pandas(pd.Series(LABELS, FRAME.index), npartitions=4),
        "list": LABELS.tolist(),
    }[kind]
    expected = sklearn.model_selection.train_test_split(
        LABELS, stratify=LABELS, random_state=0, **parameters
    )
    for data in (da.from_array(X, chunks=(40, 2)), dd.from_pandas(FRAME, npartitions=4)):
        parts = train_test_split(data, LABELS, stratify=stratify, random_state=0, **parameters)
        for mine, theirs in zip(parts[2:], expected, strict=True):
            counts = [np.unique(one, return_counts=True)[1] for one in (mine, theirs)]
            assert np.abs(counts[0] - counts[1]).max() <= 1  # ties
            assert len(mine) == len(theirs)
        assert_aligned(
            [
                *parts[:2],
                *train_test_split(data, Y, stratify=stratify, random_state=0, **parameters)[2:],
            ],
            2,
        )
        labels = dict(zip(Y, LABELS, strict=True))
        first = parts[0].y.compute() if hasattr(parts[0], "y") else parts[0][:, 0].compute() / 3
        assert [labels[row] for row in first] == list(parts[2])


def test_sorted_classes_and_many_chunks():
    labels = np.repeat([3, 1, 2], [60, 40, 20])
    data = da.from_array(np.arange(120.0)[:, None], chunks=(7, 1))
    test = train_test_split(data, stratify=da.from_array(labels, chunks=50), test_size=0.25)[1]
    rows = test.compute()[:, 0].astype(int)
    np.testing.assert_array_equal(np.bincount(labels[rows]), [0, 10, 5, 15])


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array])
def test_sparse_chunks(kind):
    data = da.from_array(X, chunks=(30, 3)).map_blocks(kind)
    parts = train_test_split(data, kind(X), random_state=0)
    for side in (0, 1):
        blocks = dask.compute(*np.ravel(parts[side].to_delayed()))
        assert {type(block) for block in blocks} == {kind}
        np.testing.assert_array_equal(sp.vstack(blocks).toarray(), parts[2 + side].toarray())
    assert isinstance(parts[2], kind)


def test_input_in_memory_is_scikit_learns():
    for stratify in (None, da.from_array(LABELS, chunks=50)):
        mine = train_test_split(X, FRAME, stratify=stratify, random_state=0)
        theirs = sklearn.model_selection.train_test_split(
            X, FRAME, stratify=None if stratify is None else LABELS, random_state=0
        )
        np.testing.assert_array_equal(mine[0], theirs[0])
        pd.testing.assert_frame_equal(mine[3], theirs[3])


WRONG = [
    {"test_size": 1.5},
    {"test_size": 0},
    {"test_size": "half"},
    {"test_size": 200},
    {"train_size": 103},
    {"test_size": 0.7, "train_size": 0.5},
    {"test_size": 60, "train_size": 60},
    {"test_size": 0.999},
    {"shuffle": False, "stratify": LABELS},
    {"stratify": LABELS, "test_size": 2},
    {"stratify": LABELS, "train_size": 2},
]


@pytest.mark.parametrize("parameters", WRONG, ids=str)
def test_wrong_sizes_are_refused_in_scikit_learns_words(parameters):
    with pytest.raises((ValueError, TypeError)) as theirs:
        sklearn.model_selection.train_test_split(X, **parameters)
    with pytest.raises((ValueError, TypeError)) as mine:
        train_test_split(da.from_array(X, chunks=(40, 3)), **parameters)
    assert str(mine.value) == str(theirs.value)


def test_what_cannot_be_aligned_is_refused():
    data, frame = da.from_array(X, chunks=(40, 3)), dd.from_pandas(FRAME, npartitions=4)
    for other in (Y[:50], da.from_array(Y[:50], chunks=10)):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            train_test_split(data, other)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        train_test_split(data, stratify=LABELS[:50])
    with pytest.raises(ValueError, match="repartition"):
        train_test_split(frame, frame.y.repartition(npartitions=2))
    moved = frame.y.repartition(divisions=(50, 51, 60, 70, 152))
    with pytest.raises(ValueError, match=r"repartition\(divisions"):
        train_test_split(frame, moved)
    shifted = unknown(da.from_array(Y, chunks=((50, 30, 23),)))
    with pytest.raises(ValueError, match=r"\[40, 50\] in chunk 0.*compute_chunk_sizes"):
        train_test_split(data, shifted)[2].blocks[0].compute()
    with pytest.raises(ValueError, match="cannot be aligned"):
        train_test_split(unknown(data), unknown(da.from_array(Y, chunks=10)))
    with pytest.raises(TypeError, match="takes dask arrays"):
        train_test_split(db.from_sequence([1, 2]))
    with pytest.raises(ValueError, match="At least one array"):
        train_test_split()
    with pytest.raises(ValueError, match="contains NaN"):
        train_test_split(data, stratify=np.where(Y > 5, 1.0, np.nan))
    with pytest.raises(ValueError, match=r"only 1 member, which is too few.*: \[0, 1, 2, 3,"):
        train_test_split(data, stratify=Y)
    with pytest.raises(ValueError, match="1d array"):
        train_test_split(data, stratify=X)
