"""What the pages say is so."""

import ast
import importlib
import inspect
import multiprocessing.spawn
import re
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import dask.array.core
import distributed.client
import numpy as np
import pytest
from sklearn import linear_model, svm

import dask_dml
from dask_dml import DistributedGDRegressor, DistributedLinearSVC
from dask_dml.estimators import summary

ROOT = Path(dask_dml.__file__).parents[1]
DOCS = ROOT / "docs"
SOURCES = [
    *sorted((ROOT / "dask_dml").rglob("*.py")),
    *(Path(module.__file__) for module in (dask.array.core, distributed.client,
                                           multiprocessing.spawn)),
]  # fmt: skip


def literals():
    """Yield all texts of the code; what is filled in is left out."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                yield "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted():
    page = (DOCS / "troubleshooting.md").read_text()
    return re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)


def test_there_are_errors_to_look_up():
    assert len(quoted()) >= 15


@pytest.fixture(scope="module")
def code():
    return [" ".join(text.split()) for text in literals()]


@pytest.mark.parametrize("message", quoted(), ids=lambda text: text[:30])
def test_quoted_messages_occur_in_the_code(message, code):
    for fragment in message.split("..."):
        words = " ".join(fragment.split())
        assert not words or any(words in text for text in code), words


def test_the_reference_lists_every_public_name():
    page = (DOCS / "api.md").read_text()
    for room in ("", ".preprocessing", ".compose", ".metrics", ".inspection", ".model_selection",
                 ".display", ".callbacks"):  # fmt: skip
        module = importlib.import_module(f"dask_dml{room}")
        listed = re.search(rf"currentmodule:: {module.__name__}\n(.*?)```", page, re.DOTALL)[1]
        rooms = {name for name in module.__all__ if inspect.ismodule(getattr(module, name))}
        assert set(module.__all__) - rooms <= set(listed.split()), module.__name__
        assert all(f"currentmodule:: {module.__name__}.{name}\n" in page for name in rooms)
        assert all(hasattr(module, name) for name in module.__all__)


# --- Features -------------------------------------------------------------------------------------


def rows_of_features(title):
    page = (DOCS / "features.md").read_text()
    table = re.search(r"^\|(?:---\|)+\n((?:\|.*\n)+)", page[page.index(title) :], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table[1].splitlines()]


@pytest.mark.parametrize("row", rows_of_features("## What is here"), ids=lambda row: row[0][:30])
def test_every_feature_has_a_test(row):
    _, where, tests = row
    (page,) = re.findall(r"\((.*)\.md\)", where)
    assert (DOCS / f"{page}.md").exists()
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", tests)
    assert len(named) == tests.count("`") / 2 >= 1
    for file, name in named:
        functions = [
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef)
        ]
        assert name in functions, f"{file}::{name}"


def test_what_is_said_of_other_packages_has_a_source():
    for row in rows_of_features("## Beside other packages"):
        assert len(row) == 8
        for cell in row[2:]:
            assert cell == "-" or re.fullmatch(r"\[[^]]+\]\[[\w-]+\]", cell), (row[0], cell)


# --- Conversions ----------------------------------------------------------------------------------

rng = np.random.default_rng(0)
X = rng.normal(size=(150, 5)) * [1.0, 2.0, 0.5, 1.0, 3.0] + 1.0
Y = X @ [1.0, -1.0, 2.0, 0.0, 0.5] + rng.standard_t(3, size=150)
HUBER = linear_model.HuberRegressor(epsilon=1.5, alpha=0.3, tol=1e-9, max_iter=1000).fit(X, Y)
HERE = {"n": 150, "S": 150.0, "A": 0.3, "r": 0.4, "q": 0.3, "e": 1.5, "s": HUBER.scale_}
THERE = {
    "LinearRegression()": linear_model.LinearRegression(),
    "Ridge(alpha=A)": linear_model.Ridge(alpha=0.3),
    "Lasso(alpha=A)": linear_model.Lasso(alpha=0.3, tol=1e-10),
    "ElasticNet(alpha=A, l1_ratio=r)": linear_model.ElasticNet(0.3, l1_ratio=0.4, tol=1e-10),
    "HuberRegressor(epsilon=e, alpha=A)": HUBER,
    "QuantileRegressor(quantile=q, alpha=A)": linear_model.QuantileRegressor(
        quantile=0.3, alpha=0.3
    ),
}


def conversions():
    page = (DOCS / "migrating.md").read_text()
    rows = re.findall(
        r"^\| `([^`]+)`[^|]*\| `(DistributedGD[^`]+)`[^|]*\| yes \|$", page, re.MULTILINE
    )
    return {there: here for there, here in rows if there in THERE}


def test_all_conversions_are_there():
    assert set(conversions()) == set(THERE)


@pytest.mark.parametrize("there", THERE)
def test_conversions_from_scikit_learn(there):
    here = eval(conversions()[there], {"DistributedGDRegressor": DistributedGDRegressor, **HERE})
    here.set_params(tol=1e-9).fit(X, Y)
    model = THERE[there].fit(X, Y)
    np.testing.assert_allclose(here.coef_, model.coef_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(here.predict(X), model.predict(X), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_conversion_of_linear_svc(loss):
    y = Y.mean() < Y
    here = DistributedLinearSVC(loss=loss, C=0.1, tol=1e-7).fit(X, y)
    model = svm.LinearSVC(loss=loss, C=0.1, tol=1e-8, max_iter=100_000, dual=True, random_state=0)
    np.testing.assert_allclose(here.coef_, model.fit(X, y).coef_, rtol=5e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")  # dask-ml's own
def test_conversion_of_dask_ml():
    pytest.importorskip("dask_glm")
    dask_ml = pytest.importorskip("dask_ml.linear_model")
    theirs = dask_ml.LinearRegression(C=0.05, fit_intercept=False, solver="lbfgs", tol=1e-12)
    theirs.fit(X, Y)
    spread = X.std(axis=0)
    here = DistributedGDRegressor(alpha=1 / (2 * 0.05 * 150), fit_intercept=False)
    np.testing.assert_allclose(here.fit(X / spread, Y).coef_ / spread, theirs.coef_, rtol=1e-3)


def test_conversion_of_gblinear():
    xgboost = pytest.importorskip("xgboost")
    for theirs, here in (
        ({"reg_lambda": 0.2, "reg_alpha": 0.0}, {"alpha": 0.2}),
        ({"reg_lambda": 0.0, "reg_alpha": 0.2}, {"penalty": "l1", "alpha": 0.2}),
    ):
        model = xgboost.XGBRegressor(
            booster="gblinear", updater="coord_descent", learning_rate=1.0, n_estimators=500,
            base_score=0.0, **theirs,
        ).fit(X, Y)  # fmt: skip
        ours = DistributedGDRegressor(**here).fit(X, Y)
        np.testing.assert_allclose(ours.coef_, model.coef_, rtol=2e-3, atol=2e-3)


# --- The project ----------------------------------------------------------------------------------


def test_the_readme_survives_a_package_index():
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert [one for one in targets if not one.startswith("https://")] == []
    for page in re.findall(r"readthedocs.io/en/stable/(\S+?)\.html", text):
        assert (DOCS / f"{page}.md").exists() or page.startswith("auto_gallery/"), page
    for file in re.findall(r"blob/main/(\S+?)\)", text):
        assert (ROOT / file).exists(), file


def test_addresses_are_those_of_the_project_table():
    """`pyproject.toml` has them; what cannot read it has to agree."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Documentation"] == summary.DOCUMENTATION
    assert urls["Issues"].startswith(urls["Source"])
    assert urls["Changelog"].startswith(urls["Documentation"])
    assert f"repository-code: {urls['Source']}\n" in (ROOT / "CITATION.cff").read_text()
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    for file in [*files, *DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *SOURCES]:
        for url in re.findall(r"https://[^\s)\"'>]*dask-dml[^\s)\"'>]*", file.read_text()):
            assert url.startswith((urls["Documentation"], urls["Source"])), (file, url)


def test_the_version_is_stated_once():
    assert not re.search(r"^version = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    with suppress(metadata.PackageNotFoundError):  # a source tree that is not installed
        assert metadata.version("dask-dml") == dask_dml.__version__
