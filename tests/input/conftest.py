import dask
import numpy as np
import pytest
from inputs import Model, blocks_of, dense

from dask_dml.input.read import read_input


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def table():
    """X of shape (20, 3), y and weights of shape (20,)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 3)), rng.normal(size=20), rng.random(20)


@pytest.fixture
def assert_reads(model, table):
    """Read some containers, and compare all blocks with the table they were made from."""

    def check(X, y, weight=None):
        chunks = read_input(model, X, y, weight)
        blocks = blocks_of(chunks)
        np.testing.assert_array_equal(np.concatenate([dense(b) for b in blocks]), table[0])
        np.testing.assert_array_equal(np.concatenate([b.y for b in blocks])[:, 0], table[1])
        if weight is None:
            assert chunks.weight is None
        else:
            np.testing.assert_array_equal(np.concatenate([b.weight for b in blocks]), table[2])
        assert model.n_features_in_ == chunks.n_features == 3
        return chunks, blocks

    return check
