"""Shard functions of stochastic gradient descent: what one visit of a shard does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dask_dml import passes
from dask_dml.blocks import Block, Shard
from dask_dml.kernels import dense, sgd_dense, sgd_sparse, sparse
from dask_dml.kernels.rows import DUAL
from dask_dml.kernels.sgd_rows import GROUP, PLAIN
from dask_dml.partials import LossSums
from dask_dml.problems import Frame
from dask_dml.sgd_order import Split, sampled, stretches, total_weight, training, weights_of
from dask_dml.sgd_partials import Models, Survey


@dataclass(frozen=True)
class Visit:
    """What every node is to do between two exchanges.

    Attributes
    ----------
    point : ndarray of shape (n_problems, n_features + 1)
        Where all nodes start, intercept last.
    gradient : ndarray of shape (n_problems, n_features + 1) or None
        Gradient of the mean loss over all nodes' rows at the point, where it is known.
    kind : int
        Kind of the steps, see `dask_dml.kernels.sgd_rows`.  Plain steps with a known gradient
        are corrected for the difference between the node's own gradient and the global one.
    literal : bool
        Whether steps are taken as the textbook has them.
    column, parameters, schedule, l2, l1, target_mean : ndarray of shape (n_problems, ...)
        See `dask_dml.kernels.sgd_dense.steps`.
    mean, metric : ndarray of shape (n_features,), (n_features + 1,)
        Likewise.
    batch : int
        Rows of a step.
    n_steps : int or None
        Steps, each of rows drawn with replacement; None visits all rows once.
    shuffle : bool
        False takes the rows in their order.
    key, epoch : int
        Seed of the fit, and number of the exchange.
    rows_before : int
        Rows that a node has visited before the fit began (`partial_fit`).
    tail : float
        Share of the visit before iterates are averaged.
    units : ndarray of shape (n_shards,) or None
        Weights of the nodes where these are to count the same.
    split : Split or None
        Rows to leave out.
    each : bool
        Whether the nodes' models are wanted one by one, too.
    columns : ndarray or None
        The columns of X that coordinates stand for; None for all.  The others have no entry.
    """

    point: np.ndarray
    gradient: np.ndarray | None
    kind: int
    literal: bool
    column: np.ndarray
    parameters: np.ndarray
    schedule: np.ndarray
    l2: np.ndarray
    l1: np.ndarray
    target_mean: np.ndarray
    mean: np.ndarray
    metric: np.ndarray
    batch: int
    n_steps: int | None
    shuffle: bool
    key: int
    epoch: int
    rows_before: int
    tail: float
    units: np.ndarray | None
    split: Split | None
    each: bool
    columns: np.ndarray | None = None


def remember(
    shard: Shard, _: Any, request: tuple[Callable[..., Any], Any, Split | None]
) -> tuple[Any, Any]:
    """Evaluate a shard function on the training rows and keep the shard's own result."""
    function, broadcast, split = request
    partial = function(training(shard, split), broadcast)
    return partial, partial


def survey(shard: Shard, units: np.ndarray | None) -> Survey:
    """Return means, spreads, tails and products with the targets of a shard's columns."""
    unit = 1.0 if units is None else float(units[shard.number])
    return passes.sum_parts([_block_survey(block, unit) for block in shard.blocks])


def _block_survey(block: Block, unit: float) -> Survey:
    X, weight = block.X, weights_of(block)
    p, n_outputs = block.n_features, block.y.shape[1]
    sums, squares, fourths = np.zeros((3, p))
    cross = np.zeros((n_outputs, p))
    target_sums, target_squares = np.zeros((2, n_outputs))
    target_shift = np.asarray(block.y[:64], dtype=np.float64).mean(axis=0)
    total = dense.moments(block.y, weight, unit, target_shift, target_sums, target_squares)
    if block.is_sparse:
        shift = sparse.full_column_shift(X)
        sgd_sparse.survey(
            X.data, X.indices, X.indptr, block.y, weight, unit, shift, target_shift,
            sums, squares, fourths, cross,
        )  # fmt: skip
        stored = np.bincount(X.indices, minlength=p).astype(np.float64)
    else:
        shift = dense.first_rows_mean(block)
        sgd_dense.survey(
            X, block.y, weight, unit, shift, target_shift, sums, squares, fourths, cross
        )
        stored = np.full(p, float(block.n_rows))
    passes.check_finite(block, sums, squares)
    share = 1.0 / total if total > 0.0 else 0.0
    return Survey(
        weight=total,
        n_rows=block.n_rows,
        mean=shift + share * sums,
        square=squares - share * sums**2,
        target_mean=target_shift + share * target_sums,
        target_square=target_squares - share * target_sums**2,
        cross=cross - share * np.outer(target_sums, sums),
        stored=stored,
        own_square=squares,
        fourth=fourths,
        any_sparse=block.is_sparse,
    )


