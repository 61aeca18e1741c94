"""Pipelines of a scaler and least squares by moments, against fits of rows that are scaled."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dask_dml import DistributedGDRegressor
from dask_dml.model_selection import DistributedGridSearchCV, cross_validate
from dask_dml.model_selection.evaluation import Evaluation
from dask_dml.model_selection.scaled import ScaledBatch
from dask_dml.preprocessing import DistributedStandardScaler

RNG = np.random.default_rng(12)
N, P = 240, 6
X = RNG.normal(size=(N, P)) * [1.0, 100.0, 1e-3, 1.0, 5.0, 1.0] + [0.0, 1e4, 0.0, -3.0, 0.0, 1.0]
X[:, 5] = 2.0  # constant
Y = X[:, :5] @ [1.0, 0.01, 2e3, 0.0, -0.3] + RNG.normal(size=N)
Y2 = np.column_stack([Y, X[:, 3] + RNG.normal(size=N)])
SPARSE = sp.csr_array(np.where(RNG.random((N, P)) < 0.4, X, 0.0))
SCORING = ["r2", "neg_mean_absolute_error"]


def search(pipeline, *, cv=None, alphas=(1e-3, 0.1), **options):
    name = pipeline.steps[-1][0]
    cv = KFold(4, shuffle=True, random_state=1) if cv is None else cv
    return DistributedGridSearchCV(
        pipeline, {f"{name}__alpha": list(alphas)}, cv=cv, scoring=SCORING, refit="r2", **options
    )


def by_rows(monkeypatch):
    """Count the fits on rows that are scaled."""
    calls = []
    visit = Evaluation._run_pipelines
    monkeypatch.setattr(
        Evaluation, "_run_pipelines", lambda self, *args: calls.append(1) or visit(self, *args)
    )
    return calls


@pytest.mark.parametrize("kind", ["numpy", "pandas", "array", "unknown", "frame", "csr"])
@pytest.mark.parametrize("penalty", ["l2", "elasticnet"])
def test_the_same_as_of_scaled_rows(kind, penalty, monkeypatch):
    calls = by_rows(monkeypatch)
    names = list("abcdef")
    lazy = da.from_array(X, chunks=((100, 0, 140), P))
    target = da.from_array(Y, chunks=((100, 0, 140),))
    table, y = {
        "numpy": (X, Y2 if penalty == "l2" else Y),
        "pandas": (pd.DataFrame(X, columns=names), Y),
        "array": (lazy, target),
        "unknown": (lazy[da.ones(N, dtype=bool, chunks=(lazy.chunks[0],))], target),
        "frame": (
            dd.from_pandas(pd.DataFrame(X, columns=names), npartitions=3),
            dd.from_pandas(pd.Series(Y), npartitions=3),
        ),
        "csr": (SPARSE, Y),
    }[kind]
    scaler = DistributedStandardScaler(with_mean=kind != "csr")
    pipeline = make_pipeline(scaler, DistributedGDRegressor(penalty=penalty, tol=1e-10))
    found = search(pipeline, return_train_score=True).fit(table, y)
    assert not calls
    rows = {"csr": SPARSE}.get(kind, X)
    expected = GridSearchCV(
        pipeline, found.param_grid, cv=found.cv, scoring=SCORING, refit="r2",
        return_train_score=True,
    ).fit(rows, Y2 if np.ndim(y) == 2 else Y)  # fmt: skip
    for side in ("test", "train"):
        for name in SCORING:
            for key in (f"mean_{side}_{name}", f"split3_{side}_{name}"):
                np.testing.assert_allclose(
                    found.cv_results_[key], expected.cv_results_[key], rtol=1e-7
                )
    assert found.best_params_ == expected.best_params_
    best = clone(pipeline).set_params(**found.best_params_).fit(table, y)
    for mine, other in zip(found.best_estimator_, best, strict=True):
        fitted = {key for key in vars(other) if key.endswith("_")}
        # A fit among others has no history of its own.
        alone = {"history_", "fit_seconds_"}
        assert {key for key in vars(mine) if key.endswith("_")} == fitted - alone
        for key in fitted & {"mean_", "var_", "scale_", "n_samples_seen_", "coef_", "intercept_"}:
            np.testing.assert_allclose(
                getattr(mine, key), getattr(other, key), rtol=1e-7, atol=1e-10
            )
    np.testing.assert_allclose(
        np.asarray(found.predict(table)), np.asarray(best.predict(table)), rtol=1e-9
    )


@pytest.mark.parametrize("engine", ["cluster", "streaming"])
def test_on_a_cluster(engine, client, monkeypatch):
    if engine == "streaming":
        monkeypatch.setattr("dask_dml.rounds.choose._fits", lambda chunks, room: False)
    calls, engines = by_rows(monkeypatch), []
    visit = ScaledBatch.fit
    monkeypatch.setattr(
        ScaledBatch,
        "fit",
        lambda self, *args: engines.append(self.rounds.engine) or visit(self, *args),
    )
    pipeline = make_pipeline(DistributedStandardScaler(), DistributedGDRegressor())
    table, y = da.from_array(X, chunks=(60, P)), da.from_array(Y, chunks=60)
    found = search(pipeline, cv=3).fit(table, y)
    assert not calls
    assert engines == [engine, engine]  # the search, and all rows
    monkeypatch.undo()
    expected = search(pipeline, cv=3).fit(X, Y)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_r2"], expected.cv_results_["mean_test_r2"], rtol=1e-9
    )


def test_where_rows_are_needed(monkeypatch):
    """Weights, other steps, other losses and solvers go by rows, and say the same."""
    calls = by_rows(monkeypatch)
    scaler = DistributedStandardScaler()
    ridge = DistributedGDRegressor(tol=1e-10)
    for number, last in enumerate(
        (
            DistributedGDRegressor("huber", tol=1e-10),
            DistributedGDRegressor(solver="newton", tol=1e-10),
            DistributedGDRegressor(warm_start=True),
        ),
        1,
    ):
        search(make_pipeline(scaler, last)).fit(X, Y)
        assert len(calls) == number
    moments = search(make_pipeline(scaler, ridge)).fit(X, Y)
    assert len(calls) == 3
    rows = search(make_pipeline(FunctionTransformer(), scaler, ridge)).fit(X, Y)
    assert len(calls) == 4
    np.testing.assert_allclose(
        moments.cv_results_["mean_test_r2"], rows.cv_results_["mean_test_r2"], rtol=1e-9
    )
    weight = {"distributedgdregressor__sample_weight": RNG.uniform(0.5, 2.0, N)}
    cross_validate(make_pipeline(scaler, ridge), X, Y, cv=3, params=weight)
    assert len(calls) == 5
    named = make_pipeline(DistributedStandardScaler().set_output(transform="pandas"), ridge)
    search(named).fit(pd.DataFrame(X, columns=list("abcdef")), Y)
    assert len(calls) == 6


def test_what_the_scaler_refuses():
    pipeline = make_pipeline(DistributedStandardScaler(), DistributedGDRegressor())
    with pytest.raises(ValueError, match="with_mean=False"):
        search(pipeline, error_score="raise").fit(SPARSE, Y)
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        search(pipeline, error_score="raise").fit(bad, Y)
    pipeline.set_params(distributedstandardscaler__with_std="yes")
    with pytest.raises(ValueError, match="with_std"):
        search(pipeline, error_score="raise").fit(X, Y)
