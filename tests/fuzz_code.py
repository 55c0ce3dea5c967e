"""A call that fails, made small and written down as a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fuzz_cases import Call
from oracle.functions import Tensor
from vectors.case import Array
from vectors.notation import leaves_of


def smaller(call: Call, fails: Callable[[Call], bool], tries: int = 200) -> Call:
    """Return a call that fails still, with fewer options, leaves and entries other than 1."""
    for _ in range(tries):
        found = next((one for one in _reductions(call) if fails(one)), None)
        if found is None:
            break
        call = found
    return call


def _reductions(call: Call) -> Iterator[Call]:
    needed = {"unit_axes", "reproducible"}
    for name in call.options:
        if name not in needed:
            rest = {key: value for key, value in call.options.items() if key != name}
            yield replace(call, options=rest)
    trees = 2 if call.function == "adaptive_grad_clip" else 1
    arrays = [list(leaves_of(arg)) for arg in call.args[:trees]]
    rest = call.args[trees:]
    for chosen in zip(*arrays, strict=True):
        if any(one is not arg for one, arg in zip(chosen, call.args, strict=False)):
            yield replace(call, args=(*chosen, *rest))
    if len(arrays[0]) > 2:
        for out in range(len(arrays[0])):
            kept = ([x for i, x in enumerate(some) if i != out] for some in arrays)
            yield replace(call, args=(*kept, *rest))
    if call.args[0] is arrays[0][0]:
        for place, array in enumerate(call.args[:trees]):
            for i, value in enumerate(array.tensor.values):
                if value != 1:
                    values = list(array.tensor.values)
                    values[i] = type(value)(1)
                    args = list(call.args)
                    args[place] = Array(array.dtype, Tensor(array.tensor.shape, tuple(values)))
                    yield replace(call, args=tuple(args))


def program(call: Call, backend: str, reason: str) -> str:
    """Return a program that makes the call and prints the result, with what is wrong with it."""
    shown = [_shown(arg) for arg in call.args]
    shown += [f"{name}={_shown(value)}" for name, value in call.options.items()]
    dtypes = ', dtypes={"bfloat16": ml_dtypes.bfloat16}' if backend == "numpy" else ""
    lines = [
        *(["import ml_dtypes"] if dtypes else []),
        "from math import inf, nan",
        "import agclip",
        "from agclip.testing import Library",
        f"array = Library({backend!r}{dtypes}).array",
        f"print(agclip.{call.function}({', '.join(shown)}))",
        *(f"# {line}" for line in reason.splitlines()),
    ]
    if backend == "array_api_strict":
        lines[-1 - len(reason.splitlines()) - 1] = (
            f"import {backend}\narray = Library({backend!r}, xp={backend}).array"
        )
    return "\n".join([*lines, ""])


def _shown(x: Any) -> str:
    if isinstance(x, Array):
        values = ", ".join(map(_number, x.tensor.values))
        return f"array([{values}], {x.dtype!r}, {x.tensor.shape})"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{key!r}: {_shown(child)}" for key, child in x.items()) + "}"
    if isinstance(x, list):
        return f"[{', '.join(map(_shown, x))}]"
    if isinstance(x, tuple):
        return f"({''.join(f'{_shown(child)}, ' for child in x)})"
    return repr(x)


def _number(value: Any) -> str:
    if isinstance(value, complex) and not (math.isfinite(value.real) and math.isfinite(value.imag)):
        return f"complex({value.real!r}, {value.imag!r})"
    return repr(value)
