"""From a description of a support vector machine to coefficients: which solver, from where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dask_dml.objective.margin_evaluation import MarginObjective
from dask_dml.objective.margins import MarginProblem
from dask_dml.passes.margins import column_squares
from dask_dml.rounds.base import Rounds, regaining
from dask_dml.solvers.base import Limits, Outcome, minimise
from dask_dml.solvers.dual.active_set import ENTRIES, MergeObjective, MergeStep, rows_to_merge
from dask_dml.solvers.dual.ascent_pass import count_dual_support, forget
from dask_dml.solvers.dual.descent import DualObjective, DualStep, plan_dual
from dask_dml.solvers.dual.dual_pieces import DualPieces, dual_values
from dask_dml.solvers.dual.support import Duals, count_support
from dask_dml.solvers.interior_duals import InteriorValues, interior_values
from dask_dml.solvers.margin_columns import Columns, occurring
from dask_dml.solvers.margin_newton import (
    DENSE_COLUMNS,
    MAX_COLUMNS,
    SvmNewtonStep,
)
from dask_dml.solvers.margin_sample import (
    FIRST_WIDTH,
    Begin,
    sample_share,
    sample_start,
    worse_than_zero,
)
from dask_dml.solvers.margin_task import Solution, Task, problems
from dask_dml.solvers.margin_turns import Run, Start, Turns, take_turns, watched
from dask_dml.solvers.progress import with_model

#: First width where the coefficients of an earlier fit are a good guess.
WARM_WIDTH = 0.1
#: First width where almost the same rows have been fitted, relative to the last one there: slack
#: grows with its square, and may take most of the tolerance.
WIDER = 1.5
#: Visits of its own rows by every node for a start, and the first width after it.
LOCAL_EPOCHS, LOCAL_WIDTH = 5, 1.0
#: Rounds of consensus that may be left by its own pace: about what an interior point takes.
CONSENSUS_ROUNDS = 80
#: Least first width after another solver, and width by which rows at the margin are told.
LEAST_WIDTH, AT_MARGIN = 1e-3, 1e-6
#: The hinge begins with the dual solver where X has no more entries than this, or no more rows for
#: each column.
DUAL_ENTRIES, DUAL_ROWS = 2e5, 10
#: Columns from which the driver's work for rows that are merged, round by round, takes longer than
#: an interior point of all rows does, and entries of the Hessians of all problems that it may take.
INTERIOR_COLUMNS, INTERIOR_ENTRIES = 300, 4e7
#: Columns up to which the systems of Newton's method cost next to nothing.
FEW_COLUMNS = 100
#: Up to so many entries Newton's method begins, whose last step is exact.
TINY_ENTRIES = 1e3


def choose_solver(task: Task) -> str:
    """Return the solver that ``"auto"`` stands for; check that a named one fits.

    Raises
    ------
    ValueError
        If the named solver cannot handle the problem.
    """
    if task.solver == "dual":
        if task.l1:
            raise ValueError(
                "solver='dual' needs penalty='l2'; use solver='auto' or 'newton' with penalty='l1'."
            )
        if np.isinf(task.scaling) and not _bears_free_intercept(task):
            raise ValueError(
                "solver='dual' can leave the intercept unpenalised (intercept_scaling=None) only "
                f"with the hinge and up to {MAX_COLUMNS} columns or rows, or where all rows can be "
                "sent to the driver (fewer rows than columns); use solver='newton'."
            )
        return "dual"
    may = task.solver == "auto" and _may_hand_over(task)
    return "dual" if may and _is_for_dual(task) else "newton"


#: Between how many passes fits usually take.
USUAL_PASSES = {
    ("newton", "hinge"): (5, 100),
    ("newton", "squared_hinge"): (2, 30),
    ("dual", "hinge"): (3, 60),
    ("dual", "squared_hinge"): (3, 200),
}


def reason(task: Task, chosen: str) -> str:
    """Return in words why `choose_solver` has chosen a solver."""
    if task.solver != "auto":
        return "as you have set it"
    if not _may_hand_over(task):
        return "it is faster with this loss, penalty and intercept"
    if np.isnan(task.rows).any():
        return "the number of rows is not known, and may change this; a slow solver hands over"
    first = "few rows or many columns" if chosen == "dual" else "many rows for each column"
    return f"{first}; if it is slow, the other solver takes over"


def _may_hand_over(task: Task) -> bool:
    """Return whether solvers may take turns: those that the dual solver is good at.

    Newton's method by name does so where conjugate gradients would stand in for its systems, and
    all rows may travel.
    """
    if task.solver == "newton":
        return not task.l1 and task.n_features > MAX_COLUMNS and _all_travel(task)
    bears = np.isfinite(task.scaling) or _bears_free_intercept(task)
    good = bears and (not task.squared or task.n_features > MAX_COLUMNS)
    good |= task.squared and _all_travel(task)
    return bool(task.solver == "auto" and not task.l1 and good)


def _bears_free_intercept(task: Task) -> bool:
    """Return whether the dual solver keeps the classes' sums the same: where it solves exactly."""
    exact = min(task.n_features, float(task.rows.sum())) <= MAX_COLUMNS
    return (exact and not task.squared) or _all_travel(task)


