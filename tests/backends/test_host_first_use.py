"""The first use of compiled kernels: nowhere to keep them, two processes at once."""

import os
import subprocess
import sys

import numpy as np
import pytest

import agclip
import hosts
from agclip_backends._host import array_sums, keeping

pytest_plugins = ["host_fixtures"]

LOAD = f"""{hosts.AT_ONCE}
import numpy as np
import agclip
from agclip_backends._host.loader import loader
leaf = np.full(5 << 20, 2.0, "float32")
norms = [float(agclip.global_norm([leaf]))]
if loader.thread is not None:
    loader.thread.join()
norms.append(float(agclip.global_norm([leaf])))
print(set(norms) == {{float(np.float32(2.0 * leaf.size**0.5))}}, loader.module is not None)
"""
# One kernel instead of all: what is asked is where it is kept, which takes less long.
ONE = """
from agclip_backends._host import kernels
print(kernels._float32.stats.cache_path, kernels._float32(0x3F800000))
"""


@pytest.fixture
def needs_numba():
    pytest.importorskip("numba", reason="Numba is not installed")


@pytest.fixture
def nowhere(tmp_path):
    """Variables with which Numba finds no folder to write to, as with a read-only home."""
    path = tmp_path / "file"
    path.write_text("")
    return {"NUMBA_CACHE_DIR": path, "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}


def test_without_a_folder_to_write_to_kernels_are_kept_in_memory(needs_numba, nowhere):
    done = hosts.program(ONE, "auto", **nowhere)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None 1.0\n", "")


@pytest.mark.whole
def test_without_a_folder_to_write_to_the_kernels_are_used(needs_numba, nowhere):
    done = hosts.program(LOAD, "auto", **nowhere)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")


def test_what_numba_refuses_for_another_reason_is_raised():
    def compiler(**_):
        def refuse(_):
            message = "no compiler here"
            raise RuntimeError(message)

        return refuse

    with pytest.raises(RuntimeError, match="no compiler here"):
        keeping.kept(compiler)(len)


def test_without_a_home_nothing_is_warned_of(needs_numba, tmp_path):
    done = hosts.program(ONE, "auto", HOME="/nowhere", NUMBA_CACHE_DIR=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" 1.0\n")


@pytest.mark.whole
def test_two_processes_may_compile_at_once(needs_numba, tmp_path):
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "AGCLIP_ACCELERATE": "auto",
    }
    pair = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", LOAD],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [process.communicate(timeout=300) for process in pair] == [("True True\n", "")] * 2


# --- until then -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*hosts.REAL, "complex64"])
@pytest.mark.parametrize("layout", ["C", "F", "strided", "foreign"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_memory_that_leaves_share_changes_no_bit_of_a_sum(dtype, layout, scale):
    x = hosts.drawn(dtype, 7 << 16, seed=3).reshape(7, -1)
    if dtype == "bfloat16" and layout == "foreign":
        pytest.skip("bfloat16 has no other byte order")
    x = {
        "C": lambda: x,
        "F": lambda: np.asfortranarray(x),
        "strided": lambda: x[:, ::3],
        "foreign": lambda: x.astype(x.dtype.newbyteorder()),
    }[layout]()
    exact = hosts.parts(np.ascontiguousarray(x).astype(hosts.dtype_named(dtype))) * scale
    wanted = float(np.sum(np.square(exact.astype(np.longdouble))))
    kept = [np.full(array_sums.PIECE, np.nan)]
    found = {array_sums.of_leaf(x, scale, closely=False, kept=kept) for _ in range(2)}
    assert len(found) == 1
    assert found.pop() == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_tensors_of_any_length_are_summed_right_without_compiled_kernels(count):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    sizes = (1 << 16, (1 << 16) - 1, (3 << 16) + 1, 5000, 7)
    arrays = [hosts.drawn("float32", size, seed=i) for i, size in enumerate(sizes)]
    exact = np.float32(np.sqrt(sum(np.sum(hosts.parts(x) ** 2) for x in arrays)))
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with agclip.config_context(accelerate="off"):
            norm = agclip.global_norm([torch.from_numpy(x.copy()) for x in arrays])
    finally:
        torch.set_num_threads(before)
    assert np.float32(norm.item()) == exact
