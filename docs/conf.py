"""Sphinx configuration."""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

import agclip

sys.path[:0] = [str(Path(__file__).parents[1] / "backends")]

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
    "sphinx_design",
]
exclude_patterns = ["_build", "_tables"]
default_role = "code"  # so that `x` in a docstring is code

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
# What the integrations are for need not be there to describe them.
autodoc_mock_imports = [
    "accelerate",
    "hypothesis",
    "jax",
    "keras",
    "lightning",
    "optax",
    "pytest",
    "torch",
    "transformers",
]
napoleon_attr_annotations = False  # the kernels' types are longer than their contracts
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Types that no page here documents: those of other libraries, and aliases and variables of agclip.
nitpick_ignore_regex = [
    (r"py:.*", r"(array_api_compat|cupy|dask|jax|numpy|optax|tensorflow|torch)\..*"),
    (r"py:.*", r"(collections|contextlib|os|types|typing)\..*"),
    (r"py:.*", r"agclip\.(.*\.)?_.*"),
    (r"py:.*", r"agclip\..*\.(T|OptimizerT)"),
    (r"py:.*", r"AllReduce|Bound|NonFinite|Number|Order|Replicas|UnitAxes"),
]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"agclip {release}"
html_logo = "_static/logo.svg"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False


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


def visit_math(self: Any, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers show without a script."""
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """Write a formula of its own lines as MathML."""
    self.body.append(f'<div class="math">{_mathml(node, "block")}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.Node, display: str) -> str:
    # latex2mathml 3 knows `split`, not `aligned`, which is the same, and keeps the escape of `_`.
    latex = node.astext().replace("{aligned}", "{split}").replace(r"\_", "_")
    # The bars of a norm would be stretched, each to the height of what is beside it.
    bar = "&#x02016;</mo>"
    return convert(latex, display=display).replace(f"<mo>{bar}", f'<mo stretchy="false">{bar}')


def setup(app: Sphinx) -> None:
    """Register what this configuration adds to Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("autodoc-process-docstring", to_restructured_text)
