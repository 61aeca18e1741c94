"""A start from a few rows: they are fetched once and solved here, while the workers rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Block, Matrix, Shard, concatenate, frozen
from dask_dml.objective.margin_evaluation import MarginObjective
from dask_dml.objective.margins import MarginProblem, MarginQuery
from dask_dml.rounds.base import Rounds
from dask_dml.solvers.base import minimise
from dask_dml.solvers.margin_columns import Columns
from dask_dml.solvers.margin_newton import SvmNewtonStep
from dask_dml.solvers.margin_task import Task

#: Rows below which a pass over all of them is as cheap as one over a sample.
MIN_ROWS = 50_000
#: Share of the rows that makes the sample, and rows for each column that it has at least.
SHARE, ROWS_PER_COLUMN = 0.015, 30
#: First width of the rounded kink: at coefficients of zero every row lies at its edge.
FIRST_WIDTH = 2.0
#: First width after a sample, relative to the distance that its optimum is from that of all rows.
START_WIDTH = 0.4
#: Largest share, and largest number of entries, of a sample that is worth fetching.
MAX_SHARE, MAX_ENTRIES = 0.2, 8_000_000

#: Where the problems begin: coefficients, intercepts, and widths of the rounded kink.
Begin = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """Rows of some shards; ``+`` puts them one after the other."""

    blocks: tuple[Block, ...]

    def __add__(self, other: Sample) -> Sample:
        return Sample(self.blocks + other.blocks)


@dataclass(frozen=True)
class SampleAsk:
    """Which rows are wanted: a share of every shard, drawn by a seed."""

    share: float
    seed: int


def take_rows(shard: Shard, ask: SampleAsk) -> Sample:
    """Return a random share of the rows of a shard, in order: one of every so many."""
    random = np.random.default_rng([ask.seed, shard.number])
    chosen = []
    for block in shard.blocks:
        n = int(np.ceil(ask.share * block.n_rows))
        rows = ((np.arange(n) + random.random(n)) * (block.n_rows / n)).astype(np.intp)
        rows = np.minimum(rows, block.n_rows - 1)
        weight = None if block.weight is None else block.weight[rows]
        chosen.append(frozen(_shortened(block.X[rows]), block.y[rows], weight, ()))
    return Sample((concatenate(chosen),))


def _shortened(X: Matrix) -> Matrix:
    """Return rows in single precision, which is enough for a start and half as much to send."""
    with np.errstate(over="ignore"):
        short = X.astype(np.float32)
    values = short.data if isinstance(short, sp.csr_array) else short
    return short if np.isfinite(values).all() else X


def sample_share(n_rows: int, n_columns: int, entries_per_row: float) -> float:
    """Return the share of the rows that makes a good start; zero where it would not pay."""
    if n_rows < MIN_ROWS:
        return 0.0
    share = max(SHARE, ROWS_PER_COLUMN * n_columns / n_rows)
    if share > MAX_SHARE or share * n_rows * entries_per_row > MAX_ENTRIES:
        return 0.0
    return share


def fetch_sample(rounds: Rounds, share: float, seed: int) -> list[Block]:
    """Return the blocks of a sample, from one round."""
    sample: Sample = rounds.map_reduce(take_rows, SampleAsk(share, seed))
    return [
        frozen(block.X.astype(np.float64), block.y, block.weight, block.origin)
        for block in sample.blocks
    ]


def worse_than_zero(
    rounds: Rounds,
    batch: list[MarginProblem],
    coef: np.ndarray,
    intercept: np.ndarray,
    columns: np.ndarray | None,
) -> list[int]:
    """Return the problems whose start is none, as where C is large; it is set to zero."""
    objective = MarginObjective(rounds, batch, columns)

    def values(points: list[MarginQuery]) -> list[float]:
        found: Any = objective.evaluate(dict(enumerate(points)))
        return [found[number].objective for number in range(len(batch))]

    zero = np.zeros(coef.shape[1])
    there = values([MarginQuery(w, float(b), 0.0) for w, b in zip(coef, intercept, strict=True)])
    nowhere = values([MarginQuery(zero, 0.0, 0.0)] * len(batch))
    worse = [n for n in range(len(batch)) if not there[n] < nowhere[n]]
    coef[worse], intercept[worse] = 0.0, 0.0
    return worse


def sample_start(
    rounds: Rounds, task: Task, batch: list[MarginProblem], columns: Columns, share: float
) -> Begin:
    """Return the solution of a sample, in which every row counts for several."""
    blocks = fetch_sample(rounds, share, task.seed)
    n_rows = sum(block.n_rows for block in blocks)
    # Closer to the sample's optimum than it is to that of all rows is of no use.
    noise = (task.n_features + 1) / n_rows
    tol = max(0.1 * noise, task.limits.tol)
    factor = sum(rounds.shard_rows) / n_rows
    smaller = [replace(p, cost=(factor * p.cost[0], factor * p.cost[1])) for p in batch]
    with task.open_local(blocks) as local:
        objective: Any = MarginObjective(local, smaller, columns.used)
        new = partial(SvmNewtonStep, deadline=task.limits.deadline)
        zero = np.zeros(task.n_features)
        steps: list[Any] = [new(p, zero, 0.0, FIRST_WIDTH, tol, n_rows) for p in smaller]
        limits = replace(task.limits, tol=tol, report=None, observer=None, max_iter=50)
        outcomes = minimise(objective, steps, limits)
    width = min(max(START_WIDTH * np.sqrt(noise), 1e-3), FIRST_WIDTH)
    return (
        np.array([outcome.coef for outcome in outcomes]),
        np.array([outcome.intercept for outcome in outcomes]),
        np.full(len(batch), width),
    )
