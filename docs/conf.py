"""Sphinx configuration."""

import agclip

project = "agclip"
author = "The agclip authors"
copyright = "The agclip authors"
version = release = agclip.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "code"  # so that `x` in a docstring is code

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Types that no page here documents: those of array libraries and the private ones of agclip.
nitpick_ignore_regex = [
    (r"py:.*", r"(array_api_compat|collections|cupy|dask|jax|numpy|torch|types|typing)\..*"),
    (r"py:.*", r"agclip\._.*"),
]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"agclip {release}"
