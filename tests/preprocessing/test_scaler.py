"""DistributedStandardScaler: scikit-learn's answers, digits, containers, what stays behind."""

import pickle
from itertools import pairwise

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler

N, P = 120, 4
rng = np.random.default_rng(3)
X = rng.normal(size=(N, P)) * [1.0, 1e-3, 30.0, 1.0] + [0.0, 5.0, -1e4, 2.0]
SPARSE = np.where(rng.random((N, P)) < 0.3, X, 0.0)
HOLES = np.where(rng.random((N, P)) < 0.2, np.nan, X)
WEIGHT = rng.integers(0, 4, N) * 0.5

#: Up to 20 chunks, empty ones among them.
chunkings = st.lists(st.integers(0, N), max_size=19).map(
    lambda cuts: tuple(np.diff([0, *sorted(cuts), N]).tolist())
)


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def chunked(array, rows=50, columns=P):
    return da.from_array(array, chunks=(rows, columns))


def unknown(array):
    sizes = (np.nan,) * array.numblocks[0]
    return array.map_blocks(np.copy, chunks=(sizes, *array.chunks[1:]), dtype=array.dtype)


def framed(array, sizes):
    frame = pd.DataFrame(array, columns=list("abcd"))
    bounds = list(pairwise(np.cumsum((0, *sizes))))
    return dd.from_map(lambda bound: frame.iloc[slice(*bound)], bounds, meta=frame.iloc[:0])


def assert_same_fit(model, expected, rtol=1e-12):
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        mine, truth = getattr(model, name), getattr(expected, name)
        assert (mine is None) == (truth is None), name
        if truth is not None:
            np.testing.assert_allclose(mine, truth, rtol=rtol, atol=1e-13, err_msg=name)
    assert model.n_features_in_ == expected.n_features_in_


PARAMETERS = [
    {"with_mean": mean, "with_std": std} for mean in (True, False) for std in (True, False)
]


