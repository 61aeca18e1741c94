"""The choice between the two loops of stochastic gradient descent, and what goes on from there.

Where rows lie at a kink of the loss, or a few of them are all that bends it, no direction that
nodes agree on leads down any more; and without a penalty there is no bound that says how far the
optimum is.  The solvers of whole gradients go on from such an end, and prove theirs.
"""

from __future__ import annotations

from dataclasses import replace

from dask_dml.rounds.base import Rounds, regaining
from dask_dml.solvers import choose
from dask_dml.solvers.base import Limits
from dask_dml.solvers.dual.ascent_pass import forget
from dask_dml.solvers.progress import continued
from dask_dml.solvers.sgd import averaging, svrg
from dask_dml.solvers.sgd.task import End, Nodes, SGDSolution, SGDTask, late

#: Passes that the solvers of whole gradients are to have left; the first is of moments.
LEAST_PASSES = 3


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
    if not (task.corrected and task.max_iter >= fewest):
        return averaging.solve(nodes, task)
    solution = svrg.solve(nodes, task)
    left = task.max_iter - nodes.passes
    unproven = task.tol is not None and task.split is None and not all(solution.proven)
    if not unproven or left < LEAST_PASSES or late(task):
        return solution
    task.say(f"pass {nodes.passes}: steps make no more progress: whole gradients go on from there")
    return _go_on(rounds, task, solution, left - 1)


def _go_on(rounds: Rounds, task: SGDTask, solution: SGDSolution, max_iter: int) -> SGDSolution:
    """Solve the batch from where steps have ended, by what suits its loss and its size."""
    assert task.tol is not None
    regaining(rounds, lambda: rounds.update(forget), lambda: None)
    observer = continued(task.observer, solution.n_iter)
    limits = Limits(max_iter, task.tol, task.deadline, task.report, observer=observer)
    later = choose.solve(
        rounds,
        choose.Task(
            loss=task.loss,
            penalty=task.penalty,
            n_features=task.n_features,
            n_outputs=task.n_outputs,
            fit_intercept=task.fit_intercept,
            solver="auto",
            uniform=task.uniform,
            learning_rate="auto",
            eta0=task.eta0,
            power_t=task.power_t,
            momentum=0.0,
            limits=limits,
            coef=solution.coef,
            intercept=solution.intercept,
            open_local=task.open_local,
        ),
    )
    return _better(solution, later)


def _better(solution: SGDSolution, later: choose.Solution) -> SGDSolution:
    """Return the better model of each output."""
    coef, intercept, ends = solution.coef.copy(), solution.intercept.copy(), list(solution.ends)
    for c, outcome in enumerate(later.outcomes):
        if solution.proven[c]:
            continue
        if outcome.converged or outcome.objective <= ends[c].objective:
            coef[c], intercept[c] = later.coef[c], later.intercept[c]
            ends[c] = End(outcome.objective, outcome.relative_gap, outcome.converged)
        else:
            ends[c] = replace(ends[c], converged=False)
    return replace(
        solution,
        coef=coef,
        intercept=intercept,
        ends=ends,
        n_iter=solution.n_iter + 1 + max(outcome.n_iter for outcome in later.outcomes),
        curve=[*solution.curve, float(sum(end.objective for end in ends))],
        converged=all(end.converged for end in ends),
        relative_gap=max(end.relative_gap for end in ends),
    )
