"""agclip's functions in the place of PyTorch's: who reaches them, and that all comes back."""

import contextlib
import copy
import doctest
import pickle
import subprocess
import sys
import threading
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch.nn.utils import (  # noqa: E402
    clip_grad,
    clip_grad_norm_,  # a name that is bound before anything is installed
    clip_grads_with_norm_,
    get_total_norm,
)

from agclip import cli  # noqa: E402
from agclip.integrations.torch import (  # noqa: E402
    _installed,
    install,
    installed,
    is_installed,
    uninstall,
)

NAMES = ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm")
INNER = ("clip_grad_norm_", "clip_grad_value_", "_clip_grads_with_norm_", "_get_total_norm")


def places():
    """What stands in all places now."""
    return [
        *(getattr(torch.nn.utils, name) for name in NAMES),
        *(getattr(clip_grad, name) for name in INNER),
    ]


BEFORE = places()


@pytest.fixture(autouse=True)
def _taken_back():
    assert places() == BEFORE, "a test finds PyTorch's functions"
    yield
    uninstall()
    assert places() == BEFORE, "a test leaves PyTorch's functions behind"
    assert not is_installed()


def large():
    """A parameter with gradients whose squares leave float32: PyTorch's norm is infinite."""
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3e30, 4e30])
    return p


def clips_rightly(clip):
    p = large()
    n = clip([p], 1.0)
    return float(n) == pytest.approx(5e30) and p.grad.tolist() == pytest.approx([0.6, 0.8])


def through_the_package(p, c):
    return torch.nn.utils.clip_grad_norm_(p, c)


def through_the_module(p, c):
    return clip_grad.clip_grad_norm_(p, c)


# --- reach -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clip",
    [
        pytest.param(through_the_package, id="torch.nn.utils"),
        pytest.param(through_the_module, id="its module"),
        pytest.param(clip_grad_norm_, id="a name bound before"),
        pytest.param(
            torch.nn.utils.clip_grad_norm,
            id="the deprecated name",
            marks=pytest.mark.filterwarnings("ignore:.*clip_grad_norm:FutureWarning"),
        ),
    ],
)
def test_a_call_by_any_way_clips_rightly_while_installed(clip):
    assert not clips_rightly(clip)
    with installed():
        assert clips_rightly(clip)
    assert not clips_rightly(clip)


def test_the_halves_are_installed_too():
    p = large()
    with installed():
        n = torch.nn.utils.get_total_norm([p.grad])
        torch.nn.utils.clip_grads_with_norm_([p], 1.0, n)
    assert float(n) == pytest.approx(5e30)
    assert p.grad.tolist() == pytest.approx([0.6, 0.8])


def test_the_function_for_values_is_installed_too():
    with installed():
        assert torch.nn.utils.clip_grad_value_ is _installed.clip_grad_value_
        p = large()
        torch.nn.utils.clip_grad_value_([p], 0.5)
    assert p.grad.tolist() == [0.5, 0.5]


def test_other_functions_and_methods_stay():
    fsdp = pytest.importorskip(
        "torch.distributed.fsdp", reason="PyTorch is built without torch.distributed"
    )
    method = fsdp.FullyShardedDataParallel.clip_grad_norm_
    names = set(vars(torch.nn.utils)) - set(NAMES)
    others = {name: getattr(torch.nn.utils, name) for name in names}
    with installed():
        assert fsdp.FullyShardedDataParallel.clip_grad_norm_ is method
        assert {name: getattr(torch.nn.utils, name) for name in names} == others


# --- and back ----------------------------------------------------------------------------------


def test_install_and_uninstall_do_no_more_when_called_twice():
    install()
    install()
    assert is_installed()
    uninstall()
    assert places() == BEFORE
    uninstall()
    assert not is_installed()


def test_contexts_are_counted():
    with installed():
        inner = places()
        with installed():
            assert places() == inner
        assert places() == inner
    assert places() == BEFORE


def test_what_was_installed_outlasts_a_context():
    install()
    with installed():
        pass
    assert is_installed()
    uninstall()


def test_uninstall_waits_for_a_context_to_end():
    with installed():
        install()
        uninstall()
        assert is_installed()
    assert not is_installed()


def test_an_error_in_a_context_ends_it():
    with pytest.raises(KeyError), installed():
        raise KeyError
    assert not is_installed()


def test_a_decorated_function_may_call_itself():
    @installed()
    def count(n):
        assert is_installed()
        return n if n == 0 else count(n - 1)

    assert count(3) == 0
    assert not is_installed()


def test_what_another_has_put_there_before_comes_back():
    with mock.patch("torch.nn.utils.clip_grad_norm_", len):
        with installed():
            assert torch.nn.utils.clip_grad_norm_ is _installed.clip_grad_norm_
        assert torch.nn.utils.clip_grad_norm_ is len


