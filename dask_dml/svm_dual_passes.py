"""Shard functions of the dual solver: dual variables stay beside the rows they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.chunks import describe_nonfinite
from dask_dml.kernels import svm_dual as kernel
from dask_dml.kernels.rows import NO_WEIGHT
from dask_dml.kernels.svm_rows import labels_of_rows
from dask_dml.svm_passes import spread


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
        Coefficients that belong to the dual variables once ``step`` has been taken.
    intercept : ndarray of shape (n_problems,)
        Intercepts likewise.
    step : ndarray of shape (n_problems,)
        Share of the last change of the dual variables that is kept.
    sigma : float
        What a node multiplies its own changes by while it works.
    n_epochs : int
        Visits of every active row; none returns the coefficients that belong to the dual
        variables instead of a change.
    seed : int
        Of the order of the rows.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that the coefficients are about, where many never occur: only these
        travel.
    n_rows : int
        Rows of all nodes.
    """

    numbers: tuple[int, ...]
    label: np.ndarray
    cost: np.ndarray
    squared: bool
    scaling: float
    coef: np.ndarray
    intercept: np.ndarray
    step: np.ndarray
    sigma: float
    n_epochs: int
    seed: int
    columns: np.ndarray | None = None
    n_rows: int = 0


@dataclass(frozen=True)
class DualSums:
    """What a round returns; ``+`` adds.

    Attributes
    ----------
    move : ndarray of shape (n_problems, n_features)
        Change of the coefficients.
    move_intercept : ndarray of shape (n_problems,)
        Change of the intercepts.
    sums : ndarray of shape (n_problems, 3)
        See `dask_dml.kernels.svm_dual`.
    line : ndarray of shape (n_problems, 3)
        Change of ``sum alpha``, and how ``sum alpha**2 / (4 C)`` changes along the move: the
        coefficients of its first and second power.
    """

    move: np.ndarray
    move_intercept: np.ndarray
    sums: np.ndarray
    line: np.ndarray

    def __add__(self, other: DualSums) -> DualSums:
        return DualSums(
            self.move + other.move,
            self.move_intercept + other.move_intercept,
            self.sums + other.sums,
            self.line + other.line,
        )


@dataclass
class DualState:
    """What stays beside a shard.

    Attributes
    ----------
    alpha, change : dict of int to list of ndarray
        Dual variables of each problem, block by block, and their last change.
    norms : list of ndarray
        Squared norms of the rows.
    slack : dict of int to float
        What a row at its bound must exceed to be shrunk away.
    """

    alpha: dict[int, list[np.ndarray]]
    change: dict[int, list[np.ndarray]]
    norms: list[np.ndarray]
    slack: dict[int, float]


def dual_round(shard: Shard, state: DualState | None, ask: DualAsk) -> tuple[DualState, DualSums]:
    """Take the step, evaluate, and improve the dual variables of the shard's own rows."""
    state = _fresh(shard) if state is None else state
    # A repeated round starts from the state before it: that is left as it is.
    after = DualState(dict(state.alpha), dict(state.change), state.norms, dict(state.slack))
    n_problems, p = len(ask.coef), shard.blocks[0].n_features
    total = DualSums(
        np.zeros((n_problems, p)),
        np.zeros(n_problems),
        np.zeros((n_problems, kernel.N_SUMS)),
        np.zeros((n_problems, 3)),
    )
    for at, number in enumerate(ask.numbers):
        if number in state.change and ask.step[at] > 0.0:
            pairs = zip(state.alpha[number], state.change[number], strict=True)
            after.alpha[number] = [
                np.maximum(alpha + ask.step[at] * change, 0.0) for alpha, change in pairs
            ]
        elif number not in state.alpha:
            after.alpha[number] = [np.zeros(block.n_rows) for block in shard.blocks]
        _improve(shard, after, ask, at, total)
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
    _, found = dual_round(shard, None, replace(ask, cost=ask.cost / share))
    whole = np.column_stack([found.move, found.move_intercept])
    return (share * whole).astype(np.float32)


