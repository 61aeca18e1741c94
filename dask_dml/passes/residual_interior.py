"""What the rows of a regression have to do with a step of an interior-point method.

Every loss of the family is a sum of two one-sided losses of the excesses ``t = r - margin`` and
``t = -r - margin`` of a residual.  A side's excess is ``t_i = excess_i + inverse_i alpha_i -
slack_i`` with its dual variable alpha_i, which belongs to the slack; where the loss grows linearly
in the end, ``room_i = cost_i - alpha_i`` belongs to the excess.  All of them stay positive, and on
the central path ``alpha_i slack_i = room_i excess_i = centre``.  They stay beside the shard: a row
with a large weight keeps its digits, which a function of its residual would lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.kernels import csr, dense, dual_ascent, margin_csr, margin_dense, residual_sides, rows
from dask_dml.kernels.residual_sides import ABOVE, BELOW, INVERSE, MARGIN
from dask_dml.passes.evaluate import Point, centred_hessian, loss_sums
from dask_dml.passes.interior import InteriorSums
from dask_dml.passes.partials import LossSums


@dataclass(frozen=True)
class ResidualAsk:
    """What is wanted of the rows, of several problems.

    Attributes
    ----------
    stage : {"start", "look", "predict", "direct"}
        Begin on the central path, or take the step, and say what the next system is made of; say
        how far the step without a centre goes, and what is left to correct; find the step.
    numbers : tuple of int
        The problems.
    column : ndarray of shape (n_problems,)
        Their columns of y.
    target_mean : ndarray of shape (n_problems,)
        What these are taken relative to.
    losses : ndarray of shape (n_problems, 4)
        The losses; the columns are named in `dask_dml.kernels.residual_sides`.
    coef, intercept : ndarray
        The point, of shape (n_problems, n_features) and (n_problems,).
    centre : ndarray of shape (n_problems,)
        Where on the central path rows begin that have no variables yet; what the products shall
        be after a step.
    step : ndarray of shape (n_problems,)
        How much of the last direction has been gone.
    move : ndarray of shape (n_problems, n_features + 1)
        Direction of the coefficients, intercept last.
    mean : ndarray of shape (n_features,)
        What the columns of X are taken relative to.
    offset : bool
        Whether that has to be taken off row by row, see `dask_dml.passes.evaluate.Point`.
    scale : float
        Factor on all sample weights.
    units : ndarray of shape (n_shards,) or None
        Factor on the sample weights of each shard.
    matrices : bool, default=True
        Whether a look finds the matrices; otherwise `row_curvatures` says what they are made of.
    """

    stage: str
    numbers: tuple[int, ...]
    column: np.ndarray
    target_mean: np.ndarray
    losses: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray
    step: np.ndarray
    move: np.ndarray
    mean: np.ndarray
    offset: bool
    scale: float
    units: np.ndarray | None
    matrices: bool = True


class ResidualSums(InteriorSums):
    """The answer; ``+`` adds, but takes the smaller of the longest steps.

    Attributes
    ----------
    vectors : ndarray of shape (n_problems, 2, n_features + 1)
        Sums of ``(x_i - mean, 1)``.  Of a look: times the slopes; times what the step without a
        centre is made of.  Of a prediction: times what a centre adds to that, and what the
        correction does.
    sums : ndarray of shape (n_problems, 9)
        Of a look: the loss sums of `dask_dml.kernels.rows`, at the slopes that the variables are.
    products : ndarray of shape (n_problems, 4)
        Sum of the products that the central path makes equal, its first and second coefficient
        along the direction, and their number.
    longest : ndarray of shape (n_problems,)
        How far along the direction all variables stay positive.
    hessian : ndarray of shape (n_problems, n_features + 1, n_features + 1) or None
        Lower triangles, of a look.
    """


@dataclass(frozen=True)
class SideVariables:
    """The variables of one problem's rows of positive weight, each of shape (2, n_rows).

    Attributes
    ----------
    alpha, slack, room, excess : ndarray
        See above; ``room`` is infinite, and ``excess`` zero, for a loss of unbounded slope.
    residual : ndarray of shape (n_rows,)
        Residuals at the point.
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
    residual: np.ndarray
    change: tuple[np.ndarray, ...] = ()
    products: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class ResidualState:
    """The rows' variables, by problem."""

    of: dict[int, SideVariables] = field(default_factory=dict)


