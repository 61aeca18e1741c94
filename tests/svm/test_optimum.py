"""The optimum is found, and proven, for every loss, penalty, intercept and weighting."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from certificate import certify, primal
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from dask_dml import DistributedLinearSVC


def table(n=300, p=6, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * np.geomspace(0.3, 3.0, p)
    w = rng.standard_normal(p)
    y = np.where(X @ w + noise * rng.standard_normal(n) > 0.5, "yes", "no")
    return X, y, rng.integers(0, 4, n).astype(float)


def reference(model, X, y, weight):
    """The objective of liblinear's solution, from as many iterations as it takes."""
    shared = ("penalty", "loss", "C", "fit_intercept", "class_weight")
    other = LinearSVC(
        **{name: getattr(model, name) for name in shared},
        intercept_scaling=model.intercept_scaling,
        dual=model.loss == "hinge",
        tol=1e-10,
        max_iter=300_000,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other.fit(X, y, weight)
    return primal(model, X, y, weight, other.coef_, other.intercept_).sum()


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_binary(loss, C):
    X, y, weight = table()
    model = DistributedLinearSVC(loss=loss, C=C, tol=1e-8, class_weight={"no": 0.5})
    model.fit(X, y, weight)
    assert model.converged_
    assert certify(model, X, y, weight) <= 1e-8
    assert model.objective_ <= reference(model, X, y, weight) * (1 + 2e-8)


@pytest.mark.parametrize(
    "kind", [{"intercept_scaling": None}, {"fit_intercept": False}, {"intercept_scaling": 10.0}]
)
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_intercepts(loss, class_weight, kind):
    X, y, weight = table(seed=1)
    model = DistributedLinearSVC(loss=loss, C=0.3, tol=1e-7, class_weight=class_weight, **kind)
    assert certify(model.fit(X, y, weight), X, y, weight) <= 1e-7


def test_the_gap_bounds_the_distance_at_every_stop():
    """Wherever the fit is stopped, the truth lies inside what it reports."""
    X, y, weight = table(seed=2)
    for kind in ({}, {"intercept_scaling": None}, {"penalty": "l1"}, {"loss": "hinge"}):
        best = DistributedLinearSVC(C=0.5, tol=1e-9, **kind).fit(X, y, weight).objective_
        for n in range(1, 6):
            model = DistributedLinearSVC(C=0.5, tol=0.0, max_iter=n, **kind)
            with pytest.warns(ConvergenceWarning, match="relative duality gap is"):
                model.fit(X, y, weight)
            assert (model.objective_ - best) / best <= model.duality_gap_ + 1e-9
            if np.isfinite(model.duality_gap_):
                certify(model, X, y, weight)


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("scaling", [1.0, None])
def test_l1(C, scaling):
    X, y, weight = table(p=12, seed=3)
    model = DistributedLinearSVC("l1", C=C, tol=1e-8, intercept_scaling=scaling)
    model.fit(X, y, weight)
    assert certify(model, X, y, weight) <= 1e-8
    if scaling:
        assert model.objective_ <= reference(model, X, y, weight) * (1 + 2e-8)
    if C == 1e-3:
        assert np.count_nonzero(model.coef_) < 12


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("class_weight", [None, {3: 5.0, 7: 0.2}])
def test_ten_classes(loss, class_weight):
    X, y = load_digits(return_X_y=True)
    X, y = X[:700] / 16.0, y[:700]
    model = DistributedLinearSVC(loss=loss, C=0.1, tol=1e-6, class_weight=class_weight).fit(X, y)
    assert certify(model, X, y) <= 1e-6
    assert model.coef_.shape == (10, 64)
    assert model.objective_ <= reference(model, X, y, None) * (1 + 1e-6)
    used = model.dual_coef(X, y).any(axis=1)
    np.testing.assert_array_equal(model.n_support_, np.bincount(y[used], minlength=10))
    np.testing.assert_array_equal(model.support(X, y), np.flatnonzero(used))


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 100.0])
def test_ten_classes_at_every_cost(loss, C):
    X, y = load_digits(return_X_y=True)
    weight = np.random.default_rng(0).random(500)
    model = DistributedLinearSVC(loss=loss, C=C, tol=1e-6, class_weight="balanced")
    model.fit(X[:500] / 16.0, y[:500], weight)
    assert model.converged_
    assert certify(model, X[:500] / 16.0, y[:500], weight) <= 1e-6


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "kind", [{}, {"loss": "hinge"}, {"penalty": "l1"}, {"intercept_scaling": None}]
)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_sparse_equals_dense(kind, dtype, n_classes):
    rng = np.random.default_rng(0)
    X = sp.random_array((200, 15), density=0.3, rng=rng, format="csr").astype(dtype)
    y = rng.integers(0, n_classes, 200)
    y = np.where(rng.random(200) < 0.7, np.argmax(X[:, :n_classes].toarray(), axis=1), y)
    weight = rng.random(200)
    models = [
        DistributedLinearSVC(tol=1e-8, **kind).fit(data, y, weight) for data in (X, X.toarray())
    ]
    np.testing.assert_allclose(models[0].objective_, models[1].objective_, rtol=2e-8)
    assert certify(models[0], X, y, weight) <= 1e-8


