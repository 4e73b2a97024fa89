"""How the site is built: ``make docs``. Nothing is fetched, neither while it is built nor while it is read."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import xlens

project = "xlens"
author = "the xlens authors"
release = version = xlens.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "building.copies",
    "building.reference",
    "building.execution",
    "building.semantics",
]
exclude_patterns = ["building", "run"]
if tags.has("quick"):  # noqa: F821
    # Without the reference, whose docstrings take most of the time: for the test of the search.
    extensions = ["myst_parser", "building.copies", "building.semantics"]
    exclude_patterns.append("api/xlens*")

# Pages whose Python is run while the site is built; what it prints and draws stands under it.
executed_pages = ["start", "how_it_works", "tutorials/*"]

myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
add_module_names = False
napoleon_numpy_docstring = False
# A role in a docstring that leads nowhere is an error; names of types in signatures are as they are written.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:obj", ".*"), ("py:exc", ".*")]

html_theme = "furo"
html_title = "xlens"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sphinx = False
html_extra_path = ["run/pages"]
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
