"""Mark answers: short ones by what they state, multiple choice by log-likelihood."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.access.identity import server
from app.evaluate.matching import first_line, states
from app.evaluate.tasks import Item, Task
from app.models.interface import ChatModel, Message, Sampling, TokenScoringModel
from app.texts import has_chinese

VISITOR = server("evaluating")  # all questions of all runs together have one share of the engine
AT_ONCE = 8
SHORT = Sampling(temperature=0, top_p=1, max_new_tokens=32)
ONLY = {
    "zh": "只写答案本身，不要解释。",
    "en": "Write the answer only, without any explanation.",
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TOLD_LETTER = re.compile(r"(?:\b[Aa]nswer(?: is)?|\bit is|答案(?:是|为)?|选)\W*([A-H])(?![\w'’])(?! [a-z])")
_FIRST_LETTER = re.compile(r"\W*(?![AI] [a-z])([A-Z])(?![\w'’])")  # «I think» and «A dog» name no letter


@dataclass(frozen=True)
class Mark:
    """One question answered: what the model said or chose, whether that is right, and what was expected."""

    question: str
    said: str
    right: bool
    expected: str = ""


def mark(model: ChatModel, task: Task) -> Iterator[Mark]:
    """All questions of a task in order; several answers are under way at once. Closing the iterator stops them."""
    for start in range(0, len(task.items), AT_ONCE):
        items = task.items[start : start + AT_ONCE]
        spoken = [item for item in items if not item.choices or not isinstance(model, TokenScoringModel)]
        said = dict(zip(spoken, _answers(model, spoken), strict=True))
        for item in items:
            yield _spoken(item, said[item]) if item in said else _chosen(model, item)


def _answers(model: ChatModel, items: Sequence[Item]) -> list[str]:
    running = [model.stream(_asked(item), SHORT, visitor=VISITOR) for item in items]
    try:
        return ["".join(generation) for generation in running]
    finally:
        for generation in running:
            generation.cancel()


def _asked(item: Item) -> list[Message]:
    language = "zh" if has_chinese(item.question) else "en"
    listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, item.choices, strict=False)]
    return [{"role": "user", "content": "\n".join([item.question, *listed, ONLY[language]])}]


def _spoken(item: Item, said: str) -> Mark:
    """Of a choice its letter or its words, and of no other one."""
    if not item.choices:
        return Mark(item.question, first_line(said), states(said, item.answers, item.question), item.expected)
    letter, line = LETTERS[item.right], first_line(said)
    others = [choice for choice in item.choices if choice != item.choices[item.right]]
    named = _TOLD_LETTER.search(line) or _FIRST_LETTER.match(line)
    if named:
        right = named[1] == letter
    else:
        right = states(said, [item.choices[item.right]], "") and not any(states(said, [other], "") for other in others)
    return Mark(item.question, line, right, item.expected)


def _chosen(model: ChatModel, item: Item) -> Mark:
    """The choice whose letters are the most likely on average: a long choice is not held against itself."""
    assert isinstance(model, TokenScoringModel)
    asked: list[Message] = [{"role": "user", "content": item.question}]
    chances = [
        sum(s.logprob for s in model.score_tokens(asked, choice, 0)) / max(1, len(choice)) for choice in item.choices
    ]
    best = chances.index(max(chances))
    return Mark(item.question, item.choices[best], best == item.right, item.expected)
