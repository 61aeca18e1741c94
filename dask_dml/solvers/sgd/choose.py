"""The choice between the two loops of stochastic gradient descent."""

from __future__ import annotations

from dask_dml.rounds.base import Rounds
from dask_dml.solvers.sgd import averaging, svrg
from dask_dml.solvers.sgd.task import Nodes, SGDSolution, SGDTask


def solve(rounds: Rounds, task: SGDTask) -> SGDSolution:
    """Fit a batch of problems, one per output.

    Raises
    ------
    ValueError
        If the weights sum to zero, X holds NaN or infinity, no row is left for training or for
        validation, or the steps of a schedule diverged.
    """
    nodes = Nodes(rounds, task.split)
    # The survey; the gradient at the start, unless the survey gives it; steps, and their end.
    fewest = 3 if task.loss.quadratic and task.coef is None else 4
    if task.corrected and task.max_iter >= fewest:
        return svrg.solve(nodes, task)
    return averaging.solve(nodes, task)
