"""From a description of the fit to coefficients: which solver, from where, in which frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dask_dml.blocks import Block
from dask_dml.objective.losses import Loss
from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Frame, Objective, Problem
from dask_dml.objective.residual_interior import InteriorObjective
from dask_dml.passes import evaluate as passes
from dask_dml.passes.partials import Moments, Statistics
from dask_dml.rounds.base import Rounds
from dask_dml.solvers import statistics
from dask_dml.solvers.accelerated import AcceleratedStep
from dask_dml.solvers.base import Limits, Outcome, Scaling, Step, minimise, progress, solved
from dask_dml.solvers.few_rows import solve_few_rows, spanned_by_few
from dask_dml.solvers.gd import GDStep, largest_eigenvalue
from dask_dml.solvers.lbfgs import LBFGSStep
from dask_dml.solvers.least_norm import shortest
from dask_dml.solvers.newton import NewtonStep
from dask_dml.solvers.portfolio import hand_over, successors
from dask_dml.solvers.progress import Model, with_model

#: Columns up to which second moments are gathered: beyond, n_features**2 of work per row costs
#: more than the passes that it saves.
MAX_STATISTICS = 2000
#: Columns beyond which no solver is let make a matrix of them: it would take 2 GB.
MAX_SQUARE = 16_000
#: Numbers that the Hessians of a whole batch may hold.
MAX_HESSIAN = 2**26
#: First smoothing width where the start fits exactly, relative to the spread of the targets.
LEAST_WIDTH = 1e-2
#: Share of ``tol`` that ``"auto"`` goes on to where a pass or two more give the coefficients'
#: digits as well as the objective's.
AIM = 1e-2
#: The same for squared error by L-BFGS, which gets there by a third more passes.
LBFGS_AIM = 1e-5


@dataclass(frozen=True)
class Task:
    """What is to be fitted, and how.

    Attributes
    ----------
    loss : Loss
        Loss of the residuals.
    penalty : ElasticNet
        Penalty of every output's coefficients.
    n_features, n_outputs : int
        Columns of X and of y; every column of y is a problem.
    fit_intercept : bool
        Whether intercepts are free.
    solver : {"auto", "statistics", "newton", "lbfgs", "accelerated", "gd"}
        The method.
    uniform : bool
        Whether every node counts the same, whatever its number of rows.
    learning_rate, eta0, power_t, momentum
        Schedule of ``"gd"``.
    limits : Limits
        Stopping rules.
    random_state : RandomState or None
        Starts the power iteration.
    coef : ndarray of shape (n_outputs, n_features) or None
        Where to start; zero, or the least-squares solution, if None.
    intercept : ndarray of shape (n_outputs,) or None
        Likewise.
    open_local : callable or None
        Makes rounds over blocks of this process; ``"auto"`` needs it where rows are few.
    """

    loss: Loss
    penalty: ElasticNet
    n_features: int
    n_outputs: int
    fit_intercept: bool
    solver: str
    uniform: bool
    learning_rate: str
    eta0: float
    power_t: float
    momentum: float
    limits: Limits
    random_state: np.random.RandomState | None = None
    coef: np.ndarray | None = None
    intercept: np.ndarray | None = None
    open_local: Callable[[list[Block]], Rounds] | None = None


@dataclass(frozen=True)
class Solution:
    """Coefficients for uncentred data, and how they were found.

    Attributes
    ----------
    coef : ndarray of shape (n_outputs, n_features)
        Coefficients.
    intercept : ndarray of shape (n_outputs,)
        Intercepts.
    solver : str
        The solver that was used.
    outcomes : list of Outcome
        One per output.
    weight : float
        Sum of the sample weights; number of rows where nodes counted the same.
    """

    coef: np.ndarray
    intercept: np.ndarray
    solver: str
    outcomes: list[Outcome]
    weight: float


def choose_solver(
    solver: str,
    loss: Loss,
    penalty: ElasticNet,
    n_features: int,
    n_outputs: int,
    n_rows: float = np.inf,
    *,
    uniform: bool = False,
) -> str:
    """Return the solver that ``"auto"`` stands for; check that a named one fits.

    Where the number of rows is not known it is taken for large.

    Raises
    ------
    ValueError
        If the named solver cannot handle the loss, the penalty or the number of columns.
    """
    affordable = n_features <= MAX_STATISTICS
    if solver == "auto":
        few = penalty.l1 > 0.0 and statistics.few_rows(n_rows, n_features)
        if loss.quadratic and (affordable or few):
            return "statistics"
        if affordable and n_outputs * n_features**2 <= MAX_HESSIAN:
            return "newton"
        if spanned_by_few(loss, n_features, n_rows) and not uniform:
            return "newton"
        return "accelerated" if penalty.l1 > 0.0 else "lbfgs"
    if solver == "statistics" and not loss.quadratic:
        raise ValueError(
            "solver='statistics' needs loss='squared_error', whose optimum depends on second "
            "moments only; use solver='auto' or 'newton' for other losses."
        )
    if solver in ("statistics", "newton") and n_features > MAX_SQUARE:
        raise ValueError(
            f"solver={solver!r} works on matrices of n_features by n_features, which for "
            f"{n_features} features take {8e-9 * n_features**2:.0f} GB; use solver='auto'."
        )
    if solver == "lbfgs" and penalty.l1 > 0.0:
        raise ValueError(
            "solver='lbfgs' needs a smooth penalty, 'l2' or None; use solver='auto', 'newton' or "
            "'accelerated' with an L1 penalty."
        )
    return solver


def solve(rounds: Rounds, task: Task) -> Solution:
    """Fit a batch of problems, one per output.

    Raises
    ------
    ValueError
        If the weights sum to zero, X holds NaN or infinity, the solver does not fit the problem,
        or gradient descent diverged.
    """
    n_rows = sum(rounds.shard_rows)
    solver = choose_solver(
        task.solver,
        task.loss,
        task.penalty,
        task.n_features,
        task.n_outputs,
        n_rows,
        uniform=task.uniform,
    )
    units = _units(rounds) if task.uniform else None
    first = _moments(rounds, solver, task, units)
    if not first.weight > 0.0:
        raise ValueError(
            "The sample weights sum to zero: there is nothing to fit. Give at least one row a "
            "positive sample_weight."
        )
    whole = task
    task, first, columns = _without_unused(task, first)
    frame = Frame.of(first, centred=task.fit_intercept and solver != "gd")
    following: list[str] = []
    if task.solver == "auto" and columns is None:  # matrices are of all columns
        following = successors(solver, task.loss, task.penalty, n_rows, whole.n_features)

    def raw(model: Model) -> Model:
        return _raw_model(task, frame, columns, whole.n_features, *model)

    def turned(block: Block, n_columns: int, limits: Limits) -> Solution:
        assert task.open_local is not None
        known = replace(task, n_features=n_columns, limits=limits, coef=None, intercept=None)
        with task.open_local([block]) as local:
            return solve(local, known)

    def attempt(solver: str, limits: Limits, before: Sequence[Outcome] | None) -> list[Outcome]:
        limits = replace(limits, observer=with_model(limits.observer, raw))
        known, further = first, replace(task, limits=limits)
        if before is not None:
            further = _from(further, frame, before)
            if _needs_products(solver, task, n_rows):
                known = _moments(rounds, solver, task, units)
        objective = _objective(rounds, further, frame, units, columns)
        if _by_rows(whole, solver, n_rows):
            assert task.open_local is not None
            return solve_few_rows(objective, limits, turned, task.open_local)
        return run(solver, further, objective, known)

    solver, outcomes = hand_over(solver, following, task.limits, attempt)
    objective = _objective(rounds, task, frame, units, columns)
    return _solution(solver, objective, whole, outcomes)


def _moments(rounds: Rounds, solver: str, task: Task, units: np.ndarray | None) -> Moments:
    if not _needs_products(solver, task, sum(rounds.shard_rows)):
        return rounds.map_reduce(passes.moments, units)
    # To correct rough moments takes further passes, which cost little where rows are held.
    rough = solver == "statistics" and rounds.engine != "streaming"
    return rounds.map_reduce(passes.rough_statistics if rough else passes.statistics, units)


def _by_rows(task: Task, solver: str, n_rows: int) -> bool:
    """Return whether Newton's method works in the space of the rows."""
    few = spanned_by_few(task.loss, task.n_features, n_rows)
    return few and solver == "newton" and task.solver == "auto"


