"""scikit-learn's searches and validation on dask arrays: the same numbers, and X stays put."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - it enables the import
from sklearn.linear_model import Ridge
from sklearn.metrics import get_scorer, make_scorer, mean_absolute_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from watching import watching

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler

N, P, CHUNK = 1000, 20, 100
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, P))
Y = X @ np.arange(P) + 2.0 + 0.5 * RNG.standard_normal(N)
LABELS = (X[:, 0] + 0.5 * RNG.standard_normal(N) > 0).astype(int)
CHUNK_BYTES = CHUNK * P * 8
#: Targets may come to the client, and a matrix of columns by columns from each worker.
CLIENT_BYTES = 8 * N + 2 * 8 * (P + 1) ** 2 + 4000
assert X.nbytes / 8 > CLIENT_BYTES

ESTIMATORS = {
    "gd": (DistributedGDRegressor(), {"alpha": [1e-4, 1e-2]}, Y, 1e-9),
    "sgd": (DistributedSGDRegressor(random_state=0), {"alpha": [1e-4, 1e-2]}, Y, 1e-5),
    "svc": (DistributedLinearSVC(tol=1e-6), {"C": [1e-3, 1e-1]}, LABELS, 1e-3),
}
each = pytest.mark.parametrize("name", ESTIMATORS)


def chunked(array, size=CHUNK):
    return da.from_array(array, chunks=(size, *array.shape[1:]))


@each
def test_grid_search_on_a_cluster(client, monkeypatch, name):
    """Story 1: finite, as on NumPy, and nobody ever holds more than a few chunks of X."""
    estimator, grid, y, tol = ESTIMATORS[name]
    kind = {"cv": 3, "error_score": "raise"}
    with watching(client, monkeypatch) as watch:
        dX, dy = chunked(X), chunked(y, 150)
        search = GridSearchCV(estimator, grid, **kind).fit(dX, dy)
        score, predicted = search.score(dX, dy), search.predict(dX)
    plain = GridSearchCV(estimator, grid, **kind).fit(X, y)
    assert np.isfinite(search.best_score_)
    assert search.best_params_ == plain.best_params_
    for key in ("mean_test_score", "split1_test_score"):
        np.testing.assert_allclose(search.cv_results_[key], plain.cv_results_[key], rtol=tol)
    np.testing.assert_allclose(search.best_estimator_.coef_, plain.best_estimator_.coef_, atol=0.02)
    assert isinstance(score, float)
    assert isinstance(predicted, da.Array)
    assert predicted.chunks == (dX.chunks[0],)
    assert np.mean(predicted.compute() == plain.predict(X)) > 0.99 or name != "svc"
    # A chunk comes in and goes out again, with its targets; y may come to the client.
    assert CHUNK_BYTES <= watch.task <= 3 * CHUNK_BYTES
    assert watch.client <= CLIENT_BYTES


VALIDATIONS = {
    "random": lambda est, grid, X, y: RandomizedSearchCV(
        est, grid, n_iter=2, cv=2, random_state=0, error_score="raise"
    ).fit(X, y).cv_results_["mean_test_score"],
    "halving": lambda est, grid, X, y: HalvingGridSearchCV(
        est, grid, cv=2, min_resources=N // 2, factor=2, random_state=0, error_score="raise"
    ).fit(X, y).cv_results_["mean_test_score"],
    "scores": lambda est, grid, X, y: cross_val_score(est, X, y, cv=2, error_score="raise"),
    "shuffled": lambda est, grid, X, y: cross_val_score(
        est, X, y, cv=ShuffleSplit(2, random_state=0), error_score="raise"
    ),
    "validate": lambda est, grid, X, y: np.stack([
        value for key, value in sorted(cross_validate(
            est, X, y, cv=KFold(2, shuffle=True, random_state=0), return_train_score=True,
            scoring=["r2", "neg_mean_squared_error"] if y.dtype.kind == "f"
            else ["accuracy", "f1_macro"], error_score="raise").items()) if "time" not in key]),
    "curve": lambda est, grid, X, y: np.concatenate(learning_curve(
        est, X, y, cv=2, train_sizes=[0.3, 1.0], shuffle=True, random_state=0,
        error_score="raise")[1:]),
    "ordered": lambda est, grid, X, y: cross_val_score(
        est, X, y, cv=TimeSeriesSplit(2), error_score="raise"),
    "groups": lambda est, grid, X, y: cross_val_score(
        est, X, y, cv=GroupKFold(2), groups=np.arange(N) % 5, error_score="raise"),
}  # fmt: skip


@each
@pytest.mark.parametrize("way", VALIDATIONS)
def test_validation_gives_the_numbers_of_numpy(name, way):
    estimator, grid, y, tol = ESTIMATORS[name]
    plain = VALIDATIONS[way](estimator, grid, X, y)
    lazy = VALIDATIONS[way](estimator, grid, chunked(X), chunked(y, 150))
    np.testing.assert_allclose(lazy, plain, rtol=max(tol, 2e-3 if name == "svc" else 0))


@pytest.mark.parametrize(
    ("name", "way"),
    [("gd", "random"), ("gd", "halving"), ("svc", "scores"), ("sgd", "shuffled"), ("gd", "curve")],
)  # fmt: skip
def test_validation_on_a_cluster_leaves_x_where_it_is(client, monkeypatch, name, way):
    estimator, grid, y, _ = ESTIMATORS[name]
    with watching(client, monkeypatch) as watch:
        scores = VALIDATIONS[way](estimator, grid, chunked(X), chunked(y))
    assert np.isfinite(scores).all()
    # A shuffled chunk is put together from slices of as many chunks as it has rows.
    assert watch.task <= 4 * CHUNK_BYTES
    assert watch.client <= CLIENT_BYTES


def test_the_watch_sees_what_gathers(client, monkeypatch):
    """scikit-learn's own scaler fetches X, as the documentation says; and that shows."""
    with watching(client, monkeypatch) as watch, pytest.warns(FutureWarning, match="Dask array"):
        make_pipeline(StandardScaler(), DistributedGDRegressor()).fit(chunked(X), chunked(Y))
    assert watch.client >= X.nbytes


