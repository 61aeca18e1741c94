"""Sparse matrices whose arrays contradict their shape, masks, dates, and no arrays at all."""

import copy

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.input.sparse_format import check_sparse
from dask_dml.preprocessing import (
    DistributedMaxAbsScaler,
    DistributedSimpleImputer,
    DistributedStandardScaler,
)

N_ROWS, N_FEATURES = 40, 5
X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES))
Y = X[:, 0] + 0.1 * X[:, 1]
CLASSES = (Y > 0).astype(int)


def sparse(kind="csr"):
    """Return a matrix of which the caller may spoil whatever it likes."""
    return sp.random_array((N_ROWS, N_FEATURES), density=0.5, random_state=0, format=kind)


def beyond(X):
    X.indices[7] = N_FEATURES


def far_beyond(X):
    X.indices[7] = 2**30


def negative(X):
    X.indices[7] = -1


def falling(X):
    X.indptr[5] = X.indptr[4] - 1


def beyond_the_end(X):
    X.indptr[5] = 2**30


def not_from_zero(X):
    X.indptr[0] = 1


def too_few_rows(X):
    X.indptr = X.indptr[:-1]


def too_few_values(X):
    X.data = X.data[:-3]


def no_integers(X):
    X.indices = X.indices.astype(float)


FAULTS = {
    beyond: r"row \d+ has the column index 5, but there are 5 columns",
    far_beyond: r"has the column index 1073741824",
    negative: r"has the column index -1",
    falling: r"indptr has to rise from 0, and does not at row 4",
    beyond_the_end: r"indptr",
    not_from_zero: r"indptr has to rise from 0, and does not at row 0",
    too_few_rows: r"has to hold 41 integers",
    too_few_values: r"indptr ends at 100, but there are 97 entries",
    no_integers: r"have dtype float64",
}


def spoilt(fault):
    X = sparse()
    fault(X)
    return X


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(fault):
    with pytest.raises(ValueError, match=rf"^y is a malformed sparse CSR matrix.*{FAULTS[fault]}"):
        check_sparse(spoilt(fault), "y")


def spoilt_csc():
    X = sparse("csc")
    X.indices[3] = N_ROWS
    return X


def spoilt_coo():
    X = sparse("coo")
    X.coords[0][3] = N_ROWS
    return X


def spoilt_bsr():
    X = sp.bsr_array(sp.random_array((6, 6), density=0.5, random_state=0), blocksize=(2, 3))
    X.indices[0] = 2
    return X


def spoilt_lil():
    X = sparse("lil")
    X.rows[0] = [9]
    X.data[0] = [1.0]
    return X


def uneven_lil():
    X = sparse("lil")
    X.data[0] = [*X.data[0], 1.0]
    return X


def spoilt_dia():
    X = sp.dia_array(np.eye(6))
    X.offsets = np.append(X.offsets, 1)
    return X


@pytest.mark.parametrize(
    "make", [spoilt_csc, spoilt_coo, spoilt_bsr, spoilt_lil, uneven_lil, spoilt_dia]
)
def test_other_formats(make):
    with pytest.raises(ValueError, match=r"^X is a malformed sparse"):
        check_sparse(make())


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
@pytest.mark.parametrize("shape", [(40, 5), (0, 5), (6, 6), (3, 0)])
def test_sound_matrices_pass(kind, shape):
    if kind == "bsr" and 0 in shape:
        pytest.skip("SciPy makes none")
    X = sp.random_array(shape, density=0.5, random_state=0).asformat(kind)
    check_sparse(X)


def _is_sound(X):
    """Return what SciPy's own full check thinks."""
    try:
        copy.deepcopy(X).check_format(full_check=True)
    except ValueError:
        return False
    return True


@given(
    st.sampled_from(["indices", "indptr", "data"]),
    st.integers(0, 40),
    st.sampled_from([-3, -1, 0, 1, 4, 5, 17, 100, 101, 2**31 - 1]),
    st.booleans(),
    st.sampled_from(["csr", "csc"]),
)
def test_scipys_own_check_agrees(name, place, value, shorten, kind):
    X = sparse(kind)
    if shorten:
        setattr(X, name, getattr(X, name)[:place])
    else:
        array = getattr(X, name)
        array[place % len(array)] = value
    if _is_sound(X) and X.nnz > 0:  # SciPy looks no further where it counts no entries
        check_sparse(X)
    elif not _is_sound(X):
        with pytest.raises(ValueError, match="malformed"):
            check_sparse(X)


