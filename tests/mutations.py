"""Break lines of the package, one at a time, and see whether the tests that guard them fail.

    make mutations
    make mutations MUTATION=shared  # those with a word in their name

Each line is broken in a temporary copy of the tree. It counts as caught if a test fails with it,
and the same test passes without. A line is named by its text, wherever it stands; a text that is
gone, or that stands twice, ends the run: the table below is then to be mended.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPIED = ("agclip", "backends", "docs", "tests", "conftest.py", "pyproject.toml", "README.md")
SOURCES = ("agclip/**/*.py", "backends/**/*.py", "docs/**/*.md")
FAILED = 1
"""The exit status of pytest where tests failed, and nothing else happened."""


class Mutation(NamedTuple):
    """A line, what it becomes, and the arguments of pytest for the tests that should see it."""

    line: str
    broken: str
    tests: str


NEW = "tests/conformance/test_matrix.py::test_new_arrays_are_what_the_oracle_says"
IN_PLACE = (
    "tests/conformance/test_matrix.py::"
    "test_in_place_is_new_to_the_bit_and_so_are_states_and_records"
)
CHECK = "tests/conformance/test_conformance.py::TestEveryLibrary::test_check"
STRICT = "tests/conformance/test_strict.py"
EXACT = "tests/numerics/test_exact.py"
FOLD = "tests/integrations/torch/test_fold.py"
MUTATIONS = {
    "in place: NumPy's product goes elsewhere": Mutation(
        "        _multiply(leaf, factor, leaf)\n",
        "        _multiply(leaf, factor, np.empty_like(leaf))\n",
        f"{IN_PLACE} -k numpy-plain",
    ),
    "in place: the clipper returns new arrays": Mutation(
        "step(self.rule, grads, state, params, inplace=self.inplace)",
        "step(self.rule, grads, state, params, inplace=False)",
        "tests/rules/test_clipper.py",
    ),
    "foreign and in place: nothing is written": Mutation(
        "            if new is not original:\n                kernels.write(original, new)",
        "            if new is original:\n                kernels.write(original, new)",
        f"{IN_PLACE} -k numpy-foreign",
    ),
    "foreign: given back without its dtype": Mutation(
        "owner.restore(original, kernels.cast(owner.xp, new, original.dtype))",
        "owner.restore(original, new)",
        "tests/config/test_config_foreign.py",
    ),
    "loss scale: not divided by within the bound": Mutation(
        "applies = exceeds if loss_scale is None else exceeds | m.logical_not(exceeds)",
        "applies = exceeds",
        "tests/functions/test_loss_scale_range.py",
    ),
    "loss scale: an infinite factor": Mutation(
        "rest = m.where(rest > _LARGEST[wide], _LARGEST[wide], rest)",
        "rest = rest * 1.0",
        "tests/functions/test_loss_scale_range.py::"
        "test_a_scale_below_the_range_of_a_device_without_float64_keeps_zeros",
    ),
    "strict: no margin for the computed norm": Mutation(
        "margin = STRICT_MARGIN[terms.wide] if terms.shrink < 1.0 else 1.0",
        "margin = 1.0",
        f"{STRICT}::test_a_norm_that_rounds_to_the_bound_is_above_it",
    ),
    "strict: half types are not rounded once more": Mutation(
        "return shrink - coarsest * (1.0 + 2.0**-9)",
        "return shrink - 0.0 * coarsest",
        f"{STRICT}::test_half_types_are_never_above_in_their_normal_range",
    ),
    "non-finite: `skip` scales": Mutation(
        'exceeds = clipped if terms.policy == "skip" else over | m.logical_not(finite)',
        "exceeds = over | m.logical_not(finite)",
        f"{CHECK} -k 'clip_per_example and skip and numpy'",
    ),
    "non-finite: `propagate` leaves numbers": Mutation(
        'if terms.policy in ("propagate", "error"):\n        rest',
        'if terms.policy in ("error",):\n        rest',
        f"{NEW} -k numpy-nan",
    ),
    "reproducible: the rounding test is always sure": Mutation(
        "return value * (1.0 - margin), value * (1.0 + margin)",
        "return value, value",
        f"{EXACT}::test_a_bound_that_is_the_norm_is_always_left_to_the_exact_norm",
    ),
    "reproducible: a part is added twice": Mutation(
        "            rest = rest - parts[-1]\n",
        "            rest = rest - parts[-1] * 0.5\n",
        f"{EXACT}::test_the_norm_is_the_defined_number -k numpy",
    ),
    "subnormals: a small coefficient in one step": Mutation(
        "    for left, right, power in limits.tiny:\n",
        "    for left, right, power in limits.tiny[:0]:\n",
        f"{CHECK} -k 'numpy and (1e-320 or apart)'",
    ),
    "subnormals: sums that underflow are trusted": Mutation(
        "small, big = plain < limits.low, plain == math.inf",
        "small, big = plain < 0.0, plain == math.inf",
        f"{CHECK} -k 'size and float64 and numpy'",
    ),
    "shared memory: written twice": Mutation(
        "        if len(keys) < len(some):\n",
        "        if not some:\n",
        f"{IN_PLACE} -k numpy-shared",
    ),
    "shared memory: a part of another leaf's": Mutation(
        "            if _memory.overlap(place[0], other[0]):\n",
        "            if place[0] == other[0]:\n",
        "tests/trees/test_shared_memory.py",
    ),
    "configuration: files count more than the program": Mutation(
        "merged(*_process.read, _process.assigned)\n",
        "merged(_process.assigned, *_process.read)\n",
        "tests/config/test_config.py",
    ),
    "configuration: a context ends for nobody else": Mutation(
        "            overlay.closed = True\n",
        "            overlay.closed = False\n",
        "tests/config/test_config_elsewhere.py",
    ),
    "state: other keys are taken": Mutation(
        "if saved and set(saved) - optional != set(layout):",
        "if saved and not set(saved):",
        "tests/rules/test_clipper_saving.py",
    ),
    "state: an infinite norm is remembered": Mutation(
        "fits = self.kind is None or self.kind.holds(_checks.as_float(value))",
        "fits = True",
        "tests/rules/test_clipper_saving.py",
    ),
    "rule: an infinity enters the history": Mutation(
        "    enters = xp.isfinite(norm) & (norm > 0)\n",
        "    enters = norm > 0\n",
        f"{NEW} -k 'AutoClip and numpy-inf'",
    ),
    "rule: a norm of zero enters the mean": Mutation(
        "    usual = xp.isfinite(norm) & (norm > 0)\n",
        "    usual = xp.isfinite(norm)\n",
        "tests/rules/test_rules_zeros.py",
    ),
    "clipper: a step without arrays makes a state": Mutation(
        "        if started:\n            self.state, self._saved = state, None\n",
        "        if True:\n            self.state, self._saved = state, None\n",
        "tests/rules/test_clipper_steps.py",
    ),
    "registry: a library that inherits is another's": Mutation(
        '        if "__array_namespace__" in vars(base):\n            # A library',
        '        if "__no_namespace__" in vars(base):\n            # A library',
        "tests/backends/test_registry.py",
    ),
    "registry: a blocked library is used": Mutation(
        "reason = entry_points.blocked(name) or _missing(entry)\n",
        "reason = _missing(entry)\n",
        "tests/config/test_config_environment.py tests/config/test_config_backend.py",
    ),
    "trees: a bound enlarges a leaf": Mutation(
        "if bound.ndim > leaf.ndim or any(b not in (1, n) for b, n in lengths):",
        "if bound.ndim > leaf.ndim:",
        "tests/test_bad_input.py::test_bounds_are_numbers_in_order",
    ),
    "command line: a file that is cut short": Mutation(
        "        if length != self._length:\n",
        "        if length < 0:\n",
        "tests/cli/test_cli_file_writing.py",
    ),
    "command line: a link that somebody planted is followed": Mutation(
        "flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL\n",
        "flags = os.O_WRONLY | os.O_CREAT\n",
        "tests/cli/test_cli_file_writing.py",
    ),
    "documentation: another number is printed": Mutation(
        "(1.258, 1.8750025)",
        "(1.259, 1.8750025)",
        "docs/rules/zclip.md",
    ),
    "documentation: another default": Mutation(
        "| `alpha` | 0.97 |",
        "| `alpha` | 0.98 |",
        "tests/rules/test_rules_docs.py",
    ),
    "attach: what is handed over forgets the loss scale": Mutation(
        "return (whole / coefficient).to(torch.float32)",
        "return (1.0 / coefficient).to(torch.float32)",
        f"{FOLD} -k 'global-adamw-fused-scaler'",
    ),
    "attach: a step that is skipped moves the state": Mutation(
        "torch.where(overflow.to(new.device) > 0, old, new)",
        "torch.where(overflow.to(new.device) < 0, old, new)",
        f"{FOLD} -k nothing_is_read",
    ),
    "attach: the coefficient is left on the optimizer": Mutation(
        "if name != _GIVEN and (name not in given or given[name] is not value)",
        "if name != _GIVEN",
        f"{FOLD} -k fused",
    ),
    "attach: a first step is skipped by the optimizer": Mutation(
        "scaling.known_overflow(wait=unborn or",
        "scaling.known_overflow(wait=",
        f"{FOLD} -k first_step",
    ),
    "attach: a copy is not attached": Mutation(
        "    attached._bind(optimizer)\n    return optimizer",
        "    return optimizer",
        "tests/integrations/torch/test_attach_saving.py -k copy",
    ),
}


def where(mutation: Mutation, root: Path) -> Path:
    """Return the one file with the line.

    Raises:
        SystemExit: If there is none, or the line stands twice.
    """
    found = []
    for pattern in SOURCES:
        for path in root.glob(pattern):
            found += [path] * path.read_text(encoding="utf-8").count(mutation.line)
    if len(found) != 1:
        places = ", ".join(str(path.relative_to(root)) for path in found) or "nowhere"
        sys.exit(f"{mutation.line!r} must stand once; found it in: {places}. Mend {__file__}.")
    return found[0]


def tested(root: Path, tests: str, *options: str) -> int:
    """Run pytest in the copy, and return its exit status."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "backends"))),
    }
    arguments = ["-m", "pytest", "-x", "-q", "--no-summary", *options, *shlex.split(tests)]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, check=False
    )
    if done.returncode not in (0, FAILED):
        output = (done.stdout + done.stderr).decode(errors="replace")
        sys.exit(f"{output}\npytest {tests} ended with the status {done.returncode}")
    return done.returncode


