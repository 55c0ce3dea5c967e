"""Wrong arguments are errors that name them, and no input has been written by then."""

from __future__ import annotations

import re

import agclip
from agclip._typing import Tree
from agclip.testing.checks.refusals import REFUSALS, Refusal
from agclip.testing.harness.calls import all_numbers
from agclip.testing.harness.check import (
    Check,
    ConformanceError,
    error_of,
    expect,
    expect_same,
    over,
    plain,
)
from agclip.testing.harness.library import Library, NotApplicableError


def refused(library: Library, refusal: Refusal) -> None:
    """A wrong argument is an error that names it, and no input has been written."""
    library.require(library.wrap is None, "is refused in direct calls already")
    x = library.array([3.0, -4.0], "float32")
    found = _text_of_the_error(refusal, x, library)
    matches = re.search(refusal.message, found)
    expect(matches, f"the error must match {refusal.message!r}; got {found!r}")
    after = all_numbers(library, x)
    expect_same(after, [3.0, -4.0], f"the leaf after {refusal.name}")


def _text_of_the_error(refusal: Refusal, x: Tree, library: Library) -> str:
    wanted = refusal.error.__name__
    try:
        result = refusal.call(x, library)
    except refusal.error as error:
        return str(error)
    except NotApplicableError:  # the library has no such dtype to be refused
        raise
    except Exception as error:
        msg = f"{refusal.name} must be a {wanted}; got {type(error).__name__}: {error}"
        raise ConformanceError(msg) from error
    msg = f"{refusal.name} must be a {wanted}; got {result!r}"
    raise ConformanceError(msg)


def finite_leaves_pass_the_policy(library: Library) -> None:
    """The policy "error" does not stop what is finite, also where its norm is out of range."""
    library.require(not library.traced, "cannot read values in compiled code")
    for values in ([3.0, -4.0], [2.0**127, 2.0**127]):
        tree = [library.array(values, "float32")]
        plainly = all_numbers(library, agclip.clip_by_norm(tree, 1.0))
        got = all_numbers(library, agclip.clip_by_norm(tree, 1.0, nonfinite="error"))
        expect_same(got, plainly, 'the result with the policy "error"')


def policy_error_in_compiled_code(library: Library) -> None:
    """The policy "error" is refused where values cannot be read."""
    library.require(library.traced, "reads values")
    tree = [library.array([3.0, -4.0], "float32")]
    found = error_of(lambda: library.call(_refusing, tree))  # which a compiler may wrap
    named = '`nonfinite` must not be "error" for traced arrays' in found
    expect(named, f"the policy must be refused for traced arrays; got {found}")


def _refusing(tree: Tree) -> Tree:
    return agclip.clip_by_norm(tree, 1.0, nonfinite="error")


def checks() -> list[Check]:
    """Return the checks of this file."""
    return [
        *over(REFUSALS, refused),
        *plain(finite_leaves_pass_the_policy, policy_error_in_compiled_code),
    ]
