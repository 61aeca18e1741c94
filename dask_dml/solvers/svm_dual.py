"""Dual coordinate descent on every node, merged by an exact line search.

C.-P. Lee and D. Roth, *Distributed box-constrained quadratic optimization for dual linear SVM*,
ICML 2015.  Each node improves the dual variables of its own rows against a copy of the
coefficients, as if the others stood still; the changes of the coefficients are added up.  The
dual objective along the joint change is a parabola whose coefficients are a by-product, so that
the best step costs nothing, and no safe but short one is needed however many the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dask_dml.kernels import svm_dual as kernel
from dask_dml.rounds.base import Rounds, StateLost
from dask_dml.svm_dual_passes import DualAsk, DualSums, dual_round, local_solutions
from dask_dml.svm_problems import MarginProblem

#: Visits of every row between two exchanges.
N_EPOCHS = 3
#: Rounds in a row without progress after which a problem is given up.
PATIENCE = 20


@dataclass(frozen=True)
class DualQuery:
    """Where a problem stands, and how much of the last change led there.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients that belong to the dual variables.
    intercept : float
        Intercept likewise.
    step : float
        Share of the last change that is kept.
    """

    coef: np.ndarray
    intercept: float
    step: float = 0.0


@dataclass(frozen=True)
class DualEvaluation:
    """The answer to a `DualQuery`.

    Attributes
    ----------
    query : DualQuery
        The point.
    objective, bound : float
        Objective there, and the dual objective.
    relative_gap : float
        Their distance relative to the bound.
    slack : float
        Zero: nothing is smoothed.
    move : ndarray of shape (n_features,)
        Change of the coefficients that the nodes propose together.
    move_intercept : float
        Change of the intercept.
    line : ndarray of shape (3,)
        See `dask_dml.svm_dual_passes.DualSums`.
    """

    query: DualQuery
    objective: float
    bound: float
    relative_gap: float
    slack: float
    move: np.ndarray
    move_intercept: float
    line: np.ndarray


class DualObjective:
    """Evaluates problems of a batch, and improves their dual variables, round by round.

    Parameters
    ----------
    rounds : Rounds
        The data, and the dual variables beside it.
    problems : sequence of MarginProblem
        The batch.
    seed : int
        Of the order of the rows.
    sigma : float
        What a node multiplies its own changes by while it works: more than one allows for the
        others, who may be moving the same way.
    n_epochs : int
        Visits of every row between two exchanges.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that all coefficients are about, where many never occur: only these
        travel.  None for all.
    """

    def __init__(
        self,
        rounds: Rounds,
        problems: list[MarginProblem],
        seed: int = 0,
        sigma: float = 1.0,
        n_epochs: int = N_EPOCHS,
        columns: np.ndarray | None = None,
    ) -> None:
        self.rounds = rounds
        self.problems = tuple(problems)
        self.seed = seed
        self.sigma = sigma
        self.n_epochs = n_epochs
        self.columns = columns

    def evaluate(self, queries: Mapping[int, DualQuery]) -> dict[int, DualEvaluation]:
        """Answer the queries of several problems in one round."""
        while True:
            try:
                total = self._update(queries, self.n_epochs)
            except StateLost:
                queries = self._regain(queries)
            else:
                break
        return {
            number: self._evaluation(number, queries[number], total, at)
            for at, number in enumerate(sorted(queries))
        }

    def _regain(self, queries: Mapping[int, DualQuery]) -> dict[int, DualQuery]:
        """Return the points that belong to the dual variables that are left.

        A worker took the others down; they begin at zero again.
        """
        while True:
            try:
                total = self._update(queries, 0)
            except StateLost:
                continue
            return {
                number: DualQuery(total.move[at], float(total.move_intercept[at]))
                for at, number in enumerate(sorted(queries))
            }

    def _update(self, queries: Mapping[int, DualQuery], n_epochs: int) -> DualSums:
        total: DualSums = self.rounds.update(dual_round, self._ask(queries, n_epochs))
        return total

    def _ask(self, queries: Mapping[int, DualQuery], n_epochs: int) -> DualAsk:
        numbers = sorted(queries)
        asked = [queries[number] for number in numbers]
        chosen = [self.problems[number] for number in numbers]
        self.seed += 1
        return DualAsk(
            numbers=tuple(numbers),
            label=np.array([problem.label for problem in chosen]),
            cost=np.array([problem.cost for problem in chosen]),
            squared=chosen[0].squared,
            # A start need not leave the intercept free.
            scaling=1.0 if chosen[0].free else chosen[0].scaling,
            coef=np.array([query.coef for query in asked]),
            intercept=np.array([query.intercept for query in asked]),
            step=np.array([query.step for query in asked]),
            sigma=self.sigma,
            n_epochs=n_epochs,
            seed=self.seed,
            columns=self.columns,
            n_rows=sum(self.rounds.shard_rows),
        )

    def local_solutions(self, n_features: int) -> np.ndarray:
        """Return the mean of the nodes' own solutions, from one round, intercepts last."""
        zero = DualQuery(np.zeros(n_features), 0.0)
        ask = self._ask(dict.fromkeys(range(len(self.problems)), zero), self.n_epochs)
        mean: np.ndarray = self.rounds.map_reduce(local_solutions, ask)
        return mean.astype(np.float64)

    def _evaluation(
        self, number: int, query: DualQuery, total: DualSums, at: int
    ) -> DualEvaluation:
        penalty = self.problems[number].penalty_value(query.coef, query.intercept)
        sums = total.sums[at]
        objective = float(sums[kernel.TARGET]) + penalty
        bound = float(sums[kernel.ALPHA] - sums[kernel.SQUARES]) - penalty
        return DualEvaluation(
            query=query,
            objective=objective,
            bound=bound,
            relative_gap=max(objective - bound, 0.0) / bound if bound > 0.0 else np.inf,
            slack=0.0,
            move=total.move[at],
            move_intercept=float(total.move_intercept[at]),
            line=total.line[at],
        )


