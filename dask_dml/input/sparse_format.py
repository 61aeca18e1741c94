"""Whether the arrays of a sparse matrix suit its shape."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_sparse(X: Any, name: str = "X", where: str = "") -> None:
    """Reject a sparse matrix whose arrays contradict its shape.

    Conversions and kernels trust these arrays: they would read and write outside of their memory.

    Parameters
    ----------
    X : sparse matrix or array of shape (n_rows, n_columns)
        In any of SciPy's formats.
    name : str
        What it is, for the error.
    where : str
        As in `to_matrix`.

    Raises
    ------
    ValueError
        Naming what is wrong.
    """
    fault = _sparse_fault(X)
    if fault is not None:
        raise ValueError(
            f"{name} is a malformed sparse {X.format.upper()} matrix of shape {X.shape}{where}: "
            f"{fault}. Make it from (data, (row, column)) again, or look at what has changed its "
            "arrays."
        )


def _sparse_fault(X: Any) -> str | None:
    """Return what contradicts the shape; None where nothing does."""
    if X.format in ("csr", "csc"):
        return _compressed_fault(X, X.shape, X.data)
    if X.format == "bsr":
        if X.data.ndim != 3 or 0 in X.data.shape[1:]:
            return f"data has shape {X.data.shape}, and not that of some blocks"
        _, height, width = X.data.shape
        return _compressed_fault(X, (X.shape[0] // height, X.shape[1] // width), X.data)
    if X.format == "dia":
        if X.data.ndim != 2 or len(X.data) != len(X.offsets):
            return f"data has shape {X.data.shape} for {len(X.offsets)} diagonals"
        return None
    if X.format == "lil":
        n_columns, n_values = (np.frompyfunc(len, 1, 1)(lists) for lists in (X.rows, X.data))
        if len(n_columns) != X.shape[0] or not np.array_equal(n_columns, n_values):
            return "rows and data do not have as many entries as another"
        return _sparse_fault(X.tocsr())
    coo = X.tocoo()
    axes = (("row", coo.row, coo.shape[0]), ("column", coo.col, coo.shape[1]))
    faults = (_entries_fault(*axis, coo.data) for axis in axes)
    return next((fault for fault in faults if fault is not None), None)


def _compressed_fault(X: Any, shape: tuple[int, int], data: np.ndarray) -> str | None:
    """Look at the index arrays of a CSR or CSC matrix, or of the blocks of a BSR matrix."""
    lines, entries = ("column", "row") if X.format == "csc" else ("row", "column")
    n_lines, n_entries = shape[::-1] if X.format == "csc" else shape
    indptr = X.indptr
    if indptr.dtype.kind != "i" or indptr.ndim != 1 or len(indptr) != n_lines + 1:
        return (
            f"indptr of shape {indptr.shape} and dtype {indptr.dtype} has to hold "
            f"{n_lines + 1} integers"
        )
    if indptr[0] != 0 or np.any(indptr[1:] < indptr[:-1]):
        at = 0 if indptr[0] != 0 else int(np.argmax(indptr[1:] < indptr[:-1]))
        return f"indptr has to rise from 0, and does not at {lines} {at}"
    if indptr[-1] > len(data):
        return f"indptr ends at {indptr[-1]}, but there are {len(data)} entries"
    return _entries_fault(entries, X.indices, n_entries, data, indptr, lines)


def _entries_fault(
    axis: str,
    indices: np.ndarray,
    size: int,
    data: np.ndarray,
    indptr: np.ndarray | None = None,
    lines: str = "",
) -> str | None:
    if indices.ndim != 1 or len(indices) != len(data):
        return f"there are {indices.size} {axis} indices for {len(data)} entries"
    if not len(indices):
        return None
    if indices.dtype.kind != "i":
        return f"the {axis} indices have dtype {indices.dtype}, and are not integers"
    # Without its sign a negative index is larger than any size: one pass finds both.
    unsigned = indices.view(indices.dtype.str.replace("i", "u"))
    if indptr is not None:
        # SciPy takes what follows for spare room.
        unsigned = unsigned[: indptr[-1]]
    if not len(unsigned) or int(unsigned.max()) < size:
        return None
    entry = int(np.argmax(unsigned >= size))
    where = f"entry {entry}"
    if indptr is not None:
        where = f"{lines} {int(np.searchsorted(indptr, entry, side='right')) - 1}"
    return f"{where} has the {axis} index {int(indices[entry])}, but there are {size} {axis}s"
