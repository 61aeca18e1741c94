"""Passes over a dense block: each reads X once.

Every function adds to the arrays it is given.  Rows enter as ``x - mean`` without a centred copy
ever being made: the subtraction happens in registers or in a tile that stays in cache, so that a
column at offset 1e9 keeps its digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dask_dml.kernels.blas import add_products
from dask_dml.kernels.rows import (
    MARGIN,
    SCALE,
    WIDTH,
    exact,
    group_targets,
    group_weights,
    jit,
    loss_sums,
    slope_of_row,
    slopes_of_tile,
    weight_of_row,
)

#: Bytes of one tile; two or three tiles of this size live in a core's L2 cache.
TILE_BYTES = 1 << 19
#: Rows whose products in single precision are added up before they are added to the others.
SINGLE_ROWS = 1024


def tile_rows(n_features: int) -> int:
    """Return the number of rows of a tile that stays in cache."""
    return max(32, min(2048, TILE_BYTES // (8 * max(n_features, 1))))


@jit
def gradient_single(X, y, column, target_mean, weight, unit, w, b, parameters, gradient, sums):
    """Add one problem's loss sums and ``sum_i u_i x_i`` in one fused pass (no centring)."""
    n, p = X.shape
    margin, width, scale = parameters[MARGIN], parameters[WIDTH], parameters[SCALE]
    # Some hundred rows are summed apart first: rounding then grows with the number of such
    # groups, not with the number of rows; and their loss sums form a loop of their own, which
    # uses vector registers.
    group = 1024
    residual, s, none = np.empty(group), np.ones(group), np.empty(0)
    targets = np.empty(group)
    part = np.zeros(p)
    for begin in range(0, n, group):
        size = min(group, n - begin)
        group_weights(weight, begin, s[:size])
        group_targets(y, begin, column, target_mean, targets[:size])
        part[:] = 0.0
        # Two rows at a time halve the traffic on the gradient.
        for k in range(0, size - 1, 2):
            i = begin + k
            first, second = X[i], X[i + 1]
            f = 0.0
            for j in range(p):
                f += first[j] * w[j]
            g = 0.0
            for j in range(p):
                g += second[j] * w[j]
            r = targets[k] - b - f
            q = targets[k + 1] - b - g
            residual[k], residual[k + 1] = r, q
            u = unit * s[k] * slope_of_row(r, margin, width, scale)
            v = unit * s[k + 1] * slope_of_row(q, margin, width, scale)
            for j in range(p):
                part[j] += u * first[j] + v * second[j]
        if size % 2:
            i = begin + size - 1
            first = X[i]
            f = 0.0
            for j in range(p):
                f += first[j] * w[j]
            residual[size - 1] = targets[size - 1] - b - f
            u = unit * s[size - 1] * slope_of_row(residual[size - 1], margin, width, scale)
            for j in range(p):
                part[j] += u * first[j]
        for j in range(p):
            gradient[j] += part[j]
        loss_sums(residual[:size], s[:size], unit, parameters, sums, none, none)


@jit
def _centre_tile(X, start, mean, tile):
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            tile[i, j] = X[start + i, j] - mean[j]


