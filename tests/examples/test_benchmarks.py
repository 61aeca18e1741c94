"""The benchmarks run, and judge models by objectives that are the estimators' own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dask_dml import DistributedGDRegressor, DistributedLinearSVC

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workloads():
    sys.path.insert(0, str(ROOT))
    try:
        from examples.benchmarks import workloads
    finally:
        sys.path.remove(str(ROOT))
    return workloads


def test_a_workload_end_to_end(tmp_path):
    command = [sys.executable, "-m", "examples.benchmarks", "small-ridge", "--repeats", "2"]
    subprocess.run([*command, "--out", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (found,) = json.loads((tmp_path / "results.json").read_text())["workloads"]
    mine, theirs = found["rows"]
    assert (mine["name"], theirs["name"]) == ("dask_dml", "scikit-learn")
    assert len(mine["seconds"]) == len(theirs["seconds"]) == 2
    assert max(mine["error"], theirs["error"]) < 1e-10
    assert found["ratio"] == pytest.approx(mine["median"] / theirs["median"])
    assert "ridge, 1,000 x 20 in memory" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("squared", {"loss": "squared_error"}),
        ("huber", {"loss": "huber", "epsilon": 1.35}),
        ("epsilon_insensitive", {"loss": "epsilon_insensitive", "epsilon": 0.5}),
        ("pinball", {"loss": "quantile", "quantile": 0.9}),
    ],
)
def test_objectives_of_regression(workloads, name, loss):
    X, y = workloads.data.regression(300, 5, noise="heavy")
    model = DistributedGDRegressor(**loss, alpha=0.1, penalty="elasticnet", l1_ratio=0.3)
    model.fit(X, y)
    value = workloads.regression(getattr(workloads, name), 0.1, 0.3)
    found = value(X, y, model.coef_, np.asarray(model.intercept_))
    assert found == pytest.approx(model.loss_curve_[-1], rel=1e-9)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_objectives_of_classes(workloads, loss, n_classes):
    X, y = workloads.data.classes(300, 5)
    if n_classes == 3:
        y = y + (X[:, 0] > 0.5)
    model = DistributedLinearSVC(loss=loss, C=0.1).fit(X, y)
    found = workloads.margins(loss, 0.1)(X, y, model.coef_, model.intercept_)
    assert found == pytest.approx(np.sum(model.objective_), rel=1e-9)


class Stepwise:
    """A contestant whose objective is so far above 1 as its tolerance is large."""

    def __init__(self, least):
        self.least, self.asked = least, []

    def fit(self, tol):
        from examples.benchmarks.contender import Fit

        self.asked.append(tol)
        value = np.array([1.0 + max(tol, self.least)])
        return Fit(0.1, value, np.zeros(1), None, 0, 0)


def test_tolerances_are_those_of_the_best_that_is_found_last(workloads):
    from examples.benchmarks import race

    names = {"ours": (1e-1, 1e-3), "second": (4e-2, 1e-3), "last": (1e-3,)}
    contestants = {
        name: workloads.Contestant(lambda tol: None, tolerances)
        for name, tolerances in names.items()
    }
    workload = workloads.Workload("", None, None, contestants, accuracy=2e-2)
    judge = race.Judge(lambda X, y, coef, intercept: float(coef[0]), None, None)
    fitters = {"ours": Stepwise(0.05), "second": Stepwise(0.0), "last": Stepwise(0.0)}
    rows = [race.Row(name) for name in names]
    race.prepare(workload, rows, fitters, judge)
    assert judge.best == 1.001
    assert rows[0].note.startswith("not within")
    # It was the best until the last one came.
    assert fitters["second"].asked == [4e-2, 1e-3]
    assert [row.tol for row in rows[1:]] == [1e-3, 1e-3]
    assert not any(row.note for row in rows[1:])
