"""bench.compare: its statistics on made-up times, its errors, and a revision slowed on purpose."""

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench import compare, compare_set, verdict

ROOT = Path(__file__).parents[1]
ROUNDS = 6

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="Git is not installed")


def times(seed, factor=1.0, noise=0.03, seconds=1e-4):
    """Return rounds of one benchmark, scattered log-normally."""
    scatter = np.random.default_rng(seed).normal(0.0, noise, ROUNDS)
    return [{"clip": factor * seconds * float(np.exp(x))} for x in scatter]


def judged(factor, noise=0.03, seconds=1e-4, seed=0):
    base, again, head = (times(3 * seed + i, noise=noise, seconds=seconds) for i in range(3))
    slowed = [{name: factor * value for name, value in round_.items()} for round_ in head]
    return verdict.judge(base, again, slowed)[0]


@pytest.mark.parametrize("factor", [1.5, 2.0, 10.0])
def test_a_slower_head_is_found(factor):
    found = judged(factor)
    assert found.slower
    assert found.ratio.low <= found.ratio.median <= found.ratio.high
    assert found.ratio.median == pytest.approx(factor, rel=0.1)
    assert found.lost == pytest.approx((factor - 1) * 1e-4, rel=0.2)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_noise_is_not_taken_for_a_slower_head(seed, noise):
    assert not judged(1.0, noise=noise, seed=seed).slower


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.2])
def test_a_head_within_the_least_bound_passes(factor):
    found = judged(factor)
    assert found.allowed >= verdict.LEAST
    assert not found.slower


def test_noise_between_equal_revisions_widens_what_is_allowed():
    quiet, loud = judged(1.5, noise=0.01), judged(1.5, noise=0.4)
    assert quiet.allowed == verdict.LEAST
    assert loud.allowed == pytest.approx(loud.noise.reach**3)
    assert quiet.slower
    assert not loud.slower


def test_less_than_the_floor_does_not_count():
    assert not judged(3.0, seconds=2e-6).slower
    assert judged(3.0, seconds=3e-6).slower


def test_one_disturbed_round_moves_nothing():
    base, again, head = times(0), times(1), times(2)
    head[3] = {"clip": 1.0}
    assert not verdict.judge(base, again, head)[0].slower


def test_the_interval_is_the_same_at_every_call():
    assert verdict.interval([1.0, 1.1, 1.3]) == verdict.interval([1.0, 1.1, 1.3])


def test_equal_ratios_have_an_interval_of_no_width():
    assert verdict.interval([1.5] * 5) == verdict.Interval(1.5, 1.5, 1.5)


def test_a_benchmark_that_one_revision_lacks_is_left_out():
    both = {"clip": 1e-4, "new": 1e-4}
    found = verdict.judge([{"clip": 1e-4}] * 3, [{"clip": 1e-4}] * 3, [both] * 3)
    assert [v.name for v in found] == ["clip"]


def git(repo, *arguments):
    name = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *name, *arguments], cwd=repo, check=True, capture_output=True)


def worktrees(repo):
    listed = compare.git("worktree", "list", "--porcelain", root=repo)
    return [line for line in listed.splitlines() if line.startswith("worktree ")]


@pytest.fixture
def repo(tmp_path):
    """Return a repository with the sources as they are, committed."""
    for folder in compare.SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    return tmp_path


def test_an_unknown_revision_is_an_error(repo, capsys):
    assert compare.main(["nowhere"], root=repo) == 2
    message = "`BASE` must be a revision of this repository; got 'nowhere'."
    assert message in capsys.readouterr().err


def test_an_option_for_a_revision_is_an_error(repo, capsys):
    assert compare.main(["--", "--all"], root=repo) == 2
    assert "got '--all'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["agclip/__init__.py", "backends/new.py"])
def test_a_dirty_tree_is_an_error(repo, capsys, name):
    with (repo / name).open("a") as file:
        file.write("\n")
    assert compare.main(["HEAD"], root=repo) == 2
    message = f"the sources must be committed; got changes in {name}. Commit or stash them."
    assert message in capsys.readouterr().err


def test_a_folder_without_a_repository_is_an_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert compare.main(["HEAD"], root=tmp_path) == 2
    assert "not a git repository" in capsys.readouterr().err


def test_no_benchmark_is_an_error(repo, capsys):
    assert compare.main(["HEAD", "--only", "nothing"], root=repo) == 2
    assert "`--only` must be part of a name; got no match in" in capsys.readouterr().err


