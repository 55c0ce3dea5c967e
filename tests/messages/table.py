"""Tables of errors: what a user does, and the whole text that answers.

    a negative bound
    >>> agclip.clip_by_norm(X, -1)
    ValueError: `clip_norm` must be a number >= 0, or None for no clipping; got -1.0.

"..." in a text stands for words of another library. A call may use the names in `messages.names`,
the fixture `registry`, and the modules in `MODULES`; where one of these is not installed the case
is skipped.
"""

import re
import types
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
MODULES = {
    "torch": "torch",
    "torch_groups": "agclip_backends.torch.groups",
    "torch_clip": "agclip.integrations.torch",
    "in_accelerate": "agclip.integrations.accelerate",
    "in_keras": "agclip.integrations.keras",
    "in_lightning": "agclip.integrations.lightning",
    "in_transformers": "agclip.integrations.transformers",
    "jax": "jax",
    "jnp": "jax.numpy",
    "sparse": "jax.experimental.sparse",
    "pydata": "sparse",
    "scipy_sparse": "scipy.sparse",
    "optax_clip": "agclip.integrations.optax",
    "dask": "dask",
    "keras": "keras",
    "mx": "mlx.core",
    "tf": "tensorflow",
    "da": "dask.array",
    "cubed_api": "cubed.array_api",
    "strict": "array_api_strict",
    "ml_dtypes": "ml_dtypes",
    "safetensors": "safetensors",
    "matplotlib": "matplotlib",
}
"""The names of modules in calls."""

ENTRY = re.compile(r"(.+)\n>>> (.+)\n(\w+): (.+)")


class Case(NamedTuple):
    """A call that fails: the name of the class of its error, and the whole text."""

    call: str
    error: str
    text: str


def read(path):
    """Return the cases of a table by their names."""
    found = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for start in range(0, len(lines), 3):
        entry = "\n".join(lines[start : start + 3])
        match = ENTRY.fullmatch(entry)
        assert match, (
            f"{path.name}, line {start + 1}: must be a name, a call, an error; got {entry}"
        )
        name, call, error, text = match.groups()
        assert name not in found, f"{path.name}: {name!r} must stand there once"
        found[name] = Case(call, error, text)
    return found


TABLES = {path.stem: read(path) for path in sorted(FOLDER.glob("*.txt"))}


def names_in(code):
    """Return the names that a code object and those within it look up."""
    within = [names_in(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)]
    return set(code.co_names).union(*within)
