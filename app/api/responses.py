"""Build OpenAI's response bodies: chat completions, text completions, stream chunks, model lists."""

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from app.api.answering import Ended, Piece, Scores

OWNER = "puyu-studio"
DONE = b"data: [DONE]\n\n"


class Completion(Protocol):
    """The parts of one completion; all bear the same id."""

    def whole(self, texts: Sequence[str], ended: Sequence[Ended]) -> dict[str, Any]:
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

    def whole(self, texts: Sequence[str], ended: Sequence[Ended]) -> dict[str, Any]:
        choices = [
            {
                "index": end.choice,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": _chat_scores(end.scores),
                "finish_reason": _finish(end),
            }
            for text, end in zip(texts, ended, strict=True)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": _usage(ended)}

    def opening(self, choice: int) -> bytes:
        return self._chunk(choice, {"role": "assistant", "content": ""}, None)

    def piece(self, piece: Piece) -> bytes:
        return self._chunk(piece.choice, {"content": piece.text}, None)

    def closing(self, ended: Ended) -> bytes:
        return self._chunk(ended.choice, {}, _finish(ended), _chat_scores(ended.scores))

    def usage(self, ended: Sequence[Ended]) -> bytes:
        return event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(ended)})

    def _chunk(
        self, choice: int, delta: dict[str, Any], finish: str | None, scores: dict[str, Any] | None = None
    ) -> bytes:
        told = {"index": choice, "delta": delta, "logprobs": scores, "finish_reason": finish}
        return event({**self._head, "object": "chat.completion.chunk", "choices": [told]})


def event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def model_list(names: Iterable[str], created: int) -> dict[str, Any]:
    return {"object": "list", "data": [model_object(name, created) for name in names]}


def model_object(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}


def _usage(ended: Sequence[Ended]) -> dict[str, int]:
    prompt = max(end.prompt_tokens for end in ended)  # shared by all choices
    completion = sum(end.completion_tokens for end in ended)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _finish(ended: Ended) -> str:
    return "length" if ended.finish_reason == "length" else "stop"


def _chat_scores(scores: Scores | None) -> dict[str, Any] | None:
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
