"""Shard functions of the dual solver: dual variables stay beside the rows they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.input.chunks import describe_nonfinite, describe_overflow
from dask_dml.kernels import dual_ascent as kernel
from dask_dml.kernels.margin_rows import labels_of_rows
from dask_dml.kernels.rows import NO_WEIGHT
from dask_dml.passes.margins import spread
from dask_dml.rounds.base import only_reads, worth_saving


@dataclass(frozen=True)
class DualAsk:
    """What a round of the dual solver does.

    Attributes
    ----------
    numbers : tuple of int
        The problems of the batch that are still being solved.
    label : ndarray of shape (n_problems,)
        The class that is y = +1.
    cost : ndarray of shape (n_problems, 2)
        Cost of a violation with y = -1 and +1.
    squared : bool
        Squared hinge.
    scaling : float
        Value of the intercept's column.
    coef : ndarray of shape (n_problems, n_features)
        Coefficients that the nodes have agreed on.
    intercept : ndarray of shape (n_problems,)
        Intercepts likewise.
    ahead : ndarray of shape (n_problems, n_features)
        How far from there the nodes begin, of any precision.
    ahead_intercept : ndarray of shape (n_problems,)
        The same of the intercept.
    stiffness : ndarray of shape (n_problems,)
        Factor of the metric that holds a node's solution to where it begins.
    step : ndarray of shape (n_problems,)
        Share of the last change of the dual variables that is kept.
    shape : ndarray of shape (n_features + 1,) or None
        The metric, a diagonal, intercept last; None where the nodes have been told.
    n_rows : int
        Rows of all nodes.
    n_epochs : int
        Visits of every active row; none returns the coefficients that belong to the dual
        variables instead of a change.
    seed : int
        Of the order of the rows.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that the coefficients are about, where many never occur: only these
        travel.
    """

    numbers: tuple[int, ...]
    label: np.ndarray
    cost: np.ndarray
    squared: bool
    scaling: float
    coef: np.ndarray
    intercept: np.ndarray
    ahead: np.ndarray
    ahead_intercept: np.ndarray
    stiffness: np.ndarray
    step: np.ndarray
    shape: np.ndarray | None
    n_rows: int
    n_epochs: int
    seed: int
    columns: np.ndarray | None = None


@dataclass(frozen=True)
class DualSums:
    """What a round returns; ``+`` adds.

    Attributes
    ----------
    move : ndarray of shape (n_problems, n_features)
        Change of ``sum_i alpha_i y_i x_i``.
    move_intercept : ndarray of shape (n_problems,)
        Change of what belongs to it as an intercept.
    sums : ndarray of shape (n_problems, 7)
        Loss at the agreed coefficients; ``sum alpha`` before the change, and its change;
        ``sum alpha**2 / (4 C)`` before the change, and the coefficients of the first and second
        power of the share of the change that is kept; and the squared distance of the nodes'
        solutions from the agreed coefficients, in the metric.
    """

    move: np.ndarray
    move_intercept: np.ndarray
    sums: np.ndarray

    def __add__(self, other: DualSums) -> DualSums:
        return DualSums(
            self.move + other.move,
            self.move_intercept + other.move_intercept,
            self.sums + other.sums,
        )


#: Numbers between this and its inverse are kept with single precision.
LARGEST_SINGLE = 1e30

#: Columns of the sums.
TARGET, ALPHA, RISE, SQUARES, SQUARES_FIRST, SQUARES_SECOND, DISTANCE = range(7)
N_SUMS = 7


@dataclass
class DualState:
    """What stays beside a shard.

    Attributes
    ----------
    alpha, change : dict of int to list of ndarray
        Dual variables of each problem, block by block, and their last change.
    slack : dict of int to float
        What a row at its bound must exceed to be shrunk away.
    consensus : Metric
        What holds the node to where it begins, see `DualAsk.stiffness`.
    """

    alpha: dict[int, list[np.ndarray]]
    change: dict[int, list[np.ndarray]]
    slack: dict[int, float]
    consensus: Metric

    @staticmethod
    def above_zero(alpha: np.ndarray, _: Block) -> np.ndarray:
        """Return which dual variables of a block are above zero."""
        return alpha > 0.0

    def saved(self, _: Shard) -> SavedDuals:
        """Return what cannot be worked out again."""
        metric = self.consensus
        return SavedDuals(self.alpha, self.change, self.slack, metric.diagonal, metric.bias)


@dataclass(frozen=True)
class SavedDuals:
    """A `DualState` without the rows' norms."""

    alpha: dict[int, list[np.ndarray]]
    change: dict[int, list[np.ndarray]]
    slack: dict[int, float]
    diagonal: np.ndarray
    bias: float

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        values = [*self.alpha.values(), *self.change.values(), [self.diagonal]]
        return sum(array.nbytes for arrays in values for array in arrays)

    def restored(self, shard: Shard) -> DualState:
        """Return the state of a shard."""
        consensus = metric_with(shard, self.diagonal, self.bias)
        return DualState(self.alpha, self.change, self.slack, consensus)


