"""The estimator as scikit-learn and Dask users meet it."""

import pickle
import subprocess
import sys

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import reference
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dask_dml import DistributedGDRegressor
from tests.patience import within

X, Y, WEIGHT = reference.table(60, 3, seed=31)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])


@pytest.mark.parametrize("solver", ["auto", "newton", "gd"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fitted_attributes_are_plain_numpy_and_python(client, solver, outputs):
    y = Y if outputs == 1 else np.column_stack([Y, -Y])
    model = DistributedGDRegressor(solver=solver, max_iter=5)
    model.fit(dd.from_pandas(FRAME, npartitions=3), y)
    kinds = {
        "coef_": np.ndarray,
        "intercept_": float if outputs == 1 else np.ndarray,
        "n_iter_": int,
        "n_rounds_": int,
        "engine_": str,
        "n_recoveries_": int,
        "loss_curve_": list,
        "converged_": bool,
        "duality_gap_": float,
        "solver_": str,
        "history_": dict,
        "fit_seconds_": float,
        "n_features_in_": int,
        "feature_names_in_": np.ndarray,
    }
    fitted = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert fitted == set(kinds)
    for name, kind in kinds.items():
        assert type(getattr(model, name)) is kind, name
    assert all(type(value) is float for value in model.loss_curve_)
    assert all(isinstance(value, float | int) for one in model.history_.values() for value in one)
    assert model.coef_.dtype == np.float64
    assert model.coef_.shape == ((3,) if outputs == 1 else (2, 3))
    private = set(vars(model)) - fitted - set(model.get_params())
    # What `to_sklearn` multiplies alpha by.
    assert private == {"_n_samples", "_weight_sum"}
    assert type(model._weight_sum) is float


def test_everything_a_fit_made_is_released(client):
    before = set(client.who_has())
    DistributedGDRegressor("huber").fit(da.from_array(X, chunks=(10, 3)), Y)
    assert within(5, lambda: set(client.who_has()) <= before)
    assert not client.futures or set(client.futures) <= before


def test_clone_and_pickle(client):
    model = DistributedGDRegressor("huber", alpha=0.3, random_state=1)
    assert clone(model).get_params() == model.get_params()
    assert pickle.loads(pickle.dumps(model)).get_params() == model.get_params()
    model.fit(da.from_array(X, chunks=(20, 3)), Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert not hasattr(clone(model), "coef_")
    assert len(pickle.dumps(model)) < 5000


def test_a_pickle_predicts_where_distributed_cannot_be_imported(client, tmp_path):
    model = DistributedGDRegressor().fit(da.from_array(X, chunks=(20, 3)), Y)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "x.npy", X)
    code = """
import sys
sys.modules["distributed"] = sys.modules["dask"] = None
import pickle, numpy as np
model = pickle.load(open("model.pickle", "rb"))
X = np.load("x.npy")
print(repr(float(model.predict(X).sum())), repr(model.score(X, model.predict(X))))
fitted = type(model)("huber").fit(X, X[:, 0])
assert abs(fitted.coef_[0] - 1) < 1e-2
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    total, score = map(float, done.stdout.split())
    assert total == pytest.approx(float(model.predict(X).sum()))
    assert score == 1.0


def test_predictions_are_lazy_for_dask_and_immediate_otherwise(client):
    model = DistributedGDRegressor().fit(FRAME, Y)
    expected = X @ model.coef_ + model.intercept_
    frame = dd.from_pandas(FRAME, npartitions=4)
    lazy = model.predict(frame)
    assert isinstance(lazy, dd.Series)
    np.testing.assert_allclose(lazy.compute().to_numpy(), expected)
    assert isinstance(model.predict(FRAME), np.ndarray)
    nameless = DistributedGDRegressor().fit(X, Y)
    lazy = nameless.predict(da.from_array(X, chunks=(7, 2)))
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == ((7,) * 8 + (4,),)
    np.testing.assert_allclose(lazy.compute(), expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_floats_and_r_squared(client, weighted):
    from sklearn.metrics import r2_score

    weight = WEIGHT if weighted else None
    model = DistributedGDRegressor().fit(X, Y)
    expected = r2_score(Y, model.predict(X), sample_weight=weight)
    for data, y in [(X, Y), (da.from_array(X, chunks=(9, 3)), da.from_array(Y, chunks=20))]:
        score = model.score(data, y, weight)
        assert type(score) is float
        assert score == pytest.approx(expected, rel=1e-12)


def test_feature_names_are_kept_and_checked():
    for data in (FRAME, dd.from_pandas(FRAME, npartitions=2)):
        model = DistributedGDRegressor().fit(data, Y)
        np.testing.assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
        for other in (FRAME, dd.from_pandas(FRAME, npartitions=3)):
            with pytest.raises(ValueError, match="feature names"):
                model.predict(other.rename(columns={"a": "z"}))
        with pytest.raises(ValueError, match="feature names"):
            model.score(FRAME[["c", "b", "a"]], Y)
    model.fit(X, Y)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize("make", [np.asarray, lambda a: da.from_array(a, chunks=(20, 2))])
def test_the_number_of_features_is_checked(make):
    model = DistributedGDRegressor().fit(X, Y)
    message = r"X has 2 features, but DistributedGDRegressor is expecting 3 features"
    with pytest.raises(ValueError, match=message):
        model.predict(make(X[:, :2]))
    with pytest.raises(ValueError, match=message):
        model.score(make(X[:, :2]), Y)


def test_unfitted_estimators_say_so():
    for call in (lambda m: m.predict(X), lambda m: m.score(X, Y)):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(DistributedGDRegressor())


def test_it_plugs_into_scikit_learn(client):
    pipeline = make_pipeline(StandardScaler(), DistributedGDRegressor())
    assert cross_val_score(pipeline, X, Y).mean() > 0.5
    search = GridSearchCV(DistributedGDRegressor("huber"), {"alpha": [1e-4, 10.0]}).fit(X, Y)
    assert search.best_params_ == {"alpha": 1e-4}
    assert DistributedGDRegressor().set_params(alpha=3.0).alpha == 3.0


BOOLEAN = "an instance of 'bool' or an instance of 'numpy.bool'"
BAD = [
    ("loss", "hinge", "a str among {'squared_error', 'huber', 'epsilon_insensitive', "
                      "'squared_epsilon_insensitive', 'quantile'}"),
    ("penalty", "ridge", "a str among {'l2', 'l1', 'elasticnet'} or None"),
    ("alpha", -1.0, r"a float in the range [0.0, inf)"),
    ("alpha", "big", r"a float in the range [0.0, inf)"),
    ("l1_ratio", 1.5, "a float in the range [0.0, 1.0]"),
    ("epsilon", -0.1, "a float in the range [0.0, inf)"),
    ("quantile", 1.0, "a float in the range (0.0, 1.0)"),
    ("fit_intercept", "yes", BOOLEAN),
    ("max_iter", 0, "an int in the range [1, inf)"),
    ("max_iter", 2.5, "an int in the range [1, inf)"),
    ("tol", -1.0, "a float in the range [0.0, inf)"),
    ("solver", "saga", "a str among {'auto', 'statistics', 'newton', 'lbfgs', 'accelerated', "
                       "'gd'}"),
    ("learning_rate", "optimal", "a str among {'auto', 'backtracking', 'constant', 'invscaling', "
                                 "'adaptive'}"),
    ("eta0", 0.0, "a float in the range (0.0, inf)"),
    ("power_t", -1.0, "a float in the range [0.0, inf)"),
    ("momentum", 1.0, "a float in the range [0.0, 1.0)"),
    ("aggregation", "mean", "a str among {'weighted', 'uniform'}"),
    ("checkpoint", 3, "a path, a URL or a Checkpoint or None"),
    ("n_shards", 0, "an int in the range [1, inf) or a str among {'blocks'} or None"),
    ("n_shards", "chunks", "an int in the range [1, inf) or a str among {'blocks'} or None"),
    ("warm_start", 1, BOOLEAN),
    ("random_state", "x", "an int in the range [0, 4294967295], an instance of "
                          "'numpy.random.mtrand.RandomState' or None"),
    ("verbose", "loud", f"an int in the range [0, inf), {BOOLEAN}"),
    ("n_jobs", 1.5, "an int or None"),
    ("max_time", 0.0, "a float in the range (0.0, inf) or None"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_every_parameter_is_checked_at_fit(name, value, allowed):
    model = DistributedGDRegressor().set_params(**{name: value})
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at below
        model.fit(X, Y)
    assert str(caught.value) == (
        f"The '{name}' parameter of DistributedGDRegressor must be {allowed}. "
        f"Got {value!r} instead."
    )
    assert isinstance(caught.value, TypeError)
    assert not hasattr(model, "n_features_in_")


def test_every_parameter_has_a_case_and_documentation():
    parameters = set(DistributedGDRegressor().get_params())
    assert {name for name, *_ in BAD} == parameters
    for name in parameters:
        assert f"\n    {name} : " in DistributedGDRegressor.__doc__, name


def test_numpy_scalars_are_parameters_too():
    DistributedGDRegressor(
        alpha=np.float32(0.1), max_iter=np.int64(50), fit_intercept=np.True_, n_shards=np.int32(2)
    ).fit(X, Y)


@pytest.mark.filterwarnings("ignore:X is a .* in memory, and y a Dask collection")
@pytest.mark.parametrize("container", ["array", "frame", "dask"])
def test_a_single_column_of_targets_is_one_output_as_in_scikit_learn(container):
    column = Y[:, None]
    target = {
        "array": column,
        "frame": pd.DataFrame(column, columns=["y"]),
        "dask": da.from_array(column, chunks=(11, 1)),
    }[container]
    model = DistributedGDRegressor(alpha=1e-3).fit(X, target)
    ridge = Ridge(alpha=1e-3 * len(column)).fit(X, column)
    for twin in (ridge, model.to_sklearn()):
        assert model.coef_.shape == twin.coef_.shape == (X.shape[1],)
        assert np.shape(model.intercept_) == np.shape(twin.intercept_) == (1,)
        assert model.predict(X).shape == twin.predict(X).shape == (len(column),)
        np.testing.assert_allclose(model.predict(X), twin.predict(X))
    assert model.score(X, column) == pytest.approx(ridge.score(X, column))
    again = model.set_params(warm_start=True, solver="newton").fit(X, target)
    assert again.coef_.shape == (X.shape[1],)
