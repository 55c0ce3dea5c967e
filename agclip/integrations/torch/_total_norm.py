"""The total norm as PyTorch clips by it: with 1e-6 in the denominator, and of any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from agclip._clipping import arguments, pipeline
from agclip._clipping.measure import unscaled_value, widened
from agclip._clipping.plan import Inputs, Plan, StaticArgs
from agclip._numerics.ranges import Norm
from agclip._trees.gather import gather
from agclip._trees.leaves import Leaves
from agclip._typing import Scalar
from agclip.integrations.torch._parameters import Parameters, gradients_of
from agclip.integrations.torch.errors import NonFiniteError

_R = TypeVar("_R")


class _WithEps(NamedTuple):
    """The limit c·n / (n + 1e-6), which makes the coefficient min(c / (n + 1e-6), 1)."""

    eps: float = 1e-6

    def __call__(
        self, call: StaticArgs, norms: Sequence[Norm], inputs: Inputs, /
    ) -> tuple[list[Scalar], Any]:
        """Return the limit of the one group; c where n is 0, infinite or NaN."""
        n = unscaled_value(call, norms[0], None)
        ratio = n / (n + self.eps)
        bound = widened(call, inputs.arrays, inputs.bound)
        return [bound * call.m.where(ratio > 0, ratio, 1.0)], None


_WITH_EPS = _WithEps()


def clip(
    parameters: Parameters,
    max_norm: Any,
    order: float = 2.0,
    *,
    given: Any = None,
    error: bool = False,
) -> torch.Tensor | None:
    """Clip gradients in place by their total norm, or by a given one; return it, None of none."""
    enabled = torch.is_grad_enabled()
    torch.set_grad_enabled(False)  # the context manager, or decorator, takes three times as long
    try:
        leaves = gradients_of(parameters)
        return None if leaves is None else _clip(leaves, max_norm, order, given, error=error)
    finally:
        torch.set_grad_enabled(enabled)


def _clip(leaves: Leaves, max_norm: Any, order: float, given: Any, *, error: bool) -> torch.Tensor:
    if given is None and order <= 0:
        leaves.require_dense("for an order <= 0")
        given, error = _quasi_norm(_whole(leaves), order, error=error), False
    plan = _plan(leaves, max_norm, order if given is None else 2.0, error=error)
    plan = plan._replace(joint=True, limits=_WITH_EPS, given="total_norm")

    def run() -> pipeline.Outcome:
        return pipeline.run(leaves, plan, "max_norm", max_norm, None, use_norm=given, inplace=True)

    outcome = _raising(run, order)
    outcome.write()
    return _as_given(leaves, outcome.norms[0])


@torch.no_grad()
def measure(tensors: list[torch.Tensor], order: float, *, error: bool) -> torch.Tensor:
    """Return the total norm of tensors."""
    leaves = gather(tensors, "tensors", listed=True)
    if order <= 0:
        leaves.require_dense("for an order <= 0")
        return _as_given(leaves, _quasi_norm(_whole(leaves), order, error=error))
    plan = _plan(leaves, math.inf, order, error=error)._replace(joint=True)
    return _as_given(leaves, _raising(lambda: pipeline.norms(leaves, plan, None)[0], order))


def _as_given(leaves: Leaves, norm: torch.Tensor) -> torch.Tensor:
    """Return a norm as a DTensor, the same on every rank, where the first gradient is one."""
    first: Any = leaves.held[0]
    if leaves.wholes is None or not hasattr(first, "device_mesh"):
        return norm
    from torch.distributed.tensor import DTensor, Replicate

    mesh = first.device_mesh
    return DTensor.from_local(norm, mesh, [Replicate()] * mesh.ndim, run_check=False)


def _whole(leaves: Leaves) -> Sequence[torch.Tensor]:
    """Return the gradients with what other ranks hold of them."""
    found: list[Any] = list(leaves.held)
    return [x.full_tensor() if hasattr(x, "full_tensor") else x for x in found]


def _plan(leaves: Leaves, bound: Any, order: float, *, error: bool) -> Plan:
    """Return what is asked for and, where nothing is, what is configured.

    It is not made joint here, which would warn of parameters among the leaves.
    """
    return arguments.options(leaves, bound, order, "error" if error else None)


def _raising(function: Callable[[], _R], order: float) -> _R:
    """Call a function, and raise what PyTorch raises where a gradient is not finite."""
    try:
        return function()
    except FloatingPointError as error:
        msg = (
            f"The total norm of order {order} for gradients from `parameters` is non-finite: "
            f"{error}"
        )
        raise NonFiniteError(msg) from None


def _quasi_norm(grads: Sequence[torch.Tensor], order: float, *, error: bool) -> torch.Tensor:
    """Return what PyTorch makes of an order <= 0: the order of the orders of the gradients."""
    of_order = torch.linalg.vector_norm
    each = [of_order(grad, order).to(grads[0].device) for grad in grads]
    total: torch.Tensor = of_order(torch.stack(each), order)
    if error and not total.isfinite():
        msg = (
            f"The total norm of order {order} for gradients from `parameters` is non-finite. Skip "
            "the step, or set `error_if_nonfinite=False`."
        )
        raise NonFiniteError(msg)
    return total
