"""Questions and answers of an interior-point method for a regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dask_dml.objective.losses import Loss
from dask_dml.objective.problem import Evaluation, Objective, Query
from dask_dml.passes.residual_interior import (
    ResidualAsk,
    ResidualSums,
    Several,
    SeveralSums,
    row_curvatures,
    several,
)
from dask_dml.rounds.base import regaining

STAGES = ("start", "look", "predict", "direct")


@dataclass(frozen=True)
class ResidualQuery:
    """What a step of an interior-point method wants to know of the rows.

    Attributes
    ----------
    z : ndarray of shape (n_features + 1,)
        The point, intercept last.
    centre : float
        Where on the central path rows begin that have no variables yet; what the products of
        variables shall be after a step.
    stage : {"start", "look", "predict", "direct"}
        See `dask_dml.passes.residual_interior.ResidualAsk`.
    step : float
        How much of the last direction has been gone.
    move : ndarray of shape (n_features + 1,) or None
        Direction of the point.
    """

    z: np.ndarray
    centre: float
    stage: Literal["start", "look", "predict", "direct"] = "start"
    step: float = 0.0
    move: np.ndarray | None = None


@dataclass(frozen=True)
class ResidualAnswer:
    """The answer to a `ResidualQuery`.

    Attributes
    ----------
    vectors : ndarray of shape (n_vectors, n_features + 1)
        See `dask_dml.passes.residual_interior.ResidualSums`.
    products : ndarray of shape (4,)
        As there.
    longest : float
        How far along the direction all variables of rows stay positive.
    evaluation : Evaluation or None
        Objective and gap at the point of a look, and the matrix of the next system.
    """

    vectors: np.ndarray
    products: np.ndarray
    longest: float
    evaluation: Evaluation | None = None


class InteriorObjective(Objective):
    """An objective that answers the questions of interior-point methods, too.

    Attributes
    ----------
    matrices : bool
        Whether a look finds the matrix of the next system; see `curvatures`.
    """

    matrices = True

    def curvatures(self, number: int, query: ResidualQuery) -> np.ndarray:
        """Return how much each row counts in the matrix of a look, where a single shard has all."""
        ask = _ask(self, "look", [number], [query])
        found: np.ndarray = self.rounds.update(row_curvatures, ask)
        return found

    def evaluate(self, queries: dict[int, Query | ResidualQuery]) -> dict[int, Any]:  # type: ignore[override]  # two kinds
        """Answer the queries of several problems, by problem number, in one round."""
        plain = {n: q for n, q in queries.items() if isinstance(q, Query)}
        inner = {n: q for n, q in queries.items() if isinstance(q, ResidualQuery)}
        if not inner:
            return dict(super().evaluate(plain))
        numbers = {
            stage: sorted(n for n, q in inner.items() if q.stage == stage) for stage in STAGES
        }
        numbers = {stage: some for stage, some in numbers.items() if some}
        asks = [
            _ask(self, stage, some, [inner[n] for n in some]) for stage, some in numbers.items()
        ]
        wanted = Several(self.point(plain) if plain else None, tuple(asks))
        # Rows that have lost their variables begin anew at the point.
        total: SeveralSums = regaining(
            self.rounds, lambda: self.rounds.update(several, wanted), lambda: None
        )
        answers: dict[int, Any] = {}
        if total.plain is not None:
            answers.update(self.answers(plain, total.plain))
        for ask, sums in zip(asks, total.of, strict=True):
            for at, number in enumerate(ask.numbers):
                answers[number] = _answer(self, number, inner[number], sums, at)
        return answers


def _ask(
    objective: InteriorObjective, stage: str, numbers: list[int], queries: list[ResidualQuery]
) -> ResidualAsk:
    problems, frame = [objective.problems[number] for number in numbers], objective.frame
    column = np.array([problem.column for problem in problems], dtype=np.intp)
    return ResidualAsk(
        stage=stage,
        numbers=tuple(numbers),
        column=column,
        target_mean=frame.target_mean[column],
        losses=np.array([_sides(problem.loss) for problem in problems]),
        coef=np.array([q.z[:-1] for q in queries]),
        intercept=np.array([q.z[-1] for q in queries]),
        centre=np.array([q.centre for q in queries]),
        step=np.array([q.step for q in queries]),
        move=np.array([np.zeros_like(q.z) if q.move is None else q.move for q in queries]),
        mean=frame.mean,
        offset=frame.offset,
        scale=1.0 / frame.weight,
        units=objective.units,
        matrices=objective.matrices,
    )


def _sides(loss: Loss) -> tuple[float, float, float, float]:
    """Return margin, slopes and inverse curvature of the two sides."""
    return loss.margin, loss.slope + loss.tilt, loss.slope - loss.tilt, loss.inverse_curvature


def _answer(
    objective: Objective, number: int, query: ResidualQuery, total: ResidualSums, at: int
) -> ResidualAnswer:
    seen: Evaluation | None = None
    vectors = total.vectors[at]
    if query.stage in ("start", "look"):
        matrix = None if total.hessian is None else total.hessian[at]
        # The linear term of a tilted loss is in the dual variables.
        tilt = objective.problems[number].loss.tilt
        gradient = tilt * objective.frame.residual_mean - vectors[0, :-1]
        point = Query(query.z[:-1], float(query.z[-1]), hessian=True)
        with np.errstate(over="ignore", invalid="ignore"):
            seen = objective.judged(
                number, point, gradient, total.sums[at], matrix, own_slopes=False
            )
    return ResidualAnswer(vectors, total.products[at], float(total.longest[at]), seen)
