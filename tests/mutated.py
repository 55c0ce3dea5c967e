"""The lines of the package that `mutations.py` breaks, by what goes wrong then."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A line, what it becomes, and the arguments of pytest for the tests that should see it."""

    line: str
    broken: str
    tests: str


NEW = "tests/conformance/test_matrix.py::test_new_arrays_are_what_the_oracle_says"
IN_PLACE = (
    "tests/conformance/test_matrix.py::"
    "test_in_place_is_new_to_the_bit_and_so_are_states_and_records"
)
CHECK = "tests/conformance/test_conformance.py::TestEveryLibrary::test_check"
STRICT = "tests/conformance/test_strict.py"
EXACT = "tests/numerics/test_exact.py"
ROUNDING = "tests/ranks/test_rounding_over_ranks.py"
KERAS = "tests/integrations/keras/test_keras_on_{}.py"
RANKS = "tests/ranks/test_protocol.py"
FOLD = "tests/integrations/torch/test_fold.py"
SPARSE = "tests/functions/test_sparse.py"
TEAM = "tests/backends/test_host_team.py"
COMPILER = "tests/backends/test_host_compiler.py"
BACKGROUND = "tests/backends/test_host_background.py"
CACHE = "tests/backends/test_host_cache.py"
MUTATIONS = {
    "JAX: the examples that fill no piece are left out": Mutation(
        "    result: Array = summed + backend.xp.sum(last, axis=0)\n",
        "    result: Array = summed\n",
        "tests/backends/test_jax_rows.py",
    ),
    "JAX: where streams overlap elements count twice": Mutation(
        "    if again and by.once:\n",
        "    if not again and by.once:\n",
        "tests/backends/test_jax_programs.py -k norms_of_leaves_of_one_size",
    ),
    "JAX: leaves whose norms are wanted are read once more": Mutation(
        "        sums = list(sums)  # a backend",
        "        sums = found  # a backend",
        "tests/backends/test_jax_programs.py -k wanted",
    ),
    "clip by value: a compiler flushes subnormal elements": Mutation(
        "        return xp.where(xp.equal(clipped, y), y, clipped)\n",
        "        return clipped\n",
        "tests/backends/test_jax_programs.py -k keeps_its_bits",
    ),
    "TensorFlow: XLA compiles for every length": Mutation(
        "for length, _ in elements.most_common(_PROGRAMS))",
        "for length, _ in elements.most_common())",
        "tests/backends/test_tensorflow_programs.py",
    ),
    "TensorFlow: a thousand leaves have branches of their own": Mutation(
        "if len(leaves) <= FEW:",
        "if len(leaves) <= 10**6:",
        "tests/backends/test_tensorflow_programs.py",
    ),
    "the usual way: a strict bound is as wide as another": Mutation(
        'limit = bound * STRICT_MARGIN["float64"] if plan.strict else bound',
        "limit = bound",
        "tests/clipping/test_usual.py",
    ),
    "the usual way: a norm next to its bound is within it": Mutation(
        "if not rounding.certain_range(root, error)[1] <= limit:",
        "if not rounding.certain_range(root, error)[0] <= limit:",
        "tests/clipping/test_usual.py",
    ),
    "the usual way: a norm beyond float32 is reported as it is": Mutation(
        "shown = root if root < FLOAT32_OVERFLOW else math.inf",
        "shown = root",
        "tests/clipping/test_usual.py",
    ),
    "DLPack: gaps are no gaps": Mutation(
        "if elements and not (address and _fills(shape, strides)):",
        "if elements and not address:",
        "tests/backends/test_host_dlpack.py",
    ),
    "what PyTorch negates is read as stored": Mutation(
        "    as_stored=lambda leaves: True not in map(_is_neg, leaves),\n",
        "",
        "tests/backends/test_host_complex.py -k negates",
    ),
    "TensorFlow: each leaf is traced by itself": Mutation(
        "_LEAST = 32\n",
        "_LEAST = 10**6\n",
        "tests/backends/test_tensorflow_programs.py -k 'operations or called_for'",
    ),
    "in place: NumPy's product goes elsewhere": Mutation(
        "        multiply(leaf, factor, leaf)\n",
        "        multiply(leaf, factor, np.empty_like(leaf))\n",
        f"{IN_PLACE} -k numpy-plain",
    ),
    "in place: the clipper returns new arrays": Mutation(
        "step(self.rule, grads, state, params, inplace=self.inplace)",
        "step(self.rule, grads, state, params, inplace=False)",
        "tests/rules/test_clipper.py",
    ),
    "foreign and in place: nothing is written": Mutation(
        "            if new is not original:\n                kernels.write(original, new)",
        "            if new is original:\n                kernels.write(original, new)",
        f"{IN_PLACE} -k numpy-foreign",
    ),
    "foreign: given back without its dtype": Mutation(
        "owner.restore(original, kernels.cast(owner.xp, new, original.dtype))",
        "owner.restore(original, new)",
        "tests/config/test_config_foreign.py",
    ),
    "memory: numbers that floats do not hold are computed with as floats": Mutation(
        "        if exact is None:\n            return None\n",
        "        exact = exact or float\n",
        "tests/rules/test_rules_floats.py",
    ),
    "memory: numbers are gone on with although their arrays are in other hands": Mutation(
        "if self._arrays is not None or backend is not self._backend",
        "if backend is not self._backend",
        "tests/rules/test_clipper_kept.py -k written",
    ),
    "memory: a history is written to that a failed step begins with again": Mutation(
        "values, ranked = values.copy(), ranked.copy()",
        "pass",
        "tests/rules/test_clipper_kept.py -k fails",
    ),
    "memory: a float32 that a rule is made with makes its statistics one": Mutation(
        "tuple(map(float, numbers)), self._remembered)",
        "numbers, self._remembered)",
        "tests/rules/test_rules_floats.py",
    ),
    "memory: the norm enters unrounded": Mutation(
        "return value if double else host_scalars.float32(value)",
        "return value",
        "tests/rules/test_rules_floats.py",
    ),
    "PyTorch: a name leads to one parameter alone": Mutation(
        "        if len(set(keys)) < len(grads):\n            keys = range(len(grads))\n",
        "",
        "tests/integrations/torch/test_parameters.py",
    ),
    "loss scale: not divided by within the bound": Mutation(
        "applies = exceeds if loss_scale is None else exceeds | m.logical_not(exceeds)",
        "applies = exceeds",
        "tests/functions/test_loss_scale_range.py",
    ),
    "loss scale: an infinite factor": Mutation(
        "rest = m.where(rest > _LARGEST[acc_dtype], _LARGEST[acc_dtype], rest)",
        "rest = rest * 1.0",
        "tests/functions/test_loss_scale_range.py::"
        "test_a_scale_below_the_range_of_a_device_without_float64_keeps_zeros",
    ),
    "strict: no margin for the computed norm": Mutation(
        "margin = STRICT_MARGIN[terms.acc_dtype] if terms.shrink < 1.0 else 1.0",
        "margin = 1.0",
        f"{STRICT}::test_a_norm_that_rounds_to_the_bound_is_above_it",
    ),
    "strict: half types are not rounded once more": Mutation(
        "return shrink - coarsest * (1.0 + 2.0**-9)",
        "return shrink - 0.0 * coarsest",
        f"{STRICT}::test_half_types_are_never_above_in_their_normal_range",
    ),
    "non-finite: `skip` scales": Mutation(
        'exceeds = clipped if terms.policy == "skip" else over | m.logical_not(finite)',
        "exceeds = over | m.logical_not(finite)",
        f"{CHECK} -k 'clip_per_example and skip and numpy'",
    ),
    "non-finite: `propagate` leaves numbers": Mutation(
        'if terms.policy in ("propagate", "error"):\n        rest',
        'if terms.policy in ("error",):\n        rest',
        f"{NEW} -k numpy-nan",
    ),
    "reproducible: the rounding test is always sure": Mutation(
        "return value * (1.0 - margin), value * (1.0 + margin)",
        "return value, value",
        f"{EXACT}::test_a_bound_that_is_the_norm_is_always_left_to_the_exact_norm",
    ),
    "reproducible: a part is added twice": Mutation(
        "            rest = rest - parts[-1]\n",
        "            rest = rest - parts[-1] * 0.5\n",
        f"{EXACT}::test_the_norm_is_the_defined_number -k numpy",
    ),
    "subnormals: a small coefficient in one step": Mutation(
        "    for left, right, power in limits.tiny:\n",
        "    for left, right, power in limits.tiny[:0]:\n",
        f"{CHECK} -k 'numpy and (1e-320 or apart)'",
    ),
    "subnormals: sums that underflow are trusted": Mutation(
        "small, big = plain < limits.low, plain >= math.inf",
        "small, big = plain < 0.0, plain >= math.inf",
        f"{CHECK} -k 'size and float64 and numpy'",
    ),
    "shared memory: written twice": Mutation(
        "        if len(keys) < len(some):\n",
        "        if not some:\n",
        f"{IN_PLACE} -k numpy-shared",
    ),
    "shared memory: a part of another leaf's": Mutation(
        "            if _memory.overlap(place[0], other[0]):\n",
        "            if place[0] == other[0]:\n",
        "tests/trees/test_shared_memory.py",
    ),
    "configuration: files count more than the program": Mutation(
        "merged(*_process.read, _process.assigned)\n",
        "merged(_process.assigned, *_process.read)\n",
        "tests/config/test_config.py",
    ),
    "configuration: a context ends for nobody else": Mutation(
        "            overlay.closed = True\n",
        "            overlay.closed = False\n",
        "tests/config/test_config_elsewhere.py",
    ),
    "state: other keys are taken": Mutation(
        "if saved and set(saved) - optional != set(layout):",
        "if saved and not set(saved):",
        "tests/rules/test_clipper_saving.py",
    ),
    "state: an infinite norm is remembered": Mutation(
        "fits = self.kind is None or self.kind.holds(_checks.as_float(value))",
        "fits = True",
        "tests/rules/test_clipper_saving.py",
    ),
    "rule: an infinity enters the history": Mutation(
        "    enters = xp.isfinite(norm) & (norm > 0)\n",
        "    enters = norm > 0\n",
        f"{NEW} -k 'AutoClip and numpy-inf'",
    ),
    "rule: a norm of zero enters the mean": Mutation(
        "    usual = m.isfinite(norm) & (norm > 0)\n",
        "    usual = m.isfinite(norm)\n",
        "tests/rules/test_rules_zeros.py",
    ),
    "rule: the average norm is that of another rule": Mutation(
        'return {"weights": weights.of_leaves(leaves, weights.size)}',
        'return {"weights": weights.of_leaves(leaves, weights.root_size)}',
        f"{NEW} -k 'ClipByAverageNorm and numpy-plain'",
    ),
    "rule: a product is merged with the sum it goes into": Mutation(
        "    return m.maximum(product, m.full_like(product, 0.0))\n",
        "    return product\n",
        "tests/rules/test_rules_memory.py::test_every_library_has_the_same_thresholds_to_the_bit",
    ),
    "rule: a state holds the graph of earlier steps": Mutation(
        'return state.detach() if hasattr(state, "detach") else state',
        "return state",
        "tests/rules/test_rules_memory.py::test_the_state_keeps_no_graph_alive",
    ),
    "rule: a state of another library is taken": Mutation(
        "if owner is not backend and owner != backend:",
        "if owner is None:",
        "tests/rules/test_rules_states.py::test_gradients_of_another_library_are_refused",
    ),
    "record: norms of leaves are scalars, not arrays": Mutation(
        'if hasattr(xp, "unstack") and type(vector[0]) is type(vector):',
        'if hasattr(xp, "unstack"):',
        "tests/rules/test_rules_records.py",
    ),
    "record: the path of an equal key is taken": Mutation(
        'if structure.key_format != "{}" and set(map(type, structure.keys)) == {str}:',
        'if structure.key_format != "{}":',
        "tests/rules/test_rules_records.py",
    ),
    "clipper: a step without arrays forgets what was loaded": Mutation(
        "        if started:\n            self._state, self._saved = taken.state, None\n",
        "        if True:\n            self._state, self._saved = taken.state, None\n",
        "tests/rules/test_clipper_saving.py::test_a_step_without_gradients_keeps_what_was_loaded",
    ),
    "shards: a part of an array is taken for the whole": Mutation(
        "found = self.backend.partial(self.arrays)",
        "found = None",
        "tests/backends/test_jax_shards.py",
    ),
    "numbers: a truth value is one": Mutation(
        "isinstance(value, numbers.Real) and not isinstance(value, bool)",
        "isinstance(value, numbers.Real)",
        "tests/test_checks.py",
    ),
    "a device: memory that a graph reads is let go": Mutation(
        "            self._kept.append(memory)\n",
        "            pass\n",
        "tests/backends/test_cupy_slices.py -k graph",
    ),
    "a device: what lies at known addresses is taken for known": Mutation(
        "    if kept is not None and kept.rest == read.rest:\n",
        "    if kept is not None:\n",
        "tests/backends/test_resident_read.py -k 'told_apart or comes_to_lie'",
    ),
    "a device: hundreds of lists of one leaf are forgotten in turns": Mutation(
        "MOST_LISTS = 1024\n",
        "MOST_LISTS = 64\n",
        "tests/clipping/test_device_calls.py -k one_by_one",
    ),
    "a device: a record shows another word for its bound": Mutation(
        "            details = details._replace(threshold=report[-1])\n",
        "            details = details._replace(threshold=report[-2])\n",
        "tests/backends/test_fused_report.py -k 'as_it_was_given'",
    ),
    "CuPy: arrays at known addresses are taken for known": Mutation(
        "    if known is None or (known.sizes, known.dtypes) != (sizes, dtypes):\n",
        "    if known is None:\n",
        "tests/clipping/test_cupy_calls.py -k told_apart",
    ),
    "fused: the margin of `strict` is left out": Mutation(
        "    if not call.plan.strict:\n        return None\n",
        "    if call.plan:\n        return None\n",
        "tests/backends/test_fused_seam.py -k 'ClipByGlobalNorm and bfloat16'",
    ),
    "PyTorch: its own square root": Mutation(
        "return root + torch.where(positive, (r + remainder / (2.0 * r)) - r, 0.0)",
        "return root",
        "tests/backends/test_canaries.py -k square_root",
    ),
    "PyTorch: several entries in one place are written": Mutation(
        "    if adapters.overlaps_itself(x.shape, x.stride(), 1):\n",
        "    if adapters.overlaps_itself(x.shape, x.stride(), 0):\n",
        "tests/backends/test_host_torch.py",
    ),
    "registry: a library that inherits is another's": Mutation(
        '        if "__array_namespace__" in vars(base):\n            # A library',
        '        if "__no_namespace__" in vars(base):\n            # A library',
        "tests/backends/test_registry.py",
    ),
    "registry: a blocked library is used": Mutation(
        "reason = entry_points.blocked(name) or _missing(entry)\n",
        "reason = _missing(entry)\n",
        "tests/config/test_config_environment.py tests/config/test_config_backend.py",
    ),
    "trees: a bound enlarges a leaf": Mutation(
        "return len(bound) <= len(leaf) and all(None in (b, n) or b in (1, n) for b, n in pairs)",
        "return len(bound) <= len(leaf)",
        "tests/test_bad_input.py::test_bounds_are_numbers_in_order",
    ),
    "command line: a file that is cut short": Mutation(
        "        if length != self._length:\n",
        "        if length < 0:\n",
        "tests/cli/test_cli_file_writing.py",
    ),
    "command line: a link that somebody planted is followed": Mutation(
        "flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL\n",
        "flags = os.O_WRONLY | os.O_CREAT\n",
        "tests/cli/test_cli_file_writing.py",
    ),
    "installed: the first of two contexts to end takes all back": Mutation(
        "        wanted = self.kept or self.contexts > 0\n",
        "        wanted = self.kept or self.contexts > 1\n",
        "tests/integrations/torch/test_installed.py",
    ),
    "installed: what another has put there since is lost": Mutation(
        "            _require_untouched()\n",
        "",
        "tests/integrations/torch/test_installed.py",
    ),
    "installed: PyTorch's own function measures as before": Mutation(
        '    (_torch_clip_grad, "_get_total_norm", get_total_norm),\n',
        "",
        "tests/integrations/torch/test_installed.py",
    ),
    "trainers: a step without gradients counts": Mutation(
        "    if all(grad is None for grad in grads.values()):\n        return None\n",
        "",
        "tests/integrations/test_lightning.py",
    ),
    "trainers: scaled gradients are clipped": Mutation(
        "    if is_scaled(optimizer, scaler):\n        scaler.unscale_(optimizer)\n",
        "    pass\n",
        "tests/integrations/test_lightning.py",
    ),
    "Lightning: the checkpoint lacks the state": Mutation(
        "            checkpoint[_KEY] = saved\n",
        "            pass\n",
        "tests/integrations/test_lightning.py",
    ),
    "Lightning: all optimizers share a memory": Mutation(
        "self._clippers(rule, len(optimizers))[index]",
        "self._clippers(rule, len(optimizers))[0]",
        "tests/integrations/test_lightning.py",
    ),
    "Accelerate: gradients are clipped before they are accumulated": Mutation(
        "    if not accelerator.sync_gradients:\n        return None\n",
        "",
        "tests/integrations/test_accelerate.py",
    ),
    "Transformers: a run that is resumed begins anew": Mutation(
        "        if state.global_step:\n",
        "        if False:\n",
        "tests/integrations/test_transformers.py",
    ),
    "optax: a state in float64, where JAX has none": Mutation(
        "    dtype = jax.dtypes.canonicalize_dtype(x.dtype if dtype is None else dtype)\n"
        "    return jax.lax.convert_element_type(x, dtype)\n",
        "    return x\n",
        "tests/integrations/optax/test_optax_state.py",
    ),
    "optax: a state in the dtypes of the gradients": Mutation(
        "made = jax.tree.map(lambda x, y: _canonical(x, y.dtype), new, old)",
        "made = jax.tree.map(_canonical, new)",
        "tests/integrations/optax/test_optax_state.py",
    ),
    "optax: arrays in boxes have another path": Mutation(
        "path[:-1] if path and path[-1] == _BOXED and siblings[path[:-1]] == 1 else path",
        "path",
        "tests/integrations/optax/test_optax_state.py",
    ),
    "optax: keys that read alike are one leaf": Mutation(
        "name if count[name] == 1 else jax.tree_util.keystr(path)",
        "name",
        "tests/integrations/optax/test_optax_state.py",
    ),
    "optax: a state that grows": Mutation(
        "return any(None in (numbers.shape or ()) for numbers in _parts(layout_of(rule)))",
        "return not layout_of(rule) and rule is None",
        "tests/messages/test_messages.py -k optax",
    ),
    "optax: the first axis of kernels is their unit": Mutation(
        "    return (0,) if leaf.ndim <= 3 else tuple(range(leaf.ndim - 1))\n",
        "    return (0,)\n",
        "tests/integrations/optax/test_optax_moving.py -k units",
    ),
    "documentation: another number is printed": Mutation(
        "(1.258, 1.8750025)",
        "(1.259, 1.8750025)",
        "docs/rules/zclip.md",
    ),
    "documentation: another default": Mutation(
        "| `alpha`, 0.97 |",
        "| `alpha`, 0.98 |",
        "tests/rules/test_rules_docs.py",
    ),
    "TensorFlow: Grappler sees a comparison with NaN": Mutation(
        "return where(x, tf.constant(False), tf.constant(True))",
        "return tf.logical_not(x)",
        "tests/backends/test_tensorflow_canaries.py -k nan",
    ),
    "TensorFlow: one product of two": Mutation(
        "y = y if inverse is None else tf.raw_ops.RealDiv(x=y, y=inverse)",
        "y = y if inverse is None else y * (1.0 / inverse)",
        "tests/backends/test_tensorflow_canaries.py -k 'coefficient or loss_scale'",
    ),
    "TensorFlow: a constant factor": Mutation(
        "return tf.where(never, tf.ones_like(x), x)",
        "return x",
        "tests/backends/test_tensorflow_canaries.py -k 'coefficient or loss_scale'",
    ),
    "TensorFlow: XLA loses a NaN": Mutation(
        "return where(missing, math.nan, found)",
        "return found",
        "tests/backends/test_tensorflow_canaries.py -k maximum",
    ),
    "TensorFlow: float64 in a row": Mutation(
        "cast(x, dtype)\n    if axis is None and not keepdims:\n        return sums.whole(y)\n",
        "cast(x, dtype)\n    if axis is None and not keepdims:\n        return tf.reduce_sum(y)\n",
        "tests/backends/test_tensorflow_canaries.py -k 'row or unknown_length'",
    ),
    "TensorFlow: halves of squares": Mutation(
        "tf.unstack(2.0 * tf.stack(found)",
        "tf.unstack(1.0 * tf.stack(found)",
        "tests/backends/test_tensorflow_clip_ops.py -k 'documents and function'",
    ),
    "TensorFlow: some scalars of a vector are all of it": Mutation(
        "    return source.inputs[0] if same else None\n",
        "    return source.inputs[0] if same or True else None\n",
        "tests/backends/test_tensorflow_graphs.py -k scalars",
    ),
    "TensorFlow: a branch that is a constant": Mutation(
        'set() if op.type.endswith("If") else {',
        'set() if op.type.endswith("Or") else {',
        "tests/backends/test_tensorflow_canaries.py -k coefficient",
    ),
    "TensorFlow: a zero has the sign of another": Mutation(
        "            return memory.tensor(made)\n",
        "            return tf.constant(made.tolist(), made.dtype)\n",
        "tests/backends/test_tensorflow_canaries.py -k zeros",
    ),
    "TensorFlow: a variable is no array": Mutation(
        "    if not any(map(_is_variable, types)):\n        return objects\n",
        "    if types:\n        return objects\n",
        "tests/backends/test_tensorflow.py -k variable",
    ),
    "unknown length: the maximum of nothing": Mutation(
        "return xp.where(largest < 0, xp.zeros_like(largest), largest)",
        "return largest",
        "tests/backends/test_tensorflow.py -k no_entries",
    ),
    "AutoGraph: no mark on methods": Mutation(
        "                    _mark_class(base)\n",
        "                    pass\n",
        "tests/backends/test_tensorflow.py -k 'marked or autograph'",
    ),
    "attach: what is handed over forgets the loss scale": Mutation(
        "return (whole / coefficient).to(torch.float32)",
        "return (1.0 / coefficient).to(torch.float32)",
        f"{FOLD} -k 'global-adamw-fused-scaler'",
    ),
    "attach: a step that is skipped moves the state": Mutation(
        "torch.where(overflow.to(new.device) > 0, old, new)",
        "torch.where(overflow.to(new.device) < 0, old, new)",
        f"{FOLD} -k nothing_is_read",
    ),
    "attach: the coefficient is left on the optimizer": Mutation(
        "if name != _GIVEN and (name not in given or given[name] is not value)",
        "if name != _GIVEN",
        f"{FOLD} -k fused",
    ),
    "attach: a first step is skipped by the optimizer": Mutation(
        "scaling.known_overflow(wait=unborn or",
        "scaling.known_overflow(wait=",
        f"{FOLD} -k first_step",
    ),
    "attach: a copy is not attached": Mutation(
        "    attached._bind(optimizer)\n    return optimizer",
        "    return optimizer",
        "tests/integrations/torch/test_attach_saving.py -k copy",
    ),
    "history: a norm is compared as it is measured": Mutation(
        "if self.remembered and not call.plan.strict else bound",
        "if self.remembered and call.plan.strict else bound",
        "tests/rules/test_rules_history.py",
    ),
    "history: a leaf's average is compared with its norm as measured": Mutation(
        "        bound = allowing(xp, n, bound)\n",
        "        pass\n",
        "tests/rules/test_rules_history.py",
    ),
    "registrations: a class of arrays stays one": Mutation(
        "    _containers[cls] = (flatten, unflatten)\n    registry.forget_types()\n",
        "    _containers[cls] = (flatten, unflatten)\n",
        "tests/trees/test_registrations.py",
    ),
    "registrations: a call enters a class again": Mutation(
        "if found is None and cls not in CONTAINERS and _looks_like_an_array(x):",
        "if found is None and _looks_like_an_array(x):",
        "tests/trees/test_registrations.py",
    ),
    "metadata: without it there are no adapters": Mutation(
        "for entry in (*entry_points(group=group), *ours):",
        "for entry in entry_points(group=group):",
        "tests/backends/test_without_metadata.py",
    ),
    "units: arrays that compute in a way of their own are taken": Mutation(
        "if any(getattr(cls, name, own) is not own for name, own in _PROTOCOLS):",
        "if any(getattr(cls, name, own) is own for name, own in ()):",
        "tests/backends/test_own_arithmetic.py",
    ),
    "in place, without an adapter: elements in the same memory": Mutation(
        "if place is not None and shapes.overlaps_itself(whole.shape",
        "if place is None and shapes.overlaps_itself(whole.shape",
        "tests/backends/test_own_arithmetic.py",
    ),
    "devices: what a library cannot move is its own error": Mutation(
        'if error.name != "to_device":',
        'if error.name == "to_device":',
        "tests/messages/test_messages.py -k 'two and moves'",
    ),
    "versions: a distribution of another name has none": Mutation(
        "        for distribution in metadata.distributions():\n",
        "        for distribution in ():\n",
        "tests/backends/test_listed_versions.py -k another_name",
    ),
    "DLPack: an object that only it reads is no array": Mutation(
        "        if error.found is not x or not foreign.exchanges(x):\n",
        "        if error.found is not x or foreign.exchanges(x):\n",
        "tests/config/test_config_dlpack.py",
    ),
    "keras: nothing is remembered": Mutation(
        "pairs = [*zip(_leaves(self._memory), _leaves(state), strict=True)]",
        "pairs: list[Any] = []",
        f"{KERAS.format('fit')} -k memory_that_goes_on",
    ),
    "keras: variables of one path are one": Mutation(
        'made.append(f"{path}:{seen[path]}" if seen[path] else path)',
        "made.append(path)",
        f"{KERAS.format('steps')} -k one_path",
    ),
    "keras: variables without a gradient shift the others": Mutation(
        "targets = known if self._targets is None else self._targets",
        "targets = known[: len(grads)]",
        f"{KERAS.format('steps')} -k without_a_gradient",
    ),
    "keras: slices are made dense": Mutation(
        "tree[self._paths[place]] = _alone(grad)",
        "tree[self._paths[place]] = ops.add(_alone(grad), ops.zeros(variable.shape))",
        f"{KERAS.format('fit')} -k stay_slices",
    ),
    "keras: a clip of its own goes unseen": Mutation(
        "        _refuse_own(self)\n        return self.clipping._clip",
        "        return self.clipping._clip",
        f"{KERAS.format('steps')} -k set_later",
    ),
    "keras: a step without a clip goes unseen": Mutation(
        "if not self.clipping._taken and any(",
        "if False and any(",
        f"{KERAS.format('steps')} -k would_not_clip",
    ),
    "keras: batches that are no steps are logged": Mutation(
        "if seen == self._seen:",
        "if seen == -1:",
        f"{KERAS.format('fit')} -m 'whole or not whole' -k no_steps",
    ),
    "TensorFlow: a session compares objects": Mutation(
        "xp.where(xp.less_equal(y, high) | xp.not_equal(y, y), y, high)",
        "xp.where(xp.less_equal(y, high) | (y != y), y, high)",
        "tests/backends/test_tensorflow_sessions.py",
    ),
    "mlx: a module is a dict": Mutation(
        "if cls.__module__ not in _PLAIN and misplaced.among([x]) is not None:",
        "if False:",
        "tests/backends/test_mlx_misplaced.py",
    ),
    "mlx: a NaN in float64 is looked for where there is none": Mutation(
        "    at=devices.at,\n",
        "",
        "tests/backends/test_mlx_misplaced.py",
    ),
    "sparse: entries of one place are counted one by one": Mutation(
        "    return inputs.arrays if inputs.merged is None else inputs.merged\n",
        "    return inputs.arrays\n",
        f"{SPARSE} -k 'one_place and torch-coo'",
    ),
    "sparse: sums are formed in the dtype of the entries": Mutation(
        "    rows = values.reshape(len(number), *values.shape[batch:]).to(dtype)\n",
        "    rows = values.reshape(len(number), *values.shape[batch:])\n",
        f"{SPARSE} -k 'beyond_the_range and torch-coo'",
    ),
    "sparse: padding counts": Mutation(
        "    counted = (place == jnp.arange(count)) & inside\n",
        "    counted = place == jnp.arange(count)\n",
        "tests/backends/test_sparse_libraries.py -k padding",
    ),
    "sparse: an average is over what is stored": Mutation(
        "        weight(_count(backend, leaf) if part is None else part.size)\n",
        "        weight(_count(backend, leaf))\n",
        f"{SPARSE} -k 'average and torch-coo'",
    ),
    "sparse: zeros that are not stored would be clipped": Mutation(
        "            if value is not None and value * side > 0 and part.zeros:\n",
        "            if value is not None and value * side > 0 and not part.zeros:\n",
        f"{SPARSE} -k 'have_to_be_stored and torch-coo'",
    ),
    "sparse: zeros in the places of other entries are filled": Mutation(
        "    if not sure:\n        new = merging",
        "    if sure:\n        new = merging",
        f"{SPARSE} -k 'have_to_be_stored and tensorflow'",
    ),
    "mlx: float64 is summed where there is none": Mutation(
        "    if on_cpu() or not _double(arrays):\n",
        "    if arrays:\n",
        "tests/backends/test_mlx.py::test_float64_beside_float32_is_clipped_on_the_cpu",
    ),
    "mlx: a float64 beside a float32 is summed in float32": Mutation(
        "    if acc_dtype != backend.xp.float64 and batch.double(inputs.arrays):\n",
        "    if acc_dtype is None:\n",
        "tests/backends/test_mlx.py::test_float64_beside_float32_is_clipped_on_the_cpu",
    ),
    "mlx: sums in float32 on the CPU": Mutation(
        "return mx.float64 if x.dtype == mx.float64 or on_cpu() else mx.float32",
        "return mx.float64 if x.dtype == mx.float64 else mx.float32",
        "tests/backends/test_mlx_numbers.py::test_reproducible_norms_are_numpys",
    ),
    "mlx: sums of float64 in a row": Mutation(
        "_CLOSE = (16, 32)",
        "_CLOSE = (16, 1 << 30)",
        "tests/backends/test_mlx_numbers.py -k equal",
    ),
    "mlx: a trace is not seen": Mutation(
        "    if not (_called(_seen.traced) and _called(_seen.traced)):\n",
        "    if _seen.traced is not None:\n",
        "tests/backends/test_mlx.py::test_traced_arrays_are_known_without_reading_them",
    ),
    "mlx: a complex product by complex numbers": Mutation(
        "return parts[0] if len(parts) == 1 else complex_of(*parts)",
        "return parts[0] if len(parts) == 1 else parts[0] + parts[1] * 1j",
        "tests/backends/test_mlx_numbers.py::test_signs_of_zeros_and_infinite_parts_are_kept",
    ),
    "mlx: an array that is there twice is scaled twice": Mutation(
        "memory=lambda leaves: [None] * len(leaves),",
        "memory=lambda _: None,",
        "tests/backends/test_mlx.py::test_an_array_that_is_there_twice_is_written_once",
    ),
    "mlx: rows that do not fill a column are lost": Mutation(
        "y = folded if end == length else mx.concatenate([folded, y[:, end:]], axis=1)",
        "y = folded",
        "tests/backends/test_mlx_numbers.py::test_leaves_together_are_as_leaves_alone",
    ),
    "mlx: complex64 is measured in float32": Mutation(
        "    square = a * a + b * b\n    positive",
        "    square = xp.abs(leaf) ** 2\n    positive",
        "tests/backends/test_mlx_numbers.py::test_complex_norms_of_other_orders_are_right",
    ),
    "mlx: sums of complex examples lose a part": Mutation(
        "            return real + imaginary * 1j\n",
        "            return real + imaginary * 0j\n",
        "tests/backends/test_mlx_numbers.py::test_complex_examples_are_summed",
    ),
    "ranks: a NaN goes to the maximum as it is": Mutation(
        "        mark = m.where(m.not_equal(value, value), one, mark)\n",
        "        mark = m.where(m.not_equal(value, value), none, mark)\n",
        f"{RANKS} -k 'threads and NaN and order'",
    ),
    "ranks: a failure is not said": Mutation(
        "            head[0] += _messages.A_FAILURE\n",
        "            head[0] += 0.0\n",
        f"{RANKS} -k 'threads and bad'",
    ),
    "ranks: another call is not seen": Mutation(
        "    if members * int(head[3]) != (int(head[2]) % _DIGIT**2) ** 2:\n",
        "    if members < 0:\n",
        f"{RANKS} -k 'threads and another'",
    ),
    "ranks: replicas count once each": Mutation(
        "result += values if part.often == 1 else [value / part.often for value in values]",
        "result += values",
        f"{RANKS} -k 'threads and held'",
    ),
    "ranks: who holds what is not compared": Mutation(
        "    if not whole(head[-1]):\n",
        "    if head[-1] < 0:\n",
        f"{RANKS} -k 'threads and wrong'",
    ),
    "ranks: what a division leaves over is lost": Mutation(
        "for k in range(6)), left / often]",
        "for k in range(6)), 0.0]",
        f"{RANKS} -k 'threads and differ'",
    ),
    "ranks: sums that leave the range are sent": Mutation(
        "    big, small = plain >= _HIGH[name], plain < limits.low\n",
        "    big, small = plain > math.inf, plain < 0.0\n",
        f"{RANKS} -k 'threads and beyond or threads and subnormal'",
    ),
    "ranks: a rank without leaves stays away": Mutation(
        "    return standing_in(leaves)\n\n\ndef _after_others(",
        "    return leaves\n\n\ndef _after_others(",
        f"{RANKS} -k 'test_what_is_sent'",
    ),
    "ranks: the dtype of the norm is that of this rank": Mutation(
        "    alone = call._replace(plan=plan, kinds=kinds if plan.joint else None)\n",
        "    alone = call._replace(plan=plan)\n",
        f"{RANKS} -k 'threads and dtypes'",
    ),
    "ranks: the rounding test is taken where one rank cannot take it": Mutation(
        "return 0 if int(head[2]) // _DIGIT**2 else _digits(head[0])[0]",
        "return _digits(head[0])[0]",
        f"{ROUNDING} -k 'if_one_cannot'",
    ),
    "ranks: a norm that the rounding test does not prove is kept": Mutation(
        "whole = norms[0]._replace(error=0.0) if sure else across.exactly(call, inputs, held=held)",
        "whole = norms[0]._replace(error=0.0)",
        f"{ROUNDING} -k 'by_default'",
    ),
    "ranks: sums stand for replicas that may differ": Mutation(
        "        if call.plan.reproducible and (call.plan.record or ranks.replicas is not None):\n",
        "        if call.plan.reproducible and call.plan.record:\n",
        "tests/ranks/test_reproducible_on_hosts.py -k replicas_said",
    ),
    "ranks: a rank that tells no peak is taken for one without leaves": Mutation(
        "    if _messages.silent(head):\n",
        "    if silent and False:\n",
        "tests/ranks/test_reproducible_on_hosts.py -k cannot_prove",
    ),
    "ranks: the grid is that of the smallest peak": Mutation(
        "    for number in range(COUNT - 1, -1, -1):\n",
        "    for number in range(COUNT):\n",
        "tests/ranks/test_reproducible_on_hosts.py -k grid",
    ),
    "ranks: sums of a device without float64 are told in units of float32": Mutation(
        "            found = single.sums(found, widths, order)\n",
        "            found = list(found)\n",
        "tests/ranks/test_no_float64.py -k units",
    ),
    "ranks: what stands in for leaves is asked for its replicas": Mutation(
        "    arrays = [] if leaves.stand_in else leaves.arrays",
        "    arrays = leaves.arrays",
        "tests/ranks/test_rule_matrix.py -k 'threads and PerGroup and twice'",
    ),
    "ranks: the state of a rank without leaves stands still": Mutation(
        "self._run(standing_in(leaves, grads), state, params, inplace=inplace)",
        "Step(leaves.rebuild([]), state, empty_info(leaves, None))",
        "tests/ranks/test_rules_over_ranks.py -k 'ZClip'",
    ),
    "ranks: sums that are not formed are measured by their parts": Mutation(
        "_summed(leaf).to_local() if layout.unsummed else here[-1]",
        "here[-1]",
        "tests/ranks/test_dtensors.py -k sums",
    ),
    "ranks: the norm of a batch is that of all shards": Mutation(
        'if found and type(leaf).__name__ == "BatchTracer" and unsure is None:',
        "if found and unsure == 0:",
        "tests/backends/test_jax_shards.py -k axes_that_cannot_be_known",
    ),
    "device: nothing is added to the norm that PyTorch's bound is divided by": Mutation(
        "0.0, terms.eps, *rest)",
        "0.0, 0.0, *rest)",
        "tests/integrations/torch/test_clip_grad_device.py -k denominator",
    ),
    "device: leaves at places that are known are taken for those that were there": Mutation(
        "    if known is None or known.sizes != sizes or known.dtypes != dtypes:\n",
        "    if known is None:\n",
        "tests/clipping/test_device_calls.py -k known_places",
    ),
    "device: a rule's bound is of another step's norm": Mutation(
        "                limit = terms.limit(clipped.norm)",
        "                limit = terms.limit(clipped.norm * 2)",
        "tests/backends/test_fused_memory.py",
    ),
    "suite: a dtype that a library lacks is a failure": Mutation(
        "    except NotApplicableError:  # the library has no such dtype to be refused\n"
        "        raise\n",
        "",
        "tests/backends/test_write_a_backend.py -k lacks",
    ),
    "threads of PyTorch: after a fork too": Mutation(
        "            _forked.here\n            or sys.is_finalizing()",
        "            sys.is_finalizing()",
        f"{TEAM} -k check_tells",
    ),
    "threads of PyTorch: within a parallel region": Mutation(
        "            or self._level()\n",
        "",
        f"{TEAM} -k parallel_region",
    ),
    "threads of PyTorch: a share that nobody has done counts": Mutation(
        "if job[kernels.DONE] != job[kernels.BLOCKS]:",
        "if False:",
        f"{TEAM} -k not_done",
    ),
    "threads of PyTorch: a number of own ones is not followed": Mutation(
        "if threads > 1 and settings().threads is None else None",
        "if threads > 1 else None",
        f"{TEAM} -k number_of_threads",
    ),
    "probes: not lifted out of what is traced": Mutation(
        "        with tf.init_scope():  # whoever asks may be in a function that is traced\n",
        "        if True:\n",
        "tests/backends/test_probes_while_traced.py -k tensorflow",
    ),
    "kernels: nowhere to keep them on disk is an error": Mutation(
        'if "cannot cache" not in str(error):',
        "if error:",
        "tests/backends/test_host_first_use.py -k in_memory",
    ),
    "kernels: a forked process starts one that compiles": Mutation(
        "    if in_forked_child():\n        return",
        "    if False:\n        return",
        f"{COMPILER} -k no_process",
    ),
    "kernels: what compiles outlives the process it compiles for": Mutation(
        "    os.read(0, 1)\n    os._exit(1)\n",
        "    os.read(0, 1)\n",
        f"{COMPILER} -k ends_with",
    ),
    "kernels: what compiles heeds Python's variables": Mutation(
        '[sys.executable, "-I", *_flags(), *arguments],',
        "[sys.executable, *_flags(), *arguments],",
        f"{COMPILER} -k no_variable",
    ),
    "kernels: Ctrl-C reaches what compiles": Mutation(
        '        how["process_group"] = 0\n',
        '        how["process_group"] = None\n',
        f"{COMPILER} -k interrupt",
    ),
    "kernels: as many compilers as processes": Mutation(
        "    with compiler.locked(place, pace.wait):\n",
        "    with contextlib.nullcontext():\n",
        f"{BACKGROUND} -k many_at_once",
    ),
    "kernels: others' functions are not compiled either": Mutation(
        'if event.data["module"] == name and threading',
        "if threading",
        f"{BACKGROUND} -k other_modules",
    ),
    "kernels: a thread that loads them takes no rest": Mutation(
        "        self.wait(time.monotonic() - self._since)\n",
        "        self.wait(0)\n",
        f"{BACKGROUND} -k as_long",
    ),
    "own threads: those who help do not ask for short slices": Mutation(
        "            slices.ask_for_short_ones()\n",
        "            pass\n",
        "tests/backends/test_host_slices.py -k helpers_ask",
    ),
    "each at once: the first of the bounds": Mutation(
        "if limits.count(least) < len(limits):",
        "if False:",
        "tests/clipping/test_each_at_once.py -k average",
    ),
    "pairs of trees: the types of the other one": Mutation(
        "        structure = structure._replace(types=None)  # those of the other tree\n",
        "        pass\n",
        "tests/test_bad_input.py -k two_libraries",
    ),
    "DTensors: taken as whole where only shards without a type are": Mutation(
        '    if cut is not None and not (cut.axes and config.current().on_shard == "whole"):\n',
        '    if cut is not None and config.current().on_shard != "whole":\n',
        "tests/ranks/test_dtensors.py -k told",
    ),
    "JAX: shards that are said to be whole are refused": Mutation(
        'if found is not None and config.current().on_shard == "error":',
        "if found is not None:",
        "tests/backends/test_jax_shards.py -k whole",
    ),
    "JAX: sizes that are symbols are taken for numbers": Mutation(
        "    if not sized(leaves):\n        return False\n",
        "",
        "tests/backends/test_jax_symbolic.py -k norm",
    ),
    "JAX: an array of symbols beside a known one is not seen": Mutation(
        "    traced, nested = _among(frozenset(map(type, arrays)))\n",
        "    traced, nested = _among(frozenset(map(type, arrays[:1])))\n",
        "tests/backends/test_jax_symbolic.py -k beside",
    ),
    "CUDA: threads with default streams of their own share tables": Mutation(
        "(self._of_thread if place.stream == _PER_THREAD else self._ordered).tables\n",
        "self._ordered.tables\n",
        "tests/backends/test_device_faults.py -k default_streams",
    ),
    "CUDA: zeros that have no memory are read": Mutation(
        "0 in addresses and any(n and not at for at, n in zip(addresses, counts, strict=True)):",
        "not addresses:",
        "tests/backends/test_device_faults.py -k not_read_by_kernels",
    ),
    "CUDA: slices of a transpose are taken for what lies end to end": Mutation(
        "halves.MOST_SLICES and self.room.library.in_order(leaves)\n",
        "halves.MOST_SLICES\n",
        "tests/backends/test_slices_on_devices.py -k transpose",
    ),
    "slices of a device are all multiplied where a policy erases some": Mutation(
        '    policies = ("propagate", "skip") if inplace else ("propagate",)\n',
        '    policies = ("propagate", "skip", "zero")\n',
        "tests/backends/test_slices_on_devices.py -k general_program",
    ),
    "large pages are asked for under small results": Mutation(
        "    chosen = sizes >= pages.LEAST\n",
        "    chosen = sizes >= 0\n",
        "tests/backends/test_host_pages.py -k 4_mib",
    ),
    "a cache that cannot be read ends a program": Mutation(
        "BROKEN = OSError, EOFError, pickle.UnpicklingError\n",
        "BROKEN = ModuleNotFoundError, EOFError\n",
        CACHE,
    ),
    "another process's bytecode differs from this one's": Mutation(
        '        [sys.executable, "-I", *_flags(), *arguments],\n',
        '        [sys.executable, "-I", *arguments],\n',
        CACHE,
    ),
    "tensors are not read at once after a change of the default device": Mutation(
        'torch.ones((2, 3), dtype=torch.float32, device="cpu")',
        "torch.ones((2, 3), dtype=torch.float32)",
        "tests/backends/test_host_dlpack.py -k default_device",
    ),
}