@settings(max_examples=4)
@given(sizes=chunkings, columns=st.sampled_from([P, 1, 3]))
@pytest.mark.parametrize("table", [X, HOLES, SPARSE], ids=["full", "NaN", "zeros"])
@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_every_chunking_gives_scikit_learns_answer(parameters, table, sizes, columns):
    expected = StandardScaler(**parameters).fit(table)
    want = expected.transform(table)
    for data in (
        chunked(table, sizes, columns),
        unknown(chunked(table, sizes, columns)),
        framed(table, sizes),
    ):
        model = DistributedStandardScaler(**parameters).fit(data)
        assert_same_fit(model, expected)
        lazy = model.transform(data)
        assert isinstance(lazy, da.Array)
        np.testing.assert_allclose(lazy.compute(), want, rtol=1e-9, atol=1e-9)
        back = model.inverse_transform(lazy)
        np.testing.assert_allclose(back.compute(), table, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("table", [X, HOLES], ids=["full", "NaN"])
@pytest.mark.parametrize("sparse", [None, sp.csr_matrix, sp.csc_array])
def test_weights_in_memory_and_in_chunks(table, sparse):
    parameters = {} if sparse is None else {"with_mean": False}
    expected = StandardScaler(**parameters).fit(table, sample_weight=WEIGHT)
    repeated = DistributedStandardScaler().fit(np.repeat(table, (2 * WEIGHT).astype(int), 0))
    here = table if sparse is None else sparse(table)
    there = chunked(table) if sparse is None else chunked(table).map_blocks(sparse)
    for data in (here, there):
        for weight in (WEIGHT, da.from_array(WEIGHT, chunks=70)):
            model = DistributedStandardScaler(**parameters).fit(data, sample_weight=weight)
            assert_same_fit(model, expected)
            np.testing.assert_allclose(model.var_, repeated.var_)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_stays_sparse(kind, dtype):
    table = SPARSE.astype(dtype)
    table[5, 1] = np.nan
    expected = StandardScaler(with_mean=False).fit(kind(table))
    want = expected.transform(kind(table))
    data = chunked(table).map_blocks(kind)
    model = DistributedStandardScaler(with_mean=False).fit(data)
    assert_same_fit(model, expected, rtol=1e-6 if dtype == np.float32 else 1e-12)
    lazy = model.transform(data)
    assert lazy.dtype == dtype
    parts = dask.compute(*lazy.to_delayed().ravel())
    assert (
        {type(part) for part in parts}
        == {type(lazy.blocks[0].compute())}
        == {type(kind(table).tocsr())}
    )
    np.testing.assert_allclose(sp.vstack(parts).toarray(), want.toarray(), rtol=1e-6)
    back = sp.vstack(dask.compute(*model.inverse_transform(lazy).to_delayed().ravel()))
    np.testing.assert_allclose(back.toarray(), table, rtol=1e-6)
    for scaler in (DistributedStandardScaler(), DistributedStandardScaler().fit(X)):
        for data in (kind(table), chunked(table).map_blocks(kind)):
            with pytest.raises(ValueError, match=r"Cannot center sparse matrices.*with_mean=False"):
                scaler.fit(data)
    with pytest.raises(ValueError, match="Cannot center sparse"):
        scaler.transform(data)
    with pytest.raises(ValueError, match="sparse chunks"):
        clone(model).set_output(transform="pandas").fit_transform(
            chunked(table).map_blocks(kind, meta=kind((0, 0)))
        )
    with pytest.raises(ValueError, match="Cannot uncenter sparse"):
        scaler.inverse_transform(kind(table))


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e11])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_no_digit_is_lost_far_from_zero(offset, kind):
    """Exact arithmetic of the same floats is the truth."""
    table = rng.normal(size=(3000, 3)) * [1.0, 100.0, 1e-1] + offset
    table[::5, 1] = np.nan
    wide = (table - offset).astype(np.longdouble)  # exact: so near each other are the two
    truth = np.nanvar(wide, axis=0).astype(float)
    parameters = {"with_mean": kind is np.asarray}
    data = [kind(table)]
    data += [chunked(table, rows, 3).map_blocks(kind) for rows in (3000, 700, 60)]
    for one in data:
        model = DistributedStandardScaler(**parameters).fit(one)
        np.testing.assert_allclose(model.var_, truth, rtol=1e-13)
        np.testing.assert_allclose(model.scale_, np.sqrt(truth), rtol=1e-13)
        off = np.abs(model.mean_ - (offset + np.nanmean(wide, axis=0)))
        assert (off <= 2e-16 * np.abs(model.mean_) + 1e-14 * np.sqrt(truth)).all()
    model = DistributedStandardScaler(**parameters)
    for part in np.array_split(table, 40):
        model.partial_fit(kind(part))
    np.testing.assert_allclose(model.var_, truth, rtol=1e-13)


def test_rounded_weights_make_up_no_zeros_in_full_sparse_columns():
    """One zero of weight 1e-13 beside entries at 1e9 would be a variance of 1e5."""
    table = rng.normal(size=(500, 2)) + 1e9
    table[::3, 0] = np.nan
    weight = rng.random(500)
    expected = DistributedStandardScaler(with_mean=False).fit(table, sample_weight=weight)
    for data in (sp.csr_array(table), chunked(table, 130, 2).map_blocks(sp.csr_matrix)):
        model = DistributedStandardScaler(with_mean=False).fit(data, sample_weight=weight)
        np.testing.assert_allclose(model.var_, expected.var_, rtol=1e-12)


