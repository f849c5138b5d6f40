"""Reasoning budget: after so many tokens of reasoning its closing marks are written in the model's place."""

from collections.abc import Callable, Sequence

from app.models.engine.reasoning import ReasoningFormat

LATEST_START = 16  # an answer that has not opened reasoning by then does without
TAIL = 24  # tokens in which a mark that has just been written must stand


def reasoning_room(wanted: int, answer: int, room: int) -> int:
    """How many tokens of reasoning a request gets: an answer keeps what it may need, or half of the room."""
    return max(0, min(wanted, room - min(answer, room // 2)))


class ReasoningBudget:
    """Of one request. `limit` counts tokens within reasoning, `closing` are tokens, `decode` keeps special tokens."""

    def __init__(
        self,
        limit: int,
        marks: ReasoningFormat,
        closing: Sequence[int],
        decode: Callable[[Sequence[int]], str],
        is_open: bool,
    ) -> None:
        self._left = limit
        self._marks = marks
        self._closing = list(closing)
        self._decode = decode
        self._state = "in" if is_open else "before"
        self.answer_start: int | None = None  # which generated token the answer begins with, once that is known

    def next(self, generated: Sequence[int]) -> int | None:
        """The token that must come after the generated ones; None where the model is free."""
        if self._state in ("before", "in"):
            self._look(generated)
        if self._state == "in":
            self._left -= 1
            if self._left < 0:
                self._state = "closing"
        if self._state != "closing":
            return None
        token = self._closing.pop(0)
        if not self._closing:
            self._end(len(generated) + 1)
        return token

    def _look(self, generated: Sequence[int]) -> None:
        text = self._decode(generated[-TAIL:])
        if any(mark in text for mark in self._marks.ends):
            self._end(len(generated))
        elif self._state == "before":
            if self._opens(text):
                self._state = "in"
            elif len(generated) > LATEST_START:
                self._end(0)

    def _opens(self, text: str) -> bool:
        """Behind blanks alone: the same mark within an answer is text."""
        for mark in self._marks.dropped:
            text = text.replace(mark, "")
        return text.lstrip().startswith(self._marks.starts)

    def _end(self, answer_start: int) -> None:
        self._state, self.answer_start = "after", answer_start
