"""One node's steps between two exchanges, over dense rows and over CSR rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import numpy as np

from dask_dml.blocks import Block
from dask_dml.derived import derived
from dask_dml.kernels import sgd_csr, sgd_dense
from dask_dml.kernels.sgd_rows import CORRECTED, ETA0, GROUP, PLAIN
from dask_dml.solvers.sgd.node_cache import Ground, Node
from dask_dml.solvers.sgd.row_order import sampled, stretches, weights_of


@dataclass(frozen=True)
class Wants:
    """What nodes report: changes to the last iterate and to the mean one, zeros, one by one.

    And the weights of what they say, which stay the same throughout a fit.
    """

    last: bool = False
    mean: bool = False
    zeros: bool = False
    each: bool = False
    weights: bool = True


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
    wants : Wants
        What the nodes are to report.
    seconds : float, default=inf
        Time after which a node takes no further slice of rows.
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
    batch: int
    n_steps: int | None
    shuffle: bool
    key: int
    epoch: int
    rows_before: int
    tail: float
    wants: Wants
    # No part of the question that a visit answers: a visit that is cut is not written down.
    seconds: float = field(default=np.inf, compare=False)


class Walk:
    """The state of one node's iterate during a visit.

    Parameters
    ----------
    node : Node
        The node.
    request : Visit
        What it is to do.
    fixed : ndarray of shape (n_problems, n_features + 1)
        Gradient that is added to every row's.
    unit : float
        Factor on the weights that makes their mean one.

    Attributes
    ----------
    cut : bool
        Whether time was over before all rows were visited.
    """

    def __init__(self, node: Node, request: Visit, fixed: np.ndarray, unit: float) -> None:
        self.node, self.request, self.fixed, self.unit = node, request, fixed, unit
        self.shard, self.ground = node.shard, node.ground
        # Corrected steps are taken relative to the point, their anchor.
        self.plain = request.kind == PLAIN
        self.point = request.point
        self.loss = np.zeros(len(self.point))
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
        before = request.rows_before + request.epoch * self._length()
        self.position = before
        self.tail = before + int(request.tail * self._length())
        self.n_visited = 0
        self.n_averaged = 0
        self.cut = False

    def _length(self) -> int:
        steps = self.request.n_steps
        return self.shard.n_rows if steps is None else steps * self.request.batch

    @property
    def group(self) -> int:
        """Rows after which iterates are counted."""
        return self.request.batch

    def run(self) -> None:
        """Visit the rows, for as long as there is time."""
        request = self.request
        deadline = monotonic() + request.seconds
        seeds = np.random.SeedSequence([request.key, self.shard.number, request.epoch])
        for block, first, order in self._rows(seeds):
            # Some rows are always visited: a node that has seen none has nothing to say.
            if self.n_visited and monotonic() > deadline:
                self.cut = True
                return
            before = self.position
            self._steps(block, first, order)
            self.n_visited += len(order)
            self.n_averaged += averaged_rows(len(order), self.group, before, self.tail)

    def _rows(self, seeds: np.random.SeedSequence) -> Iterator[tuple[Block, int, np.ndarray]]:
        request = self.request
        if request.n_steps is None:
            # The first plain steps of all go a long way: they must not follow sorted rows.
            mixing = request.kind == PLAIN and request.gradient is not None
            whole = GROUP * request.batch if mixing else 0
            yield from stretches(self.shard, seeds, request.shuffle, whole)
            return
        turn = None if request.shuffle else request.epoch
        for block in sampled(self.shard, seeds, self._length(), request.batch, turn=turn):
            yield block, 0, np.arange(block.n_rows)

    def _steps(self, block: Block, first: int, order: np.ndarray) -> None:
        raise NotImplementedError

    def changes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how far the last iterate, and the average of the tail, are from the point."""
        raise NotImplementedError

    def _averaged(self, last: np.ndarray, total: np.ndarray) -> np.ndarray:
        return total / self.n_averaged if self.n_averaged else last


class DenseWalk(Walk):
    """Steps over dense rows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # In the kernel's coordinates all steps have the same length.
        self.mean = self.ground.mean
        self.scales = np.append(np.sqrt(self.ground.metric[:-1]), 1.0)
        scaled, zero = np.zeros(self.point.shape), np.zeros(self.point.shape)
        np.divide(self.point, self.scales, out=scaled, where=self.scales > 0.0)
        self.iterate, self.scaled_anchor = (scaled, zero) if self.plain else (zero, scaled)
        self.average = np.zeros_like(self.iterate)

    @property
    def group(self) -> int:
        """Rows after which iterates are counted, and what is the same for every row is applied."""
        batch = self.request.batch
        return batch if self.request.literal else max(1, GROUP // batch) * batch

    def _steps(self, block: Block, first: int, order: np.ndarray) -> None:
        request = self.request
        self.position = sgd_dense.steps(
            block.X, block.y, self.column, weights_of(block), self.unit, order, first, self.mean,
            self.target_mean, self.scales[:-1], float(self.ground.metric[-1]), self.parameters,
            request.kind, request.literal, request.batch, self.group, self.schedule, self.fixed,
            self.l2, self.l1, self.scaled_anchor, self.iterate, self.average, self.loss,
            self.tail, self.position,
        )  # fmt: skip

    def changes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how far the last iterate, and the average of the tail, are from the point."""
        average = self._averaged(self.iterate, self.average)
        start = self.point * (self.scales > 0.0) if self.plain else 0.0
        return self.iterate * self.scales - start, average * self.scales - start


