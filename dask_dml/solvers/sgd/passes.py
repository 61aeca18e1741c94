"""Shard functions of stochastic gradient descent: what one visit of a shard does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.kernels import csr, dense, sgd_csr, sgd_dense
from dask_dml.kernels.rows import DUAL
from dask_dml.kernels.sgd_rows import PLAIN
from dask_dml.objective.problem import Frame
from dask_dml.passes import evaluate as passes
from dask_dml.passes.partials import LossSums
from dask_dml.solvers.sgd.local_steps import DenseWalk, SparseWalk, TextbookWalk, Visit, Walk
from dask_dml.solvers.sgd.node_cache import Node
from dask_dml.solvers.sgd.partials import Models, Survey
from dask_dml.solvers.sgd.row_order import total_weight, weights_of

#: Changes of more coordinates than this travel in single precision, if the largest is in its range:
#: they are small, and what is exact (the point where they lead, its gradient and objective) does
#: not depend on them.
LONG, SHORT_RANGE = 2**10, (1e-25, 1e25)


def survey(shard: Shard, units: np.ndarray | None) -> Survey:
    """Return means, spreads, tails and products with the targets of a shard's columns."""
    unit = 1.0 if units is None else float(units[shard.number])
    shifts = _shifts(shard)
    passes.check_finite(shard, shifts.dense, shifts.sparse)
    found = [_block_survey(block, unit, shifts) for block in shard.blocks]
    # What powers are taken about comes from the first rows of any block, and spoils them all.
    passes.check_finite(shard, *(part.mean for part in found), *(part.own_square for part in found))
    return passes.sum_parts(found)


@dataclass(frozen=True)
class _Shifts:
    """What powers are taken about: the same in all blocks of a node, however it is cut."""

    dense: np.ndarray
    sparse: np.ndarray
    target: np.ndarray


def _shifts(shard: Shard) -> _Shifts:
    dense_rows = [block.X for block in shard.blocks if not block.is_sparse]
    sparse_rows = [block.X for block in shard.blocks if block.is_sparse]
    nothing = np.zeros(shard.blocks[0].n_features)
    return _Shifts(
        dense.first_rows_mean(*dense_rows) if dense_rows else nothing,
        csr.full_column_shift(*sparse_rows) if sparse_rows else nothing,
        dense.first_rows_mean(*(block.y for block in shard.blocks)),
    )


def _block_survey(block: Block, unit: float, shifts: _Shifts) -> Survey:
    X, weight = block.X, weights_of(block)
    p, n_outputs = block.n_features, block.y.shape[1]
    sums, squares, fourths = np.zeros((3, p))
    cross = np.zeros((n_outputs, p))
    target_sums, target_squares = np.zeros((2, n_outputs))
    target_shift = shifts.target
    total = dense.moments(block.y, weight, unit, target_shift, target_sums, target_squares)
    if block.is_sparse:
        shift = shifts.sparse
        sgd_csr.survey(
            X.data, X.indices, X.indptr, block.y, weight, unit, shift, target_shift,
            sums, squares, fourths, cross,
        )  # fmt: skip
        stored = np.bincount(X.indices, minlength=p).astype(np.float64)
    else:
        shift = shifts.dense
        sgd_dense.survey(
            X, block.y, weight, unit, shift, target_shift, sums, squares, fourths, cross
        )
        stored = np.full(p, float(block.n_rows))
    share = 1.0 / total if total > 0.0 else 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are reported later
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


def visit(node: Node, request: Visit) -> Models:
    """Take the steps of one exchange; return what they changed, weighted by the node's rows."""
    total = sum(total_weight(block) for block in node.shard.blocks)
    if total <= 0.0:
        return Models.none(request.point.shape, request.wants)
    kind: type[Walk] = DenseWalk
    if node.sparse:
        kind = TextbookWalk if request.literal else SparseWalk
    # Zero-weight rows are visited, too: the mean weight is over all rows.
    walk = kind(node, request, _fixed(node, request, total), node.n_rows / total)
    walk.run()
    last, mean = walk.changes()
    weight = total if node.ground.units is None else float(node.unit > 0.0)
    weights = np.full(1, weight)
    if node.sparse and not request.literal:
        # What a node says of a column counts by its rows that have an entry there.
        weights = weight * node.memory.share

    def packed(values: np.ndarray, *, wanted: bool) -> np.ndarray:
        if not wanted:
            return np.empty((len(request.point), 0))
        return values if request.literal else shortened(values)

    wants = request.wants
    return Models(
        last=packed(weights * last, wanted=wants.last),
        mean=packed(weights * mean, wanted=wants.mean),
        weights=weights if wants.weights else np.empty(0),
        weight=weight,
        support=packed(weight * (request.point + last != 0.0), wanted=wants.zeros),
        loss=walk.loss / walk.n_visited * weight,
        # A copy: the room that changes lie in is used again.
        each=((weight, packed(mean.copy(), wanted=True)),) if wants.each else (),
        n_nodes=1,
        cut=walk.cut,
    )


def shortened(values: np.ndarray) -> np.ndarray:
    """Return changes, or what only directs steps, in the precision in which they travel."""
    if values.shape[1] <= LONG:
        return values
    largest = float(np.abs(values).max())
    return values.astype(np.float32) if SHORT_RANGE[0] < largest < SHORT_RANGE[1] else values


def _fixed(node: Node, request: Visit, total: float) -> np.ndarray:
    """Return the gradient that is added to every row's."""
    if request.gradient is None:
        return np.zeros(request.point.shape)
    if request.kind == PLAIN:
        own = own_gradient(node, request, total * node.unit)
        return np.zeros(request.point.shape) if own is None else request.gradient - own
    fixed = np.array(request.gradient, dtype=np.float64)
    fixed[:, :-1] += request.l2[:, None] * request.point[:, :-1]
    return fixed


def own_gradient(node: Node, request: Visit, weight: float) -> np.ndarray | None:
    """Return the gradient of a node's mean loss at the point, from what it remembers."""
    own, ground = node.memory.partial, node.ground
    if isinstance(own, Survey):
        own = own if ground.columns is None else own.take(ground.columns)
        return _gradient_at_zero(
            own, request.column, ground.mean, request.target_mean, ground.metric
        )
    if isinstance(own, LossSums) and len(own.gradient) == len(request.point):
        slopes = own.sums[:, DUAL] * float(ground.metric[-1] > 0.0)
        return -np.column_stack([own.gradient, slopes]) / weight
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
) -> np.ndarray:
    off = survey.target_mean[column] - target_mean
    cross = survey.cross[column] / survey.weight + np.outer(off, survey.mean - mean)
    return -np.column_stack([cross, off * float(metric[-1] > 0.0)])
