"""Clipping each example's gradient and summing: the bounded sum of private training."""

from __future__ import annotations

from agclip._clipping import arguments, axis_arguments, pipeline
from agclip._trees.default_backend import make
from agclip._trees.gather import gather
from agclip._typing import Array, Bound, NonFinite, Number, T


def clip_per_example(
    grads: T,
    clip_norm: Bound,
    *,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
) -> tuple[T, Array]:
    """Clip the gradient of every example by its global L2 norm, and sum over the examples.

    ```
    n_b = sqrt(Σ over all leaves |g_b|²)
    out = Σ_b g_b · min(1, clip_norm / n_b)
    ```

    One example changes the sum by at most `clip_norm`: what differentially private training adds
    noise to. Products and sums are formed in float64 where the device has it, and rounded once.

    Args:
        grads: A tree of real or complex floating-point arrays whose leading axis is the example,
            of the same length in every leaf.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        nonfinite: What becomes of an example with a NaN or an infinity: "propagate" makes the sum
            NaN, "error" raises, "zero" leaves the example out, "skip" adds it as it is; None for
            what is configured, which is "propagate" by default.
        strict: Whether the exact norm of an example is kept within the bound; without it one may
            exceed it by a rounding. None for what is configured.
        reproducible: Whether norms and coefficients have the same bits from every library; the sum
            over examples is an ordinary one. None for what is configured.
        loss_scale: The positive number that `grads` comes in multiplied by.

    Returns:
        The same tree with leaves one axis shorter; and the number of examples that were clipped or
        not finite, a 0-d int32 array.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or if libraries are mixed.
        ValueError: If a leaf has no leading axis or another length, or `clip_norm` is negative, NaN
            or not a scalar.
        FloatingPointError: If an example is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.

    Example:
        >>> total, clipped = agclip.clip_per_example(np.array([[3.0, 4.0], [0.0, 1.0]]), 2.5)
        >>> total.tolist(), int(clipped)
        ([1.5, 3.0], 1)

    Source: M. Abadi et al., "Deep learning with differential privacy", 2016, arXiv:1607.00133,
    algorithm 1; optax's `per_example_global_norm_clip`.
    """
    leaves = gather(grads, "grads")
    plan = arguments.options(leaves, clip_norm, 2, nonfinite, strict, reproducible, linked=False)
    axis_arguments.require_examples(leaves)
    plan = plan._replace(joint=True, per_example=True)
    outcome = pipeline.run(leaves, plan, "clip_norm", clip_norm, loss_scale)
    if not leaves.arrays:
        return outcome.tree(), make(0, "int32")
    *sums, count = outcome.results
    # A sum of NumPy is a scalar; the count is promised to be a 0-d array.
    return leaves.rebuild(sums), leaves.own(leaves.backend.xp.asarray(count))
