"""Clusters that the whole test session shares."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster, default_client
from hypothesis import HealthCheck, settings

from dask_dml.rounds.worker import open_fits
from tests.patience import (  # the first two are hooks of pytest-timeout
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
    within,
)

__all__ = ["pytest_timeout_cancel_timer", "pytest_timeout_set_timer"]

# The function-scoped `client` only makes a shared client the current one.
settings.register_profile(
    "dask_dml",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("dask_dml")


def _connected(*, processes: bool) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=processes,
            dashboard_address="127.0.0.1:0",
            memory_limit="2 GiB" if processes else 0,
            **({"host": "127.0.0.1"} if processes else {}),
        ) as cluster,
        # Not the default client: a test that asks for none must find none.
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def same_default_client() -> Iterator[None]:
    """No test leaves a client that later ones would use unawares."""
    before = _default_client()
    yield
    assert _default_client() is before, "the test left another default client than it found"


def _default_client() -> Client | None:
    try:
        return default_client()
    except ValueError:
        return None


@pytest.fixture(scope="session")
def thread_cluster() -> Iterator[Client]:
    """A client of two one-thread workers in this process, which is not the current client."""
    yield from _connected(processes=False)


@pytest.fixture(scope="session")
def process_cluster() -> Iterator[Client]:
    """A client of two one-thread workers in processes, which is not the current client."""
    yield from _connected(processes=True)


@pytest.fixture
def client(thread_cluster: Client) -> Iterator[Client]:
    """The current client: two one-thread workers in this process."""
    yield from _current(thread_cluster)


@pytest.fixture
def process_client(process_cluster: Client) -> Iterator[Client]:
    """The current client: two one-thread workers in processes of their own."""
    yield from _current(process_cluster)


def _current(client: Client) -> Iterator[Client]:
    # Dask drops the keys of the test before some time after that has let go of them.
    if any(client.has_what().values()):
        # Frames that an exception has gone through hold each other, and what they persisted.
        gc.collect()
    within(5, lambda: not any(client.has_what().values()))
    with client.as_current():
        yield client
    assert not leftovers(client), "the test left data of the package on the cluster"


def leftovers(client: Client) -> list[str]:
    """Return the keys and the fits of the package that are on the workers."""
    keys = [str(key) for keys in client.has_what().values() for key in keys]
    fits = [fit for fits in client.run(open_fits).values() for fit in fits]
    return [key for key in keys if key.startswith("dask_dml-")] + fits
