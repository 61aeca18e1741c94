"""What all pictures share."""

from __future__ import annotations

from typing import Any


def axes(ax: Any, name: str) -> Any:
    """Return the axes to draw on.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Axes to draw on.  None makes a new figure.
    name : str
        Who asks, for the error.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{name}.plot needs matplotlib. Install it, or the extra: pip install 'dask-dml[viz]'."
        ) from error
    return pyplot.subplots(layout="constrained")[1] if ax is None else ax


def one_of(name: str, value: str, options: tuple[str, ...]) -> str:
    """Return a value that has to be among some.

    Raises
    ------
    ValueError
        If it is not.
    """
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}.")
    return value