def _from(task: Task, frame: Frame, outcomes: Sequence[Outcome]) -> Task:
    """Return the task that begins where another solver has ended."""
    coef = np.array([outcome.coef for outcome in outcomes])
    raw = [frame.raw_intercept(c, o.coef, o.intercept) for c, o in enumerate(outcomes)]
    return replace(task, coef=coef, intercept=np.array(raw))


def _objective(
    rounds: Rounds,
    task: Task,
    frame: Frame,
    units: np.ndarray | None,
    columns: np.ndarray | None,
) -> Objective:
    problems = [Problem(c, task.loss, task.penalty) for c in range(task.n_outputs)]
    return InteriorObjective(
        rounds,
        problems,
        frame,
        fit_intercept=task.fit_intercept,
        units=units,
        columns=columns,
    )


def run(solver: str, task: Task, objective: Objective, first: Moments) -> list[Outcome]:
    """Solve the problems of a batch by one solver.

    Parameters
    ----------
    solver : str
        Its name.
    task : Task
        What is to be fitted, and from where.
    objective : Objective
        The batch.
    first : Moments
        The moments that the solver needs.
    """
    rounds = objective.rounds
    if solver == "statistics":
        if isinstance(first, Statistics):
            quadratic = statistics.Quadratic.of(first, centred=task.fit_intercept)
            starts = np.zeros((task.n_outputs, task.n_features)) if task.coef is None else task.coef
            outcomes = statistics.solve(rounds, quadratic, objective, starts, task.limits)
        else:
            outcomes = statistics.solve_few_rows(rounds, objective, task.limits)
        if task.limits.observer is not None:
            task.limits.observer.tell(solved(rounds.n_rounds, outcomes))
        if task.limits.report is not None:
            task.limits.report(
                progress(
                    rounds.n_rounds,
                    [outcome.objective for outcome in outcomes],
                    [outcome.relative_gap for outcome in outcomes],
                    [outcome.optimality for outcome in outcomes],
                )
            )
    else:
        limits = limits_of(solver, task)
        outcomes = minimise(objective, make_steps(solver, task, objective, first), limits)
        if not task.penalty:
            outcomes = shortest(rounds, objective, first, outcomes, task.limits)
    return outcomes


