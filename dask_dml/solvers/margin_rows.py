"""An interior point for an L1 penalty, of a few rows that have travelled to the driver.

Its systems are of as many equations as there are rows, whatever the number of columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Matrix, Shard, frozen
from dask_dml.objective.interior import ask_rows
from dask_dml.objective.margins import MarginEvaluation, MarginProblem
from dask_dml.passes.interior import InteriorAsk, InteriorSums, interior, row_weights
from dask_dml.passes.products import WindowRows
from dask_dml.solvers.margin_interior import Solve, interior_point
from dask_dml.solvers.margin_systems import definite_solver, ridge_of

#: Corrections of a solution by what is left of its system.
CORRECTIONS = 3
#: Coefficients that are smaller than this share of the largest, each times its column's length, are
#: taken for zero where the objective does not mind.
SMALL = (1e-3, 1e-5, 1e-7, 1e-9)


def solve_by_rows(
    problem: MarginProblem, rows: WindowRows, e: MarginEvaluation, tol: float, deadline: float
) -> np.ndarray:
    """Return coefficients, intercept last.

    Parameters
    ----------
    problem : MarginProblem
        The problem, with the squared hinge and an L1 penalty.
    rows : WindowRows
        All rows that cost anything, as they are at coefficients of zero.
    e : MarginEvaluation
        At coefficients of zero.
    tol : float
        Relative gap at which to stop.
    deadline : float
        `time.monotonic` value at which to stop.
    """
    sign, cost = np.sign(rows.residual), 0.5 * rows.bend
    X = rows.X.astype(np.float64)
    shard = Shard(0, (frozen(X, sign[:, None], cost, ()),))
    own, best = replace(problem, label=1.0, cost=(1.0, 1.0)), e
    state: object = None
    signed = _with_intercept(X, sign)

    def visit(ask: InteriorAsk) -> InteriorSums:
        nonlocal state
        state, total = interior(shard, state, ask)
        return total

    def look(now: MarginEvaluation) -> None:
        nonlocal best
        best = now

    def system(_: MarginEvaluation, diagonal: np.ndarray, held: np.ndarray) -> Solve:
        weights = row_weights(shard, state, 0, own.label, np.array(own.cost))
        return by_rows(signed, weights, diagonal, held)

    path = interior_point(own, e, len(sign), look, system)
    query = next(path)
    while best.relative_gap > tol and time.monotonic() < deadline:
        try:
            query = path.send(ask_rows(visit, own, query))
        except StopIteration:
            break
    z = np.append(best.query.coef, best.query.intercept)
    return _sparse(problem, signed, cost, z, best.objective * (1.0 + 0.1 * tol))


def _with_intercept(X: Matrix, sign: np.ndarray) -> Matrix:
    """Return rows ``y_i (x_i, 1)``."""
    if isinstance(X, np.ndarray):
        return np.column_stack([sign[:, None] * X, sign])
    return sp.csr_array(sp.hstack([sp.diags_array(sign) @ X, sp.csr_array(sign[:, None])]))


def by_rows(Z: Matrix, weights: np.ndarray, diagonal: np.ndarray, held: np.ndarray) -> Solve:
    """Return what solves ``(Z' diag(weights) Z + diag(diagonal)) z = r``, by Woodbury's identity.

    Parameters
    ----------
    Z : ndarray or csr_array of shape (n_rows, n)
        Rows.
    weights : ndarray of shape (n_rows,)
        Positive.
    diagonal : ndarray of shape (n,)
        Not negative; what is zero is made small, and the solution corrected.
    held : ndarray of bool of shape (n,)
        Coordinates of the solution that are zero.
    """
    usual = 1e-8 * float(weights.sum())
    inverse = np.where(held, 0.0, 1.0 / np.where(diagonal > 0.0, diagonal, usual))
    if isinstance(Z, np.ndarray):
        inner = (Z * inverse) @ Z.T
    else:
        inner = (Z @ sp.diags_array(inverse) @ Z.T).toarray()
    inner[np.diag_indices_from(inner)] += 1.0 / weights
    solve_inner = definite_solver(inner)

    def about(right: np.ndarray) -> np.ndarray:
        first = inverse * right
        found: np.ndarray = first - inverse * (Z.T @ solve_inner(Z @ first))
        return found

    def image(z: np.ndarray) -> np.ndarray:
        return np.asarray(Z.T @ (weights * (Z @ z)) + diagonal * z)

    return corrected(about, image, held)


def corrected(
    about: Callable[[np.ndarray], np.ndarray],
    image: Callable[[np.ndarray], np.ndarray],
    held: np.ndarray,
) -> Solve:
    """Return what solves a system, given what nearly does, by what is left of it each time.

    Parameters
    ----------
    about : callable
        Nearly the inverse of the matrix, times a vector.
    image : callable
        The matrix times a vector.
    held : ndarray of bool of shape (n,)
        Coordinates of the solution that are zero.
    """

    def solve(right: np.ndarray) -> np.ndarray:
        z, rest = np.zeros_like(right), np.where(held, 0.0, right)
        for _ in range(CORRECTIONS + 1):
            there = z + about(rest)
            left = np.where(held, 0.0, right - image(there))
            if not np.abs(left).sum() < np.abs(rest).sum():
                break
            z, rest = there, left
        return z

    return solve


def _sparse(
    problem: MarginProblem, Z: Matrix, cost: np.ndarray, z: np.ndarray, most: float
) -> np.ndarray:
    """Return coefficients with the small ones set to zero, as far as the objective allows."""
    squares = abs(Z) ** 2
    sizes = np.abs(z) * np.sqrt(np.asarray(squares.sum(axis=0)).ravel())
    ridge = ridge_of(problem, len(z) - 1)
    for share in SMALL:
        fewer = np.where(sizes > share * sizes.max(), z, 0.0)
        excess = np.maximum(1.0 - Z @ fewer, 0.0)
        if float(cost @ excess**2 + ridge @ np.abs(fewer)) <= most:
            return fewer
    return z
