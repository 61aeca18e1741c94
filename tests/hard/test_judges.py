"""What judges the fits is judged: objectives, optima, the design and the verdicts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet
from sklearn.svm import LinearSVC

from dask_dml import DistributedLinearSVC
from tests import reference
from tests.hard import cases, fits, programme, tables, truth, verdicts
from tests.hard.cases import Case

REGRESSIONS = [
    Case("gd", "tiny", "raw", f"{loss} {penalty}", "1e-1", intercept, "zeros", "0.5")
    for loss, penalty in itertools.product(cases.LOSSES, ("l2", "l1", "elasticnet"))
    for intercept in ("free", "none")
]


def known(case):
    return {
        "loss": case.loss,
        "penalty": case.penalty,
        "alpha": float(case.strength),
        "epsilon": truth.make(case).epsilon,
        "fit_intercept": case.intercept != "none",
    }


@pytest.mark.parametrize("case", REGRESSIONS, ids=str)
def test_regressions_against_the_other_reference(case):
    problem = truth.make(case)
    X, y = problem.table.X, problem.table.y
    weight = truth.sample_weight(case, len(y))
    coef, b = np.array([0.5, -1.0, 2.0]), 0.0 if case.intercept == "none" else 0.7
    (value,), (rounding,) = truth.objective(problem, coef, b)
    expected = reference.objective(X, y, coef, b, weight, **known(case))
    assert value == pytest.approx(expected, rel=1e-14)
    assert 0.0 <= rounding <= 1e-13 * value
    with np.errstate(over="ignore", invalid="ignore"):
        best = reference.optimum(X, y, weight, **known(case)).value
    np.testing.assert_allclose(programme.optimum(case), best, rtol=1e-6, atol=1e-12)


def test_elastic_net_is_scikit_learns():
    case = Case("gd", "diabetes", "standardised", "squared_error elasticnet", "1e0")
    problem = truth.make(case)
    model = ElasticNet(alpha=1.0, l1_ratio=0.15, tol=1e-12).fit(problem.table.X, problem.table.y)
    value, _ = truth.objective(problem, model.coef_, model.intercept_)
    np.testing.assert_allclose(programme.optimum(case), value, rtol=1e-9)


@pytest.mark.parametrize("objective", cases.SVC_FACTORS["objective"])
@pytest.mark.parametrize("intercept", ["1", "100", "none"])
@pytest.mark.parametrize("weights", ["balanced", "wild"])
def test_machines_against_liblinear(objective, intercept, weights):
    case = Case("svc", "iris", "standardised", objective, "1e-1", intercept, weights)
    *_, best = truth.liblinear(case)
    found = np.array(programme.optimum(case))
    assert np.all(found <= np.array(best["values"]) * (1 + 1e-7))
    # Where the intercept's column is large, or weights differ much, liblinear stops early.
    if weights == "balanced" and intercept != "100":
        np.testing.assert_allclose(found, best["values"], rtol=1e-6)


def test_the_objective_is_the_documented_one():
    table = tables.load("tiny")
    model = LinearSVC(C=2.0, intercept_scaling=100.0).fit(table.X, table.labels)
    case = Case("svc", "tiny", "raw", "squared_hinge l2", "2", "100")
    (value,), _ = truth.objective(truth.make(case), model.coef_, model.intercept_)
    w, b = model.coef_[0], model.intercept_[0]
    t = np.maximum(1 - np.where(table.labels == 1, 1, -1) * (table.X @ w + b), 0)
    assert value == pytest.approx(w @ w / 2 + (b / 100) ** 2 / 2 + 2 * t @ t)


def test_large_offsets_cost_no_digits():
    case = Case("gd", "offsets", "raw", "squared_error l2", "1e-4")
    problem = truth.make(case)
    coef = np.ones(12)
    (value,), (rounding,) = truth.objective(problem, coef, 1e6)
    shifted = problem.table.X - np.round(problem.table.X.mean(axis=0))
    r = problem.table.y - shifted @ coef - (1e6 + np.round(problem.table.X.mean(axis=0)).sum())
    assert abs(value - (r @ r / 2 / len(r) + 1e-4 * 12 / 2)) <= rounding


def test_every_pair_of_values_is_drawn():
    names = ("tiny", "iris")
    drawn = list(itertools.islice(cases.design("svc", names, 0), 80))
    factors = {"table": names} | cases.SVC_FACTORS
    for (one, firsts), (other, seconds) in itertools.combinations(factors.items(), 2):
        pairs = {(getattr(case, one), getattr(case, other)) for case in drawn}
        assert pairs == set(itertools.product(firsts, seconds))


@pytest.mark.parametrize("estimator", cases.ESTIMATORS)
def test_lines_are_cases(estimator):
    drawn = list(itertools.islice(cases.fits(estimator, tables.names(), 3), 40))
    assert [Case.parse(str(case)) for case in drawn] == drawn
    again = list(itertools.islice(cases.fits(estimator, tables.names(), 3), 40))
    assert again == drawn
    assert len({case.engine for case in drawn}) == 4


@pytest.mark.parametrize("name", sorted(set(tables.names()) - set(tables.REAL)))
@pytest.mark.parametrize("scaling", tables.SCALINGS)
def test_tables_are_finite_and_their_own(name, scaling):
    table = tables.load(name, scaling)
    values = table.X.data if table.is_sparse else table.X
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(table.y))
    assert len(table.y) == len(table.labels) == table.X.shape[0]
    assert len(np.unique(table.labels)) >= 2
    tables.load.cache_clear()
    again = tables.load(name, scaling)
    np.testing.assert_array_equal(again.y, table.y)


CASE = Case("svc", "tiny", "raw", "squared_hinge l2", "1e-2", "1")


def result(**changes):
    good = {
        "case": str(CASE), "values": [1.0001], "roundings": [1e-16], "floor": 0.0, "gap": 2e-4,
        "converged": True, "warned": False, "seconds": 0.01, "reported": 1.0001,
        "max_time": 10.0,
    }  # fmt: skip
    return good | changes


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, set()),
        ({"gap": 5e-5}, {"false"}),
        ({"gap": -1e-9, "values": [1.0], "reported": 1.0}, {"false"}),
        ({"gap": np.nan, "warned": True}, set()),
        ({"reported": 1.00011}, {"misreported"}),
        ({"reported": np.nan}, {"misreported"}),
        ({"values": [1.002], "reported": 1.002, "gap": 1.0}, {"silent"}),
        ({"values": [np.nan], "gap": np.inf, "reported": None}, {"silent"}),
        ({"values": [1.002], "reported": 1.002, "gap": 1.0, "warned": True}, set()),
        ({"values": [1.02], "reported": 1.02, "gap": 1.0, "warned": True}, {"poor"}),
        ({"seconds": 0.3}, {"slow"}),
        ({"seconds": 1e3}, {"slow", "late"}),
    ],
)
def test_verdicts(changes, verdict):
    liblinear = [{"seconds": 0.01, "values": [1.0]}, {"seconds": 0.001, "values": [1.1]}]
    assert verdicts.judge(result(**changes), np.array([1.0]), liblinear) == verdict


def test_no_answer_and_errors_are_counted():
    assert verdicts.judge({"case": str(CASE), "hang": True}, None) == {"hang"}
    assert verdicts.judge({"case": str(CASE), "error": "KeyError: 1"}, None) == {"crash"}


def test_a_perfect_fit_is_measured_from_the_floor():
    case = str(Case("gd", "perfect", "raw", "squared_error none", "1e0"))
    near = {"case": case, "values": [1e-12], "roundings": [1e-20], "floor": 1e-8, "gap": np.inf,
            "warned": False, "seconds": 0.0, "reported": None, "max_time": None}  # fmt: skip
    assert verdicts.judge(near, np.array([0.0])) == set()
    assert verdicts.judge(near | {"values": [1e-10]}, np.array([0.0])) == {"silent"}
    # A gap counts relative to the floor, too: 1e-3 of it is less than what is missing.
    assert verdicts.judge(near | {"gap": 1e-3, "values": [9e-12]}, np.array([0.0])) == set()
    assert verdicts.judge(near | {"gap": 1e-4, "values": [9e-12]}, np.array([0.0])) == {"false"}


@pytest.mark.parametrize("engine", cases.ENGINES)
def test_fits_on_every_engine(engine):
    engines = fits.Engines()
    try:
        case = Case("svc", "iris", "raw", "squared_hinge l2", "1e-1", "1", engine=engine)
        found = fits.fit(case, engines)
    finally:
        engines.close()
    best = np.array(programme.optimum(case))
    assert "error" not in found
    assert verdicts.judge(found, best) == set()
    assert not found["other_warnings"]


def test_a_false_certificate_is_seen(monkeypatch):
    """A class that claims more than it has proven."""

    class Boaster(DistributedLinearSVC):
        def fit(self, X, y, sample_weight=None):
            super().fit(X, y, sample_weight)
            self.coef_ = 1.01 * self.coef_
            self.objective_ = None
            return self

    monkeypatch.setattr(fits, "DistributedLinearSVC", Boaster)
    found = fits.fit(CASE, fits.Engines())
    assert "false" in verdicts.judge(found, np.array(programme.optimum(CASE)))
