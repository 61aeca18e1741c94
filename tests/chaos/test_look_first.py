"""Workers that cannot take part, a scheduler that hangs, and what a fit tells of itself."""

import logging
import os
import sys
import threading

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor, DistributedLinearSVC
from dask_dml.input import clients
from dask_dml.rounds import worker as on_worker
from tests.patience import clock

from .clusters import LOCAL, process, separate_scheduler, stop, wait_until

pytestmark = pytest.mark.chaos

X = np.random.default_rng(0).standard_normal((400, 3))
Y = X @ [1.0, 2.0, 3.0]


def lazy(n_chunks=4):
    return da.from_array(X, chunks=(400 // n_chunks, 3)), da.from_array(Y, chunks=400 // n_chunks)


# --- Workers without the package ------------------------------------------------------------------

LACKING = 'raise ModuleNotFoundError("No module named \'dask_dml\'", name="dask_dml")'
OTHER = '__version__ = "0.0.1"'


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (LACKING, r"tcp://127[^ ]* \(without dask_dml\)\. Install"),
        (OTHER, r"tcp://127[^ ]* \(with dask_dml 0\.0\.1\)\. Install"),
    ],
)
def test_workers_without_the_package_are_named(tmp_path, module, message):
    """Before any task is sent there, which would close them: they have no nanny."""
    (tmp_path / "dask_dml.py").write_text(module)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", **LOCAL)
        as made,
        Client(made, set_as_default=False) as client,
        client.as_current(),
        process(
            "distributed.cli.dask_worker", made.scheduler_address, "--no-nanny", "--nthreads", "1",
            "--host", "127.0.0.1", "--no-dashboard", cwd=elsewhere,
            PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
        ),
    ):  # fmt: skip
        client.wait_for_workers(2)
        fitted = DistributedGDRegressor().fit(X, Y)
        for operation in (
            lambda: DistributedGDRegressor().fit(*lazy()),
            lambda: fitted.score(*lazy()),
            lambda: DistributedLinearSVC().fit(lazy()[0], lazy()[1].astype(str)),
        ):
            with pytest.raises(RuntimeError, match=message):
                operation()
        assert len(client.nthreads()) == 2
        assert not any(client.has_what().values())


def test_a_scheduler_without_the_package_is_named(tmp_path):
    """It reads the graphs of tasks."""
    (tmp_path / "dask_dml.py").write_text(LACKING)
    with (
        separate_scheduler(tmp_path, PYTHONPATH=str(tmp_path)),
        pytest.raises(RuntimeError, match=r"the scheduler \(without dask_dml\)\. Install"),
    ):
        DistributedGDRegressor().fit(*lazy())


def test_each_worker_is_looked_at_once(client, monkeypatch):
    looked = []
    monkeypatch.setattr(clients, "_look", lambda required: looked.append(1) or clients_look)
    clients._known.pop(client, None)
    for _ in range(3):
        DistributedGDRegressor().fit(*lazy())
    assert len(looked) == 1


def clients_look():
    return {"dask_dml": "0.1.0"}


# --- A scheduler that hangs -----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["between rounds", "before"])
def test_a_frozen_scheduler_is_an_error_in_time(tmp_path, when):
    class Watched(DistributedGDRegressor):
        def _report(self, verbose):
            return lambda line: stop(scheduler) if line.startswith("round 2:") else None

    estimator = DistributedGDRegressor if when == "before" else Watched
    model = estimator("huber", solver="gd", tol=1e-12, max_iter=10**6)
    with separate_scheduler(tmp_path) as (_, scheduler):
        DistributedGDRegressor().fit(*lazy())  # loads what the worker needs
        if when == "before":
            stop(scheduler)
        began = clock()
        with (
            dask.config.set({"dask_dml.round-timeout": "2s"}),
            pytest.raises(TimeoutError, match=r"scheduler has not answered for 2 s.*round-timeout"),
        ):
            model.fit(*lazy())
        # The limit, and as long as closing waits for what does not answer.
        assert clock() - began < 30
        assert not hasattr(model, "coef_")


def test_a_killed_scheduler_is_an_error(tmp_path):
    class Watched(DistributedGDRegressor):
        def _report(self, verbose):
            return lambda line: scheduler.kill() if line.startswith("round 2:") else None

    with separate_scheduler(tmp_path) as (_, scheduler):
        model = Watched("huber", solver="gd", tol=1e-12, max_iter=10**6)
        with (
            dask.config.set({"dask_dml.round-timeout": "10s"}),
            pytest.raises((RuntimeError, TimeoutError), match="scheduler"),
        ):
            model.fit(*lazy())


def test_a_cluster_that_is_closed_in_a_fit_leaves_no_threads():
    """Its event loop, which would end them, is gone."""

    class Watched(DistributedGDRegressor):
        def _report(self, verbose):
            return lambda line: made.close() if line.startswith("round 2:") else None

    made = LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    )
    client = Client(made, set_as_default=False)
    try:
        with client.as_current(), pytest.raises(RuntimeError, match="closed, or lost its sched"):
            Watched("huber", solver="gd", tol=1e-12, max_iter=10**6).fit(*lazy())
    finally:
        client.close()
        made.close()
    assert not on_worker.open_fits()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("dask_dml-")], 5)


# --- The log --------------------------------------------------------------------------------------


def test_a_fit_tells_where_it_runs(client, caplog):
    with caplog.at_level(logging.INFO, "dask_dml"):
        model = DistributedGDRegressor().fit(*lazy())
    assert model.engine_ == "cluster"
    assert model.n_recoveries_ == 0
    lines = [record.getMessage() for record in caplog.records if record.name == "dask_dml"]
    assert any(line.startswith("cluster: 400 rows in ") for line in lines)
    assert sum(line.startswith("round ") for line in lines) == model.n_rounds_
    events = [event for _, event in client.get_events("dask_dml")]
    assert any(event.get("kind") == "engine" for event in events)
    # The dashboard's page of events draws what has an action, and fails at what has none.
    drawn = [event["action"] for _, event in client.get_events("all")]
    assert sum(name.startswith("dask_dml round: ") for name in drawn) >= model.n_rounds_


def test_a_fit_in_memory_says_so():
    model = DistributedGDRegressor().fit(X, Y)
    assert (model.engine_, model.n_recoveries_) == ("memory", 0)
