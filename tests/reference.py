"""Independent truths: the objectives as the documentation states them, and their optima.

Nothing here imports the package.  Values are computed in extended precision; optima come from an
interior-point method for quadratic programmes, which shares no idea with the package's solvers.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

LOSSES = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")
PENALTIES = ("l2", "l1", "elasticnet", None)
EVERY = tuple(product(LOSSES, PENALTIES))

#: The defaults of the documented constructor.
DEFAULTS = {
    "loss": "squared_error",
    "penalty": "l2",
    "alpha": 1e-4,
    "l1_ratio": 0.15,
    "epsilon": 0.1,
    "quantile": 0.5,
    "fit_intercept": True,
}


class Optimum(NamedTuple):
    """A minimiser (unique or not) and the smallest value."""

    coef: np.ndarray
    intercept: float
    value: float


def loss_values(r: np.ndarray, loss: str, epsilon: float, quantile: float = 0.5) -> np.ndarray:
    """Return the loss of every residual."""
    if loss == "quantile":
        return np.maximum(quantile * r, (quantile - 1) * r)
    a = np.abs(r)
    if loss == "squared_error":
        return a**2 / 2
    if loss == "huber":
        return np.where(a <= epsilon, a**2 / 2, epsilon * (a - epsilon / 2))
    beyond = np.maximum(a - epsilon, 0)
    return beyond if loss == "epsilon_insensitive" else beyond**2


def loss_slopes(r: np.ndarray, loss: str, epsilon: float) -> np.ndarray:
    """Return a derivative of the loss at every residual."""
    if loss == "squared_error":
        return r
    if loss == "huber":
        return np.clip(r, -epsilon, epsilon)
    beyond = np.maximum(np.abs(r) - epsilon, 0)
    if loss == "epsilon_insensitive":
        return np.sign(r) * (beyond > 0)
    return 2 * np.sign(r) * beyond


def strengths(penalty: str | None, alpha: float, l1_ratio: float) -> tuple[float, float]:
    """Return the weights of ``||w||_1`` and of ``||w||_2^2 / 2``."""
    ratio = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}[penalty]
    return (0.0, 0.0) if penalty is None else (alpha * ratio, alpha * (1 - ratio))


def objective(
    X: Any,
    y: np.ndarray,
    coef: np.ndarray,
    intercept: float = 0.0,
    weight: np.ndarray | None = None,
    *,
    loss: str = "squared_error",
    penalty: str | None = "l2",
    alpha: float = 1e-4,
    l1_ratio: float = 0.15,
    epsilon: float = 0.1,
    quantile: float = 0.5,
    fit_intercept: bool = True,
) -> float:
    """Return the documented objective of one output, in extended precision.

    An intercept rounds to a float64: beside large offsets that rounding is not the fit's fault,
    but it is part of what the user gets, and counted here.
    """
    wide = np.longdouble
    dense = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    s = np.ones(len(dense), wide) if weight is None else np.asarray(weight, wide)
    w = np.asarray(coef, wide)
    r = np.asarray(y, wide) - dense.astype(wide) @ w - wide(intercept)
    l1, l2 = strengths(penalty, alpha, l1_ratio)
    data = s @ loss_values(r, loss, wide(epsilon), wide(quantile)) / s.sum()
    return float(data + wide(l1) * np.abs(w).sum() + wide(l2) * (w @ w) / 2)


def optimum(X: Any, y: np.ndarray, weight: np.ndarray | None = None, **params: Any) -> Optimum:
    """Return the optimum of the documented objective, to about 1e-11 relative.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n, p)
        Small.
    y, weight : ndarray of shape (n,)
        Targets and weights.
    **params : parameters of the objective
        See `DEFAULTS`.
    """
    known = DEFAULTS | params
    X = X.toarray() if hasattr(X, "toarray") else np.asarray(X, float)
    n, p = X.shape
    s = np.ones(n) if weight is None else np.asarray(weight, float)
    X, y, s = X[s > 0], np.asarray(y, float)[s > 0], s[s > 0] / s.sum()
    n = len(y)
    loss, epsilon = known["loss"], known["epsilon"]
    l1, l2 = strengths(known["penalty"], known["alpha"], known["l1_ratio"])
    margin = epsilon if "insensitive" in loss else 0.0
    bend = {"squared_error": 1.0, "huber": 1.0, "squared_epsilon_insensitive": 2.0}.get(loss)
    slope = {"huber": epsilon, "epsilon_insensitive": 1.0, "quantile": 1.0}.get(loss)
    up = known["quantile"] if loss == "quantile" else 1.0
    down = 1.0 - known["quantile"] if loss == "quantile" else 1.0
    free = 1 if known["fit_intercept"] else 0
    # Variables: w, b, the quadratic and the linear part of every excess, bounds of |w|.
    parts = {"w": p, "b": free, "a": n if bend else 0, "t": n if slope else 0, "m": p if l1 else 0}
    at, size = {}, 0
    for name, count in parts.items():
        at[name] = slice(size, size + count)
        size += count
    P, q = np.zeros(size), np.zeros(size)
    P[at["w"]] = l2
    q[at["m"]] = l1
    if bend:
        P[at["a"]] = bend * s
    if slope:
        q[at["t"]] = slope * s
    rows, bounds = [], []
    for sign, share in ((1.0, up), (-1.0, down)):
        excess = np.zeros((n, size))
        excess[:, at["w"]] = -sign * share * X
        excess[:, at["b"]] = -sign * share
        for name in "at":
            if parts[name]:
                excess[:, at[name]] = -np.eye(n)
        rows.append(excess)
        bounds.append(margin - sign * share * y)
        if l1:
            size_of = np.zeros((p, size))
            size_of[:, at["w"]] = sign * np.eye(p)
            size_of[:, at["m"]] = -np.eye(p)
            rows.append(size_of)
            bounds.append(np.zeros(p))
    for name in "at":
        if parts[name]:
            positive = np.zeros((n, size))
            positive[:, at[name]] = -np.eye(n)
            rows.append(positive)
            bounds.append(np.zeros(n))
    with threadpool_limits(1):  # small matrices: threads would only wait for each other
        z = _interior_point(P, q, np.concatenate(rows), np.concatenate(bounds))
    coef, intercept = z[at["w"]], float(z[at["b"]].sum())
    value = objective(X, y, coef, intercept, s, **known)
    return Optimum(coef, intercept, value)


def _interior_point(P: np.ndarray, q: np.ndarray, G: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Minimise ``z'diag(P)z/2 + q'z`` subject to ``Gz <= h`` (Mehrotra, 1992)."""
    n, m = len(q), len(h)
    z, lam = np.zeros(n), np.ones(m)
    slack = np.maximum(h - G @ z, 1.0)
    best, best_z = np.inf, z
    for _ in range(200):
        dual = P * z + q + G.T @ lam
        primal = G @ z + slack - h
        mu = float(slack @ lam) / m
        merit = max(mu * m, np.abs(dual).max(), np.abs(primal).max())
        if merit < best:
            best, best_z = merit, z
        if merit < 1e-15 or not np.isfinite(merit) or merit > 1e6 * best:
            break
        D = lam / slack
        K = np.diag(P + 1e-15) + G.T @ (D[:, None] * G)
        scale = 1 / np.sqrt(np.diag(K))
        factor = _cholesky(K * scale * scale[:, None])

        def solve(target, D=D, K=K, scale=scale, factor=factor, dual=dual, primal=primal,
                  slack=slack, lam=lam):  # fmt: skip
            right = -dual - G.T @ (D * primal + target / slack)
            step = np.zeros(n)
            for _ in range(5):  # refined: K gets ill-conditioned in the end
                rest = scale * (right - K @ step)
                step = step + scale * np.linalg.solve(factor.T, np.linalg.solve(factor, rest))
            slack_step = -primal - G @ step
            return step, slack_step, (target - lam * slack_step) / slack

        _, slack_step, lam_step = solve(-slack * lam)
        length = min(_longest(slack, slack_step), _longest(lam, lam_step))
        centre = ((slack + length * slack_step) @ (lam + length * lam_step) / m / mu) ** 3
        target = centre * mu - slack * lam - slack_step * lam_step
        step, slack_step, lam_step = solve(target)
        length = 0.995 * min(_longest(slack, slack_step), _longest(lam, lam_step))
        z, slack, lam = z + length * step, slack + length * slack_step, lam + length * lam_step
    return best_z


def _cholesky(K: np.ndarray) -> np.ndarray:
    for more in range(8):
        try:
            return np.linalg.cholesky(K + 10.0 ** (more - 15) * np.eye(len(K)))
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError


def _longest(v: np.ndarray, step: np.ndarray) -> float:
    down = step < 0
    return min(1.0, float(np.min(-v[down] / step[down], initial=1.0)))


def floor(y: np.ndarray, weight: np.ndarray | None = None, *, centred: bool = True) -> float:
    """Return 1e-8 of half the variance of y: what relative errors are at least relative to."""
    mean = np.average(y, weights=weight) if centred else 0.0
    return 0.5e-8 * float(np.average((y - mean) ** 2, weights=weight))


def table(n: int = 80, p: int = 5, *, seed: int = 0, noise: float = 0.5) -> tuple:
    """Return a random X, targets that depend on half of its columns, and positive weights."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * rng.uniform(0.3, 3.0, p) + rng.standard_normal(p)
    coef = rng.standard_normal(p) * (np.arange(p) < (p + 1) // 2)
    y = X @ coef + 1.5 + noise * rng.standard_t(3, n)
    return X, y, rng.uniform(0.2, 3.0, n)