def test_rows_of_no_weight_leave_no_trace():
    """However far away they are."""
    table = np.concatenate([np.full((100, 2), 1e12), rng.normal(size=(500, 2))])
    weight = np.r_[np.zeros(100), np.ones(500)]
    expected = StandardScaler().fit(table[100:])
    for data in (table, chunked(table, 130, 2)):
        model = DistributedStandardScaler().fit(data, sample_weight=weight)
        assert_same_fit(model, expected, rtol=1e-14)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8, 1e-8, 1e300])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_columns_have_scale_one(value, kind, dtype):
    if value == 1e300 and dtype == np.float32:
        value = 1e30
    table = np.column_stack([np.full(200, value), np.arange(200.0)]).astype(dtype)
    weight = rng.random(200)
    for data in (kind(table), chunked(table, 7, 2).map_blocks(kind)):
        model = DistributedStandardScaler(with_mean=kind is np.asarray).fit(
            data, sample_weight=weight
        )
        assert model.scale_[0] == 1.0
        assert model.var_[0] == 0.0
        assert model.mean_[0] == pytest.approx(float(table[0, 0]), rel=1e-15)


def test_rounding_is_not_a_spread():
    table = np.column_stack([0.1 * 3 + np.array([0.0, 1e-16] * 50), np.arange(100.0)])
    for data in (table, chunked(table, 30, 2)):
        model = DistributedStandardScaler().fit(data)
        assert model.scale_[0] == StandardScaler().fit(table).scale_[0] == 1.0


@pytest.mark.parametrize("sizes", [(N,), (1, 60, 0, 59)])
def test_partial_fit_adds_up(sizes):
    bounds = np.cumsum((0, *sizes))
    steps = [HOLES[low:high] for low, high in pairwise(bounds) if low < high]
    model, chunks = DistributedStandardScaler(), DistributedStandardScaler()
    for step in steps:
        model.partial_fit(step)
        chunks.partial_fit(chunked(step, 13))
    for one in (model, chunks):
        assert_same_fit(one, StandardScaler().fit(HOLES))
    assert_same_fit(model.fit(X), StandardScaler().fit(X))
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.partial_fit(X[:, :2])


def test_dtype_chunks_and_meta_are_known_beforehand():
    for given_dtype, want in (("f4", "f4"), ("f8", "f8"), ("i4", "f8"), ("?", "f8")):
        data = chunked((X > 0) * 3, 50, 3).astype(given_dtype)
        model = DistributedStandardScaler().fit(data)
        lazy = model.transform(data)
        assert lazy.dtype == lazy.compute().dtype == want
        assert lazy.chunks == data.chunks
        assert model.inverse_transform(lazy).dtype == want
        assert model.mean_.dtype == np.float64
        assert model.transform(data.compute()).dtype == want


def test_float32_is_rounded_once():
    table = (rng.normal(size=(500, 1)) + 3e4).astype(np.float32)
    model = DistributedStandardScaler().fit(table)
    exact = (table.astype(float) - table.astype(float).mean()) / table.astype(float).std()
    for got in (model.transform(table), model.transform(chunked(table, 99, 1)).compute()):
        np.testing.assert_array_equal(got, exact.astype(np.float32))


def test_frames_in_and_out():
    frame = pd.DataFrame(X, columns=list("abcd"), index=pd.Index(range(7, N + 7), name="row"))
    lazy = dd.from_pandas(frame, npartitions=3)
    model = DistributedStandardScaler().fit(lazy)
    want = StandardScaler().fit_transform(X)
    assert list(model.feature_names_in_) == list(model.get_feature_names_out()) == list("abcd")
    assert model.transform(lazy).shape[1] == 4
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(lazy[["b", "a", "c", "d"]])
    framed_model = clone(model).set_output(transform="pandas")
    for result in (
        framed_model.fit_transform(lazy),
        clone(framed_model).fit(frame).transform(lazy),
    ):
        assert isinstance(result, dd.DataFrame)
        assert result.divisions == lazy.divisions
        assert result.dtypes.tolist() == [np.float64] * 4
        assert result.index.name == "row"
        pd.testing.assert_frame_equal(
            result.compute(), pd.DataFrame(want, columns=list("abcd"), index=frame.index)
        )
        np.testing.assert_allclose((result + lazy).compute(), want + X)
    arrays = DistributedStandardScaler().set_output(transform="pandas").fit_transform(chunked(X))
    assert list(arrays.columns) == ["x0", "x1", "x2", "x3"]
    np.testing.assert_allclose(arrays.compute(), want)
    assert isinstance(framed_model.inverse_transform(framed_model.transform(lazy)), da.Array)


