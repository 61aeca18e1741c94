"""joblib's Dask backend, and fits inside of Dask tasks: local, one thread, no deadlock."""

import threading

import dask.array as da
import numpy as np
import pytest
import threadpoolctl
from distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, cross_val_score

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.rounds import choose

RNG = np.random.default_rng(0)
# Large enough that a fit outside of a task would take several threads.
X = RNG.standard_normal((40_000, 8))
Y = X @ np.arange(8.0) + RNG.standard_normal(len(X))
LABELS = (X[:, 0] > 0).astype(int)
MODELS = {
    "gd": (DistributedGDRegressor(n_jobs=2), {"alpha": [1e-4, 1e-2]}, Y),
    "sgd": (DistributedSGDRegressor(random_state=0, n_jobs=2), {"alpha": [1e-4, 1e-2]}, Y),
    "svc": (DistributedLinearSVC(n_jobs=2), {"C": [0.01, 0.1]}, LABELS),
}
each = pytest.mark.parametrize("name", MODELS)


def chunked(array):
    return da.from_array(array, chunks=(10_000, *array.shape[1:]))


@pytest.fixture
def engines(monkeypatch):
    """Record where every engine is opened, and with how many threads."""
    opened = []

    class Recording(choose.LocalRounds):
        def __init__(self, shards, n_threads=1):
            opened.append((choose.in_task(), n_threads))
            super().__init__(shards, n_threads)

    monkeypatch.setattr(choose, "LocalRounds", Recording)
    return opened


@pytest.fixture(scope="module")
def default():
    """Workers with one thread in this process, and a client that is the default of all threads.

    With one worker joblib would not use the cluster at all, and its threads do not have the
    context of a test.  The cluster is not the shared one, whose workers would go on using this
    client after it is closed.
    """
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@each
def test_a_search_runs_its_fits_inside_of_tasks(default, engines, name):
    model, grid, y = MODELS[name]
    kind = {"cv": 2, "error_score": "raise", "refit": False}
    plain = GridSearchCV(model, grid, **kind).fit(X, y)
    # Here, outside of a task, with as many threads as were asked for; nobody is asked for those of
    # the classifier's score, and one does for so few rows.
    assert set(engines) == ({(False, 2), (False, 1)} if name == "svc" else {(False, 2)})
    engines.clear()
    with parallel_config(backend="dask"):
        search = GridSearchCV(model, grid, **kind).fit(X, y)
    # The classifier's score visits its rows by an engine, too.
    assert engines.count((True, 1)) == (8 if name == "svc" else 4)
    assert set(engines) == {(True, 1)}
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, plain.cv_results_["mean_test_score"], rtol=1e-4)


def threads_of_a_fit(model, X, y):
    """Return the threads of the package during a fit, and what BLAS is allowed."""
    seen, over = set(), threading.Event()

    def look():
        while not over.wait(0.0005):
            seen.update(thread.name for thread in threading.enumerate())

    watcher = threading.Thread(target=look)
    watcher.start()
    model.fit(X, y)
    over.set()
    watcher.join()
    blas = [info["num_threads"] for info in threadpoolctl.threadpool_info()
            if info["user_api"] == "blas"]  # fmt: skip
    return {name for name in seen if name.startswith("dask_dml")}, max(blas, default=1)


@each
def test_a_task_uses_the_thread_that_it_has(process_client, name):
    model, _, y = MODELS[name]
    task = process_client.submit(threads_of_a_fit, model, X, y, pure=False)
    assert task.result(60) == (set(), 1)


@each
@pytest.mark.parametrize("persisted", [False, True])
def test_fits_on_dask_arrays_inside_of_tasks(default, engines, name, persisted):
    """More of them than there are threads, each waiting for tasks of its own."""
    model, _, y = MODELS[name]
    dX, dy = chunked(X), chunked(y)
    if persisted:
        dX, dy = dX.persist(), dy.persist()
    tasks = [default.submit(coefficients, model, dX, dy, pure=False) for _ in range(4)]
    plain = model.fit(X, y).coef_
    for one in default.gather(tasks):
        np.testing.assert_allclose(one, plain, rtol=0.05, atol=0.01)
    assert engines.count((True, 1)) == 4


def coefficients(model, X, y):
    return model.fit(X, y).coef_


def test_validation_inside_of_tasks(process_client):
    """Scores compute tasks, too."""
    dX, dy = chunked(X), chunked(Y)
    tasks = [
        process_client.submit(cross_val_score, DistributedGDRegressor(), dX, dy, cv=2, pure=False)
        for _ in range(3)
    ]
    plain = cross_val_score(DistributedGDRegressor(), X, Y, cv=2)
    for task in tasks:
        np.testing.assert_allclose(task.result(60), plain, rtol=1e-8)


def test_a_search_on_dask_arrays_with_the_dask_backend(default):
    model, grid, _ = MODELS["gd"]
    with parallel_config(backend="dask"):
        search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(chunked(X), chunked(Y))
    plain = GridSearchCV(model, grid, cv=2).fit(X, Y)
    assert search.best_score_ == pytest.approx(plain.best_score_, rel=1e-8)
