"""Searches whose fits share passes, against scikit-learn's searches over its own estimators."""

import pickle
import warnings

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.metrics import make_scorer, mean_pinball_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.model_selection import (
    DistributedGridSearchCV,
    DistributedRandomizedSearchCV,
    cross_validate,
)
from dask_dml.model_selection.batches import run_batch
from dask_dml.preprocessing import DistributedStandardScaler
from dask_dml.solvers.shared_rounds import SharedRounds

RNG = np.random.default_rng(8)
N, P = 180, 5
X = RNG.normal(size=(N, P)) * [1.0, 2.0, 0.5, 1.0, 1.0] + [0.0, 4.0, 0.0, -1.0, 0.0]
Y = X @ [1.0, -1.0, 3.0, 0.0, 0.2] + RNG.normal(size=N)
Y2 = np.column_stack([Y, X @ [0.0, 1.0, 0.0, 1.0, 1.0] + RNG.normal(size=N)])
LABELS = np.array(["red", "green", "blue"])[np.digitize(Y + RNG.normal(size=N), [-6.0, -3.0])]
WEIGHT = RNG.uniform(0.2, 3.0, N)
SPARSE = sp.csr_array(np.where(RNG.random((N, P)) < 0.5, X, 0.0))
ALPHAS = np.geomspace(1e-3, 1.0, 5)
FOLDS = [4, KFold(3, shuffle=True, random_state=0), TimeSeriesSplit(3)]
SUMS = [
    "r2", "explained_variance", "neg_mean_squared_error", "neg_root_mean_squared_error",
    "neg_mean_absolute_error",
]  # fmt: skip


def assert_same(ours, theirs, *, names=("score",), rtol=1e-6, train=False, parameters=True):
    """Same scores, same ranking, same choice."""
    mine, other = ours.cv_results_, theirs.cv_results_
    if parameters:
        assert mine.keys() == other.keys()
        assert mine["params"] == other["params"]
        for key in mine:
            if key.startswith("param_"):
                assert mine[key].tolist() == other[key].tolist()
                assert mine[key].dtype == other[key].dtype
    sides = ("test", "train") if train else ("test",)
    for side in sides:
        for name in names:
            for key in (f"mean_{side}_{name}", f"std_{side}_{name}", f"split1_{side}_{name}"):
                np.testing.assert_allclose(mine[key], other[key], rtol=rtol, atol=1e-8)
    for name in names:
        np.testing.assert_array_equal(mine[f"rank_test_{name}"], other[f"rank_test_{name}"])
    assert (ours.best_index_, ours.n_splits_) == (theirs.best_index_, theirs.n_splits_)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=rtol)


@pytest.mark.parametrize("cv", FOLDS, ids=str)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
@pytest.mark.parametrize("table", [X, SPARSE], ids=["dense", "csr"])
def test_elastic_net_equals_scikit_learns(cv, weight, table):
    if weight is not None and sklearn.__version__ < "1.8":
        pytest.skip("searches of older releases weight scores with metadata routing only")
    grid = {"alpha": ALPHAS, "l1_ratio": [0.3, 1.0]}
    options = {"cv": cv, "scoring": SUMS, "refit": "r2", "return_train_score": True}
    theirs = GridSearchCV(ElasticNet(tol=1e-12, max_iter=100_000), grid, **options)
    theirs.fit(table, Y, sample_weight=weight)
    ours = DistributedGridSearchCV(DistributedGDRegressor(penalty="elasticnet"), grid, **options)
    ours.fit(table, Y, sample_weight=weight)
    assert_same(ours, theirs, names=SUMS, train=True)
    np.testing.assert_allclose(ours.predict(table), theirs.predict(table), rtol=1e-6, atol=1e-6)
    # Dividing the rows, their moments, the scores of both sides, and perhaps a finer last fit.
    assert ours.best_estimator_.n_rounds_ <= 2


def test_ridge_of_several_outputs_equals_scikit_learns():
    n_train = N * 3 // 4
    theirs = GridSearchCV(Ridge(), {"alpha": ALPHAS * n_train}, cv=4, scoring=SUMS, refit="r2")
    ours = DistributedGridSearchCV(
        DistributedGDRegressor(), {"alpha": ALPHAS}, cv=4, scoring=SUMS, refit="r2"
    )
    assert_same(ours.fit(X, Y2), theirs.fit(X, Y2), names=SUMS, parameters=False)