def caught(mutation: Mutation, root: Path) -> bool:
    """Tell whether a test fails with the broken line, and passes without."""
    path = where(mutation, root)
    whole = path.read_text(encoding="utf-8")
    stamp = path.stat().st_mtime
    path.write_text(whole.replace(mutation.line, mutation.broken), encoding="utf-8")
    # Bytecode is taken for that of a source of the same size and second.
    os.utime(path, (stamp, stamp + 10))
    try:
        failed = tested(root, mutation.tests) == FAILED
    finally:
        path.write_text(whole, encoding="utf-8")
        os.utime(path, (stamp, stamp + 20))
    # The examples of a page build on one another: none of them passes alone.
    options = () if mutation.tests.startswith("docs/") else ("--last-failed",)
    return failed and tested(root, mutation.tests, *options) == 0


def main(words: Sequence[str]) -> int:
    """Break the lines, print what became of each, and return how many were not caught."""
    chosen = {name: m for name, m in MUTATIONS.items() if all(word in name for word in words)}
    missed = 0
    with tempfile.TemporaryDirectory(prefix="agclip-mutations-") as folder:
        copy = Path(folder) / "agclip"
        copy.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / name, copy / name)
        for mutation in chosen.values():
            where(mutation, copy)
        for name, mutation in chosen.items():
            start = time.perf_counter()
            found = caught(mutation, copy)
            missed += not found
            took = time.perf_counter() - start
            print(f"{'caught' if found else 'MISSED'}  {took:5.1f} s  {name}", flush=True)  # noqa: T201
    print(f"{len(chosen) - missed} of {len(chosen)} caught")  # noqa: T201
    return missed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
