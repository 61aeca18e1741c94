"""Scores of squared error from the second moments that fits have collected, without a pass."""

from __future__ import annotations

import numpy as np

from dask_dml.passes.evaluate import rough_statistics, statistics
from dask_dml.passes.fold_rows import Fold
from dask_dml.passes.partials import Statistics
from dask_dml.passes.scores import Models, ResidualSums
from dask_dml.solvers.path import held_out
from dask_dml.solvers.shared_rounds import SharedRounds

#: Share of their terms that sums of squares must have, to be sums of moments with all digits.
DIGITS = 1e-3


def sums_of_moments(shared: SharedRounds, fold: Fold | None, models: Models) -> ResidualSums | None:
    """Return sums of squares of residuals; None where a pass has to find them.

    Parameters
    ----------
    shared : SharedRounds
        Knows the second moments, if fits needed them.
    fold : Fold or None
        Rows to score.
    models : Models
        What to score.

    Returns
    -------
    sums : ResidualSums or None
        Without absolute values, which moments do not tell.  None if nothing is known, or digits
        would be lost.
    """
    known: list[Statistics | None] = [
        shared.known(fold, function) for function in (statistics, rough_statistics)
    ]
    test = next((one for one in known if one is not None and not one.rough), None)
    if test is None or not test.weight > 0.0:
        return None
    n_outputs = len(test.target_mean)
    coef = models.coef.reshape(-1, n_outputs, models.coef.shape[1])
    found = held_out(coef, models.intercept.reshape(-1, n_outputs), test)
    if not np.all(found.square > DIGITS * found.terms):
        return None
    unknown = np.full(found.square.shape, np.nan)
    return ResidualSums(
        test.n_rows,
        test.weight,
        test.target_mean,
        test.target_square,
        found.bias,
        test.weight * found.square,
        unknown,
        unknown,
    )
