"""Print the lowest versions that pyproject.toml allows, as exact requirements for pip.

Arguments are the extras to include.  Every requirement printed must state one lower bound.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
project = tomllib.loads(text)["project"]
for group in (project["dependencies"], *map(project["optional-dependencies"].get, sys.argv[1:])):
    for requirement in map(Requirement, group):
        (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
        requirement.specifier = SpecifierSet(f"=={bound}")
        print(requirement)
