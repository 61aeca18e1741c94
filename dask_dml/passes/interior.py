"""What the rows have to do with a step of an interior-point method.

A row's margin has a slack, ``y_i f_i = 1 - excess_i + slack_i``, and its dual variable alpha_i
belongs to the slack.  For the hinge the excess is a variable of its own, whose dual variable is
``room_i = C_i - alpha_i``; for the squared hinge it is ``alpha_i / (2 C_i)``.  All of them stay
positive, and on the central path ``alpha_i slack_i = room_i excess_i = centre``.  They stay beside
the shard: a row with a large cost keeps its digits, which a function of its margin would lose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.kernels import dual_ascent, margin_csr, margin_dense
from dask_dml.kernels import margin_rows as at_sums
from dask_dml.kernels.rows import NO_WEIGHT
from dask_dml.passes.margins import places, spread


@dataclass(frozen=True)
class InteriorAsk:
    """What is wanted of the rows, of several problems.

    Attributes
    ----------
    stage : {"start", "look", "predict", "direct"}
        Begin on the central path, or take the step, and say what the next system is made of; say
        how far the step without a centre goes, and what is left to correct; find the step.
    numbers : tuple of int
        The problems.
    label, cost, squared : ndarray
        The class that is y = +1, shape (n_problems,); cost of a violation by a row of weight one
        with y = -1 and +1, shape (n_problems, 2); whether the hinge is squared, (n_problems,).
    coef, intercept : ndarray
        The point, of shape (n_problems, n_features) and (n_problems,).
    centre : ndarray of shape (n_problems,)
        Where on the central path rows begin that have no variables yet; what the products shall
        be after a step.
    step : ndarray of shape (n_problems,)
        How much of the last direction has been gone.
    move : ndarray of shape (n_problems, n_features + 1)
        Direction of the coefficients, intercept last.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that all of this is about; None for all.
    hessian : bool, default=True
        Whether a look returns the matrix of its system.
    """

    stage: str
    numbers: tuple[int, ...]
    label: np.ndarray
    cost: np.ndarray
    squared: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray
    step: np.ndarray
    move: np.ndarray
    columns: np.ndarray | None = None
    hessian: bool = True


@dataclass(frozen=True)
class InteriorSums:
    """The answer; ``+`` adds, but takes the smaller of the longest steps.

    Attributes
    ----------
    vectors : ndarray of shape (n_problems, n_vectors, n_features + 1)
        Sums of ``y_i (x_i, 1)``.  Of a look: times alpha; times alpha of the support vectors with
        y = -1 and with y = +1; times what the step without a centre is made of.  Of a prediction:
        times what a centre adds to that, and what the correction does.
    sums : ndarray of shape (n_problems, 12)
        Of a look; the columns are named in `dask_dml.kernels.margin_rows`.
    products : ndarray of shape (n_problems, 4)
        Sum of the products that the central path makes equal, its first and second coefficient
        along the direction, and their number.
    longest : ndarray of shape (n_problems,)
        How far along the direction all variables stay positive.
    hessian : ndarray of shape (n_problems, n_features + 2, n_features + 2) or None
        Lower triangles, of a look.
    """

    vectors: np.ndarray
    sums: np.ndarray
    products: np.ndarray
    longest: np.ndarray
    hessian: np.ndarray | None = None

    def __add__(self, other: Self) -> Self:
        hessian = self.hessian
        if hessian is not None and other.hessian is not None:
            hessian = hessian + other.hessian
        return type(self)(
            self.vectors + other.vectors,
            self.sums + other.sums,
            self.products + other.products,
            np.minimum(self.longest, other.longest),
            hessian,
        )


@dataclass(frozen=True)
class RowVariables:
    """The variables of one problem's rows of positive cost, each of shape (n_rows,).

    Attributes
    ----------
    alpha, slack, room, excess : ndarray
        See above; ``room`` is infinite for the squared hinge.
    violation : ndarray
        ``1 - y_i f_i`` at the point.
    change : tuple of ndarray
        Directions of alpha, slack and excess.
    products : tuple of ndarray
        Products of the directions of the step without a centre: alpha's with the slack's, and
        the room's with the excess's.
    """

    alpha: np.ndarray
    slack: np.ndarray
    room: np.ndarray
    excess: np.ndarray
    violation: np.ndarray
    change: tuple[np.ndarray, ...] = ()
    products: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class InteriorState:
    """The rows' variables, by problem."""

    of: dict[int, RowVariables] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rows:
    """Labels and costs of one problem's rows; only those that cost anything have variables."""

    shard: Shard
    sign: np.ndarray
    cost: np.ndarray
    live: np.ndarray

    def values(self, w: np.ndarray, b: float) -> np.ndarray:
        """Return ``y_i (x_i.w + b)``."""
        f = np.empty(len(self.sign))
        for rows, block in _slices(self.shard):
            if block.is_sparse:
                X = block.X
                dual_ascent.sparse_margins(X.data, X.indices, X.indptr, w, b, f[rows])
            else:
                dual_ascent.dense_margins(block.X, w, b, f[rows])
        return (self.sign * f)[self.live]

    def weighted(self, factors: list[np.ndarray]) -> np.ndarray:
        """Return sums of ``y_i (x_i, 1)`` times factors, shape (n_factors, n_features + 1)."""
        total = np.zeros((len(factors), self.shard.blocks[0].n_features + 1))
        signed = np.zeros((len(factors), len(self.sign)))
        signed[:, self.live] = factors
        signed *= self.sign
        for rows, block in _slices(self.shard):
            part = np.ascontiguousarray(signed[:, rows])
            if block.is_sparse:
                X = block.X
                margin_csr.add_weighted(X.data, X.indices, X.indptr, part, total[:, :-1])
            else:
                margin_dense.add_weighted(block.X, part, total[:, :-1])
        total[:, -1] = signed.sum(axis=1)
        return total

    def hessian(self, bends: np.ndarray, label: float, columns: np.ndarray | None) -> np.ndarray:
        """Return the lower triangle of ``sum_i bend_i (x_i, 1, y_i)(x_i, 1, y_i)'``."""
        bend = np.zeros(len(self.sign))
        bend[self.live] = bends
        p = self.shard.blocks[0].n_features
        wanted = np.empty(0, np.intp) if columns is None else columns
        size = p if columns is None else len(columns)
        total = np.zeros((size + 2, size + 2))
        for rows, block in _slices(self.shard):
            part = bend[rows]
            if block.is_sparse:
                X, y, place = block.X, block.y, places(wanted, p)
                margin_csr.add_hessian(
                    X.data, X.indices, X.indptr, y, 0, part, label, 1, place, total
                )
            else:
                margin_dense.add_hessian(block, 0, part, label, 1, wanted, total)
        return total


