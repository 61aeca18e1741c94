"""The penalty by cross-validation: scikit-learn's searches, fits of every fold alone, engines."""

import pickle
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV, LassoCV, Ridge, RidgeCV, enet_path
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version

from dask_dml import DistributedGDRegressor, DistributedGDRegressorCV
from dask_dml.model_selection import regularization_path
from dask_dml.model_selection.folds import make_folds
from dask_dml.passes.divisions import Consecutive
from dask_dml.rounds.streaming import StreamingRounds

RNG = np.random.default_rng(5)
N, P = 120, 6
X = RNG.normal(size=(N, P)) * [1, 1, 5, 0.1, 1, 1] + [0, 3, 0, 0, -8, 0]
Y = X @ [1.0, -2.0, 0.0, 5.0, 0.0, 0.3] + RNG.normal(size=N)
WEIGHT = RNG.uniform(0.1, 3.0, N)
SPARSE = np.where(RNG.random((N, P)) < 0.4, X, 0.0)

#: How releases of scikit-learn name the number of alphas: the older ones take arrays only.
NUMBER = "n_alphas" if parse_version(sklearn.__version__) < parse_version("1.7") else "alphas"

SPLITTERS = [
    4,
    KFold(3, shuffle=True, random_state=0),
    ShuffleSplit(3, test_size=0.3, random_state=1),
    RepeatedKFold(n_splits=3, n_repeats=2, random_state=2),
    TimeSeriesSplit(3),
]


@pytest.mark.parametrize("cv", SPLITTERS, ids=str)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_elastic_net_equals_scikit_learns(cv, weight, fit_intercept):
    ratios = [0.2, 0.7, 1.0]
    theirs = ElasticNetCV(
        l1_ratio=ratios,
        cv=cv,
        tol=1e-12,
        max_iter=100_000,
        fit_intercept=fit_intercept,
        **{NUMBER: 15},
    ).fit(X, Y, sample_weight=weight)
    ours = DistributedGDRegressorCV(
        penalty="elasticnet", l1_ratio=ratios, alphas=15, cv=cv, fit_intercept=fit_intercept
    ).fit(X, Y, sample_weight=weight)
    np.testing.assert_allclose(ours.alphas_, theirs.alphas_, rtol=1e-12)
    np.testing.assert_allclose(ours.mse_path_, theirs.mse_path_, rtol=1e-8)
    assert (ours.l1_ratio_, ours.alpha_) == (theirs.l1_ratio_, pytest.approx(theirs.alpha_))
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-8)


def test_lasso_equals_scikit_learns():
    theirs = LassoCV(cv=5, tol=1e-12, max_iter=100_000, **{NUMBER: 25}).fit(X, Y)
    ours = DistributedGDRegressorCV(penalty="l1", alphas=25).fit(X, Y)
    np.testing.assert_allclose(ours.mse_path_, theirs.mse_path_, rtol=1e-8)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-8)


def test_ridge_equals_a_search_over_scikit_learns():
    alphas = np.geomspace(1e-4, 10, 12)
    n_train = N * 3 // 4
    theirs = GridSearchCV(
        Ridge(), {"alpha": alphas * n_train}, cv=4, scoring="neg_mean_squared_error"
    ).fit(X, Y)
    ours = DistributedGDRegressorCV(alphas=alphas, cv=4).fit(X, Y)
    means = theirs.cv_results_["mean_test_score"][::-1]
    np.testing.assert_allclose(-ours.mse_path_.mean(axis=1), means, rtol=1e-10)
    assert ours.alpha_ * n_train == pytest.approx(theirs.best_params_["alpha"])
    assert ours.l1_ratio_ == 0.0


