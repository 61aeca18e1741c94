"""A notebook: two cells fit at once, and one is interrupted in the middle."""

import contextvars
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import dask.array as da
import numpy as np
import pytest
from sklearn.base import clone

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.rounds import choose
from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.streaming import StreamingRounds
from tests.patience import within

RNG = np.random.default_rng(2)
N = 4000
X = RNG.standard_normal((N, 5))
Y = X @ np.arange(5.0) + RNG.standard_normal(N)
# Noise enough that the rounds go on for as long as nobody interrupts them.
SIDE = (X[:, 0] + 2.0 * RNG.standard_normal(N) > 0).astype(int)

ENDLESS = {
    "gd": DistributedGDRegressor(
        solver="gd", learning_rate="constant", eta0=1e-6, tol=0.0, max_iter=10**8
    ),
    "sgd": DistributedSGDRegressor(variance_reduction=None, tol=None, max_iter=10**8),
    "svc": DistributedLinearSVC("l2", "hinge", solver="dual", tol=0.0, max_iter=10**8),
}
ENGINES = {"cluster": ClusterRounds, "streaming": StreamingRounds}


def chunked(array):
    return da.from_array(array, chunks=(500, *array.shape[1:]))


@pytest.fixture
def engine(request, monkeypatch):
    """Force the engine that the test names, and return an event: rounds are under way."""
    if request.param == "streaming":
        monkeypatch.setattr(choose, "cluster_memory", lambda client: 1.0)
    kind, under_way = ENGINES[request.param], threading.Event()

    def announcing(method):
        def call(rounds, *args, **kwargs):
            if rounds.n_rounds == 3:
                under_way.set()
            return method(rounds, *args, **kwargs)

        return call

    for name in ("map_reduce", "update"):
        monkeypatch.setattr(kind, name, announcing(getattr(kind, name)))
    return under_way


@contextmanager
def ctrl_c(begin, seconds):
    """Send the main thread what Ctrl-C sends, some time after an event.

    And again, as a user would, if nothing comes of it: an interrupt during a collection of
    garbage is lost in the callbacks of distributed.
    """
    over = threading.Event()

    def press():
        assert begin.wait(60)
        wait = seconds
        while not over.wait(wait):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            wait = 10.0

    thread = threading.Thread(target=press)
    try:
        thread.start()
        yield
    finally:
        over.set()
        thread.join()


def traces(client):
    """Return what the cluster and this process still have of any fit."""
    tasks = client.run_on_scheduler(lambda dask_scheduler: list(map(str, dask_scheduler.tasks)))
    busy = [key for keys in client.processing().values() for key in keys]
    threads = [one.name for one in threading.enumerate() if one.name.startswith("dask_dml")]
    return [key for key in tasks if key.startswith("dask_dml")] + busy + threads


def assert_gone(client):
    """A kernel in the middle of its rows runs to their end; nothing else may be left."""
    assert within(30, lambda: not traces(client)), traces(client)


def interrupt(client, name, begin, seconds):
    model = clone(ENDLESS[name])
    y = SIDE if name == "svc" else Y
    before = vars(model).copy()
    dX, dy = chunked(X).persist(), chunked(y).persist()
    with pytest.raises(KeyboardInterrupt), ctrl_c(begin, seconds):
        model.fit(dX, dy)
    assert vars(model) == before
    assert_gone(client)
    again = DistributedGDRegressor().fit(dX, chunked(Y))
    np.testing.assert_allclose(again.coef_, DistributedGDRegressor().fit(X, Y).coef_, rtol=1e-8)
    assert_gone(client)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("name", ENDLESS)
def test_interrupt(client, engine, name):
    interrupt(client, name, engine, 0.01)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.1])
def test_interrupt_with_workers_in_processes(process_client, engine, seconds):
    interrupt(process_client, "gd", engine, seconds)


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("streams", [False, True])
def test_interrupt_before_the_first_round(process_client, monkeypatch, streams, seconds):
    """While chunks are read or placed."""
    if streams:
        monkeypatch.setattr(choose, "cluster_memory", lambda client: 1.0)
    begin = threading.Event()
    begin.set()

    def slowly(block):
        time.sleep(0.05)
        return block

    dX = chunked(X).map_blocks(slowly, dtype=float, meta=np.empty((0, 0)))
    model = DistributedGDRegressor()
    with pytest.raises(KeyboardInterrupt), ctrl_c(begin, seconds):
        model.fit(dX, chunked(Y))
    assert not hasattr(model, "n_features_in_")
    assert_gone(process_client)
    assert DistributedGDRegressor().fit(dX, chunked(Y)).score(X, Y) > 0.9


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("fixture", ["client", "process_client"])
def test_two_threads_fit_at_once(request, engine, fixture):
    client = request.getfixturevalue(fixture)
    streams = request.node.callspec.params["engine"] == "streaming"
    dX, dy, side = chunked(X).persist(), chunked(Y).persist(), chunked(SIDE).persist()
    models = [
        (DistributedGDRegressor("huber"), dy),
        (DistributedLinearSVC(loss="hinge"), side),
        (DistributedGDRegressor(solver="gd", tol=1e-8), dy),
        (DistributedSGDRegressor(random_state=0, n_shards=2), dy),
    ]
    if streams:
        models = models[::3]  # a round of this engine takes as long as a fit of the other
    alone = [clone(model).fit(dX, y).coef_ for model, y in models]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            # The current client belongs to the context.
            pool.submit(contextvars.copy_context().run, model.fit, dX, y)
            for model, y in models
        ]
        together = [run.result(60).coef_ for run in runs]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert_gone(client)
