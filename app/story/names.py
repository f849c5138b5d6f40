"""Check names in a story against its bible: unknown ones, and other spellings of known ones."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

from app.errors import Language
from app.story.bible import Bible
from app.story.chinese_names import names_in

CAPITALISED = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)?")
SENTENCE_START = re.compile(r"(?:^|[.!?:…*\n—\"“”‘’'(-]\s*)$")
NO_NAMES = frozenset(
    """i i'm i'll i'd i've mr mrs ms dr sir lady lord god chapter monday tuesday wednesday thursday friday saturday
    sunday january february march april may june july august september october november december christmas english
    chinese french german ai mom dad mother father grandma grandmother grandpa grandfather aunt uncle""".split()  # noqa: SIM905
)
ALIKE = 0.75
HAN_NAME = re.compile(r"^[\u3400-\u9fff·]{2,6}$")
MOST = 12


@dataclass(frozen=True)
class Stranger:
    """A name of the text, how often it stands there, and the bible's name it looks like, if any."""

    name: str
    count: int
    looks_like: str = ""


def strangers(text: str, bible: Bible, language: Language) -> list[Stranger]:
    """Names that contradict the bible, those that look like a misspelt one first. None without a cast."""
    if not bible.names:
        return []
    found = _chinese(text, bible) if language == "zh" else _english(text, bible)
    return sorted(found, key=lambda stranger: (not stranger.looks_like, -stranger.count))[:MOST]


def _english(text: str, bible: Bible) -> list[Stranger]:
    known = {word.lower() for word in CAPITALISED.findall("\n".join(_rows(bible)))}
    small = {word for word in CAPITALISED.findall(text) if word.islower()}
    counts: Counter[str] = Counter()
    for match in CAPITALISED.finditer(text):
        word = re.sub(r"['’]s$", "", match[0])
        if not word[0].isupper() or word.isupper() or word.lower() in known | NO_NAMES | small:
            continue
        if word not in counts and SENTENCE_START.search(text[: match.start()][-4:]):
            continue
        counts[word] += 1
    parts = [part for name in bible.names for part in name.split()]
    return [Stranger(name, number, _alike(name, parts)) for name, number in counts.items()]


def _chinese(text: str, bible: Bible) -> list[Stranger]:
    known = "\n".join(_rows(bible))
    found = {name for name in names_in(text) if name not in known}
    return [Stranger(name, text.count(name), _alike(name, bible.names)) for name in found]


def _alike(name: str, known: Iterable[str]) -> str:
    """The known name that this one is nearly."""
    for other in known:
        if len(other) == len(name) >= 3 and HAN_NAME.match(name):
            if _differ(name, other) == 1:
                return other
        elif name.isascii() and SequenceMatcher(None, name.lower(), other.lower()).ratio() >= ALIKE:
            return other
    return ""


def _differ(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _rows(bible: Bible) -> list[str]:
    return [bible.synopsis, *bible.characters, *bible.facts]
