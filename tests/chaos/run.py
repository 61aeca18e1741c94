"""Fits on a cluster to which things happen: run by hand, prints a Markdown table.

    python -m tests.chaos.run --runs 300 --seed 0
    python -m tests.chaos.run --only 17 --seed 0

Each run draws an estimator, a container, where the rows are, whether workers have nannies, what
happens to them, and at which round of the fit.  The answer is compared with that of the same fit
undisturbed: the same bits where they are promised, the same objective within ``tol`` elsewhere.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import scipy.sparse as sp
from distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler
from dask_dml.rounds import choose
from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.streaming import StreamingRounds
from tests.chaos.clusters import Proxy, cluster, process, separate_scheduler, wait_until
from tests.chaos.data import (
    CHUNK_ROWS,
    N_CHUNKS,
    N_FEATURES,
    frame_rows,
    rows,
    sparse_rows,
    targets,
)

N_WORKERS = 3
#: Seconds without a new round after which a fit counts as hanging, and what a round may take.
PATIENCE, ROUND_TIMEOUT = 300.0, "120s"

SHARDS = {"n_shards": 4}
FITS = {
    "gd statistics": (lambda: DistributedGDRegressor(**SHARDS), "bits"),
    "gd huber newton": (lambda: DistributedGDRegressor("huber", **SHARDS), "objective"),
    "gd huber lbfgs": (
        lambda: DistributedGDRegressor("huber", solver="lbfgs", **SHARDS),
        "objective",
    ),
    "sgd svrg": (lambda: DistributedSGDRegressor(random_state=0, **SHARDS), "bits"),
    "sgd averaged": (
        lambda: DistributedSGDRegressor(
            "huber", variance_reduction=None, max_iter=8, tol=None, random_state=0, **SHARDS
        ),
        "bits",
    ),
    "svc newton": (lambda: DistributedLinearSVC(tol=1e-5, **SHARDS), "objective"),
    "svc dual hinge": (
        lambda: DistributedLinearSVC(loss="hinge", solver="dual", tol=1e-5, **SHARDS),
        "objective",
    ),
    "svc dual squared": (
        lambda: DistributedLinearSVC(solver="dual", tol=1e-4, **SHARDS),
        "objective",
    ),
    "scaler": (lambda: DistributedStandardScaler(with_mean=False), "bits"),
}
CONTAINERS = ("dense", "csr", "frame")
PLACES = ("persisted", "lazy", "streaming")
#: What happens to workers of a fleet that all these runs share.
SHARED = (
    "kill", "kill two", "kill twice", "retire", "join", "leave and join", "stop", "stop for long",
    "close client", "delay",
)  # fmt: skip
#: What happens to a cluster that is a run's own.
OWN = ("scale", "adapt", "freeze scheduler", "freeze for long", "kill scheduler")
EVENTS = SHARED + OWN
#: Seconds that a halt takes, by the event.
HALTS = {"stop": 3.0, "stop for long": 30.0, "freeze scheduler": 5.0, "freeze for long": 1e9}
#: What a round may take where a scheduler is frozen for ever.
SHORT_TIMEOUT = "20s"


def made(container, classes):
    """Return lazy data."""
    y = da.concatenate(
        [
            da.from_delayed(dask.delayed(targets)(n, classes), (CHUNK_ROWS,), dtype=float)
            for n in range(N_CHUNKS)
        ]
    )
    if container == "frame":
        return dd.from_map(frame_rows, range(N_CHUNKS), meta=frame_rows(0)[:0]), y
    make = sparse_rows if container == "csr" else rows
    meta = sp.csr_array((0, N_FEATURES)) if container == "csr" else np.empty((0, 0))
    shape = (CHUNK_ROWS, N_FEATURES)
    parts = [
        da.from_delayed(dask.delayed(make)(n), shape, dtype=float, meta=meta)
        for n in range(N_CHUNKS)
    ]
    return da.concatenate(parts), y


class Fleet:
    """Worker processes that come and go."""

    def __init__(self, stack, client, address):
        self.stack, self.client, self.address = stack, client, address
        self.folder = stack.enter_context(tempfile.TemporaryDirectory())
        self.started = []

    def start(self, nanny):
        self.started.append(
            self.stack.enter_context(
                process(
                    "distributed.cli.dask_worker", self.address, "--nthreads", "1",
                    "--host", "127.0.0.1", "--no-dashboard", "--memory-limit", "1GB",
                    "--local-directory", self.folder, "--nanny" if nanny else "--no-nanny",
                    cwd=self.folder, PYTHONPATH=os.pathsep.join([*sys.path, os.getcwd()]),
                )
            )
        )  # fmt: skip

    def top_up(self, nanny):
        """Bring the fleet to its full number of workers."""
        deadline = time.monotonic() + 20
        while len(self.client.nthreads()) < N_WORKERS and time.monotonic() < deadline:
            alive = sum(one.poll() is None for one in self.started)
            if alive < N_WORKERS:
                self.start(nanny)
            time.sleep(0.5)
        if len(self.client.nthreads()) < N_WORKERS:
            self.start(nanny)
        wait_until(lambda: len(self.client.nthreads()) >= N_WORKERS, 60)
        extra = list(self.client.nthreads())[N_WORKERS:]
        if extra:
            self.client.retire_workers(extra)

    def pids(self):
        return list(self.client.run(os.getpid).values())


class Stage:
    """What a run's fit runs on, and what may happen to it."""

    def __init__(self, stack, event, fleet, nanny):
        self.event, self.fleet, self.nanny, self.scheduler = event, fleet, nanny, None
        self.client = fleet.client
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if event in ("scale", "adapt"):
            self.client = stack.enter_context(cluster(2, local_directory=str(folder)))
        elif event in OWN:
            self.client, self.scheduler = stack.enter_context(separate_scheduler(folder))
        else:
            fleet.top_up(nanny)
        if event in ("close client", "delay"):
            self.proxy = stack.enter_context(Proxy(fleet.address))
            self.client = Client(self.proxy.address, set_as_default=False)
            stack.callback(self.client.close, timeout=2)

    def happen(self, rng):
        """Do it; returns at once, but for what ends by itself."""
        if self.event == "scale":
            self.client.cluster.scale(int(rng.choice([1, 4])))
        elif self.event == "adapt":
            self.client.cluster.adapt(minimum=1, maximum=3, interval="200ms")
        elif self.event == "kill scheduler":
            self.scheduler.kill()
        elif self.scheduler is not None:
            halt(self.scheduler.pid, HALTS[self.event])
        elif self.event == "close client":
            self.client.close(timeout=5)
        elif self.event == "delay":
            self.proxy.delay(0.1, 3.0)
        else:
            happen(self.event, self.fleet, rng, self.nanny)

    def left_behind(self):
        """Return whether the cluster is free of the fit, as far as it can be asked."""
        client = self.fleet.client if self.event in ("close client", "delay") else self.client
        if self.event in ("kill scheduler", "freeze for long"):
            return []
        return left_behind(client)


