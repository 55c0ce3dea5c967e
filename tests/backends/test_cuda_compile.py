"""The CUDA kernels through NVIDIA's own compiler, which needs no GPU."""

import re

import pytest

from agclip_backends._cuda.source import KINDS, SOURCE, THREADS

OPTIONS = ["--std=c++14", "--fmad=false"]
KERNELS = ["agclip_sum_chunks", "agclip_sum_leaves", "agclip_scale"]


@pytest.fixture(scope="session")
def nvrtc():
    module = pytest.importorskip("cupy", reason="CuPy is not installed").cuda.nvrtc
    try:
        module.getVersion()
    except Exception as error:  # noqa: BLE001 - CuPy's finder has errors of its own
        reason = str(error).partition("\n")[0]
        pytest.skip(f"NVRTC (nvidia-cuda-nvrtc) is not installed: {reason}")
    return module


@pytest.fixture(scope="module", params=[70, 75, 80, 86, 89, 90], ids="sm_{}".format)
def architecture(request, nvrtc):
    known = nvrtc.getSupportedArchs()
    if request.param not in known:
        version = ".".join(map(str, nvrtc.getVersion()))
        pytest.skip(f"NVRTC {version} compiles for none before sm_{min(known)}")
    return request.param


def compiled(nvrtc, *options):
    program = nvrtc.createProgram(SOURCE, "agclip.cu", [], [])
    nvrtc.compileProgram(program, [*OPTIONS, *options])
    return program


def ptx_of(nvrtc, program):
    ptx = nvrtc.getPTX(program)
    return ptx.decode() if isinstance(ptx, bytes) else ptx


def bodies(ptx):
    """The instructions of each kernel."""
    return dict(re.findall(r"\.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))


@pytest.fixture(scope="module")
def kernels(nvrtc, architecture):
    return bodies(ptx_of(nvrtc, compiled(nvrtc, f"--gpu-architecture=compute_{architecture}")))


def test_every_kernel_is_an_entry_of_the_program(kernels):
    assert sorted(kernels) == sorted(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_a_block_has_the_threads_that_the_kernel_counts_on(kernels, name):
    assert f".maxntid {THREADS}" in kernels[name]


def wide(ptx, instruction):
    """The instructions that move sixteen bytes."""
    pattern = rf"\b{instruction}(?:\.global)?\.(?:v4\.[ufb]32|v2\.[ufb]64)"
    return re.findall(pattern, ptx)


@pytest.mark.parametrize("name", ["agclip_sum_chunks", "agclip_scale"])
def test_sixteen_bytes_are_read_at_once_for_each_kind_of_leaf(kernels, name):
    assert len(wide(kernels[name], "ld")) >= 4 * len(set(KINDS.values()))


def test_sixteen_bytes_are_written_at_once_for_each_kind_of_leaf(kernels):
    assert len(wide(kernels["agclip_scale"], "st")) >= 4 * len(set(KINDS.values()))


@pytest.mark.parametrize("name", KERNELS)
def test_nothing_is_added_atomically(kernels, name):
    assert not re.search(r"\b(atom|red)\.", kernels[name])


@pytest.mark.parametrize("name", ["agclip_sum_leaves", "agclip_scale"])
def test_products_are_rounded_before_anything_else(kernels, name):
    assert not re.search(r"\bfma\.|\bmad\.\w+\.f", kernels[name])


def test_squares_are_added_in_one_rounding(kernels):
    assert re.search(r"\bfma\.rn\.f64", kernels["agclip_sum_chunks"])
    assert not re.search(r"\bfma\.rn\.f32", kernels["agclip_sum_chunks"])


def test_contraction_would_find_nothing_to_contract(nvrtc):
    ours, theirs = (
        ptx_of(nvrtc, compiled(nvrtc, "--gpu-architecture=compute_80", option))
        for option in ("--fmad=false", "--fmad=true")
    )
    assert len(re.findall(r"\bfma\.", ours)) == len(re.findall(r"\bfma\.", theirs))


@pytest.mark.parametrize("name", ["agclip_sum_chunks", "agclip_scale"])
def test_half_precision_is_converted_by_the_hardware(kernels, name):
    assert "cvt.f32.f16" in kernels[name]
    assert ("cvt.rn.f16.f32" in kernels[name]) == (name == "agclip_scale")


def test_subnormals_are_kept(kernels):
    assert not re.search(r"\.ftz\b", "".join(kernels.values()))


@pytest.fixture(scope="module")
def usage(nvrtc, architecture):
    """What the assembler reports."""
    options = f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"
    return nvrtc.getProgramLog(compiled(nvrtc, *options))


def test_no_register_is_spilled(usage):
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", usage)
    assert frames == [("0", "0", "0")] * len(KERNELS)


def test_registers_leave_room_for_a_thousand_threads_a_multiprocessor(usage):
    registers = [int(found) for found in re.findall(r"Used (\d+) registers", usage)]
    assert len(registers) == len(KERNELS)
    assert max(registers) * 1024 <= 1 << 16


def test_a_mistake_in_the_source_would_be_found(nvrtc):
    program = nvrtc.createProgram(SOURCE.replace("threadIdx.x", "thread.x"), "agclip.cu", [], [])
    with pytest.raises(nvrtc.NVRTCError, match="NVRTC_ERROR_COMPILATION"):
        nvrtc.compileProgram(program, OPTIONS)
