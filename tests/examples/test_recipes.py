"""Recipes with other packages run where these are installed."""

import importlib.util
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


def load(name):
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_optuna_ends_trials():
    optuna = pytest.importorskip("optuna")
    study = load("optuna_pruning").main(n_trials=12)
    states = [trial.state for trial in study.trials]
    assert optuna.trial.TrialState.PRUNED in states
    assert states.count(optuna.trial.TrialState.COMPLETE) >= 3
    assert study.best_value > 0.65


@pytest.mark.filterwarnings("ignore")  # of the many packages beneath MLflow
def test_mlflow_logs_every_round(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("skops")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    run, model = load("mlflow_logging").main()
    logged = mlflow.MlflowClient().get_metric_history(run, "objective")
    assert [one.value for one in logged] == pytest.approx(model.loss_curve_, rel=1e-6)