class _Rows:
    """The rows of positive weight of a shard, which alone have variables."""

    def __init__(self, shard: Shard, ask: ResidualAsk) -> None:
        self._shard, self._mean, self._offset = shard, ask.mean, ask.offset
        unit = ask.scale * (1.0 if ask.units is None else float(ask.units[shard.number]))
        weight = [
            np.ones(block.n_rows) if block.weight is None else block.weight
            for block in shard.blocks
        ]
        self._n_rows = sum(block.n_rows for block in shard.blocks)
        cost = unit * np.concatenate(weight)
        self.live = np.flatnonzero(cost > 0.0)
        self.cost = cost[self.live]

    def targets(self, column: int, mean: float) -> np.ndarray:
        """Return the targets less their mean."""
        y = np.concatenate([block.y[:, column] for block in self._shard.blocks])
        return y[self.live].astype(np.float64, copy=False) - mean

    def predictions(self, z: np.ndarray) -> np.ndarray:
        """Return ``(x_i - mean, 1) @ z``."""
        f = np.empty(self._n_rows)
        w, b = z[:-1], float(z[-1])
        shift = b - float(self._mean @ w)
        for part, block in self._slices():
            X = block.X
            if block.is_sparse:
                dual_ascent.sparse_margins(X.data, X.indices, X.indptr, w, shift, f[part])
            elif not self._offset:
                dual_ascent.dense_margins(X, w, shift, f[part])
            else:
                for at, tile in dense.centred_tiles(X, self._mean):
                    f[part][at] = tile @ w + b
        return f[self.live]

    def weighted(self, factors: list[np.ndarray]) -> np.ndarray:
        """Return sums of ``(x_i - mean, 1)`` times factors, shape (n_factors, n_features + 1)."""
        whole = np.zeros((len(factors), self._n_rows))
        whole[:, self.live] = factors
        total = np.zeros((len(factors), len(self._mean) + 1))
        raw = np.zeros((len(factors), len(self._mean)))
        for part, block in self._slices():
            X, own = block.X, np.ascontiguousarray(whole[:, part])
            sums = own.sum(axis=1)
            total[:, -1] += sums
            if not block.is_sparse and self._offset:
                for at, tile in dense.centred_tiles(X, self._mean):
                    total[:, :-1] += own[:, at] @ tile
                continue
            if block.is_sparse:
                margin_csr.add_weighted(X.data, X.indices, X.indptr, own, raw)
            else:
                margin_dense.add_weighted(X, own, raw)
            raw -= np.outer(sums, self._mean)
        total[:, :-1] += raw
        return total

    def hessian(self, bends: np.ndarray) -> np.ndarray:
        """Return the lower triangle of ``sum_i bend_i (x_i - mean, 1)(x_i - mean, 1)'``."""
        bend = np.zeros(self._n_rows)
        bend[self.live] = bends
        size = len(self._mean) + 1
        total = np.zeros((size, size))
        for part, block in self._slices():
            X, own = block.X, bend[part]
            if block.is_sparse:
                raw = np.zeros_like(total)
                csr.hessian(X.data, X.indices, X.indptr, own, raw)
                total += centred_hessian(raw, self._mean)
            else:
                dense.hessian(X, self._mean, own, total)
        return total

    def _slices(self) -> Iterator[tuple[slice, Block]]:
        start = 0
        for block in self._shard.blocks:
            yield slice(start, start + block.n_rows), block
            start += block.n_rows


