"""Build OpenAI's Responses API bodies: output items (message, function_call, reasoning) and their stream events."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from app.api.answering import Ended, Piece
from app.api.chat_request import ChatCompletionRequest
from app.api.responses import Choice, event
from app.models.engine.tool_calls import ToolCall

TEXTS = {"answer": "output_text", "reasoning": "reasoning_text"}  # the kinds of text, as its parts and events call them


class ResponseBody:
    """One response; see `responses.Completion`. `body` is what was asked."""

    def __init__(self, asked: ChatCompletionRequest, body: dict[str, Any]) -> None:
        repeated = (
            "instructions",
            "max_output_tokens",
            "metadata",
            "reasoning",
            "temperature",
            "text",
            "top_p",
            "user",
        )
        self._head = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": asked.model,
            "error": None,
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": None,
            "store": False,
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "truncation": "disabled",
            **{name: body.get(name) for name in repeated},
        }
        self._items: list[dict[str, Any]] = []
        self._open: str | None = None  # the kind of text that the last item takes more of
        self._number = -1

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        (choice,) = choices
        self.piece(Piece(0, choice.reasoning, kind="reasoning"))
        self.piece(Piece(0, choice.text))
        for call in choice.calls:
            self.piece(Piece(0, "", call=call))
        self._end_text()
        return self._body(choice.ended)

    def opening(self, choice: int) -> bytes:  # noqa: ARG002  there is one
        return self._event("created", response=self._body(None)) + self._event("in_progress", response=self._body(None))

    def piece(self, piece: Piece) -> bytes:
        if piece.call is not None:
            return self._end_text() + self._call(piece.call)
        if not piece.text:
            return b""
        begun = b"" if self._open == piece.kind else self._end_text() + self._begin_text(piece.kind)
        self._part["text"] += piece.text
        return begun + self._text_event("delta", delta=piece.text)

    def closing(self, ended: Ended) -> bytes:
        told = self._end_text()
        body = self._body(ended)
        return told + self._event(body["status"], response=body)

    def usage(self, ended: Sequence[Ended]) -> bytes:  # noqa: ARG002  the last event has it
        return b""

    def _call(self, call: ToolCall) -> bytes:
        item = {"type": "function_call", "id": f"fc_{secrets.token_hex(12)}", "call_id": call.id, "name": call.name}
        added = self._add({**item, "arguments": "", "status": "in_progress"})
        self._items[-1] |= {"arguments": call.arguments, "status": "completed"}
        delta = self._item_event("function_call_arguments.delta", delta=call.arguments)
        done = self._item_event("function_call_arguments.done", name=call.name, arguments=call.arguments)
        return added + delta + done + self._done()

    def _begin_text(self, kind: str) -> bytes:
        self._open = kind
        part: dict[str, Any] = {"type": TEXTS[kind], "text": ""}
        if kind == "reasoning":
            item: dict[str, Any] = {"type": "reasoning", "id": f"rs_{secrets.token_hex(12)}", "summary": []}
        else:
            item = {"type": "message", "id": f"msg_{secrets.token_hex(12)}", "role": "assistant"}
            part |= {"annotations": [], "logprobs": []}
        added = self._add({**item, "status": "in_progress", "content": []})
        self._items[-1]["content"].append(part)
        return added + self._item_event("content_part.added", content_index=0, part=part)

    def _end_text(self) -> bytes:
        if self._open is None:
            return b""
        told = self._text_event("done", text=self._part["text"])
        told += self._item_event("content_part.done", content_index=0, part=self._part)
        self._open, self._items[-1]["status"] = None, "completed"
        return told + self._done()

    @property
    def _part(self) -> dict[str, Any]:
        return self._items[-1]["content"][0]  # type: ignore[no-any-return]

    def _add(self, item: dict[str, Any]) -> bytes:
        self._items.append(item)
        return self._event("output_item.added", output_index=len(self._items) - 1, item=item)

    def _done(self) -> bytes:
        return self._event("output_item.done", output_index=len(self._items) - 1, item=self._items[-1])

    def _text_event(self, name: str, /, **more: object) -> bytes:
        logprobs: dict[str, Any] = {"logprobs": []} if self._open == "answer" else {}
        return self._item_event(f"{TEXTS[self._open or 'answer']}.{name}", content_index=0, **more, **logprobs)

    def _item_event(self, name: str, /, **more: object) -> bytes:
        return self._event(name, item_id=self._items[-1]["id"], output_index=len(self._items) - 1, **more)

    def _event(self, name: str, /, **more: object) -> bytes:
        self._number += 1
        kind = f"response.{name}"
        return f"event: {kind}\n".encode() + event({"type": kind, "sequence_number": self._number, **more})

    def _body(self, ended: Ended | None) -> dict[str, Any]:
        told = {**self._head, "output": self._items, "status": "in_progress", "incomplete_details": None, "usage": None}
        if ended is None:
            return told
        if ended.finish_reason == "length":
            told |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        else:
            told["status"] = "completed"
        return {**told, "usage": _usage(ended)}


def _usage(ended: Ended) -> dict[str, Any]:
    return {
        "input_tokens": ended.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": ended.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": ended.reasoning_tokens},
        "total_tokens": ended.prompt_tokens + ended.completion_tokens,
    }
