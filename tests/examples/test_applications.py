"""The applications in a short form: they run, and their results are as good as stated."""

import importlib.util
import os
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


@pytest.mark.skipif("DASK_DML_DATA" not in os.environ, reason="DASK_DML_DATA names no folder")
def test_headlines(client):
    module = load("headlines")
    headlines = module.read(Path(os.environ["DASK_DML_DATA"]) / "clickbait")
    assert module.run(headlines.sample(frac=0.2, random_state=0), 2**14) > 0.9