def halt(pid, seconds):
    """Stop a process for some time."""
    os.kill(pid, signal.SIGSTOP)

    def go_on():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    if seconds < 1e6:
        threading.Timer(seconds, go_on).start()


def happen(event, fleet, rng, nanny):
    """Do what happens to the workers of the fleet."""
    if event in ("kill", "kill two", "kill twice"):
        pids = fleet.pids()
        rng.shuffle(pids)
        for pid in pids[: 2 if event == "kill two" else 1]:
            os.kill(pid, signal.SIGKILL)
    elif event in ("retire", "leave and join"):
        fleet.client.retire_workers([rng.choice(list(fleet.client.nthreads()))])
    if event in ("join", "leave and join"):
        fleet.start(nanny)
    if event in HALTS:
        halt(int(rng.choice(fleet.pids())), HALTS[event])


@contextmanager
def watched(before):
    """Call ``before(number of the round)`` ahead of every round of any engine."""
    count = iter(range(1, 10**9))
    with ExitStack() as stack:
        for kind in (ClusterRounds, StreamingRounds):
            for method in ("map_reduce", "update"):
                real = getattr(kind, method)

                def call(self, *args, _real=real):
                    before(next(count))
                    return _real(self, *args)

                stack.enter_context(mock.patch.object(kind, method, call))
        yield


def fit(name, data, place, client):
    model, (X, y) = FITS[name][0](), data
    with ExitStack() as stack:
        stack.enter_context(client.as_current())
        if place == "streaming":
            # Each round takes some hundred tasks.
            model.set_params(**({"tol": 1e-2} if name.startswith("svc") else {}))
            stack.enter_context(mock.patch.object(choose, "_fits", return_value=False))
        return model.fit(X) if name == "scaler" else model.fit(X, y)


def answer(model):
    if hasattr(model, "coef_"):
        return np.append(np.ravel(model.coef_), model.intercept_)
    return np.append(model.mean_, model.var_)


def same(name, found, expected):
    if FITS[name][1] == "bits":
        return np.array_equal(answer(found), answer(expected))
    if hasattr(found, "objective_"):
        return abs(found.objective_ - expected.objective_) <= 2 * found.tol * expected.objective_
    return np.allclose(found.loss_curve_[-1], expected.loss_curve_[-1], rtol=2 * found.tol)


