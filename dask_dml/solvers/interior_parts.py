"""What interior-point methods have in common, whatever the loss: the penalty, and the systems."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dask_dml.solvers.margin_systems import CORRECTIONS, definite_solver

#: Steps after which to ask whether the gap falls where time is short; how many of the last tell;
#: larger gaps are as good as none, and smaller ones are rounding.
FEW_STEPS, LOOK_BACK, HUGE, ROUNDING = 7, 6, 1e30, 1e-14


class Pace:
    """How fast another method closes the gap, step by step.

    Parameters
    ----------
    tol : float
        The relative gap that is to be met.
    first : int
        Steps after which to ask, where time is not short.
    most : float
        Steps more that are too many: what an interior-point method takes.
    deadline : float
        `time.monotonic` value at which time is up.
    """

    def __init__(self, tol: float, first: int, most: float, deadline: float) -> None:
        self._tol, self._first, self._most = tol, first, most
        self._began, self._deadline = time.monotonic(), deadline
        self._gaps: list[float] = []

    def is_slow(self, gap: float) -> bool:
        """Take the relative gap after a step; return whether an interior point is found sooner."""
        gaps, now = self._gaps, time.monotonic()
        gaps.append(min([gap, *gaps[-1:]]))
        taken = (now - self._began) / len(gaps)
        left = (self._deadline - now) / taken if taken > 0.0 else math.inf
        if len(gaps) < (self._first if left >= self._most else FEW_STEPS):
            return False
        last, before = (float(np.clip(gaps[at], ROUNDING, HUGE)) for at in (-1, -1 - LOOK_BACK))
        factor = np.log(max(last / max(self._tol, ROUNDING), 1.0))
        pace = np.log(max(before / last, 1.0)) / LOOK_BACK
        return bool(factor > min(self._most, left) * pace)


@dataclass(frozen=True)
class _Parts:
    """Positive and negative parts of coefficients with an L1 penalty, and their dual variables."""

    parts: np.ndarray
    duals: np.ndarray


class PenaltyParts:
    """What the penalty adds to the systems.

    Parameters
    ----------
    l1, l2 : ndarray of shape (n_features + 1,)
        Weights of the penalty, intercept last.
    held : ndarray of bool of shape (n_features + 1,)
        Coordinates that do not move.
    z : ndarray of shape (n_features + 1,)
        The first point, intercept last.
    centre : float
        Where the central path is joined.
    """

    def __init__(
        self, l1: np.ndarray, l2: np.ndarray, held: np.ndarray, z: np.ndarray, centre: float
    ) -> None:
        self.l1, self.l2, self.held, self.z = l1, l2, held, z
        self.kinked = l1 > 0.0
        weight = np.where(self.kinked, l1, 1.0)
        root = np.sqrt(0.25 * z**2 + (centre / weight) ** 2)
        # Of the larger part and the product: their difference loses no digits.
        large = root + 0.5 * np.abs(z)
        small = (centre / weight) ** 2 / large
        parts = np.where(z > 0.0, (large, small), (small, large))
        self._at = _Parts(parts, centre / parts)
        self._change = _Parts(np.zeros_like(parts), np.zeros_like(parts))
        self._correction = np.zeros_like(parts)
        # How far from feasible the dual variables are.
        self.residual = np.inf

    def products(self, step: float = 0.0) -> tuple[float, int]:
        """Return sum and number of the products that the central path makes equal."""
        parts = self._at.parts + step * self._change.parts
        duals = self._at.duals + step * self._change.duals
        return float((parts * duals)[:, self.kinked].sum()), 2 * int(self.kinked.sum())

    def system(self, u: np.ndarray, centre: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the penalty adds to the matrix's diagonal and to the right-hand side.

        Parameters
        ----------
        u : ndarray of shape (n_features + 1,)
            The data term's gradient at the dual variables of the rows, negated.
        centre : float or None
            What the products shall be; None for zero, and without a correction.
        """
        kinked, smooth = self.kinked, ~self.kinked
        diagonal = self.l2.copy()
        right = u - self.l2 * self.z
        parts, duals = self._at.parts, self._at.duals
        wanted = -parts * duals
        if centre is not None:
            wanted = wanted + centre - self._correction
        rest = np.array([self.l1 - right, self.l1 + right]) - duals
        ease = (parts / duals).sum(axis=0)
        shift = (wanted - parts * rest) / duals
        apart = self.z - parts[0] + parts[1]
        self._wanted, self._rest = wanted, rest
        self.residual = float(np.abs(right[smooth]).sum() + np.abs(rest[:, kinked]).sum())
        self._ease, self._shift = ease, shift[0] - shift[1] - apart
        diagonal[kinked] += 1.0 / ease[kinked]
        right[kinked] = (self._shift / ease)[kinked]
        return diagonal, right

    def tell(self, move: np.ndarray, *, predicts: bool) -> float:
        """Take the solution of the last system; return how far parts and duals stay positive."""
        change = (move - self._shift) / self._ease
        duals = self._rest + np.array([-change, change])
        parts = (self._wanted - self._at.parts * duals) / self._at.duals
        duals[:, ~self.kinked] = parts[:, ~self.kinked] = 0.0
        self._change = _Parts(parts, duals)
        if predicts:
            self._correction = parts * duals
        rate = max(
            float((-parts / self._at.parts).max(initial=0.0)),
            float((-duals / self._at.duals).max(initial=0.0)),
        )
        return min(1.0 / rate, 1.0) if rate > 0.0 else 1.0

    def zeros(self, spread: np.ndarray) -> np.ndarray:
        """Return which coefficients head for zero, shape (n_features,).

        Of a coefficient and its dual variables one alone tends to zero: which of them, tells the
        size of each beside the largest of its kind, for columns of the given ``spread``.
        """
        p = len(self.z) - 1
        sizes = self._at.parts.max(axis=0)[:p] * spread[:p]
        rooms = self._at.duals.min(axis=0)[:p] / np.where(self.kinked[:p], self.l1[:p], 1.0)
        largest = float(sizes.max(initial=0.0))
        found: np.ndarray = self.kinked[:p] & (sizes < largest * rooms)
        return found

    def move(self, step: float, move: np.ndarray) -> None:
        """Take a step."""
        self.z = self.z + step * move
        self._at = _Parts(
            self._at.parts + step * self._change.parts, self._at.duals + step * self._change.duals
        )


def solver(
    matrix: np.ndarray, diagonal: np.ndarray, held: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that solves the system for a right-hand side, some coordinates held.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        Symmetric, positive semi-definite.
    diagonal : ndarray of shape (n,)
        Added to it.
    held : ndarray of bool of shape (n,)
        Coordinates of the solution that are zero.
    """
    free = np.flatnonzero(~held)
    K = matrix[np.ix_(free, free)] if held.any() else matrix.copy()
    K[np.diag_indices_from(K)] += diagonal[free]
    solve_free = definite_solver(K, CORRECTIONS)

    def solve(right: np.ndarray) -> np.ndarray:
        z = np.zeros(len(right))
        z[free] = solve_free(right[free])
        return z

    return solve
