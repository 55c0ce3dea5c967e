"""Makes `agclip/testing/vectors.json`: calls of agclip with their exact results.

The results are the oracle's (`oracle/functions.py`), which shares no code with agclip. Run
`python -m vectors.write` in `tests/` to write the vectors anew; a test compares what it would
write with what is shipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vectors import joint as vectors_global
from vectors import leaf as vectors_leaf
from vectors import reproducible as vectors_reproducible
from vectors import units as vectors_units
from vectors import value as vectors_value
from vectors.case import Case
from vectors.notation import encode
from vectors.results import RESULTS

PATH = Path(__file__).parents[2] / "agclip" / "testing" / "vectors.json"

CASES = [
    *vectors_value.CASES,
    *(case for cases in vectors_leaf.CASES for case in cases),
    *(case for cases in vectors_global.CASES for case in cases),
    *(case for cases in vectors_units.CASES for case in cases),
    *(case for cases in vectors_reproducible.CASES for case in cases),
]


def text() -> str:
    """Return the file's contents, one case a line."""
    lines = ",\n".join(json.dumps(_entry(case)) for case in CASES)
    return f"[\n{lines}\n]\n"


def _entry(case: Case) -> dict[str, Any]:
    exact = vectors_reproducible.RESULTS if "reproducible" in case.kwargs else RESULTS
    return {
        "name": f"{case.function}: {case.name}",
        "about": case.about,
        "function": case.function,
        "args": [encode(arg) for arg in case.args],
        "kwargs": {key: encode(value) for key, value in case.kwargs.items()},
        "result": exact[case.function](*case.args, **case.kwargs),
    }


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
