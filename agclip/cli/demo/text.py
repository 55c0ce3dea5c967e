"""The demo's data: the help topics that ship with Python, character by character."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from random import Random

from agclip.cli.command import CommandError


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text as numbers.

    Attributes:
        codes: One number per character, its place in `alphabet`.
        alphabet: The distinct characters, in code-point order.
    """

    codes: tuple[int, ...]
    alphabet: str

    @classmethod
    def of(cls, text: str) -> Corpus:
        """Number the characters of `text`."""
        alphabet = "".join(sorted(set(text)))
        place = {character: code for code, character in enumerate(alphabet)}
        return cls(tuple(place[character] for character in text), alphabet)

    def unigram_entropy(self) -> float:
        """Entropy of the character frequencies, -sum p ln p, in nats a character.

        No model that ignores the context can have a lower mean loss on the text.
        """
        total = len(self.codes)
        return -math.fsum(n / total * math.log(n / total) for n in Counter(self.codes).values())

    def uniform_entropy(self) -> float:
        """Loss of a guess that gives every character the same probability, in nats."""
        return math.log(len(self.alphabet))

    def windows(self, rng: Random, length: int, count: int) -> list[int]:
        """Draw `count` windows of `length` characters, each at a random place.

        Args:
            rng: Source of the places.
            length: Characters in a window.
            count: Number of windows.

        Returns:
            `length * count` codes, time first: the first character of every window, then the
            second of every window, and so on.
        """
        starts = [rng.randrange(len(self.codes) - length + 1) for _ in range(count)]
        return [self.codes[start + time] for time in range(length) for start in starts]


def python_help() -> Corpus:
    """Read the help topics of this Python: about half a million characters of English.

    Raises:
        CommandError: This Python was installed without `pydoc_data`.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        msg = (
            "this Python came without the module `pydoc_data.topics`, the text to train on. "
            "Install the whole standard library, or run the demo with another Python."
        )
        raise CommandError(msg) from error
    return Corpus.of("\n".join(topics[name] for name in sorted(topics)))
