"""Questions and answers of an interior-point method for a support vector machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dask_dml.objective.margins import (
    MarginEvaluation,
    MarginProblem,
    MarginQuery,
    evaluation,
)
from dask_dml.passes.interior import InteriorAsk, InteriorSums, interior
from dask_dml.rounds.base import Rounds, regaining


@dataclass(frozen=True)
class InteriorQuery:
    """What a step of an interior-point method wants to know of the rows.

    Attributes
    ----------
    coef, intercept
        The point.
    centre : float
        Where on the central path rows begin that have no variables yet; what the products of
        variables shall be after a step.
    stage : {"start", "look", "predict", "direct"}
        See `dask_dml.passes.interior.InteriorAsk`.
    step : float
        How much of the last direction has been gone.
    move : ndarray of shape (n_features + 1,) or None
        Direction of the coefficients, intercept last.
    """

    coef: np.ndarray
    intercept: float
    centre: float
    stage: Literal["start", "look", "predict", "direct"] = "start"
    step: float = 0.0
    move: np.ndarray | None = None


@dataclass(frozen=True)
class InteriorAnswer:
    """The answer to an `InteriorQuery`.

    Attributes
    ----------
    vectors : ndarray of shape (n_vectors, n_features + 1)
        See `dask_dml.passes.interior.InteriorSums`.
    products : ndarray of shape (4,)
        As there.
    longest : float
        How far along the direction all variables of rows stay positive.
    evaluation : MarginEvaluation or None
        Objective and gap at the point of a look.
    """

    vectors: np.ndarray
    products: np.ndarray
    longest: float
    evaluation: MarginEvaluation | None = None


def ask_interior(
    rounds: Rounds,
    problems: tuple[MarginProblem, ...],
    queries: dict[int, InteriorQuery],
    columns: np.ndarray | None,
) -> dict[int, InteriorAnswer]:
    """Answer the queries of several problems, by problem number: a round for each stage.

    Parameters
    ----------
    rounds : Rounds
        The data.
    problems : tuple of MarginProblem
        The whole batch.
    queries : dict of int to InteriorQuery
        Of some problems.
    columns : ndarray of shape (n_occurring,) or None
        The columns of X that all coefficients are about; None for all.
    """
    answers: dict[int, InteriorAnswer] = {}
    for stage in ("start", "look", "predict", "direct"):
        numbers = sorted(n for n, q in queries.items() if q.stage == stage)
        if numbers:
            asked = [queries[number] for number in numbers]
            ask = _ask(stage, numbers, [problems[n] for n in numbers], asked, columns)
            # Rows that have lost their variables begin anew at the point.
            total = _round(rounds, ask)
            for at, number in enumerate(numbers):
                answers[number] = _answer(problems[number], queries[number], total, at)
    return answers


def ask_rows(
    visit: Callable[[InteriorAsk], InteriorSums], problem: MarginProblem, query: InteriorQuery
) -> InteriorAnswer:
    """Answer a query of one problem about rows at hand, without the system's matrix.

    Parameters
    ----------
    visit : callable
        Returns what `dask_dml.passes.interior.interior` says of all rows.
    problem : MarginProblem
        The problem, number 0.
    query : InteriorQuery
        The query.
    """
    total = visit(replace(_ask(query.stage, [0], [problem], [query], None), hessian=False))
    return _answer(problem, query, total, 0)


def _round(rounds: Rounds, ask: InteriorAsk) -> InteriorSums:
    total: InteriorSums = regaining(rounds, lambda: rounds.update(interior, ask), lambda: None)
    return total


def _ask(
    stage: str,
    numbers: list[int],
    problems: list[MarginProblem],
    queries: list[InteriorQuery],
    columns: np.ndarray | None,
) -> InteriorAsk:
    none = np.zeros(len(queries[0].coef) + 1)
    return InteriorAsk(
        stage,
        tuple(numbers),
        np.array([p.label for p in problems]),
        np.array([p.cost for p in problems]),
        np.array([p.squared for p in problems]),
        np.array([q.coef for q in queries]),
        np.array([q.intercept for q in queries]),
        np.array([q.centre for q in queries]),
        np.array([q.step for q in queries]),
        np.array([none if q.move is None else q.move for q in queries]),
        columns,
    )


def _answer(
    problem: MarginProblem, query: InteriorQuery, total: InteriorSums, at: int
) -> InteriorAnswer:
    vectors = total.vectors[at]
    seen: MarginEvaluation | None = None
    if query.stage in ("start", "look"):
        hessian = None if total.hessian is None else total.hessian[at]
        seen = evaluation(
            problem,
            MarginQuery(query.coef, query.intercept, 0.0, hessian=True),
            total.sums[at],
            vectors[1, :-1] + vectors[2, :-1],
            vectors[2, :-1],
            np.empty((0, 2)),
            hessian,
        )
    return InteriorAnswer(vectors, total.products[at], float(total.longest[at]), seen)
