"""The global norm of a tree, and clipping all leaves by it."""

from __future__ import annotations

from typing import Any

from agclip import config
from agclip._clipping import arguments, pipeline
from agclip._clipping.plan import Plan
from agclip._trees.default_backend import make
from agclip._trees.gather import gather
from agclip._trees.leaves import warn_empty
from agclip._trees.tree import materialised
from agclip._typing import Array, Bound, NonFinite, Number, Order, Replicas, T, Tree
from agclip.distributed import _telling
from agclip.distributed._joined import ranks_of

_EMPTY = "nothing is clipped, and the norm is 0"


def global_norm(
    t_list: Tree,
    ord: Order = 2,
    *,
    reproducible: bool | None = None,
    loss_scale: Any = None,
    comm: Any = None,
    replicas: Replicas = None,
) -> Array:
    """Return the norm of all leaves taken together.

    ```
    n = (Σ over all elements of all leaves |t_i|^ord)^(1/ord) / loss_scale
    ```

    It neither overflows nor underflows while it is representable itself, and is right to one unit
    in the last place for float32 and narrower leaves, to three for float64; with `ord` below 1 to
    three divided by `ord`.

    Args:
        t_list: A tree of real or complex floating-point arrays of any shape; None leaves are left
            out. A list at the top is a list of tensors.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.
        reproducible: Sum exactly, after one rounding of each term to a common grid: the norm has
            the same bits in every library and for every order of leaves, chunking and number of
            threads; None for what is configured.
        loss_scale: The positive number that `t_list` comes in multiplied by; None for one.
        comm: Who else holds leaves of the same tree: a communicator (a process group of
            `torch.distributed`, one of mpi4py, the name of an axis of a JAX mesh, a function
            `(vector, op)` that returns the sum or the maximum of the vectors of all ranks), or a
            list of them in turn; `()` for this process alone; None for what the types of the leaves
            tell, which is enough for DTensors and inside of `shard_map`.
        replicas: On how many ranks of `comm` each leaf is held: an integer, a dict of patterns of
            paths such as `{"embed*": 2}`, or a function `(path, leaf)`; 0 for a leaf that another
            rank counts. None for one each.

    Returns:
        A 0-d array of the leaves' library, its dtype the widest of float32 and the leaves' real
        dtypes. NaN if an element is NaN, infinite if one is infinite. An empty tree gives 0, of the
        configured library; where none is configured a NumPy scalar, which is a Python float too.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or if libraries are mixed.
        ValueError: If `ord` is not positive, or not 1, 2 or inf with `reproducible`; or `replicas`
            is wrong.
        NotImplementedError: If `reproducible` is asked for on a device without float64.
        RuntimeError: If a rank of `comm` has failed, or the ranks do not make the same call.

    Example:
        >>> float(agclip.global_norm([np.array([3.0]), np.array([4.0])]))
        5.0

    Source: TensorFlow's `tf.linalg.global_norm`.
    """
    try:
        leaves = gather(t_list, "t_list", listed=True)
        options = arguments.options(
            leaves, 1.0, ord, strict=False, reproducible=reproducible, linked=comm is None
        )
        plan = Plan(True, options.order, reproducible=options.reproducible, ranks=options.ranks)
        loss_scale = arguments.positive("loss_scale", loss_scale, leaves)
        if comm is not None or replicas is not None:
            plan = plan._replace(ranks=ranks_of(leaves, comm, replicas))
            leaves = pipeline.taking_part(leaves, plan)
    except Exception:
        if comm is not None:
            _telling.failed(comm, ord, reproducible)
        raise
    if not leaves.arrays:
        warn_empty(leaves.name, "the norm is 0")
        return _zero()
    return leaves.own(pipeline.norms(leaves, plan, loss_scale)[0])


