"""Sphinx configuration."""

from typing import Any

from sphinx.application import Sphinx

import agclip

project = "agclip"
author = "The agclip authors"
copyright = "The agclip authors"
version = release = agclip.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "code"  # so that `x` in a docstring is code

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # most arrays and numbers are `Any`: the prose says more
napoleon_attr_annotations = False  # the kernels' types are longer than their contracts
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Types that no page here documents: those of array libraries and the private ones of agclip.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(array_api_compat|collections|cupy|dask|jax|numpy|tensorflow|torch|types|typing)\..*",
    ),
    (r"py:.*", r"agclip\._.*"),
]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"agclip {release}"


def to_restructured_text(*arguments: Any) -> None:
    """Mend what reads differently there, in the lines of a docstring, the last argument.

    Fenced blocks become code blocks, and |x| stays a magnitude.
    """
    lines: list[str] = arguments[-1]
    fenced, mended = False, []
    for line in lines:
        if line.startswith("```"):
            fenced = not fenced
            mended += [".. code-block:: text", ""] if fenced else [""]
        else:
            mended.append(f"   {line}" if fenced else line.replace("|", r"\|"))
    lines[:] = mended


def setup(app: Sphinx) -> None:
    """Register what this configuration adds to Sphinx."""
    app.connect("autodoc-process-docstring", to_restructured_text)