def lazy(*chunks):
    """Return a dask array of chunks that it knows nothing of but their shape."""
    made = [
        da.from_delayed(dask.delayed(chunk, traverse=False), (N_ROWS, N_FEATURES), dtype=float)
        for chunk in chunks
    ]
    return da.concatenate(made)


ESTIMATORS = {
    "gd": (DistributedGDRegressor, Y),
    "sgd": (DistributedSGDRegressor, Y),
    "svc": (DistributedLinearSVC, CLASSES),
    "hinge": (lambda: DistributedLinearSVC(loss="hinge", solver="dual"), CLASSES),
    "scaler": (lambda: DistributedStandardScaler(with_mean=False), None),
}


def operations(name):
    """Yield what can be done with bad rows, by a fitted estimator and by a fresh one."""
    make, y = ESTIMATORS[name]
    fitted = make().fit(sp.csr_array(X), y)
    twice = None if y is None else np.tile(y, 2)

    def labels(rows):
        n_rows = len(rows) if isinstance(rows, list) else rows.shape[0]
        return () if y is None else (twice[:n_rows],)

    for estimator in (make(), fitted):
        yield estimator, lambda rows, e=estimator: e.fit(rows, *labels(rows))
    for method in ("predict", "decision_function", "transform", "inverse_transform"):
        if hasattr(fitted, method):
            yield fitted, lambda rows, m=method: compute(getattr(fitted, m)(rows))
    for method in ("score", "partial_fit"):
        if hasattr(fitted, method):
            yield fitted, lambda rows, m=method: getattr(fitted, m)(rows, *labels(rows))


def compute(values):
    return values.compute() if dask.is_dask_collection(values) else values


def assert_refused(name, rows, message):
    for estimator, operation in operations(name):
        before = vars(estimator).copy()
        with pytest.raises(ValueError, match=message):
            operation(rows)
        assert vars(estimator).keys() == before.keys()
        assert all(vars(estimator)[key] is value for key, value in before.items())


@pytest.mark.parametrize("fault", [beyond, far_beyond, negative, beyond_the_end])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_estimator_takes_a_malformed_matrix(name, fault):
    assert_refused(name, spoilt(fault), r"X is a malformed sparse CSR matrix")
    rows = lazy(sparse(), spoilt(fault))
    assert_refused(name, rows, r"X is a malformed sparse CSR matrix.* in chunk 1: ")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nor_does_a_cluster(process_client, name):
    """Of processes: none of them crashes, and the fixture checks that nothing is left on them."""
    pids = process_client.run(_pid)
    assert_refused(name, lazy(sparse(), spoilt(far_beyond)), r"malformed.* in chunk 1: ")
    assert process_client.run(_pid) == pids


@pytest.mark.parametrize("fault", [beyond, far_beyond, negative, beyond_the_end])
def test_nor_does_a_transformer_of_scikit_learns_kind(fault):
    """They hand rows to scikit-learn, which reads outside of its memory."""
    message = r"X is a malformed sparse CSR matrix"
    fitted = DistributedMaxAbsScaler().fit(sp.csr_array(X))
    lazily = lazy(sparse(), spoilt(fault))
    for estimator in (DistributedMaxAbsScaler(), DistributedSimpleImputer()):
        with pytest.raises(ValueError, match=message):
            estimator.fit(spoilt(fault))
        with pytest.raises(ValueError, match=message + ".* in chunk 1: "):
            estimator.fit(lazily)
        assert "n_features_in_" not in vars(estimator)
    for rows in (spoilt(fault), lazily):
        with pytest.raises(ValueError, match=message):
            compute(fitted.transform(rows))


def _pid():
    import os

    return os.getpid()


