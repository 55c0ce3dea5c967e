"""The fused CUDA source through NVIDIA's own compiler, which needs no GPU."""

import re

import pytest

from agclip_backends._cuda import table
from agclip_backends._cuda.fused_source import KERNELS, SOURCE
from agclip_backends._cuda.source import THREADS
from thinned import thinned

CUPYS = ["--std=c++17", "--fmad=false", "-ftz=true"]
"""What CuPy 14 makes of the options that it is given."""

ALL = "-DKINDS=15"
NORM, PRODUCT = KERNELS[0], "agclip_product"


@pytest.fixture(scope="module")
def nvrtc():
    module = pytest.importorskip("cupy", reason="CuPy is not installed").cuda.nvrtc
    try:
        module.getVersion()
    except Exception as error:  # noqa: BLE001 - CuPy's finder has errors of its own
        reason = str(error).partition("\n")[0]
        pytest.skip(f"NVRTC (nvidia-cuda-nvrtc) is not installed: {reason}")
    return module


def architecture_of(nvrtc, number):
    known = nvrtc.getSupportedArchs()
    if number not in known:
        version = ".".join(map(str, nvrtc.getVersion()))
        pytest.skip(f"NVRTC {version} does not know sm_{number}")
    return number


def compiled(nvrtc, *options):
    program = nvrtc.createProgram(SOURCE, "agclip.cu", [], [])
    nvrtc.compileProgram(program, [*CUPYS, *options])
    return program


def ptx_of(nvrtc, program):
    ptx = nvrtc.getPTX(program)
    return ptx.decode() if isinstance(ptx, bytes) else ptx


def bodies(ptx):
    """The text of each kernel, with its parameters."""
    return dict(re.findall(r"\.entry (\w+)\((.*?\n})", ptx, re.DOTALL))


@pytest.fixture(scope="module")
def whole(nvrtc):
    """Every kernel for every kind of leaf, for one architecture."""
    number = architecture_of(nvrtc, 90)
    return bodies(ptx_of(nvrtc, compiled(nvrtc, f"--gpu-architecture=compute_{number}")))


OTHERS = thinned([70, 75, 80, 86, 89, 100, 120], keep=(80,), ids="sm_{}".format)


@pytest.fixture(scope="module", params=OTHERS)
def hot(request, nvrtc):
    """The two kernels of a usual clip, for another architecture."""
    number = architecture_of(nvrtc, request.param)
    found = {}
    for name in (NORM, PRODUCT):
        options = f"--gpu-architecture=compute_{number}", f"-DONLY={KERNELS.index(name)}", ALL
        found.update(bodies(ptx_of(nvrtc, compiled(nvrtc, *options))))
    return found


def float32_arithmetic(ptx):
    """The instructions that compute with float32, or convert or compare it."""
    kinds = "add|sub|mul|div|fma|mad|min|max|abs|neg|setp|cvt"
    return {found for found in re.findall(rf"\b(?:{kinds})\.[.\w]+", ptx) if "f32" in found}


RIGHT = {
    *("mul.rn.f32", "cvt.f64.f32", "cvt.rn.f32.f64", "cvt.f32.f16", "cvt.rn.f16.f32"),
    *("cvt.rn.bf16.f32", "setp.le.f32", "setp.ge.f32", "setp.nan.f32"),
}


def test_every_kernel_is_an_entry_of_the_program(whole):
    assert sorted(whole) == sorted(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_float32_is_computed_with_as_it_is_written_down(whole, name):
    assert "ftz" not in whole[name]
    assert float32_arithmetic(whole[name]) <= RIGHT


def test_so_it_is_on_other_devices(hot):
    for text in hot.values():
        assert "ftz" not in text
        assert float32_arithmetic(text) <= RIGHT


@pytest.mark.parametrize("name", KERNELS)
def test_a_launch_has_the_blocks_and_arguments_that_the_host_gives_it(whole, name):
    assert f".maxntid {THREADS}" in whole[name]
    (size,) = re.findall(r"\.param \.align 8 \.b8 \w+\[(\d+)\]", whole[name])
    assert int(size) == table.SIZE <= 4096


@pytest.mark.parametrize("name", KERNELS)
def test_the_table_is_not_copied_to_each_thread(whole, name):
    assert ".local" not in whole[name]


def test_atomics_count_and_add_no_numbers(whole):
    for name, text in whole.items():
        found = set(re.findall(r"\b(?:atom|red)\.[.\w]+", text))
        assert found <= {"atom.global.add.u32", "atom.add.u32"}, name
        assert bool(found) == (name not in ("agclip_within", "agclip_report", "agclip_given"))


def test_squares_are_added_in_one_rounding_and_nothing_else_is(whole):
    assert "fma.rn.f64" in whole[NORM]
    assert "fma.rn.f64" not in whole[PRODUCT]


@pytest.mark.parametrize("name", [NORM, PRODUCT])
def test_sixteen_bytes_move_at_once_for_each_kind_of_leaf(hot, name):
    assert len(re.findall(r"ld\.global\.v4\.u32", hot[name])) >= 4 * 4
    if name == PRODUCT:
        assert len(re.findall(r"st\.global\.v4\.u32", hot[name])) >= 4 * 4


@pytest.mark.parametrize("kinds", thinned([2, 4, 8, 15], keep=(8, 15)))
@pytest.mark.parametrize(("name", "blocks"), [(NORM, 4), (PRODUCT, 2)])
def test_no_register_is_spilled_and_enough_blocks_fit(nvrtc, name, blocks, kinds):
    number = architecture_of(nvrtc, 90)
    only = f"-DONLY={KERNELS.index(name)}", f"-DKINDS={kinds}"
    program = compiled(nvrtc, f"--gpu-architecture=sm_{number}", "--ptxas-options=-v", *only)
    log = nvrtc.getProgramLog(program)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", log)
    assert frames == [("0", "0", "0")]
    (registers,) = re.findall(r"Used (\d+) registers", log)
    assert int(registers) * THREADS * blocks <= 1 << 16


def test_launches_that_may_begin_early_wait_before_they_read_what_the_last_wrote(whole):
    waiting = {name for name, text in whole.items() if "griddepcontrol.wait" in text}
    assert waiting == {"agclip_norm_2_again", PRODUCT}
    letting = {name for name, text in whole.items() if "launch_dependents" in text}
    assert letting == {name for name in KERNELS if name.startswith("agclip_norm")}


def test_devices_before_hopper_have_no_such_launches(hot, request):
    if request.node.callspec.params["hot"] < 90:
        assert not any("griddepcontrol" in text for text in hot.values())
