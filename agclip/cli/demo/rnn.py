"""A character-level recurrent network in standard array calls, gradients by hand.

    h[t]    = tanh(x[t] W_in + h[t-1] W_rec + b),   h[-1] = 0
    z[t]    = h[t] W_out + c
    loss    = mean over t and batch of  logsumexp(z[t]) - z[t][y[t]]      in nats a character

Back-propagation through time multiplies by W_rec transposed and tanh' once a step back, so the
gradient can grow exponentially with the length of the window (Bengio, Simard and Frasconi 1994;
Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063).
Every function is pure and uses nothing but the Python Array API standard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from agclip._typing import Array, DType, Namespace

Params: TypeAlias = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Trace:
    """What the backward pass needs of the forward pass.

    Attributes:
        inputs: One-hot characters, (time * batch, alphabet).
        hidden: Hidden states, (time, batch, hidden).
        slope: Gradient of the loss with respect to the logits z, (time * batch, alphabet).
    """

    inputs: Array
    hidden: Array
    slope: Array


def init_params(
    xp: Namespace, rng: Random, alphabet: int, hidden: int, gain: float, dtype: DType = None
) -> Params:
    """Draw the weights from normal distributions; the biases are zero.

    The numbers come from Python's generator, so every backend starts from the same ones.

    Args:
        xp: Array namespace to make the arrays in.
        rng: Source of the numbers.
        alphabet: Number of distinct characters.
        hidden: Number of hidden units.
        gain: Spectral radius of W_rec, in the limit of many units. Above 1 the untrained network
            is chaotic (Sompolinsky, Crisanti and Sommers 1988).
        dtype: Data type of the weights; `xp.float32` when `None`.

    Returns:
        W_in (alphabet, hidden), W_rec (hidden, hidden), b (hidden,), W_out (hidden, alphabet) and
        c (alphabet,).
    """
    dtype = xp.float32 if dtype is None else dtype

    def normal(rows: int, columns: int, scale: float) -> Array:
        numbers = [rng.gauss(0.0, scale) for _ in range(rows * columns)]
        return xp.reshape(xp.asarray(numbers, dtype=dtype), (rows, columns))

    return {
        "W_in": normal(alphabet, hidden, 0.5),
        "W_rec": normal(hidden, hidden, gain / math.sqrt(hidden)),
        "b": xp.zeros((hidden,), dtype=dtype),
        "W_out": normal(hidden, alphabet, 0.1 / math.sqrt(hidden)),
        "c": xp.zeros((alphabet,), dtype=dtype),
    }


def one_hot(xp: Namespace, codes: Sequence[int], alphabet: int, dtype: DType) -> Array:
    """Turn character codes into rows with a single one, (len(codes), alphabet)."""
    column = xp.reshape(xp.asarray(codes, dtype=xp.int32), (len(codes), 1))
    return xp.astype(column == xp.arange(alphabet, dtype=xp.int32), dtype)


def forward(xp: Namespace, params: Params, codes: Sequence[int], batch: int) -> tuple[Array, Trace]:
    """Predict each next character of a batch of windows.

    Args:
        xp: Array namespace of the parameters.
        params: The parameters, as `init_params` returns them.
        codes: (time + 1) * batch character codes, time first; character t + 1 is the target of
            character t.
        batch: Number of windows.

    Returns:
        The mean loss in nats a character, 0-d, and the trace for `backward`.
    """
    alphabet, units = params["W_in"].shape
    times = len(codes) // batch - 1
    rows = one_hot(xp, codes, alphabet, params["W_in"].dtype)
    inputs, targets = rows[: times * batch, :], rows[batch:, :]

    drive = xp.reshape(inputs @ params["W_in"] + params["b"], (times, batch, units))
    state = xp.zeros((batch, units), dtype=drive.dtype)
    states = []
    for push in xp.unstack(drive):
        state = xp.tanh(push + state @ params["W_rec"])
        states.append(state)
    hidden = xp.stack(states)

    logits = xp.reshape(hidden, (times * batch, units)) @ params["W_out"] + params["c"]
    # The largest logit is taken out first: exp cannot overflow, however large the weights are.
    logits = logits - xp.max(logits, axis=-1, keepdims=True)
    weights = xp.exp(logits)
    total = xp.sum(weights, axis=-1, keepdims=True)
    loss = xp.mean(xp.log(total) - xp.sum(logits * targets, axis=-1, keepdims=True))
    slope = (weights / total - targets) / (times * batch)
    return loss, Trace(inputs, hidden, slope)


def backward(xp: Namespace, params: Params, trace: Trace) -> Params:
    """Back-propagate through time.

    With d[t] the gradient with respect to the argument of tanh at time t,
    d[t] = (slope[t] W_out' + d[t+1] W_rec') * (1 - h[t]^2).

    Args:
        xp: Array namespace of the parameters.
        params: The parameters of the forward pass.
        trace: What `forward` returned with them.

    Returns:
        The gradient of the mean loss, with the keys and shapes of `params`.
    """
    times, batch, units = trace.hidden.shape
    flat = (times * batch, units)
    back = xp.matrix_transpose(params["W_rec"])
    from_output = xp.reshape(trace.slope @ xp.matrix_transpose(params["W_out"]), trace.hidden.shape)
    tanh_slope = 1 - trace.hidden * trace.hidden

    delta = xp.zeros((batch, units), dtype=trace.hidden.dtype)
    deltas = []
    moments = zip(xp.unstack(from_output), xp.unstack(tanh_slope), strict=True)
    for pull, slope in reversed(list(moments)):
        delta = (pull + delta @ back) * slope
        deltas.append(delta)
    all_delta = xp.reshape(xp.stack(deltas[::-1]), flat)

    # h[-1] = 0, so the first step back has no share in the gradient of W_rec.
    earlier = xp.reshape(trace.hidden[: times - 1, ...], (flat[0] - batch, units))
    later = all_delta[batch:, :]
    return {
        "W_in": xp.matrix_transpose(trace.inputs) @ all_delta,
        "W_rec": xp.matrix_transpose(earlier) @ later,
        "b": xp.sum(all_delta, axis=0),
        "W_out": xp.matrix_transpose(xp.reshape(trace.hidden, flat)) @ trace.slope,
        "c": xp.sum(trace.slope, axis=0),
    }