def test_frames_of_other_kinds_of_numbers():
    table = pd.DataFrame({"i": [1, 2, 3, 8], "f": [0.0, 0.0, 1.0, 0.0], "b": [True, False] * 2})
    expected = StandardScaler().fit(table.astype(float))
    missing = table.convert_dtypes()
    missing.loc[3, "i"] = pd.NA
    for frame in (table, table.convert_dtypes(), table.astype({"i": "int64[pyarrow]"})):
        model = DistributedStandardScaler().fit(dd.from_pandas(frame, npartitions=2))
        assert_same_fit(model, expected)
    model = DistributedStandardScaler().fit(dd.from_pandas(missing, npartitions=2))
    assert model.n_samples_seen_.tolist() == [3, 4, 4]
    assert model.mean_[0] == 2.0
    sparse = dd.from_pandas(table.astype(pd.SparseDtype(float, 0.0)), npartitions=2)
    model = DistributedStandardScaler(with_mean=False).fit(sparse)
    assert_same_fit(model, expected)
    lazy = model.transform(sparse)
    np.testing.assert_allclose(
        sp.vstack(dask.compute(*np.ravel(lazy.to_delayed()))).toarray(), table / expected.scale_
    )
    with pytest.raises(ValueError, match="sparse chunks"):
        model.set_output(transform="pandas").transform(sparse)
    with pytest.raises(ValueError, match="Cannot center sparse"):
        DistributedStandardScaler().fit(table).transform(sparse)


def test_what_the_data_alone_shows_is_said_with_its_place():
    infinite = X.copy()
    infinite[60, 3] = np.inf
    model = DistributedStandardScaler().fit(X)
    scaler = DistributedStandardScaler(with_mean=False).fit(X)
    message = r"contains infinity.*: chunk 1, row 10 of the chunk, column 3"
    for data in (chunked(infinite, 50, 2), chunked(infinite).map_blocks(sp.csr_array)):
        with pytest.raises(ValueError, match=message):
            scaler.fit(data)
        with pytest.raises(ValueError, match=message):
            dask.compute(*np.ravel(scaler.transform(data).to_delayed()))
    with pytest.raises(ValueError, match=r"contains infinity.*row 60, column 'd'"):
        model.fit(framed(X, (N,))).transform(framed(infinite, (40, 80))).compute()
    with pytest.raises(ValueError, match=r"overflow.*chunk 2.*with_std=False"):
        DistributedStandardScaler().fit(chunked(np.r_[X[:-1], np.full((1, P), 1e200)]))
    large = DistributedStandardScaler(with_std=False).fit(np.full((3, 1), 1e200) * [[1], [2], [3]])
    assert large.mean_[0] == pytest.approx(2e200)


