"""Support vectors of all nodes, merged: dual ascent for the hinge.

Every node first solves the problem of its own rows, as if these were a sample of all; the mean of
the nodes' solutions is feasible.  Then, round by round, the nodes send the rows whose dual
variables are most in want of a change: those between their bounds, which lie at the margin, those
that the gradient pulls away from a bound, and those that are held there least.  The driver
maximises the dual objective over these exactly, with all others fixed, and the nodes go on from
there.  When they are in want of a change on more rows than can travel, a node also improves its
other dual variables as if the other nodes stood still, and the driver moves along the sum of
these proposals as far as is best.

The dual objective rises with every round.  At the optimum hardly more rows lie at the margin than
there are columns (many columns: some share of the rows); once all of these travel, it is a matter
of few rounds, whatever the number of nodes.

This is the chunking of B. E. Boser, I. M. Guyon and V. N. Vapnik, *A training algorithm for
optimal margin classifiers*, COLT 1992, on rows that are spread over nodes; the proposals are those
of C.-P. Lee and D. Roth, *Distributed box-constrained quadratic optimization for dual linear
SVM*, ICML 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dask_dml.objective.certificate import certified_gap
from dask_dml.objective.margins import MarginProblem
from dask_dml.rounds.base import Part, Rounds, regaining
from dask_dml.solvers.dual.active_set_pass import (
    Count,
    MergeAsk,
    MergeBatch,
    MergeSums,
    merge_round,
)
from dask_dml.solvers.dual.box import Box
from dask_dml.solvers.dual.box_qp import MAX_COLUMNS, maximise
from dask_dml.solvers.dual.support import Duals

#: Entries of X that may travel in a round: from each node, the fewer rows of which have the less to
#: say by themselves; in any case; and at most.
ENTRIES_OF_NODE, ENTRIES, MOST_ENTRIES = 1e5, 5e5, 3.2e6
#: Rows that may travel in a round, for each column; at most; and at most where the driver's work
#: grows with their square.
ROWS_PER_COLUMN, MOST_ROWS, MOST_WIDE_ROWS = 4, 32768, 8192
#: Share of all rows that may travel, or three rows for each column.
SHARE = 0.25
#: A problem is given up where so many rounds in a row have not closed the gap by this share.
PATIENCE, PROGRESS = 60, 0.1
#: Least value of the column of a free intercept, and share of the bound that its penalty takes.
FREE_SCALING, FREE_SHARE = 100.0, 1e-10
#: Relative precision of the driver's maximum, and relative to the gap.
PRECISION, OF_GAP = 1e-5, 1e-2


def rows_to_merge(
    shard_rows: tuple[int, ...], n_features: int, entries: float, n_problems: int
) -> int:
    """Return how many rows of a problem travel in one round.

    Parameters
    ----------
    shard_rows : tuple of int
        Rows of each node.
    n_features : int
        Columns.
    entries : float
        Entries of X that are held.
    n_problems : int
        Problems of the batch.
    """
    n_rows = sum(shard_rows)
    each = max(entries / n_rows, 1.0) * n_problems
    enough = max(ENTRIES, ENTRIES_OF_NODE * len(shard_rows))
    limit = min(
        max(enough / each, ROWS_PER_COLUMN * (n_features + 1)),
        MOST_ENTRIES / each,
        MOST_ROWS if n_features <= MAX_COLUMNS else MOST_WIDE_ROWS,
        max(SHARE * n_rows, 3 * n_features + 50),
    )
    return int(max(limit, 1))


@dataclass(frozen=True)
class MergeQuery:
    """Where a problem stands, and what the nodes are to take over.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients: what the dual variables amount to.
    intercept : float
        Intercept likewise.
    limit : int
        Rows that all shards together may send.
    quota : mapping of (int, int) to int
        By part of the data, rows that it may send, where this is known.
    share : float
        Share of the last proposal that is kept.
    merged : mapping of (int, int) to ndarray
        By part, new dual variables of the rows that it has sent.
    """

    coef: np.ndarray
    intercept: float
    limit: int
    quota: Mapping[Part, int] = field(default_factory=dict)
    share: float = 0.0
    merged: Mapping[Part, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class MergeEvaluation:
    """The answer to a `MergeQuery`.

    Attributes
    ----------
    query : MergeQuery
        The point.
    objective, bound : float
        Objective there, and that of the dual variables.
    relative_gap : float
        Their distance relative to the bound.
    slack : float
        Zero: nothing is smoothed.
    terms : float
        Of what size the terms are whose sum the bound is.
    found : MergeSums
        Rows and proposal.
    """

    query: MergeQuery
    objective: float
    bound: float
    relative_gap: float
    slack: float
    terms: float
    found: MergeSums

    @property
    def gap(self) -> float:
        """Distance of objective and bound."""
        return self.objective - self.bound


class MergeObjective:
    """Evaluates problems of a batch, and moves their dual variables, round by round.

    Parameters
    ----------
    rounds : Rounds
        The data, and the dual variables beside it.
    problems : sequence of MarginProblem
        The batch, with an L2 penalty; with the squared hinge all rows have to travel.
    seed : int, default=0
        Of the order of the rows.
    columns : ndarray of shape (n_occurring,) or None, default=None
        The columns of X that all coefficients are about, where many never occur: only these
        travel.  None for all.
    start : Duals or None, default=None
        What makes the dual variables to begin with; None begins with the nodes' own solutions.
    """

    def __init__(
        self,
        rounds: Rounds,
        problems: list[MarginProblem],
        seed: int = 0,
        columns: np.ndarray | None = None,
        start: Duals | None = None,
    ) -> None:
        self.start = start
        self.rounds = rounds
        self.problems = tuple(problems)
        self.seed = seed
        self.columns = columns
        self._known = False

    def evaluate(self, queries: Mapping[int, MergeQuery]) -> dict[int, MergeEvaluation]:
        """Answer the queries of several problems in one round; the first takes two."""
        asked = dict(queries)

        def regain() -> None:
            # The shards that are left have not taken anything over yet.
            self._known = False

        def step() -> MergeBatch:
            if self._known:
                return self._update(asked)
            asked.update(self._gathered(asked))
            batch = self._update(asked, effect=False)
            points = [np.append(asked[n].coef, asked[n].intercept) for n in sorted(asked)]
            return MergeBatch(
                tuple(replace(f, effect=at) for f, at in zip(batch.of, points, strict=True))
            )

        batch = regaining(self.rounds, step, regain)
        queries = asked
        return {
            number: self._evaluation(number, queries[number], found)
            for number, found in zip(sorted(queries), batch.of, strict=True)
        }

    def _gathered(self, queries: Mapping[int, MergeQuery]) -> dict[int, MergeQuery]:
        """Return queries at what the dual variables amount to, whatever has become of them."""
        batch = self._update(queries, gather=True)
        self._known = True
        return {
            number: replace(
                queries[number],
                coef=found.effect[:-1].copy(),
                intercept=float(found.effect[-1]),
                share=0.0,
                merged={},
            )
            for number, found in zip(sorted(queries), batch.of, strict=True)
        }

    def _update(
        self, queries: Mapping[int, MergeQuery], *, effect: bool = True, gather: bool = False
    ) -> MergeBatch:
        numbers = sorted(queries)
        asked = [queries[number] for number in numbers]
        chosen = [self.problems[number] for number in numbers]
        self.seed += 1
        ask = MergeAsk(
            numbers=tuple(numbers),
            label=np.array([problem.label for problem in chosen]),
            cost=np.array([problem.cost for problem in chosen]),
            squared=chosen[0].squared,
            scaling=_on_nodes(chosen[0]),
            coef=np.array([query.coef for query in asked]),
            intercept=np.array([query.intercept for query in asked]),
            share=np.array([query.share for query in asked]),
            merged=tuple(query.merged for query in asked),
            quota=tuple(query.quota for query in asked),
            limit=np.array([query.limit for query in asked]),
            seed=self.seed,
            effect=effect,
            gather=gather,
            n_rows=sum(self.rounds.shard_rows),
            start=self.start if gather else None,
            columns=self.columns,
        )
        batch: MergeBatch = self.rounds.update(merge_round, ask)
        return batch

    def _evaluation(self, number: int, query: MergeQuery, found: MergeSums) -> MergeEvaluation:
        problem = self.problems[number]
        objective = found.target + problem.penalty_value(query.coef, query.intercept)
        bound = found.alpha - problem.penalty_value(found.effect[:-1], float(found.effect[-1]))
        if problem.free:
            bound = _balanced(found)
        terms = found.mass * float(np.sqrt(found.effect @ found.effect))
        gap = certified_gap(objective, bound, terms) / bound if bound > 0.0 else np.inf
        return MergeEvaluation(query, objective, bound, gap, 0.0, terms, found)


def _on_nodes(problem: MarginProblem) -> float:
    """Return the value of the intercept's column with which nodes work."""
    return FREE_SCALING if problem.free else problem.scaling