@dataclass(frozen=True)
class Metric:
    """A diagonal metric of coefficients.

    Attributes
    ----------
    diagonal, inverse : ndarray of shape (n_features,)
        The metric, and its inverse; zero for columns that never occur.
    bias : float
        The inverse's entry for the intercept, times the square of the value of its column.
    norms : list of ndarray
        Squared norms of the rows in the inverse metric, block by block; no smaller, and of single
        precision where that has room for them.
    """

    diagonal: np.ndarray
    inverse: np.ndarray
    bias: float
    norms: list[np.ndarray]


@worth_saving
def dual_round(shard: Shard, state: DualState | None, ask: DualAsk) -> tuple[DualState, DualSums]:
    """Evaluate, and improve the dual variables of the shard's own rows."""
    if state is None:
        assert ask.shape is not None, "the driver sends the metric to those who begin"
        shape = ask.shape * (shard.n_rows / ask.n_rows)
        consensus = metric_of(shard, shape, ask.scaling, ask.columns)
        state = DualState({}, {}, {}, consensus)
    # A repeated round starts from the state before it: that is left as it is.
    after = replace(
        state, alpha=dict(state.alpha), change=dict(state.change), slack=dict(state.slack)
    )
    n_problems, p = len(ask.coef), shard.blocks[0].n_features
    total = DualSums(
        np.zeros((n_problems, p)), np.zeros(n_problems), np.zeros((n_problems, N_SUMS))
    )
    for at, number in enumerate(ask.numbers):
        if number not in after.alpha:
            after.alpha[number] = [np.zeros(block.n_rows) for block in shard.blocks]
        elif ask.step[at] > 0.0:
            pairs = zip(state.alpha[number], state.change[number], strict=True)
            after.alpha[number] = [
                np.maximum(alpha + ask.step[at] * change, 0.0) for alpha, change in pairs
            ]
        if ask.n_epochs:
            _improve(shard, after, ask, at, total)
        else:
            _gather(shard, after, ask, at, total)
    if ask.columns is not None:
        total = replace(total, move=total.move[:, ask.columns])
    return after, total


def local_solutions(shard: Shard, ask: DualAsk) -> np.ndarray:
    """Return what a node would find that took its own rows for a sample of all.

    Returns
    -------
    solutions : ndarray of float32 of shape (n_problems, n_features + 1)
        Coefficients and intercepts, times the node's share of the rows: added up they are the
        nodes' mean.
    """
    share = shard.n_rows / ask.n_rows
    p = shard.blocks[0].n_features
    zero = np.zeros((len(ask.coef), p))
    alone = replace(ask, coef=zero, ahead=zero, shape=np.ones(p + 1), columns=None)
    alone = replace(alone, n_rows=shard.n_rows, cost=ask.cost / share)
    _, found = dual_round(shard, None, alone)
    whole = np.column_stack([found.move, found.move_intercept])
    if ask.columns is not None:
        whole = whole[:, np.append(ask.columns, p)]
    return (share * whole).astype(np.float32)


def metric_of(
    shard: Shard, shape: np.ndarray, scaling: float, columns: np.ndarray | None
) -> Metric:
    """Return a metric and the rows' norms in it; ``shape`` has the intercept last."""
    diagonal = spread(shape[:-1], columns, shard.blocks[0].n_features)
    return metric_with(shard, diagonal, scaling**2 / float(shape[-1]))


def metric_with(shard: Shard, diagonal: np.ndarray, bias: float) -> Metric:
    """Return a metric with the rows' norms."""
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0.0)
    norms = []
    for block in shard.blocks:
        norm = np.empty(block.n_rows)
        if block.is_sparse:
            kernel.sparse_norms(block.X.data, block.X.indices, block.X.indptr, inverse, norm)
        else:
            kernel.dense_norms(block.X, inverse, norm)
        if not np.isfinite(norm).all():
            raise ValueError(
                describe_nonfinite(block)
                or describe_overflow(block, "divide the largest columns by a constant first.")
            )
        norm += bias
        norms.append(_rounded_up(norm))
    return Metric(diagonal, inverse, bias, norms)


def in_half_the_room(numbers: np.ndarray) -> np.ndarray:
    """Return non-negative numbers with single precision where all are far from its limits."""
    largest = float(numbers.max(initial=0.0))
    least = float(numbers.min(initial=np.inf, where=numbers > 0.0))
    far = largest <= LARGEST_SINGLE and least >= 1.0 / LARGEST_SINGLE
    return numbers.astype(np.float32) if far else numbers


def _rounded_up(norms: np.ndarray) -> np.ndarray:
    """Return norms in half the room.

    A step that is shorter by a rounding error is as good, and what norms bound stays bounded.
    """
    single = in_half_the_room(norms)
    return np.nextafter(single, single.dtype.type(np.inf), out=single, where=single < norms)


