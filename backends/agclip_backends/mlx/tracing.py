"""Whether MLX is tracing a function: for `mx.compile`, `mx.vmap`, or a derivative.

MLX (0.32) has no public test, and raises only when the value of a traced array is asked for, which
outside of a trace would be a computation. But a compiled function that is called with a traced
array calls the Python function that it was made of, and with another array it repeats what it has
recorded. The array asked about is always one, which was left over from a trace: MLX takes it for
traced as long as any trace goes on.
"""

from __future__ import annotations

import threading
from typing import Any

import mlx.core as mx


class _Seen(threading.local):
    """What has come to the functions below in this thread."""

    last: Any = None
    traced: Any = None
    calls: int = 0


_seen = _Seen()


def _note(x: Any) -> Any:
    _seen.last = x
    _seen.calls += 1
    return x


_compiled, _leaking = mx.compile(_note), mx.compile(_note)


def _called(x: Any) -> bool:
    """Tell whether the function itself is called: the first time it always is."""
    before = _seen.calls
    _compiled(x)
    return _seen.calls > before


def tracing() -> bool:
    """Tell whether a function is being traced in this thread, without reading a value.

    False where MLX compiles nothing: on the CPU it takes a compiler of C++ for that.
    """
    if _seen.traced is None:
        plain = mx.array(0.0)
        _leaking(plain)
        if _seen.last is plain:
            return False
        _seen.traced = _seen.last
    if not (_called(_seen.traced) and _called(_seen.traced)):
        return False
    # Where nothing is compiled any more the function is called with whatever array.
    plain = mx.array(0.0)
    return not (_called(plain) and _called(plain))
