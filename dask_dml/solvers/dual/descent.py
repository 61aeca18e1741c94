"""Dual coordinate descent on every node, merged in one of two ways.

The squared hinge is solved so; for the hinge see `dask_dml.solvers.dual.active_set`.  The nodes'
own solutions, which other solvers start from, are found here for both.

Every node improves the dual variables of its own rows, from coefficients that all share; the
change of ``u = sum_i alpha_i y_i x_i`` that this makes is all that it sends.

*Descent* (C.-P. Lee and D. Roth, *Distributed box-constrained quadratic optimization for dual
linear SVM*, ICML 2015): the coefficients are u, nodes work as if the others stood still, and the
dual objective along the joint change is a parabola, whose best point is taken.  It never goes
uphill, whatever the number of nodes; but where rows are many, or C is large, a node trusts its
own rows so much that the sum of all changes has to be cut to almost nothing.

*Consensus* (C. Zhang, H. Lee and K. G. Shin, *Efficient distributed linear classification
algorithms via the alternating direction method of multipliers*, AISTATS 2012): the nodes agree
on coefficients z, and each is held to z by a quadratic as stiff as its own loss.  The new z is on
the way from the old one to u, and the nodes begin the next round as far beyond it as z has
moved: that is what the multipliers of the method amount to, so that nobody need keep them.

Consensus goes first; where one of them hardly closes the gap any more, the other has its turn.
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
#: Rounds of one kind before it may be given up for the other, and by how much the logarithm of
#: the gap must have fallen in these for it to go on.
TRIAL, SLOW = 8, 0.03
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
        Factor of the metric of the consensus; infinite for a descent.
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
    best : float
        The best share.
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
    best: float
    effect: np.ndarray
    rise: np.ndarray
    distance: float


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
        asked = dict(queries)
        total = regaining(
            self.rounds,
            lambda: self._update(asked, self.n_epochs),
            lambda: asked.update(self._regain(asked)),
        )
        queries = asked
        numbers = sorted(queries)
        self._rise[numbers] = np.column_stack([total.move, total.move_intercept])
        return {
            number: self._evaluation(number, queries[number], total.sums[at])
            for at, number in enumerate(numbers)
        }

    def _regain(self, queries: Mapping[int, DualQuery]) -> dict[int, DualQuery]:
        """Find out what the dual variables that are left amount to.

        A worker took the others down; they begin at zero again.
        """
        self._told = False
        total = self._update(queries, 0)
        left = dict(queries)
        for at, number in enumerate(sorted(queries)):
            self._effect[number] = np.append(total.move[at], total.move_intercept[at])
            if np.isinf(queries[number].stiffness):
                coef, intercept = total.move[at].copy(), float(total.move_intercept[at])
                left[number] = replace(queries[number], coef=coef, intercept=intercept)
        return left

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
            best=best,
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
        self._descends, self._left, self._mark = False, TRIAL, np.inf
        self._changes = 0

    def tell(self, evaluation: DualEvaluation) -> None:
        """Take the answer to ``query`` and set the next one."""
        first = not hasattr(self, "current")
        self.n_iter += 0 if first else 1
        best = evaluation if first else self._best(evaluation)
        better = first or best.bound > self.current.bound or best.objective < self.current.objective
        self._waiting = 0 if better else self._waiting + 1
        self.stalled = self._waiting > PATIENCE
        self.current = best
        descended = self._descends
        self._take_turns()
        if self._descends:
            self.query = self._descent(evaluation, evaluation.best if descended else 1.0)
        else:
            self.query = self._consensus(evaluation, descended)

    def _best(self, e: DualEvaluation) -> DualEvaluation:
        """Return the best point so far, beside the best bound: neither need improve steadily."""
        best = e if e.objective <= self.current.objective else self.current
        bound = max(e.bound, self.current.bound)
        gap = certified_gap(best.objective, bound) / bound if bound > 0.0 else np.inf
        return replace(best, bound=bound, relative_gap=gap)

    def _take_turns(self) -> None:
        """Give up consensus for descent, or the reverse, where the gap hardly closes any more."""
        gap = float(np.log(max(self.current.objective - self.current.bound, 1e-300)))
        if self.n_iter == 0:
            self._mark = gap
            return
        self._left -= 1
        if self._left > 0 or self._changes == 2:
            return
        fallen, self._mark, self._left = self._mark - gap, gap, TRIAL
        if self.current.bound > 0.0 and fallen < SLOW:
            # Whichever comes back has to begin anew: it stays.
            self._descends = not self._descends
            self._changes += 1

    def _descent(self, e: DualEvaluation, step: float) -> DualQuery:
        there = e.effect + step * e.rise
        ahead = np.zeros(len(there) - 1, np.float32)
        return DualQuery(there[:-1], float(there[-1]), ahead, 0.0, np.inf, step)

    def _consensus(self, e: DualEvaluation, descended: bool) -> DualQuery:
        if descended:
            # The multipliers are what the nodes' dual variables amount to.
            return replace(self._descent(e, e.best), stiffness=self._stiffness)
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
