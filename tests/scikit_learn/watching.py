"""What tasks and the client hold, measured from outside of the package."""

from __future__ import annotations

import inspect
import pickle
from contextlib import contextmanager

import dask
from distributed import Client, SchedulerPlugin

from dask_dml.rounds import placement
from dask_dml.rounds.plan import merge_runs


class Tasks(SchedulerPlugin):
    """Records the memory of each task: what goes in and what comes out."""

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.held = {}

    def transition(self, key, start, finish, *args, **kwargs):
        if finish == "memory":
            task = self.scheduler.tasks[key]
            nbytes = task.get_nbytes() + sum(one.get_nbytes() for one in task.dependencies)
            self.held[key] = max(nbytes, self.held.get(key, 0))


class Watch:
    """Bytes of the largest things seen.

    Attributes
    ----------
    task : int
        Inputs and output of a task.
    client : int
        One answer that has come to the client: results of tasks, and of calls to the workers.
    """

    def __init__(self, tasks):
        self._tasks = tasks
        self.client = 0

    @property
    def task(self):
        return max(self._tasks.held.values())

    def saw(self, value):
        if not dask.is_dask_collection(value):
            self.client = max(self.client, len(pickle.dumps(value)))
        return value


def watched(method, watch):
    """Wrap a method of the client, be it awaited or not."""

    async def later(value):
        return watch.saw(await value)

    def call(client, *args, **kwargs):
        value = method(client, *args, **kwargs)
        return later(value) if inspect.isawaitable(value) else watch.saw(value)

    return call


def one_by_one(nbytes, limit):
    """Merge no blocks."""
    return merge_runs(nbytes, 1, 1)


@contextmanager
def watching(client, monkeypatch):
    """Measure while the context lasts; blocks are not merged, however small they are."""
    tasks = Tasks(client.cluster.scheduler)
    watch = Watch(tasks)
    # By default more than a few blocks of less than 4 MiB are joined, up to half of such data.
    monkeypatch.setattr(placement, "runs_to_visit", one_by_one)
    for name in ("gather", "run"):
        monkeypatch.setattr(Client, name, watched(getattr(Client, name), watch))
    client.cluster.scheduler.add_plugin(tasks, name="watch")
    try:
        yield watch
    finally:
        client.cluster.scheduler.remove_plugin("watch")
