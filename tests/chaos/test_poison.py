"""A chunk that cannot be read, and one that brings down whoever reads it, end a fit by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, KilledWorker, LocalCluster

from dask_dml import DistributedGDRegressor
from dask_dml.input.read import read_input
from dask_dml.rounds import choose
from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.streaming import StreamingRounds
from tests.chaos.clusters import LOCAL, process

pytestmark = pytest.mark.chaos

N_CHUNKS, ROWS, POISONED = 8, 50, 5


def rows(number, poison):
    if number == POISONED and poison == "raise":
        raise LookupError("no such row")
    if number == POISONED and poison == "kill":
        # Many other chunks have been read by then: Dask suspects whatever a dead worker was given.
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    return np.random.default_rng(number).normal(size=(ROWS, 3))


def targets(number, poison):
    return rows(number, poison)[:, 0]


def made(X_poison=None, y_poison=None):
    return (
        da.concatenate(
            [
                da.from_delayed(dask.delayed(function)(n, poison), (ROWS, *more), dtype=float)
                for n in range(N_CHUNKS)
            ]
        )
        for function, poison, more in ((rows, X_poison, (3,)), (targets, y_poison, ()))
    )


def killing(shard, broadcast):
    if any(chunk == POISONED for block in shard.blocks for chunk, _ in block.origin):
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def notes(error):
    return " ".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize("engine", ["memory", "cluster", "streaming"])
@pytest.mark.parametrize("where", ["X_poison", "y_poison"])
def test_a_chunk_that_always_raises_is_named(thread_cluster, engine, where, monkeypatch):
    if engine == "streaming":
        monkeypatch.setattr(choose, "_fits", lambda *_: False)
    model = DistributedGDRegressor()
    before = dict(vars(model))
    X, y = made(**{where: "raise"})

    def fit():
        with pytest.raises(LookupError, match="no such row") as info:
            model.fit(X, y)
        return info.value

    if engine == "memory":
        error = fit()
    else:
        with thread_cluster.as_current():
            error = fit()
    assert f"chunk {POISONED} of the input" in notes(error)
    assert vars(model) == before


def test_a_chunk_that_kills_its_worker_is_named(tmp_path):
    """While it is read, while a pass computes on it, and in a round: one worker dies in each."""
    chunks = read_input(DistributedGDRegressor(), *made())
    once = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-saturation": 1.0,
        "dask_dml.max-recoveries": 1,
    }
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(once))
        options = {"processes": False, "protocol": "tcp://", **LOCAL}
        scheduler = stack.enter_context(LocalCluster(n_workers=0, **options))
        client = stack.enter_context(Client(scheduler, set_as_default=False))
        stack.enter_context(client.as_current())
        for _ in range(4):
            stack.enter_context(
                process(
                    "distributed.cli.dask_worker", scheduler.scheduler_address, "--nthreads", "1",
                    "--host", "127.0.0.1", "--no-dashboard", "--no-nanny",
                    cwd=tmp_path, PYTHONPATH=os.pathsep.join([*sys.path, os.getcwd()]),
                )
            )  # fmt: skip
        client.wait_for_workers(4)
        with pytest.raises(KilledWorker) as reading:
            DistributedGDRegressor().fit(*made(X_poison="kill"))
        with (
            StreamingRounds(chunks, client, "blocks") as rounds,
            pytest.raises(KilledWorker) as passing,
        ):
            rounds.map_reduce(killing)
        for info in (reading, passing):
            assert f"chunk {POISONED} of the input" in notes(info.value)
        named = rf"every time.*shard {POISONED} \(chunk {POISONED} of the input\)"
        with (
            ClusterRounds(client, chunks, "blocks") as rounds,
            pytest.raises(RuntimeError, match=named),
        ):
            rounds.map_reduce(killing)
