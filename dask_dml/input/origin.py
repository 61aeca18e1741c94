"""Dask arrays that remember the frame that they were made of.

An array of a frame is a graph of its own: what it shares with the frame's other columns, such as
reading a file, would run once for the array and once more for the targets.  Functions that make
one chunk of each partition leave a note, from which both can be made in one task.  Dask drops the
note where the array goes through anything else, and all is as without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dask_dml.input.kinds import is_frame

_NOTE = "_dask_dml_origin"


@dataclass(frozen=True)
class Origin:
    """How an array is made of a frame.

    Attributes
    ----------
    frame : dask DataFrame
        Has a partition for each chunk of rows.
    functions : tuple of callable
        What is done with a partition, one after the other.
    """

    frame: Any
    functions: tuple[Callable[[Any], Any], ...]


def note_origin(made: Any, X: Any, function: Callable[[Any], Any]) -> Any:
    """Note that chunks of an array are a function of those of X.

    Parameters
    ----------
    made : dask array
        The result; gets the note.
    X : dask DataFrame or array
        What it was made of: a frame, or an array that has a note.
    function : callable
        Makes a chunk of a partition, or of a chunk.

    Returns
    -------
    made : dask array
        The same object.
    """
    origin = Origin(X, ()) if is_frame(X) else origin_of(X)
    if origin is not None:
        setattr(made, _NOTE, Origin(origin.frame, (*origin.functions, function)))
    return made


def origin_of(X: Any) -> Origin | None:
    """Return what is known of the frame that an array was made of."""
    return getattr(X, _NOTE, None)
