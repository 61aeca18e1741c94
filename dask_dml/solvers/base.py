"""The one loop: rounds, stopping rules, time limit, history and messages of every solver.

A solver is a class of *steps* for one problem.  A step says what it wants to know next (its
``query``) and is told the answer; it never sees the data.  The loop asks for all problems of the
batch in one pass and lets those leave that are done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dask_dml.objective.penalties import ElasticNet
from dask_dml.objective.problem import Evaluation, Frame, Objective, Problem
from dask_dml.solvers.progress import Observer, Progress


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Attributes
    ----------
    max_iter : int
        Iterations of one problem.
    tol : float
        Relative duality gap, or relative optimality where no gap exists.
    deadline : float
        `time.monotonic` value after which no further iteration begins.
    report : callable or None
        Called with one line of text per round.
    aim : float
        Share of ``tol`` to go on to, where passes are few; what meets ``tol`` has converged.
    observer : Observer or None
        Told of every round; may end the fit.
    """

    max_iter: int
    tol: float
    deadline: float = math.inf
    report: Callable[[str], None] | None = None
    aim: float = 1.0
    observer: Observer | None = None

    @property
    def late(self) -> bool:
        """Whether no further iteration may begin: time is up, or the observer has said so."""
        asked = self.observer is not None and self.observer.stopped
        return asked or time.monotonic() > self.deadline


class Step(Protocol):
    """One problem's side of the loop.

    Attributes
    ----------
    query : Query
        What is to be evaluated in the next round.
    current : Evaluation
        The iterate that the step stands at, once it has been told one.
    n_iter : int
        Iterations so far; an evaluation that only rejects a trial is none.
    stalled : bool
        Set when no further progress is possible.
    optimality : float
        Size of the gradient step that is left, relative to the first; the stopping rule where
        there is no duality gap.
    """

    query: Any
    current: Evaluation
    n_iter: int
    stalled: bool
    optimality: float

    def tell(self, evaluation: Any) -> None:
        """Take the answer to ``query`` and set the next one."""
        ...


@runtime_checkable
class Aiming(Protocol):
    """A step that knows by itself how far to go on.

    Attributes
    ----------
    aim : float
        Share of the tolerance to go on to, where that costs little.
    """

    aim: float


@dataclass(frozen=True)
class Outcome:
    """Where one problem ended.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients.
    intercept : float
        Intercept relative to the means of the frame.
    objective : float
        Objective reached.
    relative_gap : float
        Relative duality gap reached; infinite where none exists.
    optimality : float
        Relative optimality reached.
    n_iter : int
        Iterations.
    converged : bool
        Whether the tolerance was met.
    curve : list of float
        Objective at the start and after every iteration.
    """

    coef: np.ndarray
    intercept: float
    objective: float
    relative_gap: float
    optimality: float
    n_iter: int
    converged: bool
    curve: list[float]


def minimise(objective: Objective, steps: Sequence[Step], limits: Limits) -> list[Outcome]:
    """Run the steps of all problems, a pass over the data per round, until each is done.

    Parameters
    ----------
    objective : Objective
        Evaluates the queries.
    steps : sequence of Step
        One per problem of the objective, in its order.
    limits : Limits
        Stopping rules.

    Returns
    -------
    outcomes : list of Outcome
        One per problem.
    """
    outcomes: dict[int, Outcome] = {}
    curves: dict[int, list[float]] = {number: [] for number in range(len(steps))}
    active = dict(enumerate(steps))
    n_rounds = 0
    while active:
        answers = objective.evaluate({number: step.query for number, step in active.items()})
        n_rounds += 1
        for number, step in active.items():
            before = step.n_iter
            step.tell(answers[number])
            if step.n_iter > before or not curves[number]:
                curves[number].append(step.current.objective)
        _tell(objective.rounds.n_rounds, steps, limits.observer)
        late = limits.late or n_rounds > 20 * (limits.max_iter + 1)
        for number, step in list(active.items()):
            penalty = objective.problems[number].penalty
            aim = min(limits.aim, step.aim if isinstance(step, Aiming) else 1.0)
            done = met(step, penalty, aim * limits.tol)
            if done or late or step.stalled or step.n_iter >= limits.max_iter:
                enough = done or met(step, penalty, limits.tol)
                outcomes[number] = _outcome(step, enough, curves[number])
                del active[number]
        if limits.report is not None:
            limits.report(_line(n_rounds, steps))
    return [outcomes[number] for number in range(len(steps))]


def _tell(n_rounds: int, steps: Sequence[Step], observer: Observer | None) -> None:
    if observer is None:
        return

    def model() -> tuple[np.ndarray, np.ndarray]:
        queries = [step.current.query for step in steps]
        return np.array([q.coef for q in queries]), np.array([q.intercept for q in queries])

    observer.tell(
        Progress(
            n_rounds=n_rounds,
            n_iter=max(step.n_iter for step in steps),
            objective=float(sum(step.current.objective for step in steps)),
            relative_gap=float(max(step.current.relative_gap for step in steps)),
            optimality=float(max(step.optimality for step in steps)),
            model=model,
        )
    )


def solved(n_rounds: int, outcomes: Sequence[Outcome]) -> Progress:
    """Return the progress of a fit that was solved at once."""

    def model() -> tuple[np.ndarray, np.ndarray]:
        return np.array([o.coef for o in outcomes]), np.array([o.intercept for o in outcomes])

    return Progress(
        n_rounds=n_rounds,
        n_iter=max(outcome.n_iter for outcome in outcomes),
        objective=float(sum(outcome.objective for outcome in outcomes)),
        relative_gap=float(max(outcome.relative_gap for outcome in outcomes)),
        optimality=float(max(outcome.optimality for outcome in outcomes)),
        model=model,
    )


