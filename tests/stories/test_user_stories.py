"""What users do, from the first cell to the last: each test is one of their stories."""

from itertools import pairwise

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor

RNG = np.random.default_rng(11)
N = 400
X = RNG.standard_normal((N, 3))
Y = X @ [1.0, -2.0, 3.0] + 0.3 * RNG.standard_normal(N)
SIDE = X[:, 0] + 0.2 * RNG.standard_normal(N) > 0

MODELS = {
    "gd": DistributedGDRegressor(),
    "sgd": DistributedSGDRegressor(random_state=0, tol=1e-9, max_iter=300),
    "svc": DistributedLinearSVC(tol=1e-9),
}
each = pytest.mark.parametrize("name", MODELS)


def target(name):
    return SIDE.astype(int) if name == "svc" else Y


def chunked(array, size=100):
    return da.from_array(array, chunks=(size, *array.shape[1:]))


class TestLargeNumbersInUnscaledColumns:
    """Consecutive integers: two columns that differ by one, y of one column, other chunks."""

    @pytest.mark.parametrize(
        "model",
        [
            DistributedGDRegressor(),
            DistributedGDRegressor("huber"),
            DistributedGDRegressor(solver="lbfgs"),
            DistributedSGDRegressor(random_state=0),
        ],
    )
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_it_fits(self, model):
        """A perfect fit leaves a loss of rounding errors, whose gap cannot always be certified."""
        n = 200_000
        X = da.arange(2 * n, chunks=n // 4).reshape(-1, 2)
        y = da.arange(n, chunks=n // 5).reshape(-1, 1)
        model.fit(X, y)
        assert np.isfinite(model.coef_).all()
        assert model.coef_.shape == (2,)
        assert np.shape(model.intercept_) == (1,)
        assert model.score(X, y) > 0.999
        assert model.predict(X).shape == (n,)


class TestStrongPenalty:
    """An intercept is not penalised, however strong the penalty and far the targets."""

    ALPHA = 50.0

    @pytest.mark.parametrize("solver", ["statistics", "newton", "lbfgs", "accelerated", "gd"])
    @pytest.mark.parametrize("container", [lambda array: array, chunked], ids=["numpy", "dask"])
    def test_of_gradient_descent(self, solver, container):
        model = DistributedGDRegressor(alpha=self.ALPHA, solver=solver, tol=1e-12)
        model.fit(container(X), container(Y + 1000.0))
        self.assert_as_ridge(model, 1e-8)

    @pytest.mark.parametrize("container", [lambda array: array, chunked], ids=["numpy", "dask"])
    def test_of_stochastic_gradient_descent(self, container):
        model = DistributedSGDRegressor(alpha=self.ALPHA, random_state=0, tol=1e-12)
        model.fit(container(X), container(Y + 1000.0))
        self.assert_as_ridge(model, 1e-6)

    def assert_as_ridge(self, model, tolerance):
        ridge = Ridge(alpha=self.ALPHA * N, tol=1e-12).fit(X, Y + 1000.0)
        assert model.intercept_ == pytest.approx(ridge.intercept_, rel=tolerance)
        np.testing.assert_allclose(model.coef_, ridge.coef_, atol=1e3 * tolerance)


LABELS = [
    np.array([-1, 1]),
    np.array(["a", "b"]),
    np.array([10, 50, 20]),
    np.array([True, False]),
]


class TestLabelsSortedByClass:
    """Files sorted by label: each chunk has one class only."""

    @pytest.mark.parametrize("labels", LABELS, ids=str)
    @pytest.mark.parametrize("solver", ["newton", "dual"])
    @pytest.mark.parametrize("kind", ["array", "frame"])
    def test_it_fits(self, client, labels, solver, kind):
        codes = SIDE.astype(int) + (X[:, 1] > 1) if len(labels) == 3 else SIDE.astype(int)
        order = np.argsort(codes, kind="stable")
        rows, y = X[order], labels[codes[order]]
        sizes = tuple(np.bincount(codes).tolist())
        if kind == "array":
            dX, dy = da.from_array(rows, chunks=(sizes, 3)), da.from_array(y, chunks=(sizes,))
        else:
            ends = [0, *np.cumsum(sizes)]
            parts = [pd.DataFrame(rows[a:b], columns=list("uvw")).assign(y=y[a:b])
                     for a, b in pairwise(ends)]  # fmt: skip
            frame = dd.from_map(lambda part: part, parts)
            dX, dy = frame[list("uvw")], frame.y
        model = DistributedLinearSVC(solver=solver, loss="hinge", C=0.1, tol=1e-5).fit(dX, dy)
        np.testing.assert_array_equal(model.classes_, np.unique(y))
        plain = DistributedLinearSVC(loss="hinge", C=0.1, tol=1e-5).fit(rows, y)
        assert model.objective_ == pytest.approx(plain.objective_, rel=3e-5)
        predicted = np.asarray(model.predict(dX))
        assert predicted.dtype.kind in (y.dtype.kind, "O")
        assert np.mean(predicted == y) > 0.7
        assert model.score(dX, dy) == pytest.approx(np.mean(predicted == y))


class TestWeights:
    """Weights say how often a row counts; they are chunked as it happens."""

    TIMES = RNG.integers(0, 4, N)

    @each
    @pytest.mark.parametrize("values", ["repeated", "deleted"])
    def test_weights_repeat_and_delete_rows(self, client, name, values):
        times = self.TIMES if values == "repeated" else (self.TIMES > 1).astype(int)
        y = target(name)
        model = sklearn.clone(MODELS[name])
        # The search for the optimum is random, the optimum is not; it is what both must reach.
        model.fit(chunked(X), chunked(y, 150), chunked(times, 70))
        other = sklearn.clone(MODELS[name]).fit(np.repeat(X, times, 0), np.repeat(y, times))
        close = {"rtol": 1e-3, "atol": 1e-4} if name == "sgd" else {"rtol": 1e-5, "atol": 1e-7}
        np.testing.assert_allclose(model.coef_, other.coef_, **close)
        np.testing.assert_allclose(model.intercept_, other.intercept_, **close)

    @each
    def test_weights_are_routed_to_fit_and_score(self, client, name):
        y, weight = target(name), self.TIMES.astype(float)
        folds = list(KFold(2).split(X))
        expected = [
            sklearn.clone(MODELS[name]).fit(X[a], y[a], weight[a]).score(X[b], y[b], weight[b])
            for a, b in folds
        ]
        with sklearn.config_context(enable_metadata_routing=True):
            model = sklearn.clone(MODELS[name])
            model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            pipeline = make_pipeline(FunctionTransformer(), model)
            search = GridSearchCV(pipeline, {}, cv=KFold(2), error_score="raise", refit=False)
            search.fit(chunked(X), chunked(y), sample_weight=chunked(weight, 70))
        scores = [search.cv_results_[f"split{n}_test_score"][0] for n in range(2)]
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


FEW = {"gd": {"solver": "lbfgs", "tol": 1e-12}, "sgd": {}, "svc": {"loss": "hinge"}}


class TestMistakes:
    """Whatever goes wrong is said, and the estimator is as it was."""

    @each
    @pytest.mark.parametrize("container", [lambda array: array, chunked], ids=["numpy", "dask"])
    def test_too_few_iterations_warn(self, name, container):
        model = sklearn.clone(MODELS[name]).set_params(max_iter=1, **FEW[name])
        with pytest.warns(ConvergenceWarning, match="Increase max_iter"):
            model.fit(container(X), container(target(name)))
        assert not model.converged_

    @each
    @pytest.mark.parametrize("where", ["nowhere", "cluster"])
    def test_bad_rows_and_columns_raise(self, request, name, where):
        if where == "cluster":
            request.getfixturevalue("client")
        y = target(name)
        frame = pd.DataFrame(X, columns=["age", "size", "price"])
        missing = frame.assign(price=np.where(np.arange(N) == 250, np.nan, X[:, 2]))
        words = frame.assign(town="x")
        cases = [
            (missing, "NaN"),
            (dd.from_pandas(missing, npartitions=4), r"NaN.*column 'price'"),
            (chunked(missing.to_numpy()), "NaN.*chunk 2, row 50"),
            (words, "columns 'town'"),
            (dd.from_pandas(words, npartitions=4), "columns 'town'.*get_dummies"),
        ]
        fresh = sklearn.clone(MODELS[name])
        fitted = sklearn.clone(MODELS[name]).fit(frame, y)
        for model in (fresh, fitted):
            before = vars(model).copy()
            for data, message in cases:
                with pytest.raises(ValueError, match=f"(?s){message}"):
                    model.fit(data, y)
                assert vars(model).keys() == before.keys()
                assert all(vars(model)[key] is value for key, value in before.items())
