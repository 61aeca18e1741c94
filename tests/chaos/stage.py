"""One run of chaos: what is drawn, what happens to the workers, and how the fit went."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock

import dask
import numpy as np
from distributed import Client

from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.streaming import StreamingRounds
from tests.chaos.clusters import Proxy, cluster, process, separate_scheduler, wait_until
from tests.chaos.data import Slowed
from tests.chaos.fits import CONTAINERS, FITS, PLACES, fit, is_classifier, made, same

N_WORKERS = 3
#: Seconds without a new round after which a fit counts as hanging, and what a round may take.
PATIENCE, ROUND_TIMEOUT = 300.0, "120s"
#: What happens to workers of a fleet that all these runs share.
SHARED = (
    "kill", "kill two", "kill twice", "retire", "join", "leave and join", "stop", "stop for long",
    "close client", "delay",
)  # fmt: skip
#: What happens to workers of a cluster that is a run's own.
LOCAL = ("restart", "restart all", "scale up", "scale down", "adapt")
#: What happens to the scheduler of a cluster that is a run's own.
SCHEDULER = ("freeze scheduler", "freeze for long", "kill scheduler")
EVENTS = SHARED + LOCAL + SCHEDULER
#: Seconds that a halt takes, by the event.
HALTS = {"stop": 5.0, "stop for long": 30.0, "freeze scheduler": 5.0, "freeze for long": 1e9}
#: What a round may take where a scheduler is frozen for ever.
SHORT_TIMEOUT = "10s"

#: Seconds that a visit of a shard, or of a streamed chunk, takes where something happens inside.
SLOW = {ClusterRounds: 0.5, StreamingRounds: 0.1}


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

    def join(self, nanny):
        """Start a worker, and wait until it is there."""
        known = set(self.client.nthreads())
        self.start(nanny)
        wait_until(lambda: set(self.client.nthreads()) - known, 60)

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

    def kill(self):
        """End all processes at once."""
        for one in self.started:
            one.kill()

    def pids(self):
        return list(self.client.run(os.getpid).values())


class Scaled:
    """A cluster of worker processes with nannies that is told how many there are to be."""

    def __init__(self, stack):
        self._stack = stack
        self._client = None

    def ready(self):
        """Return a client of it with two workers."""
        if self._client is None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory())
            self._client = self._stack.enter_context(cluster(2, local_directory=folder))
        try:
            self.scale(2)
        except AssertionError:
            # A nanny that has given up, after a restart, starts no worker any more.
            self._client = None
            return self.ready()
        return self._client

    def scale(self, n_workers):
        self._client.cluster.scale(n_workers)
        wait_until(lambda: len(self._client.nthreads()) == n_workers, 90)


class Stage:
    """What a run's fit runs on, and what may happen to it."""

    def __init__(self, stack, event, fleet, scaled, nanny):
        self.event, self.fleet, self.nanny, self.scheduler = event, fleet, nanny, None
        self.client, self.scaled = fleet.client, scaled
        self.on_end = stack
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if event in LOCAL:
            self.client = scaled.ready()
        elif event in SCHEDULER:
            self.client, self.scheduler = stack.enter_context(separate_scheduler(folder))
        else:
            fleet.top_up(nanny)
        if event in ("close client", "delay"):
            self.proxy = stack.enter_context(Proxy(fleet.address))
            self.client = Client(self.proxy.address, set_as_default=False)
            stack.callback(self.client.close, timeout=2)

    def happen(self, rng):
        """Do it, and wait until it is done; a halt goes on while the fit does."""
        if self.event in LOCAL:
            self.happen_to_own(rng)
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

    def happen_to_own(self, rng):
        if self.event == "restart":
            one = str(rng.choice(list(self.client.nthreads())))
            self.client.restart_workers([one], timeout=30, raise_for_error=False)
        elif self.event == "restart all":
            self.client.restart(wait_for_workers=False)
        elif self.event == "adapt":
            adaptive = self.client.cluster.adapt(minimum=1, maximum=3, interval="200ms")
            self.on_end.callback(adaptive.stop)
            time.sleep(1.0)
        else:
            self.scaled.scale(4 if self.event == "scale up" else 1)

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
        fleet.join(nanny)
    if event in HALTS:
        halt(int(rng.choice(fleet.pids())), HALTS[event])


@contextmanager
def watched(before):
    """Call ``before(number of the round)`` ahead of every round of any engine.

    Where it returns something true, the round is made to last.
    """
    count = iter(range(1, 10**9))
    with ExitStack() as stack:
        for kind in (ClusterRounds, StreamingRounds):
            for method in ("map_reduce", "update"):
                real = getattr(kind, method)

                def call(self, function, *args, _real=real, _seconds=SLOW[kind], **named):
                    if before(next(count)):
                        function = Slowed(function, _seconds)
                    return _real(self, function, *args, **named)

                stack.enter_context(mock.patch.object(kind, method, call))
        yield


