"""What is known of a regression's fit before it is made: why this solver, and how many passes."""

from __future__ import annotations

import numpy as np

from dask_dml.passes.evaluate import ROUGH_COLUMNS
from dask_dml.solvers.choose import MAX_STATISTICS

#: Between how many passes fits usually take, for smooth losses and for those with a kink.
USUAL_PASSES = {
    "statistics": ((1, 3), (1, 3)),
    "newton": ((2, 60), (2, 200)),
    "lbfgs": ((5, 200), (10, 500)),
    "accelerated": ((10, 500), (20, 1000)),
    "gd": ((20, 1000), (20, 1000)),
}


def usual_passes(
    solver: str, dtype: np.dtype, n_features: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return between how many passes fits take, for smooth losses and for those with a kink."""
    if solver == "statistics" and dtype == np.float32 and n_features >= ROUGH_COLUMNS:
        return (1, 10), (1, 10)  # corrections of rough products
    return USUAL_PASSES[solver]


def reason(solver: str, chosen: str, n_features: int) -> str:
    """Return in words why `dask_dml.solvers.choose.choose_solver` has chosen a solver."""
    if solver != "auto":
        return "as you have set it"
    few = f"squares of {n_features:,} columns are affordable (up to {MAX_STATISTICS:,})"
    if n_features > MAX_STATISTICS:
        few = "rows are so few that they travel in place of squares of columns"
    many = f"squares of {n_features:,} columns cost more than the passes that they save"
    return {
        "statistics": f"squared error depends on second moments only, and {few}",
        "newton": f"{few}",
        "accelerated": f"{many}, and the penalty has corners",
        "lbfgs": f"{many}, and the penalty is smooth",
    }[chosen]
