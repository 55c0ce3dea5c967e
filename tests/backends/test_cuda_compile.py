"""The CUDA kernels through NVIDIA's own compiler, which needs no GPU."""

import re

import pytest

from agclip_backends._cuda.arithmetic import ARITHMETIC, MULTIPLY, OPTIONS
from agclip_backends._cuda.source import KINDS, SOURCE, THREADS
from cuda_host import OPERATIONS, parameters, statements
from thinned import thinned

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


class _Program:
    """In place of CuPy's own: it keeps the options that it would compile with."""

    options = None

    def __init__(self, source, *_, **__):
        self.source = source

    def compile(self, options=(), log_stream=None):
        # Before it compiles CuPy has an empty file preprocessed.
        _Program.options = options if self.source else _Program.options
        return b"", {}


@pytest.fixture(scope="session")
def options(nvrtc):
    """What CuPy's `RawModule` tells the compiler, in its order, but for the architecture."""
    from cupy.cuda import compiler

    class Module:
        def load(self, _): ...
        def _set_mapping(self, _): ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUPY_CACHE_IN_MEMORY", "1")
        # These two ask the driver.
        patch.setattr(compiler, "_get_arch", lambda: "90")
        patch.setattr(
            compiler, "_get_arch_for_options_for_nvrtc", lambda arch: (f"-arch=sm_{arch}", "cubin")
        )
        patch.setattr(compiler, "_NVRTCProgram", _Program)
        patch.setattr(compiler.function, "Module", Module)
        compiler._compile_module_with_cache(SOURCE, OPTIONS)
    found = _Program.options
    assert found[: len(OPTIONS)] == OPTIONS
    assert len([option for option in found if option.startswith("-arch=")]) == 1
    return [option for option in found if not option.startswith("-arch=")]


def test_cupy_has_subnormal_numbers_flushed(options):
    """Which the kernels must not mind: were it not so, the tests of that would prove nothing."""
    assert "-ftz=true" in options[len(OPTIONS) :]


ARCHITECTURES = thinned([70, 75, 80, 86, 89, 90, 100, 120], keep=(80, 90), ids="sm_{}".format)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request, nvrtc):
    known = nvrtc.getSupportedArchs()
    if request.param not in known:
        version = ".".join(map(str, nvrtc.getVersion()))
        pytest.skip(f"NVRTC {version} does not compile for sm_{request.param}")
    return request.param


def compiled(nvrtc, *options, source=SOURCE):
    program = nvrtc.createProgram(source, "agclip.cu", [], [])
    nvrtc.compileProgram(program, list(options))
    return program


def ptx_of(nvrtc, program):
    ptx = nvrtc.getPTX(program)
    return ptx.decode() if isinstance(ptx, bytes) else ptx


def bodies(ptx):
    """The instructions of each kernel."""
    return dict(re.findall(r"\.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))


@pytest.fixture(scope="module")
def kernels(nvrtc, options, architecture):
    program = compiled(nvrtc, *options, f"-arch=compute_{architecture}")
    return bodies(ptx_of(nvrtc, program))


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


def test_contraction_would_find_nothing_to_contract(nvrtc, options):
    ours, theirs = (
        ptx_of(nvrtc, compiled(nvrtc, *options, "-arch=compute_80", option))
        for option in ("--fmad=false", "--fmad=true")
    )
    assert len(re.findall(r"\bfma\.", ours)) == len(re.findall(r"\bfma\.", theirs))


@pytest.mark.parametrize("name", ["agclip_sum_chunks", "agclip_scale"])
def test_half_precision_is_converted_by_the_hardware(kernels, name):
    assert "cvt.f32.f16" in kernels[name]
    assert ("cvt.rn.f16.f32" in kernels[name]) == (name == "agclip_scale")


FLUSHING = re.compile(r"\b\w+(?:\.\w+)*\.ftz\b[^;]*")


@pytest.mark.parametrize("name", KERNELS)
def test_subnormals_are_kept(kernels, name):
    assert FLUSHING.findall(kernels[name]) == []


def kernel_of(operation):
    """A program that does an operation to one entry."""
    head = f'extern "C" __global__ void entries({parameters(operation)})'
    return f"{ARITHMETIC}\n{head} {{ int i = threadIdx.x; {statements(operation)} }}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_subnormals(nvrtc, options, architecture, name):
    source = kernel_of(OPERATIONS[name])
    ptx = ptx_of(nvrtc, compiled(nvrtc, *options, f"-arch=compute_{architecture}", source=source))
    assert list(bodies(ptx)) == ["entries"]
    assert FLUSHING.findall(ptx) == []


@pytest.mark.parametrize(
    "body", ["y = x * (float)rest", "y = (float)rest", "y = (double)x < rest ? 1.0f : 0.0f"]
)
def test_operators_would_flush_subnormals(nvrtc, options, body):
    operation = MULTIPLY[2]._replace(body=body)
    source = kernel_of(operation)
    ptx = ptx_of(nvrtc, compiled(nvrtc, *options, "-arch=compute_90", source=source))
    assert FLUSHING.findall(ptx)


@pytest.fixture(scope="module")
def usage(nvrtc, options, architecture):
    """What the assembler reports."""
    program = compiled(nvrtc, *options, f"-arch=sm_{architecture}", "--ptxas-options=-v")
    return nvrtc.getProgramLog(program)


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
        nvrtc.compileProgram(program, list(OPTIONS))
