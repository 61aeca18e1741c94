"""How far an objective is from the optimum at most, and whether that can be true."""

from __future__ import annotations

import numpy as np

#: What rounding may do to an objective or a bound, relative to it, and to one of the terms that it
#: is the sum of.
ROUNDING, DIGITS = 1e-8, 1e-15


def certified_gap(objective: float, bound: float, terms: float = 0.0) -> float:
    """Return the distance of an objective from a lower bound of the optimum.

    Parameters
    ----------
    objective : float
        Objective of a point.
    bound : float
        Dual objective.
    terms : float, default=0.0
        Sum of the absolute values of the terms whose sum the bound is, where these are larger
        than the bound.

    Returns
    -------
    gap : float
        The distance, but no less than what rounding hides.

    Raises
    ------
    RuntimeError
        If the bound is larger by more, so that one of them is wrong.
    """
    gap = objective - bound
    size = max(abs(objective), abs(bound))
    if not gap >= -(ROUNDING * size + DIGITS * terms) and not np.isinf(objective):
        raise RuntimeError(
            f"internal error: a lower bound of the optimum, {bound!r}, is above an objective, "
            f"{objective!r}; please report it with the data's shape and the parameters"
        )
    return max(gap, DIGITS * size)
