"""Labels, containers, prediction, errors: what a user of the estimator meets."""

from __future__ import annotations

import pickle

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from certificate import certify
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from dask_dml import DistributedLinearSVC

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4))
CODES = (X[:, 0] + 0.5 * RNG.standard_normal(120) > 0).astype(int) + (X[:, 1] > 1)
WEIGHT = RNG.random(120)


@parametrize_with_checks(
    [
        DistributedLinearSVC(),
        DistributedLinearSVC(loss="hinge", intercept_scaling=None),
        DistributedLinearSVC("l1"),
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


LABELS = {
    "strings": np.array(["b", "a", "c"]),
    "negative": np.array([-1, 7, 3]),
    "booleans": np.array([False, True]),
    "floats": np.array([1.0, 2.0, -3.0]),
    "objects": np.array(["x", "longer", "y"], dtype=object),
}


@pytest.mark.parametrize("name", list(LABELS))
@pytest.mark.parametrize("container", ["numpy", "pandas", "dask array", "dask frame"])
def test_labels(name, container):
    values = LABELS[name]
    y = values[CODES % len(values)]
    classes = np.unique(y)
    data, target = X, y
    if container == "pandas":
        data, target = pd.DataFrame(X), pd.Series(y)
    elif container == "dask array":
        data, target = da.from_array(X, chunks=(50, 4)), da.from_array(y, chunks=30)
    elif container == "dask frame":
        data = dd.from_pandas(pd.DataFrame(X, columns=list("abcd")), npartitions=3)
        target = dd.from_pandas(pd.Series(y), npartitions=3)
    model = DistributedLinearSVC(tol=1e-6).fit(data, target, WEIGHT)
    assert model.classes_.dtype.kind == classes.dtype.kind or model.classes_.dtype == object
    np.testing.assert_array_equal(model.classes_, classes)
    plain = DistributedLinearSVC(tol=1e-6).fit(X, y, WEIGHT)
    np.testing.assert_allclose(model.objective_, plain.objective_, rtol=1e-6)
    predicted = model.predict(data)
    assert hasattr(predicted, "dask") == container.startswith("dask")
    np.testing.assert_array_equal(np.asarray(predicted), plain.predict(X))
    right = (plain.predict(X) == y) @ WEIGHT / WEIGHT.sum()
    assert model.score(data, target, WEIGHT) == pytest.approx(right)


def test_categories_and_pandas_strings():
    y = pd.Series(np.array(["u", "v", "w"])[CODES])
    for kind in ("category", "string", "string[pyarrow]"):
        target = dd.from_pandas(y.astype(kind), npartitions=2)
        data = dd.from_pandas(pd.DataFrame(X, columns=list("abcd")), npartitions=2)
        assert list(DistributedLinearSVC().fit(data, target).classes_) == ["u", "v", "w"]
        assert list(DistributedLinearSVC().fit(X, y.astype(kind)).classes_) == ["u", "v", "w"]


@pytest.mark.parametrize("kind", ["boolean", "bool[pyarrow]", "Int64", "int64[pyarrow]"])
def test_classes_keep_their_kind(kind):
    """Also those that pandas holds in types of its own, wherever they lie."""
    y = pd.Series(CODES > 0).astype("bool[pyarrow]" if "bool" in kind else "int64").astype(kind)
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcd")), npartitions=2)
    for data, target in ((X, y), (frame, dd.from_pandas(y, npartitions=2)), (frame, y)):
        classes = DistributedLinearSVC().fit(data, target).classes_
        assert classes.dtype == (np.bool_ if "bool" in kind else np.int64)
        assert classes.tolist() == [0, 1]


def test_missing_classes_are_found_in_their_chunk():
    y = np.array(["u", "v", "w"], object)[CODES]
    y[len(y) // 2 + 3] = None
    chunks = da.from_array(y, chunks=len(y) // 2)
    with pytest.raises(ValueError, match="y contains NaN in chunk 1: row 3"):
        DistributedLinearSVC().fit(da.from_array(X, chunks=(len(y) // 2, 4)), chunks)


@pytest.mark.parametrize("n_chunks", [1, 3, 50])
@pytest.mark.parametrize("solver", ["newton", "dual"])
@pytest.mark.parametrize("sparse", [False, True])
def test_chunks(client, n_chunks, solver, sparse):
    """Any chunking, empty and one-class blocks included, on a cluster."""
    order = np.argsort(CODES, kind="stable")  # sorted by class
    rows, y = X[order], CODES[order]
    cuts = np.sort(np.random.default_rng(1).integers(0, 120, n_chunks - 1))
    sizes = tuple(np.diff([0, *cuts, 120]).tolist())
    dX = da.from_array(rows, chunks=(sizes, 4))
    if sparse:
        dX = dX.map_blocks(sp.csr_matrix, dtype=float, meta=sp.csr_matrix((0, 0)))
    kind = {"loss": "hinge", "C": 0.1, "tol": 1e-5}
    model = DistributedLinearSVC(solver=solver, n_shards="blocks", **kind)
    model.fit(dX, da.from_array(y, chunks=(sizes,)))
    plain = DistributedLinearSVC(**kind).fit(rows, y)
    np.testing.assert_allclose(model.objective_, plain.objective_, rtol=2e-5)
    assert certify(model, rows, y) <= 1e-5
    modules = {type(value).__module__.partition(".")[0] for value in vars(model).values()}
    assert not modules & {"dask", "distributed"}
    pickle.loads(pickle.dumps(model))


def test_lazy_duals():
    model = DistributedLinearSVC(tol=1e-6).fit(X, CODES)
    dX, dy = da.from_array(X, chunks=(50, 4)), da.from_array(CODES, chunks=50)
    duals, support = model.dual_coef(dX, dy), model.support(dX, dy)
    np.testing.assert_allclose(duals.compute(), model.dual_coef(X, CODES))
    np.testing.assert_array_equal(support.compute(), model.support(X, CODES))
    certify(model, X, CODES, duals=duals.compute())
    with pytest.raises(ValueError, match="class that was not in the fit"):
        model.dual_coef(X, CODES + 1)


def test_shapes():
    binary, several = (DistributedLinearSVC().fit(X, y) for y in (CODES > 0, CODES))
    assert binary.coef_.shape == (1, 4)
    assert binary.decision_function(X).shape == (120,)
    assert binary.decision_function(da.from_array(X, chunks=(50, 4))).chunks == ((50, 50, 20),)
    assert several.coef_.shape == (3, 4)
    assert several.decision_function(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(several.to_sklearn().predict(X), several.predict(X))


def test_inside_scikit_learn():
    model = DistributedLinearSVC()
    assert CalibratedClassifierCV(model, cv=2).fit(X, CODES).predict_proba(X).shape == (120, 3)
    assert OneVsRestClassifier(model).fit(X, CODES).score(X, CODES) > 0.6
    search = GridSearchCV(model, {"C": [0.1, 1.0]}, cv=2).fit(X, CODES)
    assert search.best_score_ > 0.6


def test_weights_are_repeated_rows():
    times = np.random.default_rng(2).integers(0, 3, 120)
    for class_weight in (None, "balanced"):
        kind = {"C": 0.5, "tol": 1e-9, "class_weight": class_weight}
        weighted = DistributedLinearSVC(**kind).fit(X, CODES, times)
        repeated = DistributedLinearSVC(**kind).fit(np.repeat(X, times, 0), np.repeat(CODES, times))
        np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-9)


ERRORS = [
    ({}, {"y": np.zeros(120)}, "only one class"),
    ({}, {"y": X[:, 0]}, "Unknown label type"),
    ({}, {"y": np.where(CODES > 0, np.nan, 1.0)}, "Input y contains NaN"),
    ({}, {"y": np.array([None, "a"] * 60, dtype=object)}, "Input y contains NaN"),
    ({"C": 0.0}, {}, "The 'C' parameter"),
    ({"C": -1.0}, {}, "The 'C' parameter"),
    ({"penalty": "l1", "loss": "hinge"}, {}, "use loss='squared_hinge'"),
    ({"multi_class": "crammer_singer"}, {}, "use multi_class='ovr'"),
    ({"class_weight": {9: 2.0}}, {}, "not in class_weight, which names \\[9\\] instead"),
    ({"class_weight": {0: -2.0}}, {}, "must be a finite number >= 0"),
    ({"solver": "dual", "penalty": "l1"}, {}, "'newton' with penalty='l1'"),
    ({"solver": "dual", "intercept_scaling": None}, {}, "use solver='newton'"),
    ({}, {"X": np.where(X > 2, np.nan, X)}, "Input X contains NaN"),
    ({}, {"X": np.where(X > 2, np.inf, X)}, "Input X contains infinity"),
]


@pytest.mark.parametrize(("kind", "data", "message"), ERRORS)
@pytest.mark.parametrize("lazy", [False, True])
def test_bad_input(kind, data, message, lazy):
    rows, y = data.get("X", X), data.get("y", CODES)
    if lazy:
        rows, y = da.from_array(rows, chunks=(40, 4)), da.from_array(y, chunks=40)
    model = DistributedLinearSVC(**kind)
    with pytest.raises(ValueError, match=message):
        model.fit(rows, y)
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "n_features_in_")


def test_the_only_class_is_shown_as_in_y():
    for y in (np.zeros(120, bool), da.zeros(120, dtype=bool, chunks=40)):
        rows = X if isinstance(y, np.ndarray) else da.from_array(X, chunks=(40, 4))
        with pytest.raises(ValueError, match="only one class: False"):
            DistributedLinearSVC().fit(rows, y)


def test_class_weight_may_name_more_classes_as_in_scikit_learn():
    weight = {0: 2.0, 1: 0.5, 2: 1.0, 9: 7.0}
    kind = {"C": 0.1, "tol": 1e-9, "class_weight": weight}
    model = DistributedLinearSVC(**kind).fit(X, CODES)
    del weight[9]
    np.testing.assert_array_equal(model.coef_, DistributedLinearSVC(**kind).fit(X, CODES).coef_)


def declared_frame(strange):
    """Labels whose categories are declared; the second partition may hold another one."""
    names = pd.Series(np.array(["a", "b", "c"])[CODES])
    series = names.astype(pd.CategoricalDtype(["a", "b", "c", "never"]))
    y = dd.from_pandas(series, npartitions=3)
    if strange:
        meta = series.iloc[:0]
        return y.map_partitions(lambda p: p.astype(object).where(p.index != 50, "z"), meta=meta)
    return y


@pytest.mark.filterwarnings("ignore:X is a .* in memory, and y a Dask collection")
@pytest.mark.parametrize("rows", ["frame", "array", "memory"])
def test_labels_outside_of_the_declared_categories(rows):
    frame = dd.from_pandas(pd.DataFrame(X), npartitions=3)
    frame.columns = list("abcd")
    data = {"frame": frame, "array": da.from_array(X, chunks=(40, 4)), "memory": X}[rows]
    message = "label 'z' in chunk 1, which is not among .*'never'.*y.cat.add_categories"
    with pytest.raises(ValueError, match=message):
        DistributedLinearSVC().fit(data, declared_frame(strange=True))
    unknown = declared_frame(strange=True).astype(object)
    assert "z" in DistributedLinearSVC().fit(data, unknown).classes_
    model = DistributedLinearSVC().fit(data, declared_frame(strange=False))
    assert model.classes_.tolist() == ["a", "b", "c"]


def test_a_missing_label_is_named_with_its_chunk():
    y = np.array(["a", "b"] * 60, dtype=object)
    y[53] = None
    with pytest.raises(ValueError, match="in chunk 1: row 13"):
        DistributedLinearSVC().fit(da.from_array(X, chunks=(40, 4)), da.from_array(y, chunks=40))


def test_verbose(capsys):
    DistributedLinearSVC(verbose=1).fit(X, CODES)
    assert "[DistributedLinearSVC] round 1: objective" in capsys.readouterr().out


@pytest.mark.parametrize("n_classes", [2, 3])
def test_sparsify_as_in_scikit_learn(n_classes):
    y = np.digitize(X[:, 0], [0.0, 0.7][: n_classes - 1])
    model = DistributedLinearSVC(penalty="l1", loss="squared_hinge", C=0.05)
    with pytest.raises(NotFittedError):
        model.sparsify()
    coef = model.fit(X, y).coef_.copy()
    scores = model.decision_function(X)
    assert model.sparsify() is model
    assert sp.issparse(model.coef_)
    assert model.coef_.shape == coef.shape
    np.testing.assert_array_equal(model.decision_function(X), scores)
    assert model.score(X, y) == np.mean(model.predict(X) == y)
    np.testing.assert_allclose(model.to_sklearn().decision_function(X), scores, atol=1e-12)
    assert model.densify() is model
    np.testing.assert_array_equal(model.coef_, coef)
    # A warm start reads them either way.
    assert isinstance(model.sparsify().set_params(warm_start=True).fit(X, y).coef_, np.ndarray)
