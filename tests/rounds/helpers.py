"""Shard functions and inputs for the tests; processes of workers import this module."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import dask
import numpy as np
import threadpoolctl

from dask_dml.input.chunks import Chunks
from dask_dml.rounds import choose, open_rounds
from dask_dml.rounds.worker import Answer
from tests.patience import within


def column_sums(shard, broadcast):
    scale = 1.0 if broadcast is None else broadcast
    return scale * sum(block.X.sum(axis=0) for block in shard.blocks)


def numbered(shard, broadcast):
    return [(shard.number, [chunk for block in shard.blocks for chunk, _ in block.origin])]


def slow_sums(shard, broadcast):
    time.sleep(broadcast)
    return column_sums(shard, None)


def hard_sums(shard, broadcast):
    """Compute for some seconds of this thread's own time, which goes on only while it runs."""
    end = time.thread_time() + broadcast
    while time.thread_time() < end:
        pass
    return column_sums(shard, None)


@contextmanager
def halting(pid, share=0.75, period=0.04):
    """Stop a process for a share of the time, again and again."""
    over = threading.Event()

    def halt():
        while not over.wait((1.0 - share) * period):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(share * period)
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=halt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def dying_sums(shard, pid):
    """Kill the process of this number: its worker is lost in the middle of the round."""
    if os.getpid() == pid:
        os.kill(pid, signal.SIGKILL)
    return column_sums(shard, None)


def failing(shard, broadcast):
    if shard.number == broadcast:
        raise LookupError("no such thing")
    return 0.0


def counting(shard, state, broadcast):
    """State counts the updates; the partial is a vector whose entries tell which were made."""
    state = 0 if state is None else state
    return state + 1, float(shard.n_rows) * (state + 1) * broadcast


def to_chunks(X, y, cuts, weight=None, lazy=True):
    """Cut arrays at the given rows."""
    bounds = [0, *cuts, len(X)]
    pieces = [slice(a, b) for a, b in pairwise(bounds)]
    wrap = dask.delayed(np.asarray, pure=False) if lazy else np.asarray
    return Chunks(
        X=[wrap(X[piece]) for piece in pieces],
        y=[wrap(y[piece]) for piece in pieces],
        weight=None if weight is None else [wrap(weight[piece]) for piece in pieces],
        lazy=lazy,
        n_features=X.shape[1],
        n_outputs=1 if y.ndim == 1 else y.shape[1],
        multi_output=y.ndim == 2,
        dtype=np.dtype(X.dtype),
        feature_names=None,
        nbytes=float(X.nbytes),
    )


def dying_counting(shard, state, pid):
    """Count, as `counting` does, in every process but the one of this number, which dies."""
    dying_sums(shard, pid)
    return counting(shard, state, 1.0)


async def forgetful(fit, function, broadcast, dask_worker):
    """Answer like a worker that has just been started anew."""
    return Answer(missing=None)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dask_dml-")]


def block_sizes(shard, broadcast):
    return [[block.n_rows for block in shard.blocks]]


GATE = threading.Event()


def wait_at_gate(number):
    """Keep a thread of a worker in this process busy until somebody opens the gate."""
    return GATE.wait()


def blas_threads(shard, broadcast):
    libraries = threadpoolctl.threadpool_info()
    return tuple(each["num_threads"] for each in libraries if each["user_api"] == "blas")


def failing_update(shard, state, broadcast):
    return 100, failing(shard, broadcast)


class Stubborn(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def stubborn(shard, broadcast):
    raise Stubborn("mine", 2)


def slow_identity(value, seconds):
    time.sleep(seconds)
    return value


def of_unknown_size(chunks):
    return replace(chunks, nbytes=float("nan"))


def set_local_share(share):
    """Set which share of its free memory a worker takes for a fit inside of a task."""
    choose.LOCAL_SHARE = share


def fit_in_task(number):
    X = np.ones((600, 2))
    with open_rounds(to_chunks(X, X, [100, 300])) as rounds:
        return type(getattr(rounds, "_rounds", rounds)).__name__, rounds.map_reduce(column_sums)[0]


@contextmanager
def interrupt(seconds):
    """Press Ctrl-C some time after entering."""
    timer = threading.Timer(seconds, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        yield
    finally:
        timer.join()


def wait_for_release(client):
    """Wait until running kernels have ended; then there must be nothing of the package."""
    within(60, lambda: not threads() and not any(client.has_what().values()))
    assert not any(client.has_what().values())
    assert not threads()