class DualStep:
    """Steps of one problem; see `dask_dml.solvers.base.Step`.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    n_features : int
        Columns of X.
    """

    def __init__(self, problem: MarginProblem, n_features: int) -> None:
        self.problem = problem
        self.query = DualQuery(np.zeros(n_features), 0.0)
        self.current: DualEvaluation
        self.n_iter = 0
        self.stalled = False
        self.optimality = np.inf
        self._waiting = 0

    def tell(self, evaluation: DualEvaluation) -> None:
        """Take the answer to ``query`` and set the next one."""
        self.n_iter += 1 if hasattr(self, "current") else 0
        self.current = self._best(evaluation)
        step, gain = self._line_search(evaluation)
        self._waiting = self._waiting + 1 if gain <= 1e-15 * abs(evaluation.bound) else 0
        self.stalled = self._waiting > PATIENCE
        query = evaluation.query
        self.query = DualQuery(
            query.coef + step * evaluation.move,
            query.intercept + step * evaluation.move_intercept,
            step,
        )

    def _best(self, e: DualEvaluation) -> DualEvaluation:
        """Return the best point so far, beside the newest bound: its objective need not fall."""
        best = self.current if hasattr(self, "current") else e
        best = e if e.objective <= best.objective else best
        bound = max(e.bound, self.current.bound) if hasattr(self, "current") else e.bound
        gap = max(best.objective - bound, 0.0) / bound if bound > 0.0 else np.inf
        return DualEvaluation(
            best.query, best.objective, bound, gap, 0.0, e.move, e.move_intercept, e.line
        )

    def _line_search(self, e: DualEvaluation) -> tuple[float, float]:
        """Return the best share of the change, and what it gains."""
        scaling = self.problem.scaling
        # The intercept is the product of its column's value and coefficient.
        inverse = 1.0 / scaling**2 if scaling > 0.0 else 0.0
        cross = float(e.query.coef @ e.move) + inverse * e.query.intercept * e.move_intercept
        square = float(e.move @ e.move) + inverse * e.move_intercept**2
        slope = float(e.line[0] - e.line[1]) - cross
        bend = square + 2.0 * float(e.line[2])
        step = float(slope > 0.0)
        if bend > 0.0:
            step = min(max(slope / bend, 0.0), 1.0)
        return step, step * slope - 0.5 * step**2 * bend