def test_leave_one_out_equals_ridge_cv():
    alphas = np.geomspace(1e-2, 10, 6)
    # The penalty of RidgeCV belongs to a sum of losses, ours to their mean.
    theirs = RidgeCV(alphas * (N - 1), store_cv_results=True).fit(X, Y)
    ours = DistributedGDRegressorCV(alphas=alphas, cv=LeaveOneOut()).fit(X, Y)
    np.testing.assert_allclose(ours.mse_path_[::-1].T, theirs.cv_results_, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
def test_every_fold_equals_a_fit_of_its_rows_alone(penalty, sparse, weight):
    table = sp.csr_array(SPARSE) if sparse else X
    targets = np.column_stack([Y, -2.0 * Y + X[:, 0]])
    alphas = np.geomspace(1.0, 1e-4, 20)
    ours = DistributedGDRegressorCV(penalty=penalty, alphas=alphas, l1_ratio=0.4, cv=5)
    ours.fit(table, targets, sample_weight=weight)
    for fold, (train, test) in enumerate(KFold(5).split(X)):
        for position in (0, 7, 19):
            alone = DistributedGDRegressor(penalty=penalty, alpha=alphas[position], l1_ratio=0.4)
            alone.fit(table[train], targets[train], None if weight is None else weight[train])
            squares = (targets[test] - alone.predict(table[test])) ** 2
            error = np.average(squares, axis=0, weights=None if weight is None else weight[test])
            np.testing.assert_allclose(ours.mse_path_[position, fold], error.mean(), rtol=1e-8)


def test_one_standard_error_takes_the_stronger_penalty():
    best = DistributedGDRegressorCV(penalty="l1", alphas=40).fit(X, Y)
    strong = clone(best).set_params(selection="1se").fit(X, Y)
    assert strong.alpha_ >= best.alpha_
    errors = best.mse_path_
    at = int(errors.mean(axis=1).argmin())
    limit = errors[at].mean() + errors[at].std(ddof=1) / np.sqrt(5)
    chosen = strong.alphas_ >= strong.alpha_
    assert errors.mean(axis=1)[chosen][-1] <= limit
    assert np.all(errors.mean(axis=1)[chosen][:-1] > limit)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, N), max_size=12).map(sorted), shuffled=st.booleans())
def test_chunks_do_not_matter(client, dtype, sparse, cuts, shuffled):
    table = (SPARSE if sparse else X).astype(dtype)
    cv = KFold(4, shuffle=True, random_state=3) if shuffled else 4
    model = DistributedGDRegressorCV(alphas=5, cv=cv)
    expected = clone(model).fit(sp.csr_array(table) if sparse else table, Y)
    sizes = tuple(np.diff([0, *cuts, N]).tolist())
    chunked = da.from_array(table, chunks=(sizes, P))
    if sparse:
        chunked = chunked.map_blocks(sp.csr_matrix)
    found = model.fit(chunked, da.from_array(Y, chunks=(sizes,)))
    np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-8)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-7, atol=1e-9)


def test_frames_of_unknown_size_without_a_client():
    frame = pd.DataFrame(X, columns=list("abcdef"))
    expected = DistributedGDRegressorCV(alphas=7).fit(frame, Y, sample_weight=WEIGHT)
    lazy = dd.from_pandas(frame.assign(y=Y, w=WEIGHT), npartitions=5)
    with dask.config.set(scheduler="threads"):
        found = clone(expected).fit(lazy[list("abcdef")], lazy["y"], sample_weight=lazy["w"])
    np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-9)
    assert list(found.feature_names_in_) == list("abcdef")
    assert found.predict(lazy[list("abcdef")]).compute().shape == (N,)


def test_a_stream_gives_the_numbers_of_this_process(client, monkeypatch):
    monkeypatch.setattr("dask_dml.rounds.choose._fits", lambda chunks, room: False)
    opened = []
    begin = StreamingRounds.__init__
    monkeypatch.setattr(
        StreamingRounds, "__init__", lambda self, *a, **k: opened.append(1) or begin(self, *a, **k)
    )
    cv = ShuffleSplit(3, random_state=1)
    expected = DistributedGDRegressorCV(penalty="l1", alphas=6, cv=cv).fit(X, Y)
    found = clone(expected).fit(da.from_array(X, chunks=(17, P)), da.from_array(Y, chunks=17))
    assert opened
    assert found.engine_ == "streaming"
    np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-9)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9)


def test_rounds_do_not_grow_with_the_search(client):
    chunked, y = da.from_array(X, chunks=(30, P)), da.from_array(Y, chunks=30)
    small = DistributedGDRegressorCV(alphas=2, cv=2).fit(chunked, y)
    large = DistributedGDRegressorCV(
        alphas=30, cv=10, penalty="elasticnet", l1_ratio=[0.1, 0.5, 1.0]
    ).fit(chunked, y)
    assert small.n_rounds_ == large.n_rounds_ == 2


@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
def test_the_path_equals_scikit_learns(l1_ratio):
    alphas, coefs, gaps = regularization_path(X, Y, alphas=12, l1_ratio=l1_ratio)
    _, theirs, _ = enet_path(
        X - X.mean(axis=0), Y - Y.mean(), l1_ratio=l1_ratio, alphas=alphas, tol=1e-13,
        max_iter=100_000,
    )  # fmt: skip
    np.testing.assert_allclose(coefs, theirs, atol=1e-7)
    assert coefs.shape == (P, 12)
    assert np.all(gaps <= 1e-6)
    assert not coefs[:, 0].any()