@pytest.mark.parametrize("place", ["torch.nn.utils", "torch.nn.utils.clip_grad"])
def test_what_another_has_put_there_since_is_not_lost(place):
    install()
    with mock.patch(f"{place}.clip_grad_value_", len):
        here = places()
        with pytest.raises(RuntimeError, match="must be what agclip has put there"):
            uninstall()
        assert places() == here
        assert is_installed()
    uninstall()
    assert not is_installed()


def test_a_context_that_cannot_end_is_ended_later():
    patch = mock.patch("torch.nn.utils.clip_grad_norm_", len)
    with pytest.raises(RuntimeError, match="must be what agclip has put there"), installed():
        patch.start()
    patch.stop()
    assert is_installed()
    uninstall()
    assert not is_installed()


def test_threads_share_one_installation():
    begun, enough = threading.Barrier(9), threading.Event()
    wrong = []

    def use():
        for _ in range(50):
            with installed():
                if not clips_rightly(through_the_package):
                    wrong.append(threading.get_ident())
        begun.wait(60)
        enough.wait(60)
        with installed():
            wrong.extend([] if is_installed() else [threading.get_ident()])

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    assert not is_installed()
    enough.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert places() == BEFORE


# --- what holds functions ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_installed_function_is_pickled_by_its_name(name):
    with installed():
        function = getattr(torch.nn.utils, name)
        data = pickle.dumps(function)
        assert copy.deepcopy(function) is function
    assert pickle.loads(data) is function


def test_a_pickled_function_clips_in_another_process():
    with installed():
        data = pickle.dumps(torch.nn.utils.clip_grad_norm_)
    code = (
        "import pickle, torch\n"
        f"clip = pickle.loads({data!r})\n"
        "p = torch.nn.Parameter(torch.zeros(2))\n"
        "p.grad = torch.tensor([3e30, 4e30])\n"
        "clip([p], 1.0)\n"
        "print(p.grad.sum().item() > 1.39)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "True\n"


def test_what_is_compiled_follows_the_installation():
    torch.compiler.reset()
    compiled = torch.compile(through_the_package, fullgraph=True, backend="eager")
    for _ in range(2):
        assert not clips_rightly(compiled)
        with installed():
            assert clips_rightly(compiled)


def test_a_signature_is_that_of_the_function():
    with installed():
        assert torch.nn.utils.clip_grad_norm_.__name__ == "clip_grad_norm_"
        assert torch.nn.utils.clip_grad_norm_.__doc__.startswith("Clip the gradients of parameters")


@pytest.mark.parametrize("function", [install, installed])
def test_the_example_gives_what_it_says(function):
    (found,) = doctest.DocTestFinder().find(function, globs={})
    assert found.examples
    assert doctest.DocTestRunner().run(found).failed == 0


# --- what is said ------------------------------------------------------------------------------


def test_an_error_says_whose_function_it_is():
    with installed(), pytest.raises(TypeError, match="parameters") as caught:
        torch.nn.utils.clip_grad_norm_([1.0], 1.0)
    (note,) = caught.value.__notes__
    assert "agclip.integrations.torch has put in the place of PyTorch's" in note


@pytest.mark.parametrize("name", NAMES)
def test_a_dtensor_is_clipped_as_by_pytorch(name, process_group):
    tensor = pytest.importorskip("torch.distributed.tensor", reason="PyTorch has no DTensor")
    found = []
    for how in (contextlib.nullcontext, installed):
        p = torch.nn.Parameter(tensor.distribute_tensor(torch.zeros(2), process_group))
        p.grad = tensor.distribute_tensor(torch.ones(2), process_group)
        arguments = {
            "clip_grad_norm_": ([p], 1.0),
            "clip_grad_value_": ([p], 0.5),
            "clip_grads_with_norm_": ([p], 1.0, torch.tensor(2.0)),
            "get_total_norm": ([p.grad],),
        }[name]
        with how():
            result = getattr(torch.nn.utils, name)(*arguments)
        number = None if result is None else float(result.full_tensor())
        found.append((type(result), number, p.grad.full_tensor().tolist()))
    (kind, norm, grads), ours = found
    assert ours == (kind, norm and pytest.approx(norm), pytest.approx(grads))


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    if not torch.distributed.is_available():
        pytest.skip("PyTorch is built without torch.distributed")
    store = tmp_path_factory.mktemp("store") / "file"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=0, world_size=1
    )
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_check_says_that_it_is_on(capsys):
    note = "agclip's functions are installed in place of torch's own."
    for context, shown in ((contextlib.nullcontext(), False), (installed(), True)):
        with context:
            assert cli.main(["check", "--backend", "numpy"]) == 0
        assert (note in capsys.readouterr().out) is shown


def test_names_of_the_halves_that_were_bound_before_stay():
    with installed():
        assert get_total_norm is BEFORE[3]
        assert clip_grads_with_norm_ is BEFORE[2]
        assert not torch.isfinite(get_total_norm([large().grad]))
