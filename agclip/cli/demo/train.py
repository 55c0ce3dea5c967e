"""One training run: plain gradient descent, the gradient clipped to a global norm."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import TypeAlias

import agclip
from agclip._typing import Array, Namespace
from agclip.cli.demo.rnn import Params, backward, forward, init_params
from agclip.cli.demo.text import Corpus

HIDDEN = 128
WINDOW = 64
BATCH = 24

# Beyond the edge of chaos, which is 1: there gradients grow on their way back through time.
GAIN = 1.4

# Steps of this size are safe while the gradient is bounded, and only then.
LEARNING_RATE = 2.5

# A run has exploded once its loss is this many times that of a uniform guess.
EXPLOSION = 5.0

Clip: TypeAlias = Callable[[Params, Params], tuple[Params, Array]]
"""Takes the gradient and the parameters; returns the clipped gradient and the norm before."""

Report: TypeAlias = Callable[[int, float, float], None]
"""Called after every step with its number, from 1, the loss and the norm before clipping."""


@dataclass(frozen=True, slots=True)
class Run:
    """What happened in one run; one number per step in each tuple.

    Attributes:
        clip_norm: Threshold of the global norm; infinite without clipping, None where a clipper of
            another kind decided.
        losses: Mean loss of the step's batch in nats a character.
        norms_before: Global norm of the gradient.
        norms_after: Global norm of the gradient that was applied.
        explosion_loss: The loss, in nats a character, above which the run counts as exploded.
    """

    clip_norm: float | None
    losses: tuple[float, ...]
    norms_before: tuple[float, ...]
    norms_after: tuple[float, ...]
    explosion_loss: float

    @property
    def steps(self) -> int:
        """Number of steps until the end, or until the norm was no longer finite."""
        return len(self.losses)

    @property
    def clipped_steps(self) -> int:
        """Number of steps whose gradient was longer than the threshold, or was changed."""
        if self.clip_norm is None:
            # What is not clipped keeps its bits.
            return sum(map(operator.ne, self.norms_before, self.norms_after))
        return sum(norm > self.clip_norm for norm in self.norms_before)

    @property
    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps: one batch alone is noisy."""
        return fmean(self.losses[-max(1, self.steps // 10) :])

    @property
    def exploded_at(self) -> int | None:
        """The first step, from 1, with a loss or a norm beyond all bounds; `None` if there is none.

        That is a loss above `explosion_loss`, or a loss or a norm that is not finite.
        """
        pairs = zip(self.losses, self.norms_before, strict=True)
        for step, (loss, norm) in enumerate(pairs, start=1):
            if not (loss <= self.explosion_loss and math.isfinite(norm)):
                return step
        return None


def train(
    xp: Namespace,
    corpus: Corpus,
    *,
    steps: int,
    clip_norm: float | None,
    seed: int,
    report: Report,
    clip: Clip | None = None,
) -> Run:
    """Train a fresh network; everything but the clipping is the same in every run.

    Args:
        xp: Array namespace to compute in.
        corpus: The text to learn.
        steps: Number of steps at most; the run ends early when the norm is no longer finite.
        clip_norm: Threshold of the global norm, infinite for no clipping; None with `clip`.
        seed: Decides the initial weights and the batches.
        report: Called after every step.
        clip: What clips; None for the global norm.

    Returns:
        The losses and norms of every step.
    """
    rng = Random(seed)
    params = init_params(xp, rng, len(corpus.alphabet), HIDDEN, GAIN)
    history: list[tuple[float, float, float]] = []
    clip = clip or _by_global_norm(clip_norm)
    # An explosion overflows, and some libraries warn of it: here it is the result, not a mistake.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for step in range(1, steps + 1):
            codes = corpus.windows(rng, WINDOW + 1, BATCH)
            params, numbers = descend(xp, params, codes, clip)
            history.append(numbers)
            report(step, numbers[0], numbers[1])
            if not math.isfinite(numbers[1]):
                break
    losses, before, after = zip(*history, strict=True)
    return Run(clip_norm, losses, before, after, EXPLOSION * corpus.uniform_entropy())


def _by_global_norm(clip_norm: float | None) -> Clip:
    def clip(grads: Params, _: Params) -> tuple[Params, Array]:
        clipped: tuple[Params, Array] = agclip.clip_by_global_norm(grads, clip_norm)
        return clipped

    return clip


def descend(
    xp: Namespace, params: Params, codes: Sequence[int], clip: Clip
) -> tuple[Params, tuple[float, float, float]]:
    """Take one step down the clipped gradient.

    Args:
        xp: Array namespace of the parameters.
        params: The parameters before the step.
        codes: One batch of windows, as `Corpus.windows` draws them.
        clip: What clips the gradient.

    Returns:
        The parameters after the step; the loss, and the global norm before and after clipping.
    """
    loss, trace = forward(xp, params, codes, BATCH)
    grads = backward(xp, params, trace)
    clipped, norm = clip(grads, params)
    norm_after: Array = agclip.global_norm(clipped)
    stepped = {name: params[name] - LEARNING_RATE * clipped[name] for name in params}
    return stepped, (float(loss), float(norm), float(norm_after))