def count_passes(monkeypatch):
    """Return a list that grows with every pass that scores rows."""
    passes = []
    visit = SharedRounds.sums
    monkeypatch.setattr(
        SharedRounds, "sums", lambda self, asked: passes.append(asked) or visit(self, asked)
    )
    return passes


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
@pytest.mark.parametrize("target", [Y, Y2], ids=["one", "several"])
def test_squares_are_scored_by_moments(weight, target, monkeypatch):
    """Squared errors of least squares come from the moments that the fits have collected."""
    if weight is not None and sklearn.__version__ < "1.8":
        pytest.skip("searches of older releases weight scores with metadata routing only")
    squares = [
        "r2", "explained_variance", "neg_mean_squared_error", "neg_root_mean_squared_error",
    ]  # fmt: skip
    options = {"cv": KFold(4, shuffle=True, random_state=0), "scoring": squares, "refit": "r2"}
    passes = count_passes(monkeypatch)
    ours = DistributedGridSearchCV(
        DistributedGDRegressor(), {"alpha": [1e-12, 1e-8]}, return_train_score=True, **options
    )
    ours.fit(X, target, sample_weight=weight)
    assert not passes
    # So weak that Ridge, which does not divide by the sum of weights, has the same solutions.
    theirs = GridSearchCV(Ridge(), {"alpha": [1e-12, 1e-8]}, return_train_score=True, **options)
    theirs.fit(X, target, sample_weight=weight)
    for side in ("test", "train"):
        for name in squares:
            key = f"mean_{side}_{name}"
            np.testing.assert_allclose(ours.cv_results_[key], theirs.cv_results_[key], rtol=1e-6)


def test_moments_that_lost_digits_are_not_scored_by(monkeypatch):
    passes = count_passes(monkeypatch)
    exact = X @ np.arange(1.0, X.shape[1] + 1) + 1e-5 * Y
    ours = DistributedGridSearchCV(
        DistributedGDRegressor(), {"alpha": [1e-14, 1e-13]}, cv=4, scoring="neg_mean_squared_error"
    ).fit(X, exact)
    assert passes
    theirs = GridSearchCV(
        LinearRegression(), {"fit_intercept": [True]}, cv=4, scoring="neg_mean_squared_error"
    ).fit(X, exact)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-4)


@pytest.mark.parametrize("labels", [LABELS, (LABELS == "red").astype(int)], ids=["three", "two"])
@pytest.mark.parametrize("cv", [4, StratifiedKFold(3, shuffle=True, random_state=1)], ids=str)
def test_support_vector_machines_equal_scikit_learns(labels, cv):
    scoring = ["accuracy", "balanced_accuracy", "f1_macro", "precision_weighted", "recall_micro"]
    if labels.dtype.kind == "i":
        scoring += ["f1", "roc_auc", "average_precision"]
    grid = {"C": [0.03, 3.0], "class_weight": [None, "balanced"]}
    options = {"cv": cv, "scoring": scoring, "refit": "accuracy"}
    fixed = {"tol": 1e-9, "max_iter": 100_000}
    theirs = GridSearchCV(LinearSVC(dual=False, **fixed), grid, **options).fit(X, labels)
    ours = DistributedGridSearchCV(DistributedLinearSVC(**fixed), grid, **options).fit(X, labels)
    assert_same(ours, theirs, names=scoring)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)


@pytest.mark.parametrize(
    "model",
    [
        DistributedGDRegressor("huber", tol=1e-10),
        DistributedGDRegressor("quantile", quantile=0.8, tol=1e-9),
        DistributedSGDRegressor("squared_error", random_state=0, tol=1e-10),
    ],
    ids=lambda model: f"{type(model).__name__}-{model.loss}",
)
def test_other_losses_equal_single_fits(model):
    pinball = make_scorer(mean_pinball_loss, alpha=0.8, greater_is_better=False)
    scoring = {"own": None, "r2": "r2", "pinball": pinball, "median": "neg_median_absolute_error"}
    del scoring["own"]
    options = {"cv": 3, "scoring": scoring, "refit": "r2"}
    theirs = GridSearchCV(model, {"alpha": ALPHAS[2:]}, **options).fit(X, Y)
    ours = DistributedGridSearchCV(model, {"alpha": ALPHAS[2:]}, **options).fit(X, Y)
    assert_same(ours, theirs, names=list(scoring), rtol=1e-6 if model.loss == "huber" else 1e-4)