def test_malformed_targets():
    column = sp.csr_array(Y[:, None])
    column.indices[2] = 2**30
    with pytest.raises(ValueError, match="y is a malformed sparse"):
        DistributedGDRegressor().fit(X, column)
    target = da.from_delayed(dask.delayed(column, traverse=False), (N_ROWS, 1), dtype=float)
    with pytest.raises(ValueError, match=r"y is a malformed sparse.* in chunk 0"):
        DistributedGDRegressor().fit(lazy(X), target)


def test_malformed_chunks_of_columns():
    rows = da.concatenate([lazy(sparse()), lazy(spoilt(far_beyond))], axis=1)
    model = DistributedGDRegressor().fit(np.hstack([X, X]), Y)
    for operation in (model.predict, lambda rows: model.fit(rows, Y)):
        with pytest.raises(ValueError, match="malformed"):
            compute(operation(rows))


# --- Other arrays of numbers that are none --------------------------------------------------------

DATES = np.datetime64("2020-01-01", "s") + np.arange(N_ROWS * N_FEATURES).reshape(X.shape)
MASKED = np.ma.masked_array(X, mask=X > 1.0)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("rows", [DATES, DATES - DATES[0], list(map(list, DATES))])
def test_dates_are_refused(name, rows):
    assert_refused(name, rows, r"X has dtype (datetime|timedelta)64\[s\]; convert it to numbers")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_masks_are_not_dropped(name):
    assert_refused(name, MASKED, r"X is a masked array with \d+ masked.*\.filled")
    assert_refused(name, lazy(X, MASKED), r"X is a masked array with \d+ masked.* in chunk 1")


def test_masked_targets_labels_and_weights():
    masked = np.ma.masked_array(CLASSES, mask=Y > 1.0)
    svc = DistributedLinearSVC().fit(X, CLASSES)
    for rows in (X, da.from_array(X, chunks=20)):
        for operation in (
            lambda rows: DistributedGDRegressor().fit(rows, masked),
            lambda rows: DistributedLinearSVC().fit(rows, masked),
            lambda rows: svc.score(rows, masked),
            lambda rows: svc.score(rows, da.from_array(masked, chunks=20, asarray=False)),
        ):
            with pytest.raises(ValueError, match="y is a masked array"):
                operation(rows)
        with pytest.raises(ValueError, match="sample_weight is a masked array"):
            svc.fit(rows, CLASSES, abs(masked))


def test_an_array_with_nothing_masked_is_an_array():
    open_mask = np.ma.masked_array(X, mask=np.zeros(X.shape, bool))
    model = DistributedGDRegressor()
    assert np.array_equal(model.fit(open_mask, Y).coef_, model.fit(X, Y).coef_)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(
    "chunk", [None, 3.0, "words", X[:, 0], X[:, :, None], np.full((3, 5), "red", object)]
)
def test_chunks_that_are_no_table(name, chunk):
    assert_refused(name, lazy(X, chunk), r" in chunk 1")


def test_partitions_that_are_no_table():
    import dask.dataframe as dd

    frame = pd.DataFrame(X, columns=list("abcde"))
    model = DistributedGDRegressor().fit(frame, Y)
    parts = [dask.delayed(frame), dask.delayed(frame[["a", "b"]].set_index(frame.index + 40))]
    rows = dd.from_delayed(parts, meta=frame, verify_meta=False)
    with pytest.raises(ValueError, match="X has 2 features in the partition from index 40 on, but"):
        model.predict(rows).compute()


# --- Values that are too large --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gd", "sgd", "svc", "hinge", "scaler"])
@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_the_chunk_of_the_largest_value_is_named(client, name, container):
    """Small chunks are merged to one block."""
    make, y = ESTIMATORS[name]
    rows = np.tile(X, (3, 1))
    rows[97, 2] = -1e300
    chunks = da.from_array(rows, chunks=(20, 5)).map_blocks(container)
    with pytest.raises(
        ValueError, match=r"overflow \(chunk 4\); divide .*is -1e\+300, in row 17.*column 2\."
    ):
        make().fit(chunks, *(() if y is None else (np.tile(y, 3),)))


def test_weights_that_are_no_numbers():
    for rows in (X, da.from_array(X, chunks=20)):
        with pytest.raises(ValueError, match=r"sample_weight .*'balanced'.* class_weight"):
            DistributedLinearSVC().fit(rows, CLASSES, sample_weight="balanced")