BAD = {
    "words": (lambda: dd.from_pandas(pd.DataFrame({"a": [1.0], "town": ["x"]}), 1),
              ValueError, "columns 'town'"),
    "one column": (lambda: da.ones(5), ValueError, "Expected 2D array"),
    "a bag": (lambda: db.from_sequence([1]), TypeError, "DistributedStandardScaler takes"),
    "no rows": (lambda: chunked(X)[:0], ValueError, r"0 sample\(s\)"),
    "no rows after all": (lambda: chunked(X)[da.zeros(N, chunks=50) > 1],
                          ValueError, r"0 sample\(s\)"),
    "no weight": (lambda: (chunked(X), None, da.zeros(N, chunks=50)), ValueError, "sum to zero"),
    "negative weight": (lambda: (chunked(X), None, -da.ones(N, chunks=50)), ValueError, "Negative"),
    "weights of another length": (lambda: (chunked(X), None, np.ones(5)), ValueError,
                                  "inconsistent"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_the_scaler_as_it_was(case):
    make, kind, message = BAD[case]
    data = make()
    data = data if isinstance(data, tuple) else (data,)
    model = DistributedStandardScaler().fit(X)
    before = vars(model).copy()
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(kind, match=message):
            fit(*data)
        assert all(vars(model)[name] is before[name] for name in before)
        assert vars(model).keys() == before.keys()
    with pytest.raises(NotFittedError):
        DistributedStandardScaler().transform(chunked(X))
    with pytest.raises(ValueError, match=r"'with_mean' parameter .* must be an instance of 'bool'"):
        DistributedStandardScaler(with_mean="yes").fit(X)


def test_copy_is_about_what_the_caller_holds():
    for make, copy in ((np.array, False), (np.array, True), (sp.csr_array, False)):
        mine = make(X)
        scaler = DistributedStandardScaler(with_mean=False, copy=copy).fit(mine)
        same = scaler.transform(mine) is mine
        assert same == (not copy)
        changed = not np.array_equal(mine.toarray() if sp.issparse(mine) else mine, X)
        assert changed == (not copy)
    block = X.copy()
    lazy = da.from_array(block, chunks=(60, P))
    DistributedStandardScaler(copy=False).fit(lazy).transform(lazy).compute()
    np.testing.assert_array_equal(block, X)


def test_one_pass_and_nothing_left(process_client):
    """The fixture looks for data of the package; X itself must not stay, either."""
    reads = []

    def read(block, block_info=None):
        import distributed

        distributed.get_worker().log_event("reads-of-x", block_info[0]["chunk-location"])
        return block

    data = chunked(X, 20).map_blocks(read, dtype=float, meta=np.empty((0, 0)))
    model = DistributedStandardScaler().fit(data)
    assert_same_fit(model, StandardScaler().fit(X))
    reads = process_client.get_events("reads-of-x")
    assert len(reads) == data.numblocks[0]
    assert not any(process_client.has_what().values())
    lazy = model.transform(data)
    assert len(process_client.get_events("reads-of-x")) == data.numblocks[0]
    np.testing.assert_allclose(
        lazy.compute(scheduler=process_client), StandardScaler().fit_transform(X)
    )


def test_the_same_bits_wherever_it_runs(process_client):
    data = chunked(X, (0, 20, 55, 1, 44))
    on_cluster = DistributedStandardScaler().fit(data)
    in_a_task = process_client.submit(DistributedStandardScaler().fit, data, pure=False).result()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dask_dml.rounds.choose.current_client", lambda: None)
        here = DistributedStandardScaler().fit(data)
    for other in (here, in_a_task):
        np.testing.assert_array_equal(on_cluster.mean_, other.mean_)
        np.testing.assert_array_equal(on_cluster.var_, other.var_)


@pytest.mark.parametrize(
    "last", [DistributedGDRegressor(), DistributedSGDRegressor(random_state=0)]
)
def test_a_pipeline_is_distributed_from_end_to_end(client, last):
    y = X @ [1.0, 500.0, 0.1, 0.0] + 3.0
    table = pd.DataFrame(X, columns=list("abcd")).assign(y=y)
    frame = dd.from_pandas(table, npartitions=4)
    expected = make_pipeline(StandardScaler(), clone(last)).fit(X, y)
    cases = [
        (chunked(X, 50, 3), da.from_array(y, chunks=60)),
        (unknown(chunked(X, 50, 3)), unknown(da.from_array(y, chunks=50))),
        (frame[list("abcd")], frame.y),
        (frame[list("abcd")].values, frame.y.values),
    ]
    for data, target in cases:
        pipeline = make_pipeline(DistributedStandardScaler(), clone(last)).fit(data, target)
        lazy = pipeline.predict(data)
        assert isinstance(lazy, da.Array)
        np.testing.assert_allclose(lazy.compute(), expected.predict(X), atol=1e-2)
        assert pipeline.score(data, target) > 0.9999
    np.testing.assert_allclose(pipeline.predict(X), lazy.compute())
    assert pickle.loads(pickle.dumps(pipeline)).predict(X).shape == (N,)
