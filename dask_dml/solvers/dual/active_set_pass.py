"""Shard functions of the merge: dual variables stay beside the rows, the urgent ones travel.

A round puts into force what the driver found for the rows that it was sent, and sends the rows
that are most in want of a change now, together with one proposal for all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.kernels import dual_ascent as kernel
from dask_dml.kernels import dual_values as values
from dask_dml.kernels.rows import NO_WEIGHT
from dask_dml.passes.margins import spread
from dask_dml.rounds.base import Part, part_of, worth_saving
from dask_dml.solvers.dual.ascent_pass import Metric, metric_of, metric_with, row_numbers
from dask_dml.solvers.dual.block_duals import (
    BlockDuals,
    MovedDuals,
    RowCosts,
    Tile,
    row_costs,
    tiles,
)
from dask_dml.solvers.dual.most_urgent import MostUrgent
from dask_dml.solvers.dual.support import Duals
from dask_dml.solvers.dual.urgent_rows import Gathering, UrgentRows

#: Passes over its own rows, and visits of each row in one, by which a node begins.
START_PASSES, START_EPOCHS = 3, 2
#: Visits of every row for a proposal.
N_EPOCHS = 3
#: Dual variables closer to a bound than this share of their cost lie at it.
ROUNDING = 1e-13


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
    alpha : dict of int to list of BlockDuals or MovedDuals
        Dual variables of each problem, block by block.
    proposed : dict of int to list of BlockDuals or None
        Those that have been proposed; None if there was no proposal.
    sent : dict of int to list of ndarray
        Positions of the rows that were sent, block by block.
    penalty : Metric
        The penalty's, and the rows' norms in it.
    """

    alpha: dict[int, list[BlockDuals | MovedDuals]]
    proposed: dict[int, list[BlockDuals] | None]
    sent: dict[int, list[np.ndarray]]
    penalty: Metric

    @staticmethod
    def above_zero(alpha: BlockDuals | MovedDuals, block: Block) -> np.ndarray:
        """Return which dual variables of a block are above zero."""
        return alpha.settled(block).positive

    def settle(self, number: int, shard: Shard) -> None:
        """Have a problem's dual variables stand by themselves: that changes none of them."""
        alpha = self.alpha[number]
        for position, block in enumerate(shard.blocks):
            alpha[position] = alpha[position].settled(block)

    def saved(self, shard: Shard) -> SavedMerge:
        """Return what cannot be worked out again."""
        pairs = {n: zip(alpha, shard.blocks, strict=True) for n, alpha in self.alpha.items()}
        alpha = {n: [one.settled(block) for one, block in pairs[n]] for n in pairs}
        return SavedMerge(alpha, self.proposed, self.sent, self.penalty.diagonal, self.penalty.bias)


@dataclass(frozen=True)
class SavedMerge:
    """A `MergeState` without the rows' norms."""

    alpha: dict[int, list[BlockDuals]]
    proposed: dict[int, list[BlockDuals] | None]
    sent: dict[int, list[np.ndarray]]
    diagonal: np.ndarray
    bias: float

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        duals = [*self.alpha.values(), *(some or [] for some in self.proposed.values())]
        sent = sum(rows.nbytes for of_blocks in self.sent.values() for rows in of_blocks)
        held = sum(block.nbytes for of_blocks in duals for block in of_blocks)
        return held + sent + self.diagonal.nbytes

    def restored(self, shard: Shard) -> MergeState:
        """Return the state of a shard."""
        penalty = metric_with(shard, self.diagonal, self.bias)
        alpha: dict[int, list[BlockDuals | MovedDuals]] = {n: [*a] for n, a in self.alpha.items()}
        return MergeState(alpha, self.proposed, self.sent, penalty)


