"""Answers in the words of OpenAI's API: whole completions, chunks of a stream, lists of models."""

import json
import secrets
import time
from collections.abc import Iterable
from typing import Any

from app.api.answering import Ended

OWNER = "puyu-studio"


class Completion:
    """The parts of one chat completion; all bear the same id."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, text: str, ended: Ended) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": _scores(ended), "finish_reason": _finish(ended)}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(ended)}

    def opening(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> bytes:
        return self._chunk({"content": text}, None)

    def closing(self, ended: Ended, include_usage: bool) -> bytes:
        """The chunk with the finish reason and all log-probabilities, the usage where it is wanted, the end mark."""
        usage = {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(ended)}
        last = self._chunk({}, _finish(ended), _scores(ended))
        return last + (event(usage) if include_usage else b"") + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None, scores: dict[str, Any] | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": scores, "finish_reason": finish}
        return event({**self._head, "object": "chat.completion.chunk", "choices": [choice]})


def event(body: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def model_list(names: Iterable[str], created: int) -> dict[str, Any]:
    return {"object": "list", "data": [model_object(name, created) for name in names]}


def model_object(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}


def _usage(ended: Ended) -> dict[str, int]:
    prompt, completion = ended.prompt_tokens, ended.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _finish(ended: Ended) -> str:
    return "length" if ended.finish_reason == "length" else "stop"


def _scores(ended: Ended) -> dict[str, Any] | None:
    if ended.scores is None:
        return None
    content = [
        {**_token(score.text, score.logprob), "top_logprobs": [_token(*pair) for pair in score.top_logprobs]}
        for score in ended.scores
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    """Half a character, as some tokens are, has no bytes of its own here."""
    return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}