def _slices(shard: Shard) -> list[tuple[slice, Block]]:
    ends = np.cumsum([block.n_rows for block in shard.blocks])
    return [
        (slice(int(end) - block.n_rows, int(end)), block)
        for end, block in zip(ends, shard.blocks, strict=True)
    ]


def _rows(shard: Shard, label: float, cost: np.ndarray) -> _Rows:
    sign, costs = np.empty((2, shard.n_rows))
    for rows, block in _slices(shard):
        weight = NO_WEIGHT if block.weight is None else block.weight
        at_sums.labels_of_rows(block.y, 0, weight, label, cost, sign[rows], costs[rows])
    live = np.flatnonzero(costs > 0.0)
    return _Rows(shard, sign, costs[live], live)


def interior(shard: Shard, state: object, ask: InteriorAsk) -> tuple[InteriorState, InteriorSums]:
    """Do what is asked of a shard's rows, problem by problem."""
    before = state.of if isinstance(state, InteriorState) else {}
    after, answers = dict(before), []
    for at, number in enumerate(ask.numbers):
        rows = _rows(shard, float(ask.label[at]), ask.cost[at])
        p = shard.blocks[0].n_features
        looks = ask.stage in ("start", "look")
        variables = None if ask.stage == "start" else before.get(number)
        if variables is None or looks:
            violation = 1.0 - rows.values(spread(ask.coef[at], ask.columns, p), ask.intercept[at])
            variables = _moved(rows, variables, violation, ask, at)
        if looks:
            after[number] = variables
            answers.append(_look(rows, variables, ask, at))
            continue
        move = rows.values(spread(ask.move[at, :-1], ask.columns, p), ask.move[at, -1])
        if ask.stage == "predict":
            after[number], answer = _predict(rows, variables, move)
        else:
            after[number], answer = _direct(rows, variables, move, float(ask.centre[at]))
        answers.append(answer)
    total = _side_by_side(answers)
    if ask.columns is not None:
        chosen = np.append(ask.columns, shard.blocks[0].n_features)
        total = replace(total, vectors=total.vectors[:, :, chosen])
    return InteriorState(after), total


