"""What `to_sklearn` gives: the same predictions, the same problem, nothing of this package."""

import json
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge, SGDRegressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, P = 150, 4
rng = np.random.default_rng(8)
FRAME = pd.DataFrame(rng.normal(size=(N, P)) + np.array([5.0, 0.0, -2.0, 0.0]), columns=[*"abcd"])
X = FRAME.to_numpy()
Y = X @ [1.0, -2.0, 0.0, 0.5] + 7.0 + rng.normal(size=N)
TWO = np.column_stack([Y, X[:, 0] - Y])
CLASSES = np.array(["low", "middle", "high"])[np.digitize(Y, [15.0, 17.0])]
WEIGHT = rng.integers(0, 3, N).astype(float)

GD, SGD, SVC = DistributedGDRegressor, DistributedSGDRegressor, DistributedLinearSVC

REGRESSORS = {
    "no penalty": (GD(penalty=None), LinearRegression),
    "no strength": (GD(alpha=0.0), LinearRegression),
    "ridge": (GD(alpha=0.3), Ridge),
    "ridge, no intercept": (GD(alpha=0.3, fit_intercept=False), Ridge),
    "elastic net without L1": (GD(penalty="elasticnet", l1_ratio=0.0, alpha=0.1), Ridge),
    "lasso": (GD(penalty="l1", alpha=0.1), Lasso),
    "elastic net": (GD(penalty="elasticnet", l1_ratio=0.4, alpha=0.1), ElasticNet),
    "nodes alike": (GD(alpha=0.3, aggregation="uniform", n_shards=3), Ridge),
    "huber": (GD("huber", epsilon=0.5, alpha=0.01), SGDRegressor),
    "epsilon": (GD("epsilon_insensitive", penalty="l1", alpha=0.05), SGDRegressor),
    "squared epsilon": (GD("squared_epsilon_insensitive", penalty=None), SGDRegressor),
    "sgd": (SGD(random_state=0, alpha=0.01), SGDRegressor),
    "sgd of a schedule": (SGD(random_state=0, learning_rate="adaptive", eta0=0.002, average=True,
                              penalty="elasticnet"), SGDRegressor),
}  # fmt: skip


def assert_same_predictions(mine, theirs, method="predict"):
    for data in (FRAME, FRAME.iloc[:1]):
        want, got = getattr(mine, method)(data), getattr(theirs, method)(data)
        assert got.shape == want.shape
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-14)
        else:
            np.testing.assert_array_equal(got, want)


def assert_plain(model, kind):
    """A fitted estimator of scikit-learn's own, with nothing but NumPy and Python in it."""
    assert type(model) is kind
    assert type(model).__module__.startswith("sklearn.")
    check_is_fitted(model)
    for name, value in vars(model).items():
        module = type(value).__module__
        assert module in ("builtins", "numpy") or module.startswith("sklearn"), (name, module)
    assert list(model.feature_names_in_) == list("abcd")
    assert model.n_features_in_ == P


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("case", REGRESSORS)
def test_regressors(case, several):
    template, kind = REGRESSORS[case]
    fitted = clone(template).fit(FRAME, TWO if several else Y)
    model = fitted.to_sklearn()
    if several and kind is SGDRegressor:
        assert_plain(model, MultiOutputRegressor)
        for part in model.estimators_:
            assert_plain(part, SGDRegressor)
        model_coef = np.array([part.coef_ for part in model.estimators_])
    else:
        assert_plain(model, kind)
        # With a shape, as scikit-learn's own fits leave it and converters to ONNX want it.
        assert isinstance(model.intercept_, np.float64 | np.ndarray)
        model_coef = model.coef_
    assert_same_predictions(fitted, model)
    assert model.score(FRAME, TWO if several else Y) == pytest.approx(
        fitted.score(FRAME, TWO if several else Y), rel=1e-12
    )
    np.testing.assert_array_equal(model_coef, fitted.coef_)
    model_coef[...] = 0.0
    assert fitted.coef_.any()  # nothing is shared


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
@pytest.mark.parametrize("case", [case for case in REGRESSORS if "nodes" not in case])
def test_fitting_it_solves_the_same_problem(case, weight):
    template, kind = REGRESSORS[case]
    fitted = clone(template).fit(FRAME, Y, weight)
    again = clone(fitted.to_sklearn())
    if kind is SGDRegressor:
        if weight is not None:
            return  # scikit-learn's does not divide by the sum of the weights
        # Any other method would do: the objective at the two solutions is what counts.
        shared = {
            name: getattr(again, name)
            for name in ("loss", "penalty", "alpha", "l1_ratio", "epsilon", "fit_intercept")
        }
        assert shared == {name: getattr(template, name) for name in shared}
        return
    params = {"tol": 1e-12} if kind in (Lasso, ElasticNet) else {}
    again.set_params(**params).fit(FRAME, Y, weight)
    np.testing.assert_allclose(again.coef_, fitted.coef_, rtol=1e-4, atol=1e-6)
    assert again.intercept_ == pytest.approx(fitted.intercept_, rel=1e-5)


