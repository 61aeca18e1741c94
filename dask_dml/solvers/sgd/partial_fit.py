"""One call of `partial_fit`: what it goes on from, which way, and what it leaves for the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dask_dml.solvers.sgd import averaging, stream
from dask_dml.solvers.sgd.partials import Survey
from dask_dml.solvers.sgd.stream_memory import Memory
from dask_dml.solvers.sgd.task import Nodes, SGDSolution, SGDTask

#: How much more late models count in the average over all calls: by this power of the rows seen.
POWER = 3.0
#: Distance of the targets' means, relative to their spread, from which rows are strange to a model
#: that steps lead to.
FAR_OFF = 0.5


def partial_fit(nodes: Nodes, task: SGDTask, memory: Memory) -> tuple[SGDSolution, Memory]:
    """Return the model after one pass over more rows, and what the next call goes on from.

    Parameters
    ----------
    nodes : Nodes
        The rows.
    task : SGDTask
        What is to be fitted; its coefficients are the model so far.
    memory : Memory
        What earlier calls have left.

    Raises
    ------
    ValueError
        As of `dask_dml.solvers.sgd.task.solve`.
    """
    if task.corrected and stream.suits(task.n_features, task.n_outputs, task.loss):
        solution, seen = stream.partial_fit(nodes, task, memory.seen, memory.weight)
        after = Memory(weight=seen.weight, seen=seen)
    elif task.auto and not task.average and task.local_steps is None:
        solution, after = _averaged_calls(nodes, task, memory)
    else:
        survey = memory.survey if task.auto else None
        iterate = memory.iterate if task.average else None
        solution = averaging.solve(nodes, averaging.one_pass(task), survey, iterate)
        after = Memory(
            memory.weight + solution.weight, survey=solution.survey, iterate=solution.last
        )
    solution.n_iter = 1
    if solution.strange:
        after = replace(
            after,
            strange_calls=memory.strange_calls + 1,
            strange_rows=memory.strange_rows + sum(nodes.shard_rows),
        )
    return solution, after


def _averaged_calls(nodes: Nodes, task: SGDTask, memory: Memory) -> tuple[SGDSolution, Memory]:
    """Take steps from where the last ones ended; the model is the average of the calls' ends.

    B. T. Polyak and A. B. Juditsky, *Acceleration of stochastic approximation by averaging*, SIAM
    Journal on Control and Optimization 30 (1992); the weights are those of O. Shamir and T. Zhang,
    *Stochastic gradient descent for non-smooth optimization*, ICML 2013.
    """
    mean = task.coef, task.intercept
    if memory.iterate is not None:
        task = replace(task, coef=memory.iterate[0], intercept=memory.iterate[1])
    solution = averaging.solve(nodes, averaging.one_pass(task), memory.survey)
    iterate = solution.coef, solution.intercept, 0
    n_new = solution.rows_seen - task.rows_seen
    share = min((1.0 + POWER) * n_new / (solution.rows_seen + POWER * n_new), 1.0)
    # Averages of sparse models would be less and less sparse.
    if mean[0] is not None and mean[1] is not None and task.penalty.l1 == 0.0:
        solution.coef = mean[0] + share * (solution.coef - mean[0])
        solution.intercept = mean[1] + share * (solution.intercept - mean[1])
    solution.strange = _targets_moved(memory.survey, solution.survey)
    weight = memory.weight + solution.weight
    after = Memory(weight, survey=solution.survey, iterate=iterate)
    return solution, after


def _targets_moved(before: Survey | None, after: Survey | None) -> bool:
    """Whether the targets of the last rows lie far off those before, as where rows are sorted."""
    if before is None or after is None or not after.weight > before.weight:
        return False
    share = (after.weight - before.weight) / after.weight
    moved = np.abs(after.target_mean - before.target_mean) / share
    spread = np.sqrt(np.maximum(before.target_square, 0.0) / before.weight)
    return bool(np.any(moved > FAR_OFF * spread))
