"""Ascent of the dual of a support vector machine over rows too many for an interior-point method.

Coordinate ascent finds the face, and linear systems are solved on it.

J. J. More and G. Toraldo, *On the solution of large quadratic programming problems with bound
constraints*, SIAM Journal on Optimization, 1991.

A large value of the intercept's column, as a free intercept amounts to, ties all rows together, so
that no variable can move by itself.  There the intercept is held where it is by a quadratic as
strong as a typical row, and let go each time that the rest has settled.

R. T. Rockafellar, *Augmented Lagrangians and applications of the proximal point algorithm in convex
programming*, Mathematics of Operations Research, 1976.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from dask_dml.blocks import Matrix, frozen
from dask_dml.kernels import dual_ascent as kernel
from dask_dml.solvers.dual.box import Box, is_sparse, norms, square
from dask_dml.solvers.quadratic import solve_smooth

#: Passes, and more of them where all rows are there, and no round can help.
MAX_PASSES, WHOLE_PASSES = 20, 60
#: Share of what has been gained that may be left, unless all rows are there.
ENOUGH = 1e-2
#: Visits of every row between two solutions of a linear system, and products that these may take.
N_EPOCHS, MAX_PRODUCTS = 3, 150
#: Rows on a face up to which its system is solved directly.
SMALL_FACE = 1000
#: What may be missing to the maximum with the intercept held before it is let go, relative to the
#: square of how far it has moved.
CLOSE = 0.1


def ascend(box: Box, precision: float, deadline: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the best variables and the best coefficients of some passes.

    Parameters
    ----------
    box : Box
        The problem; its direction does not move.
    precision : float
        What may be missing to the maximum.
    deadline : float
        `time.monotonic` value after which the best that has been found is returned.
    """
    X: Matrix = frozen(box.X, np.empty((len(box.start), 1)), None, ()).X
    length = float(np.sqrt(np.mean(norms(replace(box, bias=0.0)))))
    held, a = _held(box, box.near, length), box.start
    best, value, point, price = a, -np.inf, box.fixed, np.inf
    first = None
    for number in range(WHOLE_PASSES if box.whole else MAX_PASSES):
        u = held.fixed + held.effect(a)
        slope = held.values(u) - 1.0
        loss = float(box.losses(np.maximum(-slope, 0.0)).sum())
        released = u if held is box else np.append(u[:-1], held.bias * u[-1] / box.bias)
        here = a if held is box else _released(box, a, float(released[-1]))
        gained = _value(box, here)
        if gained > value:
            value, best = gained, here
        now = 0.5 * square(released) - float(box.fixed @ released) + loss
        if now < price:
            price, point = now, released
        first = value if first is None else first
        enough = precision if box.whole else max(precision, ENOUGH * (value - first))
        if price - value <= enough or time.monotonic() > deadline:
            break
        left = loss + float(a @ slope) + 0.5 * float(held.soft @ a**2)
        if held is not box and left <= CLOSE * max((u[-1] - held.fixed[-1]) ** 2, enough):
            held = _held(box, held.bias * float(u[-1]), length)
            slope = held.values(held.fixed + held.effect(a)) - 1.0
        slope = slope + held.soft * a
        face = np.flatnonzero((a > 0.0) & (a < held.bounds))
        if len(face):
            move = np.zeros_like(a)
            move[face] = _solve_on_face(held, face, -slope[face])
            a = _search(held, a, move)
        a = _visit(X, held, a, number)
    return best, point


def _held(box: Box, intercept: float, length: float) -> Box:
    """Return the problem with a quadratic that holds the intercept where it is.

    Together with the penalty it is as if the value of the intercept's column were ``length``.
    """
    if not 0.0 < length < box.bias:
        return box
    share = (length / box.bias) ** 2
    fixed = box.fixed.copy()
    fixed[-1] = (share * box.bias * fixed[-1] + (1.0 - share) * intercept) / length
    return replace(box, bias=length, fixed=fixed)


def _released(box: Box, a: np.ndarray, coefficient: float) -> np.ndarray:
    """Return variables that amount to a coefficient of the intercept's column.

    Those of one class are scaled down.
    """
    wanted = (coefficient - float(box.fixed[-1])) / box.bias
    above = box.sign > 0.0
    sums = float(a[above].sum()), float(a[~above].sum())
    high, low = min(sums[0], sums[1] + wanted), min(sums[1], sums[0] - wanted)
    shares = [
        max(part, 0.0) / whole if whole > 0.0 else 1.0
        for part, whole in zip((high, low), sums, strict=True)
    ]
    return a * np.where(above, *shares)


def _value(box: Box, a: np.ndarray) -> float:
    """Return the objective of some variables."""
    squares = square(box.fixed + box.effect(a)) + float(box.soft @ a**2)
    return float(a.sum()) - 0.5 * squares


def _visit(X: Matrix, box: Box, a: np.ndarray, seed: int) -> np.ndarray:
    """Run some epochs of coordinate ascent."""
    u = box.fixed + box.effect(a)
    a, w, n = a.copy(), np.ascontiguousarray(u[:-1]), len(a)
    arguments = (
        box.sign.astype(np.int8), np.ones(2), box.upper, norms(box), box.squared, box.bias**2,
        np.ones(len(w)), 1.0, a, np.arange(n, dtype=np.int32), n, N_EPOCHS,
        np.uint64(2 * seed + 1), w, box.bias * u[-1],
    )  # fmt: skip
    if is_sparse(X):
        kernel.sparse_epochs(X.data, X.indices, X.indptr, *arguments)
    else:
        kernel.dense_epochs(X, *arguments)
    return a


def _solve_on_face(box: Box, face: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve ``(Z_F Z_F' + S_F) d = right``, of many rows about, by conjugate gradients."""
    X, sign, soft = box.X[face], box.sign[face], box.soft[face]
    if len(face) <= SMALL_FACE:
        gram = X @ X.T
        gram = np.asarray(gram.toarray() if is_sparse(gram) else gram) + box.bias**2
        return sign * solve_smooth(gram, sign * right, soft)
    XT = X.T.tocsr() if is_sparse(X) else X.T
    # The rows' costs may differ by many decades.
    diagonal = norms(replace(box, X=X)) + soft
    solution, rest = np.zeros_like(right), right.copy()
    towards = rest / diagonal
    along, size = towards.copy(), float(rest @ towards)
    least = 1e-8 * size
    for _ in range(MAX_PRODUCTS):
        signed = sign * along
        image = sign * (X @ (XT @ signed) + box.bias**2 * signed.sum()) + soft * along
        bend = float(along @ image)
        if bend <= 0.0 or size <= least:
            break
        solution += (size / bend) * along
        rest -= (size / bend) * image
        towards = rest / diagonal
        before, size = size, float(rest @ towards)
        along = towards + (size / before) * along
    return solution


def _search(box: Box, a: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Return the first point on the bent way along a move that is better."""
    value = _value(box, a)
    for step in (1.0, 0.5, 0.25, 0.1, 0.03, 0.01):
        there = np.clip(a + step * move, 0.0, box.bounds)
        if _value(box, there) > value:
            return there
    return a
