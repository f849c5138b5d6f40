"""Messages to prompt tokens by the model's own chat template, and which turns to drop when they do not fit."""

from collections.abc import Callable, Sequence, Sized
from typing import TypeVar, cast

from transformers import PreTrainedTokenizerBase

from app.errors import BadInput, PromptTooLong
from app.models.interface import Message

Encoded = TypeVar("Encoded", bound=Sized)


class CannotSee(BadInput):
    zh = "模型 {name} 看不了图片。请换一个能看图的模型，或先移除图片；输入的内容还在。"
    en = "The model {name} cannot see pictures. Choose one that sees, or remove the pictures; what you typed is kept."


class PromptBuilder:
    """`limit` is the most tokens that prompt and answer may have together."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template: str, limit: int) -> None:
        self._tokenizer = tokenizer
        self._template = chat_template
        self._limit = limit

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt, the opening of the assistant's turn included."""
        ids = self._tokenizer.apply_chat_template(
            cast(list[dict[str, str]], list(messages)),
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        return list(ids)

    def fit(self, messages: Sequence[Message], answer: int, drop_oldest: bool) -> tuple[list[int], int]:
        """(prompt tokens, dropped turns); see `fit_turns`."""
        return fit_turns(self.tokens, messages, self._limit, answer, drop_oldest)


def refuse_pictures(name: str, messages: Sequence[Message]) -> None:
    """For a model that does not see. Raises CannotSee."""
    if any(message.get("images") for message in messages):
        raise CannotSee(name=name)


def fit_turns(
    prompt_of: Callable[[Sequence[Message]], Encoded],
    messages: Sequence[Message],
    limit: int,
    answer: int,
    drop_oldest: bool,
) -> tuple[Encoded, int]:
    """(prompt, dropped turns). Raises PromptTooLong where the prompt leaves no room for an answer.

    A conversation keeps a quarter of the context for its answer, or what the answer may need if that is less.
    """
    prompt = prompt_of(messages)
    if not drop_oldest:
        if len(prompt) >= limit:
            raise PromptTooLong(tokens=len(prompt), limit=limit)
        return prompt, 0
    room = limit - min(answer, limit // 4)
    return (prompt, 0) if len(prompt) <= room else _drop_turns(prompt_of, messages, room)


def _drop_turns(
    prompt_of: Callable[[Sequence[Message]], Encoded], messages: Sequence[Message], room: int
) -> tuple[Encoded, int]:
    """The fewest oldest turns (a user message and what follows it) dropped, by bisection.

    A long conversation loses an eighth of its turns at once: its prompt then begins alike for some turns, and
    the prefix cache is worth something.
    """
    head = [m for m in messages[:1] if m["role"] == "system"]
    starts = [i for i, m in enumerate(messages) if m["role"] == "user"]
    low, high = 1, len(starts) - 1
    best: tuple[Encoded, int] | None = None
    while low <= high:
        middle = (low + high) // 2
        prompt = prompt_of([*head, *messages[starts[middle] :]])
        if len(prompt) <= room:
            best, high = (prompt, middle), middle - 1
        else:
            low = middle + 1
    step = max(1, len(starts) // 8)
    if best is not None and (rounded := -(-best[1] // step) * step) in range(best[1] + 1, len(starts)):
        best = (prompt_of([*head, *messages[starts[rounded] :]]), rounded)
    if best is None:
        last = prompt_of([*head, *messages[starts[-1] :]] if starts else messages)
        raise PromptTooLong(tokens=len(last), limit=room)
    return best
