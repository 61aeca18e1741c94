"""Dual coordinate descent on every node, and a consensus of the nodes.

C. Zhang, H. Lee and K. G. Shin, *Efficient distributed linear classification algorithms via the
alternating direction method of multipliers*, AISTATS 2012.  The nodes agree on coefficients z.
Each solves the problem of its own rows by dual coordinate descent, held to z by a quadratic; the
change of ``u = sum_i alpha_i y_i x_i`` that this makes is all that a node sends.  The new z is
on the way from the old one to u, and the nodes begin the next round as far beyond it as z has
moved: that is what the multipliers of the method amount to, so that nobody need keep them.

Without the quadratic, a node would trust its own rows as if there were no others, and the
changes would have to be cut the more, the more rows (or the larger C) there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dask_dml.rounds.base import Rounds, StateLost
from dask_dml.svm_dual_passes import (
    ALPHA,
    DISTANCE,
    SQUARES,
    TARGET,
    DualAsk,
    DualSums,
    dual_round,
    local_solutions,
)
from dask_dml.svm_problems import MarginProblem

#: Visits of every row between two exchanges.
N_EPOCHS = 3
#: Rounds in a row without progress after which a problem is given up.
PATIENCE = 50
#: Metric of the consensus: share of the curvature that a column would have if every row counted.
CURVATURE = 0.3
#: By how much the nodes' distance from the consensus, and that which it moves, may differ before
#: the metric's factor is changed, and by what.
IMBALANCE, ADJUSTMENT = 16.0, 1.4


@dataclass(frozen=True)
class DualQuery:
    """Where a problem stands, and where the nodes are to begin.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients that have been agreed on.
    intercept : float
        Intercept likewise.
    ahead : ndarray of float32 of shape (n_features,)
        How far from there the nodes begin.
    ahead_intercept : float
        The same of the intercept.
    stiffness : float
        Factor of the metric.
    """

    coef: np.ndarray
    intercept: float
    ahead: np.ndarray
    ahead_intercept: float = 0.0
    stiffness: float = 1.0


@dataclass(frozen=True)
class DualEvaluation:
    """The answer to a `DualQuery`.

    Attributes
    ----------
    query : DualQuery
        The point.
    objective, bound : float
        Objective there, and the objective of the new dual variables.
    relative_gap : float
        Their distance relative to the bound.
    slack : float
        Zero: nothing is smoothed.
    effect : ndarray of shape (n_features,)
        ``sum_i alpha_i y_i x_i`` of the new dual variables.
    effect_intercept : float
        The intercept that belongs to it.
    move : ndarray of shape (n_features + 1,)
        Where the mean of the nodes' solutions is, seen from the point; intercept last.
    distance : float
        Mean squared distance of the nodes' solutions from the point, in the metric.
    """

    query: DualQuery
    objective: float
    bound: float
    relative_gap: float
    slack: float
    effect: np.ndarray
    effect_intercept: float
    move: np.ndarray
    distance: float


def consensus_metric(problems: list[MarginProblem], squares: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the metric by which the nodes are held to the consensus, intercept last.

    Parameters
    ----------
    problems : list of MarginProblem
        The batch.
    squares : ndarray of shape (n_features,)
        Weighted sums of squares of the columns.
    n_rows : int
        Sum of the weights, about.
    """
    cost = np.mean([np.sqrt(problem.cost[0] * problem.cost[1]) for problem in problems])
    # With as many columns as rows no node learns anything of a column that others do not know.
    share = CURVATURE * max(0.0, 1.0 - len(squares) / max(n_rows, 1))
    scaling = problems[0].scaling if not problems[0].free else 1.0
    return np.asarray(1.0 + share * cost * np.append(squares, scaling**2 * n_rows))