@pytest.mark.parametrize(
    "make",
    [
        lambda: chunked(X).map_blocks(sp.csr_array, dtype=float, meta=sp.csr_array((0, 0))),
        lambda: chunked(X).map_blocks(sp.csr_matrix, dtype=float),
        lambda: da.from_array(X, chunks=(CHUNK, 3)),
        lambda: da.from_array(X, chunks=((1, 0, 399, 600), P)),
        lambda: chunked(X.astype(np.float32)),
    ],
    ids=["csr_array", "csr_matrix", "columns", "uneven", "float32"],
)
@each
def test_chunks_of_any_kind(name, make):
    estimator, grid, y, tol = ESTIMATORS[name]
    search = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(make(), chunked(y))
    plain = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, y)
    np.testing.assert_allclose(search.best_score_, plain.best_score_, rtol=max(tol, 1e-5))


REGRESSION = """r2 explained_variance neg_max_error neg_mean_absolute_error neg_mean_squared_error
    neg_root_mean_squared_error neg_median_absolute_error""".split()
BINARY = "accuracy balanced_accuracy f1_macro roc_auc matthews_corrcoef".split()


@pytest.mark.parametrize("scoring", [*REGRESSION, make_scorer(mean_absolute_error), *BINARY])
def test_scorers_take_lazy_predictions(scoring):
    name = "svc" if scoring in BINARY else "gd"
    estimator, _, y, _ = ESTIMATORS[name]
    model = estimator.fit(X, y)
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    dX = chunked(X)
    for target in (y, chunked(y), chunked(y, 150)):
        value = scorer(model, dX, target)
        assert isinstance(value, float)
        assert value == pytest.approx(scorer(model, X, y), rel=1e-12)


@each
def test_score_reads_x_once(name):
    estimator, _, y, _ = ESTIMATORS[name]
    model = estimator.fit(X, y)
    read = []

    def count(block):
        read.append(len(block))
        return block

    counted = chunked(X).map_blocks(count, dtype=float, meta=np.empty((0, 0)))
    assert model.score(counted, chunked(y)) == pytest.approx(model.score(X, y), rel=1e-12)
    assert sum(read) == N


@each
def test_pipelines_of_lazy_steps(client, monkeypatch, name):
    estimator, grid, y, tol = ESTIMATORS[name]
    grid = {f"model__{key}": values for key, values in grid.items()}

    def search(X, y):
        steps = [
            ("half", FunctionTransformer(lambda X: X * 0.5)),
            ("scale", DistributedStandardScaler()),
            ("model", estimator),
        ]
        pipeline = Pipeline(steps)
        return GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)

    with watching(client, monkeypatch) as watch:
        lazy = search(chunked(X), y)
    assert watch.task <= 3 * CHUNK_BYTES
    assert watch.client <= CLIENT_BYTES
    plain = search(X, y)
    np.testing.assert_allclose(lazy.best_score_, plain.best_score_, rtol=tol)
    assert isinstance(lazy.predict(chunked(X)), da.Array)


def test_predictions_of_folds_are_lazy():
    predicted = cross_val_predict(DistributedGDRegressor(), chunked(X), chunked(Y), cv=3)
    plain = cross_val_predict(DistributedGDRegressor(), X, Y, cv=3)
    np.testing.assert_allclose(predicted.compute(), plain, rtol=1e-8)


AROUND = {
    "outputs": lambda: MultiOutputRegressor(DistributedGDRegressor()),
    "target": lambda: TransformedTargetRegressor(
        DistributedGDRegressor(), func=np.negative, inverse_func=np.negative
    ),
    "stack": lambda: StackingRegressor(
        [("a", DistributedGDRegressor()), ("b", DistributedGDRegressor("huber"))],
        final_estimator=Ridge(), cv=2,
    ),
    "vote": lambda: VotingRegressor([("a", DistributedGDRegressor())]),
    "columns": lambda: make_pipeline(
        ColumnTransformer(
            [("some", DistributedStandardScaler(), [0, 1])], remainder="passthrough"
        ),
        DistributedGDRegressor(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("around", AROUND)
def test_what_else_leaves_x_where_it_is(client, monkeypatch, around):
    """These ask only for the number of rows, or hand X on; y is in memory."""
    y = np.column_stack([Y, -Y]) if around == "outputs" else Y
    with watching(client, monkeypatch) as watch:
        model = AROUND[around]().fit(chunked(X), y)
        score = model.score(chunked(X), y)
    assert watch.task <= 3 * CHUNK_BYTES
    # A prediction of each column of y, or of each of two estimators.
    assert watch.client <= max(CLIENT_BYTES, 2 * 8 * N + 4000) < X.nbytes / 6
    assert score == pytest.approx(AROUND[around]().fit(X, y).score(X, y), rel=1e-6)
