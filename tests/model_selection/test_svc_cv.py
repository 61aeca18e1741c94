"""C by cross-validation, against scikit-learn's search over its own LinearSVC."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from dask_dml import DistributedLinearSVC, DistributedLinearSVCCV

RNG = np.random.default_rng(2)
N = 160
X = RNG.normal(size=(N, 4))
NOISY = X @ [1.0, -1.0, 0.3, 0.0] + RNG.normal(size=N)
LABELS = np.array(["a", "b", "c"])[np.digitize(NOISY, [-0.7, 0.7])]
WEIGHT = RNG.uniform(0.2, 3.0, N)
CS = [1e-3, 0.01, 0.1, 1.0]


@pytest.mark.parametrize("y", [LABELS, NOISY > 0], ids=["three", "two"])
@pytest.mark.parametrize("table", [X, sp.csr_array(X * (X > 0))], ids=["dense", "csr"])
@pytest.mark.parametrize("cv", [4, KFold(3, shuffle=True, random_state=0)], ids=str)
def test_equals_a_search_over_scikit_learns(y, table, cv):
    options = {"tol": 1e-9, "max_iter": 100_000}
    theirs = GridSearchCV(LinearSVC(dual=False, **options), {"C": CS}, cv=cv).fit(table, y)
    ours = DistributedLinearSVCCV(Cs=CS[::-1], cv=cv, **options).fit(table, y)
    splits = [theirs.cv_results_[f"split{n}_test_score"] for n in range(theirs.n_splits_)]
    np.testing.assert_allclose(ours.scores_path_, np.transpose(splits), atol=1e-12)
    assert theirs.best_params_["C"] == ours.C_
    np.testing.assert_allclose(ours.coef_, theirs.best_estimator_.coef_, atol=1e-4)
    np.testing.assert_array_equal(ours.predict(table), theirs.predict(table))
    assert ours.dual_gaps_.shape == ours.scores_path_.shape
    assert ours.dual_gaps_.max() <= 1e-9
    np.testing.assert_array_equal(ours.to_sklearn().predict(table), ours.predict(table))


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_chunks_and_weights(loss, client):
    sizes = (70, 0, 50, 40)
    chunked = da.from_array(X, chunks=(sizes, 4)), da.from_array(LABELS, chunks=(sizes,))
    expected = DistributedLinearSVCCV(Cs=CS, loss=loss, tol=1e-8).fit(X, LABELS, WEIGHT)
    ours = DistributedLinearSVCCV(Cs=CS, loss=loss, tol=1e-8).fit(*chunked, WEIGHT)
    np.testing.assert_allclose(ours.scores_path_, expected.scores_path_, atol=1e-12)
    assert (ours.engine_, expected.engine_) == ("cluster", "memory")
    slowest = max(DistributedLinearSVC(C=C, loss=loss, tol=1e-8).fit(X, LABELS).n_rounds_
                  for C in CS)  # fmt: skip
    # The search and the last fit, the rows of chunks, classes, parts and scores.
    assert ours.n_rounds_ <= 3 * slowest + 10
    unweighted = DistributedLinearSVCCV(Cs=CS, loss=loss, tol=1e-8).fit(X, LABELS)
    assert not np.allclose(unweighted.scores_path_, expected.scores_path_)


@pytest.mark.parametrize("seed", range(4))
def test_one_standard_error_never_weakens_the_penalty(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(120, 6))
    y = X[:, 0] + 2 * rng.normal(size=120) > 0
    best, simple = (
        DistributedLinearSVCCV(Cs=8, selection=selection).fit(X, y) for selection in ("min", "1se")
    )
    assert simple.C_ <= best.C_
    means = best.scores_path_.mean(axis=1)
    top = best.scores_path_[means.argmax()]
    error = top.std(ddof=1) / np.sqrt(len(top))
    assert best.Cs_[means >= means.max() - error].min() == simple.C_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"Cs": [0.1, -1.0]}, "positive numbers"),
        ({"Cs": 0}, "'Cs' parameter"),
        ({"penalty": "l1", "loss": "hinge"}, "not supported"),
        ({"cv": 100}, "members in each class"),
        ({"class_weight": "odd"}, "class_weight"),
    ],
)
def test_what_cannot_be_leaves_the_estimator_alone(options, message):
    model = DistributedLinearSVCCV(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(X, LABELS)
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "n_features_in_")


@parametrize_with_checks([DistributedLinearSVCCV(Cs=2, cv=2, n_jobs=1)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)