class DualObjective:
    """Evaluates problems of a batch, and improves their dual variables, round by round.

    Parameters
    ----------
    rounds : Rounds
        The data, and the dual variables beside it.
    problems : sequence of MarginProblem
        The batch.
    shape : ndarray of shape (n_features + 1,)
        See `consensus_metric`.
    seed : int, default=0
        Of the order of the rows.
    n_epochs : int
        Visits of every row between two exchanges.
    columns : ndarray of shape (n_occurring,) or None, default=None
        The columns of X that all coefficients are about, where many never occur: only these
        travel.  None for all.
    """

    def __init__(
        self,
        rounds: Rounds,
        problems: list[MarginProblem],
        shape: np.ndarray,
        seed: int = 0,
        n_epochs: int = N_EPOCHS,
        columns: np.ndarray | None = None,
    ) -> None:
        self.rounds = rounds
        self.problems = tuple(problems)
        self.shape = shape
        self.seed = seed
        self.n_epochs = n_epochs
        self.columns = columns
        self._told = False
        # What the dual variables of each problem amount to, intercept last.
        self._effect = np.zeros((len(problems), len(shape)))

    def evaluate(self, queries: Mapping[int, DualQuery]) -> dict[int, DualEvaluation]:
        """Answer the queries of several problems in one round."""
        while True:
            try:
                total = self._update(queries, self.n_epochs)
            except StateLost:
                self._regain(queries)
            else:
                break
        numbers = sorted(queries)
        self._effect[numbers] += np.column_stack([total.move, total.move_intercept])
        return {
            number: self._evaluation(number, queries[number], total, at)
            for at, number in enumerate(numbers)
        }

    def _regain(self, queries: Mapping[int, DualQuery]) -> None:
        """Find out what the dual variables that are left amount to.

        A worker took the others down; they begin at zero again.
        """
        self._told = False
        while True:
            try:
                total = self._update(queries, 0)
            except StateLost:
                continue
            self._effect[sorted(queries)] = np.column_stack([total.move, total.move_intercept])
            return

    def _update(self, queries: Mapping[int, DualQuery], n_epochs: int) -> DualSums:
        total: DualSums = self.rounds.update(dual_round, self._ask(queries, n_epochs))
        self._told = True
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
            ahead=np.array([query.ahead for query in asked]),
            ahead_intercept=np.array([query.ahead_intercept for query in asked]),
            stiffness=np.array([query.stiffness for query in asked]),
            shape=None if self._told else self.shape,
            n_rows=sum(self.rounds.shard_rows),
            n_epochs=n_epochs,
            seed=self.seed,
            columns=self.columns,
        )

    def local_solutions(self) -> np.ndarray:
        """Return the mean of the nodes' own solutions, from one round, intercepts last."""
        n_features = len(self.shape) - 1
        zero = DualQuery(np.zeros(n_features), 0.0, np.zeros(n_features, np.float32))
        ask = self._ask(dict.fromkeys(range(len(self.problems)), zero), self.n_epochs)
        mean: np.ndarray = self.rounds.map_reduce(local_solutions, ask)
        return mean.astype(np.float64)

    def _evaluation(
        self, number: int, query: DualQuery, total: DualSums, at: int
    ) -> DualEvaluation:
        problem, sums = self.problems[number], total.sums[at]
        objective = float(sums[TARGET]) + problem.penalty_value(query.coef, query.intercept)
        effect, effect_intercept = self._effect[number, :-1], float(self._effect[number, -1])
        linear = float(sums[ALPHA])
        quadratic = float(sums[SQUARES]) + problem.penalty_value(effect, effect_intercept)
        # The best multiple of the dual variables that is feasible.
        scale = linear / (2.0 * quadratic) if quadratic > 0.0 else 1.0
        scale = scale if problem.squared else min(scale, 1.0)
        bound = scale * linear - scale**2 * quadratic
        moved = np.append(total.move[at], total.move_intercept[at])
        ahead = np.append(query.ahead, query.ahead_intercept).astype(np.float64)
        return DualEvaluation(
            query=query,
            objective=objective,
            bound=bound,
            relative_gap=max(objective - bound, 0.0) / bound if bound > 0.0 else np.inf,
            slack=0.0,
            effect=effect.copy(),
            effect_intercept=effect_intercept,
            move=ahead + moved / (query.stiffness * self.shape),
            distance=float(sums[DISTANCE]),
        )


class DualStep:
    """Steps of one problem; see `dask_dml.solvers.base.Step`.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    shape : ndarray of shape (n_features + 1,)
        See `consensus_metric`.
    """

    def __init__(self, problem: MarginProblem, shape: np.ndarray) -> None:
        self.problem = problem
        self.shape = shape
        n_features = len(shape) - 1
        self.query = DualQuery(np.zeros(n_features), 0.0, np.zeros(n_features, np.float32))
        self.current: DualEvaluation
        self.n_iter = 0
        self.stalled = False
        self.optimality = np.inf
        # Distances in the metric are of the intercept's column's coefficient.
        unit = problem.scaling if problem.scaling > 0.0 else 1.0
        self._weights = shape * np.append(np.ones(n_features), unit**-2.0)
        self._waiting = 0

    def tell(self, evaluation: DualEvaluation) -> None:
        """Take the answer to ``query`` and set the next one."""
        e = evaluation
        first = not hasattr(self, "current")
        self.n_iter += 0 if first else 1
        best = e if first else self._best(e)
        better = first or best.relative_gap < self.current.relative_gap
        better = better or best.objective < self.current.objective
        self._waiting = 0 if better else self._waiting + 1
        self.stalled = self._waiting > PATIENCE
        self.current = best
        point = np.append(e.query.coef, e.query.intercept)
        effect = np.append(e.effect, e.effect_intercept)
        stiffness = e.query.stiffness
        step = (effect - point) / (1.0 + stiffness * self.shape)
        after = self._adjusted(e, step) if self.n_iter >= 2 else stiffness
        point, ahead = point + step, (stiffness / after) * step
        self.query = DualQuery(
            point[:-1], float(point[-1]), ahead[:-1].astype(np.float32), float(ahead[-1]), after
        )

    def _best(self, e: DualEvaluation) -> DualEvaluation:
        """Return the best point so far, beside the best bound: neither need improve steadily."""
        best = e if e.objective <= self.current.objective else self.current
        bound = max(e.bound, self.current.bound)
        gap = max(best.objective - bound, 0.0) / bound if bound > 0.0 else np.inf
        return replace(best, bound=bound, relative_gap=gap)

    def _adjusted(self, e: DualEvaluation, step: np.ndarray) -> float:
        """Return the metric's next factor.

        A soft one lets the nodes stray from the consensus, a stiff one lets it creep.
        """
        moved = float(self._weights @ step**2)
        strayed = e.distance - 2.0 * float((self._weights * e.move) @ step) + moved
        if strayed > IMBALANCE * moved:
            return e.query.stiffness * ADJUSTMENT
        if moved > IMBALANCE * strayed:
            return e.query.stiffness / ADJUSTMENT
        return e.query.stiffness
