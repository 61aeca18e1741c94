"""Exact maximisation of the dual of a support vector machine over a few of its rows.

By an interior-point method where rows or columns are few, otherwise by ascent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.linalg

from dask_dml.solvers.dual.box import Box, Maximum, is_sparse, square
from dask_dml.solvers.dual.box_ascent import ENOUGH, ascend

#: Steps of the interior-point method.
MAX_STEPS = 60
#: Share of the way to the boundary that a step may go.
NEARLY = 0.99
#: Where the central path is joined, relative to the products of slopes and bounds.
CENTRE = 1.0
#: A variable is taken to a bound when a step takes this share off its distance, or a larger one,
#: compared with the share that it takes off the bound's multiplier.
SURE = 0.3
#: By how much an interior point goes beyond all that: every step gains a digit, and digits of the
#: coefficients, of which costs are multiples, are worth more than those of the objective.
BEYOND = 1e-5
#: Interior points in a row that bring no progress before rounding is held to be the reason.
PATIENCE = 8
#: Columns up to which a matrix of their number squared is made.
MAX_COLUMNS = 2000


def maximise(box: Box, precision: float, deadline: float = np.inf) -> Maximum:
    """Return the maximum.

    Parameters
    ----------
    box : Box
        The problem.
    precision : float
        What may be missing to the maximum.
    deadline : float, default=inf
        `time.monotonic` value after which the best that has been found is returned.
    """
    share = 0.0
    if box.size <= MAX_COLUMNS:
        found, gained, missing = _interior_point(box, precision, deadline)
        if gained > 0.0:
            if missing <= max(precision, ENOUGH * gained):
                return found
            box = replace(box, start=found.a)
            share, precision = found.share, max(precision, ENOUGH * gained)
    if share == 0.0:
        share = _best_share(box)
    fixed = box.fixed + share * box.along
    a, point = ascend(replace(box, fixed=fixed), precision, deadline)
    return Maximum(a, share, point)


def _best_share(box: Box) -> float:
    """Return how much of the direction to go if nothing else moves."""
    bend = square(box.along)
    slope = box.rise - float(box.along @ (box.fixed + box.effect(box.start)))
    return min(max(slope / bend, 0.0), 1.0) if bend > 0.0 else 0.0


#: Solves for the steps of coefficients and variables.
_System = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class _Interior:
    """An interior point: variables, multipliers of their bounds, coefficients, and the next step.

    The coefficients have the variables' sum for a limit only: where columns differ much in scale,
    or costs, the large terms of that sum leave nothing of its digits.

    The direction is one more variable, scaled so that it is as long as the others are.
    """

    def __init__(self, box: Box) -> None:
        length = float(np.sqrt(box.along @ box.along))
        self.box = box
        self.unit = 1.0 / length if length > 0.0 else 0.0
        moves = [length] if length > 0.0 else []
        self.linear = np.append(np.ones(len(box.upper)), [box.rise * self.unit for _ in moves])
        self.upper = np.append(box.bounds, moves)
        self.soft = np.append(box.soft, [0.0 for _ in moves])
        a = np.append(box.start, [0.0 for _ in moves])
        self.w = box.fixed + self.effect(a)
        self.least = self.gained_at(a)
        # The point of the central path, were the slope to stay as it is.
        slope, c = self.slope() + self.soft * a, self.upper
        centre = CENTRE * max(float(np.mean(np.abs(slope) * c)), 1e-300)
        root = np.sqrt((slope * c) ** 2 + 4.0 * centre**2)
        self.a = 2.0 * centre * c / (slope * c + 2.0 * centre + root)
        # Kept apart: a difference has no digits left near the bound.
        self.room = c - self.a
        self.low, self.high = centre / self.a, centre / self.room
        self.products = self._products() if box.by_rows else None

    def _products(self) -> np.ndarray:
        """Return ``Z Z'``."""
        box, n = self.box, len(self.upper)
        products = np.empty((n, n))
        rows = len(box.upper)
        inner = box.X @ box.X.T
        inner = np.asarray(inner.toarray() if is_sparse(inner) else inner) + box.bias**2
        products[:rows, :rows] = inner * box.sign * box.sign[:, None]
        if n > rows:
            products[rows, :rows] = products[:rows, rows] = self.unit * box.values(box.along)
            products[rows, rows] = self.unit**2 * square(box.along)
        return products

    def effect(self, a: np.ndarray) -> np.ndarray:
        n = len(self.box.upper)
        total = self.box.effect(a[:n])
        return total + (self.unit * a[n]) * self.box.along if len(a) > n else total

    def values(self, u: np.ndarray) -> np.ndarray:
        values = self.box.values(u)
        if len(self.upper) == len(values):
            return values
        return np.append(values, self.unit * float(self.box.along @ u))

    def slope(self) -> np.ndarray:
        """Return the gradient of what is minimised."""
        slope: np.ndarray = self.values(self.w) - self.linear
        return slope

    def gained_at(self, a: np.ndarray) -> float:
        """Return the objective of some variables."""
        squares = float(self.soft @ a**2) + square(self.box.fixed + self.effect(a))
        return float(self.linear @ a) - 0.5 * squares

    def rounded(self) -> np.ndarray:
        """Return the variables of rows, those at their bounds that are about to get there."""
        n = len(self.box.upper)
        a, upper = self.a[:n], self.upper[:n]
        a = np.where(self.falls[0][:n] < SURE, 0.0, a)
        return a if self.box.squared else np.where(self.falls[1][:n] < SURE, upper, a)

    def price(self) -> float:
        """Return the objective of the primal problem at the coefficients: an upper bound."""
        n, t = len(self.box.upper), np.maximum(-self.slope(), 0.0)
        loss = float(self.box.losses(t[:n]).sum() + self.upper[n:] @ t[n:])
        return 0.5 * square(self.w) - float(self.box.fixed @ self.w) + loss

    def advance(self) -> bool:
        """Take Mehrotra's step; return whether there was one."""
        a, s, low, high = self.a, self.room, self.low, self.high
        n = len(a)
        residual = self.slope() + self.soft * a - low + high
        apart = self.box.fixed + self.effect(a) - self.w
        solve_system = self._by_rows if self.products is not None else self._by_columns
        try:
            system = solve_system(low / a + high / s + self.soft)
        except np.linalg.LinAlgError:
            return False

        def solve(to_low: np.ndarray, to_high: np.ndarray) -> tuple[np.ndarray, ...]:
            move, step = system(apart, to_low / a - to_high / s - residual)
            return move, step, (to_low - low * step) / a, (to_high + high * step) / s

        _, step, to_low, to_high = solve(-a * low, -s * high)
        length = _reach(1.0, (a, step), (s, -step), (low, to_low), (high, to_high))
        mean = (a @ low + s @ high) / (2 * n)
        aim = (a + length * step) @ (low + length * to_low)
        aim += (s - length * step) @ (high + length * to_high)
        centre = mean * min(aim / (2 * n * mean), 1.0) ** 3
        move, step, to_low, to_high = solve(
            centre - a * low - step * to_low, centre - s * high + step * to_high
        )
        length = _reach(NEARLY, (a, step), (s, -step), (low, to_low), (high, to_high))
        if not (np.isfinite(length) and np.isfinite(move).all()):
            return False
        self.w = self.w + length * move
        self.a, self.room = a + length * step, s - length * step
        self.low, self.high = low + length * to_low, high + length * to_high
        self.falls = self.a / a * (low / self.low), self.room / s * (high / self.high)
        return True

    def _by_columns(self, bends: np.ndarray) -> _System:
        """Return what solves ``dw - Z'da = r, bends da + Z dw = s`` by a matrix of the columns."""
        weights, n_rows = 1.0 / bends, len(self.box.upper)
        matrix = self.box.gram(weights[:n_rows])
        if len(weights) > n_rows:
            along, share = self.box.along, weights[-1] * self.unit**2
            matrix = scipy.linalg.blas.dsyr(share, along, a=matrix.T, overwrite_a=1).T
        matrix[np.diag_indices_from(matrix)] += 1.0
        solve = _factored(matrix)

        def system(apart: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            move = solve(apart + self.effect(weights * right))
            return move, weights * (right - self.values(move))

        return system

    def _by_rows(self, bends: np.ndarray) -> _System:
        """Return what solves the same by a matrix of the rows."""
        assert self.products is not None
        matrix = self.products.copy()
        matrix[np.diag_indices_from(matrix)] += bends
        solve = _factored(matrix)

        def system(apart: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            step = solve(right - self.values(apart))
            return apart + self.effect(step), step

        return system


def _factored(matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what solves systems with a positive definite matrix, which is overwritten.

    Its lower triangle is looked at.
    """
    scale = 1.0 / np.sqrt(np.diagonal(matrix))
    matrix *= scale
    matrix *= scale[:, None]
    matrix[np.diag_indices_from(matrix)] += 1e-14
    # In the order of LAPACK, which so needs no copy of its own.
    factor = scipy.linalg.cho_factor(matrix.T, lower=False, overwrite_a=True, check_finite=False)

    def solve(right: np.ndarray) -> np.ndarray:
        solution: np.ndarray = scipy.linalg.cho_solve(factor, scale * right, check_finite=False)
        return scale * solution

    return solve


def _reach(most: float, *pairs: tuple[np.ndarray, np.ndarray]) -> float:
    """Return how far all of these can move and stay positive, but no further than once."""
    fastest = max(float(np.max(-move / value)) for value, move in pairs)
    return min(1.0, most / fastest) if fastest > 0.0 else 1.0


def _interior_point(box: Box, precision: float, deadline: float) -> tuple[Maximum, float, float]:
    """Solve by an interior-point method, whose matrices are of the number of columns.

    M. C. Ferris and T. S. Munson, *Interior-point methods for massive support vector machines*,
    SIAM Journal on Optimization, 2002.

    Returns
    -------
    found : Maximum
        The best variables, and the best coefficients.
    gained, missing : float
        What the variables gain, and a bound of what is missing to the maximum.
    """
    at, n = _Interior(box), len(box.upper)
    best, value, point, price = np.append(box.start, 0.0 * at.a[n:]), at.least, at.w, np.inf
    mark, waiting = np.inf, 0
    began, took = time.monotonic(), 0.0
    for _ in range(MAX_STEPS):
        # A matrix that would not be ready in time is not begun.
        if began + took > deadline or not at.advance():
            break
        took, began = time.monotonic() - began, time.monotonic()
        now = at.price()
        if now < price:
            price, point = now, at.w
        rounded = np.append(at.rounded(), at.a[n:])
        now = at.gained_at(rounded)
        if now > value:
            value, best = now, rounded
        if price - value <= BEYOND * max(precision, ENOUGH * (value - at.least)):
            break
        inside = price - at.gained_at(at.a)
        mark, waiting = (inside, 0) if inside < 0.9 * mark else (mark, waiting + 1)
        if waiting == PATIENCE:
            break
    share = 0.0
    if len(best) > n:
        share = min(max(float(at.unit * best[n]), 0.0), 1.0)
    return Maximum(best[:n], share, point), value - at.least, price - value
