"""Stream chat answers: model loading progress, place in the queue, then text with token counts and speed."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

from app.chat.request import ChatRequest
from app.models.interface import FinishReason, Generation, Message, Registry
from app.models.repetition_loops import loop_length
from app.models.waiting import polled, while_loading

PACE_S = 0.06  # pieces that come faster are shown together: each showing costs the server a diff and a message
MOST_REPEATS = 6  # in a row of the same words; an answer that goes on so is ended


@dataclass(frozen=True)
class Reply:
    """An answer as it stands now. `loading` is 0 to 1 while its model is fetched; it and `wait_s` None when unknown."""

    state: Literal["loading", "queued", "writing", "done"]
    text: str = ""
    model: str = ""
    loading: float | None = None
    queue_ahead: int = 0
    wait_s: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_per_second: float = 0.0
    dropped_turns: int = 0
    unseen_pictures: int = 0  # of earlier turns, left out because the model does not see
    finish_reason: FinishReason | None = None
    reasoning: str = ""  # what a model that thinks has written before its answer, in `thought_s` seconds
    thought_s: float = 0.0
    repeats: bool = False  # ended here because it said the same words over and over


@dataclass(frozen=True)
class ChatService:
    """Chat over whatever the registry holds."""

    registry: Registry

    def reply(self, request: ChatRequest, visitor: str = "") -> Iterator[Reply]:
        """The answer as it grows. Closing the iterator cancels the generation."""
        registry = self.registry.for_visitor(visitor)
        name = request.model or registry.default_name
        for progress in while_loading(registry, request.tuned or name):
            yield Reply("loading", model=name, loading=progress)
        with registry.lease(name, full_weights=bool(request.tuned)) as model:
            messages, unseen = request.messages(), 0
            if not model.is_multimodal and not request.images:
                unseen = sum(len(turn.get("images", ())) for turn in messages)
                messages = [without_images(turn) for turn in messages]
            generation = model.stream(messages, request.sampling, visitor=visitor, drop_oldest=bool(request.history))
            for reply in _Stream(generation).replies(name):
                yield replace(reply, unseen_pictures=unseen)


def without_images(turn: Message) -> Message:
    """The words alone: an earlier picture does not keep a model that cannot see from going on."""
    plain = turn.copy()
    plain.pop("images", None)
    return plain


@dataclass
class _Stream:
    """A generation as replies: its place in the queue, then its text with figures."""

    generation: Generation
    most_ahead: int = 0
    since: float = 0.0  # when so many were ahead

    def replies(self, name: str) -> Iterator[Reply]:
        text, began, thought_s, repeats = "", 0.0, 0.0, False
        with closing(polled(self.generation)) as pieces:
            for news in pieces:
                if news or self.generation.reasoning:
                    began = began or time.monotonic()
                    text += "".join(news)
                if began and not text:
                    thought_s = time.monotonic() - began
                reply = self._reply(name, text, began) if began else self._place(name)
                yield replace(reply, thought_s=thought_s)
                repeats = bool(news) and loop_length(text, MOST_REPEATS) is not None
                if repeats:
                    break
                time.sleep(PACE_S if news else 0)
        yield replace(self._reply(name, text, began), state="done", thought_s=thought_s, repeats=repeats)

    def _place(self, name: str) -> Reply:
        """The place in the queue, which shorter requests may pass; the time left as fast as it moved so far."""
        ahead = self.generation.queue_ahead
        if ahead >= self.most_ahead:
            self.most_ahead, self.since = ahead, time.monotonic()
        passed = self.most_ahead - ahead
        wait = (time.monotonic() - self.since) / passed * ahead if passed else None
        return Reply("queued", model=name, queue_ahead=ahead, wait_s=wait)

    def _reply(self, name: str, text: str, began: float) -> Reply:
        tokens = self.generation.completion_tokens
        seconds = time.monotonic() - began
        return Reply(
            "writing",
            text,
            name,
            prompt_tokens=self.generation.prompt_tokens,
            completion_tokens=tokens,
            tokens_per_second=(tokens - 1) / seconds if tokens > 1 and seconds > 0 else 0.0,
            dropped_turns=self.generation.dropped_turns,
            finish_reason=self.generation.finish_reason,
            reasoning=self.generation.reasoning,
        )