class SparseWalk(Walk):
    """Limited steps over CSR rows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        ground, memory = self.ground, self.node.memory
        self.free = float(ground.metric[-1])
        self.lengths = np.array(self.schedule[:, ETA0])
        thresholds = bool(np.any(self.l1))
        whole = not self.plain or thresholds or any(map(np.any, (self.fixed, ground.mean)))
        raw = self.request.kind != CORRECTED and not thresholds and not np.any(ground.mean)
        self.lean, self.thresholds = raw, thresholds
        shape = len(self.point), len(ground.mean), 8 if whole else 4
        self.tables = memory.scratch.room("tables", shape)
        # One kind of array for the kernel: what has travelled is read-only, and may be short.
        self.point = np.asarray(self.point, dtype=np.float64).view()
        self.point.flags.writeable = False
        sgd_csr.fill(
            self.tables, self.point, self.plain, self.fixed, ground.metric, ground.mean,
            memory.share, self.lengths, self.l2, self.l1,
        )  # fmt: skip
        nothing = np.zeros(len(self.point))
        last = self.point[:, -1]
        start, anchor = (last, nothing) if self.plain else (nothing, last)
        self.intercepts = np.stack([start, anchor, self.fixed[:, -1], nothing], axis=1)

    def _steps(self, block: Block, first: int, order: np.ndarray) -> None:
        request, X = self.request, block.X
        self.position = sgd_csr.steps(
            X.data, X.indices, X.indptr, self._norms(block), block.y, self.column,
            weights_of(block), self.unit, order, first, self.target_mean, self.free,
            self.parameters, request.kind, request.batch, self.lengths, self.intercepts,
            self.lean, self.thresholds, self.tables, self.loss, self.tail, self.position,
            self.n_averaged,
        )  # fmt: skip

    def _norms(self, block: Block) -> np.ndarray:
        return derived(block, ("norms", self.ground.token), partial(row_norms, block, self.ground))

    def changes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how far the last iterate, and the average of the tail, are from the point."""
        scratch = self.node.memory.scratch
        last, mean = (scratch.room(name, self.point.shape) for name in ("last", "mean"))
        sgd_csr.harvest(self.tables, self.point, self.plain, self.n_averaged, last, mean)
        iterate, _, _, total = self.intercepts.T
        start = self.point[:, -1] if self.plain else 0.0
        last[:, -1] = iterate - start
        mean[:, -1] = self._averaged(iterate, total) - start
        return last, mean


class TextbookWalk(Walk):
    """Steps of scikit-learn's schedules over CSR rows."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        n_problems, width = self.point.shape
        shape = n_problems, width - 1, 4
        self.tables = self.node.memory.scratch.room("tables", shape)
        self.tables[...] = 0.0
        self.tables[..., sgd_csr.ITERATE] = self.point[:, :-1]
        self.intercepts = np.stack([self.point[:, -1], np.zeros(n_problems)], axis=1)
        self.shared = np.zeros((n_problems, 3))
        self.shared[:, sgd_csr.FACTOR] = 1.0

    def _steps(self, block: Block, first: int, order: np.ndarray) -> None:
        X = block.X
        self.position = sgd_csr.textbook_steps(
            X.data, X.indices, X.indptr, block.y, self.column, weights_of(block), self.unit,
            order, first, float(self.ground.metric[-1]), self.parameters, self.request.batch,
            self.schedule, self.intercepts, self.l2, self.l1, self.shared, self.tables,
            self.loss, self.tail, self.position,
        )  # fmt: skip

    def changes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how far the last iterate, and the average of the tail, are from the point."""
        sgd_csr.settle(self.tables, self.shared)
        table = self.tables
        last, total = (
            np.column_stack([table[..., number], self.intercepts[:, at]])
            for at, number in enumerate((sgd_csr.ITERATE, sgd_csr.AVERAGE))
        )
        return last - self.point, self._averaged(last, total) - self.point


def row_norms(block: Block, ground: Ground) -> np.ndarray:
    """Return the squared norms of a CSR block's rows in the metric of the steps."""
    X, norms = block.X, np.empty(block.n_rows)
    sgd_csr.row_norms(X.data, X.indices, X.indptr, ground.metric, ground.mean, norms)
    return norms


def averaged_rows(n_rows: int, group: int, before: int, tail: int) -> int:
    """Return how many of the next rows the kernels put into the average."""
    skipped = max(0, -(-(tail - before) // group)) * group
    return max(0, n_rows - skipped)
