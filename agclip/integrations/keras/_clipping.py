"""A rule in an optimizer of Keras: its memory and its record are variables of the optimizer."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from agclip._trees.paths import spelled
from agclip.rules._info import ClipInfo
from agclip.rules._rule import Rule, State

_NORMS = "leaf_norms"
_FACTS = ("clipped", "nonfinite", "skip")
_START = {"norm": "zeros", "scale": "ones", "threshold": keras.initializers.Constant(float("inf"))}


class Clipping:
    """A rule that clips the gradients of an optimizer: see `with_clipping`, which makes one.

    Attributes:
        rule: The rule, with the settings filled in.
        leaf_norms: Whether the record holds the norm of each variable's gradient.

    Example:
        >>> import agclip, keras
        >>> from agclip.integrations.keras import with_clipping
        >>> optimizer = with_clipping(keras.optimizers.SGD(1.0), agclip.ClipByGlobalNorm(1.0))
        >>> w = keras.Variable([0.0, 0.0])
        >>> _ = optimizer.apply_gradients([(keras.ops.array([3.0, 4.0]), w)])
        >>> bool(optimizer.clipping.last.clipped), float(optimizer.clipping.last.threshold)
        (True, 1.0)
    """

    rule: Rule
    leaf_norms: bool

    def __init__(self, rule: Rule, *, leaf_norms: bool) -> None:
        self.rule, self.leaf_norms = rule, leaf_norms
        self._paths: list[str] = []
        self._memory: State = ()
        self._record: dict[str, Any] | None = None
        self._targets: Sequence[Any] | None = None
        self._taken = False

    def __repr__(self) -> str:
        return f"Clipping({self.rule!r})"

    @property
    def last(self) -> ClipInfo | None:
        """The record of the last step, on its device; None as long as there are no variables.

        Before the first step its norm is 0, its scale 1 and its threshold infinite.
        """
        if self._record is None:
            return None
        values: dict[str, Any] = {
            name: ops.copy(ops.convert_to_tensor(variable))
            for name, variable in self._record.items()
        }
        norms, paths = values.pop(_NORMS, None), spelled(self._paths)
        by_path = {path: norms[i] for i, path in enumerate(paths)} if self.leaf_norms else {}
        return ClipInfo(**values, leaf_norms=by_path)

    # --- what the optimizer calls --------------------------------------------------------------

    def _build(self, optimizer: Any, variables: Sequence[Any]) -> None:
        """Add the variables of the memory and of the record to an optimizer."""
        if self._record is not None:
            return
        self._paths = _distinct([_path(variable) for variable in variables])
        with _outside_of_graphs():
            params = [ops.convert_to_tensor(variable) for variable in variables]
            state = self.rule.init(dict(zip(self._paths, params, strict=True)))
            self._memory = _map(lambda path, x: _added(optimizer, f"memory{path}", x), state)
        doubles = any("float64" in str(variable.dtype) for variable in variables)
        real = "float64" if doubles else "float32"

        def blank(name: str, shape: tuple[int, ...] = ()) -> Any:
            start, dtype = _START.get(name, "zeros"), "bool" if name in _FACTS else real
            return optimizer.add_variable(shape, start, dtype, name=f"clipping_{name}")

        record = {name: blank(name) for name in (*_START, *_FACTS)}
        if self.leaf_norms:
            record[_NORMS] = blank(_NORMS, (len(variables),))
        self._record = record

    def _clip(self, optimizer: Any, grads: Sequence[Any], known: Sequence[Any]) -> list[Any]:
        """Clip gradients, and write to the variables what the rule remembers and reports."""
        _require_whole()
        self._taken = True
        targets = known if self._targets is None else self._targets
        places = [optimizer._get_variable_index(variable) for variable in targets]
        tree = dict.fromkeys(self._paths)
        params = dict(tree)
        for place, variable, grad in zip(places, targets, grads, strict=True):
            tree[self._paths[place]] = _alone(grad)
            params[self._paths[place]] = _alone(ops.convert_to_tensor(variable))
        state = _map(lambda _, variable: ops.convert_to_tensor(variable), self._memory)
        clipped, new, info = self.rule.update(tree, state, params)
        self._write(new, info)
        return [clipped[self._paths[place]] for place in places]

    def _write(self, state: State, info: ClipInfo) -> None:
        record = self._record
        assert record is not None, "an optimizer is built before it takes a step"
        _require_structure(self.rule, self._memory, state)
        pairs = [*zip(_leaves(self._memory), _leaves(state), strict=True)]
        pairs += [(record[name], getattr(info, name)) for name in (*_START, *_FACTS)]
        if self.leaf_norms:
            norms = record[_NORMS]
            missing = float("nan")
            values = [info.leaf_norms.get(path, missing) for path in spelled(self._paths)]
            pairs.append((norms, ops.stack([ops.cast(one, norms.dtype) for one in values])))
        seen: set[int] = set()
        for variable, value in pairs:
            # No two variables may hold one array: in JAX it could not be donated.
            variable.assign(ops.copy(value) if id(value) in seen else value)
            seen.add(id(value))


def _path(variable: Any) -> str:
    """Return the path of a variable; one of TensorFlow itself has but a name."""
    return str(getattr(variable, "path", None) or variable.name)


def _distinct(paths: Sequence[str]) -> list[str]:
    """Return paths with a number behind those that have stood before."""
    seen: Counter[str] = Counter()
    made = []
    for path in paths:
        made.append(f"{path}:{seen[path]}" if seen[path] else path)
        seen[path] += 1
    return made


@contextlib.contextmanager
def _outside_of_graphs() -> Iterator[None]:
    """Be where the values of variables can be read, also while TensorFlow traces a step."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    with tf.init_scope():
        yield


