"""How problems end that steps along averaged directions no longer get on with.

Where rows lie at a kink of the loss, or a few of them are all that bends it, no direction that
nodes agree on leads down any more.  With few columns Newton's method goes on from there.
"""

from __future__ import annotations

import numpy as np

from dask_dml.objective.problem import Evaluation, Objective
from dask_dml.passes import evaluate as passes
from dask_dml.passes.partials import Statistics
from dask_dml.solvers.newton import NewtonStep
from dask_dml.solvers.quadratic import symmetric
from dask_dml.solvers.sgd.step_length import CorrectedStep
from dask_dml.solvers.sgd.task import Nodes, SGDTask, late

#: Numbers that the Hessians may hold.
MAX_NUMBERS = 2**18


def finish(
    nodes: Nodes, task: SGDTask, objective: Objective, stuck: dict[int, CorrectedStep]
) -> None:
    """Take stuck problems to their optimum by Newton's method, if columns are few.

    Parameters
    ----------
    nodes : Nodes
        The data.
    task : SGDTask
        Its passes and its deadline hold here, too.
    objective : Objective
        The batch.
    stuck : dict of int to CorrectedStep
        The problems by number; moved to the best points found.
    """
    p = len(objective.frame.mean)
    if len(stuck) * (p + 1) ** 2 > MAX_NUMBERS or nodes.passes + 2 > task.max_iter or late(task):
        return
    found: Statistics = nodes.map_reduce(passes.statistics, objective.units)
    step = found.mean - objective.frame.mean
    metric = symmetric(found.products) / found.weight + np.outer(step, step)
    active = {c: _newton(task, metric, one) for c, one in stuck.items()}
    while active and nodes.passes < task.max_iter and not late(task):
        answers = objective.evaluate({c: newton.query for c, newton in active.items()})
        for c, newton in list(active.items()):
            newton.tell(answers[c])
            _keep_better(stuck[c], newton.current)
            stuck[c].converged = task.tol is not None and stuck[c].reached[1] <= task.tol
            if stuck[c].converged or newton.stalled:
                del active[c]
        task.say(
            f"pass {nodes.passes}: Newton, gap {max(s.reached[1] for s in stuck.values()):.2e}"
        )


def _newton(task: SGDTask, metric: np.ndarray, step: CorrectedStep) -> NewtonStep:
    loss, point = step.problem.loss, step.anchor.point
    # About as wide as the mean residual: narrower ones are what steps were stuck at.
    residual = step.anchor.objective / loss.slope if loss.bounded_slope else 0.0
    return NewtonStep(
        step.problem,
        metric,
        point[:-1],
        float(point[-1]),
        max(residual, loss.margin, step.floor),
        fit_intercept=task.fit_intercept,
        deadline=task.deadline,
    )


def _keep_better(step: CorrectedStep, e: Evaluation) -> None:
    here = step.bounded(
        np.append(e.query.coef, e.query.intercept),
        e.value,
        np.append(e.gradient, e.intercept_gradient),
        e.objective,
        e.gap,
    )
    if here.objective <= step.anchor.objective:
        step.anchor = here