def centred_tiles(X: np.ndarray, mean: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows less their means, tile by tile, in an array that is used again."""
    n, p = X.shape
    step = tile_rows(p)
    buffer = np.empty((min(step, n), p))
    for start in range(0, n, step):
        tile = buffer[: min(step, n - start)]
        _centre_tile(X, start, mean, tile)
        yield slice(start, start + len(tile)), tile


@jit
def _active_rows(tile, curvature, active):
    """Copy the tile's rows of positive curvature, scaled by its root; return their number."""
    n_active = 0
    for i in range(tile.shape[0]):
        if curvature[i] > 0.0:
            root = np.sqrt(curvature[i])
            for j in range(tile.shape[1]):
                active[n_active, j] = root * tile[i, j]
            active[n_active, tile.shape[1]] = root
            n_active += 1
    return n_active


def gradient_tiles(block, weight, unit, point, gradient, sums, hessian=None):
    """Add loss sums, gradients and, if asked, Hessians of several problems, tile by tile.

    Parameters
    ----------
    block : Block
        Dense rows.
    weight : ndarray of shape (n_rows,) or (0,)
        Sample weights.
    unit : float
        Factor on all weights.
    point : Point
        Where to evaluate.
    gradient : ndarray of shape (n_problems, n_features)
        Added to.
    sums : ndarray of shape (n_problems, 9)
        Added to.
    hessian : ndarray of shape (n_problems, n_features + 1, n_features + 1), optional
        Added to (lower triangle in C order): curvature-weighted products of the rows
        ``(x - mean, 1)``.
    """
    X, n_problems = block.X, len(point.coef)
    n, p = X.shape
    active = np.empty((min(tile_rows(p), n) if hessian is not None else 0, p + 1))
    bend = np.empty(0)
    for at, tile in centred_tiles(X, point.mean):
        start = at.start
        F = point.coef @ tile.T
        F += point.intercept[:, None]
        if hessian is not None:
            bend = np.empty(len(tile))
        for c in range(n_problems):
            slopes_of_tile(
                F, block.y, start, weight, unit, point.column, point.target_mean, c,
                point.parameters, sums, bend,
            )  # fmt: skip
            if hessian is not None:
                rows = active[: _active_rows(tile, bend, active)]
                if len(rows):
                    add_products(rows, hessian[c])
        gradient += F @ tile


@jit
def _weighted_rows(X, start, mean, weight, rows):
    """Write ``(x - mean, 1)`` times the root of the weight; return the number of such rows."""
    n = 0
    for i in range(weight.shape[0]):
        if weight[i] > 0.0:
            root = np.sqrt(weight[i])
            for j in range(mean.shape[0]):
                rows[n, j] = root * (X[start + i, j] - mean[j])
            rows[n, mean.shape[0]] = root
            n += 1
    return n


def hessian(X: np.ndarray, mean: np.ndarray, bend: np.ndarray, total: np.ndarray) -> None:
    """Add ``sum_i bend_i (x_i - mean, 1)(x_i - mean, 1)'`` to the lower triangle of ``total``."""
    n, p = X.shape
    step = tile_rows(p)
    buffer = np.empty((min(step, n), p + 1))
    for start in range(0, n, step):
        rows = buffer[: _weighted_rows(X, start, mean, bend[start : start + step], buffer)]
        if len(rows):
            add_products(rows, total)


@jit
def _statistics_tile(
    X, y, weight, unit, shift, target_shift, start, tile, targets, sums, target_sums
):
    """Fill the tile with ``sqrt(s) (x - shift)`` and add the weighted column sums."""
    total = 0.0
    n_outputs = targets.shape[1]
    for i in range(tile.shape[0]):
        s = weight_of_row(weight, unit, start + i)
        root = np.sqrt(s)
        total += s
        for j in range(tile.shape[1]):
            v = X[start + i, j] - shift[j]
            sums[j] += s * v
            tile[i, j] = root * v
        for c in range(n_outputs):
            v = y[start + i, c] - target_shift[c]
            target_sums[c] += s * v
            targets[i, c] = root * v
    return total


def statistics(block, weight, unit, shift, target_shift, products, cross, target_square, single):
    """Add the second moments about ``shift``; return the sums of weights, columns and targets.

    ``products`` (n_features, n_features) receives its lower triangle only (in C order).  Where
    ``single`` is true the products of a tile's rows are computed in single precision.
    """
    X, y = block.X, block.y
    n, p = X.shape
    step = SINGLE_ROWS if single else max(256, 2 * tile_rows(p))
    buffer = np.empty((min(step, n), p), np.float32 if single else np.float64)
    rough = np.empty((p, p), np.float32) if single else products
    target_buffer = np.empty((min(step, n), y.shape[1]))
    total, sums, target_sums = 0.0, np.zeros(p), np.zeros(y.shape[1])
    for start in range(0, n, step):
        size = min(step, n - start)
        tile, targets = buffer[:size], target_buffer[:size]
        part, target_part = np.zeros(p), np.zeros(y.shape[1])
        total += _statistics_tile(
            X, y, weight, unit, shift, target_shift, start, tile, targets, part, target_part
        )
        sums += part
        target_sums += target_part
        if single:
            rough[:] = 0.0
        add_products(tile, rough)
        with np.errstate(invalid="ignore", over="ignore"):  # infinities are reported later
            if single:
                products += rough
            cross += tile.T @ targets
        target_square += np.einsum("ij,ij->j", targets, targets)
    return total, sums, target_sums


def first_rows_mean(*parts) -> np.ndarray:
    """Return the mean of the first few rows: near enough to the mean to keep digits."""
    rows = np.concatenate([part[:64] for part in parts])[:64]
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are reported later
        return np.asarray(rows, dtype=np.float64).mean(axis=0)


@jit
def moments(X, weight, unit, shift, sums, squares):
    """Add weighted sums of ``x - shift`` and of its square; return the sum of weights."""
    n, p = X.shape
    total = 0.0
    part = np.zeros(p)
    part_squares = np.zeros(p)
    group = 512
    for begin in range(0, n, group):
        part[:] = 0.0
        part_squares[:] = 0.0
        for i in range(begin, min(begin + group, n)):
            s = weight_of_row(weight, unit, i)
            total += s
            for j in range(p):
                v = X[i, j] - shift[j]
                part[j] += s * v
                part_squares[j] += s * v * v
        sums += part
        squares += part_squares
    return total


@exact
def first_values(X, weight, origin):
    """Write the first finite value of each column in a row that counts; other entries stay."""
    n, p = X.shape
    found = np.zeros(p, np.bool_)
    left = p
    for i in range(n):
        if left == 0:
            break
        if weight_of_row(weight, 1.0, i) > 0.0:
            for j in range(p):
                if not found[j] and np.isfinite(X[i, j]):
                    origin[j] = X[i, j]
                    found[j] = True
                    left -= 1


@exact
def column_moments(X, weight, origin, group, totals, means, squares):
    """Merge the columns' moments into the given ones, leaving NaN out.

    ``totals`` are the weights of the values that are there, ``means`` are relative to ``origin``,
    and ``squares`` are sums about the means.  Rows go in groups that stay in cache: a group is
    read for its means, and again for its squares about them.
    """
    n, p = X.shape
    total, mean, square = np.empty(p), np.empty(p), np.empty(p)
    for begin in range(0, n, group):
        end = min(begin + group, n)
        total[:] = 0.0
        mean[:] = 0.0
        square[:] = 0.0
        for i in range(begin, end):
            s = weight_of_row(weight, 1.0, i)
            for j in range(p):
                x = X[i, j]
                there = x == x
                total[j] += s if there else 0.0
                mean[j] += s * (x - origin[j]) if there else 0.0
        for j in range(p):
            mean[j] = mean[j] / total[j] if total[j] > 0.0 else mean[j]
        for i in range(begin, end):
            s = weight_of_row(weight, 1.0, i)
            for j in range(p):
                x = X[i, j]
                v = (x - origin[j]) - mean[j]
                square[j] += s * v * v if x == x else 0.0
        for j in range(p):
            both = totals[j] + total[j]
            share = total[j] / both if both > 0.0 else 0.0
            step = mean[j] - means[j]
            squares[j] += square[j] + totals[j] * share * step * step
            # A mean that is not finite has to show even where its rows weigh nothing.
            means[j] += share * step if np.isfinite(step) else step
            totals[j] = both
