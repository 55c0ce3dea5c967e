"""Adaptive gradient clipping: each unit's gradient bounded by the norm of its parameters."""

from __future__ import annotations

from agclip._clipping import adaptive, arguments, axis_arguments
from agclip._trees.gather import gather
from agclip._trees.tree import materialised
from agclip._typing import Bound, NonFinite, Number, T, Tree, UnitAxes


def adaptive_grad_clip(
    grads: T,
    params: Tree,
    clipping: Bound = 0.01,
    eps: Bound = 1e-3,
    *,
    unit_axes: UnitAxes,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip the gradient of every unit to a fraction of the norm of the unit's parameters (AGC).

    ```
    bound_u = clipping · max(‖W_u‖₂, eps)
    out_u = G_u · bound_u / ‖G_u‖₂  if ‖G_u‖₂ > bound_u  else  G_u
    ```

    A unit u is what feeds one output: a row of a (out, in) matrix, a column of an (in, out) one. A
    scalar or vector leaf is one unit.

    Args:
        grads: A tree of real or complex floating-point arrays.
        params: The parameters: a tree of the same structure, its leaves of the same shapes. Where
            there are keys they tell what belongs together, in whatever order. What stands where
            `grads` holds None is not looked at. A NaN makes the gradient of its unit NaN.
        clipping: The largest allowed ratio, λ in the paper: a number >= 0; infinity or None for no
            bound.
        eps: The least norm that a unit's parameters count with, so that units that are zero can
            learn: a number >= 0.
        unit_axes: The axes the norm of one unit is taken over: "out_in" for the layout of PyTorch
            (all but the first), "in_out" for that of Flax and TensorFlow (all but the last), axes,
            or a function of (path, leaf) that returns one of these or None for the whole leaf.
        nonfinite: What becomes of a unit with a NaN or an infinity: "propagate", "error", "zero" or
            "skip"; None for what is configured.
        strict: Whether the exact norm of the result is kept within the bound; None for what is
            configured.
        reproducible: Whether the norm has the same bits from every library, order and thread count;
            None for what is configured.
        loss_scale: The positive number that `grads` comes in multiplied by.

    Returns:
        The same tree as `grads` with leaves of the same library, shape, dtype and device.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or if libraries are mixed.
        ValueError: If the trees or shapes differ, if `clipping` or `eps` is negative or NaN, or if
            `unit_axes` does not fit.
        FloatingPointError: If a unit is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> w, g = np.array([[3.0, 4.0]]), np.array([[6.0, 8.0]])
        >>> agclip.adaptive_grad_clip(g, w, 0.5, unit_axes="out_in").tolist()
        [[1.5, 2.0]]

    Source: A. Brock, S. De, S. L. Smith, K. Simonyan, "High-performance large-scale image
    recognition without normalization", 2021, arXiv:2102.06171, equation 3.
    """
    leaves = gather(grads, "grads")
    axes = axis_arguments.units(unit_axes, leaves)
    plan = arguments.options(leaves, clipping, 2, nonfinite, strict, reproducible, axes=axes)
    result: T = adaptive.run(leaves, plan, params, clipping, eps, loss_scale, inplace=False).tree()
    return result


def adaptive_grad_clip_(
    grads: T,
    params: Tree,
    clipping: Bound = 0.01,
    eps: Bound = 1e-3,
    *,
    unit_axes: UnitAxes,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> T:
    """Clip the gradient of every unit to a fraction of its parameters' norm, in place.

    As `adaptive_grad_clip`, but the leaves of `grads` are overwritten. Nothing is written unless
    every check holds.

    Args:
        grads: A tree of arrays that can be written.
        params: The parameters: a tree of the same structure and shapes.
        clipping: The largest allowed ratio of the norms: a number >= 0; infinity or None for no
            bound.
        eps: The least norm that a unit's parameters count with: a number >= 0.
        unit_axes: The axes of one unit's norm: "out_in", "in_out", axes, or a function of (path,
            leaf).
        nonfinite: What becomes of a unit with a NaN or an infinity: "propagate", "error", "zero" or
            "skip"; None for what is configured.
        strict: Whether the exact norm of the result is kept within the bound; None for what is
            configured.
        reproducible: Whether the norm has the same bits from every library, order and thread count;
            None for what is configured.
        loss_scale: The positive number that `grads` comes in multiplied by; it goes out divided by
            it.

    Returns:
        `grads` itself.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or cannot be overwritten, or if
            libraries are mixed.
        ValueError: If the trees or shapes differ, if `clipping` or `eps` is negative or NaN, or if
            `unit_axes` does not fit.
        FloatingPointError: If a unit is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> w, g = np.array([[3.0, 4.0]]), np.array([[6.0, 8.0]])
        >>> agclip.adaptive_grad_clip_(g, w, 0.5, unit_axes="out_in") is g, g.tolist()
        (True, [[1.5, 2.0]])
    """
    grads = materialised(grads)
    leaves = gather(grads, "grads", inplace=True)
    axes = axis_arguments.units(unit_axes, leaves)
    plan = arguments.options(leaves, clipping, 2, nonfinite, strict, reproducible, axes=axes)
    adaptive.run(leaves, plan, params, clipping, eps, loss_scale, inplace=True).write()
    return grads
