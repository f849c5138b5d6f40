"""Adapter from ChatModel to Lagent's LLM interface, with sampling per call."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

from lagent.llms import BaseLLM
from lagent.schema import ModelStatusCode

from app.agent.deadline import Deadline
from app.agent.protocols import drop_marks
from app.models.interface import ChatModel, Generation, Message, Sampling
from app.models.waiting import polled


@dataclass(frozen=True)
class Call:
    """How one answer is drawn, and when it is enough: `complete` tells from the text, `cancelled` from outside.

    `deadline` stands still until the first token.
    """

    model: ChatModel
    sampling: Sampling
    visitor: str
    complete: Callable[[str], bool]
    cancelled: Callable[[], bool]
    deadline: Deadline


class EngineLLM(BaseLLM):
    """Keeps nothing between calls, so one can serve any number of sessions."""

    def __init__(self) -> None:
        super().__init__(path="")

    def stream_chat(
        self, inputs: list[dict[str, Any]], *, call: Call, **_session: Any
    ) -> Iterator[tuple[ModelStatusCode, str, None]]:
        """(state, text so far, None), as Lagent's streaming agent expects; reasoning stands in front of it in a tag."""
        messages = cast("list[Message]", drop_marks(inputs))
        generation = call.model.stream(messages, call.sampling, visitor=call.visitor, drop_oldest=True)
        text = ""
        with call.deadline.waiting(), closing(polled(generation)) as pieces:
            for news in pieces:
                if news or generation.completion_tokens:
                    call.deadline.goes_on()
                for piece in news:
                    text += piece
                    if call.complete(text):
                        break  # what the model made up beyond its call is not part of the talk
                yield ModelStatusCode.STREAM_ING, _with_reasoning(generation, text), None
                if call.cancelled() or call.complete(text):
                    break
        yield ModelStatusCode.END, _with_reasoning(generation, text), None


def _with_reasoning(generation: Generation, text: str) -> str:
    return f"<think>{generation.reasoning}</think>{text}" if generation.reasoning else text
