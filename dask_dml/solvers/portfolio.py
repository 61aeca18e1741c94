"""What ``"auto"`` goes on to where a solver makes no more progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.progress import continued

#: Columns up to which second moments are gathered where gradients alone do not get there.
MAX_RESCUE_COLUMNS = 4000
#: Multiplications that the pass for them may take.
MAX_RESCUE_WORK = 2e11
#: Shares of ``max_iter`` that the first solver has: by gradients, and by Newton's method.
GRADIENT_SHARE, NEWTON_SHARE = 0.9, 0.8
#: Share of ``max_time`` that it has.
TIME_SHARE = 0.6


def successors(
    solver: str, loss: Loss, penalty: ElasticNet, n_rows: int, n_features: int
) -> list[str]:
    """Return the solvers that go on from where a solver of ``"auto"`` has come to a halt.

    Parameters
    ----------
    solver : str
        The one that ``"auto"`` begins with.
    loss, penalty
        Of the problem.
    n_rows, n_features : int
        Shape of the data.
    """
    if solver == "newton":
        return ["accelerated" if penalty.l1 > 0.0 else "lbfgs"]
    work = float(n_rows) * n_features**2
    affordable = n_features <= MAX_RESCUE_COLUMNS and work <= MAX_RESCUE_WORK
    return ["statistics"] if loss.quadratic and affordable and solver != "statistics" else []


def share(solver: str, limits: Limits) -> Limits:
    """Return the limits of a solver that has a successor."""
    part = NEWTON_SHARE if solver == "newton" else GRADIENT_SHARE
    now = time.monotonic()
    return replace(
        limits,
        max_iter=max(int(part * limits.max_iter), 1),
        deadline=now + TIME_SHARE * (limits.deadline - now),
    )


def hand_over(
    solver: str,
    following: Sequence[str],
    limits: Limits,
    attempt: Callable[[str, Limits, Sequence[Outcome] | None], list[Outcome]],
) -> tuple[str, list[Outcome]]:
    """Solve by one solver after the other, each from where the last one ended.

    Parameters
    ----------
    solver : str
        The first.
    following : sequence of str
        The others, in their order.
    limits : Limits
        Of all together.
    attempt : callable
        ``attempt(solver, limits, before)`` goes on from outcomes and returns new ones.

    Returns
    -------
    solver : str
        The one that the outcomes are from.
    outcomes : list of Outcome
        The best of each problem, with the iterations of all solvers.
    """
    outcomes = attempt(solver, share(solver, limits) if following else limits, None)
    for other in following:
        taken = max(outcome.n_iter for outcome in outcomes)
        left = limits.max_iter - taken
        done = all(outcome.converged for outcome in outcomes)
        if done or left < 1 or limits.late:
            break
        if limits.report is not None:
            limits.report(f"{solver} makes no more progress: {other} goes on from there")
        observer = continued(limits.observer, taken)
        later = attempt(other, replace(limits, max_iter=left, observer=observer), outcomes)
        better = [_better(old, new) for old, new in zip(outcomes, later, strict=True)]
        if any(new.objective < old.objective for old, new in zip(outcomes, later, strict=True)):
            solver = other
        outcomes = better
    return solver, outcomes


def _better(old: Outcome, new: Outcome) -> Outcome:
    """Return the better outcome, with the iterations of both."""
    if old.converged:
        return old
    taken = new if new.converged or new.objective <= old.objective else old
    if taken is new and new.objective <= old.objective:
        # The bound behind the old gap is one of the lower point, too.
        taken = replace(new, relative_gap=min(old.relative_gap, new.relative_gap))
    # What is solved at once has no beginning in its curve.
    curve = old.curve if taken is old else old.curve + (new.curve[1:] or new.curve)
    return replace(taken, n_iter=old.n_iter + new.n_iter, curve=curve)
