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
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(ended)}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(ended)}

    def opening(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> bytes:
        return self._chunk({"content": text}, None)

    def closing(self, ended: Ended, include_usage: bool) -> bytes:
        """The chunk with the finish reason, the usage where it is wanted, and the end mark."""
        usage = {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(ended)}
        last = self._chunk({}, _finish(ended))
        return last + (event(usage) if include_usage else b"") + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
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