def _improve(shard: Shard, state: DualState, ask: DualAsk, at: int, total: DualSums) -> None:
    number, factor, metric = ask.numbers[at], 1.0 / float(ask.stiffness[at]), state.consensus
    p = shard.blocks[0].n_features
    agreed, intercept = spread(ask.coef[at], ask.columns, p), float(ask.intercept[at])
    start = agreed + spread(ask.ahead[at], ask.columns, p)
    start_intercept = intercept + float(ask.ahead_intercept[at])
    w, b = start.copy(), start_intercept
    slack, worst, sums = state.slack.get(number, np.inf), 0.0, total.sums[at]
    changes = []
    for position, block in enumerate(shard.blocks):
        alpha = state.alpha[number][position]
        sign, cost = labels_and_costs(block, ask.label[at], ask.cost[at])
        f, active = np.empty(block.n_rows), row_numbers(block.n_rows)
        margins(block, agreed, intercept, f)
        rows = sign, ask.cost[at], weight_of(block)
        n_active, violation, target = kernel.begin(f, *rows, ask.squared, alpha, slack, active)
        worst = max(worst, violation)
        new = alpha.copy()
        seed = (ask.seed * 1_000_003 + shard.number * 8191 + position * 131 + number) * 2 + 1
        arguments = (
            *rows, metric.norms[position], ask.squared, metric.bias, metric.inverse, factor,
            new, active, n_active, ask.n_epochs, np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64), w, b,
        )  # fmt: skip
        if block.is_sparse:
            X = block.X
            b = kernel.sparse_epochs(X.data, X.indices, X.indptr, *arguments)
        else:
            b = kernel.dense_epochs(block.X, *arguments)
        change = new - alpha
        changes.append(change)
        sums[[TARGET, ALPHA, RISE]] += target, alpha.sum(), change.sum()
        if ask.squared:
            old, rise = (
                np.divide(part, 4.0 * cost, out=np.zeros_like(part), where=cost > 0.0)
                for part in (alpha, change)
            )
            sums[SQUARES] += float(old @ alpha)
            sums[[SQUARES_FIRST, SQUARES_SECOND]] += 2.0 * float(old @ change), float(rise @ change)
    state.change[number] = changes
    # A row that is further at its bound than any other is off it is not going to leave soon.
    state.slack[number] = max(worst, 1e-12)
    total.move[at] += (w - start) * (metric.diagonal / factor)
    sums[DISTANCE] += float(((w - agreed) ** 2 * metric.diagonal).sum())
    if metric.bias > 0.0:
        total.move_intercept[at] += ask.scaling**2 * (b - start_intercept) / (factor * metric.bias)
        sums[DISTANCE] += (b - intercept) ** 2 / metric.bias


def _gather(shard: Shard, state: DualState, ask: DualAsk, at: int, total: DualSums) -> None:
    """Add the coefficients that belong to the dual variables."""
    number = ask.numbers[at]
    for alpha, block in zip(state.alpha[number], shard.blocks, strict=True):
        sign, _ = labels_and_costs(block, ask.label[at], ask.cost[at])
        total.move[at] += block.X.T @ (alpha * sign)
        total.move_intercept[at] += ask.scaling**2 * float(alpha @ sign)
    state.change[number] = [np.zeros_like(alpha) for alpha in state.alpha[number]]
    state.slack[number] = np.inf


def labels_and_costs(block: Block, label: float, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, -1 and 1, and costs of the rows for one problem."""
    sign, costs = np.empty(block.n_rows, np.int8), np.empty(block.n_rows)
    labels_of_rows(block.y, 0, weight_of(block), label, cost, sign, costs)
    return sign, costs


def weight_of(block: Block) -> np.ndarray:
    """Return the weights of the rows, as kernels take them."""
    return NO_WEIGHT if block.weight is None else block.weight


def row_numbers(n_rows: int) -> np.ndarray:
    """Return room for the numbers of some of a block's rows."""
    return np.empty(n_rows, np.int32 if n_rows < 2**31 else np.int64)


def margins(block: Block, w: np.ndarray, b: float, f: np.ndarray) -> None:
    """Write ``X @ w + b``."""
    if block.is_sparse:
        kernel.sparse_margins(block.X.data, block.X.indices, block.X.indptr, w, b, f)
    else:
        kernel.dense_margins(block.X, w, b, f)


@only_reads
def count_dual_support(shard: Shard, state: Any, classes: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return how many rows of each class have a dual variable above zero in some problem."""
    counts = np.zeros(len(classes))
    # Of the variables before their last change, which are no worse a solution.
    if state is not None:
        for position, block in enumerate(shard.blocks):
            used = np.zeros(block.n_rows, bool)
            for alpha in state.alpha.values():
                used |= state.above_zero(alpha[position], block)
            at = np.searchsorted(classes, block.y[used, 0])
            counts += np.bincount(at, minlength=len(classes))
    return state, counts


def forget(shard: Shard, state: object, _: None) -> tuple[None, float]:  # noqa: ARG001 - as all
    """Have a shard begin anew."""
    return None, 0.0
