"""Streams of few columns: the model of all rows seen, from the parabolas that are kept of them.

With squared error the second moments of all rows seen say all that there is to say of them: every
call ends at their optimum (recursive least squares).  With another loss each call adds its rows'
parabola about the model, and goes to the minimum of the sum of all calls' parabolas: L. Luo and
P. X.-K. Song, *Renewable estimation and incremental inference in generalized linear models with
streaming data sets*, Journal of the Royal Statistical Society B 82 (2020); J. Mairal, *Stochastic
majorization-minimization algorithms for large-scale optimization*, NeurIPS 2013.  Nothing is
forgotten, whatever order the rows come in, and parabolas about the first, poor models count the
less the more calls have been made.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dask_dml.objective.losses import Loss
from dask_dml.passes import evaluate as passes
from dask_dml.passes.partials import Statistics
from dask_dml.solvers.quadratic import minimise_quadratic, solve_smooth, symmetric
from dask_dml.solvers.sgd.stream_memory import Parabola, Seen
from dask_dml.solvers.sgd.stream_pass import Expansion, ExpansionPoint, expansion
from dask_dml.solvers.sgd.task import NO_WEIGHT_MESSAGE, Nodes, SGDSolution, SGDTask

#: Numbers that a stream's parabolas may hold: two megabytes.
MAX_NUMBERS = 2**18
#: Share of the parabolas above the loss in the curvature.
ABOVE = 0.1
#: The square of the mean root of a normal variable's size, relative to its standard deviation.
NORMAL_ROOT = 0.676
#: How far about a kink rows count at least, relative to the targets' spread.
LEAST_WIDTH = 1e-6
#: Expansions of the first call, and the share of the objective that one must gain for another.
FIRST_TRIALS, ENOUGH = 8, 1e-3
#: Rows seen per coordinate before new ones can be strange, and the ratio of their mean loss to the
#: usual one from which they are.
JUDGED, STRANGE = 10, 1.5
#: Share of the largest eigenvalue below which the first model ignores a direction.
HARDLY = 1e-10


def suits(n_features: int, n_outputs: int, loss: Loss) -> bool:
    """Return whether the columns are so few that parabolas are kept."""
    n_parabolas = 1 if loss.quadratic else n_outputs
    return n_parabolas * (n_features + 1) ** 2 <= MAX_NUMBERS


def partial_fit(
    nodes: Nodes, task: SGDTask, seen: Seen | None, weight: float
) -> tuple[SGDSolution, Seen]:
    """Return the model of all rows seen, those of the nodes included.

    Parameters
    ----------
    nodes : Nodes
        More rows.
    task : SGDTask
        What is to be fitted; its coefficients are the model so far.
    seen : Seen or None
        What is kept of the rows seen, if anything is.
    weight : float
        Weight of the rows that nothing but the model is kept of (those of `fit`).  They count as
        if their second moments were those of the next rows.

    Raises
    ------
    ValueError
        If the weights sum to zero, or X holds NaN or infinity.
    """
    if seen is not None:
        alike = (seen.loss, seen.centred) == (task.loss, task.fit_intercept)
        weight = 0.0 if alike else seen.weight
        seen = seen if alike else None
    units = nodes.units() if task.uniform else None
    found = None
    if seen is None or task.loss.quadratic:
        found = nodes.rounds.map_reduce(passes.statistics, units)
        if not found.weight > 0.0:
            raise ValueError(NO_WEIGHT_MESSAGE)
        seen = seen or Seen.nothing(found, task.loss, centred=task.fit_intercept)
    assert seen is not None
    return _Call(nodes, task, seen, units).run(found, weight)


class _Call:
    """One call: where it starts, what its rows say there, and where that leads."""

    def __init__(self, nodes: Nodes, task: SGDTask, seen: Seen, units: np.ndarray | None) -> None:
        self.nodes, self.task, self.seen, self.units = nodes, task, seen, units
        p = task.n_features
        self.l1, self.l2 = np.full(p + 1, task.penalty.l1), np.full(p + 1, task.penalty.l2)
        self.l1[p] = self.l2[p] = 0.0
        self.start = np.zeros((task.n_outputs, p + 1))
        if task.coef is not None and task.intercept is not None:
            self.start[:, :p] = task.coef
            if task.fit_intercept:
                self.start[:, p] = task.intercept - seen.target_mean + task.coef @ seen.mean

    def run(self, found: Statistics | None, weight: float) -> tuple[SGDSolution, Seen]:
        """Return the model, and what is kept.

        Parameters
        ----------
        found : Statistics or None
            Second moments of the new rows, if known.
        weight : float
            Weight of earlier rows that nothing but the model is kept of.
        """
        squares = None
        if found is not None:
            squares = Parabola.of_statistics(found, self.seen.mean, self.seen.target_mean)
        if self.task.loss.quadratic:
            assert found is not None
            assert squares is not None
            loss, seen = self._add_squares(found, squares, weight)
        else:
            loss, seen = self._add_expansions(found, squares, weight)
        point = self._minimum(seen)
        if not np.all(np.isfinite(point)):
            self._blame()
        solution = self._solution(seen, point)
        solution.strange = self._strange(loss)
        return solution, seen

    def _add_squares(
        self, found: Statistics, squares: Parabola, weight: float
    ) -> tuple[float, Seen]:
        """Return the mean loss of the new rows at the start, and what is kept of all."""
        seen = self._with_fitted(squares.value(self.start), squares.hessian, found.weight, weight)
        loss = float(squares.value(self.start).sum()) / found.weight
        return loss, seen.and_more(found.weight, found.n_rows, squares)

    def _add_expansions(
        self, found: Statistics | None, squares: Parabola | None, weight: float
    ) -> tuple[float, Seen]:
        above = np.full(self.task.n_outputs, ABOVE)
        n_trials = 1
        if found is not None and squares is not None:
            # The first model is one of squared error, which few large residuals may lead astray.
            n_trials = FIRST_TRIALS
            if self.task.coef is None:
                self.start = self._least_squares(squares, found.weight)
            square = np.maximum(2.0 * squares.value(self.start) / found.weight, 0.0)
            width = self._width(np.sqrt(square))
        else:
            width = self._width(_spread(self.seen.root, self.seen.weight))
        point, here = self.start, self._expanded(self.start, width, above)
        if not here.weight > 0.0:
            raise ValueError(NO_WEIGHT_MESSAGE)
        if not np.all(np.isfinite(here.value)):
            self._blame()
        loss = float(here.value.sum()) / here.weight
        before = self._with_fitted(here.value, here.hessian, here.weight, weight)
        value = self._objectives(before, point, here)
        for _ in range(n_trials):
            trial = self._minimum(_and_rows(before, point, here))
            if n_trials > 1:
                width = self._width(_spread(here.root, here.weight))
            there = self._expanded(trial, width, above)
            worse = ~(self._objectives(before, trial, there) <= value)
            if np.any(worse):
                # Few rows near a kink bend the loss too little: parabolas above it know no bounds.
                above = np.where(worse, 1.0, above)
                trial = np.where(worse[:, None], point, trial)
                there = self._expanded(trial, width, above)
            point, here, last = trial, there, value
            value = self._objectives(before, point, here)
            if np.all(last - value <= ENOUGH * value) and not np.any(worse):
                break
        return loss, _and_rows(before, point, here)

    def _width(self, spread: np.ndarray) -> np.ndarray:
        """Return how far about a kink rows count, for residuals of the given spread."""
        n_rows = max(sum(self.nodes.shard_rows), 1)
        width: np.ndarray = np.maximum(spread * n_rows**-0.2, LEAST_WIDTH * self.seen.target_spread)
        return width

    def _with_fitted(
        self, value: np.ndarray, hessian: np.ndarray, new_weight: float, weight: float
    ) -> Seen:
        """Return what is kept so far, rows that `fit` has seen included."""
        if not weight > 0.0:
            return self.seen
        # At the optimum of their objective its slope was that of the penalty.
        slope = -weight * (self.l2 * self.start + self.l1 * np.sign(self.start))
        share = weight / new_weight
        fitted = Parabola.about(self.start, share * value, slope, share * hessian)
        return self.seen.and_more(weight, 0, fitted)

    def _expanded(self, point: np.ndarray, width: np.ndarray, above: np.ndarray) -> Expansion:
        task, seen = self.task, self.seen
        sums: Expansion = self.nodes.rounds.map_reduce(
            expansion,
            ExpansionPoint(
                point=point,
                parameters=np.array([task.loss.parameters()] * task.n_outputs),
                width=width,
                share=above,
                column=np.arange(task.n_outputs, dtype=np.intp),
                mean=seen.mean,
                target_mean=seen.target_mean,
                units=self.units,
            ),
        )
        return replace(sums, hessian=np.array([symmetric(lower) for lower in sums.hessian]))

    def _objectives(self, before: Seen, point: np.ndarray, e: Expansion) -> np.ndarray:
        """Return the objectives of all rows seen, for the new ones the true losses."""
        weight = before.weight + e.weight
        return (before.parabola.value(point) + e.value) / weight + self._penalties(point)

    def _penalties(self, point: np.ndarray) -> np.ndarray:
        return np.array([self.task.penalty.value(row[:-1]) for row in point])

    def _minimum(self, seen: Seen) -> np.ndarray:
        """Return the minima of the objectives of all rows that a parabola is kept of."""
        free = len(self.l1) if self.task.fit_intercept else len(self.l1) - 1
        point = np.zeros_like(self.start)
        hessian = seen.parabola.hessian[:, :free, :free] / seen.weight
        linear = seen.parabola.linear[:, :free] / seen.weight
        for c, start in enumerate(self.start[:, :free]):
            bend = hessian[min(c, len(hessian) - 1)]
            found = minimise_quadratic(bend, linear[c], self.l1[:free], self.l2[:free], start)
            point[c, :free] = found
        return point

    def _least_squares(self, squares: Parabola, weight: float) -> np.ndarray:
        """Return where to start: finite, and without digits of rounding, whatever X is."""
        free = len(self.l1) if self.task.fit_intercept else len(self.l1) - 1
        bend, linear = squares.hessian[0, :free, :free], squares.linear[:, :free]
        point = np.zeros_like(self.start)
        l2 = self.l2[:free]
        point[:, :free] = solve_smooth(bend / weight, linear.T / weight, l2, HARDLY).T
        return point

    def _solution(self, seen: Seen, point: np.ndarray) -> SGDSolution:
        task = self.task
        coef, intercept = point[:, :-1].copy(), np.zeros(task.n_outputs)
        if task.fit_intercept:
            intercept = seen.target_mean + point[:, -1] - coef @ seen.mean
        objective = seen.parabola.value(point) / seen.weight + self._penalties(point)
        rows_seen = task.rows_seen + sum(self.nodes.shard_rows)
        return SGDSolution(
            coef,
            intercept,
            n_iter=1,
            curve=[float(objective.sum())],
            rows_seen=rows_seen,
            weight=seen.weight,
        )

    def _strange(self, loss: float) -> bool:
        """Whether the model so far suits the new rows much worse than those that it was made of."""
        seen = self.seen
        if seen.n_rows < JUDGED * len(self.l1):
            return False
        usual = float(seen.parabola.value(self.start).sum()) / seen.weight
        floor = sum(self.task.loss.value(float(spread)) for spread in seen.target_spread)
        return loss > STRANGE * max(usual, 1e-8 * floor)

    def _blame(self) -> None:
        self.nodes.blame(
            "Values so large that their squares overflow cannot be fitted; scale the columns."
        )


def _spread(root: np.ndarray, weight: float) -> np.ndarray:
    """Return the residuals' spread, from the sums of the roots of their sizes."""
    return (root / weight) ** 2 / NORMAL_ROOT


def _and_rows(seen: Seen, point: np.ndarray, e: Expansion) -> Seen:
    """Return what is kept when the rows that were expanded about a point are added."""
    new = Parabola.about(point, e.value, e.gradient, e.hessian)
    return seen.and_more(e.weight, e.n_rows, new, e.root)
