"""Rules across ranks: states and thresholds of one process, on ranks without leaves too."""

import numpy as np
import pytest

import agclip
from ranks.thread_ranks import together

STEPS = 10
HELD = {1: [["a", "b", "c"]], 2: [["a", "b", "c"], []], 3: [["b"], ["a", "c"], []]}
RULES = {
    "ClipByGlobalNorm": lambda comm: agclip.ClipByGlobalNorm(1.0, comm=comm),
    "ClipByGlobalNorm, order 3": lambda comm: agclip.ClipByGlobalNorm(1.0, ord=3, comm=comm),
    "ZClip": lambda comm: agclip.ZClip(warmup=3, comm=comm),
    "AutoClip": lambda comm: agclip.AutoClip(comm=comm),
    "AutoClip with a window": lambda comm: agclip.AutoClip(window=4, comm=comm),
    "QuantileClip": lambda comm: agclip.QuantileClip(comm=comm),
    "Scheduled": lambda comm: agclip.Scheduled(
        agclip.ClipByGlobalNorm, lambda t: 1 / (1 + t), comm=comm
    ),
    "Chain": lambda comm: agclip.Chain(
        agclip.ZClip(warmup=3, comm=comm), agclip.ClipByGlobalNorm(1.0, comm=comm)
    ),
    "Chain after single elements": lambda comm: agclip.Chain(
        agclip.ClipByValue(-2.0, 2.0), agclip.ZClip(warmup=3, comm=comm)
    ),
    "PerGroup": lambda comm: agclip.PerGroup(
        {
            "a": agclip.ZClip(warmup=3, comm=comm),
            "b": None,
            "*": agclip.ClipByGlobalNorm(2.0, comm=comm),
        }
    ),
}


def gradients(t):
    draw = np.random.default_rng(t)
    size = 12.0 if t % 5 == 4 else 1.0
    grads = {name: (size * draw.normal(size=5)).astype(np.float32) for name in "abc"}
    if t == 7:
        grads["c"][0] = np.nan
    return grads


def numbers(x):
    """Return a state as lists."""
    if isinstance(x, dict):
        return {key: numbers(value) for key, value in x.items()}
    return np.asarray(x).tolist() if hasattr(x, "dtype") else x


def taken(make, size, *, inplace=False):
    """Return what each rank has of the steps: gradients, thresholds, and the last state."""

    def program(rank, met):
        rule = make(met.communicator(rank))
        state, found = None, []
        for t in range(STEPS):
            grads = {name: gradients(t)[name] for name in HELD[size][rank]}
            state = rule.init(grads) if state is None else state
            update = rule.update_ if inplace else rule.update
            new, state, info = update(grads, state)
            told = info.to_host()
            facts = (told.threshold, told.norm, told.clipped, told.nonfinite, told.skip)
            assert set(told.leaf_norms) <= set(grads)
            found.append(({name: leaf.tolist() for name, leaf in new.items()}, facts))
        return found, numbers(state)

    return together(size, program)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_every_rank_takes_the_steps_of_one_process(name, inplace):
    ((steps, state),) = taken(RULES[name], 1)
    for size in (2, 3):
        for rank, got in enumerate(taken(RULES[name], size, inplace=inplace)):
            assert isinstance(got, tuple), got
            assert str(got[1]) == str(state)
            for (mine, facts), (all_, wanted) in zip(got[0], steps, strict=True):
                if name != "Chain after single elements":  # whose first rule looks at what is here
                    assert str(facts) == str(wanted)
                assert set(mine) == set(HELD[size][rank])
                for path, leaf in mine.items():
                    np.testing.assert_allclose(leaf, all_[path], rtol=3e-7)


def test_a_rank_that_fails_before_a_step_says_so():
    def program(rank, met):
        rule = RULES["PerGroup"](met.communicator(rank))
        return rule.update({"a": "no array" if rank else np.ones(2)}, ())

    first, second = together(2, program)
    assert first.startswith("RuntimeError: every rank must get as far as the reduction; got")
    assert second.startswith("TypeError: `grads` must be an array")


def test_other_numbers_of_a_rule_are_another_call():
    def program(rank, met):
        rule = agclip.ZClip(z_threshold=2.0 + rank, comm=met.communicator(rank))
        grads = [np.ones(2)]
        return rule.update(grads, rule.init(grads))

    for got in together(2, program):
        assert got.startswith("RuntimeError: every rank must make the same call; got another")


def test_a_clipper_resumes_on_another_number_of_ranks():
    def steps(clipper, held, first, last):
        told = []
        for t in range(first, last):
            _, info = clipper({name: gradients(t)[name] for name in held})
            told.append(info.to_host().threshold)
        return told

    def rule(comm):
        return agclip.Clipper(agclip.ZClip(warmup=2, comm=comm))

    def before(rank, met):
        clipper = rule(met.communicator(rank))
        return steps(clipper, HELD[2][rank], 0, 4), clipper.state_dict()

    def after(rank, met):
        clipper = rule(met.communicator(rank))
        clipper.load_state_dict(saved)
        return steps(clipper, HELD[3][rank], 4, STEPS)

    (told, saved), (_, other) = together(2, before)
    assert saved == other
    whole = steps(agclip.Clipper(agclip.ZClip(warmup=2)), "abc", 0, STEPS)
    assert told == whole[:4]
    assert together(3, after) == [whole[4:]] * 3
