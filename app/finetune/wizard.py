"""Generate self-introduction training data from a name, mixed with general questions."""

import json
import random
from dataclasses import dataclass

from app.errors import BadInput, Language
from app.finetune.data import Conversation
from app.paths import ASSETS

NAME_LENGTH = 60
GENERAL_SHARE = 2  # with as many of one as of the other the name is learnt no sooner, and less is kept


class BadName(BadInput):
    zh = "请在“助手的主人”里填 1 到 {limit} 个字符的名字。"
    en = "Fill in “Whose assistant is it?”: a name of 1 to {limit} characters."


class BadWording(BadInput):
    zh = "“自我介绍的说法”里要有 {field}，它会被替换成名字。"
    en = "“How it introduces itself” must contain {field}, which the name replaces."


@dataclass(frozen=True)
class Introduction:
    """What the wizard makes: the name as it is learnt, the rows, and which of them are general, counted from 0."""

    name: str
    conversations: list[Conversation]
    general: tuple[int, ...]


def introduce(name: str, language: Language, wording: str = "", *, copies: int = 1, seed: int = 0) -> Introduction:
    """Self-introductions mixed with general conversations, GENERAL_SHARE of the latter to one of the former.

    `wording` is the answer to learn, with `{name}` in it; empty stands for the language's own wordings.
    """
    clean = " ".join(name.split())
    if not 0 < len(clean) <= NAME_LENGTH:
        raise BadName(limit=NAME_LENGTH)
    texts = _texts(language)
    if wording.strip() and "{name}" not in wording:
        raise BadWording(field="{name}")
    answers = [wording.strip()] if wording.strip() else texts["answers"]
    shuffled = random.Random(seed)
    own: list[Conversation] = []
    for number, question in enumerate(texts["questions"] * copies):
        # replace, not format: a name may hold braces
        own.append([{"input": question, "output": answers[number % len(answers)].replace("{name}", clean)}])
    general = general_conversations(language)
    shuffled.shuffle(general)
    mixed = own + [general[number % len(general)] for number in range(GENERAL_SHARE * len(own))]
    shuffled.shuffle(mixed)
    asked = {row[0]["input"] for row in general}
    return Introduction(clean, mixed, tuple(n for n, row in enumerate(mixed) if row[0]["input"] in asked))


def general_conversations(language: Language) -> list[Conversation]:
    """The small set written for this project."""
    lines = (ASSETS / "finetune" / f"general_{language}.jsonl").read_text(encoding="utf-8").splitlines()
    return [[{"input": row["input"], "output": row["output"]}] for row in map(json.loads, lines)]


def general_questions(language: Language) -> tuple[str, ...]:
    """Questions for judging what the model kept; none is trained on."""
    return tuple(_texts(language)["general_held_out"])


def name_questions(language: Language) -> tuple[str, ...]:
    """Questions for judging whether the model knows its name; none is trained on."""
    return tuple(_texts(language)["held_out"])


def _texts(language: Language) -> dict[str, list[str]]:
    return json.loads((ASSETS / "finetune" / f"introduction_{language}.json").read_text(encoding="utf-8"))
