"""The golden vectors' notation: trees of exact numbers in JSON, and results compared with them.

An array is `{"dtype": ..., "shape": [...], "values": [...]}`, its values hexadecimal floats, pairs
of them for complex numbers, or integers. A result has `ulps` besides, and its values are written as
an integer times a power of two, with more bits than a float holds. A float outside an array is
`{"float": "0x1p+0"}`, a tuple `{"tuple": [...]}`, a dict `{"dict": [[key, value], ...]}`. Lists,
strings, integers and null stand for themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from agclip._backends.dtypes import kind_of
from agclip._typing import Tree
from agclip.testing.harness.check import expect
from agclip.testing.harness.formats import FORMATS, Exact, error, parts
from agclip.testing.harness.library import Library

MARGIN_WITHOUT_FLOAT64 = 4
"""Units in the last place that a float32 result may be off besides if sums are formed in float32.

Every square, sum and root is rounded to float32 then. Measured in array-api-strict without float64:
at most 0.95 for norms and 1.5 for elements, but 3.7 for these with ord=0.5, which doubles errors.
"""


def decode(library: Library, encoded: Any) -> Tree:
    """Return a tree with arrays of the library."""
    return _map(encoded, lambda leaf: _array(library, leaf))


def arrays_of(encoded: Any) -> Iterator[Any]:
    """Yield the encoded arrays of an encoded tree."""
    if isinstance(encoded, list):
        for item in encoded:
            yield from arrays_of(item)
    elif isinstance(encoded, dict) and "dtype" in encoded:
        yield encoded
    elif isinstance(encoded, dict):
        for value in encoded.values():
            yield from arrays_of(value)


def has_subnormals(leaf: Any) -> bool:
    """Tell whether an encoded array holds a number below the normal range of its dtype."""
    form = FORMATS.get(leaf["dtype"])
    found = (abs(part) for value in leaf["values"] for part in parts(_number(value)))
    return form is not None and any(0 < x < form.smallest_normal for x in found)


def compare(library: Library, expected: Any, got: Tree, path: str = "result") -> None:
    """Raise a `ConformanceError` that names the first entry that is not as expected."""
    if isinstance(expected, dict) and "dtype" in expected:
        _compare_arrays(library, expected, got, path)
    elif isinstance(expected, (dict, list)):
        wanted = _map(expected, lambda leaf: leaf)
        expect(type(got) is type(wanted), f"{path} must be a {type(wanted).__name__}; got {got!r}")
        keys, found = _keys(wanted), _keys(got)
        expect(keys == found, f"{path} must have the keys {keys}; got {found}")
        for key, child in zip(keys, _children(expected), strict=True):
            compare(library, child, got[key], f"{path}[{key!r}]")
    else:
        expect(got is None, f"{path} must be None; got {got!r}")


def _keys(container: Any) -> list[Any]:
    return list(container if isinstance(container, dict) else range(len(container)))


def _children(encoded: Any) -> list[Any]:
    if isinstance(encoded, list):
        return encoded
    return encoded["tuple"] if "tuple" in encoded else [value for _, value in encoded["dict"]]


def _map(encoded: Any, function: Callable[[Any], Any]) -> Tree:
    if isinstance(encoded, list):
        return [_map(item, function) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    if "float" in encoded:
        return _float(encoded["float"])
    if "tuple" in encoded:
        return tuple(_map(item, function) for item in encoded["tuple"])
    if "dict" in encoded:
        return {key: _map(value, function) for key, value in encoded["dict"]}
    return function(encoded)


def _array(library: Library, leaf: Any) -> Any:
    values = [_number(value) for value in leaf["values"]]
    return library.array(values, leaf["dtype"], tuple(leaf["shape"]))


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return complex(_float(value[0]), _float(value[1]))
    return value if isinstance(value, int) else _float(value)


def _float(text: str) -> float:
    return float.fromhex(text)


def _exact(text: str) -> Exact:
    digits, power, exponent = text.partition("p")
    if not power or digits in {"0x0", "-0x0"}:
        return _float(text)
    return int(digits, 16) * Fraction(2) ** int(exponent)


def _compare_arrays(library: Library, expected: Any, got: Any, path: str) -> None:
    dtype = expected["dtype"]
    expect(hasattr(got, "dtype"), f"{path} must be an array; got {got!r}")
    found = kind_of(got.dtype).name
    expect(found == dtype, f"{path} must have the dtype {dtype}; got {found}")
    shape, wanted = tuple(got.shape), tuple(expected["shape"])
    expect(shape == wanted, f"{path} must have the shape {wanted}; got {shape}")
    numbers = zip(library.numbers(got), expected["values"], strict=True)
    for i, (number, value) in enumerate(numbers):
        here = f"{path}, entry {i}" if wanted else path
        if isinstance(value, int):
            expect(number == value, f"{here} must be {value}; got {number}")
            continue
        exacts = value if isinstance(value, list) else [value]
        for part, exact in zip(parts(number), exacts, strict=True):
            _compare_parts(library, dtype, expected["ulps"], part, _exact(exact), here)


def _compare_parts(
    library: Library, dtype: str, ulps: float, got: float, exact: Exact, path: str
) -> None:
    tolerance = ulps
    if ulps and not library.sums_in_float64 and FORMATS[dtype].precision == 24:
        tolerance += MARGIN_WITHOUT_FLOAT64
    off = error(got, exact, dtype)
    signed = got != 0 or exact != 0 or _negative(got) == _negative(exact) or "complex" in dtype
    tiny = math.isfinite(exact) and abs(float(exact)) < FORMATS[dtype].smallest_normal
    if got == 0 and exact != 0 and tiny and library.flushes_subnormals(dtype):
        return
    expect(
        off <= tolerance and signed,
        f"{path} must be {float(exact)!r} within {tolerance} ulp of {dtype}; got {got!r}, "
        f"{float(off):.4g} ulp off",
    )


def _negative(x: Exact) -> bool:
    return math.copysign(1.0, x) < 0