def residual_interior(
    shard: Shard, state: ResidualState, ask: ResidualAsk
) -> tuple[ResidualState, ResidualSums]:
    """Do what is asked of a shard's rows, problem by problem."""
    before = state.of
    after, answers = dict(before), []
    rows_here = _Rows(shard, ask)
    for at, number in enumerate(ask.numbers):
        side = _Sides(ask.losses[at], rows_here.cost)
        looks = ask.stage in ("start", "look")
        variables = None if ask.stage == "start" else before.get(number)
        if variables is None or looks:
            target = rows_here.targets(int(ask.column[at]), float(ask.target_mean[at]))
            z = np.append(ask.coef[at], ask.intercept[at])
            residual = target - rows_here.predictions(z)
            if variables is None:
                variables = side.on_the_path(residual, float(ask.centre[at]))
            else:
                variables = _moved(variables, residual, float(ask.step[at]))
        if looks:
            answer = _look(rows_here, side, variables, matrices=ask.matrices)
        elif ask.stage == "predict":
            move = rows_here.predictions(ask.move[at])
            variables, answer = _predict(rows_here, side, variables, move)
        else:
            move = rows_here.predictions(ask.move[at])
            variables, answer = _direct(side, variables, move, float(ask.centre[at]))
        after[number] = variables
        answers.append(answer)
    return ResidualState(after), _side_by_side(answers)


@dataclass(frozen=True)
class Several:
    """What problems at different stages want of one visit.

    Attributes
    ----------
    point : Point or None
        Where losses of other problems are to be evaluated.
    asks : tuple of ResidualAsk
        One per stage.
    """

    point: Point | None
    asks: tuple[ResidualAsk, ...]


@dataclass(frozen=True)
class SeveralSums:
    """The answers; ``+`` adds them one by one.

    Attributes
    ----------
    plain : LossSums or None
        At the point.
    of : tuple of ResidualSums
        To the questions.
    """

    plain: LossSums | None
    of: tuple[ResidualSums, ...]

    def __add__(self, other: SeveralSums) -> SeveralSums:
        plain = self.plain
        if plain is not None and other.plain is not None:
            plain = plain + other.plain
        return SeveralSums(plain, tuple(a + b for a, b in zip(self.of, other.of, strict=True)))


def several(shard: Shard, state: object, wanted: Several) -> tuple[ResidualState, SeveralSums]:
    """Answer problems at different stages in one visit."""
    plain = None if wanted.point is None else loss_sums(shard, wanted.point)
    after = state if isinstance(state, ResidualState) else ResidualState()
    found = []
    for ask in wanted.asks:
        after, sums = residual_interior(shard, after, ask)
        found.append(sums)
    return after, SeveralSums(plain, tuple(found))


def _side_by_side(answers: list[ResidualSums]) -> ResidualSums:
    hessians = [answer.hessian for answer in answers if answer.hessian is not None]
    return ResidualSums(
        np.array([answer.vectors for answer in answers]),
        np.array([answer.sums for answer in answers]),
        np.array([answer.products for answer in answers]),
        np.array([answer.longest for answer in answers]),
        np.array(hessians) if hessians else None,
    )


def _moved(old: SideVariables, residual: np.ndarray, step: float) -> SideVariables:
    if not old.change:
        return replace(old, residual=residual)
    alpha, slack, excess = old.change
    return SideVariables(
        old.alpha + step * alpha,
        old.slack + step * slack,
        old.room - step * alpha,
        old.excess + step * excess,
        residual,
    )


