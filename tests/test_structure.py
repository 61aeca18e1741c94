"""The house rules: what may import what, what is documented, what stays quick."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import dask_dml

ROOT = Path(dask_dml.__file__).parent
FILES = {
    ".".join(("dask_dml", *file.relative_to(ROOT).with_suffix("").parts)): file
    for file in sorted(ROOT.rglob("*.py"))
}

#: Modules that may import Dask at all; the rest is mathematics or describes data.
DASK = (
    "dask_dml.input",
    "dask_dml.rounds",
    "dask_dml.estimators.prediction",
    "dask_dml.estimators.classifier",
    "dask_dml.estimators.dual_variables",
    "dask_dml.preprocessing.lazy",
    "dask_dml.model_selection.split",
)
MATHEMATICS = ("blocks", "derived", "kernels", "passes", "objective")


def imports(file, *, top_level=False):
    """Yield the absolute names that a file imports: modules, and names taken from modules."""
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            yield node.module
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def from_package(name, package):
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("module", FILES)
def test_only_the_edges_import_dask(module):
    if any(from_package(module, allowed) for allowed in DASK):
        return
    for name in imports(FILES[module]):
        assert not from_package(name, "dask"), name
        assert not from_package(name, "distributed"), name


@pytest.mark.parametrize(
    "module", [m for m in FILES if m.split(".")[1:2] and m.split(".")[1] in MATHEMATICS]
)
def test_mathematics_imports_no_engine_and_no_estimator(module):
    for name in imports(FILES[module]):
        if not from_package(name, "dask_dml"):
            continue
        if from_package(name, "dask_dml.rounds.base"):
            continue
        part = [*name.split("."), ""][1]
        if part == "input":  # how bad values are described
            continue
        assert part in (*MATHEMATICS, ""), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in FILES if from_package(m, "dask_dml.solvers")])
def test_solvers_see_only_the_rounds_protocol(module):
    for name in imports(FILES[module]):
        if from_package(name, "dask_dml.rounds"):
            assert from_package(name, "dask_dml.rounds.base"), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in FILES if from_package(m, "dask_dml.rounds")])
def test_rounds_know_no_mathematics(module):
    forbidden = ("solvers", "kernels", "objective", "passes")
    for name in imports(FILES[module]):
        for part in forbidden:
            assert not from_package(name, f"dask_dml.{part}"), f"{module} imports {name}"


@pytest.mark.parametrize("module", FILES)
def test_nothing_private_of_other_packages_is_imported(module):
    for name in imports(FILES[module]):
        first, *rest = name.split(".")
        if first in ("sklearn", "dask", "distributed", "numpy", "scipy", "numba", "pandas"):
            assert not any(part.startswith("_") for part in rest), name


def lines_of_code(path):
    """Count the lines outside of docstrings: the public ones are as long as they need to be."""
    text = path.read_text()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = sum(
        node.body[0].end_lineno - node.body[0].lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node)
    )
    return len(text.splitlines()) - docs


def test_files_stay_short():
    long = {m: n for m, f in FILES.items() if (n := lines_of_code(f)) > 400}
    assert not long


def public_objects():
    for info in pkgutil.walk_packages([str(ROOT)], "dask_dml."):
        module = importlib.import_module(info.name)
        yield info.name, module
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != info.name:
                continue
            # Compiled functions carry the docstring of the function that they were made of.
            if inspect.isclass(value) or callable(value):
                yield f"{info.name}.{name}", value
            if inspect.isclass(value):
                for method, member in vars(value).items():
                    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield f"{info.name}.{name}.{method}", function


def test_everything_public_is_documented():
    missing = [name for name, value in public_objects() if not (value.__doc__ or "").strip()]
    assert not missing


def test_all_lists_strings_that_exist():
    assert all(isinstance(name, str) and hasattr(dask_dml, name) for name in dask_dml.__all__)


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_is_cheap():
    code = "import sys, dask_dml; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = run(code)
    for heavy in ("numba", "dask", "distributed"):
        assert heavy not in loaded, heavy


def test_a_fit_in_memory_needs_no_dask():
    code = """
import sys
sys.modules["dask"] = sys.modules["distributed"] = None
from dask_dml import DistributedGDRegressor
for loss in ("squared_error", "huber"):
    model = DistributedGDRegressor(loss).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    print(round(model.predict([[3.0]])[0]), round(model.score([[0.0], [1.0]], [0.0, 1.0])))
"""
    assert run(code) == ["3", "1", "3", "1"]
