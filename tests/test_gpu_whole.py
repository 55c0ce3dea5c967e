"""The run of everything that needs a GPU: a part that fails costs the others nothing."""

import argparse
import json

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

import fused_host
import fused_rehearsal
from agclip_backends._cuda.fused import Room
from bench.gpu import against_numpy, conformance, public, summary, whole
from bench.gpu import run as run_
from thinned import thinned

PARTS = {
    "passes": (["-c", "print('fine')"], 0, "fine"),
    "fails": (["-c", "raise SystemExit('no driver')"], 1, "no driver"),
    "ends": (["-c", "import os; os.abort()"], -6, ""),
    "hangs": (
        ["-uc", "print('begun'); import time; time.sleep(60)"],
        "out of time",
        "begun",
    ),
}


@pytest.fixture
def run(tmp_path):
    return whole.Run(argparse.Namespace(out=tmp_path, budget=100.0, rehearse=True))


@pytest.mark.parametrize("name", PARTS)
def test_how_a_part_ends_is_told_and_the_next_one_runs(run, tmp_path, name):
    arguments, code, said = PARTS[name]
    limit = 3 if name == "hangs" else 30
    run.run(whole.Part(name, arguments, limit), limit)
    run.run(whole.Part("after it", ["-c", "print('here')"], 30), 30)
    told = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert told[name]["code"] == code
    assert said in "\n".join(told[name]["said"])
    assert told["after it"]["code"] == 0
    table = (tmp_path / "gpu.md").read_text()
    assert f"| {name} | {code} |" in table
    assert ("\n" + " " * 4 + said in table) == (code != 0 and bool(said))


def test_counts_and_failures_of_shares_are_added_up(tmp_path):
    for share, failures in enumerate(({}, {"zeros": "-0\nmore"})):
        found = {"library": "torch", "counts": {"passed": 3, "failed": len(failures)}}
        path = tmp_path / f"conformance-torch-{share}.json"
        path.write_text(json.dumps({**found, "failures": failures}))
    table = summary.table({"versions": {}, "parts": {}, "results": summary.results(tmp_path)})
    assert "| torch | 6 | 0 | 1 | 0 | 0 |" in table
    assert "- torch: zeros: -0\n" in table


def test_the_device_is_shared_out_whole():
    assert sum(whole.ALONE.values()) < 1
    assert set(whole.LIBRARIES) == set(whole.SHARES) == set(public.CONTESTS)


@pytest.mark.parametrize(
    ("package", "parts"),
    {
        "pytest": {"tests"},
        "cupy": {"conformance cupy", "public cupy"},
        "jax": {"conformance jax"},
        "optax": {"public jax"},
    }.items(),
)
def test_what_is_not_run_for_want_of_a_package_is_told(monkeypatch, tmp_path, package, parts):
    there = {"torch", "cupy", "jax", "optax", "pytest", "xdist"} - {package}
    monkeypatch.setattr(whole.importlib.util, "find_spec", lambda name: name in there or None)
    options = argparse.Namespace(out=tmp_path, budget=100.0, rehearse=False)
    found = whole.left_out(options)
    assert found == dict.fromkeys(parts, f"{package} is not installed")
    run = [*whole.beside_each_other(options, 60.0), *whole.alone(options)]
    assert not [part.name for part in run if part.name.startswith(tuple(parts))]
    assert len(run) > 10
    told = summary.table({"versions": {}, "parts": {}, "left out": found, "results": {}})
    for part in parts:
        assert f"| {part} | not run |  | {package} is not installed |" in told


def test_parts_that_take_times_come_in_the_order_of_their_worth(monkeypatch, tmp_path):
    monkeypatch.setattr(whole, "here", lambda *_: True)
    options = argparse.Namespace(out=tmp_path, budget=430.0, rehearse=False)
    assert [part.name for part in whole.alone(options)] == list(whole.ALONE)


def test_every_test_file_is_there():
    assert [file for file in whole.TESTS if not (whole.ROOT / file).is_file()] == []


def test_a_share_begins_with_one_check_of_every_promise():
    every = conformance.fixed_checks()
    turned = conformance.in_turn(every)
    promises = [check.name.partition(" [")[0].partition(":")[0] for check in turned]
    assert sorted(map(id, turned)) == sorted(map(id, every))
    assert len(set(promises[: len(set(promises))])) == len(set(promises))


@pytest.fixture(scope="session")
def room(tmp_path_factory):
    if fused_host.COMPILER is None:
        pytest.skip("there is no C++ compiler here")
    host = fused_host.HostLibrary(fused_host.build(tmp_path_factory.mktemp("fused")))
    return Room(fused_rehearsal.CpuLibrary(host))


@pytest.mark.parametrize("name", thinned(against_numpy.CHECKS, keep=("per leaf", "slices")))
def test_checks_of_kernels_pass_on_the_host(monkeypatch, room, name):
    """What calls the kernels past the public functions has to go with them."""
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    monkeypatch.setattr(run_, "device", "cpu")
    monkeypatch.setattr(run_, "room", room, raising=False)
    monkeypatch.setattr(run_, "options", argparse.Namespace(rehearse=True, size=50_000))
    against_numpy.CHECKS[name]()


def test_a_rehearsal_measures_every_function_of_pytorch(monkeypatch, tmp_path, capsys):
    given = ["public", "torch", "--rehearse", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", given)
    monkeypatch.setattr(public, "TURN", 1e-4)
    with pytest.raises(SystemExit) as ended:
        public.main()
    assert ended.value.code == 0, capsys.readouterr()
    found = json.loads((tmp_path / "public-torch.json").read_text())
    assert {case.rpartition(", ")[2] for case in found} == set(public.DTYPES)
    for contests in found.values():
        assert all(times["agclip"] > 0 for times in contests.values())
        assert sum("agclip ÷ torch" in times for times in contests.values()) == 4
        assert len(contests) == 8
