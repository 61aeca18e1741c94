"""What a sample of all nodes' rows makes of the nodes' changes of the model.

The nodes' average is a poor direction where the nodes see different parts of the distribution, or
where columns depend on each other so much that steps along single rows crawl.  A few thousand
rows, drawn from every node in proportion to what it has, tell.  With few columns their second
moments are a model of the whole objective once its gradient is put right by that of all rows: the
local problem of O. Shamir, N. Srebro and T. Zhang (*Communication-efficient distributed
optimization using an approximate Newton-type method*, ICML 2014), on a node that has rows of all
others; its minimiser needs no pass over the data.  With many columns the sample only says how the
nodes' changes are to be weighted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_dml.objective.penalties import ElasticNet
from dask_dml.solvers.quadratic import minimise_quadratic, solve_smooth
from dask_dml.solvers.sgd import sample_pass
from dask_dml.solvers.sgd.local_steps import Visit
from dask_dml.solvers.sgd.partials import Models
from dask_dml.solvers.sgd.step_length import CorrectedStep, minimise_convex
from dask_dml.solvers.sgd.task import Nodes

#: Rows of the sample: an eighth of all, between these numbers.
FEWEST_ROWS, MOST_ROWS = 2**10, 2**13
#: Numbers that the sample's second moments may hold (they come from all nodes), and the nodes'
#: changes (they travel to all nodes).
MAX_MOMENTS, MAX_CHANGES = 2**19, 2**20
#: Share of the decrease promised by the sample that must come true for it to be trusted again.
KEPT = 0.5
#: Share of the promised decrease that a mixture must add for the sample to be mixed in.
WORTH = 0.05
#: Share of what the sample promises itself that its halves must promise each other for the nodes to
#: rest: the sample's own steps then gain as much with every pass as the nodes' with two.
ACCURATE = 0.9
#: Lengths, relative to the nodes' average, between which it can be trusted.
GOOD_LENGTHS = (0.5, 2.0)
#: Columns per row of the sample from which its moments are too poor to be taken as they are.
FEW = 1 / 8
#: What is then added to the estimated curvature, relative to it: the estimate is a sample's.
DAMPING = 1e-3


@dataclass(frozen=True)
class SampleModel:
    """The objective of one problem as a sample has it, relative to a point.

    Attributes
    ----------
    bend : ndarray of shape (n_features + 1, n_features + 1)
        Second derivative of the data term, intercept last.
    point, gradient : ndarray of shape (n_features + 1,)
        The point, and the gradient of the data term there over all rows.
    penalty : ElasticNet
        Penalty of the coefficients.
    """

    bend: np.ndarray
    point: np.ndarray
    gradient: np.ndarray
    penalty: ElasticNet

    def best_change(self, free: bool) -> np.ndarray:
        """Return the change that minimises the model; the intercept stays unless it is free."""
        n = len(self.point) if free else len(self.point) - 1
        bend, point = self.bend[:n, :n], self.point[:n]
        l1, l2 = np.full(n, self.penalty.l1), np.full(n, self.penalty.l2)
        l1[len(self.point) - 1 :] = l2[len(self.point) - 1 :] = 0.0
        change = np.zeros_like(self.point)
        found = minimise_quadratic(bend, bend @ point - self.gradient[:n], l1, l2, point)
        change[:n] = found - point
        return change

    def decrease(self, change: np.ndarray) -> float:
        """Return by how much the objective falls along a change."""
        slope, bend = float(self.gradient @ change), float(change @ self.bend @ change)
        return self._decrease(change, slope, bend, 1.0)

    def largest_decrease(self, change: np.ndarray) -> float:
        """Return by how much the objective falls where it is least along a change."""
        slope, bend = float(self.gradient @ change), float(change @ self.bend @ change)
        length = minimise_convex(lambda t: -self._decrease(change, slope, bend, t))
        return self._decrease(change, slope, bend, length)

    def _decrease(self, change: np.ndarray, slope: float, bend: float, length: float) -> float:
        before = self.penalty.value(self.point[:-1])
        after = self.penalty.value(self.point[:-1] + length * change[:-1])
        return before - after - length * (slope + 0.5 * length * bend)

    def on_span(self, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return slopes and bends of the objective on the span of changes, without L1."""
        coef, l2 = changes[:, :-1], self.penalty.l2
        slopes = changes @ self.gradient + l2 * (coef @ self.point[:-1])
        return slopes, changes @ self.bend @ changes.T + l2 * (coef @ coef.T)