@pytest.mark.parametrize(
    "kind", [{}, {"loss": "hinge"}, {"penalty": "l1"}, {"intercept_scaling": None}]
)
def test_many_columns(kind):
    """More columns than a Hessian is formed for: conjugate gradients, or a working set."""
    rng = np.random.default_rng(0)
    X = sp.random_array((400, 3000), density=0.01, rng=rng, format="csr")
    y = X @ rng.standard_normal(3000) > 0
    model = DistributedLinearSVC(C=1.0, tol=1e-6, **kind).fit(X, y)
    assert certify(model, X, y) <= 1e-6


@pytest.mark.parametrize("solver", ["newton", "dual"])
@pytest.mark.parametrize("kind", [{}, {"loss": "hinge"}, {"fit_intercept": False}])
def test_columns_that_never_occur(kind, solver):
    """They have no coefficient, and the others are what they are without them."""
    rng = np.random.default_rng(1)
    narrow = sp.random_array((300, 40), density=0.2, rng=rng, format="csr")
    at = np.sort(rng.choice(5000, 40, replace=False))
    X = sp.csr_array((narrow.data, at[narrow.indices], narrow.indptr), shape=(300, 5000))
    y = np.argmax(narrow[:, :3].toarray() + 0.3 * rng.random((300, 3)), axis=1)
    settings = {"C": 0.3, "tol": 1e-6, "solver": solver, **kind}
    model = DistributedLinearSVC(**settings).fit(X, y)
    assert certify(model, X, y) <= 1.1e-6
    assert model.coef_.shape == (3, 5000)
    assert not np.delete(model.coef_, at, axis=1).any()
    plain = DistributedLinearSVC(**settings).fit(narrow, y)
    np.testing.assert_allclose(model.objective_, plain.objective_, rtol=2e-6)
    if solver == "newton":
        warm = model.set_params(warm_start=True).fit(X, y)
        np.testing.assert_allclose(warm.objective_, plain.objective_, rtol=2e-6)


def test_a_sample_first():
    """Much data starts from a sample: the answer is the same."""
    X, y, _ = table(60_000, 5, seed=4)
    for loss in ("hinge", "squared_hinge"):
        model = DistributedLinearSVC(loss=loss, C=0.01, tol=1e-6).fit(X, y)
        assert certify(model, X, y) <= 1e-6
        other = DistributedLinearSVC(loss=loss, C=0.01, tol=1e-6, random_state=3).fit(X, y)
        np.testing.assert_allclose(model.objective_, other.objective_, rtol=1e-6)


def test_warm_start():
    X, y, _ = table(seed=5)
    model = DistributedLinearSVC(C=1.0, warm_start=True).fit(X, y)
    first = model.n_iter_
    assert model.set_params(C=1.1).fit(X, y).n_iter_ < first
    with pytest.raises(ValueError, match="warm_start=True starts from coef_"):
        model.fit(X[:, :3], y)


DEGENERATE = {
    "separable": (np.arange(20.0)[:, None] - 9.5, np.arange(20) > 9),
    "identical rows": (np.ones((10, 2)), np.arange(10) % 3 == 0),
    "zeros": (np.zeros((10, 3)), np.arange(10) % 2),
    "conflicting": (np.repeat(np.eye(3), 4, axis=0), np.tile([0, 1], 6)),
    "constant column": (
        np.column_stack([np.full(30, 1e3), np.arange(30) - 15.0]),
        np.arange(30) % 7 > 2,
    ),
    "rare": (np.random.default_rng(0).standard_normal((300, 3)), np.arange(300) % 33 == 0),
}  # fmt: skip


@pytest.mark.parametrize(
    "kind", [{}, {"loss": "hinge"}, {"penalty": "l1"}, {"intercept_scaling": None}]
)
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("name", list(DEGENERATE))
def test_degenerate(name, C, kind):
    """Converges, or says why not; what it reports is true in any case."""
    X, y = DEGENERATE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = DistributedLinearSVC(C=C, max_iter=200, **kind).fit(X, y)
    assert np.isfinite(model.coef_).all()
    if np.isfinite(model.duality_gap_):
        certify(model, X, y)
    assert model.converged_ or C > 1.0 or name in ("zeros", "identical rows")