def test_drawn_candidates_are_scikit_learns():
    options = {"n_iter": 6, "random_state": 3, "cv": 3}
    drawn = {"alpha": loguniform(1e-4, 1.0)}
    theirs = RandomizedSearchCV(DistributedGDRegressor(), drawn, **options).fit(X, Y)
    ours = DistributedRandomizedSearchCV(DistributedGDRegressor(), drawn, **options).fit(X, Y)
    assert_same(ours, theirs)


def test_groups_decide_the_folds():
    groups = RNG.integers(0, 9, N)
    options = {"cv": GroupKFold(3)}
    theirs = GridSearchCV(DistributedGDRegressor(), {"alpha": ALPHAS}, **options)
    ours = DistributedGridSearchCV(DistributedGDRegressor(), {"alpha": ALPHAS}, **options)
    assert_same(ours.fit(X, Y, groups=groups), theirs.fit(X, Y, groups=groups))


PIPELINES = [
    (make_pipeline(StandardScaler(), DistributedGDRegressor()), Y),
    (make_pipeline(DistributedStandardScaler(), DistributedLinearSVC(tol=1e-8)), LABELS),
]


@pytest.mark.parametrize(("pipeline", "y"), PIPELINES, ids=["regression", "classes"])
def test_pipelines(pipeline, y):
    name = pipeline.steps[-1][0]
    strength = "alpha" if y is Y else "C"
    grid = {f"{name}__{strength}": [0.01, 1.0], f"{pipeline.steps[0][0]}__with_mean": [True, False]}
    theirs = GridSearchCV(pipeline, grid, cv=3, return_train_score=True).fit(X, y)
    ours = DistributedGridSearchCV(pipeline, grid, cv=3, return_train_score=True).fit(X, y)
    assert_same(ours, theirs, train=True)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("model", [Ridge(), make_pipeline(StandardScaler(), Ridge())])
def test_other_estimators_are_fitted_one_by_one(model):
    grid = {"alpha" if isinstance(model, Ridge) else "ridge__alpha": ALPHAS}
    options = {"cv": 3, "return_train_score": True}
    theirs = GridSearchCV(model, grid, **options).fit(X, Y)
    assert_same(DistributedGridSearchCV(model, grid, **options).fit(X, Y), theirs, train=True)


def lazily(array, kind):
    """Return Dask collections of uneven chunks, some of them empty, some of unknown sizes."""
    sizes = (70, 0, 65, 45)
    if kind == "frame":
        if array.ndim == 1:
            return dd.from_pandas(pd.Series(array), npartitions=4)
        return dd.from_pandas(pd.DataFrame(array, columns=list("abcde")), npartitions=4)
    chunked = da.from_array(array, chunks=(sizes, *array.shape[1:]))
    return chunked[da.ones(N, dtype=bool, chunks=(sizes,))] if kind == "unknown" else chunked


@pytest.mark.parametrize("kind", ["array", "unknown", "frame"])
@pytest.mark.parametrize("where", ["cluster", "alone"])
@pytest.mark.parametrize("cv", [3, KFold(3, shuffle=True, random_state=0)], ids=str)
def test_dask_collections(kind, where, cv, request):
    if where == "cluster":
        request.getfixturevalue("client")
    grid = {"alpha": ALPHAS, "loss": ["squared_error", "huber"]}
    expected = DistributedGridSearchCV(DistributedGDRegressor(), grid, cv=cv)
    expected.fit(X, Y, sample_weight=WEIGHT)
    ours = clone(expected).fit(lazily(X, kind), lazily(Y, kind), sample_weight=WEIGHT)
    assert_same(ours, expected)
    assert len(ours.predict(lazily(X, kind)).compute()) == N
    assert pickle.loads(pickle.dumps(ours)).best_params_ == expected.best_params_


