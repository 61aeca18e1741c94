"""Malformed input of every kind, drawn at random, for every method of every estimator."""

import os

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler

#: Inputs that are drawn without a cluster; a quarter as many are on one.
EXAMPLES = int(os.environ.get("DASK_DML_EXAMPLES", "200"))

N_CHUNKS, CHUNK_ROWS, N_FEATURES = 3, 12, 4
N_ROWS = N_CHUNKS * CHUNK_ROWS
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N_ROWS, N_FEATURES))
Y = X @ [1.0, -2.0, 0.5, 3.0]
CLASSES = (Y > 0).astype(int)
WEIGHTS = RNG.random(N_ROWS) + 0.5

ESTIMATORS = {
    "gd": (DistributedGDRegressor(), Y),
    "huber": (DistributedGDRegressor("huber", max_iter=3), Y),
    "sgd": (DistributedSGDRegressor(max_iter=4, tol=None, random_state=0), Y),
    "svc": (DistributedLinearSVC(), CLASSES),
    "hinge": (DistributedLinearSVC(loss="hinge", solver="dual"), CLASSES),
    "scaler": (DistributedStandardScaler(with_mean=False), None),
}
FITTED = {
    name: clone(model).fit(X, *(() if y is None else (y,)))
    for name, (model, y) in ESTIMATORS.items()
    if name != "huber"
}
METHODS = ("fit", "partial_fit", "predict", "decision_function", "score", "transform")


def cell(value):
    def spoil(chunk, row, column):
        chunk = chunk.astype(np.result_type(chunk, type(value)))
        chunk[row, column] = value
        return chunk

    return spoil


def index(value):
    def spoil(chunk, row, column):
        chunk = sp.csr_array(chunk)
        chunk.indices[row] = value
        return chunk

    return spoil


def masked(chunk, row, column):
    chunk = np.ma.masked_array(chunk)
    chunk[row, column] = np.ma.masked
    return chunk


#: What is done to one chunk of X, and whether a scaler takes it.
OF_X = {
    "NaN": (cell(np.nan), True),
    "infinity": (cell(-np.inf), False),
    "text": (lambda X, row, column: cell("red")(X.astype(object), row, column), False),
    "complex": (cell(1j), False),
    "dates": (lambda X, row, column: X.astype("M8[s]"), False),
    "masked": (masked, False),
    "no index": (index(N_FEATURES), False),
    "an index far away": (index(2**30), False),
    "a negative index": (index(-1), False),
    "too few columns": (lambda X, row, column: X[:, 1:], False),
    "too many columns": (lambda X, row, column: np.hstack([X, X]), False),
    "one axis": (lambda X, row, column: X[:, column], False),
    "three axes": (lambda X, row, column: X[None], False),
}
#: What is done to y, or to the weights.
OF_ROWS = {
    "NaN": lambda v, row: np.where(np.arange(N_ROWS) == row, np.nan, v),
    "infinity": lambda v, row: np.where(np.arange(N_ROWS) == row, np.inf, v),
    "too short": lambda v, row: v[: row or 1],
    "complex": lambda v, row: v * 1j,
    "masked": lambda v, row: np.ma.masked_array(v, mask=np.arange(N_ROWS) == row),
    "three axes": lambda v, row: np.stack([[v]] * 2),
    "text": lambda v, row: np.where(np.arange(N_ROWS) == row, "red", v.astype(str)),
}


@st.composite
def malformed(draw):
    name = draw(st.sampled_from(sorted(ESTIMATORS)))
    model, y = ESTIMATORS[name]
    method = draw(st.sampled_from([m for m in METHODS if hasattr(model, m)]))
    takes_y = y is not None and method in ("fit", "partial_fit", "score")
    part = draw(st.sampled_from(["X", "X", "y", "sample_weight"] if takes_y else ["X"]))
    faults = OF_ROWS if part != "X" else OF_X
    fault = draw(st.sampled_from(sorted(faults)))
    if part == "X" and name == "scaler" and OF_X[fault][1]:
        fault = "infinity"
    if part == "y" and y is CLASSES and fault == "text":
        fault = "NaN"  # words are classes as any
    # In memory the columns of a first fit are what they are.
    lazy = draw(st.booleans()) or ("columns" in fault and method == "fit")
    return (
        name, method, part, fault, lazy,
        draw(st.integers(0, N_CHUNKS - 1)), draw(st.integers(0, CHUNK_ROWS - 1)),
        draw(st.integers(0, N_FEATURES - 1)),
    )  # fmt: skip


def table(fault, lazy, chunk, row, column):
    spoil = OF_X[fault][0]
    if not lazy:
        return spoil(X.copy(), row, column)
    parts = np.split(X, N_CHUNKS)
    parts[chunk] = spoil(parts[chunk].copy(), row, column)
    shape = (CHUNK_ROWS, N_FEATURES)
    delayed = [dask.delayed(part, traverse=False) for part in parts]
    return da.concatenate([da.from_delayed(part, shape, dtype=float) for part in delayed])


def arguments(case):
    name, _, part, fault, lazy, chunk, row, column = case
    rows = da.from_array(X, chunks=(CHUNK_ROWS, -1)) if lazy else X
    y, weights = ESTIMATORS[name][1], None
    if part == "X":
        rows = table(fault, lazy, chunk, row, column)
    elif part == "y":
        y = OF_ROWS[fault](y.astype(float), chunk * CHUNK_ROWS + row)
    else:
        weights = OF_ROWS[fault](WEIGHTS, chunk * CHUNK_ROWS + row)
    return rows, y, weights


def told(error):
    return " ".join([str(error), *getattr(error, "__notes__", ())])


def check(case):
    name, method, part, _, lazy, chunk, *_ = case
    model = clone(ESTIMATORS[name][0]) if method == "fit" else FITTED.get(name)
    if model is None:
        return
    rows, y, weights = arguments(case)
    before = vars(model).copy()
    extra = () if y is None or method not in ("fit", "partial_fit", "score") else (y,)
    weighted = {} if weights is None else {"sample_weight": weights}
    with pytest.raises((ValueError, TypeError)) as caught:
        dask.compute(getattr(model, method)(rows, *extra, **weighted))
    message = told(caught.value)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[key] is value for key, value in before.items())
    if part == "X" and lazy:
        assert f"chunk {chunk}" in message, message
    elif part == "X":
        assert any(word in message for word in ("X", "array", "Complex data", "features")), message
    else:
        words = {"y": ("y", "samples"), "sample_weight": ("sample_weight", "ample weights")}[part]
        assert any(word in message for word in (*words, "Complex data")), message


@settings(max_examples=EXAMPLES)
@given(malformed())
def test_malformed_input_is_refused_without_a_cluster(case):
    with dask.config.set(scheduler="synchronous"):
        check(case)


@settings(max_examples=EXAMPLES // 4)
@given(malformed())
def test_malformed_input_is_refused_on_a_cluster(client, case):
    """The fixture checks that nothing is left on the workers."""
    check(case)
