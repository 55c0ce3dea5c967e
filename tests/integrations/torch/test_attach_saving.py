"""What is attached goes where its optimizer goes: checkpoints, copies, other processes."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import agclip  # noqa: E402 - PyTorch is optional, here and below
from agclip.integrations.torch import attach, attachment  # noqa: E402
from integrations.torch import training  # noqa: E402

STEPS = training.gradients(steps=8)


def make(params, rule=None, *, fused=False, attached=True, **options):
    optimizer = torch.optim.AdamW(params, lr=0.01, fused=fused)
    if attached:
        attach(optimizer, rule or agclip.ZClip(0.5, warmup=2, max_norm=None), **options)
    return optimizer


def through_pickle(pair):
    return pickle.loads(pickle.dumps(pair))


def through_torch(pair):
    made = io.BytesIO()
    torch.save(pair, made)
    made.seek(0)
    return torch.load(made, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": through_pickle, "torch.save": through_torch}


@pytest.fixture(params=[True, False], ids=["fused", "plain"])
def fused(request):
    return request.param


@pytest.fixture
def through():
    """Trained to the end without a stop."""
    ps = training.parameters()
    optimizer = make(ps)
    training.train(optimizer, ps, STEPS)
    return ps, attachment(optimizer)


@pytest.mark.parametrize("protocol", [0, 1, 2, 5])
def test_every_protocol_of_pickle(protocol):
    ps = training.parameters()
    one = pickle.loads(pickle.dumps(make(ps), protocol))
    assert attachment(one).rule == attachment(make(ps)).rule


@pytest.mark.parametrize("way", sorted(COPIES))
def test_a_copy_clips_with_a_state_of_its_own(way, fused, through):
    ps = training.parameters()
    optimizer = make(ps, fused=fused)
    training.train(optimizer, ps, STEPS[:4])
    before = attachment(optimizer).state_dict()
    copied, mine = COPIES[way]((optimizer, ps))

    training.train(copied, mine, STEPS[4:])
    training.close(mine, through[0])
    made = attachment(copied)
    assert made is not attachment(optimizer)
    assert made.step == len(STEPS)
    assert made.folded == fused
    for key, value in through[1].state_dict()["state"].items():
        assert made.state_dict()["state"][key] == pytest.approx(value)
    assert attachment(optimizer).state_dict() == before

    training.train(optimizer, ps, STEPS[4:])
    training.close(ps, through[0])
    made.detach()
    assert attachment(optimizer) is not None
    assert attachment(copied) is None


def test_a_copy_of_a_copy(through):
    ps = training.parameters()
    copied, mine = copy.deepcopy(through_pickle((make(ps), ps)))
    training.train(copied, mine, STEPS)
    training.close(mine, through[0])


def test_what_is_attached_is_copied_with_its_optimizer():
    ps = training.parameters()
    optimizer = make(ps)
    one, other = copy.deepcopy((optimizer, attachment(optimizer)))
    assert attachment(one) is other
    alone = copy.deepcopy(attachment(optimizer))
    assert repr(alone).endswith("to no optimizer")


def test_names_are_copied(fused):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    attach(optimizer, agclip.ClipByGlobalNorm(1.0), model=model)
    copied = copy.deepcopy(optimizer)
    for p in copied.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    copied.step()
    assert list(attachment(copied).last.leaf_norms) == ["weight", "bias"]


def test_a_copy_of_an_optimizer_with_nothing_attached_is_as_ever():
    ps = training.parameters()
    optimizer = make(ps)
    attachment(optimizer).detach()
    assert attachment(copy.deepcopy(optimizer)) is None


# --- state dicts -------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
def test_a_checkpoint_of_the_optimizer_has_the_state(fused, through, safe):
    ps = training.parameters()
    optimizer = make(ps, fused=fused)
    training.train(optimizer, ps, STEPS[:4])
    made = io.BytesIO()
    torch.save((optimizer.state_dict(), [p.detach() for p in ps]), made)
    made.seek(0)
    saved, values = torch.load(made, weights_only=safe)

    mine = [torch.nn.Parameter(value) for value in values]
    other = make(mine, fused=fused)
    keys = set(saved)
    other.load_state_dict(saved)
    assert set(saved) == keys, "what is loaded is left as it is"
    assert attachment(other).step == 4
    training.train(other, mine, STEPS[4:])
    training.close(mine, through[0])


def test_its_own_state_dict_is_that_of_a_clipper():
    ps = training.parameters()
    optimizer = make(ps)
    training.train(optimizer, ps, STEPS[:4])
    saved = attachment(optimizer).state_dict()
    assert saved == optimizer.state_dict()["agclip"]
    clipper = agclip.Clipper(agclip.ZClip(0.5, warmup=2, max_norm=None))
    clipper.load_state_dict(saved)
    assert clipper.state_dict() == saved
    other = make(training.parameters())
    attachment(other).load_state_dict(clipper.state_dict())
    assert attachment(other).state_dict() == saved


def test_a_checkpoint_without_a_state_begins_anew():
    ps, others = training.parameters(), training.parameters()
    plain, optimizer = make(ps, attached=False), make(others)
    training.train(plain, ps, STEPS[:2])
    training.train(optimizer, others, STEPS)
    optimizer.load_state_dict(plain.state_dict())
    assert attachment(optimizer).step == 0
    assert attachment(optimizer).state_dict()["state"] == {}
    assert optimizer.state[others[0]]["step"] == 2


def test_an_optimizer_with_nothing_attached_loads_a_checkpoint_with_a_state():
    ps, others = training.parameters(), training.parameters()
    plain, optimizer = make(ps, attached=False), make(others)
    training.train(optimizer, others, STEPS[:2])
    plain.load_state_dict(optimizer.state_dict())
    assert plain.state[ps[0]]["step"] == 2


@pytest.mark.parametrize("broken", ["rule", "optimizer"])
def test_a_checkpoint_that_does_not_fit_changes_nothing(broken):
    ps = training.parameters()
    optimizer = make(ps)
    training.train(optimizer, ps, STEPS[:2])
    before = copy.deepcopy(optimizer.state_dict())
    saved = copy.deepcopy(before)
    saved["agclip"]["step"] = 7
    if broken == "rule":
        saved["agclip"]["rule"] = "AutoClip"
        saved["state"] = {}
    else:
        saved["param_groups"][0]["params"].pop()
    with pytest.raises(ValueError, match=r"rule|size"):
        optimizer.load_state_dict(saved)
    after = optimizer.state_dict()
    assert after["agclip"] == before["agclip"]
    assert after["state"].keys() == before["state"].keys()