def met(step: Step, penalty: ElasticNet, tol: float) -> bool:
    """Return whether a step has solved its problem."""
    evaluation = step.current
    if evaluation.relative_gap <= tol:
        return True
    if penalty:
        return False
    # No penalty, no bound: what is left is the size of the gradient, and the price of smoothing.
    return step.optimality <= tol and evaluation.slack <= tol * max(
        evaluation.objective, evaluation.floor
    )


def _outcome(step: Step, converged: bool, curve: list[float]) -> Outcome:
    e = step.current
    if not (np.isfinite(e.query.coef).all() and np.isfinite(e.query.intercept)):
        raise RuntimeError(
            "internal error: a solver ended at coefficients that are not finite; please report it "
            "with the data's shape and the parameters"
        )
    return Outcome(
        coef=e.query.coef,
        intercept=e.query.intercept,
        objective=e.objective,
        relative_gap=e.relative_gap,
        optimality=step.optimality,
        n_iter=step.n_iter,
        converged=converged,
        curve=curve,
    )


def _line(n_rounds: int, steps: Sequence[Step]) -> str:
    return progress(
        n_rounds,
        [step.current.objective for step in steps],
        [step.current.relative_gap for step in steps],
        [step.optimality for step in steps],
    )


def progress(
    n_rounds: int,
    objectives: Sequence[float],
    gaps: Sequence[float],
    optimalities: Sequence[float],
) -> str:
    """Return a line about where all problems stand."""
    gap = max(gaps)
    left = f"gap {gap:.2e}" if np.isfinite(gap) else f"optimality {max(optimalities):.2e}"
    return f"round {n_rounds}: objective {sum(objectives):.10g}, {left}"


class Continuation:
    """Takes the smoothing width down as the smoothed problem gets solved.

    Parameters
    ----------
    target : float
        Width of the loss proper; zero for a kink.
    start : float
        First width.
    factor : float, default=0.2
        What the width is multiplied by.
    """

    def __init__(self, target: float, start: float, factor: float = 0.2) -> None:
        self.target = target
        self.factor = factor
        self.width = max(target, start) if np.isfinite(target) else target
        self._least = 1e-13 * self.width

    @property
    def done(self) -> bool:
        """Whether no smaller width is left."""
        return self.width <= max(self.target, self._least)

    def narrow(self, left: float, slack: float) -> bool:
        """Take the width down if what is left to gain is less than what the width costs."""
        if self.done or left > slack:
            return False
        self.width = max(self.target, self.factor * self.width)
        return True


def left_to_gain(e: Evaluation, norm: float) -> float:
    """Return how far the smoothed problem is from its optimum, about.

    Where there is no duality gap, the gradient's ``norm`` in scaled coordinates and the loss's
    curvature tell; the factor allows for directions that bend far less than that, as there are
    where few rows lie near a kink.
    """
    if np.isfinite(e.gap):
        return e.gap - e.slack
    return 1e5 * norm**2 / e.curvature if e.curvature > 0.0 else np.inf


def relative_optimality(
    problem: Problem, e: Evaluation, norm: float, first: tuple[float, float]
) -> float:
    """Return the stopping measure of problems without a duality gap.

    The gradient's norm relative to its start, both per root of the objective: where the loss can
    be brought to zero, gradients vanish with it, and only their angle to the residuals tells (the
    rule of D. Fong and M. Saunders, *LSMR: an iterative algorithm for sparse least-squares
    problems*, SIAM J. Sci. Comput. 2011).  Near a kink gradients jump, and what is left to gain,
    relative to the objective, takes their place.

    Parameters
    ----------
    problem : Problem
        Of which.
    e : Evaluation
        At the iterate.
    norm : float
        Norm of the gradient there, in scaled coordinates.
    first : tuple of float
        Norm and objective at the start.
    """
    if problem.loss.bounded_slope:
        return left_to_gain(e, norm) / max(e.objective, e.floor, 1e-300)
    first_norm, first_objective = first
    if not (first_norm > 0.0 and first_objective > 0.0):
        return 0.0
    share = min(max(e.objective, e.floor) / first_objective, 1.0)
    return norm / (first_norm * math.sqrt(share)) if share > 0.0 else 0.0


class Scaling:
    """Coordinates in which columns of very different size look alike.

    Parameters
    ----------
    frame : Frame
        Spread of the columns.
    curvature : float
        Curvature of the loss.
    penalty : ElasticNet
        Its L2 part adds to the curvature of every coordinate.
    fit_intercept : bool
        Whether the last coordinate is an intercept.
    """

    def __init__(
        self, frame: Frame, curvature: float, penalty: ElasticNet, *, fit_intercept: bool
    ) -> None:
        diagonal = curvature * frame.spread**2 + penalty.l2
        self.scale = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
        self.curvature = curvature
        self.intercept_scale = math.sqrt(curvature)
        self.fit_intercept = fit_intercept

    def pack(self, coef: np.ndarray, intercept: float) -> np.ndarray:
        """Return scaled coordinates, intercept last."""
        return np.append(coef * self.scale, intercept * self.intercept_scale)

    def unpack(self, v: np.ndarray) -> tuple[np.ndarray, float]:
        """Return coefficients and intercept."""
        return v[:-1] / self.scale, float(v[-1] / self.intercept_scale)

    def gradient(self, gradient: np.ndarray, intercept_gradient: float) -> np.ndarray:
        """Return the gradient with respect to the scaled coordinates."""
        return np.append(gradient / self.scale, intercept_gradient / self.intercept_scale)
