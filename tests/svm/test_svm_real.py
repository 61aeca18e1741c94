"""Real tables: rare classes, empty rows, hashed words; the optimum is LinearSVC's."""

from __future__ import annotations

import gzip
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from certificate import certify, primal
from sklearn.datasets import load_svmlight_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.svm import LinearSVC

from dask_dml import DistributedLinearSVC

FOLDER = os.environ.get("DASK_DML_DATA")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="DASK_DML_DATA does not point at the folder of real data"
)


@pytest.fixture(scope="module")
def pages():
    X, y = load_svmlight_file(str(Path(FOLDER) / "w8a" / "w8a"))
    return X.tocsr()[::4], y[::4]


@pytest.fixture(scope="module")
def headlines():
    texts, labels = [], []
    for label, name in enumerate(("non_clickbait_data", "clickbait_data")):
        with gzip.open(Path(FOLDER) / "clickbait" / f"{name}.gz", "rt") as file:
            lines = [line for line in file.read().splitlines() if line.strip()][::8]
        texts += lines
        labels += [label] * len(lines)
    return HashingVectorizer(n_features=2**18).transform(texts), np.array(labels)


def optimum(model, X, y, weight):
    """The objective of liblinear at a very tight tolerance."""
    shared = ("loss", "C", "class_weight")
    other = LinearSVC(
        **{name: getattr(model, name) for name in shared},
        dual=True,  # the primal solver takes minutes for the last digits of hashed words
        tol=1e-8,
        max_iter=20_000,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other.fit(X, y, weight)
    return value(model, X, y, weight, other.coef_, other.intercept_)


def value(model, X, y, weight, coef, intercept):
    """The objective, without a dense copy of X."""
    sign = np.where(y == model.classes_[1], 1.0, -1.0)
    t = np.maximum(1.0 - sign * (X @ coef[0] + intercept[0]), 0.0)
    share = np.ones(len(y)) if weight is None else weight
    if model.class_weight == "balanced":
        each = [share[y == c].sum() for c in model.classes_]
        share = share * np.where(sign > 0, share.sum() / each[1], share.sum() / each[0]) / 2
    loss = share @ (t if model.loss == "hinge" else t**2)
    return 0.5 * (coef[0] @ coef[0] + intercept[0] ** 2) + model.C * loss


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize(
    ("C", "solver"), [(1e-4, "newton"), (1e-2, "dual"), (1e-2, "newton"), (1e2, "newton")]
)
def test_rare_class(pages, loss, C, solver):
    X, y = pages
    weight = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    model = DistributedLinearSVC(
        loss=loss, C=C, tol=1e-6, solver=solver, class_weight="balanced" if C < 1 else None
    )
    model.fit(X, y, weight)
    assert model.converged_
    np.testing.assert_allclose(
        model.objective_, value(model, X, y, weight, model.coef_, model.intercept_)
    )
    assert model.objective_ <= optimum(model, X, y, weight) * (1 + 1e-6)
    # The small objective of a small C lets the dense reference be afforded.
    assert certify(model, X, y, weight) <= 1e-6
    np.testing.assert_allclose(model.objective_, primal(model, X, y, weight).sum())


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 1e2])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_hashed_words(headlines, loss, C):
    X, y = headlines
    model = DistributedLinearSVC(loss=loss, C=C, tol=1e-6).fit(X, y)
    assert model.converged_
    # The few rows travel, for both losses.
    assert model.solver_ == "dual"
    assert model.objective_ <= optimum(model, X, y, None) * (1 + 1e-6)
    assert model.score(X, y) > (0.8 if C >= 1e-2 else 0.45)


@pytest.mark.parametrize("C", [1.0, 1e2])
def test_newton_on_hashed_words(headlines, C):
    X, y = headlines[0][::2], headlines[1][::2]
    model = DistributedLinearSVC(loss="hinge", C=C, tol=1e-6, solver="newton").fit(X, y)
    assert model.converged_
    assert model.objective_ <= optimum(model, X, y, None) * (1 + 1e-6)
