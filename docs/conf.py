"""Sphinx configuration.  The pages are built, and read, without a network."""

import re
import sys
import tomllib
from pathlib import Path

import dask
from docutils import nodes
from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).parent))

_root = Path(__file__).parents[1]
_package = _root / "dask_dml" / "__init__.py"
_urls = tomllib.loads((_root / "pyproject.toml").read_text())["project"]["urls"]

project = "dask_dml"
author = "dask_dml developers"
copyright = f"2026, {author}"
version = release = re.search(r'__version__ = "(.*)"', _package.read_text())[1]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "gallery", "auto_gallery/**.py", "sg_execution_times.rst"]
templates_path = ["_templates"]

autosummary_generate = True
autodoc_typehints = "none"
# The templates list methods; numpydoc would add inherited ones without pages.
numpydoc_show_class_members = False

# The clusters of the gallery would log every round; read when distributed is imported.
dask.config.set({"logging": {"distributed": "warning", "dask_dml": "warning"}})

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": "/plot_",
    "image_scrapers": ("matplotlib",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 3600,
    "remove_config_comments": True,
}

html_theme = "furo"
html_baseurl = _urls["Documentation"]
html_theme_options = {
    "source_repository": _urls["Source"],
    "source_branch": "main",
    "source_directory": "docs/",
}
html_title = f"dask_dml {release}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]


def _inline(self, node):
    self.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def _block(self, node):
    self.body.append(f"<div class='math'>{convert(node.astext(), display='block')}</div>")
    raise nodes.SkipNode


def setup(app):
    # Browsers draw MathML by themselves: no script has to be loaded from anywhere.
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