def test_too_few_rounds_are_an_error(repo, capsys):
    assert compare.main(["HEAD", "--rounds", "2"], root=repo) == 2
    assert "`--rounds` must be at least 3; got 2." in capsys.readouterr().err


def test_both_revisions_are_checked_out_and_removed(repo):
    with compare.checkouts(("HEAD", "HEAD"), repo) as trees:
        assert all((tree / "agclip/__init__.py").exists() for tree in trees)
        assert len(worktrees(repo)) == 3
    assert not any(tree.exists() for tree in trees)
    assert len(worktrees(repo)) == 1


def test_checkouts_are_removed_after_an_error(repo):
    with pytest.raises(KeyboardInterrupt), compare.checkouts(("HEAD",), repo):
        raise KeyboardInterrupt
    assert len(worktrees(repo)) == 1


def test_a_revision_that_cannot_run_is_an_error_and_leaves_nothing_behind(
    repo, capsys, monkeypatch
):
    monkeypatch.setenv("AGCLIP_ACCELERATE", "off")  # to compile takes longer than to fail
    (repo / "agclip/__init__.py").write_text("raise RuntimeError('broken')\n")
    git(repo, "commit", "--all", "--quiet", "--message", "Break")
    assert compare.main(["HEAD~1", "--only", "numpy/one"], root=repo) == 2
    error = capsys.readouterr().err
    assert "the benchmarks must run in both revisions; got:" in error
    assert "broken" in error
    assert len(worktrees(repo)) == 1


SLOWED = """
import time

_fast = clip_by_global_norm_


def clip_by_global_norm_(*args, **kwargs):
    time.sleep(0.1)
    return _fast(*args, **kwargs)
"""


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy/small", "torch/mlp in training"])
def test_a_revision_slowed_on_purpose_fails_by_name(repo, capsys, monkeypatch, name):
    pytest.importorskip(name.partition("/")[0], reason="PyTorch is not installed")
    monkeypatch.setenv("AGCLIP_ACCELERATE", "off")  # to compile takes longer than to measure
    with (repo / "agclip/__init__.py").open("a") as file:
        file.write(SLOWED)
    git(repo, "commit", "--all", "--quiet", "--message", "Slow")
    arguments = ["HEAD~1", "--only", f"global_norm_/{name}", "--rounds", "3"]
    assert compare.main(arguments, root=repo) == 1
    out = capsys.readouterr().out
    assert "Measured once more" in out
    assert f"Slower than HEAD~1: clip_by_global_norm_/{name}." in out
    assert len(worktrees(repo)) == 1


ALONE = "clip_by_global_norm_/numpy/small"


@pytest.fixture
def runs(monkeypatch):
    """The benchmarks that a process is started for, and the numbers of threads that it is given."""
    found = []

    def run(command, env, **_):
        threads = {env.get(name, "many") for name in compare._THREADS}
        found.append((command[4:], threads))
        times = json.dumps(dict.fromkeys(command[4:], 1.0))
        return subprocess.CompletedProcess(command, 0, times, "")

    for name in compare._THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(compare.subprocess, "run", run)
    return found


def test_clips_in_training_have_a_process_with_all_threads(runs, tmp_path):
    names = [ALONE, *compare_set.AFTER_WORK]
    assert list(compare.run(tmp_path, names)) == names
    assert runs == [([ALONE], {"1"}), (list(compare_set.AFTER_WORK), {"many"})]


@pytest.mark.parametrize("name", [ALONE, compare_set.AFTER_WORK[0]])
def test_no_process_is_started_for_no_benchmark(runs, tmp_path, name):
    assert compare.run(tmp_path, [name]) == {name: 1.0}
    assert len(runs) == 1


def test_work_before_a_clip_does_not_count(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(compare_set.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(compare_set, "WORKING", 30.0)
    done = []
    found = compare_set.measure_after(
        lambda: [done.append("work"), [next(clock) for _ in range(9)]], lambda: done.append("clip")
    )
    assert found == 1.0
    assert done == ["work", "clip"] * (len(done) // 2)
    assert len(done) >= 2 * compare_set.LEAST_CALLS


@pytest.mark.parametrize("name", compare_set.AFTER_WORK)
def test_each_clip_in_training_clips(name, monkeypatch):
    library = name.split("/")[1]
    pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.setattr(compare_set, "MODEL", (6, 5, 3))
    small = {key: [(4,)] * 2 for key in compare_set.SHAPES}
    monkeypatch.setattr(compare_set, "SHAPES", small)
    works, call = compare_set.in_training(name)
    for _ in range(2):
        works()
        call()
