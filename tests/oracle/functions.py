"""The oracle: every clipping rule written down from its definition, in exact rationals.

It shares no code with the package it judges and needs nothing beyond the standard library.  Arrays
are `Tensor`s of Python numbers, results are `Tensor`s of fractions (floats only for NaN, infinities
and -0.0).  Nothing is rounded but irrational roots, and those to a relative 2^-200.

What all rules have in common:

* A norm n and a threshold c: the group stays as it is where ``n <= c``, and is multiplied by
  ``c / n`` where ``n > c``.  The comparison is exact.
* ``c = 0`` gives zeros with the signs of the entries, ``c = inf`` changes nothing finite and
  ``c = None`` switches the rule off.  ``c < 0`` counts as 0 and a NaN gives NaN everywhere, which
  is what traced code returns; concrete code raises instead.
* ``nonfinite`` says what a group becomes whose norm is NaN or inf: "propagate" (all NaN), "zero"
  or "skip" (left as it is).
* ``loss_scale``: the gradients come in multiplied by it and go out divided by it, clipped or not.
  Thresholds and returned norms are those of the divided gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from oracle.group import Treatment, threshold
from oracle.norm import (
    Norm,
    Root,
    axis_norms,
    exceeds,
    group_norm,
    joint_norm,
    norm,
    to_exact,
)
from oracle.rounding import FORMATS, round_to, ulp, ulps, worst_ulps
from oracle.tensor import Axes, Exact, ExactComplex, Real, Tensor, groups, tensor
from oracle.units import adaptive_grad_clip, clip_per_example
from oracle.value import clip_by_value

__all__ = [
    "FORMATS",
    "ExactComplex",
    "Tensor",
    "adaptive_grad_clip",
    "axis_norms",
    "clip_by_average_norm",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_rms",
    "clip_by_value",
    "clip_per_example",
    "exceeds",
    "global_norm",
    "norm",
    "round_to",
    "tensor",
    "ulp",
    "ulps",
    "worst_ulps",
]

Tensors = Sequence[Tensor | None]


def clip_by_norm(
    t: Tensor,
    clip_norm: Real | None,
    axes: Axes = None,
    *,
    ord: Real = 2,
    nonfinite: str = "propagate",
    loss_scale: Real = 1,
) -> Tensor:
    """Clip one tensor by its own norm: ``t * min(1, c / norm(t))``, for each slice over `axes`."""
    treatment = Treatment(nonfinite, loss_scale)
    members = groups(t.shape, axes)
    norms = [treatment.unscaled(group_norm([t.values[i] for i in m], ord)) for m in members]
    return treatment.clip_each(t, members, norms, [threshold(clip_norm)] * len(members))


def clip_by_average_norm(
    t: Tensor, clip_norm: Real | None, *, nonfinite: str = "propagate", loss_scale: Real = 1
) -> Tensor:
    """Clip one tensor by its average norm ``norm2(t) / size``, as TensorFlow defines it."""
    size = Root(Fraction(max(len(t.values), 1)))
    return _clip_by_share(t, clip_norm, size, Treatment(nonfinite, loss_scale))


def clip_by_rms(
    t: Tensor, clip_rms: Real | None, *, nonfinite: str = "propagate", loss_scale: Real = 1
) -> Tensor:
    """Clip one tensor by its root mean square ``norm2(t) / sqrt(size)``.

    Source: Shazeer and Stern, 2018, arXiv:1804.04235, section 6.
    """
    root_of_size = Root(Fraction(max(len(t.values), 1)), 2)
    return _clip_by_share(t, clip_rms, root_of_size, Treatment(nonfinite, loss_scale))


def _clip_by_share(t: Tensor, c: Real | None, divisor: Root, treatment: Treatment) -> Tensor:
    size = treatment.unscaled(group_norm(t.values))
    share = size.over(divisor) if isinstance(size, Root) else size
    return treatment.clip_each(t, groups(t.shape, None), [share], [threshold(c)])


def global_norm(t_list: Tensors, ord: Real = 2, *, loss_scale: Real = 1) -> Exact:
    """Return the norm of all entries together, divided by the loss scale; None is passed over."""
    return to_exact(Treatment(loss_scale=loss_scale).unscaled(joint_norm(t_list, ord)))


def clip_by_global_norm(
    t_list: Tensors,
    clip_norm: Real | None,
    use_norm: Real | None = None,
    *,
    ord: Real = 2,
    nonfinite: str = "propagate",
    loss_scale: Real = 1,
) -> tuple[list[Tensor | None], Exact]:
    """Clip several tensors by their joint norm, with one coefficient ``min(1, c / norm)`` for all.

    A given `use_norm`, in unscaled units, is taken for the norm, whatever the entries are: it
    alone decides what is finite, and a NaN or inf among the entries is scaled like any other. An
    infinite one says no more than that the norm is beyond some range, and the entries decide.
    Source: Pascanu et al., 2013, arXiv:1211.5063.

    Returns:
        The clipped tensors, None where None was, and the norm before clipping.
    """
    treatment = Treatment(nonfinite, loss_scale)
    measured = use_norm is None or use_norm == math.inf
    own = treatment.unscaled(joint_norm(t_list, ord)) if measured else _given(use_norm)
    limit = threshold(clip_norm)
    results = [
        None if t is None else Tensor(t.shape, tuple(treatment.clip(t.values, own, limit)[0]))
        for t in t_list
    ]
    return results, to_exact(own)


def _given(use_norm: Real) -> Norm:
    if use_norm < 0:
        msg = f"`use_norm` must not be negative; got {use_norm!r}."
        raise ValueError(msg)
    if isinstance(use_norm, float) and not math.isfinite(use_norm):
        return use_norm
    return Root(Fraction(use_norm))