class Disturbance:
    """What happens at some rounds of a fit."""

    def __init__(self, stage, rng, rounds, inside):
        self.stage, self.rng, self.rounds, self.inside = stage, rng, set(rounds), inside
        self.last = time.monotonic()
        self.errors, self.happened = [], 0
        self._running = None

    def before(self, number):
        """Let happen what is to happen; return whether that is inside of the round."""
        self.finish()
        self.last = time.monotonic()
        if number not in self.rounds:
            return False
        self.rounds.discard(number)
        self.happened += 1
        inside = self.inside or number == 0
        pause = (0.2 if number else 0.1) * self.rng.random() if inside else 0.0
        self._running = threading.Thread(target=self._happen, args=(pause,), daemon=True)
        self._running.start()
        if not inside:
            self.finish()
        return inside

    def _happen(self, pause):
        time.sleep(pause)
        try:
            self.stage.happen(self.rng)
        except BaseException as error:  # the run is worth nothing then
            self.errors.append(error)

    def finish(self):
        """Wait until what happens is over."""
        running, self._running = self._running, None
        if running is not None:
            running.join(90)


def draw(seed, number):
    rng = np.random.default_rng([seed, number])
    return {
        "name": str(rng.choice(list(FITS))),
        "container": str(rng.choice(CONTAINERS)),
        "place": str(rng.choice(PLACES)),
        # In turn, so that all of them happen equally often.
        "event": EVENTS[number % len(EVENTS)],
        "nanny": bool(rng.random() < 0.5),
        "moment": str(rng.choice(["placement", "first", "middle", "last"])),
        "inside": bool(rng.random() < 0.5),
    }, rng


def left_behind(client):
    return [
        k for keys in client.has_what().values() for k in keys if str(k).startswith("dask_dml-")
    ]


class Undisturbed:
    """The answers of fits to which nothing happens, and how many rounds they take."""

    def __init__(self):
        self._known = {}

    def of(self, drawn, data, client):
        key = drawn["name"], drawn["container"], drawn["place"] == "streaming"
        if key not in self._known:
            counted = [0]
            if drawn["place"] == "streaming":
                # The same passes over the same chunks are sooner made by threads of this process.
                client = None
            with watched(counted.append):
                model = fit(drawn["name"], data, drawn["place"], client)
            self._known[key] = model, counted[-1]
        return self._known[key]


def one_run(seed, number, fleet, scaled, undisturbed):
    """Return a record of what was drawn and how it went."""
    drawn, rng = draw(seed, number)
    try:
        with ExitStack() as stack:
            stage = Stage(stack, drawn["event"], fleet, scaled, drawn["nanny"])
            return drawn | judged(drawn, rng, stage, undisturbed)
    except Exception as error:
        # The stage could not be set, or the undisturbed fit failed: this says nothing of fits.
        traceback.print_exc()
        return drawn | {"verdict": "INVALID", "seconds": 0.0, "error": repr(error)}


def judged(drawn, rng, stage, undisturbed):
    """Return how a run went, and the seconds that it took."""
    name, place, client = drawn["name"], drawn["place"], stage.client
    stale = set(stage.left_behind())  # by an earlier run
    data = made(drawn["container"], is_classifier(name))
    if place == "persisted":
        data = client.persist(data)
    expected, n_rounds = undisturbed.of(drawn, data, client)
    at = {"placement": 0, "first": 1, "middle": (n_rounds + 1) // 2, "last": n_rounds}
    at = at[drawn["moment"]] if n_rounds else 0
    again = {at, at + 1} if drawn["event"] == "kill twice" else {at}
    disturbance = Disturbance(stage, rng, again, drawn["inside"])
    record = {"rounds": n_rounds, "round": at, "error": ""}
    pool = ThreadPoolExecutor(1)
    began = time.monotonic()
    try:
        limit = SHORT_TIMEOUT if drawn["event"] == "freeze for long" else ROUND_TIMEOUT
        with watched(disturbance.before), dask.config.set({"dask_dml.round-timeout": limit}):
            if 0 in again:
                disturbance.before(0)
            fitting = pool.submit(fit, name, data, place, client)
            while wait([fitting], 1.0).not_done:
                if time.monotonic() > disturbance.last + PATIENCE:
                    faulthandler.dump_traceback(all_threads=True)
                    return record | {"verdict": "HANGS", "seconds": time.monotonic() - began}
        found = fitting.result()
        verdict = "right" if same(name, found, expected) else "WRONG"
        record["recoveries"] = getattr(found, "n_recoveries_", 0)
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"[:600]
        verdict = "clear error" if is_clear(error, drawn["event"]) else "UNCLEAR"
        if verdict == "UNCLEAR":
            traceback.print_exc()
    record["happened"] = disturbance.happened
    record["seconds"] = round(time.monotonic() - began, 1)
    disturbance.finish()
    if disturbance.errors:
        record["error"] += f" | what was to happen failed: {disturbance.errors[0]!r}"
        verdict = "INVALID" if verdict == "right" else verdict
    try:
        wait_until(lambda: set(stage.left_behind()) <= stale, 30)
    except AssertionError:
        verdict = f"{verdict}, LEFT BEHIND"
        record["left"] = [str(key) for key in stage.left_behind()[:5]]
    return record | {"verdict": verdict}


#: What may end a fit with an error that says so; nothing else may.
FATAL = {
    "close client": ("client was closed",),
    "kill scheduler": ("scheduler",),
    "freeze for long": ("scheduler", "client was closed"),
    "restart all": ("Client.restart()", "scheduler"),
}


def is_clear(error, event):
    """Return whether an error says what has happened, where that must be the end of a fit."""
    if not isinstance(error, (RuntimeError, TimeoutError)):
        return False
    return any(word in str(error) for word in FATAL.get(event, ()))
