"""Where scikit-learn's searches on dask data end: with a clear error, and without hanging."""

from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV, cross_val_score

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 3))
Y = X @ [1.0, 2.0, 3.0]


def chunked(array):
    return da.from_array(array, chunks=(100, *array.shape[1:]))


def test_unknown_sizes_are_named_with_the_remedy():
    unknown = chunked(X)[chunked(Y) > -1e9]
    with pytest.raises(ValueError, match="unknown chunk size"):
        cross_val_score(DistributedGDRegressor(), unknown, Y, error_score="raise")
    known = unknown.compute_chunk_sizes()
    assert cross_val_score(DistributedGDRegressor(), known, Y, error_score="raise").min() > 0.9


def test_dataframes_become_arrays_first():
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abc")), npartitions=3)
    with pytest.raises(AttributeError, match="take"):
        cross_val_score(DistributedGDRegressor(), frame, Y, error_score="raise")
    array = frame.to_dask_array(lengths=True)
    assert cross_val_score(DistributedGDRegressor(), array, Y, error_score="raise").min() > 0.9


@pytest.fixture
def processes():
    yield
    get_reusable_executor().shutdown(wait=True)


def test_processes_cannot_see_persisted_data(client, processes):
    """The fit in the process says so at once, instead of waiting for a cluster it has not."""
    dX, dy = dask.persist(chunked(X), chunked(Y))
    search = GridSearchCV(DistributedGDRegressor(), {"alpha": [0.1]}, cv=2, n_jobs=2)
    with pytest.raises(ValueError, match=r"(?s)All the 2 fits failed.*no client of that cluster"):
        search.fit(dX, dy)
    search.set_params(error_score="raise")
    with pytest.raises(RuntimeError, match=r"no client of that cluster.*leave n_jobs=None"):
        search.fit(dX, dy)
    assert search.set_params(n_jobs=None).fit(dX, dy).best_score_ > 0.9


def test_threads_share_the_client(client):
    """Fits of a search that run at once, on one cluster."""
    dX, dy = dask.persist(chunked(X), chunked(Y))
    search = GridSearchCV(DistributedGDRegressor(), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2)
    # Threads do not have the context of the test: they need a default client.
    with Client(client.cluster), parallel_config(backend="threading"):
        search.set_params(error_score="raise").fit(dX, dy)
    plain = GridSearchCV(DistributedGDRegressor(), {"alpha": [0.1, 1.0]}, cv=2).fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, plain.cv_results_["mean_test_score"], rtol=1e-9)


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (DistributedGDRegressor(), Y),
        (DistributedSGDRegressor(), Y),
        (DistributedLinearSVC(), np.where(Y > 0, "a", "b")),
    ],
)
@pytest.mark.parametrize("held", ["X", "y", "weight"])
def test_data_of_a_client_that_is_gone(client, model, y, held):
    data = {"X": chunked(X), "y": chunked(y), "weight": da.ones(300, chunks=100)}
    data[held] = data[held].persist()
    fitted = type(model)().fit(X, y)
    before = vars(model).copy()

    def outside():
        with dask.config.set(scheduler="threads"):
            for call in (model.fit, fitted.score):
                with pytest.raises(RuntimeError, match="no client of that cluster"):
                    call(*data.values())

    # A thread does not have the context of the test, and so no client.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(outside).result(60)
    assert vars(model) == before