@dataclass(frozen=True)
class _Problem:
    """One problem of the batch on one shard, in one round."""

    shard: Shard
    ask: MergeAsk
    at: int

    @property
    def number(self) -> int:
        return self.ask.numbers[self.at]

    def rows(self, block: Block, factor: float = 1.0) -> RowCosts:
        """Return labels and costs, the latter times a factor, of a block's rows."""
        ask = self.ask
        return row_costs(block, float(ask.label[self.at]), factor * ask.cost[self.at])


@worth_saving
def merge_round(
    shard: Shard, state: MergeState | None, ask: MergeAsk
) -> tuple[MergeState, MergeBatch]:
    """Take over what was merged, and send what is to be merged next."""
    if state is None:
        penalty = metric_of(shard, np.ones(ask.coef.shape[1] + 1), ask.scaling, ask.columns)
        state = MergeState({}, {}, {}, penalty)
    # A repeated round starts from the state before it: that is left as it is.
    after = replace(
        state, alpha=dict(state.alpha), proposed=dict(state.proposed), sent=dict(state.sent)
    )
    found = []
    for at, number in enumerate(ask.numbers):
        problem = _Problem(shard, ask, at)
        if number not in after.alpha and ask.start is not None:
            after.alpha[number] = _started(problem, ask.start.take([number]))
        elif number not in after.alpha:
            after.alpha[number] = _own_solution(problem, after)
        else:
            after.alpha[number] = _moved(problem, state)
        find = _gather if ask.gather else _survey
        found.append(find(problem, after))
    return after, MergeBatch(tuple(found))


def _moved(problem: _Problem, state: MergeState) -> list[BlockDuals | MovedDuals]:
    """Return the dual variables after the changes."""
    shard, ask, number = problem.shard, problem.ask, problem.number
    merged = ask.merged[problem.at].get(part_of(shard), np.empty(0))
    n_sent = sum(map(len, state.sent[number]))
    if len(merged) not in (0, n_sent):
        raise RuntimeError(
            f"internal error: {n_sent} rows were sent, {len(merged)} came back; please report it"
        )
    share = float(ask.share[problem.at])
    proposed = state.proposed[number] if share > 0.0 else None
    state.settle(number, shard)
    if proposed is None and not len(merged):
        return list(state.alpha[number])
    # What is nothing beside the cost may be all that there is with the squared hinge.
    rounding = -1.0 if ask.squared else ROUNDING
    ends = np.cumsum([len(sent) for sent in state.sent[number]])
    of_blocks = np.split(merged, ends[:-1]) if len(merged) else [merged] * len(ends)
    moved: list[BlockDuals | MovedDuals] = []
    for position, before in enumerate(state.alpha[number]):
        assert isinstance(before, BlockDuals)
        moved.append(
            MovedDuals(
                before=before,
                proposed=None if proposed is None else proposed[position],
                share=share,
                sent=state.sent[number][position],
                merged=of_blocks[position],
                rounding=rounding,
                label=float(ask.label[problem.at]),
                cost=ask.cost[problem.at],
            )
        )
    return moved


def _started(problem: _Problem, start: Duals) -> list[BlockDuals | MovedDuals]:
    """Return the dual variables of one problem that belong to margins."""
    found: list[BlockDuals | MovedDuals] = []
    for block in problem.shard.blocks:
        rows = problem.rows(block)
        alpha = np.abs(np.concatenate([tile[:, 0] for _, tile in start.tiles(block)]))
        if not problem.ask.squared:
            np.minimum(alpha, rows.all(), out=alpha)
        found.append(BlockDuals.of(alpha, rows))
    return found


def _own_solution(problem: _Problem, state: MergeState) -> list[BlockDuals | MovedDuals]:
    """Return the node's share of what it finds by taking its own rows for a sample of all.

    What the shares of all nodes amount to is the mean of the nodes' solutions.
    """
    shard, ask = problem.shard, problem.ask
    share = shard.n_rows / ask.n_rows
    alpha = [np.zeros(block.n_rows) for block in shard.blocks]
    w, b = np.zeros(shard.blocks[0].n_features), 0.0
    for number in range(START_PASSES):
        for position, block in enumerate(shard.blocks):
            rows = problem.rows(block, 1.0 / share)
            seed = ask.seed, number, problem.at, shard.number, position
            b = _visit(ask, state.penalty, block, position, rows, alpha[position], w, b,
                       START_EPOCHS, seed)  # fmt: skip
    return [_shared(problem, block, alpha.pop(0), share) for block in shard.blocks]


