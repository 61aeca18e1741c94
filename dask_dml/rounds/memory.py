"""How much memory workers have for data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dask_dml.input.clients import worker_info

if TYPE_CHECKING:
    from distributed import Client

#: Share of the cluster's memory that X may take: Dask begins to spill at 60 %.
CLUSTER_SHARE = 0.6

#: Bytes that a worker takes for itself once a fit has loaded its libraries and kernels.
LIBRARIES = 256 * 2**20


def cluster_memory(client: Client) -> float:
    """Return the memory of all workers for data, in bytes; infinite where it is not limited.

    What a worker's process takes for itself is none.
    """
    workers = worker_info(client).values()
    # An adaptive cluster may have no worker yet.
    if not workers or not all(worker["memory_limit"] for worker in workers):
        return float("inf")
    return float(sum(map(memory_for_data, workers)))


def memory_for_data(worker: Mapping[str, Any]) -> float:
    """Return the memory of a worker for data, in bytes."""
    metrics = worker["metrics"]
    itself = metrics.get("memory", 0) - metrics.get("managed_bytes", 0)
    return float(max(worker["memory_limit"] - max(itself, LIBRARIES), 0))


def room_of(worker: Mapping[str, Any]) -> float:
    """Return the bytes that a worker may be given beside what it has, before it spills."""
    if not worker["memory_limit"]:
        return float("inf")
    held = worker["metrics"].get("managed_bytes", 0)
    return max(CLUSTER_SHARE * memory_for_data(worker) - held, 0.0)
