"""What the dense and the CSR kernel of stochastic gradient descent share.

Step lengths, the order in which rows are visited, and the kinds of steps.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.rows import exact, inline

#: Rows between two applications of what is the same for every row (the global gradient, the
#: penalty) where that is not to be done after each: few beside the steps that move the iterate.
GROUP = 16
#: Tiles that are open at the same time; rows are taken from them in turn.
STREAMS = 2

#: Kinds of steps: plain gradients; gradients corrected by those at the anchor, where the
#: difference is linear in the iterate (squared error) and where it is not.
PLAIN, CORRECTED_SQUARES, CORRECTED = range(3)

#: Columns of the array of schedule parameters.
KIND, ETA0, POWER, OFFSET, L2 = range(5)
#: Schedules.
CONSTANT, INVSCALING, OPTIMAL = range(3)


@inline
def rate(schedule, t):
    """Return the length of the step number ``t = 1, 2, ...``."""
    if schedule[KIND] == INVSCALING:
        return schedule[ETA0] / t ** schedule[POWER]
    if schedule[KIND] == OPTIMAL:
        return 1.0 / (schedule[L2] * (schedule[OFFSET] + t - 1.0))
    return schedule[ETA0]


@inline
def loss_of_row(r, margin, width, scale):
    """Return the loss of residual ``r``."""
    excess = max(abs(r) - margin, 0.0)
    short = min(excess, width)
    return scale * short * (excess - 0.5 * short)


@exact
def difference(y, mean):
    """Return a target less the mean, now: reassociation would make ``y - (mean + f)`` of it.

    A mean far from zero would then cost the prediction ``f`` its digits.
    """
    return y - mean


@exact
def mixed(key):
    """Return well-mixed bits of a 64-bit key (the finaliser of SplitMix64)."""
    z = np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@exact
def draw(key, number, n):
    """Return draw ``number`` of the stream ``key``, uniform in ``0, ..., n - 1``."""
    bits = mixed(np.uint64(key) + np.uint64(number + 1) * np.uint64(0x9E3779B97F4A7C15))
    # The upper 32 bits times the range, shifted down: no division.
    return np.int64(((bits >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@exact
def draws(key, n, n_rows):
    """Return ``n`` rows drawn with replacement."""
    chosen = np.empty(n, np.int64)
    for number in range(n):
        chosen[number] = draw(key, number, n_rows)
    return chosen


@exact
def spread_order(n, key):
    """Return a random order of ``0, ..., n - 1`` any stretch of which is spread over all of them.

    A van der Corput sequence with nested scrambling (A. B. Owen, *Randomly permuted (t,m,s)-nets
    and (t,s)-sequences*, 1995): the first half of the order has one of each pair of neighbours,
    the first quarter one of each four, and so on.  Where rows are sorted, averages over a part of
    a visit are so as good as those over all of it.
    """
    levels = 0
    while (1 << levels) < n:
        levels += 1
    order = np.empty(n, np.int64)
    at = 0
    for i in range(1 << levels):
        number, left = 0, i
        for level in range(levels):
            # Every branch of the tree is turned over or not, by a bit of its own.
            branch = (np.uint64(1) << np.uint64(level)) + np.uint64(number)
            turned = mixed(np.uint64(key) ^ (branch * np.uint64(0x9E3779B97F4A7C15)))
            number = 2 * number + ((left & 1) ^ np.int64(turned >> np.uint64(63)))  # type: ignore[assignment]  # numba's integer
            left >>= 1
        if number < n:
            order[at] = number
            at += 1
    return order


@exact
def visiting_order(size, tile, key):
    """Return the order in which ``size`` consecutive rows are visited.

    Tiles of consecutive rows are opened in random order, a few at a time, and give one row each
    in turn: neighbours in the table, which may be alike, do not follow each other, and yet
    memory is read in a few sequential streams, at nearly the speed of one.
    """
    n_tiles = (size + tile - 1) // tile
    tiles = spread_order(n_tiles, key)
    order = np.empty(size, np.int64)
    at = 0
    for first in range(0, n_tiles, STREAMS):
        last = min(first + STREAMS, n_tiles)
        for row in range(tile):
            for number in range(first, last):
                i = tiles[number] * tile + row
                if i < size:
                    order[at] = i
                    at += 1
    return order


@exact
def held_out(key, first, n_rows, mask, fraction):
    """Mark the rows ``first, first + 1, ...`` of a shard that are held out for validation.

    One row, drawn at random, of every ``1 / fraction`` consecutive ones: the share is exact, also
    of few rows.
    """
    for i in range(mask.shape[0]):
        row = first + i
        group = np.int64(np.floor(row * fraction))
        start = np.int64(np.ceil(group / fraction))
        stop = min(np.int64(np.ceil((group + 1) / fraction)), n_rows)
        # Rounding may put a row before the beginning of its group.
        start = min(start, row)
        mask[i] = n_rows > 1 and row == start + draw(key, group, max(stop - start, 1))
