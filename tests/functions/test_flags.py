"""Flags of functions and rules: a word such as "no" must not count as True."""

import numpy as np
import pytest

import agclip

X = [3.0, 4.0]
FUNCTIONS = {
    "global_norm": lambda v, **flags: agclip.global_norm([v], **flags),
    "clip_by_global_norm": lambda v, **flags: agclip.clip_by_global_norm([v], 1.0, **flags),
    "clip_by_global_norm_": lambda v, **flags: agclip.clip_by_global_norm_([v], 1.0, **flags),
    "clip_by_norm": lambda v, **flags: agclip.clip_by_norm(v, 1.0, **flags),
    "clip_by_norm_": lambda v, **flags: agclip.clip_by_norm_(v, 1.0, **flags),
    "clip_by_average_norm": lambda v, **flags: agclip.clip_by_average_norm(v, 0.5, **flags),
    "clip_by_average_norm_": lambda v, **flags: agclip.clip_by_average_norm_(v, 0.5, **flags),
    "clip_by_rms": lambda v, **flags: agclip.clip_by_rms(v, 0.5, **flags),
    "clip_by_rms_": lambda v, **flags: agclip.clip_by_rms_(v, 0.5, **flags),
    "adaptive_grad_clip": lambda v, **flags: agclip.adaptive_grad_clip(
        v, v, unit_axes="out_in", **flags
    ),
    "adaptive_grad_clip_": lambda v, **flags: agclip.adaptive_grad_clip_(
        v, v + 0, unit_axes="out_in", **flags
    ),
    "clip_per_example": lambda v, **flags: agclip.clip_per_example(v, 1.0, **flags),
    "ClipByNorm": lambda v, **flags: agclip.ClipByNorm(1.0, **flags).update([v], ())[0][0],
}
TAKEN = [
    (name, flag)
    for name in FUNCTIONS
    for flag in ("strict", "reproducible")
    if (name, flag) != ("global_norm", "strict")
]


@pytest.mark.parametrize(("name", "flag"), TAKEN)
@pytest.mark.parametrize(
    ("value", "found"),
    [("no", "str"), ("off", "str"), (0, "int"), (1.0, "float"), ([], "list"), (np.zeros(2), "")],
)
def test_what_is_no_flag_is_an_error_and_nothing_is_written(name, flag, value, found):
    x = np.array(X)
    wanted = f"`{flag}` must be True, False, or None for what the settings say; got {found}"
    with pytest.raises(TypeError, match=wanted):
        FUNCTIONS[name](x, **{flag: value})
    assert x.tolist() == X


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("name", ["clip_by_norm", "clip_by_rms", "ClipByNorm"])
def test_a_bool_of_numpy_is_a_flag(name, value):
    x = np.array([0.1, 0.7, 0.9], np.float32)
    for flag in ("strict", "reproducible"):
        got, wanted = (FUNCTIONS[name](x, **{flag: kind(value)}) for kind in (np.bool_, bool))
        assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(("given", "shown"), [("no", "str"), (None, "NoneType"), (1, "int")])
def test_whether_a_clipper_works_in_place_is_true_or_false(given, shown):
    with pytest.raises(TypeError) as caught:
        agclip.Clipper(agclip.ClipByNorm(1.0), inplace=given)
    assert str(caught.value) == f"`inplace` must be True or False; got {shown}."
