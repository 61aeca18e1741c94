"""Story 6: sparse chunks, and text hashed into a million columns."""

import json
import subprocess
import sys

import dask.array as da
import dask.bag as db
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler

WIDE = 2**20
rng = np.random.default_rng(4)
WORDS = np.array([f"word{n}" for n in range(150)])
DOCUMENTS = [" ".join(rng.choice(WORDS, 10)) for _ in range(400)]
VECTORIZER = HashingVectorizer()
CSR = VECTORIZER.transform(DOCUMENTS)
COLUMNS = np.unique(CSR.indices)
DENSE = CSR[:, COLUMNS].toarray()
Y = DENSE @ rng.normal(size=len(COLUMNS)) + 2.0 + 0.1 * rng.normal(size=len(DENSE))

MODELS = {
    "GD": (DistributedGDRegressor(alpha=1e-3, tol=1e-10), 1e-4),
    "SGD": (DistributedSGDRegressor(alpha=1e-2, random_state=0, max_iter=10, tol=None), 1e-2),
    "SVC": (DistributedLinearSVC(tol=1e-8), 1e-3),
    "pipeline": (make_pipeline(DistributedStandardScaler(with_mean=False),
                               DistributedGDRegressor(alpha=1e-1, tol=1e-10)), 1e-4),
}  # fmt: skip


def of_a_bag():
    hashed = db.from_sequence(DOCUMENTS, npartitions=4).map_partitions(VECTORIZER.transform)
    parts = [da.from_delayed(part, (np.nan, WIDE), float) for part in hashed.to_delayed()]
    return da.concatenate(parts, allow_unknown_chunksizes=True)


def of_an_array():
    texts = da.from_array(np.array(DOCUMENTS, dtype=object), chunks=100)
    sizes = ((np.nan,) * texts.numblocks[0], (WIDE,))
    return texts.map_blocks(VECTORIZER.transform, dtype=float, new_axis=1, chunks=sizes)


def last(model):
    return model.steps[-1][1] if hasattr(model, "steps") else model


# Coefficients and scales of a million columns go along with the graph of a lazy result.
@pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")
@pytest.mark.parametrize("source", [of_a_bag, of_an_array])
@pytest.mark.parametrize("name", MODELS)
def test_hashed_text_equals_the_dense_fit_on_the_same_columns(client, name, source):
    X = source()
    assert np.isnan(X.shape[0])
    assert X.shape[1] == WIDE
    template, tolerance = MODELS[name]
    target = np.where(np.median(Y) < Y, "up", "down") if name == "SVC" else Y
    expected = clone(template).fit(DENSE, target)
    model = clone(template).fit(X, da.from_array(target, chunks=100))
    coef, want = np.ravel(last(model).coef_), np.ravel(last(expected).coef_)
    np.testing.assert_allclose(coef[COLUMNS], want, atol=tolerance * np.abs(want).max())
    assert np.count_nonzero(coef) == np.count_nonzero(coef[COLUMNS])
    lazy = model.predict(X)
    assert lazy.numblocks == (4,)
    assert (lazy.compute() == model.predict(CSR)).all()
    assert model.score(X, da.from_array(target, chunks=150)) == pytest.approx(
        expected.score(DENSE, target), abs=tolerance
    )


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array])
@pytest.mark.parametrize("name", MODELS)
def test_blocks_mapped_to_csr(client, name, kind):
    table = np.where(rng.random((120, 5)) < 0.5, rng.normal(size=(120, 5)), 0.0)
    target = table @ [1.0, -1.0, 2.0, 0.0, 0.5] + 1.0
    target = target > 1.0 if name == "SVC" else target
    template, tolerance = MODELS[name]
    X = da.from_array(table, chunks=(50, 5)).map_blocks(kind)
    expected = clone(template).fit(table, target)
    model = clone(template).fit(X, da.from_array(target, chunks=60))
    want = last(expected).coef_
    np.testing.assert_allclose(last(model).coef_, want, atol=tolerance * np.abs(want).max())
    np.testing.assert_allclose(
        model.predict(X).compute().astype(float), expected.predict(table).astype(float),
        atol=3 * tolerance * np.abs(target).max(),
    )  # fmt: skip


MEASURED = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
import dask, numpy as np
from sklearn.base import clone
import test_wide_text as story

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB

dask.config.set(scheduler="synchronous")
narrow = story.da.from_array(story.DENSE, chunks=(100, -1)).map_blocks(story.sp.csr_matrix)
used = {}
for name, (template, _) in story.MODELS.items():
    target = story.Y > np.median(story.Y) if name == "SVC" else story.Y
    clone(template).fit(narrow, target)  # the compiler's memory is not of interest
    before = peak()
    model = clone(template).fit(story.of_an_array(), target)
    model.predict(story.of_an_array()).compute()
    used[name] = peak() - before
print(json.dumps(used))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux reports it")
def test_peak_memory_is_far_below_that_of_dense_chunks():
    """A single dense chunk would be 0.8 GB, the whole of X 3.4 GB."""
    from pathlib import Path

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURED, str(Path(__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout.splitlines()[-1])
    assert set(used) == set(MODELS)
    dense_chunk = 100 * WIDE * 8
    assert sum(used.values()) < 0.6 * dense_chunk, used
