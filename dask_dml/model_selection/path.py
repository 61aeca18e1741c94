"""Solutions of squared error along a path of penalties."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from dask_dml.input.read import read_input
from dask_dml.model_selection.regression_cv import DistributedGDRegressorCV


def regularization_path(
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    alphas: int | Any = 100,
    eps: float = 1e-3,
    l1_ratio: float = 1.0,
    fit_intercept: bool = True,
    tol: float = 1e-6,
    n_jobs: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the coefficients for many strengths of a penalty, from one pass over the data.

    The loss is squared error.  The penalties are those of `DistributedGDRegressorCV`.

    Parameters
    ----------
    X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
            (n_samples, n_features)
        Training data, with up to 2000 columns.
    y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
        Non-negative weights of the rows.
    alphas : int or array-like of shape (n_alphas,), default=100
        Strengths of the penalty.  An int is their number; see `DistributedGDRegressorCV`.
    eps : float, default=1e-3
        Ratio of the smallest to the largest alpha.  Read if `alphas` is an int.
    l1_ratio : float, default=1.0
        Share of the L1 norm in the penalty, in [0, 1].
    fit_intercept : bool, default=True
        Whether to fit intercepts.  As in scikit-learn's functions they are not returned.
    tol : float, default=1e-6
        Relative duality gap at which a fit counts as converged.
    n_jobs : int or None, default=None
        Threads for data in memory; None means all cores.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,)
        Strengths of the penalty, descending.
    coefs : ndarray of shape (n_features, n_alphas) or (n_outputs, n_features, n_alphas)
        Coefficients.
    dual_gaps : ndarray of shape (n_alphas,)
        Relative duality gaps, the largest among the outputs.

    Raises
    ------
    ValueError
        If a parameter, X, y or the weights are invalid, or X has more than 2000 columns.
    TypeError
        If a parameter or a column has the wrong type.

    See Also
    --------
    sklearn.linear_model.enet_path

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from dask_dml.model_selection import regularization_path
    >>> X, y = load_diabetes(return_X_y=True)
    >>> alphas, coefs, dual_gaps = regularization_path(X, y, alphas=50)
    >>> coefs.shape, int((coefs[:, 0] != 0).sum()), int((coefs[:, -1] != 0).sum())
    ((10, 50), 0, 10)
    """
    from dask_dml.model_selection import penalty_search
    from dask_dml.objective.penalties import make_penalty
    from dask_dml.passes.divisions import Consecutive
    from dask_dml.rounds import open_rounds
    from dask_dml.solvers.path import collect, solve_path, whole

    # The estimator's parameters are the function's, and so are the checks.
    checker = DistributedGDRegressorCV(
        alphas=alphas, eps=eps, penalty="elasticnet", l1_ratio=l1_ratio, tol=tol, n_jobs=n_jobs,
        fit_intercept=fit_intercept,
    )  # fmt: skip
    (ratio,), wanted = checker.check_grid()
    chunks = read_input(checker, X, y, sample_weight)
    penalty_search.check_columns(chunks.n_features, "regularization_path")
    with open_rounds(chunks, n_jobs=n_jobs) as rounds:
        total = whole(collect(rounds, [Consecutive(sum(rounds.shard_rows), 1)], len(chunks.X)))
        penalty_search.check_weight(total)
        grid = penalty_search.alpha_grid(total, ratio, wanted, eps, fit_intercept=fit_intercept)
        penalties = [make_penalty("elasticnet", float(alpha), ratio) for alpha in grid]
        path = solve_path(rounds, total, penalties, fit_intercept=fit_intercept, tol=tol)
    penalty_search.warn_of_condition(path, "the table")
    if not path.converged:
        warnings.warn(
            f"regularization_path did not meet tol={tol:g}: the largest relative duality gap is "
            f"{path.gap.max():.2e}. Scale the columns, or try larger alphas.",
            ConvergenceWarning,
            stacklevel=2,
        )
    coefs = np.moveaxis(path.coef, 0, -1)
    return grid, coefs if chunks.multi_output else coefs[0], path.gap.max(axis=1)