def _shared(problem: _Problem, block: Block, own: np.ndarray, share: float) -> BlockDuals:
    """Return a node's share of its own solution: a bound stays a bound."""
    rows = problem.rows(block)
    if problem.ask.squared:
        own *= share
    else:
        at_cost = own >= problem.rows(block, 1.0 / share).all()
        cost = rows.all()
        own *= share
        np.minimum(own, cost, out=own)
        np.copyto(own, cost, where=at_cost)
    return BlockDuals.of(own, rows)


def _visit(
    ask: MergeAsk,
    metric: Metric,
    block: Block,
    position: int,
    rows: RowCosts,
    alpha: np.ndarray,
    w: np.ndarray,
    b: float,
    n_epochs: int,
    seed: tuple[int, ...],
) -> float:
    """Run epochs of coordinate ascent on a block's ``alpha`` and ``w``; return the intercept."""
    active = row_numbers(block.n_rows)
    n_active = values.with_cost(*rows, active)
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    arguments = (
        *rows, metric.norms[position], ask.squared, metric.bias, metric.inverse, 1.0, alpha,
        active, n_active, n_epochs, key, w, b,
    )  # fmt: skip
    X = block.X
    if block.is_sparse:
        return float(kernel.sparse_epochs(X.data, X.indices, X.indptr, *arguments))
    return float(kernel.dense_epochs(X, *arguments))


def _gather(problem: _Problem, state: MergeState) -> MergeSums:
    """Return what the dual variables amount to; nothing has been sent, and nothing proposed."""
    shard, number = problem.shard, problem.number
    alpha = state.alpha[number]
    state.proposed[number] = None
    state.sent[number] = [np.empty(0, np.intp) for _ in alpha]
    effect, total = np.zeros(shard.blocks[0].n_features + 1), 0.0
    for block, of_block in zip(shard.blocks, alpha, strict=True):
        for tile in tiles(block, problem.rows(block)):
            there = of_block.part(tile.slice, tile.rows)
            _add_effect(problem, tile, there, effect)
            total += float(there.sum())
    effect, first = _travelling(problem, effect), shard.blocks[0]
    nothing = np.empty(0, np.intp)
    rows = _chosen(problem, first, problem.rows(first), nothing, np.empty(0))
    return MergeSums(0.0, total, 0.0, 0.0, effect, np.zeros_like(effect), rows, {})


def _add_effect(problem: _Problem, tile: Tile, alpha: np.ndarray, effect: np.ndarray) -> None:
    """Add ``sum_i alpha_i y_i x_i``, and what belongs to it as an intercept."""
    signed = alpha * tile.rows.sign
    tile.visit(kernel.dense_effect, kernel.sparse_effect, signed, effect[:-1])
    effect[-1] += problem.ask.scaling**2 * float(signed.sum())


def _travelling(problem: _Problem, effect: np.ndarray) -> np.ndarray:
    """Return the entries of the columns that travel, and of the intercept."""
    columns = problem.ask.columns
    return effect if columns is None else effect[np.append(columns, len(effect) - 1)]


