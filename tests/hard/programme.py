"""Optima of small problems as quadratic or linear programmes, by solvers that know no machines.

The variables are the coefficients (of columns of spread one), the intercept, what each row exceeds
its loss's flat part by, and bounds of the coefficients' absolute values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from tests.hard.cases import Case
from tests.hard.truth import Truth, make, objective, strengths

#: Entries and rows of X beyond which no programme is solved.
MAX_ENTRIES, MAX_ROWS = 150_000, 6000

#: Curvature and slope of a loss's excess over its flat part; Huber's has one of each.
_CURVATURE = {"squared_hinge": 2.0, "squared_epsilon_insensitive": 2.0, "squared_error": 1.0,
              "huber": 1.0}  # fmt: skip
_SLOPE = {"hinge": 1.0, "epsilon_insensitive": 1.0}


def optimum(case: Case, seconds: float = 10.0) -> list[float] | None:
    """Return the smallest objectives of a problem, or None if it is too large.

    Parameters
    ----------
    case : Case
        Names the problem.
    seconds : float, default=10.0
        Time for all of them.
    """
    truth = make(case)
    X = sp.csc_array(truth.table.X)
    if X.nnz > MAX_ENTRIES or X.shape[0] > MAX_ROWS:
        return None
    frame, values = _Frame.of(truth, X), []
    for c in range(truth.cost.shape[1]):
        found = [_value(truth, c, *frame.solution(z)) for z in _solve(frame.programme(c), seconds)]
        if not found:
            return None
        values.append(min(found))
    return values


def _value(truth: Truth, c: int, coef: np.ndarray, intercept: float) -> float:
    if not (np.all(np.isfinite(coef)) and np.isfinite(intercept)):
        return np.inf
    sign = None if truth.sign is None else truth.sign[:, [c]]
    one = Truth(truth.table, truth.case, sign, truth.cost[:, [c]], truth.epsilon, truth.floor)
    return float(objective(one, coef, np.array([intercept]))[0][0])


@dataclass
class _Programme:
    """Minimise ``z'diag(P)z/2 + q'z`` subject to ``A z <= b``, part by part."""

    P: list[np.ndarray] = field(default_factory=list)
    q: list[np.ndarray] = field(default_factory=list)
    rows: list[dict[int, Any]] = field(default_factory=list)
    b: list[np.ndarray] = field(default_factory=list)

    def add(self, curvature: np.ndarray, slope: np.ndarray) -> int:
        """Add variables with these costs; return the number of the part."""
        self.P.append(curvature)
        self.q.append(slope)
        return len(self.P) - 1

    def require(self, parts: dict[int, Any], bound: np.ndarray) -> None:
        """Add rows: the matrices of the parts, times these, are at most the bound."""
        self.rows.append(parts)
        self.b.append(bound)

    def matrix(self) -> Any:
        """Return A."""
        blocks = []
        for row, bound in zip(self.rows, self.b, strict=True):
            empty = [sp.csc_array((len(bound), len(part))) for part in self.P]
            blocks.append(sp.hstack([row.get(k, empty[k]) for k in range(len(self.P))]))
        return sp.vstack(blocks, format="csc")


@dataclass(frozen=True)
class _Frame:
    truth: Truth
    design: Any
    shift: np.ndarray
    scale: np.ndarray
    column: float

    @classmethod
    def of(cls, truth: Truth, X: Any) -> _Frame:
        intercept, n = truth.case.intercept, X.shape[0]
        shift = np.zeros(X.shape[1])
        # Far from zero, columns are all but the intercept's; a free one takes their means.
        if intercept == "free" and not truth.table.is_sparse:
            shift = truth.table.X.mean(axis=0)
            X = sp.csc_array(truth.table.X - shift)
        scale = np.sqrt(np.asarray(X.multiply(X).mean(axis=0)).ravel())
        scale = np.where(scale > 0.0, scale, 1.0)
        column = {"free": 1.0, "none": 0.0}.get(intercept)
        column = float(intercept) if column is None else column
        last = sp.csc_array(np.full((n, 1), column))
        design = sp.hstack([X @ sp.diags_array(1.0 / scale), last], format="csr")
        return cls(truth, design, shift, scale, column)

    def solution(self, z: np.ndarray) -> tuple[np.ndarray, float]:
        coef = z[: len(self.scale)] / self.scale
        return coef, float(z[len(self.scale)] * self.column - self.shift @ coef)

    def programme(self, c: int) -> _Programme:
        case, made = self.truth.case, _Programme()
        l1, l2 = strengths(case)
        penalised = case.estimator == "svc" and case.intercept != "free"
        size = np.append(1.0 / self.scale, float(penalised))
        coef = made.add(l2 * size**2, np.zeros(len(size)))
        self._add_losses(made, c, coef)
        if l1 > 0.0:
            bound = made.add(np.zeros(len(size)), l1 * size)
            one = sp.eye_array(len(size), format="csc")
            for sign in (1.0, -1.0):
                made.require({coef: sign * one, bound: -one}, np.zeros(len(size)))
        return made

    def _add_losses(self, made: _Programme, c: int, coef: int) -> None:
        truth, loss = self.truth, self.truth.case.loss
        cost = truth.cost[:, c]
        used = cost > 0.0
        cost, design = cost[used], self.design[used]
        zero, one = np.zeros(len(cost)), sp.eye_array(len(cost), format="csc")
        excess = []
        if loss in _CURVATURE:
            excess.append(made.add(_CURVATURE[loss] * cost, zero))
        if loss in _SLOPE or loss == "huber":
            excess.append(made.add(zero, _SLOPE.get(loss, truth.epsilon) * cost))
        less = dict.fromkeys(excess, -one)
        if truth.sign is not None:
            sign = truth.sign[used, c]
            made.require({coef: sp.diags_array(-sign) @ design, **less}, zero - 1.0)
        else:
            margin = truth.epsilon if "insensitive" in loss else 0.0
            y = truth.table.y[used]
            made.require({coef: -design, **less}, margin - y)
            made.require({coef: design, **less}, margin + y)
        for part in excess:
            made.require({part: -one}, zero)


def _solve(programme: _Programme, seconds: float) -> list[np.ndarray]:
    A, b = programme.matrix(), np.concatenate(programme.b)
    P, q = np.concatenate(programme.P), np.concatenate(programme.q)
    size = max(float(np.abs(q).max()), float(P.max()), 1e-300)
    P, q, found = P / size, q / size, []
    if not P.any():
        solved = linprog(
            q, A_ub=A, b_ub=b, bounds=(None, None), method="highs", options={"time_limit": seconds}
        )
        found += [] if solved.x is None else [solved.x]
    try:
        import clarabel
    except ImportError:
        return found
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.time_limit = seconds
    settings.tol_gap_rel = settings.tol_gap_abs = settings.tol_feas = 1e-12
    solver = clarabel.DefaultSolver(
        sp.csc_matrix(sp.diags_array(P)), q, sp.csc_matrix(A), b,
        [clarabel.NonnegativeConeT(len(b))], settings,
    )  # fmt: skip
    return [*found, np.asarray(solver.solve().x)]
