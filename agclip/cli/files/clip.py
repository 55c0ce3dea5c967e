"""`agclip clip`: clip the gradients in a file."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from agclip.cli.command import USAGE, Command, CommandError
from agclip.cli.command.arguments import (
    add_backend,
    backend_of,
    bound,
    counted,
    finite,
    listed,
    one_of,
    order,
    positive,
)
from agclip.cli.command.documents import print_json
from agclip.cli.command.output import require_new, require_writable
from agclip.cli.command.progress import progress
from agclip.cli.files.clip_file import (
    Job,
    Outcome,
    by_clipper,
    by_rule,
    measure_file,
    require_finite,
    write_clipped,
)
from agclip.cli.files.clipper import add_config, clipper_of, compares, learners_in
from agclip.cli.files.measure import OVERFLOWN
from agclip.cli.files.named import opened, passed_over
from agclip.cli.files.readers import suffix_of
from agclip.cli.files.rules import DEFAULT_RULE, FILE_RULES, OPTIONS, check_options, rule_name

POLICIES = ("error", "propagate", "skip", "zero")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of `agclip clip`."""
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help=".npz, .npy, .safetensors or .pt; never changed")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="ends as IN does")
    add("--rule", type=rule_name, metavar="NAME", help=f"{', '.join(FILE_RULES)} ({DEFAULT_RULE})")
    add("--clip-norm", type=bound, metavar="C", help="norm, average_norm, global_norm: the bound")
    add("--clip-rms", type=bound, metavar="C", help="rms: the bound")
    add("--clip-value-min", type=finite, metavar="LOW", help="value: the lower bound")
    add("--clip-value-max", type=finite, metavar="HIGH", help="value: the upper bound")
    add("--ord", type=order, metavar="P", help="norm, global_norm: the order, as 1, 2 or inf (2)")
    add("--params", type=Path, metavar="FILE", help="adaptive: the parameters, by the same names")
    units = one_of(("in_out", "out_in"))
    add("--unit-axes", type=units, metavar="AXES", help="adaptive: out_in or in_out")
    add("--clipping", type=bound, metavar="C", help="adaptive: bound on |g|/|w| (0.01)")
    add("--eps", type=positive, metavar="E", help="adaptive: least |w| (0.001)")
    add(
        "--nonfinite",
        type=one_of(POLICIES),
        metavar="POLICY",
        help=f"NaN and infinities: {', '.join(POLICIES)} (error)",
    )
    add(
        "--strict",
        action="store_true",
        default=None,
        help="keep the exact norm of what is written within the bound; not with value",
    )
    add_backend(parser)
    add_config(parser, "the file")
    add("--force", action="store_true", help="replace OUT if it is there")


def run(args: Namespace) -> None:
    """Measure the file, clip it and write the result: all of it, or nothing."""
    excluded = ("rule", "nonfinite", *(name for name in OPTIONS if name != "params"))
    clipper = clipper_of(args, *excluded)
    rule = check_options(args) if clipper is None else None
    if clipper is not None and args.params is None and compares(clipper.rule):
        msg = (
            f"`--params` must be given with the rule in {str(args.config)!r}; got none. Name the "
            f"file of the parameters."
        )
        raise CommandError(msg, USAGE)
    args.nonfinite = args.nonfinite or "error"
    _check_output(args)
    backend = backend_of(args, args.backend)
    with ExitStack() as stack:
        file = stack.enter_context(opened(args.input, "IN"))
        params = args.params and stack.enter_context(opened(args.params, "--params"))
        require_writable(args.output, f"FILE{args.output.suffix}")
        name, total = args.input.name, len(file.leaves)
        report = stack.enter_context(progress(name, total, quiet=args.json, bar_only=True))
        job = Job(file, params, backend, args.output, args.ord or 2.0, report)
        before = measure_file(job)
        if rule is None:
            assert clipper is not None, "either the options or the file make the rule"
            clip = by_clipper(job, clipper)
        else:
            if args.nonfinite == "error" and not before.finite:
                require_finite(job)
            clip = by_rule(job, rule, args, before)
        outcome = write_clipped(job, clip, before)
    _print(args, backend.name, outcome, [] if clipper is None else learners_in(clipper.rule))


def _check_output(args: Namespace) -> None:
    """Refuse an output of another format, and one that is there already."""
    path, suffix = args.output, suffix_of(args.input) or args.input.suffix
    if not path.name.lower().endswith(suffix.lower()):
        msg = f"`--output` must end in {suffix}, as IN does; got {str(path)!r}. Formats are kept."
        raise CommandError(msg, USAGE)
    require_new(path, force=args.force)


def _print(args: Namespace, backend: str, outcome: Outcome, learners: Sequence[str]) -> None:
    """Say what was done; what is worth a second look goes to standard error."""
    before, after = outcome.before, outcome.after
    rule = f"the clipper of {args.config}" if args.config else args.rule or DEFAULT_RULE
    if args.json:
        document = {
            "input": str(args.input),
            "output": str(args.output),
            "rule": None if args.config else rule,
            "config": args.config and str(args.config),
            "strict": bool(args.strict),
            "backend": backend,
            "ord": "inf" if args.ord == math.inf else args.ord or 2.0,
            "norm_before": before.norm,
            "norm_after": after.norm,
            "nan_before": before.nan,
            "inf_before": before.inf,
            "arrays": outcome.arrays,
            "changed": outcome.changed,
            "copied": [leaf.name for leaf in outcome.copied],
        }
        print_json(document)
        return
    arrays = counted(outcome.arrays, "array", "arrays")
    changed = f"{outcome.changed}{' of them' * (outcome.arrays != 1)}"
    print(f"{args.input}: {arrays}, norm {before.norm:.6g}")
    print(f"{args.output}: {changed} clipped by {rule}, norm {after.norm:.6g}")
    for note in _notes(outcome, learners):
        print(f"agclip clip: note: {note}", file=sys.stderr)


def _notes(outcome: Outcome, learners: Sequence[str]) -> list[str]:
    notes = []
    plain, others = passed_over(outcome.copied)
    if plain:
        names = listed([leaf.name for leaf in plain])
        notes.append(f"integers, booleans and text are no gradients, and are copied: {names}.")
    if others:
        names = listed([f"{leaf.name}, {leaf.dtype}" for leaf in others], "; ")
        notes.append(f"agclip does not clip these dtypes, and copies the arrays: {names}.")
    if learners:
        names = ", ".join(learners)
        notes.append(f"a file is a single step, the first one for a rule with memory: {names}.")
    if not outcome.arrays:
        notes.append("no array of floating-point numbers: the copy is the same.")
    elif not outcome.changed:
        within = "" if learners else ": every array was within the bound"
        notes.append(f"nothing was clipped{within}.")
    if outcome.before.overflown:
        notes.append(OVERFLOWN)
    if not outcome.before.finite:
        inf = counted(outcome.before.inf, "infinity", "infinities")
        notes.append(f"IN holds {outcome.before.nan} NaN and {inf}.")
    return notes


COMMAND = Command(
    name="clip",
    summary="Clip the gradients in a file, and write them to another.",
    configure=configure,
    run=run,
)