def _all_travel(task: Task) -> bool:
    """Return whether all rows may travel to the driver, as few rows of many columns do."""
    n_rows, n_problems = float(task.rows.sum()), len(task.rows) if len(task.rows) > 2 else 1
    few = n_rows > 0.0 and task.entries * n_problems <= ENTRIES  # false where they are not known
    shape = task.n_features, task.entries, n_problems
    return few and rows_to_merge((int(n_rows),), *shape) >= n_rows


def _suits_interior_point(task: Task) -> bool:
    """Return whether rows to merge are a large share of all, and cost the driver much.

    Every merge takes an interior point of its own, whose steps cost as much as those over all rows.
    """
    if task.squared or task.l1 or not INTERIOR_COLUMNS <= task.n_features <= MAX_COLUMNS:
        return False
    n_problems = len(task.rows) if len(task.rows) > 2 else 1
    few = float(task.rows.sum()) <= DUAL_ROWS * task.n_features
    return few and n_problems * task.n_features**2 <= INTERIOR_ENTRIES and not _all_travel(task)


def _is_for_dual(task: Task) -> bool:
    """Return whether Newton's steps get short, or many: thousands of rows end up at the kink.

    A free intercept costs the dual solver a round or two more.
    """
    n_rows, n_columns = float(task.rows.sum()), task.n_features
    if n_rows * n_columns <= TINY_ENTRIES:
        return False
    if task.squared or np.isinf(task.scaling):
        # Systems of the rows are smaller then, which few columns do not notice.
        return n_rows <= n_columns > FEW_COLUMNS and _all_travel(task)
    few = task.entries <= DUAL_ENTRIES or n_rows <= DUAL_ROWS * n_columns
    return few or n_columns > MAX_COLUMNS


def solve(rounds: Rounds, task: Task) -> Solution:
    """Fit a batch of problems: one for two classes, one for each of more classes.

    Parameters
    ----------
    rounds : Rounds
        The data.
    task : Task
        What is to be fitted.
    """
    choose_solver(task)
    task, batch, columns = _prepared(rounds, task)
    observer = with_model(task.limits.observer, lambda m: (columns.spread(m[0]), m[1]))
    task = replace(task, limits=replace(task.limits, observer=observer))
    first = choose_solver(task)
    run = {"dual": _solve_dual, "newton": _solve_newton}
    if task.solver == "dual" and (task.squared or _suits_interior_point(task)):
        return _solve_dual_and_go_on(rounds, task, batch, columns)
    if not _may_hand_over(task):
        return run[first](rounds, task, batch, columns)
    second = "newton" if first == "dual" else "dual"
    turns = take_turns(
        batch,
        {name: _turn(run[name], rounds, task, columns) for name in (first, second)},
        task.limits,
    )
    return _joined(rounds, task, batch, columns, turns)


def _turn(solve: Callable[..., Solution], rounds: Rounds, task: Task, columns: Columns) -> Run:
    def run(
        batch: list[MarginProblem], start: Start | None, limits: Limits, patience: int
    ) -> Solution:
        if start is not None:
            # What the last solver keeps beside the shards is of another kind.
            regaining(rounds, lambda: rounds.update(forget), lambda: None)
        asked = replace(task, limits=limits)
        return solve(rounds, asked, batch, columns, start=start, patience=patience)

    return run


def _joined(
    rounds: Rounds, task: Task, batch: list[MarginProblem], columns: Columns, turns: Turns
) -> Solution:
    """Return the solution, which several turns may have a part in."""
    name = turns.taken[-1][0]
    # What nodes agree on is not what their dual variables amount to.
    again = name == "newton" or not task.squared or _all_travel(task)
    if turns.last is not None:
        return replace(turns.last, outcomes=turns.outcomes, turns=turns.taken, again=again)
    coef = columns.spread(np.array([outcome.coef for outcome in turns.outcomes]))
    intercept = np.array([outcome.intercept for outcome in turns.outcomes])
    duals = Duals(
        coef=coef,
        intercept=intercept,
        label=np.array([problem.label for problem in batch]),
        cost=np.array([problem.cost for problem in batch]),
        scale=np.ones((len(batch), 2)),
        parameters=np.array([problem.parameters(AT_MARGIN) for problem in batch]),
    )
    n_support = rounds.map_reduce(count_support, (duals, task.labels)).astype(np.intp)
    return Solution(
        coef, intercept, name, turns.outcomes, n_support, None, turns.taken, again=again
    )