@dataclass(frozen=True)
class Proposal:
    """The change that the sample prefers for one problem, and what it is worth.

    Attributes
    ----------
    model : SampleModel
        The objective as the whole sample has it.
    change : ndarray of shape (n_features + 1,)
        Its own best change.
    checks : list of (SampleModel, ndarray)
        The objective as one half of the sample has it, and the change that the other prefers:
        what they make of each other takes the sample's noise into account.
    """

    model: SampleModel
    change: np.ndarray
    checks: list[tuple[SampleModel, np.ndarray]]

    @property
    def promised(self) -> float:
        """By how much the objective is thought to fall."""
        return float(np.mean([model.decrease(change) for model, change in self.checks]))

    @property
    def accurate(self) -> bool:
        """Whether the sample's noise hardly matters: its own steps go nearly all the way."""
        return self.promised >= ACCURATE * self.model.decrease(self.change)

    def blend(self, other: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the best mixture with a change that does not come from the sample.

        Returns
        -------
        change : ndarray of shape (n_features + 1,)
            The mixture; the other change itself where it goes about as far as it should and both
            halves agree that the sample, whose noise would get in, has little to add.  With an
            L1 penalty the better one, lest zeros are lost.
        promised : float
            By how much the objective is thought to fall.
        """
        if self.model.penalty.l1 > 0.0:
            others, promised = self.model.largest_decrease(other), self.promised
            return (other, others) if others >= promised else (self.change, promised)
        spans = [model.on_span(np.array([other, change])) for model, change in self.checks]
        slopes, bends = (np.mean(parts, axis=0) for parts in zip(*spans, strict=True))
        shares = solve_smooth(bends, -slopes, np.zeros(2))
        length = max(-slopes[0] / bends[0, 0], 0.0) if bends[0, 0] > 0.0 else 0.0
        mixture, alone = (
            np.array([-(t @ slope + 0.5 * t @ bend @ t) for slope, bend in spans])
            for t in (shares, np.array([length, 0.0]))
        )
        trusted = GOOD_LENGTHS[0] <= length <= GOOD_LENGTHS[1]
        if trusted and np.all(alone >= (1.0 - WORTH) * mixture):
            return other, float(alone.mean())
        promised = float(mixture.mean())
        return shares[0] * other + shares[1] * self.change, promised


@dataclass(frozen=True)
class Known:
    """What is known of the coordinates from all rows.

    Attributes
    ----------
    variance : ndarray of shape (n_features,)
        Variances of the columns, or their mean squares if these are not centred.
    mean : ndarray of shape (n_features,) or None
        Means; None where it is not the plain ones that count.
    centred : bool
        Whether columns are taken relative to means, and there is an intercept.
    """

    variance: np.ndarray
    mean: np.ndarray | None
    centred: bool


class Sampler:
    """Improves on the average of the nodes' changes with the help of a sample of their rows.

    Parameters
    ----------
    nodes : Nodes
        The data.
    penalty : ElasticNet
        Penalty of the coefficients.
    columns : Known
        What is known of the coordinates from all rows.
    n_problems : int
        Number of problems.
    quadratic : bool
        Whether curvatures are the same everywhere, so that one sample does for the whole fit, and
        its moments for all problems.

    Attributes
    ----------
    leads : bool
        Whether the sample is accurate, and its last promise was kept: the nodes need then not take
        steps.
    """

    def __init__(
        self,
        nodes: Nodes,
        penalty: ElasticNet,
        columns: Known,
        n_problems: int,
        *,
        quadratic: bool,
    ) -> None:
        self.nodes = nodes
        self.penalty = penalty
        self.columns = columns
        self.quadratic = quadratic
        self.leads = False
        self._diverse = True
        self._promised = np.inf
        self._moments: np.ndarray | None = None
        self._n_sampled = 0
        self._n_matrices = 1 if quadratic else n_problems

    @property
    def able(self) -> bool:
        """Whether there are so few columns that the sample can propose changes."""
        return 2 * self._n_matrices * (len(self.columns.variance) + 1) ** 2 <= MAX_MOMENTS

    def wants_each(self, steps: list[CorrectedStep]) -> bool:
        """Whether the nodes' changes are wanted one by one."""
        n_nodes = len(self.nodes.shard_rows)
        low, high = GOOD_LENGTHS
        suspicious = any(not low <= step.length <= high for step in steps)
        small = n_nodes * len(steps) * (len(self.columns.variance) + 1) <= MAX_CHANGES
        return n_nodes > 1 and not self.able and small and (self._diverse or suspicious)

    def improve(self, models: Models, request: Visit) -> tuple[np.ndarray, np.ndarray]:
        """Return the changes to make, and for which problems these are the sample's own.

        Parameters
        ----------
        models : Models
            What the nodes' steps have changed.
        request : Visit
            What they were asked.
        """
        average = models.average(models.mean)
        taken = np.zeros(len(average), dtype=np.bool_)
        self._promised = np.inf
        if not np.all(np.isfinite(average)):
            return average, taken
        if request.wants.each:
            return self._weighted(average, models, request), taken
        if not self.able:
            return average, taken
        mixed, promised = np.empty_like(average), 0.0
        proposals = self._proposals(request)
        for c, proposal in enumerate(proposals):
            mixed[c], decrease = proposal.blend(average[c])
            promised += decrease
            taken[c] = not np.array_equal(mixed[c], average[c])
        self._promise(proposals, promised)
        return mixed, taken

    def propose(self, request: Visit) -> np.ndarray:
        """Return the sample's own changes."""
        proposals = self._proposals(request)
        self._promise(proposals, sum(proposal.promised for proposal in proposals))
        return np.array([proposal.change for proposal in proposals])

    def _promise(self, proposals: list[Proposal], decrease: float) -> None:
        self._promised = decrease if all(each.accurate for each in proposals) else np.inf

    def _proposals(self, request: Visit) -> list[Proposal]:
        if self._moments is None or not self.quadratic:
            self._moments = self._curvatures(None, request)
        free = self.columns.centred
        both = [self._models(request, half) for half in (0, 1)]
        changes = [[model.best_change(free) for model in models] for models in both]
        return [
            Proposal(
                model,
                model.best_change(free),
                [(both[0][c], changes[1][c]), (both[1][c], changes[0][c])],
            )
            for c, model in enumerate(self._models(request))
        ]

    def learn(self, gained: float) -> None:
        """Take the decrease of the objectives that the last exchange has led to."""
        self.leads = gained >= KEPT * self._promised > 0.0

    def _models(self, request: Visit, half: int | None = None) -> list[SampleModel]:
        assert request.gradient is not None
        assert self._moments is not None
        moments = self._moments.mean(axis=1) if half is None else self._moments[:, half]
        n_rows = max(self._n_sampled // (1 if half is None else 2), 1)
        bends = [_cautious(self.columns, matrix, n_rows) for matrix in moments]
        return [
            SampleModel(bends[min(c, len(bends) - 1)], point, gradient, self.penalty)
            for c, (point, gradient) in enumerate(zip(request.point, request.gradient, strict=True))
        ]

    def _curvatures(self, changes: np.ndarray | None, request: Visit) -> np.ndarray:
        """Return mean products of the changes' effects, for both halves of the sample."""
        rows = self.nodes.shard_rows
        n_rows = min(MOST_ROWS, max(FEWEST_ROWS, sum(rows) // 8))
        sizes = sample_pass.sample_sizes(rows, n_rows)
        self._n_sampled = sum(sizes)
        directions = sample_pass.Directions(changes, request, sizes)
        sums = self.nodes.probe(sample_pass.curvatures, directions)
        products, weight = sums[..., :-1, :], sums[..., -1:, :1]
        return np.divide(products, weight, out=np.zeros_like(products), where=weight > 0.0)

    def _weighted(self, average: np.ndarray, models: Models, request: Visit) -> np.ndarray:
        """Weight the nodes' changes so that they suit all rows, where their average does not.

        A node whose rows hardly differ in some direction takes it far too far; the sample shows
        which changes can be trusted.
        """
        weights = np.array([weight for weight, _ in models.each]) / models.weight
        parts = np.stack([change for _, change in models.each], axis=1) * weights[:, None]
        combined = average.copy()
        self._diverse = False
        assert request.gradient is not None
        penalty, bends = self.penalty, self._curvatures(parts, request).mean(axis=1)
        for c, part in enumerate(parts):
            bend = bends[c] + penalty.l2 * (part[:, :-1] @ part[:, :-1].T)
            slope = np.array(request.gradient[c])
            slope[:-1] += penalty.l2 * request.point[c, :-1]
            slope[:-1] += penalty.l1 * np.sign(request.point[c, :-1] + average[c, :-1])
            pull = -(part @ slope)
            whole = float(bend.sum())
            length = float(pull.sum()) / whole if whole > 0.0 else 1.0
            if GOOD_LENGTHS[0] <= length <= GOOD_LENGTHS[1]:
                continue
            self._diverse = True
            scale = np.sqrt(np.maximum(np.diagonal(bend), 1e-300))
            matrix = bend / np.outer(scale, scale)
            matrix[np.diag_indices_from(matrix)] += DAMPING
            shares = np.linalg.solve(matrix, pull / scale) / scale
            combined[c] = shares @ part
        return combined


def _cautious(columns: Known, sampled: np.ndarray, n_rows: int) -> np.ndarray:
    """Return second moments of a sample that do not promise what only the sample has.

    A column that is rare may be missing from the sample, or nearly so: its variance and mean are
    known from all rows.  And moments of hardly more rows than there are columns are next to none.
    """
    weight, sums = sampled[-1, -1], sampled[-1, :-1]
    if not weight > 0.0:
        return np.zeros_like(sampled)
    spread = sampled[:-1, :-1]
    if columns.centred:
        spread = spread - np.outer(sums, sums) / weight
    found, known = np.diagonal(spread), weight * columns.variance
    # What is left of a column without entries is rounding.
    present = found > 1e-6 * known
    # Factors that differ from one by the sample's noise would blur what nearly dependent columns
    # have to say.
    short = found < 0.5 * known
    raised = np.sqrt(np.divide(known, found, out=np.ones_like(known), where=short & present))
    raised[~present] = 0.0
    cautious: np.ndarray = spread * np.outer(raised, raised)
    diagonal = np.where(present, np.diagonal(cautious), known)
    share = len(sampled) / n_rows
    ridge = share**2 if share > FEW else 0.0
    cautious[np.diag_indices_from(cautious)] = diagonal * (1.0 + ridge)
    mean = columns.mean if columns.mean is not None else sums / weight
    whole = np.empty_like(sampled)
    whole[:-1, :-1] = cautious + weight * np.outer(mean, mean) * columns.centred
    whole[-1, :-1] = whole[:-1, -1] = weight * mean
    whole[-1, -1] = weight
    return whole
