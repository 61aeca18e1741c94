"""Local steps that are corrected by the global gradient, and a search along their average.

Between two exchanges every node visits its rows once.  A step subtracts the row's gradient at the
*anchor*, the point that all started from, and adds the global gradient there (R. Johnson and
T. Zhang, *Accelerating stochastic gradient descent using predictive variance reduction*, NeurIPS
2013), so that the noise dies out as the iterate converges, and every node heads for the global
optimum, not for its own (O. Shamir, N. Srebro and T. Zhang, *Communication-efficient distributed
optimization using an approximate Newton-type method*, ICML 2014).  The average of the second half
of the iterates is what a node reports; `step_length` decides how far to go there.

In the first exchange from zero the anchor's residuals are no smaller than the targets themselves:
subtracting them would add noise.  Steps are plain then, but for the difference of the node's own
gradient to the global one.
"""

from __future__ import annotations

import numpy as np

from dask_dml.kernels.sgd_rows import CONSTANT, CORRECTED, CORRECTED_SQUARES, ETA0, PLAIN
from dask_dml.objective.problem import Frame, Objective, Problem, Query
from dask_dml.solvers.sgd.local_steps import Visit, Wants
from dask_dml.solvers.sgd.node_cache import Ground
from dask_dml.solvers.sgd.partials import Models, Survey
from dask_dml.solvers.sgd.passes import global_gradient
from dask_dml.solvers.sgd.sample_model import Known, Sampler
from dask_dml.solvers.sgd.step_length import CorrectedStep
from dask_dml.solvers.sgd.stopping import GapWatch, Patience
from dask_dml.solvers.sgd.task import (
    NO_WEIGHT_MESSAGE,
    End,
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

#: First smoothing width of a kink, relative to the spread of the targets.
START_WIDTH = 0.1
#: Relative duality gap below which nothing but rounding is left.
ROUNDING_GAP = 1e-13


def solve(nodes: Nodes, task: SGDTask) -> SGDSolution:
    """Run the exchanges until a stopping rule or the number of passes ends them."""
    units = nodes.units() if task.uniform else None
    return _Corrected(nodes, task, units, look(nodes, units)).run()


class _Corrected:
    def __init__(
        self, nodes: Nodes, task: SGDTask, units: np.ndarray | None, survey: Survey
    ) -> None:
        self.nodes, self.task = nodes, task
        self.columns = columns_of(nodes, survey, task.coef, task.n_features)
        survey = self.columns.narrow(survey)
        self.frame: Frame = frame_of(survey, centred=task.fit_intercept)
        self.metric = metric_of(survey, self.frame, fit_intercept=task.fit_intercept)
        problems = [Problem(c, task.loss, task.penalty) for c in range(task.n_outputs)]
        self.objective = Objective(
            nodes,  # type: ignore[arg-type]  # all that it asks of rounds
            problems,
            self.frame,
            fit_intercept=task.fit_intercept,
            units=units,
        )
        self.steps = [self._step(c, problem) for c, problem in enumerate(problems)]
        n_rows = sum(nodes.shard_rows)
        self.watches = [GapWatch(task, step.floor, n_rows) for step in self.steps]
        self.cold = task.coef is None
        if self.cold and task.loss.quadratic:
            gradients = global_gradient(survey, self.frame, self.metric)
            for c, step in enumerate(self.steps):
                step.know(0.5 * float(self.frame.target_spread[c]) ** 2, gradients[c])
        self.epoch = 0
        nodes.settle(Ground(self.frame.mean, self.metric, self.columns.chosen, units))
        self.sampler = self._sampler()
        self.rate = auto_rate(self.frame, self.metric, nodes.shard_rows)

    def _sampler(self) -> Sampler:
        quadratic, centred = self.task.loss.quadratic, self.task.fit_intercept
        mean = self.frame.residual_mean
        variance = self.frame.spread**2 - mean**2 * centred
        known = Known(variance, mean if quadratic else None, centred)
        return Sampler(
            self.nodes, self.task.penalty, known, self.task.n_outputs, quadratic=quadratic
        )

    def _step(self, c: int, problem: Problem) -> CorrectedStep:
        task, frame = self.task, self.frame
        point = np.zeros(self.columns.width + 1)
        if task.coef is not None and task.intercept is not None:
            point[:-1] = self.columns.narrow_coef(task.coef[c])
            if task.fit_intercept:
                point[-1] = frame.centred_intercept(c, point[:-1], task.intercept[c])
        width = START_WIDTH * float(frame.target_spread[c])
        return CorrectedStep(
            problem, point, width, self.metric, self.objective.floor(c), frame.residual_mean
        )

    def run(self) -> SGDSolution:
        task, nodes = self.task, self.nodes
        active = dict(enumerate(self.steps))
        solution = SGDSolution(np.zeros((0, 0)), np.zeros(0))
        scores = Patience(task.tol, task.n_iter_no_change)
        if not late(task):
            self._evaluate(active)
            solution.curve.append(self._total())
        while active and not late(task):
            before = nodes.passes
            left = task.max_iter - before
            # With one pass left, steps would end at a point that is never evaluated.
            resting = self.sampler.leads or (left == 1 and self.sampler.able)
            if left < (1 if resting else 2):
                break
            objectives = sum(step.anchor.objective for step in active.values())
            first = self.epoch == 0
            self._move(active, resting=resting)
            # What the first steps lead to is looked at in any case: it is all that there is.
            if late(task) and not first:
                break
            self._evaluate(active)
            self.sampler.learn(objectives - sum(s.anchor.objective for s in active.values()))
            taken = nodes.passes - before
            solution.curve.append(self._total())
            gap = max(step.anchor.relative_gap for step in self.steps)
            task.tell(nodes.passes, solution.curve[-1], gap, self._raw)
            task.say(f"pass {nodes.passes}: objective {solution.curve[-1]:.10g}, gap {gap:.2e}")
            for c, step in list(active.items()):
                met = task.split is None and self.watches[c].met(*step.reached, nodes.passes)
                # Without a bound, or a tolerance, nothing more can be said.
                met |= step.stalled and not (self.watches[c].bounded and task.tol is not None)
                step.converged = met or step.anchor.relative_gap <= ROUNDING_GAP
                hopeless = self.watches[c].hopeless or self.watches[c].slow
                if step.converged or step.stalled or (hopeless and task.split is None):
                    del active[c]
            if task.split is not None and self._score_stops(solution, scores, taken):
                for step in active.values():
                    step.converged = True
                break
        return self._finish(solution)

    def _score_stops(self, solution: SGDSolution, scores: Patience, taken: int) -> bool:
        coef, intercept = self._raw()
        solution.scores.append(self.nodes.score(coef, intercept, self.frame.target_mean))
        return scores.exhausted(-solution.scores[-1], taken)

    def _evaluate(self, active: dict[int, CorrectedStep]) -> None:
        """Answer the steps' queries until all of them want the nodes to take steps."""
        done = False
        while True:
            asked = {c: step.query for c, step in active.items() if step.query is not None}
            ended = self.nodes.passes >= self.task.max_iter or late(self.task)
            if not asked or (ended and done):
                return
            queries: dict[int, Query] = dict(asked)
            for c, answer in self.objective.evaluate(queries).items():
                active[c].tell(answer)
            done = True

    def _move(self, active: dict[int, CorrectedStep], *, resting: bool) -> None:
        """Let the nodes take steps, unless they rest, and tell the problems where these lead."""
        request = self._request(active)
        if resting:
            changes = self.sampler.propose(request)
            own = np.ones(len(changes), dtype=np.bool_)
        else:
            models: Models = self.nodes.visit(request)
            self.nodes.passes += 1
            self.epoch += 1
            if not models.weight > 0.0:
                raise ValueError(NO_WEIGHT_MESSAGE)
            changes, own = self.sampler.improve(models, request)
            if request.wants.zeros:
                zeros = models.zeros & ~own[:, None]
                zeros[:, -1] = False
                changes = np.where(zeros, -request.point, changes)
        if not np.all(np.isfinite(changes)):
            self.nodes.blame(
                "Values so large that their squares overflow cannot be fitted; scale the columns."
            )
        for c, step in enumerate(active.values()):
            rate = 0.5 * request.schedule[c, ETA0]
            step.walked(changes[c], rate * self.metric, whole=bool(own[c]))

    def _request(self, active: dict[int, CorrectedStep]) -> Visit:
        task, numbers = self.task, np.array(list(active), dtype=np.intp)
        steps = list(active.values())
        parameters = np.array([
            step.problem.loss.parameters(step.continuation.width) for step in steps
        ])  # fmt: skip
        schedule = np.zeros((len(steps), 5))
        schedule[:, 0] = CONSTANT
        schedule[:, 1] = self.rate / parameters[:, 2]
        kind = CORRECTED_SQUARES if task.loss.quadratic else CORRECTED
        if self.cold and self.epoch == 0:
            kind = PLAIN
        wants = Wants(mean=True, zeros=task.penalty.l1 > 0.0, each=self.sampler.wants_each(steps))
        return Visit(
            point=np.array([step.anchor.point for step in steps]),
            gradient=np.array([step.anchor.gradient for step in steps]),
            kind=kind,
            literal=False,
            column=numbers,
            parameters=parameters,
            schedule=schedule,
            l2=np.full(len(steps), task.penalty.l2),
            l1=np.full(len(steps), task.penalty.l1),
            target_mean=self.frame.target_mean[numbers],
            batch=task.batch_size,
            n_steps=task.local_steps,
            shuffle=task.shuffle,
            key=task.key,
            epoch=self.epoch,
            rows_before=0,
            tail=0.5,
            wants=wants,
            seconds=task.seconds_left(),
        )

    def _total(self) -> float:
        return float(sum(step.anchor.objective for step in self.steps))

    def _raw(self) -> tuple[np.ndarray, np.ndarray]:
        points = np.array([step.anchor.point for step in self.steps])
        coef = self.columns.widen_coef(points[:, :-1])
        if not self.task.fit_intercept:
            return coef, np.zeros(len(coef))
        raw = [self.frame.raw_intercept(c, row[:-1], row[-1]) for c, row in enumerate(points)]
        return coef, np.array(raw)

    def _finish(self, solution: SGDSolution) -> SGDSolution:
        solution.coef, solution.intercept = self._raw()
        solution.n_iter = self.nodes.passes
        solution.ends = [
            End(step.anchor.objective, step.anchor.relative_gap, step.converged)
            for step in self.steps
        ]
        solution.proven = [
            step.converged and watch.proven(step.reached[1])
            for step, watch in zip(self.steps, self.watches, strict=True)
        ]
        solution.converged = all(end.converged for end in solution.ends)
        solution.relative_gap = max(end.relative_gap for end in solution.ends)
        solution.weight = self.frame.weight
        solution.rows_seen = self.task.rows_seen + self.epoch * sum(self.nodes.shard_rows)
        return solution
