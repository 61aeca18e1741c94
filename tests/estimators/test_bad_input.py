"""Bad input: the message names the remedy and the chunk, and nothing is left behind."""

import dask
import dask.array as da
import dask.bag
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import reference
import scipy.sparse as sp

from dask_dml import DistributedGDRegressor

X, Y, WEIGHT = reference.table(60, 3, seed=41)
SIZES = (20, 0, 25, 15)


def chunked(array):
    return da.from_array(array, chunks=(SIZES, *array.shape[1:]))


def spoilt(array, row, value, column=1):
    array = array.copy()
    array[(row, column) if array.ndim == 2 else row] = value
    return array


def nothing(array):
    """Return chunks of unknown size, all of which turn out to be empty."""
    return chunked(array)[chunked(Y) > 1e9]


class Boom(Exception):
    """Of the user's own."""


def explode(block, block_info=None):
    if block_info and block_info[0]["chunk-location"][0] == 2:
        raise Boom("the disk is on fire")
    return block


CASES = {
    "NaN in X": (lambda: (chunked(spoilt(X, 30, np.nan)), Y, None), ValueError,
                 r"X contains NaN: chunk 2, row 10 of the chunk, column 1\. .*dropna"),
    "infinity in X": (lambda: (chunked(spoilt(X, 3, -np.inf)), Y, None), ValueError,
                      r"X contains infinity.* chunk 0, row 3 of the chunk, column 1\."),
    "infinity in CSR": (lambda: (chunked(spoilt(X, 46, np.inf)).map_blocks(sp.csr_array), Y, None),
                        ValueError, r"X contains infinity.* chunk 3, row 1 of the chunk"),
    "NaN in a frame": (lambda: (dd.from_pandas(
        pd.DataFrame(spoilt(X, 50, np.nan), columns=list("abc")), npartitions=3), Y, None),
        ValueError, r"X contains NaN: chunk 2, row 10 of the chunk, column ('b'|1)"),
    "NaN in y": (lambda: (chunked(X), chunked(spoilt(Y, 21, np.nan)), None), ValueError,
                 r"y contains NaN in chunk 2, row 1 of the chunk"),
    "NaN in the weights": (lambda: (chunked(X), Y, chunked(spoilt(WEIGHT, 59, np.nan))),
                           ValueError, r"sample_weight contains NaN in chunk 3, row 14"),
    "negative weights": (lambda: (chunked(X), Y, chunked(spoilt(WEIGHT, 20, -1.0))), ValueError,
                         r"Negative values in data passed to `sample_weight` in chunk 2"),
    "overflow": (lambda: (chunked(spoilt(X, 40, 1e200)), Y, None), ValueError,
                 r"squares overflow \(chunk \d\); divide the largest"),
    "unequal lengths": (lambda: (chunked(X), da.from_array(Y[:50], chunks=20), None), ValueError,
                        r"inconsistent numbers of samples: \[60, 50\]"),
    "unequal weights": (lambda: (chunked(X), Y, da.from_array(WEIGHT[:50], chunks=20)), ValueError,
                        r"inconsistent numbers of samples: \[60, 50\]"),
    "text columns": (lambda: (dd.from_pandas(pd.DataFrame(
        {"a": X[:, 0], "town": ["x"] * 60}), npartitions=2), Y, None), ValueError,
        r"columns 'town' .*not numeric.*get_dummies"),
    "no rows": (lambda: (chunked(X)[:0], Y[:0], None), ValueError, r"0 sample\(s\).*minimum of 1"),
    "only empty chunks": (lambda: (nothing(X), nothing(Y), None), ValueError, r"0 sample\(s\)"),
    "no columns": (lambda: (chunked(X[:, :0]), Y, None), ValueError, r"0 feature\(s\)"),
    "no weight": (lambda: (chunked(X), Y, da.zeros(60, chunks=20)), ValueError,
                  r"weights sum to zero.*positive sample_weight"),
    "a chunk whose task raises": (lambda: (chunked(X).map_blocks(explode, dtype=float), Y, None),
                                  Boom, "the disk is on fire"),
    "y whose task raises": (lambda: (chunked(X), chunked(Y).map_blocks(explode, dtype=float), None),
                            Boom, "the disk is on fire"),
    "a single column as X": (lambda: (da.from_array(Y, chunks=20), Y, None), ValueError,
                             r"Expected 2D array, got 1D array.*reshape"),
    "a bag": (lambda: (dask.bag.from_sequence([1, 2]), Y, None), TypeError, "takes dask arrays"),
}  # fmt: skip


