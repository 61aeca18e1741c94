"""Searches whose candidates leave early, and what a search says of those under way."""

import warnings

import dask.array as da
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from dask_dml import DistributedGDRegressor, DistributedLinearSVC
from dask_dml.model_selection import DistributedGridSearchCV, DistributedRandomizedSearchCV
from dask_dml.model_selection.halving import FIRST_ITERATIONS
from dask_dml.passes.fold_rows import answer
from dask_dml.preprocessing import DistributedStandardScaler
from dask_dml.solvers import shared_rounds

RNG = np.random.default_rng(4)
X = RNG.normal(size=(600, 12))
Y = X[:, :4].sum(axis=1) + RNG.standard_t(2, size=600)
TABLE, TARGET = da.from_array(X, chunks=(150, 12)), da.from_array(Y, chunks=150)
# From far too strong a penalty to a good one: who leaves is plain after few iterations.
ALPHAS = [1e4, 1e3, 1e2, 10.0, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7]
MODEL = DistributedGDRegressor("huber", solver="lbfgs", tol=1e-8)


def search(model=MODEL, grid=None, **options):
    grid = {"alpha": ALPHAS} if grid is None else grid
    return DistributedGridSearchCV(model, grid, cv=3, **options)


@pytest.mark.parametrize("data", [(X, Y), (TABLE, TARGET)], ids=["memory", "dask"])
def test_those_that_stay_are_fitted_as_without(data):
    full = search().fit(*data)
    with warnings.catch_warnings(action="error", category=ConvergenceWarning):
        halved = search(halving=3).fit(*data)
    results, expected = halved.cv_results_, full.cv_results_
    last = results["iter"] == results["iter"].max()
    assert 1 <= last.sum() <= 3
    # Sums of more fits are joined in another order.
    np.testing.assert_allclose(
        results["mean_test_score"][last], expected["mean_test_score"][last], rtol=1e-12
    )
    assert halved.best_params_ == full.best_params_
    np.testing.assert_array_equal(halved.best_estimator_.coef_, full.best_estimator_.coef_)
    # Nobody left whose penalty is better than that of anyone who stayed by more than rounding.
    assert results["rank_test_score"][last].max() < results["rank_test_score"][~last].min()
    assert set(results["n_resources"][last]) == {MODEL.max_iter}
    assert set(results["n_resources"][~last]) <= {FIRST_ITERATIONS, 3 * FIRST_ITERATIONS}
    assert set(results["iter"]) == {0, 1}
    assert len(results["params"]) == len(ALPHAS)
    assert [one["alpha"] for one in results["params"]] == ALPHAS  # without the limit of a rung


def test_requests_are_saved(monkeypatch):
    asked = []

    def counting(shard, state, requests):
        asked[-1] += len(requests.of_fit)
        return answer(shard, state, requests)

    monkeypatch.setattr(shared_rounds, "answer", counting)
    for halving in (None, 3):
        asked.append(0)
        search(grid={"alpha": np.geomspace(1e-9, 1e4, 27)}, halving=halving, refit=False).fit(X, Y)
    assert asked[1] < 0.75 * asked[0]


def test_fits_that_have_converged_are_not_made_again(capsys):
    found = search(DistributedGDRegressor("huber"), halving=3, verbose=1).fit(X, Y)
    lines = [line for line in capsys.readouterr().out.splitlines() if "iterations" in line]
    expected = search(DistributedGDRegressor("huber")).fit(X, Y)
    # Newton's method takes hardly more than five iterations: nearly all end in the first round.
    assert len(lines) <= 2
    last = found.cv_results_["iter"] == found.cv_results_["iter"].max()
    for key in ("mean_test_score", "split1_test_score"):
        np.testing.assert_allclose(
            found.cv_results_[key][last], expected.cv_results_[key][last], rtol=1e-12
        )


def test_pipelines_draws_and_several_scores():
    pipeline = make_pipeline(DistributedStandardScaler(), DistributedLinearSVC(loss="hinge"))
    found = DistributedRandomizedSearchCV(
        pipeline,
        {"distributedlinearsvc__C": [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]},
        n_iter=8,
        random_state=0,
        cv=3,
        halving=2,
        scoring=["accuracy", "f1"],
        refit="f1",
    ).fit(X, (Y > 0).astype(int))
    results = found.cv_results_
    last = results["iter"].max()
    assert last >= 1  # those that are left after that have converged
    assert found.best_index_ in np.flatnonzero(results["iter"] == last)
    best = clone(pipeline).set_params(**found.best_params_).fit(X, (Y > 0).astype(int))
    np.testing.assert_allclose(found.best_estimator_[-1].coef_, best[-1].coef_, rtol=1e-9)


def test_few_candidates_all_stay():
    halved = search(grid={"alpha": [1e-3, 1.0]}, halving=2).fit(X, Y)
    assert halved.cv_results_["iter"].tolist() == [0, 0]
    assert halved.cv_results_["n_resources"].tolist() == [1000, 1000]


def test_fits_that_fail_leave():
    grid = {"alpha": [-1.0, 1e-3, 1e-2, 0.1, 1e3]}
    with pytest.warns(FitFailedWarning, match="fits failed"):
        found = search(grid=grid, halving=2).fit(X, Y)
    assert found.cv_results_["iter"][0] == 0
    assert np.isnan(found.cv_results_["mean_test_score"][0])
    assert found.cv_results_["rank_test_score"][0] == 5
    assert found.best_params_ == search(grid={"alpha": grid["alpha"][1:]}).fit(X, Y).best_params_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"halving": 1}, "above 1"),
        ({"halving": True}, "above 1"),
        ({"halving": "3"}, "above 1"),
        ({"halving": np.nan}, "above 1"),
        ({"halving": 2, "scoring": ["r2", "neg_max_error"], "refit": False}, "refit"),
        ({"halving": 2, "model": make_pipeline(Ridge()), "grid": {}}, "this package's"),
    ],
)
def test_what_cannot_be_halved(options, message):
    with pytest.raises(ValueError, match=message):
        search(**options).fit(X, Y)


def test_verbose_counts_candidates(capsys):
    search(verbose=1, halving=3).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert "9 candidates, at most 5 iterations" in lines
    assert "3 candidates to the end" in lines
    passes = [line for line in lines if line.startswith("pass ")]
    assert "9 of 9 candidates, 27 of 27 fits under way" in passes[0]
    alive = [int(line.split(": ")[1].split(" of ")[0]) for line in passes]
    assert min(alive) < 3
    assert max(alive) == 9
