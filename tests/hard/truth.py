"""The objectives as the documentation states them, and optima from elsewhere.

Nothing here imports the package.  Values come with a bound of their own rounding.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from tests.hard import tables
from tests.hard.cases import Case

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Truth:
    """A problem written out: k objectives over the same rows.

    Attributes
    ----------
    table : Table
        The rows.
    case : Case
        What is asked of them.
    sign : ndarray of shape (n, k) or None
        -1 and +1: on which side a row belongs.
    cost : ndarray of shape (n, k)
        Factor on each row's loss.
    epsilon : float
        Width of the tube, or where Huber's loss turns linear.
    floor : float
        What relative errors of a regression are at least relative to.
    """

    table: tables.Table
    case: Case
    sign: np.ndarray | None
    cost: np.ndarray
    epsilon: float
    floor: float


def sample_weight(case: Case, n: int) -> np.ndarray | None:
    """Return the weights that a case hands over."""
    rng = np.random.default_rng(n)
    if case.weights in ("none", "balanced"):
        return None
    if case.weights == "wild":
        return 10.0 ** rng.uniform(-6, 6, n)
    if case.weights == "zeros":
        weight = np.where(rng.random(n) < 1 / 3, 0.0, 1.0)
        weight[:2] = 1.0
        return weight
    return np.full(n, float(case.weights))


def make(case: Case) -> Truth:
    """Write a problem out."""
    table = tables.load(case.table, case.scaling)
    weight = sample_weight(case, len(table.y))
    s = np.ones(len(table.y)) if weight is None else weight
    if case.estimator == "svc":
        return _margins(case, table, s)
    spread = float(np.sqrt(np.average((table.y - np.average(table.y, weights=s)) ** 2, weights=s)))
    epsilon = float(case.epsilon) * float(table.y.std()) or 0.1
    if case.intercept == "none":
        spread = float(np.sqrt(np.average(table.y**2, weights=s)))
    floor = 1e-8 * float(_loss(case.loss, np.array([spread]), epsilon)[0])
    return Truth(table, case, None, (s / s.sum())[:, None], epsilon, floor)


def _margins(case: Case, table: tables.Table, s: np.ndarray) -> Truth:
    classes, position = np.unique(table.labels, return_inverse=True)
    own = np.ones(len(classes))
    if case.weights == "balanced":
        own = len(s) / (len(classes) * np.bincount(position))
    positive = classes[1:] if len(classes) == 2 else classes
    sign = np.where(table.labels[:, None] == positive, 1.0, -1.0)
    C = float(case.strength)
    if len(classes) == 2:
        cost = C * (s * own[position])[:, None]
    else:  # a class's weight counts where it is set apart, not in the rest
        cost = C * s[:, None] * np.where(sign > 0.0, own, 1.0)
    return Truth(table, case, sign, cost, 0.0, 0.0)


def _loss(name: str, r: np.ndarray, epsilon: float) -> np.ndarray:
    """Return the loss of residuals, or of margins' shortfalls (which are not negative)."""
    a = np.abs(r)
    if name == "hinge":
        return a
    if name == "squared_hinge":
        return a**2
    if name == "squared_error":
        return a**2 / 2
    if name == "huber":
        return np.where(a <= epsilon, a**2 / 2, epsilon * (a - epsilon / 2))
    beyond = np.maximum(a - epsilon, 0)
    return beyond if name == "epsilon_insensitive" else beyond**2


def _steepness(name: str, r: np.ndarray, epsilon: float) -> np.ndarray:
    a = np.abs(r)
    if name in ("hinge", "epsilon_insensitive"):
        return np.ones_like(a)
    if name == "huber":
        return np.minimum(a, epsilon)
    return a if name == "squared_error" else 2.0 * a


def objective(truth: Truth, coef: np.ndarray, intercept: np.ndarray) -> tuple[Any, Any]:
    """Return the objectives, and bounds of their rounding, each of shape (k,)."""
    coef = np.atleast_2d(np.asarray(coef, dtype=np.float64))
    intercept = np.broadcast_to(np.asarray(intercept, dtype=np.float64), len(coef))
    X, wide = truth.table.X, np.longdouble
    values, roundings = [], []
    for c, (w, b) in enumerate(zip(coef, intercept, strict=True)):
        size = np.asarray(abs(X) @ np.abs(w)).ravel() + abs(b)
        if sp.issparse(X):
            f = np.asarray(X @ w).ravel() + b
        else:
            f = np.zeros(len(size), wide)
            for rows in _slices(len(size), X.shape[1]):
                f[rows] = X[rows].astype(wide) @ w.astype(wide)
            f += wide(b)
        if truth.sign is None:
            r = truth.table.y - f
            size = size + np.abs(truth.table.y)
        else:
            r = np.maximum(1.0 - truth.sign[:, c] * f, 0.0)
            size = np.where(r > 0.0, size + 1.0, 0.0)
        cost = truth.cost[:, c].astype(wide)
        with np.errstate(over="ignore"):
            data = cost @ _loss(truth.case.loss, r, truth.epsilon).astype(wide)
            slope = _steepness(truth.case.loss, r, truth.epsilon).astype(np.float64)
            roundings.append(4.0 * EPS * float(truth.cost[:, c] @ (slope * size)))
        values.append(float(data + _penalty(truth.case, w.astype(wide), b)))
    return np.array(values), np.array(roundings)


def _slices(n: int, p: int) -> Iterator[slice]:
    step = max(1, 2**20 // max(p, 1))
    for first in range(0, n, step):
        yield slice(first, first + step)


def strengths(case: Case) -> tuple[float, float]:
    """Return the weights of ``||w||_1`` and of ``||w||_2^2 / 2``."""
    if case.estimator == "svc":
        return (1.0, 0.0) if case.penalty == "l1" else (0.0, 1.0)
    ratio = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": 0.15}[case.penalty]
    alpha = 0.0 if case.penalty is None else float(case.strength)
    return alpha * ratio, alpha * (1.0 - ratio)


def _penalty(case: Case, w: np.ndarray, b: float) -> Any:
    l1, l2 = strengths(case)
    value = l1 * np.abs(w).sum() + l2 * (w @ w) / 2
    if case.estimator == "svc" and case.intercept not in ("free", "none"):
        beta = b / float(case.intercept)
        value = value + (abs(beta) if case.penalty == "l1" else beta**2 / 2)
    return value


def liblinear(case: Case, tols: tuple[float, ...] = (1e-1, 1e-2, 1e-4, 1e-7)) -> list[dict]:
    """Return what `LinearSVC` reaches, and how fast, with ever smaller tolerances.

    It has no free intercept: there is nothing to say about those.
    """
    from sklearn.svm import LinearSVC

    if case.estimator != "svc" or case.intercept == "free":
        return []
    truth, found = make(case), []
    weight = sample_weight(case, len(truth.table.y))
    for tol in tols:
        model = LinearSVC(
            loss=case.loss,
            penalty=case.penalty,
            C=float(case.strength),
            fit_intercept=case.intercept != "none",
            intercept_scaling=1.0 if case.intercept == "none" else float(case.intercept),
            class_weight="balanced" if case.weights == "balanced" else None,
            dual=case.loss == "hinge",
            tol=tol,
            max_iter=20_000,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            began = time.perf_counter()
            model.fit(truth.table.X, truth.table.labels, weight)
            seconds = time.perf_counter() - began
        values, _ = objective(truth, model.coef_, model.intercept_)
        found.append({"tol": tol, "seconds": seconds, "values": values.tolist()})
        if seconds > 5.0:
            break
    return found
