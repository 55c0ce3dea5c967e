"""DTensors on four ranks of gloo: what whole tensors give, and how many vectors it takes."""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("torch.distributed.tensor", reason="PyTorch has no DTensors here")

from ranks import fsdp1_cases, torch_cases  # noqa: E402

PAIRS = ("norm", "new", "in place", "measured", "right")


def close(got, wanted, rel):
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(close(got[k], wanted[k], rel) for k in wanted)
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(
            close(a, b, rel) for a, b in zip(got, wanted, strict=True)
        )
    if isinstance(wanted, float):
        return got == wanted or math.isclose(got, wanted, rel_tol=rel)
    return got == wanted


def require(name, results, *, rel=3e-7, vectors=None):
    for rank, found in enumerate(results):
        got = found[f"torch: {name}"]
        assert isinstance(got, dict), f"rank {rank}: {got}"
        for pair in PAIRS:
            if pair in got:
                mine, wanted = got[pair]
                assert close(mine, wanted, rel), f"rank {rank}, {pair}: {mine}, {wanted}"
        assert all(got.get("alike", [])), f"rank {rank}"
        if vectors is not None:
            assert got["vectors"] == vectors


@pytest.mark.parametrize("order", torch_cases.ORDERS)
@pytest.mark.parametrize("kind", torch_cases.KINDS)
def test_a_clip_is_that_of_whole_tensors(kind, order, gloo_results):
    twice = order in ("3", "reproducible")
    vectors = torch_cases.KINDS[kind] * (2 if twice else 1)
    rel = 0.0 if order == "reproducible" else 3e-7
    require(f"{kind}, {order}", gloo_results, rel=rel, vectors=vectors)


@pytest.mark.parametrize("name", torch_cases.EACH)
def test_clips_of_each_leaf_are_those_of_whole_tensors(name, gloo_results):
    vectors = {"value": 0, "norm, order 3": 4}.get(name, 2)
    require(f"each, {name}", gloo_results, vectors=vectors)


@pytest.mark.parametrize("order", torch_cases.ORDERS)
def test_sums_that_are_not_formed_are_measured_as_they_will_be(order, gloo_results):
    require(f"sums, {order}", gloo_results, rel=2e-6)


@pytest.mark.parametrize("name", ["stages", "held by both", "alone", "told"])
def test_types_and_a_communicator_go_together(name, gloo_results):
    require(name, gloo_results)


@pytest.mark.parametrize("order", ["2.0", "1.0"])
def test_the_function_of_pytorch_takes_dtensors_and_returns_one(order, gloo_results):
    require(f"drop-in, {order}", gloo_results, rel=2e-6, vectors=1)


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("strategy", fsdp1_cases.STRATEGIES)
def test_the_tensors_of_fsdp1_are_clipped_by_its_process_group(strategy, original, gloo_results):
    require(f"FSDP1, {strategy}, original={original}", gloo_results, rel=2e-6)


@pytest.mark.parametrize("name", torch_cases.RULES)
def test_rules_take_the_steps_of_whole_tensors(name, gloo_results):
    require(f"rule, {name}", gloo_results)


REFUSED = {
    "a maximum that is not formed": (
        "TypeError: `t` must hold dense arrays; got one that has the placement P(max), of which no "
        "multiple can be taken here, at t. Convert it first."
    ),
    "elements of a sum that is not formed": (
        "ValueError: `t` must hold elements that can be clipped; got one part of a sum over "
        "processes at t. Form the sum first."
    ),
    "norms along axes": (
        "ValueError: `t` must hold whole arrays for this clip; got one that is cut over processes "
        "at t. Clip by the norms of leaves or by the global norm, or gather it first."
    ),
    "second moments": (
        "ValueError: `grads` must hold whole arrays for this clip; got one that is cut over "
        "processes at grads[0]. Clip by the norms of leaves or by the global norm, or gather it "
        "first."
    ),
    "recorded by autograd": (
        "TypeError: gradients must not be recorded by autograd where norms are reduced over a "
        "process group, through which there is no derivative; got a tensor that requires grad. "
        "Call agclip under torch.no_grad(), or detach them."
    ),
}


@pytest.mark.parametrize("name", torch_cases.REFUSED)
def test_what_cannot_be_done_by_parts_is_refused_on_every_rank(name, gloo_results):
    for found in gloo_results:
        assert found[f"torch: {name}"] == REFUSED[name]
