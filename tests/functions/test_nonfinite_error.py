"""What `nonfinite="error"` says of many leaves: the first ones by name, and how many more."""

import numpy as np
import pytest

import agclip
import arrays

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=arrays.LIBRARIES)
def lib(request):
    return arrays.library(request.param)


def failing(grads):
    with pytest.raises(FloatingPointError) as caught:
        agclip.clip_by_global_norm(grads, 1.0, nonfinite="error")
    return str(caught.value)


def test_up_to_ten_leaves_are_all_named(lib):
    bad = {"a": lib.array([np.nan]), "b": lib.array([1.0]), "c": lib.array([np.inf, np.nan])}
    assert failing(bad) == (
        "`t_list` must be finite; got NaN at t_list['a'], NaN at t_list['c'], an infinity at "
        "t_list['c']. Skip the step, or choose another policy for `nonfinite`."
    )


def test_of_more_leaves_the_first_ten_are_named_and_the_rest_counted():
    named = ", ".join(f"NaN at t_list[{i}]" for i in range(10))
    assert failing([np.array([np.nan])] * 20_000) == (
        f"`t_list` must be finite; got {named} and 19990 more of 20000 leaves. Skip the step, or "
        "choose another policy for `nonfinite`."
    )