@pytest.mark.parametrize("kind", ["array", "unknown", "frame"])
def test_lazy_classes_and_pipelines(kind):
    codes = np.digitize(Y, [-6.0, -3.0])
    for model, y in (
        (DistributedLinearSVC(tol=1e-8), codes),
        (make_pipeline(DistributedStandardScaler(), DistributedGDRegressor()), Y),
    ):
        name = "C" if y is codes else "distributedgdregressor__alpha"
        expected = DistributedGridSearchCV(model, {name: [0.01, 1.0]}, cv=3).fit(X, y)
        ours = clone(expected).fit(lazily(X, kind), lazily(y, kind))
        assert_same(ours, expected)


def looks_at_rows(estimator, X, y):
    return {"first": float(X[0, 0]), "right": estimator.score(X, y)}


def test_callables_see_the_rows_held_out():
    options = {"scoring": looks_at_rows, "cv": 3, "refit": "right"}
    theirs = GridSearchCV(DistributedGDRegressor(), {"alpha": ALPHAS}, **options).fit(X, Y)
    ours = DistributedGridSearchCV(DistributedGDRegressor(), {"alpha": ALPHAS}, **options)
    assert_same(ours.fit(X, Y), theirs, names=["first", "right"])
    assert ours.multimetric_


def test_callable_refit_and_none():
    grid = {"alpha": ALPHAS}
    last = DistributedGridSearchCV(
        DistributedGDRegressor(), grid, refit=lambda results: len(results["params"]) - 1
    ).fit(X, Y)
    assert last.best_params_ == {"alpha": ALPHAS[-1]}
    assert not hasattr(last, "best_score_")
    none = DistributedGridSearchCV(DistributedGDRegressor(), grid, refit=False).fit(X, Y)
    assert none.best_index_ == none.cv_results_["mean_test_score"].argmax()
    assert not hasattr(none, "best_estimator_")


@pytest.mark.parametrize("pipeline", [False, True])
def test_routed_weights_count_in_scores(pipeline):
    with sklearn.config_context(enable_metadata_routing=True):
        model = DistributedGDRegressor().set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        grid = {"alpha": ALPHAS}
        if pipeline:
            model = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
            grid = {"distributedgdregressor__alpha": ALPHAS}
        if pipeline and sklearn.__version__ < "1.8":
            pytest.skip("searches of older releases hand no weights to the score of a pipeline")
        theirs = GridSearchCV(model, grid, cv=3).fit(X, Y, sample_weight=WEIGHT)
        ours = DistributedGridSearchCV(model, grid, cv=3).fit(X, Y, sample_weight=WEIGHT)
        plain = DistributedGridSearchCV(model, grid, cv=3).fit(X, Y, sample_weight=np.ones(N))
    assert_same(ours, theirs)
    assert ours.best_score_ != plain.best_score_


def test_fits_that_fail():
    grid = {"solver": ["auto", "statistics"]}
    model = DistributedGDRegressor("huber")
    with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
        search = DistributedGridSearchCV(model, grid, cv=3).fit(X, Y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert search.cv_results_["rank_test_score"].tolist() == [1, 2]
    strict = DistributedGridSearchCV(model, grid, cv=3, error_score="raise")
    with pytest.raises(ValueError, match="needs loss='squared_error'"):
        strict.fit(X, Y)
    with pytest.raises(ValueError, match=r"All the 3 fits failed.*alpha"):
        DistributedGridSearchCV(model, {"alpha": [-1.0]}, cv=3).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scoring": ["r2"]}, "parameter refit must be set to a scorer key"),
        ({"scoring": "no_such"}, "no_such"),
        ({"cv": 1}, "at least two folds"),
        ({"cv": 1000}, "greater than the number of samples"),
    ],
)
def test_bad_parameters(options, message):
    search = DistributedGridSearchCV(DistributedGDRegressor(), {"alpha": ALPHAS}, **options)
    with pytest.raises(ValueError, match=message):
        search.fit(X, Y)


def test_bad_input_is_named_and_leaves_nothing(client):
    bad = X.copy()
    bad[100, 2] = np.nan
    search = DistributedGridSearchCV(DistributedGDRegressor(), {"alpha": ALPHAS}, cv=3)
    with (
        pytest.raises(ValueError, match=r"Input X contains NaN.*column 2"),
        warnings.catch_warnings(),
    ):
        search.fit(lazily(bad, "array"), lazily(Y, "array"))


