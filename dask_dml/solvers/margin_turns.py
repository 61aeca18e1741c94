"""Solvers that take turns: one that gets on slowly hands over to the other what it has found.

No solver of support vector machines is quick on every table.  Each one's gap is watched, pass by
pass: where it would take several times as many passes as so far to close it, at the pace of the
last half of them, the other has its turn.  It begins where the first has stopped, from its
coefficients or from the dual variables that belong to its margins, and has twice the patience.
The result is the best point and the best bound that any solver found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dask_dml.objective.certificate import certified_gap
from dask_dml.objective.margins import MarginProblem
from dask_dml.solvers.base import Limits, Outcome
from dask_dml.solvers.dual.support import Duals
from dask_dml.solvers.progress import Ended, continued, together_with

#: Passes, and iterations, before a solver may be told to hand over for the first time.
PATIENCE, MIN_ITER = 20, 4
#: As many passes as a solver has taken so far, times this, may be left by its own pace.
SLOW = 4.0
#: Share by which a turn has to close the gap; two in a row that do not end the fit.
PROGRESS = 0.05
#: Turns that are taken at most, unless the caller says otherwise.
MAX_TURNS = 8


@runtime_checkable
class Entering(Protocol):
    """A step that may go on by an interior-point method, whose gap falls at the end only.

    Attributes
    ----------
    interior : bool
        Whether it does.
    """

    interior: bool


class Watched:
    """A step that counts as stalled when the gap closes slowly; see `dask_dml.solvers.base.Step`.

    Parameters
    ----------
    step : Step
        The step.
    tol : float
        Relative gap that is aimed at.
    patience : int
        Passes before it may count as slow.
    most : float, default=inf
        Passes that may be left in any case: what the other solver takes.
    """

    def __init__(self, step: Any, tol: float, patience: int, most: float = np.inf) -> None:
        self.step = step
        self.tol = max(tol, 1e-12)
        self.patience = patience
        self.most = most
        self.slow = False
        self._objective, self._bound = np.inf, -np.inf
        # The logarithm of the gap, relative to the one aimed at, after every pass.
        self._left: list[float] = []

    @property
    def query(self) -> Any:
        """What is to be evaluated next."""
        return self.step.query

    @property
    def current(self) -> Any:
        """The iterate."""
        return self.step.current

    @property
    def n_iter(self) -> int:
        """Iterations so far."""
        return int(self.step.n_iter)

    @property
    def optimality(self) -> float:
        """As the step's."""
        return float(self.step.optimality)

    @property
    def stalled(self) -> bool:
        """Whether the step gets no further, or too slowly."""
        return bool(self.slow or self.step.stalled)

    def tell(self, evaluation: Any) -> None:
        """Take the answer to ``query``, and note how far it is to the aim."""
        self.step.tell(evaluation)
        e = self.step.current
        self._objective = min(self._objective, e.objective)
        self._bound = max(self._bound, e.objective - e.gap)
        left = self._objective - self._bound
        aim = self.tol * (self._bound if self._bound > 0.0 else abs(self._objective))
        self._left.append(float(np.log(max(left, 1e-300)) - np.log(max(aim, 1e-300))))
        enough = len(self._left) >= self.patience and self.n_iter >= MIN_ITER
        inside = isinstance(self.step, Entering) and self.step.interior
        self.slow = enough and not inside and self._is_slow()

    def _is_slow(self) -> bool:
        n, left = len(self._left), self._left[-1]
        pace = (self._left[n // 2] - left) / (n - 1 - n // 2)
        return left > min(SLOW * n, self.most) * pace


def watched(steps: list[Any], tol: float, patience: int | None, most: float = np.inf) -> list[Any]:
    """Return steps that are watched, unless patience has no end."""
    return steps if patience is None else [Watched(step, tol, patience, most) for step in steps]


@dataclass(frozen=True)
class Start:
    """Where a turn begins.

    Attributes
    ----------
    coef : ndarray of shape (n_problems, n_features)
        Coefficients.
    intercept : ndarray of shape (n_problems,)
        Intercepts.
    gap : ndarray of shape (n_problems,)
        Relative gaps.
    duals : Duals or None
        What makes dual variables of rows, where the last solver's have gone.
    """

    coef: np.ndarray
    intercept: np.ndarray
    gap: np.ndarray
    duals: Duals | None


#: ``run(problems, start, limits, patience)`` gives a solver a turn.
Run = Callable[[list[MarginProblem], Start | None, Limits, int], Any]


@dataclass(frozen=True)
class Turns:
    """What came of all turns.

    Attributes
    ----------
    outcomes : list of Outcome
        One per problem: the best point, and the best bound.
    last : object
        What the last turn returned, if the outcomes are all its own; otherwise None.
    taken : list of (str, int)
        The solvers in turn, and the iterations of each.
    """

    outcomes: list[Outcome]
    last: Any
    taken: list[tuple[str, int]]


def take_turns(
    batch: Sequence[MarginProblem],
    solvers: Mapping[str, Run],
    limits: Limits,
    max_turns: int = MAX_TURNS,
) -> Turns:
    """Solve a batch by solvers in turn, until each problem is solved or no solver makes progress.

    Parameters
    ----------
    batch : sequence of MarginProblem
        The problems.
    solvers : mapping of str to callable
        Who takes turns, in order.
    limits : Limits
        Of all turns together.
    max_turns : int
        Turns that are taken at most.
    """
    numbers, start, best = list(range(len(batch))), None, dict[int, Outcome]()
    own: dict[int, int] = {}
    names, taken, idle = list(solvers), list[tuple[str, int]](), 0
    for turn in range(max_turns):
        used = sum(n_iter for _, n_iter in taken)
        name = names[turn % len(names)]
        result = solvers[name](
            [batch[number] for number in numbers],
            start,
            replace(
                limits,
                max_iter=limits.max_iter - used,
                observer=continued(together_with(limits.observer, _ended(best), numbers), used),
            ),
            PATIENCE * 2**turn,
        )
        before = _most(best, numbers)
        for number, outcome in zip(numbers, result.outcomes, strict=True):
            best[number], better = joined(best.get(number), outcome, limits.tol)
            own[number] = turn if better else own[number]
        taken.append((name, max(outcome.n_iter for outcome in result.outcomes)))
        kept = [at for at, number in enumerate(numbers) if not best[number].converged]
        duals = None if result.duals is None else result.duals.take(kept)
        solved, numbers = numbers, [numbers[at] for at in kept]
        idle = 0 if _most(best, numbers) < (1.0 - PROGRESS) * before else idle + 1
        used += taken[-1][1]
        spent = limits.late or used >= limits.max_iter or turn == max_turns - 1
        if not numbers or spent or idle == len(names):
            break
        ended = [best[number] for number in numbers]
        start = Start(
            np.array([outcome.coef for outcome in ended]),
            np.array([outcome.intercept for outcome in ended]),
            np.array([outcome.relative_gap for outcome in ended]),
            duals,
        )
        if limits.report is not None:
            limits.report(
                f"{name} hands over to {names[(turn + 1) % len(names)]}: "
                f"gap {_most(best, numbers):.2e} after {used} iterations"
            )
    only = len(solved) == len(batch) and all(own[number] == turn for number in own)
    outcomes = [best[number] for number in range(len(batch))]
    return Turns(outcomes, result if only else None, taken)


def _ended(best: Mapping[int, Outcome]) -> dict[int, Ended]:
    return {
        number: Ended(one.coef, one.intercept, one.objective, one.relative_gap)
        for number, one in best.items()
    }


def _most(best: Mapping[int, Outcome], numbers: Sequence[int]) -> float:
    """Return the largest relative gap of some problems."""
    return max((best[n].relative_gap for n in numbers if n in best), default=np.inf)


def joined(before: Outcome | None, now: Outcome, tol: float) -> tuple[Outcome, bool]:
    """Return the better point with the better bound, and whether all of it is the new one's."""
    if before is None:
        return now, True
    better = now.objective <= before.objective
    bound = max(_bound(before), _bound(now))
    point = now if better else before
    gap = certified_gap(point.objective, bound) / bound if bound > 0.0 else np.inf
    whole = replace(
        point,
        relative_gap=gap,
        n_iter=before.n_iter + now.n_iter,
        converged=gap <= tol,
        curve=before.curve + now.curve[1:],
    )
    return whole, better and _bound(now) >= bound


def _bound(outcome: Outcome) -> float:
    """Return the lower bound behind a relative gap; zero where there is none."""
    return outcome.objective / (1.0 + outcome.relative_gap)
