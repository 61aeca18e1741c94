"""How much memory chunks are going to take, from some real ones where nothing else tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dask_dml.input.chunks import Chunks
from dask_dml.rounds.graphs import Graphs
from dask_dml.rounds.tasks import PREFIX, chunk_name, chunk_tasks, to_block

#: Chunks that are looked at, evenly spread.
SAMPLE = 8


def estimated_bytes(chunks: Chunks, graphs: Graphs) -> float:
    """Return about how many bytes all blocks are going to take.

    Parameters
    ----------
    chunks : Chunks
        Lazy chunks.
    graphs : Graphs
        Where some of them are computed.

    Returns
    -------
    nbytes : float
        The mean of those that were looked at, times their number.

    Raises
    ------
    Exception
        Whatever a chunk's own task raised, with a note that names the chunk.
    """
    n_chunks = len(chunks.X)
    numbers = np.unique(np.linspace(0, n_chunks - 1, min(SAMPLE, n_chunks)).round().astype(int))
    keys = {f"{PREFIX}size-{graphs.fit}-{number}": int(number) for number in numbers}
    tasks = chunk_tasks(chunks, count_bytes, list(keys), dict.fromkeys(keys.values(), ()))
    names = {key: chunk_name(number) for key, number in keys.items()}
    sizes = graphs.compute(dict(zip(keys, tasks, strict=True)), names)
    return float(np.mean(sizes)) * n_chunks


def count_bytes(X: Any, y: Any, weight: Any, number: int, spec: Mapping[str, Any]) -> int:
    """Return the memory of a chunk's block."""
    return to_block(X, y, weight, number, spec).nbytes