def _without_unused(task: Task, first: Moments) -> tuple[Task, Moments, np.ndarray | None]:
    """Leave out the columns that never occur, where that is most of them.

    Hashed text has 2**18 columns, of which a few thousand are used: the others would cost more
    to send and to add up than the data costs to read.  Their coefficients are zero.
    """
    used = np.flatnonzero((first.square > 0.0) | (first.mean != 0.0))
    if isinstance(first, Statistics) or len(used) > 0.7 * task.n_features:
        return task, first, None
    coef = None if task.coef is None else task.coef[:, used]
    return replace(task, coef=coef, n_features=len(used)), first.take(used), used


def _needs_products(solver: str, task: Task, n_rows: int) -> bool:
    if solver == "statistics":
        few = statistics.few_rows(n_rows, task.n_features)
        return task.n_features <= MAX_STATISTICS or not few
    if solver == "newton":
        return not _by_rows(task, solver, n_rows)
    return solver == "gd" and task.learning_rate == "auto" and task.n_features <= MAX_STATISTICS


def _units(rounds: Rounds) -> np.ndarray:
    n_shards = len(rounds.shard_rows)
    totals = rounds.map_reduce(passes.shard_weights, n_shards)
    # A node without weight has no mean, and no say.
    return np.divide(1.0, totals, out=np.zeros(n_shards), where=totals > 0.0)


def limits_of(solver: str, task: Task) -> Limits:
    """Return the stopping rules, with how far ``"auto"`` goes beyond ``tol``."""
    kink = task.loss.width == 0.0
    if task.solver != "auto" or kink or not (task.loss.quadratic or solver == "newton"):
        return task.limits
    wide_ridge = task.loss.quadratic and solver == "lbfgs"
    return replace(task.limits, aim=LBFGS_AIM if wide_ridge else AIM)


