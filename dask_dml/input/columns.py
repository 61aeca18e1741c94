"""Functions of each chunk of a column, computed where the chunk is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dask_dml.input.kinds import is_dask


def visit_column(column: Any, function: Callable[..., Any], *given: Any) -> list[Any]:
    """Return ``function(chunk, number, *given)`` of every chunk of a column.

    Parameters
    ----------
    column : array-like or Dask collection of shape (n_samples,)
        A container in memory is one chunk.
    function : callable
        Runs where the chunk is.
    *given : object
        Sent once to all chunks.

    Raises
    ------
    Exception
        Whatever the function raised.
    """
    if not is_dask(column):
        return [function(column, 0, *given)]
    from dask.base import compute
    from dask.delayed import delayed

    task = delayed(function, pure=False, traverse=False)
    sent = [delayed(one, pure=False, traverse=False) for one in given]
    chunks = np.ravel(column.to_delayed())
    return list(compute(*(task(chunk, number, *sent) for number, chunk in enumerate(chunks))))