def _side_by_side(answers: list[InteriorSums]) -> InteriorSums:
    hessians = [answer.hessian for answer in answers if answer.hessian is not None]
    return InteriorSums(
        np.array([answer.vectors for answer in answers]),
        np.array([answer.sums for answer in answers]),
        np.array([answer.products for answer in answers]),
        np.array([answer.longest for answer in answers]),
        np.array(hessians) if hessians else None,
    )


def _moved(
    rows: _Rows, old: RowVariables | None, violation: np.ndarray, ask: InteriorAsk, at: int
) -> RowVariables:
    """Return the variables after the step; of rows that have none, those of the central path."""
    squared, step = bool(ask.squared[at]), float(ask.step[at])
    if old is None:
        return _on_the_path(rows.cost, violation, float(ask.centre[at]), squared=squared)
    if not old.change:
        return replace(old, violation=violation)
    alpha, slack, excess = old.change
    new = old.alpha + step * alpha
    return RowVariables(
        new,
        old.slack + step * slack,
        old.room - step * alpha,
        new / (2.0 * rows.cost) if squared else old.excess + step * excess,
        violation,
    )


def _on_the_path(
    cost: np.ndarray, violation: np.ndarray, centre: float, *, squared: bool
) -> RowVariables:
    """Return the variables that all products of which are ``centre``, by the stable formulas."""
    t, away = violation, np.abs(violation)
    if squared:
        # 2 cost excess (excess - t) = centre
        root = np.sqrt(t**2 + 2.0 * centre / cost)
        large, small = 0.5 * (root + away), centre / cost / (root + away)
        excess, slack = np.where(t > 0.0, large, small), np.where(t > 0.0, small, large)
        return RowVariables(2.0 * cost * excess, slack, np.full(len(t), np.inf), excess, t)
    # With the larger of alpha and room as a share of the cost, 1 / (1 - share) - 1 / share is
    # away cost / centre.
    ratio = away * cost / centre
    share = 0.5 + 0.25 * ratio / (1.0 + np.sqrt(1.0 + 0.25 * ratio**2))
    small = centre / (cost * share)
    large = small + away
    excess, slack = np.where(t > 0.0, large, small), np.where(t > 0.0, small, large)
    return RowVariables(centre / slack, slack, centre / excess, excess, t)


def interior_alphas(
    shard: Shard, state: object, number: int, label: float, cost: np.ndarray
) -> np.ndarray:
    """Return ``y_i alpha_i`` of the rows of a shard, zero of those that are no support vectors."""
    assert isinstance(state, InteriorState)
    rows, v = _rows(shard, label, cost), state.of[number]
    values = np.zeros(len(rows.sign))
    values[rows.live] = np.where(_is_support(rows, v), v.alpha, 0.0)
    return rows.sign * values


def row_weights(
    shard: Shard, state: object, number: int, label: float, cost: np.ndarray
) -> np.ndarray:
    """Return what the rows of a shard, all of which cost something, weigh in the system."""
    assert isinstance(state, InteriorState)
    return _systems(_rows(shard, label, cost), state.of[number])[0]


def _is_support(rows: _Rows, v: RowVariables) -> np.ndarray:
    """Return which rows are support vectors: the dual variable is what will not be zero."""
    share = 0.5 / rows.cost if _is_squared(v) else 1.0 / rows.cost
    support: np.ndarray = v.alpha * share > v.slack
    return support


def _is_squared(v: RowVariables) -> bool:
    return bool(len(v.room)) and bool(np.isinf(v.room[0]))


def _systems(rows: _Rows, v: RowVariables) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the rows' weights in the system, their residual, and whether the hinge is squared."""
    squared = _is_squared(v)
    ease = 0.5 / rows.cost if squared else v.excess / v.room
    return 1.0 / (v.slack / v.alpha + ease), v.violation - v.excess + v.slack, squared


