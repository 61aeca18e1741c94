"""Local steps, averaged models: the textbook's algorithm and scikit-learn's schedules.

With ``local_steps=1``, ``batch_size=1`` and a schedule of scikit-learn's, every node draws one
row per step, the gradients are exchanged, and all nodes take the same step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dask_dml.kernels.sgd_rows import CONSTANT, INVSCALING, OPTIMAL, PLAIN
from dask_dml.objective.problem import Frame
from dask_dml.solvers.sgd.local_steps import Visit, Wants
from dask_dml.solvers.sgd.node_cache import Ground
from dask_dml.solvers.sgd.partials import Models, Survey
from dask_dml.solvers.sgd.passes import shortened
from dask_dml.solvers.sgd.stopping import Patience
from dask_dml.solvers.sgd.task import (
    NO_WEIGHT_MESSAGE,
    Nodes,
    SGDSolution,
    SGDTask,
    auto_rate,
    columns_of,
    frame_of,
    late,
    look,
    metric_of,
)

#: Divisor and least value of the step length of ``learning_rate="adaptive"``.
ADAPTIVE_DIVISOR, ADAPTIVE_LEAST = 5.0, 1e-6


def solve(
    nodes: Nodes,
    task: SGDTask,
    before: Survey | None = None,
    iterate: tuple[np.ndarray, np.ndarray, int] | None = None,
) -> SGDSolution:
    """Run the exchanges until a stopping rule or the number of passes ends them.

    Parameters
    ----------
    nodes : Nodes
        The data.
    task : SGDTask
        What is to be fitted.
    before : Survey or None
        What earlier calls have learnt of the columns.
    iterate : tuple or None
        The iterate behind an averaged model, and the number of rows in the average; the task's
        start is the average then.
    """
    units = nodes.units() if task.uniform else None
    survey = None
    if task.auto:
        survey = look(nodes, units)
        survey = survey if before is None else before + survey
    return _Plain(nodes, task, units, survey, iterate).run()


class _Plain:
    def __init__(
        self,
        nodes: Nodes,
        task: SGDTask,
        units: np.ndarray | None,
        survey: Survey | None,
        iterate: tuple[np.ndarray, np.ndarray, int] | None,
    ) -> None:
        self.nodes, self.task, self.survey = nodes, task, survey
        self.n_problems = task.n_outputs
        self.column = np.arange(self.n_problems, dtype=np.intp)
        self.columns = columns_of(nodes, survey, task.coef, task.n_features)
        self.frame = _raw_frame(self.columns.width, self.n_problems)
        self.metric = np.append(np.ones(self.columns.width), float(task.fit_intercept))
        self.n_occurring = task.n_features
        if survey is not None:
            self.n_occurring = int(np.count_nonzero(survey.stored))
            narrow = self.columns.narrow(survey)
            self.frame = frame_of(narrow, centred=task.fit_intercept)
            self.metric = metric_of(narrow, self.frame, fit_intercept=task.fit_intercept)
        nodes.settle(Ground(self.frame.mean, self.metric, self.columns.chosen, units))
        # A kink has no curvature to take a step length from: its steps are taken on a parabola
        # as wide as the residuals are.
        self.parameters = np.array([
            task.loss.parameters(0.1 * float(self.frame.target_spread[c]) if task.auto else 0.0)
            for c in range(self.n_problems)
        ])  # fmt: skip
        self.rate = auto_rate(self.frame, self.metric, nodes.shard_rows) if task.auto else 0.0
        self.point = self._point(task.coef, task.intercept)
        self.eta = task.eta0
        self.epoch = 0
        self.rows_seen = task.rows_seen
        self.n_rows = sum(nodes.shard_rows)
        self.mean = self.point
        self.n_averaged = 0
        self.weight = 0.0
        if task.average and iterate is not None:
            self.point, self.n_averaged = self._point(*iterate[:2]), iterate[2]
        self.point = self._sent(self.point).astype(np.float64)

    def _point(self, coef: np.ndarray | None, intercept: np.ndarray | None) -> np.ndarray:
        """Return a model for raw columns in the frame's coordinates; zero if there is none."""
        point = np.zeros((self.n_problems, self.columns.width + 1))
        if coef is not None and intercept is not None:
            point[:, :-1] = self.columns.narrow_coef(coef)
            if self.task.fit_intercept:
                for c, row in enumerate(point):
                    row[-1] = self.frame.centred_intercept(c, row[:-1], intercept[c])
        return point

    def run(self) -> SGDSolution:
        task = self.task
        solution = self._solution()
        patience = Patience(task.tol, task.n_iter_no_change)
        n_exchanges = self._exchanges_per_pass()
        # The survey is a pass, but one with steps is always made.
        budget = max(1, task.max_iter - self.nodes.passes)
        for _ in range(0 if task.auto and late(task) else budget):
            loss, done = 0.0, 0
            for _ in range(n_exchanges):
                models = self.nodes.visit(self._request())
                self._exchange(models)
                loss += float(models.loss.sum() / max(models.weight, 1e-300))
                done += 1
                if late(task):
                    break
            loss /= done
            self.nodes.passes += 1
            solution.curve.append(loss + self._penalty())
            if not np.isfinite(solution.curve[-1]):
                self._blame()
            value = self._progress(solution)
            task.tell(self.nodes.passes, solution.curve[-1], np.inf, lambda: self._raw(self._best))
            task.say(f"pass {self.nodes.passes}: mean loss {loss:.10g}")
            stop = patience.exhausted(value, 1)
            if stop and task.learning_rate == "adaptive" and self.eta > ADAPTIVE_LEAST:
                self.eta /= ADAPTIVE_DIVISOR
                patience.restart()
            elif stop:
                solution.converged = True
                break
            if late(task):
                break
        self._record(solution)
        return solution

    def _progress(self, solution: SGDSolution) -> float:
        if self.task.split is None:
            return solution.curve[-1]
        self._record(solution)
        shift = self.frame.target_mean
        solution.scores.append(self.nodes.score(solution.coef, solution.intercept, shift))
        return -solution.scores[-1]

    def _exchanges_per_pass(self) -> int:
        steps = self.task.local_steps
        if steps is None:
            return 1
        rows = len(self.nodes.shard_rows) * steps * self.task.batch_size
        return max(1, round(self.n_rows / rows))

    def _request(self) -> Visit:
        task = self.task
        alone = task.local_steps == 1
        l2 = np.full(self.n_problems, task.penalty.l2)
        l1 = np.full(self.n_problems, 0.0 if alone else task.penalty.l1)
        return Visit(
            point=self._sent(self.point),
            gradient=None,
            kind=PLAIN,
            literal=not task.auto,
            column=self.column,
            parameters=self.parameters,
            schedule=self._schedule(),
            l2=l2,
            l1=l1,
            target_mean=self.frame.target_mean,
            batch=task.batch_size,
            n_steps=task.local_steps,
            shuffle=task.shuffle,
            key=task.key,
            epoch=self.epoch,
            rows_before=task.rows_seen // len(self.nodes.shard_rows),
            tail=self._tail(),
            wants=self._wants(),
            seconds=task.seconds_left(),
        )

    def _sent(self, point: np.ndarray) -> np.ndarray:
        """Return a model as it travels; its noise exceeds the rounding."""
        return shortened(point) if self.task.auto else point

    def _wants(self) -> Wants:
        tail = self._use_mean or bool(self.task.average)
        zeros = self.task.penalty.l1 > 0.0 and self.task.local_steps != 1
        return Wants(last=not self._use_mean, mean=tail, zeros=zeros)

    @property
    def _use_mean(self) -> bool:
        """Whether nodes start anew from the average of their iterates."""
        task = self.task
        return task.auto and not task.average and task.local_steps is None

    def _tail(self) -> float:
        """Return the share of the coming visit that is not averaged."""
        task = self.task
        if task.average:
            visit = self.n_rows if task.local_steps is None else task.local_steps
            return float(np.clip((task.average - 1 - self.rows_seen) / visit, 0.0, 1.0))
        return 0.5 if task.auto and task.local_steps is None else 1.0

    def _schedule(self) -> np.ndarray:
        task = self.task
        kind = {"invscaling": INVSCALING, "optimal": OPTIMAL}.get(task.learning_rate, CONSTANT)
        # As in scikit-learn, after L. Bottou.
        offset = 1.0 / (np.sqrt(1.0 / np.sqrt(task.alpha)) * task.alpha) if kind == OPTIMAL else 0.0
        rows = np.tile([kind, self.eta, task.power_t, offset, task.alpha], (self.n_problems, 1))
        if task.auto:
            decay = np.sqrt(1.0 + self.rows_seen / max(self.n_rows, 10 * self.n_occurring))
            for c in range(self.n_problems):
                curvature = float(self.parameters[c, 2])
                rows[c, 1] = self.rate / (curvature * decay)
        return rows

    def _exchange(self, models: Models) -> None:
        """Take over what the nodes have found."""
        task = self.task
        if not models.weight > 0.0:
            raise ValueError(NO_WEIGHT_MESSAGE)
        summed = task.uniform and task.local_steps is not None and not task.auto
        self.weight = models.weight
        wants = self._wants()
        last, mean = (
            self.point + (sums if summed else models.average(sums)) if wanted else self.point
            for sums, wanted in ((models.last, wants.last), (models.mean, wants.mean))
        )
        moved = mean if self._use_mean else last
        if task.penalty.l1 > 0.0:
            moved = self._with_zeros(moved, models)
        if not np.all(np.isfinite(moved)):
            self._blame()
        self._average(mean)
        self.point = self._sent(moved).astype(np.float64)
        self.epoch += 1
        steps = task.local_steps
        n_shards = len(self.nodes.shard_rows)
        self.rows_seen += self.n_rows if steps is None else steps * task.batch_size * n_shards

    def _blame(self) -> None:
        self.nodes.blame(
            "Set learning_rate='auto', whose steps suit the data, lower "
            f"eta0={self.task.eta0:g}, or scale the columns with "
            "dask_dml.preprocessing.scaler.DistributedStandardScaler."
        )

    def _average(self, averaged: np.ndarray) -> None:
        if not self.task.average:
            return
        rows = self.n_rows if self.task.local_steps is None else self.task.local_steps
        new = round(rows * (1.0 - self._tail()))
        if new:
            self.n_averaged += new
            self.mean = self.mean + (new / self.n_averaged) * (averaged - self.mean)

    def _with_zeros(self, moved: np.ndarray, models: Models) -> np.ndarray:
        task = self.task
        coef = moved[:, :-1]
        if task.local_steps == 1:
            # The nodes' gradients are one gradient: the penalty's step follows it.
            n_terms = models.n_nodes if task.uniform and not task.auto else 1
            threshold = n_terms * task.penalty.l1 * self.metric[:-1] * self._rate()[:, None]
            coef = np.sign(coef) * np.maximum(np.abs(coef) - threshold, 0.0)
        else:
            coef = np.where(models.zeros[:, :-1], 0.0, coef)
        return np.column_stack([coef, moved[:, -1]])

    def _rate(self) -> np.ndarray:
        """Return the step length of the step that has just been taken."""
        schedule = self._schedule()
        t = self.task.rows_seen // len(self.nodes.shard_rows) // self.task.batch_size
        t += self.epoch + 1
        if schedule[0, 0] == INVSCALING:
            return schedule[:, 1] / t ** schedule[:, 2]
        if schedule[0, 0] == OPTIMAL:
            return 1.0 / (schedule[:, 4] * (schedule[:, 3] + t - 1.0))
        return schedule[:, 1]

    def _penalty(self) -> float:
        with np.errstate(over="ignore"):  # the sum is found not to be finite
            return sum(self.task.penalty.value(row[:-1]) for row in self.point)

    def _record(self, solution: SGDSolution) -> None:
        solution.coef, solution.intercept = self._raw(self._best)
        solution.last = (*self._raw(self.point), self.n_averaged)
        solution.n_iter = self.nodes.passes
        solution.rows_seen = self.rows_seen
        solution.weight = self.weight

    @property
    def _best(self) -> np.ndarray:
        return self.mean if self.task.average and self.n_averaged else self.point

    def _raw(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coef = self.columns.widen_coef(point[:, :-1].copy())
        if not self.task.fit_intercept:
            return coef, np.zeros(self.n_problems)
        raw = [self.frame.raw_intercept(c, row[:-1], row[-1]) for c, row in enumerate(point)]
        return coef, np.array(raw)

    def _solution(self) -> SGDSolution:
        return SGDSolution(*self._raw(self.point), survey=self.survey)


def _raw_frame(n_features: int, n_outputs: int) -> Frame:
    nothing = np.zeros(n_features)
    flat = np.zeros(n_outputs)
    return Frame(1.0, 1, nothing, nothing, flat, flat, nothing, flat)


def one_pass(task: SGDTask) -> SGDTask:
    """Return the task of a call of `partial_fit`: one pass with steps and no stopping rule."""
    return replace(task, max_iter=2 if task.auto else 1, tol=None, split=None)
