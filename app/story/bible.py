"""Story bible (synopsis, characters, facts): put into every prompt, within a budget of tokens."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import Language

MOST_TOKENS = 1024
SHARE = 4  # of the context's tokens, one in four at most
HEADS = {
    "zh": {"synopsis": "梗概", "characters": "人物", "facts": "设定"},
    "en": {"synopsis": "Synopsis", "characters": "Characters", "facts": "Facts"},
}
HEAD = re.compile(
    r"^\W*(?P<head>synopsis|summary|梗概|故事梗概|characters?|人物|角色|facts?|设定|事实)\W*[:：](?P<rest>.*)$",
    re.IGNORECASE,
)
SECTIONS = {
    "synopsis": ("synopsis", "summary", "梗概", "故事梗概"),
    "characters": ("character", "characters", "人物", "角色"),
    "facts": ("fact", "facts", "设定", "事实"),
}
BULLET = re.compile(r"^\s*(?:[-*•·]|\d+[.)、．])\s*|\*\*")
MOST_LINES = 40


@dataclass(frozen=True)
class Bible:
    """`characters` and `facts` one a line; a character's line is `name: who that is`."""

    synopsis: str = ""
    characters: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The characters' names."""
        found = (re.split(r"[:：(（,，]|\s[-–—]\s", line, maxsplit=1)[0].strip() for line in self.characters)
        return tuple(name for name in found if name)

    def __bool__(self) -> bool:
        return bool(self.synopsis or self.characters or self.facts)


@dataclass(frozen=True)
class Pinned:
    """What of a bible goes into the prompt. `left_out` lines found no room."""

    text: str
    tokens: int
    budget: int
    left_out: tuple[str, ...] = ()


def bible_of(synopsis: str, characters: str, facts: str) -> Bible:
    """From the three boxes of a page."""
    return Bible(" ".join(synopsis.split()), lines_of(characters), lines_of(facts))


def lines_of(text: str) -> tuple[str, ...]:
    """The lines that say something, without bullets."""
    found = (BULLET.sub("", line).strip() for line in text.splitlines())
    return tuple(line for line in found if line)[:MOST_LINES]


def budget_of(context_tokens: int) -> int:
    return min(MOST_TOKENS, context_tokens // SHARE)


def pin(bible: Bible, language: Language, count: Callable[[str], int], budget: int) -> Pinned:
    """As much of the bible as the budget holds, from the top: synopsis, characters, facts."""
    heads = HEADS[language]
    rows = [f"{heads['synopsis']}：{bible.synopsis}"] if bible.synopsis else []
    rows += [f"{heads['characters']}：{line}" for line in bible.characters]
    rows += [f"{heads['facts']}：{line}" for line in bible.facts]
    if language == "en":
        rows = [row.replace("：", ": ", 1) for row in rows]
    kept: list[str] = []
    tokens = 0
    for place, row in enumerate(rows):
        used = count("\n".join([*kept, row]))
        if used > budget:
            return Pinned("\n".join(kept), tokens, budget, tuple(rows[place:]))
        kept.append(row)
        tokens = used
    return Pinned("\n".join(kept), tokens, budget)


def parse_bible(text: str) -> Bible:
    """A bible from a model's draft, as far as it kept to the form; what has no heading is the synopsis."""
    parts: dict[str, list[str]] = {"synopsis": [], "characters": [], "facts": []}
    section = "synopsis"
    for line in text.replace("**", "").splitlines():
        found = HEAD.match(line)
        if found:
            head = found["head"].lower()
            section = next(name for name, heads in SECTIONS.items() if head in heads)
            line = found["rest"]
        parts[section] += lines_of(line)
    unique = {name: tuple(dict.fromkeys(lines))[:12] for name, lines in parts.items()}
    return Bible(" ".join(unique["synopsis"])[:1000], unique["characters"], unique["facts"])