def draw(seed, number):
    rng = np.random.default_rng([seed, number])
    return {
        "name": str(rng.choice(list(FITS))),
        "container": str(rng.choice(CONTAINERS)),
        "place": str(rng.choice(PLACES)),
        "event": str(rng.choice(EVENTS)),
        "nanny": bool(rng.random() < 0.5),
        "moment": str(rng.choice(["placement", "first", "middle", "last"])),
        "inside": bool(rng.random() < 0.5),
    }, rng


def left_behind(client):
    return [
        k for keys in client.has_what().values() for k in keys if str(k).startswith("dask_dml-")
    ]


def one_run(seed, number, fleet):
    """Return what was drawn and how it went."""
    drawn, rng = draw(seed, number)
    with ExitStack() as stack:
        stage = Stage(stack, drawn["event"], fleet, drawn["nanny"])
        return drawn, *judged(number, drawn, rng, stage)


def judged(number, drawn, rng, stage):
    """Return how a run went, and the seconds that it took."""
    name, place, client = drawn["name"], drawn["place"], stage.client
    stale = set(stage.left_behind())  # by an earlier run
    data = made(drawn["container"], name.startswith("svc"))
    if place == "persisted":
        data = client.persist(data)
    counted = []
    with watched(counted.append):
        expected = fit(name, data, place, client)
    n_rounds = counted[-1]
    at = {"placement": 0, "first": 1, "middle": (n_rounds + 1) // 2, "last": n_rounds}
    at = at[drawn["moment"]]
    again = {at, at + 1} if drawn["event"] == "kill twice" else {at}

    last = [time.monotonic()]

    def before(round_number):
        last[0] = time.monotonic()
        if round_number not in again:
            return
        again.discard(round_number)
        if drawn["inside"] or round_number == 0:
            threading.Timer(0.05 * rng.random(), stage.happen, [rng]).start()
        else:
            stage.happen(rng)

    pool = ThreadPoolExecutor(1)
    began = time.monotonic()
    try:
        limit = SHORT_TIMEOUT if drawn["event"] == "freeze for long" else ROUND_TIMEOUT
        with watched(before), dask.config.set({"dask_dml.round-timeout": limit}):
            if 0 in again:
                before(0)
            fitting = pool.submit(fit, name, data, place, client)
            while wait([fitting], 1.0).not_done and time.monotonic() < last[0] + PATIENCE:
                pass
        if not fitting.done():
            print(f"run {number} hangs: {drawn}", flush=True)
            faulthandler.dump_traceback()
            os._exit(3)
        verdict = "right" if same(name, fitting.result(), expected) else "WRONG"
    except (RuntimeError, TimeoutError) as error:
        words = ("workers", "scheduler", "worker that", "client was closed")
        clear = any(word in str(error) for word in words)
        verdict = "clear error" if clear else "UNCLEAR"
        print(number, drawn, type(error).__name__, str(error)[:300], flush=True)
    except Exception as error:
        verdict = "UNCLEAR"
        print(number, drawn, type(error).__name__, str(error)[:300], flush=True)
        traceback.print_exc()
    seconds = time.monotonic() - began
    try:
        wait_until(lambda: set(stage.left_behind()) <= stale, 30)
    except AssertionError:
        verdict = f"{verdict}, LEFT BEHIND {stage.left_behind()[:3]}"
    return verdict, seconds


def main():
    """Run what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--minutes", type=float, default=np.inf)
    options = parser.parse_args()
    numbers = range(options.runs) if options.only is None else [options.only]
    counts, verdicts, longest = Counter(), Counter(), 0.0
    ends = time.monotonic() + 60 * options.minutes
    dask.config.set({"dask_dml.round-timeout": ROUND_TIMEOUT})
    with ExitStack() as stack:
        made_by = stack.enter_context(
            LocalCluster(
                n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1",
                dashboard_address="127.0.0.1:0", silence_logs="CRITICAL",
            )
        )  # fmt: skip
        client = stack.enter_context(Client(made_by, set_as_default=False))
        fleet = Fleet(stack, client, made_by.scheduler_address)
        for number in numbers:
            drawn, verdict, seconds = one_run(options.seed, number, fleet)
            longest = max(longest, seconds)
            counts[drawn["event"], verdict] += 1
            verdicts[verdict] += 1
            print(f"{number:4d} {verdict:12s} {seconds:5.1f} s  {drawn}", flush=True)
            if time.monotonic() > ends:
                break
    columns = sorted(verdicts)
    print(f"\n| event | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for event in EVENTS:
        print(f"| {event} | {' | '.join(str(counts[event, v]) for v in columns)} |")
    print(f"\n{sum(verdicts.values())} runs, the longest {longest:.0f} s")
    os._exit(0 if set(verdicts) <= {"right", "clear error"} else 1)


if __name__ == "__main__":
    main()
