"""Newton's method for linear support vector machines, with a line search that costs no pass.

S. S. Keerthi and D. DeCoste, *A modified finite Newton method for fast solution of large scale
linear SVMs*, Journal of Machine Learning Research 6 (2005); for the hinge, which has a kink,
O. Chapelle, *Training a support vector machine in the primal*, Neural Computation 19 (2007),
with the width of the rounded kink taken down as the smoothed problem gets solved.  With an L1
penalty the quadratic model keeps it (proximal Newton; Lee, Sun and Saunders, 2014) over a
working set of columns.  Where columns are many, the system is solved by conjugate gradients, a
pass for each product with the Hessian.

Every pass evaluates the whole step *and* the loss at some fractions of it, so that a line search
is a by-product; only where the whole step is a bad one does a second pass follow.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from dask_dml.objective.interior import InteriorAnswer, InteriorQuery
from dask_dml.objective.margins import (
    MarginEvaluation,
    MarginProblem,
    MarginQuery,
    Product,
    ProductQuery,
)
from dask_dml.passes.products import WindowRows
from dask_dml.solvers.base import Continuation
from dask_dml.solvers.margin_descent import FEW_ROWS, descend
from dask_dml.solvers.margin_interior import interior_point, pace_of
from dask_dml.solvers.margin_rows import solve_by_rows
from dask_dml.solvers.margin_search import search
from dask_dml.solvers.margin_systems import (
    ConjugateGradients,
    Preconditioner,
    check_start,
    hessian_of,
    intercept_curvature,
    predicted_gain,
    product_query,
    ridge_of,
    secant,
    slope_of,
    solve_definite,
    step_by_rows,
    working_set,
)
from dask_dml.solvers.quadratic import minimise_quadratic, symmetric

#: Columns up to which a Hessian is formed.
MAX_COLUMNS = 2000
#: Rows for each column that a Hessian is made of where there are more: enough for a step that
#: leaves some percent of the distance, at a fraction of the work.
HESSIAN_ROWS = 30
#: The same, and rows of the data for each column and each row of the Hessian, where a Hessian
#: serves several steps.
LASTING_ROWS, LASTING_WORK = 240, 8
#: Share of the distance to the optimum below which a step needs no better Hessian.
GOOD_STEP = 0.1
#: Columns up to which a singular model with an L1 penalty is quickly solved.
MAX_DEGENERATE = 100
#: Multiplications that a Hessian may cost in any case.
HESSIAN_WORK = 5e7
#: Rows with a curvature up to which they are fetched where columns are many, and where conjugate
#: gradients do not get there.
MAX_ROWS, MERGED_ROWS = 3000, 6000
#: Products with the Hessian in a step, and share of the squared residual that they may leave.
MAX_PRODUCTS, FORCING = 100, 0.05
#: Columns for which the preconditioner is exact, of all problems together.
DENSE_COLUMNS = 300
#: Gap after coordinate descent at which the classes are all but separated, and columns of a model
#: with an L1 penalty that takes as long as many interior points where a step leaves such a gap.
SEPARATED, LARGE_MODEL = 1.0, 500
#: Gap that, after so many passes, is that of weights over many decades.
HOPELESS, FEW_PASSES = 1e6, 12

_Asked = MarginQuery | ProductQuery | InteriorQuery
_Told = MarginEvaluation | Product | WindowRows | InteriorAnswer
_NO_COLUMNS = np.empty(0, np.intp)


class SvmNewtonStep:
    """Steps of one problem; see `dask_dml.solvers.base.Step`.

    Parameters
    ----------
    problem : MarginProblem
        The problem.
    coef : ndarray of shape (n_features,)
        Starting point.
    intercept : float
        Starting point.
    width : float
        First width of the rounded kink.
    tol : float
        Relative gap that is aimed at.
    n_rows : int
        Number of rows of the data.
    squares : ndarray of shape (n_features,) or None
        Mean squares of the columns, which conjugate gradients are preconditioned by.
    n_dense : int
        Columns for which the preconditioner is exact.
    looks : bool, default=True
        Whether to look at the loss along the whole step, which a pass does for half its price.
    deadline : float, default=inf
        `time.monotonic` value after which no further system of an L1 penalty is solved.
    inside : bool, default=False
        Whether to begin with the interior-point method, where columns are few enough.
    travels : bool, default=False
        Whether all rows may travel to the driver.
    """

    def __init__(
        self,
        problem: MarginProblem,
        coef: np.ndarray,
        intercept: float,
        width: float,
        tol: float,
        n_rows: int,
        squares: np.ndarray | None = None,
        n_dense: int = DENSE_COLUMNS,
        looks: bool = True,
        deadline: float = np.inf,
        inside: bool = False,
        travels: bool = False,
    ) -> None:
        self._inside, self._travels = inside, travels
        self._squares = np.zeros(len(coef)) if squares is None else squares
        self.n_rows, self.n_columns = n_rows, len(coef)
        self.problem = problem
        self.tol, self._deadline = tol, deadline
        self.n_iter, self._n_passes, self.stalled = 0, 0, False
        self.optimality = np.inf
        self.current: MarginEvaluation
        # The squared hinge has no kink: its only width is infinite.
        self.continuation = Continuation(np.inf if problem.squared else 0.0, width)
        self._precise = False
        # What the last step was to gain.
        self._expected = np.inf
        self._best_gap, self._n_worse, self._damping = np.inf, 0, 0.0
        self._looks = looks
        self._metric: np.ndarray | None = None
        # The squared hinge bends alike at all points near the optimum.
        self._lasts = problem.squared and not problem.l1 and len(coef) <= MAX_COLUMNS
        # Whether a Hessian of few rows has failed, and all are taken.
        self._whole = False
        self._n_failed, self.interior = 0, False
        self._pace = pace_of(problem, tol, deadline)
        self._bent, self._keeps = np.empty((0, 0)), False
        # Whether conjugate gradients have come to their limit.
        self._hard = False
        self._wide = len(coef) > MAX_COLUMNS
        # Those of the Hessian: none is all of them.
        self._columns = _NO_COLUMNS
        if self._wide and not problem.l1:
            self._columns = np.sort(np.argpartition(self._squares, -n_dense)[-n_dense:])
        self._script = self._run(coef, intercept)
        self.query: _Asked = next(self._script)

    def tell(self, answer: _Told) -> None:
        """Take the answer to ``query`` and set the next one."""
        if isinstance(answer, MarginEvaluation) and not hasattr(self, "current"):
            self.current = answer
        self._n_passes += 1
        self.query = self._script.send(answer)

    def _run(self, coef: np.ndarray, intercept: float) -> Generator[_Asked, Any, None]:
        e = yield MarginQuery(
            coef,
            intercept,
            self._width,
            hessian=self._forms_hessian,
            stride=self._stride(None),
            columns=self._columns,
        )
        check_start(e)
        if self.problem.l1 and self._wide:
            if self._travels and not np.any(coef):
                e = yield from self._descend(e)
            self._columns = working_set(e.query.coef, e.gradient, MAX_COLUMNS)
            asked = {"stride": self._stride(e), "columns": self._columns}
            e = yield replace(e.query, hessian=True, **asked)
        while True:
            self.current = e
            if not self._wide and (self._inside or self._is_degenerate(e)):
                yield from self._interior_point(e)
            narrowed = self._narrow(e)
            move = yield from self._direction(e)
            if self._wide:
                # Half the digits are half the way to the workers; the point is made of these.
                move = move.astype(np.float32).astype(np.float64)
            self._expected = predicted = predicted_gain(self.problem, e, move)
            self._precise = predicted <= 1e-9 * abs(e.objective)
            if not narrowed and self._is_exhausted(e, predicted):
                if not self.continuation.narrow(0.0, np.inf):
                    self.stalled = True
                    yield self.query
                move = np.zeros_like(move)
            before, e = e, (yield from self._search(e, move))
            self._adapt(before, e)
            self.n_iter += 1
            if not self._wide and self._is_stuck(e):
                yield from self._interior_point(e)
            if self._n_failed > 1:
                self.current, self.stalled = e, True
                yield self.query

    def _descend(self, e: MarginEvaluation) -> Generator[_Asked, Any, MarginEvaluation]:
        """Solve for the coefficients on the driver."""
        rows = yield product_query(e, self.n_iter, "rows")
        z = descend(self.problem, rows, 0.5 * self.tol, self._deadline)
        self.current = e = yield MarginQuery(z[:-1], float(z[-1]), self._width)
        self.n_iter += 1
        if e.relative_gap > self.tol and len(rows.bend) <= FEW_ROWS:
            z = solve_by_rows(self.problem, rows, e, 0.5 * self.tol, self._deadline)
            found = yield MarginQuery(z[:-1], float(z[-1]), self._width)
            self.current = e = found if found.objective <= e.objective else e
            self.n_iter += 1
        # Models of very many columns, or of rows that are all but separated, take minutes to solve.
        self.stalled = bool(np.count_nonzero(z) > MAX_COLUMNS or e.relative_gap > SEPARATED)
        return e

    def _is_degenerate(self, e: MarginEvaluation) -> bool:
        """Return whether a model with an L1 penalty is singular, and not quickly solved."""
        return self.problem.l1 and e.n_bent < self.n_columns > MAX_DEGENERATE

    def _is_exhausted(self, e: MarginEvaluation, predicted: float) -> bool:
        """Return whether rounding hides all that could be gained at this width."""
        if predicted > 1e-13 * abs(e.objective):
            return False
        self._n_worse = 0 if e.gap < self._best_gap else self._n_worse + 1
        self._best_gap = min(e.gap, self._best_gap)
        return self._n_worse >= 3

    def _is_stuck(self, e: MarginEvaluation) -> bool:
        """Return whether the gap falls so slowly that an interior-point method is sooner there."""
        slow = self._pace.is_slow(e.relative_gap)
        large = self.problem.l1 and self.n_columns > LARGE_MODEL
        most = SEPARATED if large else HOPELESS if self._n_passes > FEW_PASSES else np.inf
        return self._n_failed > 0 or slow or e.relative_gap > most

    def _interior_point(self, e: MarginEvaluation) -> Generator[_Asked, Any, None]:
        self.interior = True

        def look(best: MarginEvaluation) -> None:
            self.current = best
            self.n_iter += 1

        yield from interior_point(self.problem, e, self.n_rows, look)
        self.stalled = True
        yield self.query

    def _adapt(self, before: MarginEvaluation, e: MarginEvaluation) -> None:
        """Trust the Hessian of few rows less where the step had to be cut."""
        self._looks = e.query.step < 1.0
        many = e.n_bent >= HESSIAN_ROWS * (self.n_columns + 1)
        self._keeps = self._lasts and many and e.gap <= GOOD_STEP * before.gap
        if e.hessian is None:
            a, b = before.query, e.query
            step = np.append(b.coef - a.coef, b.intercept - a.intercept)
            bends = np.append(e.gradient - before.gradient, 0.0)
            bends[-1] = e.intercept_gradient - before.intercept_gradient
            self._bent = secant(self._bent, step, bends)
        if e.query.step < 0.3:
            self._damping = min(max(4.0 * self._damping, 0.5), 10.0)
        else:
            self._damping *= 0.2

    @property
    def _width(self) -> float:
        return self.continuation.width

    @property
    def _forms_hessian(self) -> bool:
        return not (self._wide and self.problem.l1)

    def _stride(self, e: MarginEvaluation | None) -> int:
        """Return how many rows one row may stand for in the next Hessian."""
        n_bent = float(self.n_rows)
        if self._whole:
            return 1
        if e is None:
            # Nothing is known yet: of standardised margins about this share is in the window.
            n_bent *= min(0.3 * self._width, 1.0)
        else:
            n_bent = e.n_bent
            if not self.problem.squared:
                n_bent *= min(self._width / e.query.width, 1.0)
        n_columns = len(self._columns) or self.n_columns
        enough = max(HESSIAN_ROWS * (n_columns + 1), HESSIAN_WORK / (n_columns + 1) ** 2)
        if self._lasts:
            lasting = min(LASTING_ROWS * (n_columns + 1), LASTING_WORK * self.n_rows / n_columns)
            enough = max(enough, lasting)
        exact = self._precise and (self.problem.l1 or not self._wide)
        return 1 if exact else max(1, int(n_bent / enough))

    # The width

    def _narrow(self, e: MarginEvaluation) -> bool:
        """Narrow the window once the smoothed problem is solved better than the width costs."""
        # A gap whose dual variables had to be scaled down does not tell width and distance apart.
        unclear = self._wide or max(e.dual_scale) < 0.9
        if self.problem.squared or (unclear and self._expected > e.slack):
            return False
        # The slack falls about with the square of the width: aim at a third of the tolerance.
        wanted = 0.3 * self.tol * max(e.objective, 1e-300)
        factor = np.sqrt(wanted / e.slack) if e.slack > 0.0 else 1.0
        # Where columns are many, so are the rows that end up at the kink, and all have to follow.
        settled = e.query.step == 1.0 and self._expected < 0.1 * e.slack
        least = (0.2 if settled else 0.35) if self._wide else 0.1
        self.continuation.factor = float(np.clip(factor, least, 0.5))
        return self.continuation.narrow(e.gap - e.slack, e.slack)

    # The direction

    def _direction(self, e: MarginEvaluation) -> Generator[_Asked, Any, np.ndarray]:
        if self.problem.l1:
            return self._proximal_direction(e)
        most = MERGED_ROWS if self._hard else MAX_ROWS
        if self._wide and e.n_bent <= most:
            return self._direction_by_rows(e, (yield product_query(e, self.n_iter, "rows")))
        if self._wide:
            return (yield from self._conjugate_gradients(e))
        return self._newton_direction(e)

    def _newton_direction(self, e: MarginEvaluation) -> np.ndarray:
        slope, p = slope_of(self.problem, e), len(e.query.coef)
        if e.hessian is not None:
            self._bent = symmetric(e.hessian[:-1, :-1])
        H, ridge = self._bent.copy(), ridge_of(self.problem, p)
        narrower = self._narrower(e)
        if narrower > 1.0:
            z = np.append(e.query.coef, e.query.intercept)
            slope -= (narrower - 1.0) * (hessian_of(e)[-1, :-1] - H @ z)
        if self.problem.free:
            H[p, p] = max(H[p, p], intercept_curvature(self.problem, e))
        self._learn_metric(e, H)
        H *= narrower
        if self._damping > 0.0 and self._metric is not None:
            H += self._damping * self._metric
        if self.problem.scaling == 0.0:
            return np.append(-solve_definite(H[:p, :p], slope[:p], ridge[:p]), 0.0)
        return -solve_definite(H, slope, ridge)

    def _learn_metric(self, e: MarginEvaluation, H: np.ndarray) -> None:
        if not self.problem.squared and e.n_bent >= 3 * len(H):
            self._metric = H.copy()

    def _proximal_direction(self, e: MarginEvaluation) -> np.ndarray:
        p = len(e.query.coef)
        columns = self._columns if self._wide else np.arange(p)
        H = symmetric(hessian_of(e)[:-1, :-1])
        # Columns that are the same leave the model without a unique minimiser.
        H[np.diag_indices_from(H)] *= 1.0 + 1e-10
        l1 = ridge_of(self.problem, len(columns))
        slope = slope_of(self.problem, e)
        at = np.append(columns, p)
        if self.problem.scaling == 0.0:
            H, l1, at = H[:-1, :-1], l1[:-1], at[:-1]
        elif self.problem.free:
            H[-1, -1] = max(H[-1, -1], intercept_curvature(self.problem, e))
        z = np.append(e.query.coef, e.query.intercept)
        linear = H @ z[at] - slope[at]
        move = np.zeros(p + 1)
        found = minimise_quadratic(H, linear, l1, np.zeros(len(at)), z[at], self._deadline)
        move[at] = found - z[at]
        return move

    def _direction_by_rows(self, e: MarginEvaluation, rows: WindowRows) -> np.ndarray:
        ridge = ridge_of(self.problem, len(e.query.coef))
        if self.problem.free:
            ridge[-1] = 1e-6 * intercept_curvature(self.problem, e)
        intercept = 0.0 if self.problem.scaling == 0.0 else 1.0
        ridge += self._damping * self._like_all_rows(e, ridge)
        return step_by_rows(slope_of(self.problem, e), ridge, rows, self._narrower(e), intercept)

    def _like_all_rows(self, e: MarginEvaluation, ridge: np.ndarray) -> np.ndarray:
        """Return the Hessian's diagonal as if the rows in the window were like all others."""
        return ridge + self._narrower(e) * e.bend * np.append(self._squares, 1.0)

    def _conjugate_gradients(self, e: MarginEvaluation) -> Generator[_Asked, Any, np.ndarray]:
        narrower = self._narrower(e)
        slope, ridge = slope_of(self.problem, e), ridge_of(self.problem, len(e.query.coef))
        if narrower > 1.0:
            pull = yield product_query(e, self.n_iter, "pull")
            slope -= (narrower - 1.0) * np.append(pull.vector, pull.intercept)
        block = narrower * hessian_of(e)[:-1, :-1]
        if self.problem.free:
            block[-1, -1] = max(block[-1, -1], narrower * intercept_curvature(self.problem, e))
        diagonal = self._like_all_rows(e, ridge)
        if self._damping > 0.0 and not self.problem.squared:
            ridge = ridge + self._damping * diagonal
            diagonal = (1.0 + self._damping) * diagonal
        if self.problem.scaling == 0.0:
            slope[-1], block[-1], diagonal[-1], ridge[-1] = 0.0, 0.0, 1.0, 1.0
        precondition = Preconditioner(diagonal, self._columns, block, ridge)
        # Half the squared slope is what a point that is not optimal adds to the gap.
        enough = 0.4 * self.tol * abs(e.objective)
        system = ConjugateGradients(-slope, precondition, FORCING, enough, MAX_PRODUCTS)
        while system.vector is not None:
            told = yield product_query(e, self.n_iter, "product", system.vector)
            image = narrower * np.append(told.vector, told.intercept).astype(np.float64)
            if self.problem.scaling == 0.0:
                image[-1] = 0.0
            system.tell(image + ridge * system.vector)
        self._hard = self._hard or system.left <= 0
        return system.solution

    def _narrower(self, e: MarginEvaluation) -> float:
        """Return by how much the window has been narrowed since the evaluation.

        The rows inside it are to stay there with the same dual variables: the model is that of
        the narrower window with the rows of the wider one.
        """
        return 1.0 if self.problem.squared else e.query.width / self._width

    # The line search

    def _search(
        self, e: MarginEvaluation, move: np.ndarray
    ) -> Generator[_Asked, Any, MarginEvaluation]:
        """Return a lower point along the move; where there is none, the start again."""
        p = self.n_columns
        if self.problem.l1 and self._wide:
            self._columns = np.union1d(
                working_set(e.query.coef, e.gradient, MAX_COLUMNS),
                np.flatnonzero(e.query.coef + move[:p]),
            )

        def query(step: float, looks: bool) -> MarginQuery:
            # Few rows miss columns that are rare, and make steps along these too long.
            self._whole = self._whole or (step < 1.0 and e.query.stride > 1)
            return MarginQuery(
                e.query.coef + step * move[:p],
                e.query.intercept + step * float(move[p]),
                self._width,
                move[:p] if looks else None,
                float(move[p]) if looks else 0.0,
                step,
                hessian=not self._keeps,
                stride=self._stride(e),
                columns=self._columns,
            )

        # The slope there is known at the width of the last evaluation only.
        looks = self._looks or self.problem.l1 or self._width != e.query.width
        lower = yield from search(self.problem, e, move, query, looks=looks)
        if lower is not None:
            return lower
        self._n_failed += 1
        self._keeps = False
        return (yield query(0.0, False))
