"""How the site is built: `sphinx-build -W docs site` with the `docs` extra and fastnn installed."""

import sys
from pathlib import Path

import fastnn

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "fastnn"
author = "the fastnn authors"
project_copyright = "the fastnn authors, BSD 3-Clause"
version = release = fastnn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "public_api",
]
exclude_patterns = ["_*"]
nitpicky = True  # a name of fastnn's that does not exist is an error: see _ext/public_api.py
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes, units, dtypes
numpydoc_show_class_members = False  # autodoc shows them
add_module_names = False
toc_object_entries_show_parents = "hide"

GUIDES = (
    "preprocessing", "out-of-core", "initialisation", "gradient-checking", "diagnosing",
    "schedules-and-callbacks", "pictures", "examples", "growth", "packaging",
)  # fmt: skip
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"fastnn {version}"
html_static_path = ["_static"]
html_css_files = ["fastnn.css"]
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def setup(app):
    """Guides may be named in index.md before they are there."""

    def only_what_is_there(app, docname, source):
        if docname == "index":
            lines = source[0].splitlines(keepends=True)
            absent = {f"{name}\n" for name in GUIDES if name not in app.env.found_docs}
            source[0] = "".join(line for line in lines if line not in absent)

    app.connect("source-read", only_what_is_there)
