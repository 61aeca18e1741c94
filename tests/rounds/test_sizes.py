"""Data whose size is not known: real chunks are looked at before anything is placed."""

import logging
import re

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from dask_dml import DistributedGDRegressor
from dask_dml.input.read import read_input
from dask_dml.rounds import choose
from dask_dml.rounds.graphs import ThreadGraphs
from dask_dml.rounds.memory import LIBRARIES, memory_for_data
from dask_dml.rounds.sizes import SAMPLE, estimated_bytes

N_ROWS, N_FEATURES, N_CHUNKS = 2000, 20, 20
X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES))
X[np.random.default_rng(1).random(X.shape) < 0.95] = 0.0
Y = X @ np.arange(N_FEATURES)
DENSE = 8 * N_ROWS * (N_FEATURES + 1)


def frame():
    return dd.from_pandas(pd.DataFrame(X).rename(columns=str), npartitions=N_CHUNKS)


def csr(meta=None):
    """Return CSR chunks, under the meta of a dense array or under their own."""
    made = [
        da.from_delayed(
            dask.delayed(sp.csr_array)(part), part.shape, dtype=float,
            meta=np.empty((0, 0)) if meta is None else meta,
        )
        for part in np.split(X, N_CHUNKS)
    ]  # fmt: skip
    return da.concatenate(made)


def targets():
    return da.from_array(Y, chunks=N_ROWS // N_CHUNKS)


def sparse_bytes():
    rows = sp.csr_array(X)
    return rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes + 8 * N_ROWS


@pytest.mark.parametrize(("make", "truth"), [(frame, lambda: DENSE), (csr, sparse_bytes)])
def test_the_estimate_is_near_the_truth(make, truth):
    chunks = read_input(DistributedGDRegressor(), make(), targets())
    assert estimated_bytes(chunks, ThreadGraphs(2)) == pytest.approx(truth(), rel=0.15)


def test_few_chunks_are_looked_at():
    seen = []

    def make(number):
        seen.append(number)
        return X[:100]

    parts = [
        da.from_delayed(dask.delayed(make)(n), (100, N_FEATURES), dtype=float) for n in range(100)
    ]
    chunks = read_input(
        DistributedGDRegressor(), da.concatenate(parts), da.ones(10_000, chunks=100)
    )
    estimated_bytes(chunks, ThreadGraphs(1))
    assert len(seen) == SAMPLE
    assert {0, 99} <= set(seen)


@pytest.mark.parametrize(
    ("make", "memory", "engine"),
    [
        (frame, DENSE, "streaming"),
        (frame, 3 * DENSE, "cluster"),
        (csr, DENSE, "cluster"),
        (csr, 0.2 * DENSE, "streaming"),
        (lambda: csr(sp.csr_array((0, N_FEATURES))), 0.2 * DENSE, "streaming"),
        (lambda: csr(sp.csr_array((0, N_FEATURES))), DENSE, "cluster"),
        (lambda: da.from_array(X, chunks=(100, -1)), DENSE, "streaming"),
    ],
)
def test_what_does_not_fit_is_streamed(client, monkeypatch, caplog, make, memory, engine):
    """And a line says so, with both sizes."""
    monkeypatch.setattr(choose, "cluster_memory", lambda client: float(memory))
    with caplog.at_level(logging.WARNING, "dask_dml"):
        model = DistributedGDRegressor(alpha=0.0).fit(make(), targets())
    assert model.engine_ == engine
    np.testing.assert_allclose(model.coef_, np.arange(N_FEATURES), atol=1e-6)
    told = [record.getMessage() for record in caplog.records if record.name == "dask_dml"]
    if engine == "streaming":
        assert told[0].startswith("The workers may hold ")
        assert re.search(r"may hold [\d.]+ [kM]iB of X, which takes about [\d.]+ [kM]iB: ", told[0])
    else:
        assert not told


def test_sparse_chunks_under_a_dense_meta_are_held_in_this_process(monkeypatch):
    """They fit, and their meta says that they do not."""
    memory = type("Memory", (), {"available": 1.5 * DENSE})
    monkeypatch.setattr("psutil.virtual_memory", memory)
    with dask.config.set(scheduler="threads"):
        assert DistributedGDRegressor().fit(csr(), targets()).engine_ == "memory"
        rows = da.from_array(X, chunks=(100, -1))
        assert DistributedGDRegressor().fit(rows, targets()).engine_ == "streaming"


def test_what_turns_out_not_to_fit_into_this_process_is_streamed(monkeypatch, caplog):
    """Without a cluster nothing is looked at first: fetching finds out."""
    monkeypatch.setattr(choose, "LOCAL_SHARE", 1e-9)
    with dask.config.set(scheduler="threads"), caplog.at_level(logging.WARNING, "dask_dml"):
        assert DistributedGDRegressor().fit(frame(), targets()).engine_ == "streaming"
    (line,) = [record.getMessage() for record in caplog.records if record.name == "dask_dml"]
    assert re.match(r"This process may hold \d+ B of X, which takes more than that: ", line)


def test_memory_that_processes_take_for_themselves_holds_no_data():
    """As much as they take now, or will once they have loaded what a fit needs."""
    worker = {"memory_limit": 2**30, "metrics": {"memory": 700 * 2**20, "managed_bytes": 2**28}}
    assert memory_for_data(worker) == 2**30 - 700 * 2**20 + 2**28
    worker["metrics"]["memory"] = 2**31
    assert memory_for_data(worker) == 0
    worker["metrics"]["memory"] = 2**28
    assert memory_for_data(worker) == 2**30 - LIBRARIES
    assert memory_for_data({"memory_limit": 2**30, "metrics": {}}) == 3 * 2**28