def _require_whole() -> None:
    """Raise if TensorFlow adds up the gradients of several replicas after the clip."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        msg = (
            f"`optimizer` must see whole gradients for a rule to clip; got those of one of "
            f"{replicas} replicas, which TensorFlow adds up after the clip. Train on one device, "
            f"or on several with keras.distribution and the JAX backend."
        )
        raise NotImplementedError(msg)


def _added(optimizer: Any, name: str, x: Any) -> Any:
    """Return a new variable of an optimizer that begins with the values of an array."""
    # States count in float64, which JAX and some devices turn into what they have.
    values: Any = ops.convert_to_tensor(ops.convert_to_numpy(x))
    return optimizer.add_variable(
        tuple(values.shape),
        lambda shape, dtype=None: ops.copy(values),
        keras.backend.standardize_dtype(values.dtype),
        name="clipping_" + re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("_"),
    )


def _alone(x: Any) -> Any:
    """Return a tensor without its graph (torch); others as they are."""
    return x.detach() if hasattr(x, "detach") else x


def _map(function: Callable[[str, Any], Any], state: State, path: str = "") -> Any:
    """Return a state with a function of path and array in the place of each array."""
    if isinstance(state, Mapping):
        return {key: _map(function, part, f"{path}_{key}") for key, part in state.items()}
    return () if isinstance(state, tuple) else function(path, state)


def _leaves(state: State) -> Iterator[Any]:
    if isinstance(state, Mapping):
        for key in sorted(state):
            yield from _leaves(state[key])
    elif not isinstance(state, tuple):
        yield state


def _form(state: State) -> Any:
    """Return the keys and shapes of a state."""
    return _map(lambda _, x: tuple(x.shape), state)


def _require_structure(rule: Rule, memory: State, state: State) -> None:
    """Raise a ValueError if a step has made a state of another form than the one before."""
    if _form(memory) != _form(state):
        msg = (
            f"`rule` must have a state of one form for all steps; got {_form(memory)} before a "
            f"step of {rule!r}, and {_form(state)} after it. Let its init() make the state in full."
        )
        raise ValueError(msg)