def _survey(problem: _Problem, state: MergeState) -> MergeSums:
    """Return the losses, the rows that are most in want of a change, and a proposal."""
    shard, ask, number, at = problem.shard, problem.ask, problem.number, problem.at
    part, alpha = part_of(shard), state.alpha[number]
    quota = ask.quota[at].get(part, -(-int(ask.limit[at]) * shard.n_rows // ask.n_rows))
    w = spread(ask.coef[at], ask.columns, shard.blocks[0].n_features)
    b = float(ask.intercept[at])
    effect, move = np.zeros((2, len(w) + 1))
    urgent = MostUrgent(quota)
    unsure, target, total, mass = 0, 0.0, 0.0, 0.0
    for block, of_block, norms in zip(shard.blocks, alpha, state.penalty.norms, strict=True):
        for tile in tiles(block, problem.rows(block)):
            there, urgency = of_block.part(tile.slice, tile.rows), np.empty(tile.n_rows)
            arguments = (w, b, *tile.rows, ask.squared, there, urgency, ask.effect, effect[:-1])
            count, loss = tile.visit(kernel.dense_survey, kernel.sparse_survey, *arguments)
            urgent.add(urgency)
            unsure, target, total = unsure + count, target + loss, total + float(there.sum())
            if ask.effect:
                effect[-1] += ask.scaling**2 * float(tile.rows.sign @ there)
            if ask.squared:
                squares, cost = there**2, tile.rows.all()
                np.divide(squares, cost, out=squares, where=cost > 0.0)
                total -= 0.25 * float(squares.sum())
            mass += float(there @ np.sqrt(norms[tile.slice], dtype=np.float64))
    sent = state.sent[number] = urgent.chosen(
        [block.n_rows for block in shard.blocks], (ask.seed, 1, number, shard.number)
    )
    propose = unsure > sum(map(len, sent))
    chosen, rise = _offered(problem, state, propose, w.copy(), b, move)
    counts = {part: Count(len(chosen.sign), unsure, shard.n_rows)}
    effect, move = _travelling(problem, effect), _travelling(problem, move)
    return MergeSums(target, total, rise, mass, effect, move, chosen, counts)


def _offered(
    problem: _Problem, state: MergeState, propose: bool, w: np.ndarray, b: float, move: np.ndarray
) -> tuple[UrgentRows, float]:
    """Return the rows that are sent, and, if wanted, propose dual variables for all others.

    They suit the node's own rows.  What the change amounts to is added to ``move``; how much larger
    it makes them in sum is returned.
    """
    shard, ask, number = problem.shard, problem.ask, problem.number
    columns, blocks = ask.columns, shard.blocks
    n_columns = blocks[0].n_features if columns is None else len(columns)
    chosen = Gathering(n_columns, sparse=any(block.is_sparse for block in blocks))
    proposed: list[BlockDuals] = []
    rise = 0.0
    for position, (block, of_block) in enumerate(zip(blocks, state.alpha[number], strict=True)):
        rows, sent = problem.rows(block), state.sent[number][position]
        there = of_block.values(rows)
        chosen.add(_chosen(problem, block, rows, sent, there))
        if not propose:
            continue
        new = there.copy()
        seed = ask.seed, 0, number, shard.number, position
        b = _visit(ask, state.penalty, block, position, rows, new, w, b, N_EPOCHS, seed)
        # The driver knows better what to do with those that it is sent.
        new[sent] = there[sent]
        proposed.append(BlockDuals.proposed(new, there, rows))
        for tile in tiles(block, rows):
            # Of what is proposed in the end, which may be rounded.
            change = new[tile.slice]
            np.copyto(change, there[tile.slice])
            proposed[-1].draw(change, 1.0, tile.slice, tile.rows)
            change -= there[tile.slice]
            _add_effect(problem, tile, change, move)
            rise += float(change.sum())
    state.proposed[number] = proposed if propose else None
    return chosen.rows(), rise


def _chosen(
    problem: _Problem, block: Block, rows: RowCosts, sent: np.ndarray, alpha: np.ndarray
) -> UrgentRows:
    X, columns = block.X[sent], problem.ask.columns
    some = RowCosts(
        rows.sign[sent], rows.cost, rows.weight[sent] if len(rows.weight) else NO_WEIGHT
    )
    return UrgentRows(
        X if columns is None else X[:, columns],
        some.sign.astype(np.float64),
        alpha[sent],
        some.all(),
    )
