"""torch.compile with symbols: sizes and numbers that are inputs of a program."""

import pytest

import agclip
from thinned import thinned

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

FUNCTIONS = {
    "by global norm": lambda v, c: agclip.clip_by_global_norm([v], c)[0][0],
    "norm": agclip.clip_by_norm,
    "average norm": agclip.clip_by_average_norm,
    "rms": agclip.clip_by_rms,
    "strict": lambda v, c: agclip.clip_by_rms(v, c, strict=True, reproducible=True, loss_scale=c),
    "value": lambda v, c: agclip.clip_by_value(v, -c, c),
}
IN_PLACE = {
    "by global norm": lambda v, c: agclip.clip_by_global_norm_([v], c)[0][0],
    "norm": agclip.clip_by_norm_,
    "average norm": agclip.clip_by_average_norm_,
    "rms": agclip.clip_by_rms_,
    "value": lambda v, c: agclip.clip_by_value_(v, -c, c),
}
RULES = {
    "ClipByGlobalNorm": agclip.ClipByGlobalNorm,
    "ClipByNorm": agclip.ClipByNorm,
    "ClipByAverageNorm": agclip.ClipByAverageNorm,
    "ClipByRMS": agclip.ClipByRMS,
    "ClipByValue": lambda c: agclip.ClipByValue(-c, c),
    "AdaptiveGradClip": lambda c: agclip.AdaptiveGradClip(c, c, unit_axes="out_in"),
}


def of_rule(name):
    def step(v, c):
        rule = RULES[name](c)
        (clipped,), _, info = rule.update([v], rule.init([v]), [v * 0 + 1])
        return clipped, info.norm, info.scale, info.threshold

    return step


@pytest.fixture
def compiled():
    """Compile for symbols, without a graph break, from a cold start."""
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, fullgraph=True, dynamic=True, backend="eager")
    torch._dynamo.reset()


STEPS = [((2, 3), 0.5), ((4, 3), 0.75)]


def entries(shape):
    return torch.linspace(-2, 3, shape[0] * shape[1]).reshape(shape)


def close(got, wanted):
    got, wanted = (x if isinstance(x, tuple) else (x,) for x in (got, wanted))
    return all(map(torch.allclose, got, [w.to(g.dtype) for g, w in zip(got, wanted, strict=True)]))


CALLS = FUNCTIONS | {name: of_rule(name) for name in RULES}
OFTEN = ("by global norm", "strict", "value", "ClipByNorm", "ClipByValue", "AdaptiveGradClip")
"""What `make test` compiles: one of those that differ in a weight alone."""


def dashed(name):
    return name.replace(" ", "-")


@pytest.mark.parametrize("name", thinned(CALLS, OFTEN, ids=dashed))
def test_sizes_and_bounds_may_be_symbols(name, compiled):
    if name == "AdaptiveGradClip" and torch.__version__ < (2, 13):
        pytest.skip("Dynamo of PyTorch 2.11 cannot make a record with arguments by keyword alone")
    program = compiled(CALLS[name])
    assert all(close(program(entries(s), c), CALLS[name](entries(s), c)) for s, c in STEPS)


@pytest.mark.parametrize("name", thinned(IN_PLACE, OFTEN, ids=dashed))
def test_sizes_and_bounds_may_be_symbols_in_place(name, compiled):
    program = compiled(IN_PLACE[name])
    pairs = [(entries(shape), entries(shape), bound) for shape, bound in STEPS]
    for x, y, bound in pairs:
        program(x, bound)
        IN_PLACE[name](y, bound)
    assert all(close(x, y) for x, y, _ in pairs)


@pytest.mark.parametrize("name", ["rms", "average norm", "norm"])
def test_an_exported_program_serves_all_sizes(name):
    class Clip(torch.nn.Module):
        def forward(self, v):
            return FUNCTIONS[name](v, 0.5)

    sizes = {"v": {0: torch.export.Dim("rows", min=1, max=64)}}
    exported = torch.export.export(Clip(), (entries((4, 3)),), dynamic_shapes=sizes, strict=False)
    program, other = exported.module(), entries((9, 3))
    assert close(program(other), FUNCTIONS[name](other, 0.5))
