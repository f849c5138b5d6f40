"""Build OpenAI's response bodies: chat completions and their stream chunks, model lists."""

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.api.answering import Ended, Event, Piece, Scores
from app.models.engine.tool_calls import ToolCall
from app.models.interface import TokenScore

OWNER = "puyu-studio"
DONE = b"data: [DONE]\n\n"


@dataclass
class Choice:
    """One choice, gathered from its events."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    scores: list[TokenScore] | None = None
    ended: Ended = field(default_factory=lambda: Ended(0, "stop", 0, 0))

    def add(self, event: Event) -> None:
        if event.scores is not None:
            self.scores = [*(self.scores or ()), *event.scores]
        if isinstance(event, Ended):
            self.ended = event
        elif event.call is not None:
            self.calls.append(event.call)
        elif event.kind == "reasoning":
            self.reasoning += event.text
        else:
            self.text += event.text


class Completion(Protocol):
    """The parts of one completion; all bear the same id."""

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        ...

    def opening(self, choice: int) -> bytes:
        """The first event of a choice; may be empty."""
        ...

    def piece(self, piece: Piece) -> bytes: ...

    def closing(self, ended: Ended) -> bytes:
        """The event with the finish reason."""
        ...

    def usage(self, ended: Sequence[Ended]) -> bytes:
        """The event with the counts of tokens, after all others."""
        ...


class ChatCompletion:
    """See Completion."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._calls: dict[int, int] = {}

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        told = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": _chat_scores(choice.scores),
                "finish_reason": finish_reason(choice.ended),
            }
            for index, choice in enumerate(choices)
        ]
        counts = usage([choice.ended for choice in choices])
        return {**self._head, "object": "chat.completion", "choices": told, "usage": counts}

    def opening(self, choice: int) -> bytes:
        return self._chunk(choice, {"role": "assistant", "content": ""}, None)

    def piece(self, piece: Piece) -> bytes:
        if piece.call is not None:
            number = self._calls[piece.choice] = self._calls.get(piece.choice, -1) + 1
            opening = {"index": number, **_call(ToolCall(piece.call.id, piece.call.name, ""))}
            rest = {"index": number, "function": {"arguments": piece.call.arguments}}
            deltas = ({"tool_calls": [opening]}, {"tool_calls": [rest]})
            return b"".join(self._chunk(piece.choice, delta, None) for delta in deltas)
        name = "content" if piece.kind == "answer" else "reasoning_content"
        return self._chunk(piece.choice, {name: piece.text}, None, piece.scores)

    def closing(self, ended: Ended) -> bytes:
        return self._chunk(ended.choice, {}, finish_reason(ended), ended.scores or None)

    def usage(self, ended: Sequence[Ended]) -> bytes:
        return event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage(ended)})

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None, scores: Scores | None = None) -> bytes:
        told = {"index": choice, "delta": delta, "logprobs": _chat_scores(scores), "finish_reason": finish}
        return event({**self._head, "object": "chat.completion.chunk", "choices": [told]})


def event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def model_list(names: Iterable[str], created: int) -> dict[str, Any]:
    return {"object": "list", "data": [model_object(name, created) for name in names]}


def model_object(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}


def usage(ended: Sequence[Ended], prompts: int = 1) -> dict[str, Any]:
    """Counts of tokens; choices of one prompt come one after another and share its tokens."""
    each = max(1, len(ended) // prompts)
    in_order = sorted(ended, key=lambda end: end.choice)
    prompt = sum(end.prompt_tokens for end in in_order[::each])
    completion = sum(end.completion_tokens for end in ended)
    details = {"reasoning_tokens": sum(end.reasoning_tokens for end in ended)}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**counts, "completion_tokens_details": details} if details["reasoning_tokens"] else counts


def finish_reason(ended: Ended) -> str:
    if ended.called and ended.finish_reason != "length":
        return "tool_calls"
    return "length" if ended.finish_reason == "length" else "stop"


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.calls:
        message |= {"content": choice.text or None, "tool_calls": [_call(call) for call in choice.calls]}
    return {**message, "reasoning_content": choice.reasoning} if choice.reasoning else message


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _chat_scores(scores: Sequence[TokenScore] | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    content = [
        {**_token(score.text, score.logprob), "top_logprobs": [_token(*pair) for pair in score.top_logprobs]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    """Half a character, as some tokens are, has no bytes of its own here."""
    return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}
