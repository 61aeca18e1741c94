"""Numbers that cannot be negative, and what rounding may do to them."""

from __future__ import annotations

#: Rounding of a sum of some ten thousand terms, relative to the sum of their sizes.
_DIGITS = 1e-10


def not_negative(value: float, size: float, name: str) -> float:
    """Return a number that cannot be negative, as zero where rounding made it so.

    Parameters
    ----------
    value : float
        The number; NaN, of a solver that diverged, is returned as it is.
    size : float
        Sum of the sizes of the terms that it is the sum of.
    name : str
        What it is, for the error.

    Returns
    -------
    value : float
        Not negative.

    Raises
    ------
    RuntimeError
        If it is negative by more than rounding, so that a formula must be wrong.
    """
    if value < -_DIGITS * size:
        raise RuntimeError(
            f"internal error: {name} is {value!r}, of terms that sum up to {size!r}; please "
            "report it with the data's shape and the parameters"
        )
    return 0.0 if value < 0.0 else value
