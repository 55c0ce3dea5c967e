"""Settings of a block: nested, ended whatever happens, and unseen by other threads."""

import asyncio
import concurrent.futures

import pytest

import agclip
from agclip._backends import registry

pytestmark = pytest.mark.usefixtures("project")


def in_force(key):
    settings = agclip.get_config()
    return getattr(settings, key), settings.source(key)


def test_a_context_gives_the_settings_inside_of_it_and_ends():
    with agclip.config_context(strict=True) as settings:
        assert settings is agclip.get_config()
        assert in_force("strict") == (True, "config_context")
    assert in_force("strict") == (False, "default")


def test_contexts_nest():
    with agclip.config_context(strict=True, nonfinite="zero"):
        with agclip.config_context(nonfinite="skip", strict=None):
            assert (in_force("nonfinite")[0], in_force("strict")[0]) == ("skip", True)
        assert in_force("nonfinite")[0] == "zero"


def test_a_context_ends_when_something_is_raised_in_it():
    before = agclip.get_config()
    with pytest.raises(KeyError), agclip.config_context(strict=True):
        raise KeyError
    assert agclip.get_config() is before


def test_what_is_set_inside_of_a_context_counts_less_than_it_and_stays():
    with agclip.config_context(strict=True):
        agclip.set_config(strict=False, nonfinite="zero")
        assert in_force("strict") == (True, "config_context")
        assert in_force("nonfinite") == ("zero", "set_config")
    assert in_force("strict") == (False, "set_config")


def test_other_threads_do_not_see_a_context():
    with agclip.config_context(strict=True), concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_force, "strict").result() == (False, "default")
        assert in_force("strict") == (True, "config_context")


def test_a_task_sees_the_contexts_that_it_began_in_and_no_others():
    async def inner():
        seen = in_force("nonfinite")[0]
        with agclip.config_context(nonfinite="skip"):
            await asyncio.sleep(0)
            return seen, in_force("nonfinite")[0]

    async def outer():
        with agclip.config_context(nonfinite="zero"):
            task = asyncio.create_task(inner())
        await asyncio.sleep(0)
        return in_force("nonfinite")[0], await task

    assert asyncio.run(outer()) == ("propagate", ("zero", "skip"))


def test_a_context_is_checked_before_it_is_entered():
    with pytest.raises(ValueError, match="`nonfinite` must be"):
        agclip.config_context(nonfinite="ignore")


def test_a_compiled_function_of_torch_follows_the_settings():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: agclip.clip_by_norm(x, 1.0), fullgraph=True, backend="eager")
    bad = torch.tensor([3.0, float("nan")])
    assert str(compiled(bad).tolist()) == "[nan, nan]"
    with agclip.config_context(nonfinite="zero"):
        assert str(compiled(bad).tolist()) == "[0.0, 0.0]"
    assert str(compiled(bad).tolist()) == "[nan, nan]"
    agclip.set_config(nonfinite="skip")
    assert str(compiled(bad).tolist()) == "[3.0, nan]"


def test_a_compiled_function_of_torch_may_be_the_first_to_use_the_settings(project):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    project.joinpath("agclip.toml").write_text('backend = "torch"\nnonfinite = "zero"\n')
    torch._dynamo.reset()
    registry.BY_TYPE.clear()  # nor has anybody seen a tensor
    compiled = torch.compile(lambda x: agclip.clip_by_norm(x, 1.0), fullgraph=True, backend="eager")
    assert compiled(torch.tensor([3.0, float("nan")])).tolist() == [0.0, 0.0]


def test_a_compiled_function_of_jax_keeps_the_settings_that_it_was_traced_with():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    bad = jax.numpy.asarray([3.0, float("nan")])
    compiled = jax.jit(lambda x: agclip.clip_by_norm(x, 1.0))
    with agclip.config_context(nonfinite="zero"):
        assert compiled(bad).tolist() == [0.0, 0.0]
    assert compiled(bad).tolist() == [0.0, 0.0]
    assert str(agclip.clip_by_norm(bad, 1.0).tolist()) == "[nan, nan]"
