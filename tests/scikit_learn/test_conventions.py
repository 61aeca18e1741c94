"""What every estimator owes scikit-learn: routing, cloning, pickles, names, tags."""

import copy
import inspect
import pickle

import dask.array as da
import dask.dataframe as dd
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.linear_model import SGDRegressor
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_html_repr, get_tags

import dask_dml
from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor

RNG = np.random.default_rng(0)
N = 240
X = RNG.standard_normal((N, 3))
Y = X @ [1.0, 2.0, 3.0] + RNG.standard_normal(N)
LABELS = (X[:, 0] + RNG.standard_normal(N) > 0).astype(int)
WEIGHT = RNG.integers(0, 4, N).astype(float)

MODELS = {
    "gd": (DistributedGDRegressor(), "alpha", Y),
    "sgd": (DistributedSGDRegressor(random_state=0, tol=None, max_iter=30), "alpha", Y),
    "svc": (DistributedLinearSVC(tol=1e-9), "C", LABELS),
}
each = pytest.mark.parametrize("name", MODELS)


def chunked(array, size=80):
    return da.from_array(array, chunks=(size, *array.shape[1:]))


CONTAINERS = {
    "numpy": lambda: (X, lambda y: y, WEIGHT),
    "dask": lambda: (chunked(X), chunked, chunked(WEIGHT, 50)),
    "mixed": lambda: (chunked(X), lambda y: y, WEIGHT),
}


@each
@pytest.mark.parametrize("container", CONTAINERS)
def test_weights_are_routed_into_fit_and_score(name, container):
    model, parameter, y = MODELS[name]
    data, make, weight = CONTAINERS[container]()
    folds = list(KFold(3).split(X))
    plain = [clone(model).fit(X[a], y[a], WEIGHT[a]).score(X[b], y[b], WEIGHT[b]) for a, b in folds]
    other = [clone(model).fit(X[a], y[a], WEIGHT[a]).score(X[b], y[b]) for a, b in folds]
    assert not np.allclose(plain, other, atol=1e-3)
    with sklearn.config_context(enable_metadata_routing=True):
        weighed = clone(model).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(
            FunctionTransformer(), weighed.set_score_request(sample_weight=True)
        )
        step = f"{type(model).__name__.lower()}__{parameter}"
        grid = {step: [getattr(model, parameter)]}
        search = GridSearchCV(pipeline, grid, cv=KFold(3), error_score="raise")
        search.fit(data, make(y), sample_weight=weight)
        scores = [search.cv_results_[f"split{i}_test_score"][0] for i in range(3)]
        total = search.score(data, make(y), sample_weight=weight)
        single = cross_validate(
            weighed, data, make(y), cv=KFold(3), params={"sample_weight": weight},
            error_score="raise",
        )["test_score"]  # fmt: skip
    np.testing.assert_allclose(scores, plain, rtol=1e-3)
    np.testing.assert_allclose(single, plain, rtol=1e-3)
    everything = clone(model).fit(X, y, WEIGHT)
    assert total == pytest.approx(everything.score(X, y, WEIGHT), rel=1e-3)


@each
def test_weights_that_nobody_asked_for_are_refused(name):
    model, _, y = MODELS[name]
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(ValueError, match="sample_weight"),
    ):
        GridSearchCV(clone(model), {}, error_score="raise").fit(X, y, sample_weight=WEIGHT)


@each
def test_copies(name, tmp_path):
    model, parameter, y = MODELS[name]
    model = clone(model).set_params(**{parameter: 0.25})
    assert not [key for key in vars(clone(model)) if key.endswith("_")]
    assert clone(model).get_params() == model.get_params()
    assert vars(type(model)(**model.get_params())) == vars(model)
    fitted = model.fit(chunked(X), chunked(y))
    joblib.dump(fitted, tmp_path / "model.joblib")
    copies = [
        pickle.loads(pickle.dumps(fitted)),
        copy.deepcopy(fitted),
        joblib.load(tmp_path / "model.joblib"),
    ]
    for one in copies:
        np.testing.assert_array_equal(one.predict(X), fitted.predict(X))
        assert one.get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "coef_")


@each
def test_representations(name):
    model, parameter, y = MODELS[name]
    model = clone(model).set_params(**{parameter: 0.25})
    assert f"{parameter}=0.25" in repr(model)
    for one in (model, clone(model).fit(X, y)):
        page = estimator_html_repr(make_pipeline(FunctionTransformer(), one))
        assert type(model).__name__ in page
        # Notebooks ask for this.
        assert type(model).__name__ in one._repr_mimebundle_()["text/html"]


@each
def test_names_of_features(name):
    model, _, y = MODELS[name]
    frame = pd.DataFrame(X, columns=["u", "v", "w"])
    lazy = dd.from_pandas(frame, npartitions=2)
    for data in (frame, lazy):
        fitted = clone(model).fit(data, y)
        assert fitted.feature_names_in_.tolist() == ["u", "v", "w"]
        assert fitted.n_features_in_ == 3
        for other in (frame[["v", "u", "w"]], lazy[["v", "u", "w"]]):
            with pytest.raises(ValueError, match="feature names"):
                fitted.predict(other)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            fitted.predict(X)
    assert not hasattr(fitted.fit(chunked(X), y), "feature_names_in_")


@each
def test_tags(name):
    model, _, _ = MODELS[name]
    tags = get_tags(model)
    assert tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert tags.target_tags.required
    assert is_classifier(model) == (name == "svc")
    assert is_regressor(model) == (name != "svc")
    assert tags.target_tags.multi_output == (name != "svc")
    assert not hasattr(model, "set_output")


@each
@pytest.mark.parametrize(
    ("parameter", "wrong"),
    [("random_state", -1), ("random_state", "x"), ("fit_intercept", 2), ("verbose", -1)],
)
def test_wrong_parameters_are_refused_in_scikit_learns_words(name, parameter, wrong):
    model, _, y = MODELS[name]
    own = LinearSVC() if name == "svc" else SGDRegressor()
    said = []
    for estimator in (clone(model), own):
        with pytest.raises(ValueError, match=parameter) as info:
            estimator.set_params(**{parameter: wrong}).fit(X, y)
        said.append(str(info.value).replace(type(estimator).__name__, "it"))
    assert said[0] == said[1]


def test_what_is_documented():
    """Every parameter and nothing else is in the class docstring, with its default."""
    public = map(dask_dml.__dict__.get, dask_dml.__all__)
    for estimator in filter(inspect.isclass, public):
        for key, parameter in inspect.signature(estimator.__init__).parameters.items():
            if key == "self":
                continue
            assert f"    {key} : " in estimator.__doc__, (estimator, key)
            has_default = parameter.default is not parameter.empty
            assert has_default or not issubclass(estimator, BaseEstimator), (estimator, key)