def test_overlapping_splits():
    cv = ShuffleSplit(4, test_size=0.3, random_state=2)
    theirs = GridSearchCV(DistributedGDRegressor("huber", tol=1e-9), {"alpha": ALPHAS}, cv=cv)
    ours = DistributedGridSearchCV(theirs.estimator, {"alpha": ALPHAS}, cv=cv)
    assert_same(ours.fit(X, Y), theirs.fit(X, Y))


@pytest.mark.parametrize("model", [DistributedGDRegressor("huber"), DistributedLinearSVC()])
def test_data_that_is_read_anew_takes_the_passes_of_the_slowest_fit(model, monkeypatch):
    monkeypatch.setattr("dask_dml.rounds.choose.LOCAL_SHARE", 0.0)
    y = Y if model.__class__ is DistributedGDRegressor else (Y > -4).astype(float)
    name = "alpha" if y is Y else "C"
    lazy = lazily(X, "array"), lazily(y, "array")
    search = DistributedGridSearchCV(model, {name: ALPHAS}, cv=3, refit=False).fit(*lazy)
    passes = []
    monkeypatch.setattr(
        "dask_dml.model_selection.evaluation.run_batch",
        lambda batch, *args: counted(batch, passes, args),
    )
    clone(search).fit(*lazy)
    slowest = max(clone(model).set_params(**{name: a}).fit(*lazy).n_rounds_ for a in ALPHAS)
    # The rows of chunks, those of classes, the parts, and the scores, which may look for classes.
    assert passes[0] <= slowest + 6
    expected = GridSearchCV(model, {name: ALPHAS}, cv=3, refit=False).fit(X, y)
    means = (one.cv_results_["mean_test_score"] for one in (search, expected))
    np.testing.assert_allclose(*means, rtol=1e-4)


def counted(batch, passes, args):
    assert batch.rounds.engine == "streaming"
    found = run_batch(batch, *args)
    passes.append(batch.rounds.n_rounds)
    return found


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_fits_that_begin_where_those_of_all_rows_have_ended(loss, monkeypatch):
    model = DistributedLinearSVC(loss=loss, tol=1e-9)
    grid = {"C": [0.1, 0.01], "class_weight": [None, "balanced"]}
    expected = DistributedGridSearchCV(model, grid, cv=3).fit(X, LABELS)
    monkeypatch.setattr("dask_dml.model_selection.batches.LEADER_ENTRIES", 0)
    found = clone(expected).fit(X, LABELS)
    assert_same(found, expected)
    alone = clone(model).set_params(**found.best_params_).fit(X, LABELS)
    np.testing.assert_allclose(found.best_estimator_.coef_, alone.coef_, atol=1e-3)


def test_a_fold_that_lacks_a_class_begins_by_itself(monkeypatch):
    rare = np.where(np.arange(N) < 9, "rare", LABELS)
    search = DistributedGridSearchCV(
        DistributedLinearSVC(loss="hinge", tol=1e-8), {"C": [0.1, 1.0]}, cv=KFold(4)
    )
    expected = clone(search).fit(X, rare)
    monkeypatch.setattr("dask_dml.model_selection.batches.LEADER_ENTRIES", 0)
    assert_same(search.fit(X, rare), expected)


def test_a_fit_that_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr("dask_dml.model_selection.batches.LEADER_ENTRIES", 0)
    search = DistributedGridSearchCV(
        DistributedLinearSVC(loss="hinge"), {"C": [1.0, -1.0, 0.1, 0.01]}, cv=3
    )
    with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 12"):
        search.fit(X, LABELS)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True, False, False]


def test_an_estimator_with_a_checkpoint_is_refused(tmp_path):
    model = DistributedGDRegressor(checkpoint=tmp_path / "fit")
    pipeline = make_pipeline(StandardScaler(), model)
    for one in (model, pipeline):
        with pytest.raises(ValueError, match="checkpoint=None"):
            cross_validate(one, X, Y)
    with pytest.raises(ValueError, match="refit=False"):
        DistributedGridSearchCV(model, {"alpha": ALPHAS}).fit(X, Y)
    assert not list(tmp_path.iterdir())
