"""Names in a text that the bible does not know, or knows in another spelling."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

from app.errors import Language
from app.story.bible import Bible

CAPITALISED = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)?")
SENTENCE_START = re.compile(r"(?:^|[.!?:\n—\"“”(]\s*)$")
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
        if not word[0].isupper() or len(word) < 2 or word.lower() in known | NO_NAMES | small:
            continue
        if word not in counts and SENTENCE_START.search(text[: match.start()][-4:]):
            continue
        counts[word] += 1
    parts = [part for name in bible.names for part in name.split()]
    return [Stranger(name, number, _alike(name, parts)) for name, number in counts.items()]


def _chinese(text: str, bible: Bible) -> list[Stranger]:
    from jieba import posseg  # takes a second to load its dictionary

    known = "\n".join(_rows(bible))
    counts: Counter[str] = Counter()
    for name in bible.names:
        for other in _misspelt(text, name):
            counts[other] += 1
    for word, kind in posseg.cut(text):
        if kind in ("nr", "nrfg", "nrt") and HAN_NAME.match(word) and word not in known:
            counts[word] = max(1, text.count(word))
    return [Stranger(name, number, _alike(name, bible.names)) for name, number in counts.items() if name not in known]


def _misspelt(text: str, name: str) -> Iterable[str]:
    """Stretches of the text that differ from a name of three or more characters in one, the surname being right."""
    if len(name) < 3 or not HAN_NAME.match(name):
        return
    for start in re.finditer(re.escape(name[0]), text):
        other = text[start.start() : start.start() + len(name)]
        if len(other) == len(name) and HAN_NAME.match(other) and _differ(other, name) == 1:
            yield other


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
