"""Messages to prompt tokens by the model's own chat template, and which turns to drop when they do not fit."""

from collections.abc import Sequence
from typing import cast

from transformers import PreTrainedTokenizerBase

from app.errors import PromptTooLong
from app.models.interface import Message


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
        """(prompt tokens, dropped turns). Raises PromptTooLong where the prompt leaves no room for an answer.

        A conversation keeps a quarter of the context for its answer, or what the answer may need if that is less.
        """
        tokens = self.tokens(messages)
        if not drop_oldest:
            if len(tokens) >= self._limit:
                raise PromptTooLong(tokens=len(tokens), limit=self._limit)
            return tokens, 0
        room = self._limit - min(answer, self._limit // 4)
        if len(tokens) <= room:
            return tokens, 0
        return self._drop_turns(messages, room)

    def _drop_turns(self, messages: Sequence[Message], room: int) -> tuple[list[int], int]:
        """The fewest oldest turns (a user message and what follows it) dropped, by bisection.

        A long conversation loses an eighth of its turns at once: its prompt then begins alike for some turns, and
        the prefix cache is worth something.
        """
        head = [m for m in messages[:1] if m["role"] == "system"]
        starts = [i for i, m in enumerate(messages) if m["role"] == "user"]
        low, high = 1, len(starts) - 1
        best: tuple[list[int], int] | None = None
        while low <= high:
            middle = (low + high) // 2
            tokens = self.tokens([*head, *messages[starts[middle] :]])
            if len(tokens) <= room:
                best, high = (tokens, middle), middle - 1
            else:
                low = middle + 1
        step = max(1, len(starts) // 8)
        if best is not None and (rounded := -(-best[1] // step) * step) in range(best[1] + 1, len(starts)):
            best = (self.tokens([*head, *messages[starts[rounded] :]]), rounded)
        if best is None:
            last = self.tokens([*head, *messages[starts[-1] :]] if starts else messages)
            raise PromptTooLong(tokens=len(last), limit=room)
        return best