def make_steps(solver: str, task: Task, objective: Objective, first: Moments) -> list[Step]:
    """Return the steps of a solver for the problems of a batch."""
    if solver == "gd":
        return _gd_steps(task, objective, first)
    if solver == "newton":
        return _newton_steps(task, objective, first)
    frame = objective.frame
    maker = LBFGSStep if solver == "lbfgs" else AcceleratedStep
    steps: list[Step] = []
    for problem in objective.problems:
        coef, intercept = _start(task, frame, problem.column)
        width = float(frame.target_spread[problem.column])
        bend = problem.loss.curvature if not problem.loss.bounded_slope else 1.0
        scaling = Scaling(frame, bend, problem.penalty, fit_intercept=task.fit_intercept)
        steps.append(maker(problem, scaling, coef, intercept, width))
    return steps


def _newton_steps(task: Task, objective: Objective, first: Moments) -> list[Step]:
    assert isinstance(first, Statistics)
    quadratic = statistics.Quadratic.of(first, centred=task.fit_intercept)
    coefs, widths = statistics.least_squares(quadratic, objective)
    steps: list[Step] = []
    for number, problem in enumerate(objective.problems):
        coef, intercept = coefs[number], 0.0
        if task.coef is not None:
            coef, intercept = _start(task, objective.frame, problem.column)
        # An exact fit has no residuals to take a width from.
        width = max(
            float(widths[number]),
            problem.loss.margin,
            LEAST_WIDTH * float(objective.frame.target_spread[problem.column]),
        )
        steps.append(
            NewtonStep(
                problem,
                quadratic.B,
                coef,
                intercept,
                width,
                fit_intercept=task.fit_intercept,
                deadline=task.limits.deadline,
                tol=limits_of("newton", task).aim * task.limits.tol,
                n_rows=sum(objective.rounds.shard_rows),
                spread=float(objective.frame.target_spread[problem.column]),
            )
        )
    return steps


def _gd_steps(task: Task, objective: Objective, first: Moments) -> list[Step]:
    frame = objective.frame
    n_terms = frame.weight if task.uniform else 1.0
    lipschitz = 1.0
    if task.learning_rate == "auto":
        lipschitz = largest_eigenvalue(objective, first, task.random_state)
    elif task.learning_rate == "backtracking":
        lipschitz = max(float(np.max(frame.spread**2, initial=0.0)), 1.0)
    safe = task.learning_rate in ("auto", "backtracking")
    steps: list[Step] = []
    for problem in objective.problems:
        coef, intercept = _start(task, frame, problem.column)
        # With a schedule of the user's own the kink is met by its subgradient, to the letter.
        width = float(frame.target_spread[problem.column]) if safe else 0.0
        steps.append(
            GDStep(
                problem,
                coef,
                intercept,
                learning_rate=task.learning_rate,
                eta0=task.eta0,
                lipschitz=lipschitz,
                power_t=task.power_t,
                momentum=task.momentum,
                n_terms=n_terms,
                width=width,
                tol=task.limits.tol,
                spread=frame.spread,
            )
        )
    return steps


def _start(task: Task, frame: Frame, column: int) -> tuple[np.ndarray, float]:
    if task.coef is None or task.intercept is None:
        return np.zeros(task.n_features), 0.0
    coef = task.coef[column]
    if not task.fit_intercept:
        return coef, 0.0
    return coef, frame.centred_intercept(column, coef, float(task.intercept[column]))


def _raw_model(
    task: Task,
    frame: Frame,
    columns: np.ndarray | None,
    n_features: int,
    coef: np.ndarray,
    intercept: np.ndarray,
) -> Model:
    """Return a model for X as it was given, from one of centred columns that occur."""
    raw = np.zeros(len(coef))
    if task.fit_intercept:
        raw[:] = [frame.raw_intercept(c, row, intercept[c]) for c, row in enumerate(coef)]
    if columns is not None:
        whole = np.zeros((len(coef), n_features))
        whole[:, columns] = coef
        coef = whole
    return coef, raw


def _solution(solver: str, objective: Objective, task: Task, outcomes: list[Outcome]) -> Solution:
    coef, intercept = _raw_model(
        replace(task, fit_intercept=objective.fit_intercept),
        objective.frame,
        objective.columns,
        task.n_features,
        np.array([outcome.coef for outcome in outcomes]),
        np.array([outcome.intercept for outcome in outcomes]),
    )
    rows = float(sum(objective.rounds.shard_rows))
    weight = rows if task.uniform else objective.frame.weight
    return Solution(coef, intercept, solver, outcomes, weight)
