"""Near-duplicate detection among found passages: character shingles; headings, names, amounts, negations are equal."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

from app.knowledge.retrieve.scripts import letters_only

LONG = 5  # characters of a shingle
ALIKE = 0.8  # share of the larger one's shingles that both have
# What makes a nearly equal text say something else: an amount, a name, or that it is not so.
TELLING = regex.compile(
    r"(?:(?<!\w)[-−–])?\d+|\b\p{Lu}[\w\p{M}]*|\b(?:not|no|never|without"
    r"|nicht|kein\w*|pas|не|нет|لا|לא|không|नहीं)\b|n't\b|[不没无未非]|ない|않|없|नहीं"
)


@dataclass(frozen=True)
class Fingerprint:
    """What two passages are compared by."""

    shingles: frozenset[str]
    telling: tuple[str, ...]

    def is_like(self, other: "Fingerprint") -> bool:
        """Whether one says what the other says already."""
        most = max(len(self.shingles), len(other.shingles))
        return self.telling == other.telling and len(self.shingles & other.shingles) >= ALIKE * most


def fingerprint(heading: str, text: str) -> Fingerprint:
    """Of the letters alone: marks, spaces and capitals are no difference."""
    letters = letters_only(text)
    pieces = (letters[at : at + LONG] for at in range(max(1, len(letters) - LONG + 1)))
    return Fingerprint(frozenset(pieces), (heading, *sorted(TELLING.findall(text))))


def distinct(passages: Iterable[tuple[str, str]]) -> Iterator[int]:
    """The places of those passages (heading, text) that are not nearly an earlier one."""
    seen: list[Fingerprint] = []
    for at, (heading, text) in enumerate(passages):
        own = fingerprint(heading, text)
        if not any(own.is_like(other) for other in seen):
            seen.append(own)
            yield at