def _fresh(shard: Shard) -> DualState:
    norms = []
    for block in shard.blocks:
        norm = np.empty(block.n_rows)
        if block.is_sparse:
            kernel.sparse_norms(block.X.data, block.X.indptr, norm)
        else:
            kernel.dense_norms(block.X, norm)
        if not np.isfinite(norm).all():
            raise ValueError(
                describe_nonfinite(block)
                or "Input X contains values so large that their squares overflow; scale the "
                "columns first, for example with sklearn.preprocessing.StandardScaler."
            )
        norms.append(norm)
    return DualState({}, {}, norms, {})


def _improve(shard: Shard, state: DualState, ask: DualAsk, at: int, total: DualSums) -> None:
    number = ask.numbers[at]
    if ask.n_epochs == 0:
        _gather(shard, state, ask, at, total)
        return
    start = spread(ask.coef[at], ask.columns, shard.blocks[0].n_features)
    w, b = start.copy(), float(ask.intercept[at])
    slack = state.slack.get(number, np.inf)
    worst, changes = 0.0, []
    for position, block in enumerate(shard.blocks):
        alpha = state.alpha[number][position]
        sign, cost = _labels(block, ask, at)
        f = np.empty(block.n_rows)
        active = np.empty(block.n_rows, np.intp)
        _margins(block, start, float(ask.intercept[at]), f)
        n_active, violation = kernel.begin(
            f, sign, cost, ask.squared, alpha, slack, active, total.sums[at]
        )
        worst = max(worst, violation)
        new = alpha.copy()
        seed = (ask.seed * 1_000_003 + shard.number * 8191 + position * 131 + number) * 2 + 1
        arguments = (
            sign, cost, state.norms[position], ask.squared, ask.scaling, ask.sigma, new, active,
            n_active, ask.n_epochs, np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64), w, b,
        )  # fmt: skip
        if block.is_sparse:
            X = block.X
            b = kernel.sparse_epochs(X.data, X.indices, X.indptr, *arguments)
        else:
            b = kernel.dense_epochs(block.X, *arguments)
        change = new - alpha
        changes.append(change)
        total.line[at, 0] += change.sum()
        if ask.squared:
            weight = np.divide(change, 4.0 * cost, out=np.zeros_like(change), where=cost > 0.0)
            total.line[at, 1] += 2.0 * float(weight @ alpha)
            total.line[at, 2] += float(weight @ change)
    state.change[number] = changes
    # A row that is further at its bound than any other is off it is not going to leave soon.
    state.slack[number] = max(worst, 1e-12)
    total.move[at] += (w - start) / ask.sigma
    total.move_intercept[at] += (b - ask.intercept[at]) / ask.sigma


def _gather(shard: Shard, state: DualState, ask: DualAsk, at: int, total: DualSums) -> None:
    """Add the coefficients that belong to the dual variables."""
    number = ask.numbers[at]
    for alpha, block in zip(state.alpha[number], shard.blocks, strict=True):
        sign, _ = _labels(block, ask, at)
        total.move[at] += block.X.T @ (alpha * sign)
        total.move_intercept[at] += ask.scaling**2 * float(alpha @ sign)
    state.change[number] = [np.zeros_like(alpha) for alpha in state.alpha[number]]
    state.slack[number] = np.inf


def _labels(block: Block, ask: DualAsk, at: int) -> tuple[np.ndarray, np.ndarray]:
    sign, cost = np.empty(block.n_rows), np.empty(block.n_rows)
    weight = NO_WEIGHT if block.weight is None else block.weight
    labels_of_rows(block.y, 0, weight, ask.label[at], ask.cost[at], sign, cost)
    return sign, cost


def _margins(block: Block, w: np.ndarray, b: float, f: np.ndarray) -> None:
    if block.is_sparse:
        kernel.sparse_margins(block.X.data, block.X.indices, block.X.indptr, w, b, f)
    else:
        kernel.dense_margins(block.X, w, b, f)


def count_dual_support(
    shard: Shard, state: DualState | None, classes: np.ndarray
) -> tuple[DualState | None, np.ndarray]:
    """Return how many rows of each class have a dual variable above zero in some problem."""
    counts = np.zeros(len(classes))
    if state is not None:
        for position, block in enumerate(shard.blocks):
            used = np.zeros(block.n_rows, bool)
            for alpha in state.alpha.values():
                used |= alpha[position] > 0.0
            at = np.searchsorted(classes, block.y[used, 0])
            counts += np.bincount(at, minlength=len(classes))
    return state, counts