def clip_by_global_norm(
    t_list: T,
    clip_norm: Bound,
    use_norm: Number | None = None,
    *,
    ord: Order = 2,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
    comm: Any = None,
    replicas: Replicas = None,
) -> tuple[T, Array]:
    """Clip all leaves by one coefficient, so that their global norm is within a bound.

    ```
    n = global_norm(t_list, ord)
    out_i = t_i · clip_norm / n  if n > clip_norm  else  t_i
    ```

    Within the bound the leaves keep their bits; where values can be read for nothing (NumPy,
    PyTorch on the CPU) the very same leaves are returned. The direction of the gradient is kept.
    The norm neither overflows nor underflows.

    Args:
        t_list: A tree of real or complex floating-point arrays of any shape; None leaves stay None.
            A list at the top is a list of tensors.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        use_norm: The global norm if it has been computed already, as this function returns it. An
            infinite one, which may be beyond the range of its dtype, is measured again.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.
        nonfinite: What becomes of the leaves if one element is NaN or infinite: "propagate" makes
            every element of every leaf NaN, "error" raises, "zero" zeroes them, "skip" leaves them;
            None for what is configured, which is "propagate" by default.
        strict: Shrink the coefficient by a few units of roundoff (2.25 of float32, 16 of float64,
            one more of a half type), so that the exact norm of the result is within the bound and
            clipping twice changes no bit; None for what is configured.
        reproducible: Sum exactly, after one rounding of each term to a common grid: the norm has
            the same bits in every library and for every order of leaves, chunking and number of
            threads; None for what is configured.
        loss_scale: The positive number that `t_list` comes in multiplied by; the leaves go out
            divided by it, and the norms are those of the divided leaves.
        comm: Who else holds leaves of the same tree: a communicator (a process group of
            `torch.distributed`, one of mpi4py, the name of an axis of a JAX mesh, a function
            `(vector, op)` that returns the sum or the maximum of the vectors of all ranks), or a
            list of them in turn; `()` for this process alone; None for what the types of the leaves
            tell, which is enough for DTensors and inside of `shard_map`.
        replicas: On how many ranks of `comm` each leaf is held: an integer, a dict of patterns of
            paths such as `{"embed*": 2}`, or a function `(path, leaf)`; 0 for a leaf that another
            rank counts. None for one each.

    Returns:
        The same tree with leaves of the same library, shape, dtype and device; and the norm before
        clipping, as `global_norm` returns it.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, if libraries are mixed, or if
            `clip_norm` or `use_norm` is not a number.
        ValueError: If `clip_norm` or `use_norm` is negative or not a scalar, or `clip_norm` is NaN.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.
        RuntimeError: If a rank of `comm` has failed, or the ranks do not make the same call.

    Example:
        >>> clipped, norm = agclip.clip_by_global_norm([np.array([3.0]), np.array([4.0])], 2.5)
        >>> [x.tolist() for x in clipped], float(norm)
        ([[1.5], [2.0]], 5.0)

    Source: TensorFlow's `tf.clip_by_global_norm`; R. Pascanu, T. Mikolov, Y. Bengio, "On the
    difficulty of training recurrent neural networks", 2013, arXiv:1211.5063.
    """
    try:
        leaves = gather(t_list, "t_list", listed=True)
        options = ord, nonfinite, strict, reproducible
        plan = arguments.options(leaves, clip_norm, *options, joint=True, linked=comm is None)
        if comm is not None or replicas is not None:
            plan = plan._replace(ranks=ranks_of(leaves, comm, replicas))
    except Exception:
        if comm is not None and use_norm is None:
            _telling.failed(comm, ord, reproducible)
        raise
    outcome = pipeline.run(
        leaves, plan, "clip_norm", clip_norm, loss_scale, use_norm=use_norm, empty=_EMPTY
    )
    return outcome.tree(), _norm(outcome)


def clip_by_global_norm_(
    t_list: T,
    clip_norm: Bound,
    use_norm: Number | None = None,
    *,
    ord: Order = 2,
    nonfinite: NonFinite | None = None,
    strict: bool | None = None,
    reproducible: bool | None = None,
    loss_scale: Number | None = None,
    comm: Any = None,
    replicas: Replicas = None,
) -> tuple[T, Array]:
    """Clip all leaves by one coefficient, in place.

    As `clip_by_global_norm`, but the leaves are overwritten. Nothing is written unless every check
    holds; an array that the tree holds twice is counted twice and multiplied once.

    Args:
        t_list: A tree of arrays that can be written.
        clip_norm: The bound: a number >= 0 or a 0-d array; infinity or None for no bound.
        use_norm: The global norm before clipping, if it has been computed already.
        ord: The order of the norm: a number > 0, `inf` or "inf" for the largest absolute value.
        nonfinite: What becomes of the leaves with a NaN or an infinity: "propagate", "error",
            "zero" or "skip"; None for what is configured.
        strict: Whether the exact norm of the result is kept within the bound; None for what is
            configured.
        reproducible: Whether the norm has the same bits from every library, order and thread count;
            None for what is configured.
        loss_scale: The positive number that `t_list` comes in multiplied by; it goes out divided by
            it.
        comm: Who else holds leaves of the same tree: a communicator, a list of them, or `()` for
            this process alone; None for what the types of the leaves tell.
        replicas: On how many ranks of `comm` each leaf is held; None for one each.

    Returns:
        `t_list` itself, and the norm before clipping.

    Raises:
        TypeError: If a leaf is an integer, bool or no array, or cannot be overwritten, if libraries
            are mixed, or if `clip_norm` is not a number.
        ValueError: If `clip_norm` or `use_norm` is negative or not a scalar, or `clip_norm` is NaN.
        FloatingPointError: If a leaf is not finite and `nonfinite` is "error".
        NotImplementedError: If `reproducible` is asked for on a device without float64.
        RuntimeError: If a rank of `comm` has failed, or the ranks do not make the same call.

    Example:
        >>> grads = [np.array([3.0]), np.array([4.0])]
        >>> _, norm = agclip.clip_by_global_norm_(grads, 2.5)
        >>> [x.tolist() for x in grads], float(norm)
        ([[1.5], [2.0]], 5.0)
    """
    t_list = materialised(t_list)
    try:
        leaves = gather(t_list, "t_list", listed=True, inplace=True)
        options = ord, nonfinite, strict, reproducible
        plan = arguments.options(leaves, clip_norm, *options, joint=True, linked=comm is None)
        if comm is not None or replicas is not None:
            plan = plan._replace(ranks=ranks_of(leaves, comm, replicas))
    except Exception:
        if comm is not None and use_norm is None:
            _telling.failed(comm, ord, reproducible)
        raise
    outcome = pipeline.run(
        leaves,
        plan,
        "clip_norm",
        clip_norm,
        loss_scale,
        use_norm=use_norm,
        inplace=True,
        empty=_EMPTY,
    )
    norm = _norm(outcome)
    outcome.write()
    return t_list, norm


def _norm(outcome: pipeline.Outcome) -> Array:
    if not outcome.norms:
        return _zero()
    norm = outcome.norms[0]
    return norm if outcome.leaves.originals is None else outcome.leaves.own(norm)


def _zero() -> Array:
    """Return the norm of nothing: of the configured library, or a number that goes with all."""
    if config.current().backend == "auto":
        # A scalar of the default library, which is a Python float too.
        return make(0.0, "float64")[()]
    return make(0.0, "float32")
