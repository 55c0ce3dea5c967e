"""The conformance suite itself: what is wrong is caught and named, and what is right passes."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import agclip
from agclip import _registry, testing
from agclip.testing import Library, _sampling, check_backend
from agclip.testing.__main__ import main
from agclip.testing._check import Check, ConformanceError, NotApplicableError, expect, expect_same
from agclip.testing._report import Outcome, Report, fixed_checks

NUMPY = agclip.get_backend("numpy")

CHECKS = {check.name: check for check in (*fixed_checks(), *_sampling.checks())}


@pytest.fixture
def register():
    """Replace a backend until the end of the test."""
    before = dict(_registry._registered)
    yield agclip.register_backend
    _registry._registered.clear()
    _registry._registered.update(before)
    _registry.BY_TYPE.clear()


# Backends that are wrong, each in one way.


def norm_off(xp, leaves, wide, scale):
    return [s * (1 + 2e-3) for s in NUMPY.sum_squares(xp, leaves, wide, scale)]


def norm_that_overflows(xp, leaves, wide, scale):
    return [float(np.sum(np.square(leaf, dtype=leaf.real.dtype))) for leaf in leaves]


def norm_that_writes(xp, leaves, wide, scale):
    sums = NUMPY.sum_squares(xp, leaves, wide, scale)
    for leaf in leaves:
        np.multiply(leaf, 2, out=leaf)
    return sums


def norm_that_forgets_a_leaf(xp, leaves, wide, scale):
    sums = NUMPY.sum_squares(xp, leaves, wide, scale)
    return [*sums[:1], *(0.0 for _ in sums[1:])]


def norm_that_drops_nan(xp, leaves, wide, scale):
    return [float(np.nansum(np.abs(leaf).astype(wide) ** 2 * scale**2)) for leaf in leaves]


def scale_that_widens(xp, leaves, factor):
    return [np.asarray(leaf, dtype=np.float64) for leaf in NUMPY.scale(xp, leaves, factor)]


def scale_that_loses_signs(xp, leaves, factor):
    return [np.asarray(leaf + 0, leaf.dtype) for leaf in NUMPY.scale(xp, leaves, factor)]


def scale_that_flattens(xp, leaves, factor):
    return [np.atleast_1d(leaf) for leaf in NUMPY.scale(xp, leaves, factor)]


def scale_twice_rounded(xp, leaves, factor):
    return [(leaf * np.asarray(factor.narrow[1], leaf.dtype)) for leaf in leaves]


def scale_in_place_but_the_last(xp, leaves, factor):
    NUMPY.scale_(xp, leaves[:-1], factor)


def scale_in_place_with_copies(xp, leaves, factor):
    NUMPY.scale_(xp, [leaf.copy() for leaf in leaves], factor)


def run_that_warns(program, static, arrays):
    return program(*static, *arrays)


WRONG = {
    "norm off by 1e-3": (
        {"sum_squares": norm_off},
        "vector clip_by_global_norm: worked example",
        r"result\[0\]\[0\], entry 0 must be -1.6 within 1.5 ulp of float32; got -1.59",
    ),
    "norm off by 1e-3, as a property": (
        {"sum_squares": norm_off},
        "property norm and entries are right",
        "must be .* within .* ulp",
    ),
    "norm that overflows": (
        {"sum_squares": norm_that_overflows},
        "vector global_norm: size 1e+20, bfloat16",
        "got inf",
    ),
    "norm that writes into the leaves": (
        {"sum_squares": norm_that_writes},
        "input is untouched [clip_by_global_norm]",
        "the argument of clip_by_global_norm, entry 0, must be 1.5; got 3.0",
    ),
    "norm that writes before it fails": (
        {"sum_squares": norm_that_writes},
        "failure writes nothing [clip_by_rms, not finite]",
        "the tree after FloatingPointError of clip_by_rms, not finite, entry 0, must be 3.0",
    ),
    "norm that forgets a leaf": (
        {"sum_squares": norm_that_forgets_a_leaf},
        "property strict norm is never above the bound",
        "the norm must be <= ",
    ),
    "norm that drops NaN": (
        {"sum_squares": norm_that_drops_nan},
        "vector clip_by_global_norm: NaN, propagate",
        "must be nan within 1.5 ulp",
    ),
    "scale that changes the dtype": (
        {"scale": scale_that_widens, "restore": lambda _, new: new},
        "leaves keep their kind [clip_by_norm, float32]",
        "clip_by_norm, float32 must keep the dtype float32; got float64",
    ),
    "scale that loses the sign of zero": (
        {"scale": scale_that_loses_signs},
        "vector clip_by_norm: bound of zero, float32",
        "entry 1 must be -0.0 within 1.5 ulp of float32; got 0.0",
    ),
    "scale that changes the shape": (
        {"scale": scale_that_flattens},
        "leaves keep their kind [clip_by_global_norm, float32]",
        r"clip_by_global_norm, float32 must keep the shape \(\); got \(1,\)",
    ),
    "scale that rounds the coefficient to half": (
        {"scale": scale_twice_rounded},
        "vector clip_by_norm: five in a row, float16",
        "within 0.51 ulp of float16",
    ),
    "in place, but for the last leaf": (
        {"scale_": scale_in_place_but_the_last},
        "in place equals functional [clip_by_global_norm]",
        "what clip_by_global_norm writes, entry 7, must be",
    ),
    "in place into copies": (
        {"scale_": scale_in_place_with_copies},
        "property in place gives the same bits",
        "in place, entry 0, must be",
    ),
    "in place on what is read-only": (
        {"unwritable": lambda _: None},
        "read only leaves are found first [clip_by_norm]",
        "the tree after clip_by_norm with ValueError: .*read-only, entry 0, must be 3.0",
    ),
    "access that lies about what is free": (
        {"branch": lambda _, p, yes, no: [x + 0 for x in (yes() if p else no())]},
        "unclipped is the same object [adaptive_grad_clip]",
        "adaptive_grad_clip must return the leaves themselves; got copies",
    ),
    "a call that warns": (
        {"run": run_that_warns},
        "vector clip_by_norm: size 1e+200, float64",
        "overflow encountered",
    ),
}


@pytest.fixture(params=WRONG)
def wrong(request, register):
    """A library with a backend that is wrong, the check that finds it, and what that says."""
    changes, name, message = WRONG[request.param]
    register(dataclasses.replace(NUMPY, **changes))
    extension = {} if "bfloat16" not in name else {"bfloat16": _bfloat16()}
    return Library("numpy", dtypes=extension), CHECKS[name], message


def _bfloat16():
    return pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16


def test_what_is_wrong_is_caught_and_named(wrong):
    library, check, message = wrong
    with pytest.raises((ConformanceError, RuntimeWarning), match=message):
        check.run(library)


def test_a_report_names_what_is_wrong_and_goes_on(register):
    register(dataclasses.replace(NUMPY, scale=scale_that_widens, restore=lambda _, new: new))
    report = check_backend("numpy")
    failed = {outcome.name for outcome in report.of("failed")}
    assert not report.ok
    assert "leaves keep their kind [clip_by_norm, float32]" in failed
    assert "vector global_norm: worked example" not in failed
    assert "  FAILED leaves keep their kind [clip_by_norm, float32]\n" in str(report)
    assert sum(report.counts) == len(report.outcomes) == len(CHECKS)


def test_a_backend_that_breaks_is_a_report_too(register):
    def broken(*_):
        msg = "out of memory"
        raise MemoryError(msg)

    register(dataclasses.replace(NUMPY, sum_squares=broken))
    report = check_backend(Library("numpy", "broken numpy"))
    failure = next(o for o in report.of("failed") if o.name == "vector global_norm: worked example")
    assert failure.detail.startswith("MemoryError: out of memory\nin broken, ")
    assert str(report).startswith(f"broken numpy {np.__version__}: ")


def test_arrays_that_belong_to_another_backend_are_found(register):
    register(dataclasses.replace(NUMPY, name="mylib"))
    with pytest.raises(ConformanceError, match="arrays must belong to mylib; got numpy"):
        CHECKS["arrays belong to the backend"].run(Library("mylib"))


# What a report looks like.

REPORT = Report(
    "mylib",
    "1.2",
    (
        Outcome("one", "One is one.", "passed"),
        Outcome("two", "Two is two.", "failed", "two must be 2; got 3\nin add"),
        Outcome("three", "Three is three.", "skipped", "mylib has no threes"),
        Outcome("four", "Four is four.", "skipped", "mylib has no threes"),
    ),
)


def test_a_report_shows_counts_failures_and_reasons():
    assert str(REPORT).splitlines() == [
        "mylib 1.2: 1 passed, 1 failed, 2 skipped",
        "  FAILED two",
        "         Two is two.",
        "         two must be 2; got 3",
        "         in add",
        "  skipped 2: mylib has no threes",
    ]


def test_a_report_without_failures_is_well():
    assert not REPORT.ok
    assert dataclasses.replace(REPORT, outcomes=REPORT.outcomes[2:]).ok


# The pieces that checks are made of.


def test_an_expectation_that_holds_says_nothing():
    assert expect(1, "nothing") is None


def test_an_expectation_that_fails_says_what():
    with pytest.raises(ConformanceError, match=r"^one must be 1; got 2$"):
        expect([], "one must be 1; got 2")


@pytest.mark.parametrize(
    ("got", "wanted", "message"),
    [
        ([1.0, 0.0], [1.0, -0.0], r"^it, entry 1, must be -0\.0; got 0\.0$"),
        ([complex(0.0, 1.0)], [complex(-0.0, 1.0)], r"^it, entry 0, must be \(-0\+1j\); got 1j$"),
        ([1.0], [1.0, 2.0], r"^it must have 2 entries; got 1$"),
        ([float("nan")], [1.0], r"^it, entry 0, must be 1\.0; got nan$"),
    ],
)
def test_numbers_are_compared_bit_by_bit(got, wanted, message):
    with pytest.raises(ConformanceError, match=message):
        expect_same(got, wanted, "it")


def test_numbers_that_are_the_same_pass():
    nan = float("nan")
    assert expect_same([nan, -0.0, 1j], [nan, -0.0, 1j], "it") is None


def test_a_warning_fails_a_check_unless_the_library_is_known_for_it():
    overflow = Check("overflow", "", lambda _: np.float32(3e38) * np.float32(10))
    with pytest.raises(RuntimeWarning, match="overflow"):
        overflow.run(Library("numpy"))
    assert overflow.run(Library("numpy", ignored_warnings=(RuntimeWarning,))) is None


# The library record.


def test_a_library_is_known_by_its_backend_or_by_a_name():
    assert str(Library("numpy")) == "numpy"
    assert str(Library("numpy", "numpy, as it comes")) == "numpy, as it comes"


def test_arrays_are_made_and_read_in_row_major_order():
    library = Library("numpy")
    made = library.array([1, 2, 3, 4, 5, 6], "int32", (3, 2))
    assert made.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert library.numbers(made) == [1, 2, 3, 4, 5, 6]
    assert library.array([7.5], "float32", ()).shape == ()
    assert library.array([], "float32", (0, 3)).shape == (0, 3)


def test_a_missing_dtype_is_no_failure():
    library = Library("numpy")
    assert not library.has("bfloat16")
    with pytest.raises(NotApplicableError, match="numpy has no bfloat16"):
        library.array([1.0], "bfloat16")


def test_a_dtype_may_be_given():
    assert Library("numpy", dtypes={"bfloat16": _bfloat16()}).has("bfloat16")


def test_a_dtype_that_comes_out_as_another_is_missing():
    narrow = Library("numpy", asarray=lambda x, _: np.asarray(x, dtype=np.float32))
    assert narrow.has("float32")
    assert not narrow.has("float64")


def test_a_library_without_float32_is_an_error_not_a_skip():
    library = Library("numpy", asarray=lambda x, _: np.asarray(x, dtype=np.float64))
    with pytest.raises(TypeError, match="`library` must make float32 arrays; got none from numpy"):
        check_backend(library)


def test_arrays_without_a_backend_are_an_error():
    class Strange:
        def __init__(self):
            self.dtype, self.shape = np.dtype(np.float32), (1,)

    library = Library("numpy", asarray=lambda *_: Strange(), tolist=lambda _: [1.0])
    with pytest.raises(TypeError, match=r"must belong to a backend; got none for .*Strange"):
        check_backend(library)


def test_numpy_is_what_it_is():
    library = Library("numpy")
    assert library.writable
    assert library.identity_is_object
    assert library.sums_in_float64
    assert not library.flushes_subnormals("float32")


def test_a_library_that_flushes_is_found_out():
    class Flushing(np.ndarray):
        def __add__(self, other):
            return np.zeros_like(self)

    def flushing(nested, dtype):
        return np.asarray(nested, dtype=dtype).view(Flushing)

    assert Library("numpy", asarray=flushing).flushes_subnormals("float32")


def test_a_wrapped_function_is_wrapped_once():
    seen = []

    def wrap(function):
        seen.append(function)
        return function

    library = Library("numpy", wrap=wrap)
    assert [library.call(abs, -1), library.call(abs, -2)] == [1, 2]
    assert seen == [abs]
    assert not library.identity_is_object


# The command.


@pytest.fixture
def usable_and_not(monkeypatch):
    """One backend that passes, and one that cannot be used."""
    rows = [
        agclip.BackendInfo(name="numpy", version="2", usable=True, reason="", source="agclip"),
        agclip.BackendInfo(
            name="slowlib", version=None, usable=False, reason="it has no driver", source="other"
        ),
    ]
    monkeypatch.setattr(agclip, "backends", lambda: rows)
    monkeypatch.delenv("AGCLIP_REQUIRE_BACKENDS", raising=False)
    passing = Report("numpy", "2", (Outcome("one", "One.", "passed"),))
    monkeypatch.setattr(testing.__main__, "check_backend", lambda _: passing)


@pytest.mark.usefixtures("usable_and_not")
def test_the_command_reports_every_backend_and_closes_with_the_counts(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "numpy 2: 1 passed, 0 failed, 0 skipped",
        "slowlib: NOT TESTED: it has no driver",
        "1 passed, 0 failed, 1 skipped",
    ]


@pytest.mark.usefixtures("usable_and_not")
def test_a_backend_that_is_named_must_be_usable(capsys):
    assert main(["slowlib"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


@pytest.mark.usefixtures("usable_and_not")
def test_a_backend_that_is_required_must_be_usable(capsys, monkeypatch):
    monkeypatch.setenv("AGCLIP_REQUIRE_BACKENDS", "numpy, slowlib,nolib")
    assert main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "nolib: NOT TESTED: no installed distribution brings a backend of that name",
        "numpy 2: 1 passed, 0 failed, 0 skipped",
        "slowlib: NOT TESTED: it has no driver",
        "1 passed, 2 failed, 0 skipped",
    ]


def test_the_command_runs_as_a_module():
    done = _python("-m", "agclip.testing", "nolib")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


# The class.

SUBCLASS = """
    import dataclasses

    import agclip
    import pytest
    from agclip.testing import BackendConformance, Library

    numpy = agclip.get_backend("numpy")


    class TestRight(BackendConformance):
        backend = "numpy"
        checks = BackendConformance.checks[2:5]
        examples = 2


    class TestWrong(BackendConformance):
        checks = BackendConformance.checks[10:11]

        @pytest.fixture(scope="class")
        @classmethod
        def library(cls):
            agclip.register_backend(dataclasses.replace(numpy, refuse=lambda _: "is cursed"))
            return Library("numpy", "cursed numpy")
"""


def test_a_subclass_runs_the_suite(tmp_path):
    tmp_path.joinpath("test_mylib.py").write_text(textwrap.dedent(SUBCLASS))
    done = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    properties = len(_sampling.PROPERTIES)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{properties + 1} failed, {properties + 3} passed"), done.stdout
    assert "got one that is cursed at" in done.stdout


def test_importing_the_suite_needs_neither_pytest_nor_hypothesis():
    code = """
        import sys
        import agclip.testing
        assert not {"pytest", "hypothesis"} & set(sys.modules), "imported too early"
        assert agclip.testing.BackendConformance.__name__ == "BackendConformance"
        assert {"pytest", "hypothesis"} <= set(sys.modules)
    """
    done = _python("-c", textwrap.dedent(code))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_has_no_other_attributes():
    with pytest.raises(
        AttributeError, match=r"^module 'agclip\.testing' has no attribute 'Oracle'$"
    ):
        testing.Oracle  # noqa: B018 - the access is the test


def _python(*arguments, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "AGCLIP_REQUIRE_BACKENDS"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
