"""The house rules: what may import what, what is documented, what stays quick."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dask_dml

ROOT = Path(dask_dml.__file__).parent
FILES = {
    ".".join(("dask_dml", *file.relative_to(ROOT).with_suffix("").parts)): file
    for file in sorted(ROOT.rglob("*.py"))
}

#: The rooms from the ground up: a module imports from its own room and from those before it.
ROOMS = (
    "blocks",
    "derived",
    "input",
    "kernels",
    "passes",
    "rounds",
    "objective",
    "solvers",
    "estimators",
    "preprocessing",
    "compose",
    "metrics",
    "callbacks",
    "inspection",
    "model_selection",
    "display",
)
#: Rooms in which nothing reaches Dask, through any chain of imports.
MATHEMATICS = ("blocks", "derived", "kernels", "passes", "objective", "solvers")
#: Modules that may import Dask; the rest is mathematics or describes data.
DASK = (
    "dask_dml.input",
    "dask_dml.rounds",
    "dask_dml.estimators.prediction",
    "dask_dml.estimators.classifier",
    "dask_dml.estimators.dual_variables",
    "dask_dml.preprocessing.chunked",
    "dask_dml.preprocessing.lazy",
    "dask_dml.metrics.rows",
    "dask_dml.model_selection.split",
)


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


def room_of(module):
    return [*module.split("."), ""][1]


@functools.cache
def arrows():
    """Return the modules of the package that each of its modules imports, wherever it does so."""
    found = {}
    for module, file in FILES.items():
        names = {name for name in imports(file) if from_package(name, "dask_dml")}
        # A package's face only hands names on; a name that is no module is defined in one.
        found[module] = {name for name in names if name in FILES} - {module}
    return found


def reachable(start, found):
    seen, ahead = set(), [start]
    while ahead:
        for name in found.get(ahead.pop(), ()):
            if name not in seen:
                seen.add(name)
                ahead.append(name)
    return seen


def test_every_module_has_a_room():
    homeless = {m for m in FILES if room_of(m) not in (*ROOMS, "__init__")}
    assert not homeless


@pytest.mark.parametrize("module", [m for m in FILES if room_of(m) in ROOMS])
def test_imports_go_down(module):
    for name in arrows()[module]:
        assert room_of(name) in ROOMS, f"{module} imports {name}"
        assert ROOMS.index(room_of(name)) <= ROOMS.index(room_of(module)), (
            f"{module} imports {name}, which stands above it"
        )


def test_the_picture_of_the_rooms_is_true():
    page = (ROOT.parent / "docs" / "development" / "architecture.md").read_text()
    drawn = re.search(r"```text\n(.*?)```", page, re.DOTALL)[1].splitlines()
    pictured = {}
    for line in drawn:
        room, below = line.split("->")
        pictured[room.strip()] = {name.strip() for name in below.split(",")} - {""}
    assert [*pictured] == [room for room in reversed(ROOMS) if room in pictured]
    found = {room: set() for room in pictured}
    for module, names in arrows().items():
        for name in names:
            if room_of(module) in ROOMS and room_of(name) != room_of(module):
                found[room_of(module)].add(room_of(name))
    assert pictured == found


def test_no_module_imports_itself_through_others():
    found = arrows()
    assert not {module for module in FILES if module in reachable(module, found)}


@pytest.mark.parametrize("module", [m for m in FILES if room_of(m) in MATHEMATICS])
def test_mathematics_never_reaches_dask(module):
    for name in (module, *reachable(module, arrows())):
        outside = {one.split(".")[0] for one in imports(FILES[name])}
        assert not outside & {"dask", "distributed"}, f"{module} reaches Dask through {name}"


def test_every_dependency_is_declared():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", one)[0] for one in project["dependencies"]}
    declared = {{"scikit-learn": "sklearn"}.get(one, one) for one in declared}
    for module, file in FILES.items():
        used = {name.split(".")[0] for name in imports(file)}
        # What only pictures need is an extra.
        optional = {"matplotlib"} if from_package(module, "dask_dml.display") else set()
        assert used - declared - optional - set(sys.stdlib_module_names) - {"dask_dml"} == set()


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
