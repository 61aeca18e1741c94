"""Where the graphs of `StreamingRounds` are computed: a cluster, or threads of this process."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from dask.base import compute
from dask.delayed import Delayed, delayed

from dask_dml.input.clients import connected, worker_threads
from dask_dml.rounds.calls import check_client
from dask_dml.rounds.tasks import PREFIX
from dask_dml.rounds.threads import BlasLimit
from dask_dml.rounds.waiting import (
    DataLost,
    is_named,
    name_chunk,
    settle,
    uninterrupted,
    wait_until_gone,
)

if TYPE_CHECKING:
    from distributed import Client, Future


#: What is under way, in words.
PASS = "a pass over the data"


class TooLarge(Exception):
    """What is being computed takes more memory than there is room for."""


class Graphs(Protocol):
    """What `StreamingRounds` asks of the place where its graphs are computed."""

    fit: str

    @property
    def client(self) -> Client | None:
        """The cluster's client, if there is one."""
        ...

    def n_threads(self) -> int:
        """Return how many tasks run at once."""
        ...

    def sent(self, value: Any) -> Any:
        """Return a context that makes a value usable as an argument of many tasks."""
        ...

    def compute(self, tasks: Mapping[str, Delayed], names: Mapping[str, str]) -> list[Any]:
        """Return the values of tasks given by key, naming in an error which of them failed."""
        ...

    def compute_and_keep(
        self, task: Delayed, kept: Mapping[str, Delayed], limit: float
    ) -> tuple[Any, list[Any]]:
        """Return the value of a task, and other values in the form in which they can be kept."""
        ...

    def detached(self, kept: Sequence[Any]) -> list[Any]:
        """Return kept values without their history."""
        ...

    def lost(self, kept: Sequence[Any]) -> list[int]:
        """Return the positions of kept values that are gone."""
        ...

    def drop(self, kept: Iterable[Any]) -> None:
        """Let go of kept values."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class ThreadGraphs:
    """Dask's threaded scheduler in this process."""

    def __init__(self, n_threads: int) -> None:
        self.fit = uuid.uuid4().hex[:12]
        self.client: None = None
        self._n_threads = n_threads
        self._blas = BlasLimit()

    def n_threads(self) -> int:
        """Return how many tasks run at once."""
        return self._n_threads

    @contextmanager
    def sent(self, value: Any) -> Iterator[Any]:
        """Return a context that makes a value usable as an argument of many tasks."""
        yield delayed(value, name=f"{PREFIX}value-{uuid.uuid4().hex}", traverse=False)

    def compute(self, tasks: Mapping[str, Delayed], names: Mapping[str, str]) -> list[Any]:
        """Return the values of tasks given by key."""
        try:
            return self._compute(list(tasks.values()))
        except Exception as first:
            # A task that only feeds others does not say which: find the chunk the slow way.
            unknown = not (is_named(first) or isinstance(first, TooLarge))
            for key, task in tasks.items() if unknown else ():
                try:
                    self._compute([task])
                except Exception as error:
                    name_chunk(error, names.get(key))
                    raise error from None
            raise

    def _compute(self, tasks: list[Delayed]) -> list[Any]:
        with self._blas():
            return list(compute(*tasks, scheduler="threads", num_workers=self._n_threads))

    def compute_and_keep(
        self,
        task: Delayed,
        kept: Mapping[str, Delayed],
        limit: float,  # noqa: ARG002 - the protocol has it
    ) -> tuple[Any, list[Any]]:
        """Return the value of a task, and other values in the form in which they can be kept."""
        value, *values = self._compute([task, *kept.values()])
        return value, values

    def detached(self, kept: Sequence[Any]) -> list[Any]:
        """Return kept values without their history."""
        return list(kept)

    def lost(self, kept: Sequence[Any]) -> list[int]:  # noqa: ARG002 - the protocol has it
        """Return the positions of kept values that are gone: none, in one process."""
        return []

    def drop(self, kept: Iterable[Any]) -> None:
        """Do nothing: the caller's reference was the only one."""

    def close(self) -> None:
        """Do nothing: there is nothing but what callers hold."""


class ClusterGraphs:
    """A Dask cluster.  Values are kept as futures."""

    def __init__(self, client: Client) -> None:
        check_client(client)
        self.fit = uuid.uuid4().hex[:12]
        self.client = client
        self._futures: dict[str, Future] = {}

    def n_threads(self) -> int:
        """Return how many tasks run at once."""
        return sum(worker_threads(self.client, "counting threads").values()) or 1

    @contextmanager
    def sent(self, value: Any) -> Iterator[Any]:
        """Return a context that makes a value usable as an argument of many tasks."""
        # Not a part of the graph: that would be sent to the scheduler with every task.
        future = self._scatter([value])[0]
        try:
            yield future
        finally:
            self.drop([future])

    def _scatter(self, values: Sequence[Any]) -> list[Future]:
        named = {f"{PREFIX}value-{self.fit}-{uuid.uuid4().hex}": value for value in values}

        def send() -> None:
            self._futures.update(self.client.scatter(named))

        with connected(self.client, PASS):
            try:
                uninterrupted(send)
            except TimeoutError:
                raise
            except OSError as error:
                # A worker went down while it was being sent to.
                raise DataLost(named, "what is sent along with a pass") from error
        return [self._futures[key] for key in named]

    def submit(self, tasks: Mapping[str, Delayed]) -> dict[str, Future]:
        """Start tasks given by key."""
        futures = dict(zip(tasks, self.client.compute(list(tasks.values())), strict=True))
        self._futures.update(futures)
        return futures

    def compute(self, tasks: Mapping[str, Delayed], names: Mapping[str, str]) -> list[Any]:
        """Return the values of tasks given by key."""
        with connected(self.client, PASS):
            futures = self.submit(tasks)
            try:
                settle(self.client, futures, names)
                return uninterrupted(self.client.gather, list(futures.values()))
            finally:
                self.drop(futures.values())

    def compute_and_keep(
        self, task: Delayed, kept: Mapping[str, Delayed], limit: float
    ) -> tuple[Any, list[Any]]:
        """Return the value of a task, and other values in the form in which they can be kept."""
        with connected(self.client, PASS):
            futures = self.submit({task.key: task, **kept})
            total = futures[task.key]
            done = False
            try:
                settle(self.client, futures, {}, limit)
                value = uninterrupted(total.result)
                done = True
            finally:
                self.drop([total] if done else futures.values())
        return value, [futures[key] for key in kept]

    def detached(self, kept: Sequence[Any]) -> list[Any]:
        """Return kept values without their history."""
        fresh: list[Any] = []
        for future in kept:
            with connected(self.client, PASS):
                value = uninterrupted(future.result)
            try:
                fresh += self._scatter([value])
            except DataLost:
                fresh.append(future)
            else:
                self.drop([future])
        return fresh

    def lost(self, kept: Sequence[Any]) -> list[int]:
        """Return the positions of kept values that are gone."""
        return [n for n, future in enumerate(kept) if future.status in ("cancelled", "lost")]

    def drop(self, kept: Iterable[Any]) -> None:
        """Let go of kept values."""
        for future in list(kept):
            self._futures.pop(future.key, None)
            future.release()

    def close(self) -> None:
        """Release everything."""
        self.drop(self._futures.values())
        if self.client.status == "running":
            wait_until_gone(self.client, self.fit)


def open_graphs(client: Client | None, n_threads: int) -> Graphs:
    """Return the place where graphs are computed: a cluster, or threads of this process."""
    return ThreadGraphs(n_threads) if client is None else ClusterGraphs(client)