def assert_rejected(case):
    make, kind, message = CASES[case]
    data, y, weight = make()
    model = DistributedGDRegressor()
    with pytest.raises(kind, match=f"(?s){message}"):
        model.fit(data, y, weight)
    assert vars(model) == vars(DistributedGDRegressor())
    model.fit(pd.DataFrame(X, columns=["u", "v", "w"]), Y)
    before = vars(model).copy()
    with pytest.raises(kind):
        model.fit(data, y, weight)
    assert vars(model) == before  # the very same objects
    assert all(vars(model)[name] is before[name] for name in before)


@pytest.mark.parametrize("case", CASES)
def test_bad_chunks_on_a_cluster(client, case):
    """The fixture checks that no key is left on the workers."""
    assert_rejected(case)


@pytest.mark.parametrize("case", CASES)
def test_bad_chunks_without_a_cluster(case):
    with dask.config.set(scheduler="synchronous"):
        assert_rejected(case)


@pytest.mark.parametrize("case", ["NaN in X", "a chunk whose task raises", "unequal lengths"])
def test_bad_chunks_in_other_processes(process_client, case):
    assert_rejected(case)


@pytest.mark.parametrize("case", ["a chunk whose task raises", "NaN in X"])
def test_the_note_names_the_chunk(client, case):
    make, kind, _ = CASES[case]
    with pytest.raises(kind) as caught:
        DistributedGDRegressor().fit(*make())
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "chunk 2" in told


IN_MEMORY = {
    "NaN in X": (lambda: (spoilt(X, 3, np.nan), Y, None), "X contains NaN"),
    "infinity in CSR": (lambda: (sp.csr_array(spoilt(X, 3, np.inf)), Y, None), "contains infinity"),
    "NaN in y": (lambda: (X, spoilt(Y, 3, np.nan), None), "y contains NaN"),
    "NaN in the weights": (lambda: (X, Y, spoilt(WEIGHT, 3, np.nan)), "sample_weight contains NaN"),
    "negative weights": (lambda: (X, Y, -WEIGHT), "Negative values.*`sample_weight`"),
    "no weight": (lambda: (X, Y, 0 * WEIGHT), "at least one non-zero"),
    "unequal lengths": (lambda: (X, Y[:3], None), "inconsistent numbers of samples"),
    "unequal weights": (lambda: (X, Y, WEIGHT[:3]), "sample_weight.shape"),
    "text columns": (lambda: (pd.DataFrame({"a": Y, "town": ["x"] * 60}), Y, None), "'town'"),
    "no rows": (lambda: (X[:0], Y[:0], None), r"0 sample\(s\)"),
    "overflow": (lambda: (spoilt(X, 3, 1e200), Y, None), "overflow.*divide the largest"),
    "complex": (lambda: (X * 1j, Y, None), "Complex data not supported"),
    "no y": (lambda: (X, None, None), "requires y to be passed"),
}


@pytest.mark.parametrize("case", IN_MEMORY)
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("solver", ["auto", "accelerated", "gd"])
def test_bad_data_in_memory(case, loss, solver):
    make, message = IN_MEMORY[case]
    model = DistributedGDRegressor(loss, solver=solver)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        model.fit(*make())
    assert vars(model) == vars(DistributedGDRegressor(loss, solver=solver))


def test_a_failed_search_for_parameters_leaves_no_trace(client):
    model = DistributedGDRegressor("huber", solver="statistics")
    with pytest.raises(ValueError, match="statistics"):
        model.fit(chunked(X), Y)
    with pytest.raises(ValueError, match="diverged"):
        DistributedGDRegressor(solver="gd", learning_rate="constant", eta0=1e3).fit(chunked(X), Y)


def test_an_interrupted_fit_changes_nothing(monkeypatch):
    model = DistributedGDRegressor("huber").fit(X, Y)
    before = vars(model).copy()

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("dask_dml.solvers.choose.minimise", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:, :2], Y)
    assert vars(model) == before
