"""Sphinx configuration."""

import tomllib
from pathlib import Path

_project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

project = "dask_dml"
author = "dask_dml developers"
copyright = f"2026, {author}"
version = release = _project["version"]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_typehints = "none"
# Methods are listed on the API page; numpydoc would add a table of inherited ones without pages.
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"dask_dml {release}"
