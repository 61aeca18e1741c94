"""Pieces of the Newton step of a support vector machine that need no state."""

from __future__ import annotations

import numpy as np

from dask_dml.solvers.quadratic import solve_smooth
from dask_dml.svm_problems import STEPS
from dask_dml.svm_products import WindowRows


def step_by_rows(
    slope: np.ndarray, ridge: np.ndarray, rows: WindowRows, narrower: float, intercept: float
) -> np.ndarray:
    """Return the Newton step from a system of as many equations as rows have a curvature.

    By the identity of Woodbury: the inverse of ``R + X'DX`` takes no more than that of
    ``1/D + X R^-1 X'`` where ``R`` is diagonal.

    Parameters
    ----------
    slope : ndarray of shape (n_features + 1,)
        Gradient of loss and penalty, intercept last.
    ridge : ndarray of shape (n_features + 1,)
        R, the curvature of the penalty.
    rows : WindowRows
        X, D and the rows' residuals.
    narrower : float
        By how much the window of the hinge has been narrowed since.
    intercept : float
        One if there is an intercept, zero if not.

    Returns
    -------
    step : ndarray of shape (n_features + 1,)
    """
    X, bend = rows.X, rows.bend
    slope, ridge = slope.copy(), ridge.copy()
    if narrower > 1.0:
        pull = bend * rows.residual
        slope -= (narrower - 1.0) * np.append(X.T @ pull, intercept * pull.sum())
    if intercept == 0.0:
        slope[-1], ridge[-1] = 0.0, 1.0
    step = -slope / ridge
    if len(bend):
        scaled = X / np.sqrt(ridge[:-1]) if np.any(ridge[:-1] != 1.0) else X
        gram = scaled @ scaled.T
        gram = np.asarray(gram.toarray() if hasattr(gram, "toarray") else gram, np.float64)
        gram += intercept / ridge[-1]
        right = X @ step[:-1] + intercept * step[-1]
        weights = solve_smooth(gram, right, 1.0 / (narrower * bend))
        step -= np.append(X.T @ weights, intercept * weights.sum()) / ridge
    return step


def best_step(rates: np.ndarray) -> float:
    """Return where the line search's function has its minimum, as a fraction of the step.

    The rate of change is monotone, and piecewise linear where the loss is smoothed: its root
    lies between two of the steps.
    """
    right = int(np.argmax(rates > 0.0)) if np.any(rates > 0.0) else len(STEPS) - 1
    if right == 0:
        return float(0.1 * STEPS[1])
    left = right - 1
    low, high = rates[left], rates[right]
    share = low / (low - high) if high > low and low < 0.0 < high else 1.0
    return float(STEPS[left] + min(max(share, 1e-3), 1.0) * (STEPS[right] - STEPS[left]))
