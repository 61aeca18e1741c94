"""Shard functions of the merge: dual variables stay beside the rows, the urgent ones travel.

A round puts into force what the driver found for the rows that it was sent, and sends the rows
that are most in want of a change now, together with one proposal for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Block, Matrix, Shard
from dask_dml.kernels import dual_ascent as kernel
from dask_dml.passes.margins import spread
from dask_dml.solvers.dual.ascent_pass import Metric, labels_and_costs, margins, metric_of
from dask_dml.solvers.dual.support import Duals

#: Passes over its own rows, and visits of each row in one, by which a node begins.
START_PASSES, START_EPOCHS = 3, 2
#: Visits of every row for a proposal.
N_EPOCHS = 3
#: Dual variables closer to a bound than this share of their cost lie at it.
ROUNDING = 1e-13


#: Number of a shard and of the first chunk of the input that it holds.
Part = tuple[int, int]


def part_of(shard: Shard) -> Part:
    """Return by what a visited shard is known.

    Where data is streamed, a shard is visited chunk by chunk, each with a state of its own.
    """
    origin = shard.blocks[0].origin
    return shard.number, origin[0][0] if origin else 0


@dataclass(frozen=True)
class MergeAsk:
    """What a round does.

    Attributes
    ----------
    numbers : tuple of int
        The problems of the batch that are still being solved.
    label : ndarray of shape (n_problems,)
        The class that is y = +1.
    cost : ndarray of shape (n_problems, 2)
        Cost of a violation with y = -1 and +1.
    squared : bool
        Squared hinge: dual variables have no upper bound.
    scaling : float
        Value of the intercept's column.
    coef : ndarray of shape (n_problems, n_features)
        ``sum_i alpha_i y_i x_i``, once the changes have been made.
    intercept : ndarray of shape (n_problems,)
        What belongs to it as an intercept.
    share : ndarray of shape (n_problems,)
        Share of the last proposal that is kept.
    merged : tuple of mapping of (int, int) to ndarray
        By `part_of` a shard, new dual variables of the rows that it has sent.
    quota : tuple of mapping of (int, int) to int
        By part, rows that it may send; others send their share of ``limit``.
    limit : ndarray of int of shape (n_problems,)
        Rows that all may send together.
    seed : int
        Of the order of the rows.
    effect : bool
        Whether what the dual variables amount to is wanted, too.
    gather : bool
        Whether all that is wanted is what the dual variables amount to.  Shards that have none
        begin with the solution of their own rows, or with ``start``.
    n_rows : int
        Rows of all shards.
    start : Duals or None
        What makes the dual variables, problem by problem, that shards which have none begin with.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that the coefficients are about, where many never occur.
    """

    numbers: tuple[int, ...]
    label: np.ndarray
    cost: np.ndarray
    squared: bool
    scaling: float
    coef: np.ndarray
    intercept: np.ndarray
    share: np.ndarray
    merged: tuple[Mapping[Part, np.ndarray], ...]
    quota: tuple[Mapping[Part, int], ...]
    limit: np.ndarray
    seed: int
    effect: bool
    gather: bool
    n_rows: int
    start: Duals | None = None
    columns: np.ndarray | None = None


class Count(NamedTuple):
    """How many rows a part sends, how many were not held at a bound, and how many it has."""

    sent: int
    unsure: int
    rows: int


@dataclass(frozen=True)
class MergeSums:
    """What a round returns of one problem; ``+`` adds.

    Attributes
    ----------
    target, alpha, rise, mass : float
        Sum of the losses, of the dual variables (less their squares over ``4 C_i`` if the hinge is
        squared), of their proposed change, and of the dual variables times their rows' norms.
    effect, move : ndarray of shape (n_features + 1,)
        ``sum_i alpha_i y_i x_i`` if wanted, otherwise zero, and what the proposed change would
        add to it; as an intercept last.
    rows : UrgentRows
        The rows that are sent, part by part.
    counts : dict of (int, int) to Count
        By `part_of` a shard.
    """

    target: float
    alpha: float
    rise: float
    mass: float
    effect: np.ndarray
    move: np.ndarray
    rows: UrgentRows
    counts: dict[Part, Count]

    def __add__(self, other: MergeSums) -> MergeSums:
        return MergeSums(
            self.target + other.target,
            self.alpha + other.alpha,
            self.rise + other.rise,
            self.mass + other.mass,
            self.effect + other.effect,
            self.move + other.move,
            self.rows + other.rows,
            self.counts | other.counts,
        )


@dataclass(frozen=True)
class UrgentRows:
    """Rows with their labels, dual variables and costs; ``+`` puts them one after the other."""

    X: Matrix
    sign: np.ndarray
    alpha: np.ndarray
    cost: np.ndarray

    def __add__(self, other: UrgentRows) -> UrgentRows:
        if not len(self.sign) or not len(other.sign):
            return self if len(self.sign) else other
        if sp.issparse(self.X) or sp.issparse(other.X):
            X = sp.vstack([sp.csr_array(self.X), sp.csr_array(other.X)], format="csr")
        else:
            X = np.concatenate([self.X, other.X])
        return UrgentRows(
            X,
            np.append(self.sign, other.sign),
            np.append(self.alpha, other.alpha),
            np.append(self.cost, other.cost),
        )


@dataclass(frozen=True)
class MergeBatch:
    """`MergeSums` of several problems; ``+`` adds them one by one."""

    of: tuple[MergeSums, ...]

    def __add__(self, other: MergeBatch) -> MergeBatch:
        return MergeBatch(tuple(a + b for a, b in zip(self.of, other.of, strict=True)))


@dataclass
class MergeState:
    """What stays beside a shard.

    Attributes
    ----------
    alpha, change : dict of int to list of ndarray
        Dual variables of each problem, block by block, and their proposed change.
    sent : dict of int to list of ndarray
        Positions of the rows that were sent, block by block.
    penalty : Metric
        The penalty's, and the rows' norms in it.
    """

    alpha: dict[int, list[np.ndarray]]
    change: dict[int, list[np.ndarray]]
    sent: dict[int, list[np.ndarray]]
    penalty: Metric


#: Labels and costs of the rows of one block.
_Labels = tuple[np.ndarray, np.ndarray]


def merge_round(
    shard: Shard, state: MergeState | None, ask: MergeAsk
) -> tuple[MergeState, MergeBatch]:
    """Take over what was merged, and send what is to be merged next."""
    if state is None:
        penalty = metric_of(shard, np.ones(ask.coef.shape[1] + 1), ask.scaling, ask.columns)
        state = MergeState({}, {}, {}, penalty)
    # A repeated round starts from the state before it: that is left as it is.
    after = replace(
        state, alpha=dict(state.alpha), change=dict(state.change), sent=dict(state.sent)
    )
    found = []
    for at, number in enumerate(ask.numbers):
        labels = [labels_and_costs(block, ask.label[at], ask.cost[at]) for block in shard.blocks]
        if number not in after.alpha and ask.start is not None:
            after.alpha[number] = _started(shard, ask, ask.start.take([number]), labels)
        elif number not in after.alpha:
            after.alpha[number] = _own_solution(shard, after, ask, at, labels)
        else:
            after.alpha[number] = _moved(shard, state, ask, at, labels)
        if ask.gather:
            found.append(_gather(shard, after, ask, at, labels))
        else:
            found.append(_survey(shard, after, ask, at, labels))
    return after, MergeBatch(tuple(found))


def _moved(
    shard: Shard, state: MergeState, ask: MergeAsk, at: int, labels: list[_Labels]
) -> list[np.ndarray]:
    """Return the dual variables after the changes."""
    number, first, moved = ask.numbers[at], 0, []
    merged = ask.merged[at].get(part_of(shard), np.empty(0))
    n_sent = sum(map(len, state.sent[number]))
    if len(merged) not in (0, n_sent):
        raise RuntimeError(
            f"internal error: {n_sent} rows were sent, {len(merged)} came back; please report it"
        )
    for position, (_, cost) in enumerate(labels):
        alpha = state.alpha[number][position] + ask.share[at] * state.change[number][position]
        sent = state.sent[number][position]
        if len(merged):
            alpha[sent] = merged[first : first + len(sent)]
            first += len(sent)
        # What is nothing beside the cost may be all that there is with the squared hinge.
        if not ask.squared:
            alpha[alpha <= ROUNDING * cost] = 0.0
            alpha = np.where(alpha >= (1.0 - ROUNDING) * cost, cost, alpha)
        moved.append(alpha)
    return moved


def _started(shard: Shard, ask: MergeAsk, start: Duals, labels: list[_Labels]) -> list[np.ndarray]:
    """Return the dual variables of one problem that belong to margins."""
    found = []
    for block, (_, cost) in zip(shard.blocks, labels, strict=True):
        alpha = np.abs(np.concatenate([values[:, 0] for _, values in start.tiles(block)]))
        found.append(alpha if ask.squared else np.minimum(alpha, cost))
    return found


def _own_solution(
    shard: Shard, state: MergeState, ask: MergeAsk, at: int, labels: list[_Labels]
) -> list[np.ndarray]:
    """Return the node's share of what it finds by taking its own rows for a sample of all.

    What the shares of all nodes amount to is the mean of the nodes' solutions.
    """
    share = shard.n_rows / ask.n_rows
    own = [(sign, cost / share) for sign, cost in labels]
    alpha = [np.zeros(block.n_rows) for block in shard.blocks]
    w, b = np.zeros(shard.blocks[0].n_features), 0.0
    for number in range(START_PASSES):
        b = _visit(shard, state, ask, own, alpha, w, b, START_EPOCHS, (ask.seed, number, at))
    if ask.squared:
        return [share * a for a in alpha]
    return [
        np.where(a >= c, cost, np.minimum(share * a, cost))
        for a, (_, c), (_, cost) in zip(alpha, own, labels, strict=True)
    ]


def _visit(
    shard: Shard,
    state: MergeState,
    ask: MergeAsk,
    labels: list[_Labels],
    alpha: list[np.ndarray],
    w: np.ndarray,
    b: float,
    n_epochs: int,
    seed: tuple[int, int, int],
) -> float:
    """Run epochs of coordinate ascent on ``alpha`` and ``w``; return the intercept."""
    metric = state.penalty
    for position, (block, (sign, cost)) in enumerate(zip(shard.blocks, labels, strict=True)):
        f, active = np.empty(block.n_rows), np.empty(block.n_rows, np.intp)
        margins(block, w, b, f)
        values = alpha[position]
        n_active, _, _ = kernel.begin(f, sign, cost, ask.squared, values, np.inf, active)
        key = np.random.SeedSequence((*seed, shard.number, position))
        arguments = (
            sign, cost, metric.norms[position], ask.squared, metric.bias, metric.inverse, 1.0,
            values, active, n_active, n_epochs, key.generate_state(1, np.uint64)[0], w, b,
        )  # fmt: skip
        if block.is_sparse:
            X = block.X
            b = kernel.sparse_epochs(X.data, X.indices, X.indptr, *arguments)
        else:
            b = kernel.dense_epochs(block.X, *arguments)
    return b


def _gather(
    shard: Shard, state: MergeState, ask: MergeAsk, at: int, labels: list[_Labels]
) -> MergeSums:
    """Return what the dual variables amount to; nothing has been sent, and nothing proposed."""
    number = ask.numbers[at]
    alpha = state.alpha[number]
    state.change[number] = [np.zeros_like(a) for a in alpha]
    state.sent[number] = [np.empty(0, np.intp) for _ in alpha]
    effect = _effect(shard, ask, alpha, labels)
    rows = _rows(shard, ask, state, number, labels)
    total = float(sum(a.sum() for a in alpha))
    return MergeSums(0.0, total, 0.0, 0.0, effect, np.zeros_like(effect), rows, {})


def _effect(
    shard: Shard, ask: MergeAsk, alpha: list[np.ndarray], labels: list[_Labels]
) -> np.ndarray:
    """Return ``sum_i alpha_i y_i x_i``, and what belongs to it as an intercept."""
    p = shard.blocks[0].n_features
    total = np.zeros(p + 1)
    for block, a, (sign, _) in zip(shard.blocks, alpha, labels, strict=True):
        signed = sign * a
        total[:-1] += block.X.T @ signed
        total[-1] += ask.scaling**2 * signed.sum()
    return total if ask.columns is None else total[np.append(ask.columns, p)]


def _survey(
    shard: Shard, state: MergeState, ask: MergeAsk, at: int, labels: list[_Labels]
) -> MergeSums:
    number, part = ask.numbers[at], part_of(shard)
    quota = ask.quota[at].get(part, -(-int(ask.limit[at]) * shard.n_rows // ask.n_rows))
    alpha = state.alpha[number]
    w = spread(ask.coef[at], ask.columns, shard.blocks[0].n_features)
    b = float(ask.intercept[at])
    effect = np.zeros(len(w) + 1)
    urgency, unsure, target, total = [], 0, 0.0, 0.0
    for block, a, (sign, cost) in zip(shard.blocks, alpha, labels, strict=True):
        of_block, X = np.empty(block.n_rows), block.X
        arguments = (w, b, sign, cost, ask.squared, a, of_block, ask.effect, effect[:-1])
        if block.is_sparse:
            count, loss = kernel.sparse_survey(X.data, X.indices, X.indptr, *arguments)
        else:
            count, loss = kernel.dense_survey(X, *arguments)
        effect[-1] += ask.scaling**2 * float(sign @ a) if ask.effect else 0.0
        urgency.append(of_block)
        unsure, target, total = unsure + count, target + loss, total + float(a.sum())
        if ask.squared:
            total -= 0.25 * float(
                np.divide(a**2, cost, out=np.zeros_like(a), where=cost > 0.0).sum()
            )
    if ask.columns is not None:
        effect = effect[np.append(ask.columns, len(w))]
    sent = state.sent[number] = _most_urgent(urgency, quota, (ask.seed, 1, number, shard.number))
    move = np.zeros(ask.coef.shape[1] + 1)
    change, rise = [np.zeros_like(a) for a in alpha], 0.0
    if unsure > sum(map(len, sent)):
        new = [a.copy() for a in alpha]
        _visit(shard, state, ask, labels, new, w.copy(), b, N_EPOCHS, (ask.seed, 0, number))
        change = [there - a for there, a in zip(new, alpha, strict=True)]
        # The driver knows better what to do with those that it is sent.
        for of_block, rows in zip(change, sent, strict=True):
            of_block[rows] = 0.0
        move, rise = _effect(shard, ask, change, labels), float(sum(c.sum() for c in change))
    state.change[number] = change
    chosen = _rows(shard, ask, state, number, labels)
    counts = {part: Count(len(chosen.sign), unsure, shard.n_rows)}
    mass = sum(
        float(a @ np.sqrt(norms)) for a, norms in zip(alpha, state.penalty.norms, strict=True)
    )
    return MergeSums(target, total, rise, mass, effect, move, chosen, counts)


def _most_urgent(urgency: list[np.ndarray], quota: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """Return the positions of the most urgent rows of all blocks, in order."""
    joined = np.concatenate(urgency)
    first = np.flatnonzero(np.isneginf(joined))
    if quota < len(first):
        # Others than last time: most of those that were sent need no change any more.
        chosen = np.sort(np.random.default_rng(seed).choice(first, quota, replace=False))
    elif quota < len(joined):
        chosen = np.sort(np.argpartition(joined, quota)[:quota])
    else:
        chosen = np.arange(len(joined))
    chosen = chosen[joined[chosen] < np.inf]
    ends = np.cumsum([len(part) for part in urgency])
    starts = np.append(0, ends[:-1])
    cuts = np.searchsorted(chosen, np.append(starts, ends[-1]))
    return [
        chosen[low:high] - start
        for low, high, start in zip(cuts[:-1], cuts[1:], starts, strict=True)
    ]


def _rows(
    shard: Shard, ask: MergeAsk, state: MergeState, number: int, labels: list[_Labels]
) -> UrgentRows:
    parts = zip(shard.blocks, state.sent[number], state.alpha[number], labels, strict=True)
    found = [
        UrgentRows(_select(block, rows, ask.columns), sign[rows], alpha[rows], cost[rows])
        for block, rows, alpha, (sign, cost) in parts
    ]
    total = found[0]
    for other in found[1:]:
        total = total + other
    return total


def _select(block: Block, rows: np.ndarray, columns: np.ndarray | None) -> Matrix:
    X = block.X[rows]
    return X if columns is None else X[:, columns]


@dataclass(frozen=True)
class DualPieces:
    """Dual variables of rows, with where these come from; ``+`` joins.

    Attributes
    ----------
    of : tuple of (int, int, ndarray of shape (n_rows, n_problems))
        Number of a chunk of the input, the first row in it, and ``y_i alpha_i`` from there on.
    """

    of: tuple[tuple[int, int, np.ndarray], ...]

    def __add__(self, other: DualPieces) -> DualPieces:
        return DualPieces(self.of + other.of)

    def balanced(self) -> DualPieces:
        """Return them with those of the heavier class scaled down, so that they sum to zero."""
        sides = sum(
            np.stack([np.maximum(values, 0.0), np.maximum(-values, 0.0)]).sum(axis=1)
            for *_, values in self.of
        )
        share = np.divide(sides.min(axis=0), sides, out=np.zeros_like(sides), where=sides > 0.0)
        return DualPieces(
            tuple(
                (*at, np.where(values > 0.0, share[0], share[1]) * values)
                for *at, values in self.of
            )
        )


def dual_values(
    shard: Shard, state: MergeState, labels: np.ndarray
) -> tuple[MergeState, DualPieces]:
    """Return the dual variables of a shard's rows for the problems with the given labels."""
    pieces = []
    for position, block in enumerate(shard.blocks):
        values = np.empty((block.n_rows, len(labels)))
        for number, label in enumerate(labels):
            sign = np.where(block.y[:, 0] == label, 1.0, -1.0)
            values[:, number] = sign * state.alpha[number][position]
        pieces += pieces_of(block, values)
    return state, DualPieces(tuple(pieces))


def pieces_of(block: Block, values: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Return values of a block's rows as pieces of the input's chunks."""
    pieces, start, skipped = [], 0, 0
    for chunk, count in block.origin:
        if count < 0:
            skipped = -count
            continue
        stop = start + count - skipped
        pieces.append((chunk, skipped, values[start:stop]))
        start, skipped = stop, 0
    return pieces
