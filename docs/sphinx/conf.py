"""How Sphinx makes the site from the pages as they lie in the repository; ``build.py`` beside it calls it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dance_ondevice

project = "dance-ondevice"
author = "the authors of dance-ondevice"
project_copyright = author
version = release = dance_ondevice.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "navigation", "diagrams"]
root_doc = "docs/index"
exclude_patterns = ["docs/sphinx"]

# The anchors of headings are those that a forge makes, so that a link works on both.
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries = False
# Two modules may each have an error of one name; a docstring that names its own needs no path.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}