def find_duals(rounds: Rounds, task: Task) -> DualPieces:
    """Solve again to get dual variables that the margins do not determine.

    Those of the dual solver are of the hinge only.

    Parameters
    ----------
    rounds : Rounds
        The data.
    task : Task
        What is to be fitted.
    """
    task, batch, columns = _prepared(rounds, task)
    pieces: DualPieces
    if task.solver == "newton":

        def solved() -> DualPieces:
            solution = _solve_newton(rounds, task, batch, columns)
            assert solution.duals is not None
            labels = np.array([problem.label for problem in batch])
            ask = InteriorValues(replace(solution.duals, label=labels), solution.interior)
            values: DualPieces = rounds.update(interior_values, ask)
            return values

        return regaining(rounds, solved, lambda: None)
    _, pieces = _dual_outcomes(rounds, task, batch, columns, dual_values, batch)
    return pieces.balanced() if np.isinf(task.scaling) else pieces


def _prepared(rounds: Rounds, task: Task) -> tuple[Task, list[MarginProblem], Columns]:
    batch = problems(task)
    squares = None
    if task.n_features > MAX_COLUMNS:
        squares = rounds.map_reduce(column_squares) / task.weight
    columns = occurring(squares, task.n_features, sparse=task.sparse)
    if columns.used is not None:
        # Those that do not occur would travel with every round.
        coef = None if task.coef is None else task.coef[:, columns.used]
        task = replace(task, coef=coef, n_features=len(columns.used))
    return task, batch, columns


def _solve_dual(
    rounds: Rounds,
    task: Task,
    batch: list[MarginProblem],
    columns: Columns,
    start: Start | None = None,
    patience: int | None = None,
) -> Solution:
    outcomes, n_support = _dual_outcomes(
        rounds, task, batch, columns, count_dual_support, task.labels, start, patience
    )
    return Solution(
        columns.spread(np.array([outcome.coef for outcome in outcomes])),
        np.array([outcome.intercept for outcome in outcomes]),
        "dual",
        outcomes,
        n_support.astype(np.intp),
        None,
    )


def _solve_dual_and_go_on(
    rounds: Rounds, task: Task, batch: list[MarginProblem], columns: Columns
) -> Solution:
    """Let the nodes' work be merged; where that closes the gap slowly, solve for dual variables.

    Every support vector of the squared hinge has its say, and many of the hinge's where columns are
    many.  Up to `MAX_COLUMNS` columns their dual variables are found beside them by an
    interior-point method; with more columns the support vectors travel, or products with them do.
    """

    def exactly(
        batch: list[MarginProblem], start: Start | None, limits: Limits, _: int
    ) -> Solution:
        regaining(rounds, lambda: rounds.update(forget), lambda: None)
        asked = replace(task, limits=limits)
        return _solve_newton(rounds, asked, batch, columns, start=start, inside=True)

    first = "consensus" if task.squared else "the nodes' support vectors"
    kinds = {first: _turn(_solve_dual, rounds, task, columns), "all support vectors": exactly}
    turns = take_turns(batch, kinds, task.limits, len(kinds))
    found = _joined(rounds, task, batch, columns, turns)
    # These dual variables are no function of the margins.
    again = found.again if task.squared else len(turns.taken) == 1
    return replace(found, solver="dual", duals=None, interior=(), again=again)


def _dual_outcomes(
    rounds: Rounds,
    task: Task,
    batch: list[MarginProblem],
    columns: Columns,
    finish: Callable[..., Any],
    broadcast: Any,
    start: Start | None = None,
    patience: int | None = None,
) -> tuple[list[Outcome], Any]:
    """Solve, and return what ``finish`` makes of the dual variables beside the shards, too."""
    squares = columns.squares
    if task.squared and squares is None and not _all_travel(task):
        squares = rounds.map_reduce(column_squares) / task.weight

    duals = None
    if start is not None and start.duals is not None:
        duals = replace(start.duals, label=task.labels[start.duals.label.astype(np.intp)])

    def solved() -> tuple[list[Outcome], Any]:
        objective, steps = _dual_loop(rounds, task, batch, squares, columns.used, duals)
        agreeing = task.squared and task.n_features <= MAX_COLUMNS and not _all_travel(task)
        most = CONSENSUS_ROUNDS if agreeing else np.inf
        steps = watched(steps, task.limits.tol, patience, most)
        outcomes = minimise(objective, steps, task.limits)
        return outcomes, rounds.update(finish, broadcast)

    # Dual variables that are lost after the last step leave nothing to count: all of them begin
    # anew, so that the answer is the same.
    return regaining(rounds, solved, lambda: rounds.update(forget))