def test_the_path_of_a_ridge_penalty():
    alphas, coefs, _ = regularization_path(X, Y, alphas=[0.01, 1.0], l1_ratio=0.0)
    for alpha, coef in zip(alphas, coefs.T, strict=True):
        np.testing.assert_allclose(coef, Ridge(alpha * N).fit(X, Y).coef_, rtol=1e-9)


def test_the_path_of_several_outputs():
    _, coefs, _ = regularization_path(X, np.column_stack([Y, Y]), WEIGHT, alphas=[0.1, 1.0])
    assert coefs.shape == (2, P, 2)
    np.testing.assert_array_equal(coefs[0], coefs[1])


def test_conversion_and_pickling():
    model = DistributedGDRegressorCV(penalty="elasticnet", l1_ratio=[0.3, 0.9], alphas=8)
    model.fit(X, Y, sample_weight=WEIGHT)
    twin = model.to_sklearn()
    refitted = clone(twin).set_params(tol=1e-12, max_iter=100_000).fit(X, Y, sample_weight=WEIGHT)
    np.testing.assert_allclose(twin.predict(X), model.predict(X))
    np.testing.assert_allclose(refitted.coef_, model.coef_, atol=1e-8)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alphas": -1}, "'alphas'"),
        ({"alphas": [0.1, -1.0]}, "'alphas'"),
        ({"alphas": []}, "'alphas'"),
        ({"eps": 0.0}, "'eps'"),
        ({"penalty": "elasticnet", "l1_ratio": [0.1, 2.0]}, "'l1_ratio'"),
        ({"selection": "max"}, "'selection'"),
        ({"cv": 1}, "at least two folds"),
        ({"cv": N + 1}, "greater than the number of samples"),
        ({"cv": [(np.arange(5), np.array([N]))]}, "outside of the table"),
        ({"cv": [(np.array([0, 0]), np.array([1]))]}, "twice"),
        ({"cv": []}, "no splits"),
        ({"cv": [(np.arange(5), np.arange(0))]}, "Fold 0 has no test rows"),
    ],
)
def test_bad_parameters_are_named(params, message):
    model = DistributedGDRegressorCV(**params)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(X, Y)
    assert not hasattr(model, "coef_")


def test_a_fold_without_weight_is_named():
    weight = np.where(np.arange(N) < N // 4, 0.0, 1.0)
    with pytest.raises(ValueError, match="Fold 0 has no test rows of positive sample_weight"):
        DistributedGDRegressorCV(cv=4).fit(X, Y, sample_weight=weight)


def test_rows_that_are_not_finite_are_located():
    bad = X.copy()
    bad[77, 2] = np.inf
    chunked = da.from_array(bad, chunks=(50, P))
    cv = KFold(3, shuffle=True, random_state=0)
    with pytest.raises(ValueError, match=r"chunk 1.*row 27|row 27.*chunk 1"):
        DistributedGDRegressorCV(cv=cv).fit(chunked, da.from_array(Y, chunks=50))


def test_columns_that_say_nothing_are_warned_of():
    twice = np.column_stack([X, X[:, 0]])
    with pytest.warns(ConvergenceWarning, match="condition number"):
        DistributedGDRegressorCV(alphas=[1e-16]).fit(twice, Y)


def test_wide_tables_are_refused():
    with pytest.raises(ValueError, match="up to 2000 columns"):
        DistributedGDRegressorCV().fit(sp.csr_array((10, 2001)), np.arange(10.0))


@given(n_rows=st.integers(2, 50), n_folds=st.integers(2, 9))
def test_consecutive_parts_are_k_folds(n_rows, n_folds):
    if n_folds > n_rows:
        return
    parts = Consecutive(n_rows, n_folds).parts(0, n_rows)
    for number, (_, test) in enumerate(KFold(n_folds).split(np.zeros(n_rows))):
        np.testing.assert_array_equal(np.flatnonzero(parts == number), test)


def test_splits_that_divide_the_rows_share_one_division():
    divisions, splits = make_folds(KFold(4, shuffle=True, random_state=0), N)
    assert (len(divisions), len(splits)) == (1, 4)
    divisions, _ = make_folds(RepeatedKFold(n_splits=2, n_repeats=2, random_state=0), N)
    assert len(divisions) == 4


@parametrize_with_checks([DistributedGDRegressorCV(alphas=3, cv=2)])
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        # Tables of a few rows of more columns, halved.
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.mark.parametrize("units", [1e-3, 1.0, 1e3])
def test_the_ridge_grid_knows_the_units_of_the_columns(units):
    X, y = load_diabetes(return_X_y=True)
    model = DistributedGDRegressorCV(alphas=10).fit(units * X, y)
    best = RidgeCV(np.logspace(-4, 2, 50)).fit(X, y).score(X, y)
    assert model.score(units * X, y) > best - 0.01
