"""Dual coordinate descent on every node, and coefficients that the nodes agree on.

The squared hinge is solved so; for the hinge see `dask_dml.solvers.dual.active_set`.  The nodes'
own solutions, which other solvers start from, are found here for both.

Every node improves the dual variables of its own rows, from coefficients that all share; the
change of ``u = sum_i alpha_i y_i x_i`` that this makes is all that it sends.

*Consensus* (C. Zhang, H. Lee and K. G. Shin, *Efficient distributed linear classification
algorithms via the alternating direction method of multipliers*, AISTATS 2012): the nodes agree
on coefficients z, and each is held to z by a quadratic as stiff as its own loss.  The new z is on
the way from the old one to u, and the nodes begin the next round as far beyond it as z has
moved: that is what the multipliers of the method amount to, so that they need not be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dask_dml.objective.certificate import certified_gap
from dask_dml.objective.margins import MarginProblem
from dask_dml.rounds.base import Rounds, regaining
from dask_dml.solvers.dual.ascent_pass import (
    ALPHA,
    DISTANCE,
    RISE,
    SQUARES,
    SQUARES_FIRST,
    SQUARES_SECOND,
    TARGET,
    DualAsk,
    DualSums,
    dual_round,
    local_solutions,
)

#: Visits of every row between two exchanges.
N_EPOCHS = 3
#: Rounds in a row without progress after which a problem is given up.
PATIENCE = 100
#: Metric of the consensus: share of the curvature that a column would have if every row counted.
CURVATURE = 0.3
#: Metric where columns are as many as rows.
WIDE_STIFFNESS = 8.0
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
        Factor of the metric of the consensus.
    step : float
        Share of the last change of the dual variables that is kept.
    """

    coef: np.ndarray
    intercept: float
    ahead: np.ndarray
    ahead_intercept: float = 0.0
    stiffness: float = 1.0
    step: float = 0.0


@dataclass(frozen=True)
class DualEvaluation:
    """The answer to a `DualQuery`.

    Attributes
    ----------
    query : DualQuery
        The point.
    objective, bound : float
        Objective there, and that of the dual variables with the best share of their change.
    relative_gap : float
        Their distance relative to the bound.
    slack : float
        Zero: nothing is smoothed.
    effect, rise : ndarray of shape (n_features + 1,)
        ``sum_i alpha_i y_i x_i`` before the change, and its change; intercept last.
    distance : float
        Mean squared distance of the nodes' solutions from the point, in the metric.
    """

    query: DualQuery
    objective: float
    bound: float
    relative_gap: float
    slack: float
    effect: np.ndarray
    rise: np.ndarray
    distance: float

    @property
    def gap(self) -> float:
        """Distance of objective and bound."""
        return self.objective - self.bound


def plan_dual(
    problems: list[MarginProblem], squares: np.ndarray, weight: float, n_rows: int
) -> np.ndarray:
    """Return the metric of the consensus.

    Parameters
    ----------
    problems : list of MarginProblem
        The batch.
    squares : ndarray of shape (n_features,)
        Weighted sums of squares of the columns.
    weight : float
        Sum of the weights.
    n_rows : int
        Rows of all nodes.

    Returns
    -------
    shape : ndarray of shape (n_features + 1,)
        A diagonal, intercept last.
    """
    cost = np.mean([np.sqrt(problem.cost[0] * problem.cost[1]) for problem in problems])
    scaling = problems[0].scaling if not problems[0].free else 1.0
    bends = CURVATURE * cost * np.append(squares, scaling**2 * weight)
    # With as many columns as rows no node learns anything of a column that others do not know.
    share = max(0.0, 1.0 - len(squares) / n_rows)
    # Then what holds it is all that keeps the nodes together.
    shape: np.ndarray = WIDE_STIFFNESS + (1.0 - WIDE_STIFFNESS) * share + share * bends
    return shape


