"""Evaluates a batch of support vector machines by rounds over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dask_dml.objective.interior import InteriorAnswer, InteriorQuery, ask_interior
from dask_dml.objective.margins import (
    STEPS,
    MarginEvaluation,
    MarginProblem,
    MarginQuery,
    Product,
    ProductQuery,
    evaluation,
)
from dask_dml.passes import margins as margin_passes
from dask_dml.passes.margin_cache import margins_by_memory
from dask_dml.passes.products import Curvatures, ProductAsk, WindowRows, products, window_rows
from dask_dml.rounds.base import Rounds, regaining


class MarginObjective:
    """Evaluates problems of a batch by rounds over the data.

    Parameters
    ----------
    rounds : Rounds
        The data.
    problems : sequence of MarginProblem
        The batch.
    columns : ndarray of shape (n_occurring,) or None, default=None
        The columns of X that all coefficients are about, where many never occur: only these
        travel.  None for all.
    remember : bool, default=False
        Whether shards may remember margins, so that late passes read few rows: not together with
        `ProductQuery`.
    """

    def __init__(
        self,
        rounds: Rounds,
        problems: list[MarginProblem],
        columns: np.ndarray | None = None,
        *,
        remember: bool = False,
    ) -> None:
        self.rounds = rounds
        self.problems = tuple(problems)
        self.columns = columns
        # The points whose curvatures lie beside the shards.
        self._told: dict[int, int] = {}
        # Products leave something else beside the shards.
        only = self.problems[0]
        narrow = columns is None and len(problems) == 1
        self._remember = remember and narrow and not only.squared

    def evaluate(
        self, queries: Mapping[int, MarginQuery | ProductQuery | InteriorQuery]
    ) -> dict[int, MarginEvaluation | Product | WindowRows | InteriorAnswer]:
        """Answer the queries of several problems, by problem number, one round for each kind."""
        answers: dict[int, MarginEvaluation | Product | WindowRows | InteriorAnswer] = {}
        inner = {n: q for n, q in queries.items() if isinstance(q, InteriorQuery)}
        if inner:
            answers |= ask_interior(self.rounds, self.problems, inner, self.columns)
        factors = {n: q for n, q in queries.items() if isinstance(q, ProductQuery)}
        if factors:
            answers |= self._products(factors)
        points = {n: q for n, q in queries.items() if isinstance(q, MarginQuery)}
        if points:
            answers |= self._points(points)
        return answers

    def _points(self, queries: dict[int, MarginQuery]) -> dict[int, MarginEvaluation]:
        numbers = sorted(queries)
        asked = [queries[number] for number in numbers]
        moving = any(query.move is not None for query in asked)
        columns = asked[0].columns
        for query in asked[1:]:
            columns = np.union1d(columns, query.columns)
        point = margin_passes.MarginPoint(
            **self._where(numbers, asked),
            move=_shortened([_vector(q.move, q.coef) for q in asked]) if moving else None,
            move_intercept=np.array([query.move_intercept for query in asked]),
            grid=np.array([(STEPS - 1.0) * query.step for query in asked])
            if moving
            else np.empty((len(asked), 0)),
            stride=np.array([query.stride for query in asked]),
            hessian=any(query.hessian for query in asked),
            columns=columns,
            split=any(self.problems[number].free for number in numbers),
            occurring=self.columns,
        )
        total = self._margins(point)
        answers = {}
        for at, number in enumerate(numbers):
            hessian = None
            if total.hessian is not None:
                hessian = _chosen(total.hessian[at], columns, queries[number].columns)
            positive = None if total.positive is None else total.positive[at]
            answers[number] = evaluation(
                self.problems[number],
                queries[number],
                total.sums[at],
                total.gradient[at],
                positive,
                total.line[at],
                hessian,
            )
        return answers

    def _margins(self, point: margin_passes.MarginPoint) -> margin_passes.MarginSums:
        total: margin_passes.MarginSums
        if not self._remember:
            total = self.rounds.map_reduce(margin_passes.margins, point)
            return total
        # The shards that have forgotten read all of their rows again.
        total = regaining(
            self.rounds, lambda: self.rounds.update(margins_by_memory, point), lambda: None
        )
        return total

    def _products(self, queries: dict[int, ProductQuery]) -> dict[int, Product | WindowRows]:
        answers: dict[int, Product | WindowRows] = {}
        for kind in ("product", "pull", "rows"):
            numbers = sorted(n for n, q in queries.items() if q.kind == kind)
            if not numbers:
                continue
            asked = [queries[number] for number in numbers]
            if kind == "rows":
                rows = self.rounds.map_reduce(window_rows, self._curvatures(numbers, asked))
                answers |= dict(zip(numbers, rows.of, strict=True))
            else:
                for number, row in zip(numbers, self._product_round(numbers, asked), strict=True):
                    answers[number] = Product(row[:-1], float(row[-1]))
        return answers

    def _product_round(self, numbers: list[int], asked: Sequence[ProductQuery]) -> np.ndarray:
        points = {number: query.point for number, query in zip(numbers, asked, strict=True)}
        known = points.items() <= self._told.items()
        moves = [query.move for query in asked if query.move is not None]
        ask = ProductAsk(
            points=tuple(points.items()),
            where=None if known else self._curvatures(numbers, asked),
            move=np.array(moves) if moves else None,
            move_intercept=np.array([query.move_intercept for query in asked]),
            columns=self.columns,
        )

        def regain() -> None:
            # What was lost is worked out again from the points.
            nonlocal ask
            self._told = {}
            ask = replace(ask, where=self._curvatures(numbers, asked))

        total: np.ndarray = regaining(
            self.rounds, lambda: self.rounds.update(products, ask), regain
        )
        self._told |= points
        return total

    def _curvatures(self, numbers: list[int], asked: Sequence[ProductQuery]) -> Curvatures:
        return Curvatures(**self._where(numbers, asked), columns=self.columns)

    def _where(
        self, numbers: list[int], asked: Sequence[MarginQuery | ProductQuery]
    ) -> dict[str, np.ndarray]:
        chosen = [self.problems[number] for number in numbers]
        return {
            "label": np.array([problem.label for problem in chosen]),
            "cost": np.array([problem.cost for problem in chosen]),
            "parameters": np.array(
                [p.parameters(q.width) for p, q in zip(chosen, asked, strict=True)]
            ),
            "coef": np.array([query.coef for query in asked]),
            "intercept": np.array([query.intercept for query in asked]),
        }


def _shortened(moves: list[np.ndarray]) -> np.ndarray:
    """Return the rows of a matrix, as float32 where nothing is lost."""
    whole = np.array(moves)
    short = whole.astype(np.float32)
    return short if np.array_equal(short, whole) else whole


def _vector(move: np.ndarray | None, coef: np.ndarray) -> np.ndarray:
    return np.zeros_like(coef) if move is None else move


def _chosen(hessian: np.ndarray, columns: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if len(columns) == len(wanted):
        return hessian
    at = np.append(np.searchsorted(columns, wanted), [len(columns), len(columns) + 1])
    return hessian[np.ix_(at, at)]
