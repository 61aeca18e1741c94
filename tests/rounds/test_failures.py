"""Workers come and go while a fit runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor
from dask_dml.rounds import open_rounds
from dask_dml.rounds import worker as on_worker
from dask_dml.rounds.base import StateLost
from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.streaming import StreamingRounds
from tests.patience import clock, within

from . import helpers

X = np.random.default_rng(0).standard_normal((1000, 4))
CUTS = list(range(50, 1000, 50))


def chunks():
    return helpers.to_chunks(X, X[:, 0], CUTS)


@contextmanager
def cluster(**options):
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": False,
        "dashboard_address": "127.0.0.1:0",
    } | options
    with (
        LocalCluster(**options) as made,
        Client(made, set_as_default=False) as client,
        client.as_current(),
    ):
        yield made, client


@contextmanager
def later(seconds, action):
    """Run an action while a round is under way."""
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.fixture(scope="module")
def sums():
    with open_rounds(chunks(), n_shards=6, n_jobs=1) as rounds:
        return rounds.map_reduce(helpers.column_sums)


def kill(address, client):
    pids = client.run(os.getpid)
    os.kill(pids[address], signal.SIGKILL)


def test_killed_workers(sums):
    """A killed worker, before and in the middle of a round; its nanny starts another."""
    with (
        cluster(processes=True, host="127.0.0.1") as (_, client),
        ClusterRounds(client, chunks(), 6) as rounds,
    ):
        assert rounds.update(helpers.counting, 1.0) == 1000
        victim = next(iter(client.nthreads()))
        start = clock()
        pid = client.run(os.getpid)[victim]
        result = rounds.map_reduce(helpers.dying_sums, pid)
        assert clock() - start < 20
        assert np.array_equal(result, sums)
        assert within(20, lambda: victim not in client.nthreads())
        # The state of the victim's shards is reported once, and then starts anew.
        with pytest.raises(StateLost) as lost:
            rounds.update(helpers.counting, 1.0)
        gone = sum(rounds.shard_rows[shard] for shard in lost.value.shards)
        assert 0 < gone < 1000
        assert rounds.update(helpers.counting, 1.0) == 2 * (1000 - gone) + gone
        assert rounds.update(helpers.counting, 1.0) == 3 * (1000 - gone) + 2 * gone
        client.wait_for_workers(2)
        client.restart_workers([next(iter(client.nthreads()))])
        assert np.array_equal(rounds.map_reduce(helpers.column_sums), sums)
        rounds.close()
        assert not any(client.has_what().values())


def test_a_killed_worker_in_an_update():
    """A repeated update starts from the state before it."""
    with (
        cluster(processes=True, host="127.0.0.1") as (_, client),
        ClusterRounds(client, chunks(), 4) as rounds,
    ):
        pid = client.run(os.getpid)[next(iter(client.nthreads()))]
        # In the first update there is no state to lose.
        assert rounds.update(helpers.dying_counting, pid) == 1000
        client.wait_for_workers(2)
        pid = client.run(os.getpid)[rounds.homes[0]]
        with pytest.raises(StateLost) as lost:
            rounds.update(helpers.dying_counting, pid)
        gone = sum(rounds.shard_rows[shard] for shard in lost.value.shards)
        assert rounds.update(helpers.counting, 1.0) == 2 * (1000 - gone) + gone


def test_retire_workers(sums):
    with (
        cluster(n_workers=3) as (_, client),
        ClusterRounds(client, chunks(), 6) as rounds,
    ):
        victim = rounds.homes[0]
        with later(0.1, lambda: client.retire_workers([victim])):
            result = rounds.map_reduce(helpers.slow_sums, 0.2)
        assert np.array_equal(result, sums)
        assert victim not in client.nthreads()
        assert np.array_equal(rounds.map_reduce(helpers.column_sums), sums)
        assert victim not in rounds.homes


def test_state_moves_along(sums):
    """A shard whose blocks Dask has moved takes its state along."""
    with (
        cluster(protocol="tcp://", host="127.0.0.1") as (_, client),
        ClusterRounds(client, chunks(), 6) as rounds,
    ):
        rounds.update(helpers.counting, 1.0)
        left = rounds.homes[0]
        client.retire_workers([left], close_workers=False, remove=False)

        def has_nothing():
            client.amm.run_once()  # drops the copies that are one too many
            return not client.has_what()[left]

        assert within(10, has_nothing)
        assert left in client.nthreads()
        assert rounds.update(helpers.counting, 1.0) == 2000
        assert left not in rounds.homes
        assert np.array_equal(rounds.map_reduce(helpers.column_sums), sums)


def test_idle_timeout(sums):
    """The scheduler knows that the cluster is in use, though no tasks run."""
    with (
        cluster(scheduler_kwargs={"idle_timeout": "0.5s"}) as (_, client),
        ClusterRounds(client, chunks(), 6) as rounds,
    ):
        time.sleep(2)
        assert np.array_equal(rounds.map_reduce(helpers.column_sums), sums)


def test_adaptive_scaling(sums):
    """Adaptive scaling takes no worker away from a fit, and does once it is over."""
    with cluster(n_workers=3) as (made, client):
        with ClusterRounds(client, chunks(), 6) as rounds:
            before = rounds.homes
            made.adapt(minimum=1, maximum=3, interval="50ms", wait_count=1)
            for _ in range(10):
                assert np.array_equal(rounds.map_reduce(helpers.slow_sums, 0.02), sums)
            assert rounds.homes == before
            assert len(client.nthreads()) == 3
        assert within(10, lambda: len(client.nthreads()) == 1)


def test_scattered_data_is_lost():
    """What Dask cannot compute again is a clear error, not a wait for ever."""
    with cluster(processes=True, host="127.0.0.1") as (_, client):
        scattered = client.scatter(X, hash=False)
        data = helpers.to_chunks(X, X[:, 0], [])
        data.X[:] = [dask.delayed(scattered)]
        with ClusterRounds(client, data) as rounds:
            rounds.map_reduce(helpers.column_sums)
            for address in client.who_has(scattered)[scattered.key]:
                kill(address, client)
            with pytest.raises(RuntimeError, match="scattered"):
                rounds.map_reduce(helpers.column_sums)
        # Nor are the scores of what is lost.
        model = DistributedGDRegressor().fit(X, X[:, 0])
        lost = da.from_delayed(dask.delayed(scattered), X.shape, dtype=float)
        with client.as_current(), pytest.raises(RuntimeError, match="scattered"):
            model.score(lost, lost[:, 0])


def test_losses_without_end(monkeypatch):
    """A fit whose workers are lost in every round gives up."""
    with cluster() as (_, client), ClusterRounds(client, chunks(), 2) as rounds:
        monkeypatch.setattr(on_worker, "run_round", helpers.forgetful)
        with pytest.raises(RuntimeError, match="more or larger workers"):
            rounds.map_reduce(helpers.column_sums)


def _without_end(rounds):
    while True:
        rounds.map_reduce(helpers.slow_sums, 0.02)


def test_the_client_is_closed_meanwhile(monkeypatch):
    """Another thread does it, or the user; the workers drop what nobody wants any more."""
    monkeypatch.setattr(on_worker, "LEASE_INTERVAL", 0.05)
    with cluster(protocol="tcp://", host="127.0.0.1") as (made, client):
        with (
            Client(made, set_as_default=False) as other,
            ClusterRounds(other, chunks(), 2) as rounds,
            later(0.2, other.close),
            pytest.raises(RuntimeError, match=r"client was closed.*a round.*Connect again"),
        ):
            _without_end(rounds)
        assert within(20, lambda: not on_worker.open_fits() and not _held(client))
        # Whatever is under way: what Dask says of it differs.
        third = Client(made, set_as_default=False)
        with StreamingRounds(chunks(), third, 2) as rounds:
            third.close()
            for call in (
                lambda: rounds.map_reduce(helpers.column_sums),
                lambda: StreamingRounds(chunks(), third, 2),
                lambda: ClusterRounds(third, chunks(), 2),
            ):
                with pytest.raises(RuntimeError, match=r"client was closed.*Connect again"):
                    call()


def _held(client):
    return any(client.has_what().values())


DRIVER = """
import importlib, sys, time
from distributed import Client
from dask_dml.rounds.cluster import ClusterRounds
test = importlib.import_module(sys.argv[2])
client = Client(sys.argv[1])
rounds = ClusterRounds(client, test.chunks(), 2)
rounds.update(test.helpers.counting, 1.0)
print("running", flush=True)
time.sleep(600)
"""


def test_the_driver_dies(monkeypatch):
    """Workers drop everything when nobody wants it any more."""
    monkeypatch.setattr(on_worker, "LEASE_INTERVAL", 0.05)
    with cluster(protocol="tcp://", host="127.0.0.1") as (made, client):
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, made.scheduler_address, __name__],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert driver.stdout.readline() == b"running\n"
            assert on_worker.open_fits()
        finally:
            driver.kill()
            driver.wait()
            driver.stdout.close()
        assert within(20, lambda: not on_worker.open_fits() and not _held(client))
        assert within(20, lambda: not helpers.threads())
