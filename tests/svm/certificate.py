"""The objective and the certificate of a support vector machine, written out in NumPy."""

from __future__ import annotations

import numpy as np


def dense(X):
    return X.toarray() if hasattr(X, "toarray") else np.asarray(X, dtype=np.float64)


def row_costs(model, y, sample_weight=None):
    """C times sample and class weights, of shape (n, n_problems)."""
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
    classes = model.classes_
    own = np.array([_class_weight(model, y, weight, c) for c in classes])
    if len(classes) == 2:
        return (model.C * weight * own[np.searchsorted(classes, y)])[:, None]
    return np.stack(
        [model.C * weight * np.where(y == c, w, 1.0) for c, w in zip(classes, own, strict=True)],
        axis=1,
    )


def _class_weight(model, y, weight, c):
    if model.class_weight is None:
        return 1.0
    if model.class_weight == "balanced":
        return weight.sum() / (len(model.classes_) * weight[y == c].sum())
    return model.class_weight.get(c, 1.0)


def signs(model, y):
    positive = model.classes_[1:] if len(model.classes_) == 2 else model.classes_
    return np.where(np.asarray(y)[:, None] == positive, 1.0, -1.0)


def primal(model, X, y, sample_weight=None, coef=None, intercept=None):
    """The objective, of shape (n_problems,)."""
    coef = model.coef_ if coef is None else coef
    intercept = model.intercept_ if intercept is None else intercept
    t = np.maximum(1.0 - signs(model, y) * (dense(X) @ coef.T + intercept), 0.0)
    loss = (row_costs(model, y, sample_weight) * (t if model.loss == "hinge" else t**2)).sum(axis=0)
    scaling = model.intercept_scaling
    beta = 0.0 * intercept if scaling is None else intercept / scaling
    if model.penalty == "l1":
        return np.abs(coef).sum(axis=1) + np.abs(beta) + loss
    return 0.5 * (coef**2).sum(axis=1) + 0.5 * beta**2 + loss


def dual(model, duals, X, y, sample_weight=None):
    """The dual objective of feasible dual variables, of shape (n_problems,)."""
    duals = np.asarray(duals).reshape(len(y), -1)
    cost = row_costs(model, y, sample_weight)
    alpha = duals * signs(model, y)
    assert np.all(alpha >= 0.0)
    value = alpha.sum(axis=0)
    if model.loss == "hinge":
        assert np.all(alpha <= cost * (1 + 1e-12))
    else:
        value = value - 0.25 * np.divide(
            alpha**2, cost, out=np.zeros_like(alpha), where=cost > 0
        ).sum(axis=0)
    u, u_b = duals.T @ dense(X), duals.sum(axis=0)
    if not model.fit_intercept:
        pull = np.zeros(len(u_b))
    elif model.intercept_scaling is None:
        assert np.all(np.abs(u_b) <= 1e-10 * alpha.sum(axis=0))
        pull = np.zeros(len(u_b))
    else:
        pull = u_b * model.intercept_scaling
    if model.penalty == "l1":
        rounding = 1e-9 + 1e-13 * (np.abs(duals).T @ np.abs(dense(X))).max()
        assert np.all(np.abs(u) <= 1 + rounding)
        assert np.all(np.abs(pull) <= 1 + rounding)
        return value
    return value - 0.5 * (u**2).sum(axis=1) - 0.5 * pull**2


def certify(model, X, y, sample_weight=None, duals=None):
    """Assert that the reported gap is what feasible dual variables prove; return it."""
    y = np.asarray(y)
    P = primal(model, X, y, sample_weight)
    duals = model.dual_coef(X, y, sample_weight) if duals is None else duals
    D = dual(model, duals, X, y, sample_weight)
    proven = np.max((P - D) / D)
    np.testing.assert_allclose(model.objective_, P.sum(), rtol=1e-9)
    # Never smaller than what is proven, but for the rounding of P - D.
    assert proven <= model.duality_gap_ * (1 + 1e-6) + 1e-11
    return proven