def _dual_loop(
    rounds: Rounds,
    task: Task,
    batch: list[MarginProblem],
    squares: np.ndarray | None,
    used: np.ndarray | None,
    duals: Duals | None,
) -> tuple[Any, list[Any]]:
    """Return the objective and the steps; the loop takes any that suit each other."""
    if task.squared and not _all_travel(task):
        assert squares is not None
        shape = plan_dual(batch, task.weight * squares, task.weight, sum(rounds.shard_rows))
        objective = DualObjective(rounds, batch, shape, task.seed, columns=used)
        return objective, [DualStep(problem, shape) for problem in batch]
    limit = rows_to_merge(rounds.shard_rows, task.n_features, task.entries, len(batch))
    most = task.n_features if _suits_interior_point(task) else np.inf
    return MergeObjective(rounds, batch, task.seed, used, duals), [
        MergeStep(problem, task.n_features, limit, task.limits.deadline, most) for problem in batch
    ]


def _solve_newton(
    rounds: Rounds,
    task: Task,
    batch: list[MarginProblem],
    columns: Columns,
    start: Start | None = None,
    patience: int | None = None,
    inside: bool = False,
) -> Solution:
    objective: Any = MarginObjective(
        rounds, batch, columns.used, remember=task.n_features <= MAX_COLUMNS
    )
    begin = _start(rounds, task, batch, columns) if start is None else _from(start)
    n_rows, n_dense = sum(rounds.shard_rows), int(DENSE_COLUMNS / np.sqrt(len(batch)))
    new = partial(
        SvmNewtonStep,
        squares=columns.squares,
        deadline=task.limits.deadline,
        travels=_all_travel(task),
        inside=inside or (start is not None and _suits_interior_point(task)),
    )
    steps: list[Any] = [
        new(problem, w, float(b), width, task.limits.tol, n_rows, n_dense=n_dense)
        for problem, w, b, width in zip(batch, *begin, strict=True)
    ]
    outcomes = minimise(objective, watched(steps, task.limits.tol, patience), task.limits)
    ends = [step.current for step in steps]
    duals = Duals(
        coef=columns.spread(np.array([e.query.coef for e in ends])),
        intercept=np.array([e.query.intercept for e in ends]),
        label=np.array([problem.label for problem in batch]),
        cost=np.array([problem.cost for problem in batch]),
        scale=np.array([e.dual_scale for e in ends]),
        parameters=np.array(
            [p.parameters(e.query.width) for p, e in zip(batch, ends, strict=True)]
        ),
    )
    if len(batch) == 1:
        n_support = np.array(ends[0].counts)
    else:
        n_support = rounds.map_reduce(count_support, (duals, task.labels))
    # From here on classes are named by their positions.
    positions = np.searchsorted(task.labels, duals.label).astype(np.float64)
    return Solution(
        duals.coef,
        duals.intercept,
        "newton",
        outcomes,
        n_support.astype(np.intp),
        replace(duals, label=positions),
        interior=tuple(number for number, step in enumerate(steps) if step.interior),
    )


def _from(start: Start) -> Begin:
    """Return where the other solver has stopped: the closer, the narrower the window."""
    width = np.clip(np.sqrt(start.gap), LEAST_WIDTH, FIRST_WIDTH)
    return start.coef, start.intercept, width


def _start(rounds: Rounds, task: Task, batch: list[MarginProblem], columns: Columns) -> Begin:
    if task.coef is not None and task.intercept is not None:
        width = np.full(len(batch), WARM_WIDTH)
        if task.width is not None:
            width = np.clip(WIDER * task.width, LEAST_WIDTH, WARM_WIDTH)
        return task.coef, task.intercept, width
    if task.n_features > MAX_COLUMNS and not task.l1:
        shape = np.ones(task.n_features + 1)
        local = DualObjective(rounds, batch, shape, task.seed, LOCAL_EPOCHS, columns.used)
        found = local.local_solutions()
        coef = np.ascontiguousarray(found[:, :-1])
        intercept = found[:, -1] if task.scaling > 0.0 else np.zeros(len(batch))
        width = np.full(len(batch), LOCAL_WIDTH)
        if not task.squared:
            width[worse_than_zero(rounds, batch, coef, intercept, columns.used)] = FIRST_WIDTH
        return coef, intercept, width
    n_rows = sum(rounds.shard_rows)
    share = sample_share(n_rows, task.n_features, task.entries / n_rows)
    if share > 0.0 and task.n_features <= MAX_COLUMNS:
        return sample_start(rounds, task, batch, columns, share)
    zero = np.zeros((len(batch), task.n_features)), np.zeros(len(batch))
    return *zero, np.full(len(batch), FIRST_WIDTH)