def _look(rows: _Rows, v: RowVariables, ask: InteriorAsk, at: int) -> InteriorSums:
    weight, residual, squared = _systems(rows, v)
    positive = rows.sign[rows.live] > 0.0
    # What is no support vector adds less to the bound than the gap has of it.
    support = _is_support(rows, v)
    alpha = np.where(support, v.alpha, 0.0)
    sides = [np.where(positive, 0.0, alpha), np.where(positive, alpha, 0.0)]
    uncentred = weight * (residual - v.slack + (0.0 if squared else v.excess))
    excess = np.maximum(v.violation, 0.0)
    sums = np.zeros(at_sums.N_SUMS)
    loss = rows.cost @ (excess**2 if squared else excess)
    sums[[at_sums.SMOOTH, at_sums.TARGET]] = loss
    sums[[at_sums.ALPHA, at_sums.ALPHA_POSITIVE]] = [side.sum() for side in sides]
    if squared:
        squares = [0.25 * (side**2 / rows.cost).sum() for side in sides]
        sums[[at_sums.SQUARES, at_sums.SQUARES_POSITIVE]] = squares
    sums[at_sums.BEND] = weight.sum()
    n_positive = np.count_nonzero(support & positive)
    sums[at_sums.COUNT] = np.count_nonzero(support) - n_positive
    sums[at_sums.COUNT_POSITIVE] = n_positive
    value = v.alpha @ v.slack + (0.0 if squared else v.room @ v.excess)
    return InteriorSums(
        rows.weighted([v.alpha, *sides, uncentred]),
        sums,
        np.array([value, 0.0, 0.0, len(v.alpha) * (1 if squared else 2)]),
        np.array(1.0),
        rows.hessian(weight, float(ask.label[at]), ask.columns) if ask.hessian else None,
    )


def _predict(rows: _Rows, v: RowVariables, move: np.ndarray) -> tuple[RowVariables, InteriorSums]:
    weight, residual, squared = _systems(rows, v)
    nothing = 0.0 if squared else v.excess
    d_alpha = weight * (residual - v.slack + nothing - move)
    d_slack = -v.slack - v.slack / v.alpha * d_alpha
    d_excess = np.zeros_like(d_alpha) if squared else v.excess / v.room * d_alpha - v.excess
    products = d_alpha * d_slack, -d_alpha * d_excess
    first = v.slack @ d_alpha + v.alpha @ d_slack
    if not squared:
        first += v.room @ d_excess - v.excess @ d_alpha
    second = products[0].sum() + products[1].sum()
    vectors = rows.weighted(
        [
            weight * (1.0 / v.alpha - 1.0 / v.room),
            weight * (products[1] / v.room - products[0] / v.alpha),
        ]
    )
    longest = _longest(v, d_alpha, d_slack, d_excess, squared=squared)
    answer = InteriorSums(
        vectors, np.zeros(at_sums.N_SUMS), np.array([0.0, first, second, 0.0]), longest
    )
    return replace(v, products=products), answer


def _direct(
    rows: _Rows, v: RowVariables, move: np.ndarray, centre: float
) -> tuple[RowVariables, InteriorSums]:
    weight, residual, squared = _systems(rows, v)
    # Rows that have begun anew in between have nothing to correct.
    corrections = v.products or (np.zeros_like(v.alpha), np.zeros_like(v.alpha))
    of_slack = centre - v.alpha * v.slack - corrections[0]
    pull = of_slack / v.alpha
    of_excess = 0.0
    if not squared:
        of_excess = centre - v.room * v.excess - corrections[1]
        pull = pull - of_excess / v.room
    d_alpha = weight * (residual + pull - move)
    d_slack = (of_slack - v.slack * d_alpha) / v.alpha
    d_excess = np.zeros_like(d_alpha) if squared else (of_excess + v.excess * d_alpha) / v.room
    longest = _longest(v, d_alpha, d_slack, d_excess, squared=squared)
    n_columns = rows.shard.blocks[0].n_features + 1
    answer = InteriorSums(np.zeros((0, n_columns)), np.zeros(at_sums.N_SUMS), np.zeros(4), longest)
    return replace(v, change=(d_alpha, d_slack, d_excess), products=()), answer


def _longest(
    v: RowVariables,
    d_alpha: np.ndarray,
    d_slack: np.ndarray,
    d_excess: np.ndarray,
    *,
    squared: bool,
) -> np.ndarray:
    """Return how much of the directions can be gone until a variable is zero; at most all."""
    pairs = [(v.alpha, d_alpha), (v.slack, d_slack)]
    if not squared:
        pairs += [(v.room, -d_alpha), (v.excess, d_excess)]
    rate = max(float((-change / value).max(initial=0.0)) for value, change in pairs)
    return np.array(min(1.0 / rate, 1.0) if rate > 0.0 else 1.0)
