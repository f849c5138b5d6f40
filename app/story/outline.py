"""Outline of a long story: chapters, one line each, `title: what happens`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import Language
from app.story.bible import lines_of

PER_CHAPTER: dict[Language, int] = {"zh": 1200, "en": 800}
MOST = 20
NUMBER = re.compile(
    r"^\W*(?:chapter\s+\w+|第\s*[\d一二三四五六七八九十百]+\s*章|\d+)\s*[.:：、)\-—]*\s*", re.IGNORECASE
)
HEADING = "## "


@dataclass(frozen=True)
class Chapter:
    title: str
    about: str = ""


def chapters_for(length: int, language: Language) -> int:
    """How many chapters a story of this length has; one means none."""
    return max(1, min(MOST, round(length / PER_CHAPTER[language])))


def parse_outline(text: str, most: int = MOST) -> tuple[Chapter, ...]:
    """Chapters from lines, as a person or a model wrote them."""
    found: list[Chapter] = []
    for line in lines_of(text):
        bare = NUMBER.sub("", line).strip() or line
        title, _, about = re.sub("：", ":", bare, count=1).partition(":")
        if title.strip():
            found.append(Chapter(title.strip()[:80], about.strip()[:400]))
    return tuple(found[:most])


def outline_text(chapters: Sequence[Chapter], language: Language) -> str:
    """The outline as it stands in its box."""
    mark = "：" if language == "zh" else ": "
    return "\n".join(chapter.title + (mark + chapter.about if chapter.about else "") for chapter in chapters)


def heading_of(chapter: Chapter, number: int, language: Language) -> str:
    """The line above a chapter."""
    name = f"第{number}章" if language == "zh" else f"Chapter {number}"
    return f"{HEADING}{name}{' ' if language == 'zh' else ': '}{chapter.title}"
