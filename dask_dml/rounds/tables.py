"""One pass over tables: chunks that no block can hold, because their columns are of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dask_dml.input.chunks import Chunks, Rows
from dask_dml.rounds.choose import client_for_tasks, count_threads
from dask_dml.rounds.streaming import SinglePass
from dask_dml.rounds.tasks import chunk_name, chunk_tasks
from dask_dml.rounds.waiting import name_chunk


def visit_tables(
    parts: Sequence[Any], function: Callable[[Any, int, Any], Any], broadcast: Any = None
) -> Any:
    """Evaluate a function on every chunk of a Dask collection in one pass, and return the sum.

    A chunk is read, visited and let go, on the workers of the current client or on threads of
    this process.

    Parameters
    ----------
    parts : sequence of Delayed
        The chunks.
    function : callable
        ``function(chunk, number, broadcast) -> partial``; defined at the top level of a module.
    broadcast : object
        Sent along, once for each worker.

    Returns
    -------
    total : object
        The sum of the partial results over a tree of the chunks.

    Raises
    ------
    Exception
        Whatever the function or a chunk's own task raised, with a note that names the chunk.
    """
    chunks = Chunks(
        X=list(parts),
        y=[None] * len(parts),
        weight=None,
        lazy=True,
        n_features=0,
        n_outputs=0,
        multi_output=False,
        dtype=np.dtype(np.float64),
        feature_names=None,
        nbytes=np.nan,
    )
    n_threads = count_threads(None)
    with client_for_tasks() as client:
        rounds = _TablePass(chunks, client, n_threads=n_threads)
        with rounds:
            return rounds.visit(function, broadcast)


class _TablePass(SinglePass):
    """A single pass whose functions get the chunks as they are."""

    def visit(self, function: Callable[[Any, int, Any], Any], broadcast: Any = None) -> Any:
        """Evaluate ``function(chunk, number, broadcast)`` on every chunk and return the sum."""

        def attempt() -> Any:
            with self._graphs.sent(broadcast) as shared:
                tasks = self._tasks(_visit, lambda _: (function, shared))
                return self._compute(self._sum(tasks), {})[0]

        return self._round(attempt)

    def _count_rows(self) -> list[int]:
        # Of a chunk that cannot be made, its own error; any other has been named already.
        keys = self._keys("rows", len(self.chunks.X))
        tasks = chunk_tasks(self.chunks, _count, keys, dict.fromkeys(range(len(keys)), ()))
        names = {key: chunk_name(number) for number, key in enumerate(keys)}
        return self._graphs.compute(dict(zip(keys, tasks, strict=True)), names)


def _visit(
    X: Any,
    y: Any,  # noqa: ARG001 - the shape that all chunk tasks share
    weight: Any,  # noqa: ARG001 - every function of chunks is handed it
    number: int,
    spec: Mapping[str, Any],  # noqa: ARG001 - likewise
    shard: int,  # noqa: ARG001 - likewise
    function: Callable[[Any, int, Any], Any],
    broadcast: Any,
) -> Any:
    try:
        return function(X, number, broadcast)
    except Exception as error:
        name_chunk(error, chunk_name(number))
        raise


def _count(X: Any, y: Any, weight: Any, number: int, spec: Mapping[str, Any]) -> int:  # noqa: ARG001 - as all
    return int((X.X if isinstance(X, Rows) else X).shape[0])
