"""Prompt templates of stories, in Chinese and English."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.errors import Language
from app.models.interface import Message
from app.story.outline import Chapter
from app.story.repetition import Memory
from app.story.request import StoryRequest

PROMPTS = Path(__file__).with_suffix(".toml")


@cache
def words_of(language: Language) -> dict[str, str]:
    """The prompts of one language."""
    return {name: str(text) for name, text in tomllib.loads(PROMPTS.read_text(encoding="utf-8"))[language].items()}


def instructions(language: Language) -> Memory:
    """Every line and clause of the prompts: small models say them back in place of a text."""
    told = Memory(near=1000)
    for text in words_of(language).values():
        for part in (*text.splitlines(), *re.split(r"[，,;；。.:：\n]\s*|\{\w+\}", text)):
            told.add(part)
    return told


@dataclass(frozen=True)
class Moment:
    """Where the writing stands. `barren` counts the attempts since the last new sentence."""

    text: str
    remaining: int
    ending: bool
    barren: int


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def brief(request: StoryRequest, pinned: str) -> str:
    """Premise, style, bible, chapters: what stands at the beginning of every prompt of a story."""
    words = words_of(request.language)
    parts = [words["task"].format(premise=request.premise)]
    if request.style:
        parts.append(words["style"].format(style=request.style))
    if pinned:
        parts.append(words["bible"].format(bible=pinned))
    if request.outline:
        titles = "\n".join(f"{place}. {chapter.title}" for place, chapter in enumerate(request.outline, start=1))
        parts.append(words["outline"].format(outline=titles))
    return "\n".join([*parts, words["rules"]])


def story_messages(
    request: StoryRequest, opening: str, moment: Moment, tail: str, chapter: Chapter | None, begins: bool
) -> list[Message]:
    """The next piece of a story. `tail` is as much of the text so far as the model has room for."""
    words = words_of(request.language)
    length = max(10, moment.remaining)
    if begins and chapter is not None:
        task = words["chapter"].format(title=chapter.title, about=chapter.about, length=length)
    elif begins:
        task = words["first"].format(length=length)
    else:
        ending = "end" if chapter is None else "chapter_end"
        task = words[ending if moment.ending else "on"].format(length=length)
    if not tail:
        return [user(f"{opening}\n{task}")]
    if moment.barren >= 2:  # what the model has before its eyes is what it repeats
        near = moment.ending and moment.barren % 2  # one sentence in the room there is, as a task of its own
        return [user(words["last" if near else "far"].format(tail=tail, length=length))]
    return [user(opening), {"role": "assistant", "content": tail}, user(task)]


def bible_messages(request: StoryRequest) -> list[Message]:
    words = words_of(request.language)
    style = words["style"].format(style=request.style) if request.style else ""
    return [user(words["bible_task"].format(premise=request.premise, style=style))]


def outline_messages(request: StoryRequest, pinned: str, count: int) -> list[Message]:
    words = words_of(request.language)
    style = words["style"].format(style=request.style) if request.style else ""
    return [user(words["outline_task"].format(premise=request.premise, style=style, bible=pinned, count=count))]


def paragraph_messages(
    request: StoryRequest, opening: str, before: str, paragraph: str, task: str, length: int, wish: str
) -> list[Message]:
    """One paragraph made anew, or one after it."""
    words = words_of(request.language)
    asked = words[task].format(length=length)
    if wish:
        asked = f"{asked} {words['wish'].format(wish=wish)}\n"
    told = words["paragraph"].format(before=before or "-", paragraph=paragraph, task=asked)
    return [user(f"{opening}\n\n{told}")]


def caption_messages(language: Language, paragraph: str) -> list[Message]:
    return [user(words_of(language)["caption"].format(paragraph=paragraph))]


def last_sentences(sentences: Sequence[str], count: int) -> str:
    return "".join(sentences[-count:]).strip()
