"""Attached rules are clip-then-step: folded or not, scaled or not, whatever comes in."""

import itertools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from agclip.integrations.torch import attach
from integrations.torch import training
from thinned import thinned

POLICIES = ("propagate", "skip", "error", "zero")
SCALERS = ("no scaler", "scaler", "unscale_")
CELLS = list(
    itertools.product(
        training.RULES, training.OPTIMIZERS, ("fused", "plain"), SCALERS, POLICIES, (None, 4)
    )
)


def usual(cell):
    rule, optimizer, fused, _, policy, bad = cell
    return (rule == "zclip" and optimizer in ("adamw", "momentum") and fused == "fused") or (
        rule == "global" and optimizer == "adamw" and bad is not None and policy != "error"
    )


def make_scaler(kind):
    if kind == "no scaler":
        return None
    # No power of two, so that a scale that is forgotten or applied twice shows.
    return torch.amp.GradScaler("cpu", init_scale=1000.0)


@pytest.mark.parametrize("cell", thinned(CELLS, usual, lambda cell: "-".join(map(str, cell))))
@pytest.mark.parametrize("fold", [False, "auto"])
def test_a_step_is_a_clip_by_hand_and_a_step(cell, fold):
    name, optimizer, fused, kind, policy, bad = cell
    make_rule, bounds_of = training.RULES[name]
    make = training.OPTIMIZERS[optimizer]
    options = {"fused": True} if fused == "fused" else {}
    steps = training.gradients(bad=bad)

    ours, theirs = training.parameters(), training.parameters()
    attached = attach(one := make(ours, **options), make_rule(nonfinite=policy), fold=fold)
    scaler = make_scaler(kind)
    errors = training.train(one, ours, steps, scaler, unscale=kind == "unscale_")
    training.by_hand(
        make(theirs, **options), theirs, steps, bounds_of, policy, scaled=scaler is not None
    )

    training.close(ours, theirs)
    assert errors == (bad is not None and policy == "error" and scaler is None)
    folds = fold == "auto" and fused == "fused" and policy != "zero"
    assert attached.folded == folds
    assert not {"grad_scale", "found_inf"} & set(vars(one))