def visit(shard: Shard, state: Any, request: Visit) -> tuple[Any, Models]:
    """Take the steps of one exchange; return what they changed, weighted by the node's rows."""
    return state, _visit(training(shard, request.split), state, request)


def _visit(shard: Shard, own: Any, request: Visit) -> Models:
    n_problems, width = request.point.shape
    total = sum(float(total_weight(block)) for block in shard.blocks)
    if total <= 0.0:
        return Models.none(n_problems, width)
    walk = _Walk(shard, own, request, total)
    walk.run()
    last, mean = walk.result()
    weight = total if request.units is None else float(request.units[shard.number] > 0.0)
    weights = np.full(width, weight)
    if walk.sparse and not request.literal:
        # What a node says of a column counts by its rows that have an entry there.
        weights[:-1] *= walk.stored / max(shard.n_rows, 1)
    return Models(
        last=weights * (last - request.point),
        mean=weights * (mean - request.point),
        weights=weights,
        weight=weight,
        support=weight * (last != 0.0),
        loss=walk.loss / walk.n_visited * weight,
        each=((weight, mean - request.point),) if request.each else (),
        n_nodes=1,
    )


class _Walk:
    """The state of one node's iterate during a visit."""

    def __init__(self, shard: Shard, own: Any, request: Visit, total: float) -> None:
        self.shard, self.request = shard, request
        n_rows = shard.n_rows
        # Zero-weight rows are visited, too: the mean weight is over all rows.
        self.total = total
        self.unit = n_rows / total
        self.sparse = any(block.is_sparse for block in shard.blocks)
        plain = request.kind == PLAIN
        point = np.array(request.point)
        self.anchor = np.zeros_like(point) if plain else point
        self.iterate = point.copy() if plain else np.zeros_like(point)
        self.average = np.zeros_like(point)
        self.loss = np.zeros(len(point))
        self.fixed = self._fixed(own)
        # Arrays that have travelled are read-only, for which the kernels would be compiled anew.
        self.column, self.target_mean, self.parameters, self.schedule, self.l2, self.l1 = (
            np.array(array)
            for array in (
                request.column,
                request.target_mean,
                request.parameters,
                request.schedule,
                request.l2,
                request.l1,
            )
        )
        start = request.rows_before + request.epoch * self._length()
        self.position = start
        self.tail = start + int(request.tail * self._length())
        self.n_visited = 0
        self.n_averaged = 0
        if self.sparse:
            self._open_tables(n_rows, own)
        else:
            self._open_scaled()

    def _open_scaled(self) -> None:
        """Go over to the dense kernel's coordinates, in which all steps have the same length."""
        self.mean = np.array(self.request.mean)
        self.scales = np.append(np.sqrt(self.request.metric[:-1]), 1.0)
        self.start = self.iterate
        self.iterate, self.scaled_anchor = (
            np.divide(array, self.scales, out=np.zeros_like(array), where=self.scales > 0.0)
            for array in (self.iterate, self.anchor)
        )

    def _close_scaled(self) -> None:
        moving = self.scales > 0.0
        self.iterate = np.where(moving, self.iterate * self.scales, self.start)
        self.average = np.where(moving, self.average * self.scales, self.start * self.n_averaged)

    def _open_tables(self, n_rows: int, own: Any) -> None:
        """Lay out what the CSR kernel needs of a coordinate side by side."""
        request, p = self.request, self.shard.blocks[0].n_features
        if isinstance(own, Survey):
            stored = own.stored
        else:
            stored = np.zeros(p)
            for block in self.shard.blocks:
                stored += np.bincount(block.X.indices, minlength=p)
        columns = np.arange(p) if request.columns is None else request.columns
        self.stored = stored[columns]
        self.place = np.zeros(p, dtype=np.int32)
        self.place[columns] = np.arange(len(columns), dtype=np.int32)
        tables = np.zeros((len(self.anchor), len(columns), 8))
        tables[:, :, sgd_sparse.ITERATE] = self.iterate[:, :-1]
        tables[:, :, sgd_sparse.ANCHOR] = self.anchor[:, :-1]
        tables[:, :, sgd_sparse.MEAN] = request.mean
        tables[:, :, sgd_sparse.METRIC] = request.metric[:-1]
        tables[:, :, sgd_sparse.OFTEN] = n_rows / np.maximum(self.stored, 1.0)
        if not request.literal:
            tables[:, :, sgd_sparse.FIXED] = self.fixed[:, :-1]
        self.tables = tables
        self.intercepts = np.stack(
            [array[:, -1] for array in (self.iterate, self.anchor, self.fixed, self.average)],
            axis=1,
        )
        self.shared = np.zeros((len(tables), 3))
        self.shared[:, sgd_sparse.FACTOR] = 1.0

    def _close_tables(self) -> None:
        sgd_sparse.settle(self.tables, self.shared, self.request.literal)
        self.iterate[:, :-1] = self.tables[:, :, sgd_sparse.ITERATE]
        self.average[:, :-1] = self.tables[:, :, sgd_sparse.AVERAGE]
        self.iterate[:, -1] = self.intercepts[:, 0]
        self.average[:, -1] = self.intercepts[:, 3]

    def _length(self) -> int:
        steps = self.request.n_steps
        return self.shard.n_rows if steps is None else steps * self.request.batch

    def _fixed(self, own: Any) -> np.ndarray:
        """Return the gradient that is added to every row's."""
        request = self.request
        if request.gradient is None:
            return np.zeros_like(self.anchor)
        if request.kind == PLAIN:
            unit = 1.0 if request.units is None else float(request.units[self.shard.number])
            node = own_gradient(own, request, self.total * unit)
            return np.zeros_like(self.anchor) if node is None else request.gradient - node
        fixed = np.array(request.gradient)
        fixed[:, :-1] += request.l2[:, None] * self.anchor[:, :-1]
        return fixed

    def run(self) -> None:
        """Visit the rows."""
        request = self.request
        seeds = np.random.SeedSequence([request.key, self.shard.number, request.epoch])
        if request.n_steps is None:
            # The first plain steps of all go a long way: they must not follow sorted rows.
            mixing = request.kind == PLAIN and request.gradient is not None
            whole = GROUP * request.batch if mixing else 0
            for block, first, order in stretches(self.shard, seeds, request.shuffle, whole):
                self._steps(block, first, order)
        else:
            for block in self._sampled(seeds):
                self._steps(block, 0, np.arange(block.n_rows))
        if self.sparse:
            self._close_tables()
        else:
            self._close_scaled()

    def _sampled(self, seeds: np.random.SeedSequence) -> Iterator[Block]:
        request = self.request
        turn = None if request.shuffle else request.epoch
        return sampled(self.shard, seeds, self._length(), request.batch, turn=turn)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the last iterate and the average of the tail."""
        mean = self.average / self.n_averaged if self.n_averaged else self.iterate
        return self.anchor + self.iterate, self.anchor + mean

    def _steps(self, block: Block, first: int, order: np.ndarray) -> None:
        request, X = self.request, block.X
        before = self.position
        group = request.batch
        if not request.literal and not self.sparse:
            group = max(1, GROUP // request.batch) * request.batch
        free = float(request.metric[-1])
        if self.sparse:
            self.position = sgd_sparse.steps(
                X.data, X.indices, X.indptr, self.place, block.y, self.column, weights_of(block),
                self.unit, order, first, self.target_mean, free, self.parameters, request.kind,
                request.literal, request.batch, self.schedule, self.intercepts, self.l2, self.l1,
                self.shared, self.tables, self.loss, self.tail, before,
            )  # fmt: skip
        else:
            self.position = sgd_dense.steps(
                X, block.y, self.column, weights_of(block), self.unit, order, first, self.mean,
                self.target_mean, self.scales[:-1], free, self.parameters, request.kind,
                request.literal, request.batch, group, self.schedule, self.fixed, self.l2, self.l1,
                self.scaled_anchor, self.iterate, self.average, self.loss, self.tail, before,
            )  # fmt: skip
        self.n_visited += len(order)
        self.n_averaged += averaged_rows(len(order), group, before, self.tail)


def averaged_rows(n_rows: int, group: int, before: int, tail: int) -> int:
    """Return how many of the next rows the kernels put into the average."""
    skipped = max(0, -(-(tail - before) // group)) * group
    return max(0, n_rows - skipped)


def own_gradient(own: Any, request: Visit, weight: float) -> np.ndarray | None:
    """Return the gradient of a node's mean loss at the point, from what it remembers."""
    chosen = slice(None) if request.columns is None else request.columns
    if isinstance(own, Survey):
        return _gradient_at_zero(
            own, request.column, request.mean, request.target_mean, request.metric, chosen
        )
    if isinstance(own, LossSums) and len(own.gradient) == len(request.point):
        slopes = own.sums[:, DUAL] * float(request.metric[-1] > 0.0)
        return -np.column_stack([own.gradient[:, chosen], slopes]) / weight
    return None


def global_gradient(survey: Survey, frame: Frame, metric: np.ndarray) -> np.ndarray:
    """Return the gradient of squared error at zero, intercept last, for every output."""
    column = np.arange(len(survey.target_mean), dtype=np.intp)
    return _gradient_at_zero(survey, column, frame.mean, frame.target_mean, metric)


def _gradient_at_zero(
    survey: Survey,
    column: np.ndarray,
    mean: np.ndarray,
    target_mean: np.ndarray,
    metric: np.ndarray,
    chosen: slice | np.ndarray = slice(None),
) -> np.ndarray:
    off = survey.target_mean[column] - target_mean
    cross = survey.cross[column][:, chosen] / survey.weight
    cross = cross + np.outer(off, survey.mean[chosen] - mean)
    return -np.column_stack([cross, off * float(metric[-1] > 0.0)])