class _Sides:
    """The two one-sided losses of the rows, of weights ``cost``."""

    def __init__(self, loss: np.ndarray, cost: np.ndarray) -> None:
        self.loss, self.weight = loss, cost
        self.bounded = bool(np.isfinite(loss[ABOVE]))

    def look(
        self, v: SideVariables
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
        """Return slopes, what a step without a centre is made of, curvatures, sums, products."""
        slopes, uncentred, weights = np.empty((3, len(v.residual)))
        sums = np.zeros(rows.N_SUMS)
        value = residual_sides.look(
            v.residual, self.weight, self.loss, v.alpha, v.slack, v.room, v.excess,
            slopes, uncentred, weights, sums,
        )  # fmt: skip
        return slopes, uncentred, weights, sums, float(value)

    def on_the_path(self, residual: np.ndarray, centre: float) -> SideVariables:
        """Return variables on the central path, or near it where there is no formula."""
        t = np.array([residual, -residual]) - self.loss[MARGIN]
        inverse, slopes = self.loss[INVERSE], self.loss[[ABOVE, BELOW], None]
        if not self.bounded:
            # excess (excess - t) = ease centre, of excess = ease alpha
            ease = inverse / self.weight
            root, away = np.sqrt(t**2 + 4.0 * ease * centre), np.abs(t)
            large = 0.5 * (root + away)
            small = 2.0 * ease * centre / (root + away)
            slack = np.where(t > 0.0, small, large)
            nothing = np.zeros_like(t)
            return SideVariables(centre / slack, slack, nothing + np.inf, nothing, residual)
        cost = slopes * self.weight
        if inverse > 0.0:
            t = t - np.clip(t, 0.0, inverse * slopes)
        away = np.abs(t)
        # With the larger of alpha and room as a share of the cost, 1 / (1 - share) - 1 / share is
        # away cost / centre.
        ratio = away * cost / centre
        share = 0.5 + 0.25 * ratio / (1.0 + np.sqrt(1.0 + 0.25 * ratio**2))
        small = centre / (cost * share)
        large = small + away
        excess, slack = np.where(t > 0.0, large, small), np.where(t > 0.0, small, large)
        return SideVariables(centre / slack, slack, centre / excess, excess, residual)


def _look(rows_here: _Rows, side: _Sides, v: SideVariables, *, matrices: bool) -> ResidualSums:
    slopes, uncentred, weights, sums, value = side.look(v)
    return ResidualSums(
        rows_here.weighted([slopes, uncentred]),
        sums,
        np.array([value, 0.0, 0.0, v.alpha.size * (2 if side.bounded else 1)]),
        np.array(1.0),
        rows_here.hessian(weights) if matrices else None,
    )


def row_curvatures(
    shard: Shard, state: ResidualState, ask: ResidualAsk
) -> tuple[ResidualState, np.ndarray]:
    """Return how much each row of a shard counts in the matrix of the first problem of an ask."""
    rows_here = _Rows(shard, ask)
    _, _, weights, _, _ = _Sides(ask.losses[0], rows_here.cost).look(state.of[ask.numbers[0]])
    curvatures = np.zeros(shard.n_rows)
    curvatures[rows_here.live] = weights
    return state, curvatures


def _predict(
    rows_here: _Rows, side: _Sides, v: SideVariables, move: np.ndarray
) -> tuple[SideVariables, ResidualSums]:
    products = np.empty_like(v.alpha), np.empty_like(v.alpha)
    centred, corrected = np.empty((2, len(move)))
    first, second, rate = residual_sides.predict(
        v.residual, move, side.weight, side.loss, v.alpha, v.slack, v.room, v.excess,
        *products, centred, corrected,
    )  # fmt: skip
    answer = ResidualSums(
        rows_here.weighted([centred, corrected]),
        np.zeros(rows.N_SUMS),
        np.array([0.0, first, second, 0.0]),
        _longest(rate),
    )
    return replace(v, products=products), answer


def _direct(
    side: _Sides, v: SideVariables, move: np.ndarray, centre: float
) -> tuple[SideVariables, ResidualSums]:
    # Rows that have begun anew in between have nothing to correct.
    of_slack, of_excess = v.products or (np.zeros_like(v.alpha), np.zeros_like(v.alpha))
    d_alpha, d_slack, d_excess = np.empty((3, *v.alpha.shape))
    rate = residual_sides.direct(
        v.residual, move, side.weight, side.loss, v.alpha, v.slack, v.room, v.excess,
        of_slack, of_excess, centre, d_alpha, d_slack, d_excess,
    )  # fmt: skip
    answer = ResidualSums(np.zeros((0, 0)), np.zeros(rows.N_SUMS), np.zeros(4), _longest(rate))
    return replace(v, change=(d_alpha, d_slack, d_excess), products=()), answer


def _longest(rate: float) -> np.ndarray:
    """Return how much of the directions can be gone until a variable is zero; at most all."""
    return np.array(min(1.0 / rate, 1.0) if rate > 0.0 else 1.0)