class DualObjective:
    """Evaluates problems of a batch, and improves their dual variables, round by round.

    Parameters
    ----------
    rounds : Rounds
        The data, and the dual variables beside it.
    problems : sequence of MarginProblem
        The batch.
    shape : ndarray of shape (n_features + 1,)
        See `plan_dual`.
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
        # What the dual variables of each problem, and their last change, amount to.
        self._effect, self._rise = np.zeros((2, len(problems), len(shape)))

    def evaluate(self, queries: Mapping[int, DualQuery]) -> dict[int, DualEvaluation]:
        """Answer the queries of several problems in one round."""
        for number, query in queries.items():
            self._effect[number] += query.step * self._rise[number]
        total = regaining(
            self.rounds,
            lambda: self._update(queries, self.n_epochs),
            lambda: self._regain(queries),
        )
        numbers = sorted(queries)
        self._rise[numbers] = np.column_stack([total.move, total.move_intercept])
        return {
            number: self._evaluation(number, queries[number], total.sums[at])
            for at, number in enumerate(numbers)
        }

    def _regain(self, queries: Mapping[int, DualQuery]) -> None:
        """Find out what the dual variables that are left amount to.

        A worker took the others down; they begin at zero again.
        """
        self._told = False
        total = self._update(queries, 0)
        for at, number in enumerate(sorted(queries)):
            self._effect[number] = np.append(total.move[at], total.move_intercept[at])

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
            step=np.array([query.step for query in asked]),
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

    def _evaluation(self, number: int, query: DualQuery, sums: np.ndarray) -> DualEvaluation:
        problem = self.problems[number]
        objective = float(sums[TARGET]) + problem.penalty_value(query.coef, query.intercept)
        effect, rise = self._effect[number].copy(), self._rise[number].copy()
        # The intercept is the product of its column's value and coefficient.
        unit = np.append(np.ones(len(effect) - 1), _inverse_square(problem.scaling))
        cross, square = float((unit * effect) @ rise), float((unit * rise) @ rise)
        slope = float(sums[RISE] - sums[SQUARES_FIRST]) - cross
        bend = square + 2.0 * float(sums[SQUARES_SECOND])
        best = min(max(slope / bend, 0.0), 1.0) if bend > 0.0 else float(slope > 0.0)
        bound = -np.inf
        for step in (best, 1.0):
            linear = float(sums[ALPHA] + step * sums[RISE])
            quadratic = float(
                sums[SQUARES] + step * sums[SQUARES_FIRST] + step**2 * sums[SQUARES_SECOND]
            )
            there = effect + step * rise
            quadratic += 0.5 * float((unit * there) @ there)
            # The best multiple of these that is feasible.
            scale = linear / (2.0 * quadratic) if quadratic > 0.0 else 1.0
            scale = scale if problem.squared else min(scale, 1.0)
            bound = max(bound, scale * linear - scale**2 * quadratic)
        return DualEvaluation(
            query=query,
            objective=objective,
            bound=bound,
            relative_gap=certified_gap(objective, bound) / bound if bound > 0.0 else np.inf,
            slack=0.0,
            effect=effect,
            rise=rise,
            distance=float(sums[DISTANCE]),
        )


def _inverse_square(scaling: float) -> float:
    return scaling**-2.0 if scaling > 0.0 else 0.0


class DualStep:
    """Steps of one problem; see `dask_dml.solvers.base.Step`.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    shape : ndarray of shape (n_features + 1,)
        See `plan_dual`.
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
        self._weights = shape * np.append(np.ones(n_features), _inverse_square(problem.scaling))
        self._stiffness = 1.0
        self._waiting = 0

    def tell(self, evaluation: DualEvaluation) -> None:
        """Take the answer to ``query`` and set the next one."""
        first = not hasattr(self, "current")
        self.n_iter += 0 if first else 1
        best = evaluation if first else self._best(evaluation)
        better = first or best.bound > self.current.bound or best.objective < self.current.objective
        self._waiting = 0 if better else self._waiting + 1
        self.stalled = self._waiting > PATIENCE
        self.current = best
        self.query = self._consensus(evaluation)

    def _best(self, e: DualEvaluation) -> DualEvaluation:
        """Return the best point so far, beside the best bound: neither need improve steadily."""
        best = e if e.objective <= self.current.objective else self.current
        bound = max(e.bound, self.current.bound)
        gap = certified_gap(best.objective, bound) / bound if bound > 0.0 else np.inf
        return replace(best, bound=bound, relative_gap=gap)

    def _consensus(self, e: DualEvaluation) -> DualQuery:
        point = np.append(e.query.coef, e.query.intercept)
        stiffness = self._stiffness
        step = (e.effect + e.rise - point) / (1.0 + stiffness * self.shape)
        if self.n_iter >= 2:
            self._adjust(e, step)
        point, ahead = point + step, (stiffness / self._stiffness) * step
        return DualQuery(
            point[:-1],
            float(point[-1]),
            ahead[:-1].astype(np.float32),
            float(ahead[-1]),
            self._stiffness,
            1.0,
        )

    def _adjust(self, e: DualEvaluation, step: np.ndarray) -> None:
        """Set the metric's next factor.

        A soft one lets the nodes stray from the consensus, a stiff one lets it creep.
        """
        mean = np.append(e.query.ahead, e.query.ahead_intercept)
        mean = mean + e.rise / (self._stiffness * self.shape)
        moved = float(self._weights @ step**2)
        strayed = e.distance - 2.0 * float((self._weights * mean) @ step) + moved
        if strayed > IMBALANCE * moved:
            self._stiffness *= ADJUSTMENT
        elif moved > IMBALANCE * strayed:
            self._stiffness /= ADJUSTMENT