def _inverse_square(scaling: float) -> float:
    return scaling**-2.0 if scaling > 0.0 else 0.0


def _balanced(found: MergeSums) -> float:
    """Return a bound of the dual objective after the heavier class has been made as heavy.

    Its dual variables change by no more than a share, and their sum over the rows by no more than
    that share of the sum of their lengths.
    """
    apart = abs(float(found.effect[-1])) / FREE_SCALING**2
    share = min(2.0 * apart / found.alpha, 1.0) if found.alpha > 0.0 else 0.0
    length = float(np.sqrt(found.effect[:-1] @ found.effect[:-1])) + share * found.mass
    return found.alpha - apart - 0.5 * length**2


class MergeStep:
    """Steps of one problem; see `dask_dml.solvers.base.Step`.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    n_features : int
        Coefficients.
    limit : int
        Rows that may travel in a round.
    deadline : float, default=inf
        `time.monotonic` value after which the driver's work is cut short.
    most : float, default=inf
        Rows in want of a change, after the nodes' own solutions, that are better left to another
        method.
    """

    def __init__(
        self,
        problem: MarginProblem,
        n_features: int,
        limit: int,
        deadline: float = np.inf,
        most: float = np.inf,
    ) -> None:
        self.problem = problem
        self.most = most
        self.deadline = deadline
        self.limit = limit
        self.current: MergeEvaluation
        self.n_iter = 0
        self.stalled = False
        self.optimality = np.inf
        self._few = ROWS_PER_COLUMN * (n_features + 1)
        self._waiting, self._mark = 0, np.inf
        self._next: MergeQuery | None = MergeQuery(np.zeros(n_features), 0.0, limit)

    @property
    def query(self) -> MergeQuery:
        """What is to be evaluated next."""
        if self._next is None:
            self._next = self._merged(self._last)
        return self._next

    def tell(self, evaluation: MergeEvaluation) -> None:
        """Take the answer to ``query``."""
        first = not hasattr(self, "current")
        self.n_iter += 0 if first else 1
        self._last, self._next = evaluation, None
        if first:
            self.current = evaluation
            counts = evaluation.found.counts.values()
            self.stalled = sum(count.unsure for count in counts) > self.most
            return
        best, bound = self.current, max(evaluation.bound, self.current.bound)
        best = evaluation if evaluation.objective <= best.objective else best
        terms = max(evaluation.terms, self.current.terms)
        gap = certified_gap(best.objective, bound, terms) / bound if bound > 0.0 else np.inf
        closed = gap <= (1.0 - PROGRESS) * self._mark
        self._waiting, self._mark = (0, gap) if closed else (self._waiting + 1, self._mark)
        self.stalled = self._waiting > PATIENCE
        self.current = replace(best, bound=bound, relative_gap=gap, terms=terms)

    def _quota(self, counts: Mapping[Part, Count]) -> dict[Part, int]:
        """Return how many rows each part may send, by how many it had to send before."""
        unsure = np.array([count.unsure for count in counts.values()], float)
        rows = np.array([count.rows for count in counts.values()], float)
        wanted = float(unsure.sum())
        if wanted >= self.limit:
            quota = self.limit * unsure / wanted
        else:
            # Some more go with them: those that are held at a bound least.
            rest = min(self.limit - wanted, max(wanted, self._few))
            quota = unsure + 0.5 * rest * (rows / rows.sum() + unsure / max(wanted, 1.0))
        return dict(zip(counts, map(int, np.ceil(quota)), strict=True))

    def _scaling(self, e: MergeEvaluation) -> float:
        """Return the value of the intercept's column.

        A free intercept is penalised so little that neither the penalty nor what balancing the
        classes costs shows in the gap.
        """
        if not self.problem.free:
            return self.problem.scaling
        found, b = e.found, abs(e.query.intercept)
        least = FREE_SHARE * max(e.bound, 1e-3 * e.objective, 1e-300)
        length = float(np.sqrt(found.effect[:-1] @ found.effect[:-1]))
        price = 1.0 + 2.0 * length * found.mass / found.alpha if found.alpha > 0.0 else 1.0
        return float(np.sqrt(max(FREE_SCALING**2, b * max(b, price) / least)))

    def _merged(self, e: MergeEvaluation) -> MergeQuery:
        """Return the point with the largest dual objective that can be reached."""
        found, rows = e.found, e.found.rows
        scaling = self._scaling(e)
        # From what the nodes' column amounts to, as an intercept, to the coefficient of this one.
        unit = scaling * _inverse_square(_on_nodes(self.problem))
        box = Box(
            X=rows.X.astype(np.float64),
            sign=rows.sign,
            bias=scaling,
            upper=rows.cost,
            squared=self.problem.squared,
            most=4.0 * self.current.objective,
            near=self.current.query.intercept,
            whole=len(rows.sign) == sum(count.rows for count in found.counts.values()),
            start=rows.alpha,
            fixed=np.empty(0),
            along=np.append(found.move[:-1], unit * found.move[-1]),
            rise=found.rise,
        )
        here = np.append(found.effect[:-1], unit * found.effect[-1])
        box = replace(box, fixed=here - box.effect(rows.alpha))
        gap = min(PRECISION, OF_GAP * self.current.relative_gap)
        best = maximise(box, max(gap * abs(e.bound), 1e-300), self.deadline)
        # The order in which parts were added up is that of their rows.
        ends = np.cumsum([count.sent for count in found.counts.values()])
        return MergeQuery(
            coef=best.point[:-1],
            intercept=float(scaling * best.point[-1]),
            limit=self.limit,
            quota=self._quota(found.counts),
            share=best.share,
            merged=dict(zip(found.counts, np.split(best.a, ends[:-1]), strict=True)),
        )
