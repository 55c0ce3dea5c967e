"""The way of every norm clip: measure, find the limits, decide, apply, give back.

In place a call decides first and writes last, so that everything that can fail has been done when
the first leaf is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from agclip._backends.fused import Decided, Details
from agclip._clipping import across, arguments, fused, merging, usual
from agclip._clipping.apply import overwrite, results
from agclip._clipping.decide import on_device, on_host, surely
from agclip._clipping.finite import require_finite
from agclip._clipping.measure import measure, measured, value_of, widened
from agclip._clipping.plan import Inputs, Plan, StaticArgs, static_args
from agclip._clipping.record import details, reported
from agclip._clipping.rows import Slices
from agclip._numerics.plain_norms import Singles
from agclip._numerics.ranges import Norm
from agclip._trees.leaves import Leaves, warn_empty
from agclip._trees.stand_in import standing_in
from agclip._typing import Array, Scalar, Tree


class Outcome(NamedTuple):
    """What a call has found and done; in place nothing has been written yet."""

    leaves: Leaves
    call: StaticArgs | None
    """None where there is nothing to write: of a tree without arrays, or one within its bound."""
    bound: Scalar | None
    """The bound as it was checked."""
    results: Sequence[Any] = ()
    """The new leaves; in place the decisions on the groups, or the one that a backend made."""
    norms: Sequence[Array] = ()
    """The norm before clipping, if there is but one, and no record that has it."""
    record: Details | None = None
    """With `Plan.record`: what has been done."""
    extra: Any = None
    """What `Plan.limits` returned besides the limits."""

    def tree(self) -> Tree:
        """Return the clipped tree."""
        return self.leaves.rebuild(self.results)

    def write(self) -> None:
        """Overwrite the leaves as has been decided."""
        if self.leaves.originals is not None:
            self.leaves.overwrite(self.results)
        elif self.call is not None and not (self.call.host and _idle(self.results)):
            self.leaves.backend.run(overwrite, (self.call,), (self.leaves.arrays, self.results))


_applies = attrgetter("applies")


def _idle(decisions: Sequence[Any]) -> bool:
    """Tell whether decisions of floats leave every group as it is."""
    return not any(map(_applies, decisions))


def run(
    leaves: Leaves,
    plan: Plan,
    name: str,
    bound: Any,
    loss_scale: Any,
    *,
    use_norm: Any = None,
    extra: Any = (),
    inplace: bool = False,
    empty: str = "nothing is clipped",
) -> Outcome:
    """Clip leaves by the norms of their groups; in place this decides, and `Outcome.write` writes.

    Args:
        leaves: The leaves.
        plan: What to do.
        name: The argument that the bound came in.
        bound: A number >= 0, or a 0-d array; None for no bound.
        loss_scale: The number > 0 that the leaves come in multiplied by; None for one.
        use_norm: The norm of the one group, if the caller has it.
        extra: What `Plan.limits` looks at besides.
        inplace: Whether the leaves are going to be overwritten.
        empty: What becomes of a tree without arrays: the end of the warning.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range; with `nonfinite="error"`, if the leaves are
            traced.
        FloatingPointError: With `nonfinite="error"`, if a leaf holds a NaN or an infinity.
    """
    ranks = None if use_norm is not None else plan.ranks
    if ranks is not None:
        leaves = taking_part(leaves, plan)
    try:
        bound = arguments.threshold(name, bound, leaves)
        if loss_scale is not None:
            loss_scale = arguments.positive("loss_scale", loss_scale, leaves)
        if use_norm is not None:
            use_norm = arguments.given_norm(plan.given or "use_norm", use_norm, leaves)
        if not leaves.arrays:
            warn_empty(leaves.name, empty)
            return Outcome(leaves, None, bound)
        limit = float("inf") if bound is None else bound
        numbers = limit, loss_scale, use_norm, extra
        alone = plan.joint and leaves.access == "free"
        if alone and (known := usual.found(leaves, plan, *numbers, inplace=inplace)):
            return _of_usual(leaves, bound, known)
        merged = None if leaves.sparse is None else merging.wide(leaves)
        inputs = Inputs(leaves.arrays, limit, loss_scale, use_norm, extra, merged)
        call = static_args(leaves, plan, inputs, inplace=inplace)
    except Exception:
        if ranks is not None and ranks.links:
            across.failed(leaves, plan)
        raise
    if ranks is not None and (ranks.links or leaves.measured is not None) and not ranks.inside:
        return _after_others(leaves, call, inputs, bound)
    if plan.nonfinite != "error":
        return Outcome(leaves, call, bound, *leaves.backend.run(program, (call,), (inputs,)))
    norms = leaves.backend.run(measure, (call,), (inputs,))
    require_finite(leaves, inputs, norms, plan.given or "use_norm")
    return Outcome(leaves, call, bound, *leaves.backend.run(finish, (call,), (norms, inputs)))


def _of_usual(leaves: Leaves, bound: Scalar | None, known: usual.Found) -> Outcome:
    """Return the outcome of a usual call, once its norm is known."""
    if known.within:
        return Outcome(leaves, None, bound, leaves.arrays, known.values, known.record, known.extra)
    inputs = Inputs(leaves.arrays, known.bound, extra=known.extra)
    if known.call.plan.nonfinite == "error":
        require_finite(leaves, inputs, known.norms)
    limit = ([known.bound], known.extra) if known.certain else None
    found = leaves.backend.run(finish, (known.call,), (known.norms, inputs, limit))
    return Outcome(leaves, known.call, bound, *found)


def taking_part(leaves: Leaves, plan: Plan) -> Leaves:
    """Return leaves that can take part in the norms of a plan, in which others may be waiting."""
    if leaves.arrays or plan.ranks is None or not plan.ranks.links:
        return leaves
    return standing_in(leaves)


def _after_others(
    leaves: Leaves, call: StaticArgs, inputs: Inputs, bound: Scalar | None
) -> Outcome:
    """Return the outcome of a call whose norms are those of other processes too."""
    call, norms = _reduced(leaves, call, inputs)
    return Outcome(leaves, call, bound, *leaves.backend.run(finish, (call,), (norms, inputs)))


def _reduced(leaves: Leaves, call: StaticArgs, inputs: Inputs) -> tuple[StaticArgs, Sequence[Norm]]:
    """Return the norms over all ranks, and the call with what is known of the dtypes there."""
    if leaves.measured is not None:
        inputs = inputs._replace(arrays=leaves.measured)
    held = not leaves.stand_in
    norms, kinds = across.measured(call, inputs, held=held)
    if call.plan.nonfinite == "error":
        require_finite(leaves, inputs, norms)
    # What follows is a program of this process, which a compiler may keep.
    plan = call.plan._replace(ranks=None)
    alone = call._replace(plan=plan, kinds=kinds if plan.joint else None)
    if norms[0].error:
        # Every rank comes to the same answer, and so takes the same vectors after it: it follows
        # from what has been reduced, and from numbers that are compared by the digest.
        sure = surely(alone, inputs.arrays, norms[0], inputs.bound, inputs.loss_scale)
        whole = norms[0]._replace(error=0.0) if sure else across.exactly(call, inputs, held=held)
        norms = [whole, *norms[1:]]
    return alone, norms


def program(
    call: StaticArgs, inputs: Inputs
) -> tuple[Sequence[Any], list[Scalar], Details | None, Any]:
    """Return what `Outcome` holds, from the arrays: a pure function."""
    decided, extra = fused.clip(call, inputs) if call.simple else (None, None)
    if decided is not None:
        return _of_backend(call, decided, extra)
    given = inputs.use_norm is not None or inputs.merged is not None
    found = measure(call, inputs) if given else measured(call, inputs.arrays)
    return finish(call, found, inputs)


def _of_backend(
    call: StaticArgs, decided: Decided, extra: Any
) -> tuple[Sequence[Any], list[Scalar], Details | None, Any]:
    made = [decided] if call.inplace else decided.new()
    return made, [] if decided.norm is None else [decided.norm], decided.details, extra


def finish(
    call: StaticArgs,
    norms: Sequence[Norm],
    inputs: Inputs,
    limit: tuple[list[Scalar], Any] | None = None,
) -> tuple[Sequence[Any], list[Scalar], Details | None, Any]:
    """Return the same from the norms, and from what `limits` returns, if that is known."""
    if not call.host:
        decided, extra = fused.by_norm(call, norms, inputs)
        if decided is not None:
            return _of_backend(call, decided, extra)
    arrays, plan, loss_scale = inputs.arrays, call.plan, inputs.loss_scale
    if loss_scale is not None:
        loss_scale = widened(call, arrays, loss_scale)
    bounds, extra = limits(call, norms, inputs) if limit is None else limit
    decide = on_host if call.host else on_device
    count = len(call.groups)
    norms, others = (
        (norms, norms.others)
        if isinstance(norms, (Singles, Slices))
        else (norms[:count], norms[count:])
    )
    made, settled = decide(call, arrays, norms, bounds, loss_scale)
    values, record = [], None
    if plan.record:
        record = details(call, arrays, made, settled, others, inputs.bound, loss_scale)
    elif plan.joint and not plan.per_example:
        values.append(value_of(call, arrays, settled[0], loss_scale))
    return results(call, arrays, made), values, record, extra


def limits(call: StaticArgs, norms: Sequence[Norm], inputs: Inputs) -> tuple[list[Scalar], Any]:
    """Return the limit of each group, and what the program returns besides."""
    plan = call.plan
    if plan.limits is not None:
        return plan.limits(call, norms, inputs)
    bound = inputs.bound if call.host else widened(call, inputs.arrays, inputs.bound)
    if plan.joint:
        return [bound], None
    if plan.weights is None:
        return [bound] * len(inputs.arrays), None
    return [bound * weight for weight in plan.weights], None


def norms(leaves: Leaves, plan: Plan, loss_scale: Any) -> tuple[Array, list[Array]]:
    """Return the norm of all leaves, and with `Plan.record` that of each, divided by a number."""
    merged = None if leaves.sparse is None else merging.wide(leaves)
    inputs = Inputs(leaves.arrays, loss_scale=loss_scale, merged=merged)
    call = static_args(leaves, plan, inputs, inplace=False)
    ranks, parted = plan.ranks, leaves.measured is not None
    if ranks is not None and (ranks.links or parted) and not ranks.inside:
        call, found = _reduced(leaves, call, inputs)
        return leaves.backend.run(reported, (call,), (found, inputs))
    if plan.nonfinite != "error":
        return leaves.backend.run(_norms, (call,), (inputs,))
    found = leaves.backend.run(measure, (call,), (inputs,))
    require_finite(leaves, inputs, found)
    return leaves.backend.run(reported, (call,), (found, inputs))


def _norms(call: StaticArgs, inputs: Inputs) -> tuple[Array, list[Array]]:
    found = fused.norms(call, inputs) if call.simple else None
    if found is not None:
        return found
    return reported(call, measure(call, inputs), inputs)
