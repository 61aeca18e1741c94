"""The applications in a short form: they run, and their results are as good as stated."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_raw_table(client, capsys):
    module = load("raw_table")
    assert module.run(20_000) > 0.93
    said = capsys.readouterr().out
    assert "Dask loaded: False" in said
    names = said[said.index("feature") :].split()
    assert {"weight", "town_Kiel", "month_12"} <= set(names)


def test_digits(client):
    mine, theirs = load("digits").run(n_copies=3, n_components=60)
    assert mine == pytest.approx(theirs, abs=0.02)
    assert mine > 0.6  # of 60 features; without the copies it is 0.3


def test_recommender(client):
    errors = load("recommender").run(20_000, n_users=200, n_items=500)
    mine = errors["users, items and tastes"]
    assert mine < 0.87 * errors["item's and user's means"]
    assert mine < 1.03 * errors["matrix factorisation in memory"]


def test_pagerank(client):
    assert load("pagerank").run(800) < 1e-6


def test_endless(capfd):
    module = load("endless")
    stream, large, killed = module.run(n_batches=20, times=0.32)
    assert stream < 1.05 * module.NOISE
    assert large < 0.01
    assert killed < 1e-4
    said = capfd.readouterr().out
    assert "engine 'streaming'" in said
    assert re.search(r"killed in round 2 of \d+: [1-9]\d* recover", said)


@pytest.mark.skipif("DASK_DML_DATA" not in os.environ, reason="DASK_DML_DATA names no folder")
def test_air_quality(client, tmp_path, monkeypatch):
    """Two stations of the twelve."""
    monkeypatch.syspath_prepend(EXAMPLES)  # the search reads the table as the fit does
    stations = Path(os.environ["DASK_DML_DATA"]) / "prsa_beijing_air"
    for file in sorted(stations.glob("PRSA_Data_*.csv"))[:2]:
        (tmp_path / file.name).symlink_to(file)
    assert load("air_quality").run(tmp_path) > 0.7
    module = load("air_quality_search")
    monkeypatch.setitem(module.GRID, "alpha", [0.01, 1.0])
    search = module.run(tmp_path)
    assert search.best_params_["loss"] == "huber"
    assert search.cv_results_["mean_test_r2"][search.best_index_] > 0.6


@pytest.mark.skipif("DASK_DML_DATA" not in os.environ, reason="DASK_DML_DATA names no folder")
def test_headlines(client):
    module = load("headlines")
    headlines = module.read(Path(os.environ["DASK_DML_DATA"]) / "clickbait")
    assert module.run(headlines.sample(frac=0.2, random_state=0), 2**14) > 0.9
