"""Clusters of real processes that tests may do anything to, and the fits that run on them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

from distributed import Client, LocalCluster

from tests.patience import within

LOCAL = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


@contextmanager
def cluster(n_workers=2, **options):
    """A cluster of worker processes of one thread, and its client as the current one."""
    options = {"n_workers": n_workers, "threads_per_worker": 1, **LOCAL, **options}
    with (
        LocalCluster(**options) as made,
        Client(made, set_as_default=False) as client,
        client.as_current(),
    ):
        yield client


@contextmanager
def process(*command, cwd, **environment):
    """Run a module of distributed's command line."""
    running = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        # A stopped process hears of nothing but this.
        running.kill()
        running.wait()


@contextmanager
def separate_scheduler(tmp_path, **environment):
    """A scheduler in a process of its own, with one worker without a nanny in another."""
    contact = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--no-dashboard"]
    file = ["--scheduler-file", str(contact)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with (
        process(
            "distributed.cli.dask_scheduler", *options, "--port", "0", *file,
            cwd=elsewhere, **path | environment,
        ) as scheduler,
        process(
            "distributed.cli.dask_worker", *options, "--no-nanny", "--nthreads", "1", *file,
            cwd=elsewhere, **path,
        ),
    ):  # fmt: skip
        wait_until(contact.exists)
        client = Client(scheduler_file=str(contact), set_as_default=False, timeout=300)
        try:
            client.wait_for_workers(1)
            with client.as_current():
                yield client, scheduler
        finally:
            client.close(timeout=2)


def wait_until(condition, seconds=30.0):
    assert within(seconds, condition), "waited in vain"


def stop(running):
    os.kill(running.pid, signal.SIGSTOP)


class Proxy:
    """Passes the bytes of TCP connections on to an address, late where it is told to."""

    def __init__(self, address):
        host, port = address.removeprefix("tcp://").split(":")
        self._target = host, int(port)
        self._late, self._until = 0.0, 0.0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open = [self._listening]

    def delay(self, late, seconds):
        """Hold every piece back for some time, from now on and for some seconds."""
        self._late, self._until = late, time.monotonic() + seconds

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self):
        with suppress(OSError):
            while True:
                ends = self._listening.accept()[0], socket.create_connection(self._target)
                self._open += ends
                for one, other in (ends, ends[::-1]):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, source, target):
        with suppress(OSError):
            while piece := source.recv(2**16):
                if time.monotonic() < self._until:
                    time.sleep(self._late)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def __exit__(self, *_):
        for one in self._open:
            with suppress(OSError):
                one.close()