@pytest.mark.parametrize("labels", [CLASSES, Y > 16], ids=["three", "two"])
@pytest.mark.parametrize(
    "template",
    [SVC(), SVC(loss="hinge", C=0.1), SVC(penalty="l1", C=0.1), SVC(intercept_scaling=None),
     SVC(class_weight="balanced", fit_intercept=False)],
    ids=str,
)  # fmt: skip
def test_classifier(template, labels):
    fitted = clone(template).fit(FRAME, labels)
    model = fitted.to_sklearn()
    assert_plain(model, LinearSVC)
    assert_same_predictions(fitted, model)
    assert_same_predictions(fitted, model, "decision_function")
    assert model.classes_.dtype == fitted.classes_.dtype
    if template.intercept_scaling is not None:
        again = clone(model).set_params(tol=1e-8, max_iter=100_000).fit(FRAME, labels)
        np.testing.assert_allclose(again.coef_, fitted.coef_, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("data", [FRAME, FRAME.where(FRAME.abs() > 0.1)], ids=["full", "NaN"])
@pytest.mark.parametrize(
    "template",
    [DistributedStandardScaler(), DistributedStandardScaler(with_std=False),
     DistributedStandardScaler(with_mean=False, copy=False)],
    ids=str,
)  # fmt: skip
def test_scaler(template, data):
    fitted = clone(template).fit(data)
    model = fitted.to_sklearn()
    assert_plain(model, StandardScaler)
    np.testing.assert_array_equal(model.transform(data.copy()), fitted.transform(data.copy()))
    back = model.inverse_transform(model.transform(data.copy()))
    np.testing.assert_array_equal(back, fitted.inverse_transform(fitted.transform(data.copy())))
    both = [model, fitted]
    for one in both:
        one.partial_fit(data)
    if template.with_std:
        np.testing.assert_allclose(model.var_, fitted.var_, rtol=1e-12)
    np.testing.assert_array_equal(model.n_samples_seen_, fitted.n_samples_seen_)


def test_scaler_of_sparse_rows():
    fitted = DistributedStandardScaler(with_mean=False).fit(sp.csr_matrix(X))
    got = fitted.to_sklearn().transform(sp.csr_matrix(X))
    np.testing.assert_array_equal(got.toarray(), fitted.transform(sp.csr_matrix(X)).toarray())


def test_sgd_goes_on_from_where_it_was():
    fitted = SGD(random_state=0, max_iter=3, tol=None).fit(FRAME, Y)
    before = fitted.coef_.copy()
    model = fitted.to_sklearn().partial_fit(FRAME, Y)
    assert 0 < np.abs(model.coef_ - before).max() < 1
    np.testing.assert_array_equal(fitted.coef_, before)


@pytest.mark.parametrize("template", [GD(), SGD(), SVC(), DistributedStandardScaler()], ids=str)
def test_only_fitted_estimators_have_one(template):
    with pytest.raises(NotFittedError):
        template.to_sklearn()


def test_it_is_read_where_this_package_is_not_installed(tmp_path):
    scaler = DistributedStandardScaler().fit(FRAME)
    scaled = scaler.transform(FRAME)
    models = [GD().fit(scaled, Y), GD("huber").fit(scaled, TWO), SGD().fit(scaled, Y)]
    models.append(SVC().fit(scaled, Y > 16))
    pipelines = [make_pipeline(scaler, model) for model in models]
    converted = [
        make_pipeline(*(step.to_sklearn() for _, step in pipeline.steps)) for pipeline in pipelines
    ]
    joblib.dump(converted, tmp_path / "models")
    FRAME.to_pickle(tmp_path / "rows")
    code = """
import json, sys
for name in ("dask", "distributed", "dask_dml", "numba"):
    sys.modules[name] = None
import joblib, pandas as pd
rows = pd.read_pickle(sys.argv[2])
print(json.dumps([model.predict(rows).tolist() for model in joblib.load(sys.argv[1])]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "models", tmp_path / "rows"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for got, pipeline, model in zip(json.loads(done.stdout), pipelines, converted, strict=True):
        np.testing.assert_allclose(got, pipeline.predict(FRAME), rtol=1e-13, atol=1e-13)
        assert pickle.loads(pickle.dumps(model)).predict(FRAME).shape == model.predict(FRAME).shape
        clone(model)
