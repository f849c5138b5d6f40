"""Mark answers: exact match after normalisation for short answers, log-likelihood for multiple choice."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.access.identity import server
from app.evaluate.tasks import Item, Task
from app.models.interface import ChatModel, Message, Sampling, TokenScoringModel

VISITOR = server("evaluating")  # all questions of all runs together have one share of the engine
AT_ONCE = 8
SHORT = Sampling(temperature=0, top_p=1, max_new_tokens=32)
ONLY = {
    "zh": "只写答案本身，不要解释。",
    "en": "Write the answer only, without any explanation.",
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Mark:
    """One question answered: what the model said or chose, and whether that is right."""

    question: str
    said: str
    right: bool


def mark(model: ChatModel, task: Task) -> Iterator[Mark]:
    """All questions of a task in order; several answers are under way at once. Closing the iterator stops them."""
    for start in range(0, len(task.items), AT_ONCE):
        items = task.items[start : start + AT_ONCE]
        spoken = [item for item in items if not item.choices or not isinstance(model, TokenScoringModel)]
        said = dict(zip(spoken, _answers(model, spoken), strict=True))
        for item in items:
            yield _spoken(item, said[item]) if item in said else _chosen(model, item)


def plain(text: str) -> str:
    """Whatever the case, width, spacing and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] not in "ZPC")


def _answers(model: ChatModel, items: Sequence[Item]) -> list[str]:
    running = [model.stream(_asked(item), SHORT, visitor=VISITOR) for item in items]
    try:
        return ["".join(generation) for generation in running]
    finally:
        for generation in running:
            generation.cancel()


def _asked(item: Item) -> list[Message]:
    language = "zh" if any("\u4e00" <= letter <= "\u9fff" for letter in item.question) else "en"
    listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, item.choices, strict=False)]
    return [{"role": "user", "content": "\n".join([item.question, *listed, ONLY[language]])}]


def _spoken(item: Item, said: str) -> Mark:
    """The first line counts. Of a choice its letter or its words."""
    line = next((line for line in said.strip().splitlines() if line.strip()), "")
    given = plain(line)
    if item.choices:
        letter, words = LETTERS[item.right], item.choices[item.right]
        return Mark(item.question, line, given in (plain(letter), plain(words), plain(letter + words)))
    return Mark(item.question, line, given in [plain(answer) for answer in item.answers])


def _chosen(model: ChatModel, item: Item) -> Mark:
    """The choice whose letters are the most likely on average: a long choice is not held against itself."""
    assert isinstance(model, TokenScoringModel)
    asked: list[Message] = [{"role": "user", "content": item.question}]
    chances = [
        sum(s.logprob for s in model.score_tokens(asked, choice, 0)) / max(1, len(choice)) for choice in item.choices
    ]
    best = chances.index(max(chances))
    return Mark(item.question, item.choices[best], best == item.right)
