"""Chat template compatibility: what turns a template refuses or loses, found by trying, and how messages are changed.

Templates differ in what they take: Gemma's refuses a system turn, Mistral's two turns of one role in a row, Qwen 3.5's
a system turn that is not the first. Any engine can use this: `probe` needs a function that renders messages.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from app.errors import BadInput
from app.models.interface import Message
from app.models.loading.errors import first_line

Render = Callable[[list[Any]], str]  # raises what it likes where it refuses
SEPARATOR = "\n\n"
NOTHING_SAID = "…"  # stands for the user's words where a template wants some
# Nine letters and digits, as Mistral's templates want it.
CALL: dict[str, Any] = {"id": "abcDEF123", "type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}
OTHERS_CALL = {**CALL, "id": "call_abc-123"}  # as other servers write their ids
SHORT_ID = re.compile("[A-Za-z0-9]{9}")


class ConversationRefused(BadInput):
    zh = "这个模型的对话模板不接受这段对话（例如空的内容，或它不认识的轮次）。请修改对话，或换一个模型。"
    en = (
        "The chat template of this model refuses the conversation: {reason}. Change its turns, or choose another model."
    )

    def __init__(self, error: Exception) -> None:
        super().__init__(reason=first_line(error).rstrip("."))


@dataclass(frozen=True)
class TurnRules:
    """What a chat template takes. `content_parts`: it reads a content only as a list of parts; `tools`: it tells the
    results of tools; `long_ids`: ids of calls that are not nine letters and digits; `userless`: a conversation without
    any words of the user; `ends_with_answer`: one that does."""

    system: bool = True
    late_system: bool = True
    repeated_roles: bool = True
    assistant_first: bool = True
    environment: bool = True
    content_parts: bool = False
    tools: bool = True
    long_ids: bool = True
    userless: bool = True
    ends_with_answer: bool = True

    def mend(self, messages: Sequence[Message]) -> list[Message]:
        """The same conversation in turns that the template takes."""
        turns = [turn.copy() for turn in messages]
        if not self.tools:
            turns = [_told(turn) for turn in turns]
        if not self.long_ids:
            turns = [_with_short_ids(turn) for turn in turns]
        if not self.environment:
            turns = [_as_user(turn) if turn["role"] == "environment" else turn for turn in turns]
        if not (self.late_system and self.system):
            turns = _systems_first(turns)
        if not self.system and turns and turns[0]["role"] == "system":
            turns[0] = _as_user(turns[0])
            if len(turns) > 1 and turns[1]["role"] == "user":
                turns[:2] = [_joined(turns[0], turns[1])]
        if not self.assistant_first:
            first = next((at for at, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
            if first < len(turns) and turns[first]["role"] == "assistant":
                turns.insert(first, {"role": "user", "content": NOTHING_SAID})
        turns = turns if self.repeated_roles else _neighbours_joined(turns)
        lacks_user = not self.userless and all(turn["role"] != "user" for turn in turns)
        if lacks_user or (not self.ends_with_answer and turns and turns[-1]["role"] == "assistant"):
            turns.append({"role": "user", "content": NOTHING_SAID})
        return turns

    def for_template(self, messages: Sequence[Message]) -> list[Any]:
        """Mended, in the form that the template reads."""
        turns = self.mend(messages)
        if not self.content_parts:
            return list(turns)
        return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]


def probe(render: Render) -> TurnRules | None:
    """Try a template; None where it refuses even a single user turn."""

    def takes(*roles: str, content_parts: bool = False, made: dict[str, Any] = CALL) -> bool:
        """Whether such turns come out, each of them and in their order."""
        words = [f"Word{place}" for place in range(len(roles))]
        rules = TurnRules(content_parts=content_parts)
        turns: list[Any] = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
        for call, result in pairwise(turns):
            if result["role"] == "tool":
                call["tool_calls"] = (made,)
                result.update(name=made["function"]["name"], tool_call_id=made["id"])
        try:
            text = render(rules.for_template(turns))
        except Exception:  # a template raises whatever its author or jinja makes of it
            return False
        found = [text.find(word) for word, turn in zip(words, turns, strict=True) if "tool_calls" not in turn]
        return -1 not in found and found == sorted(found)

    parts = not takes("user")
    if parts and not takes("user", content_parts=True):
        return None
    system = takes("system", "user", content_parts=parts)
    opening = ("system",) if system else ()
    tools = takes("user", "assistant", "tool", content_parts=parts) and takes(
        "user", "assistant", "tool", "assistant", "user", content_parts=parts
    )
    return TurnRules(
        system=system,
        late_system=system
        and takes("user", "assistant", "system", "user", content_parts=parts)
        and takes("system", "system", "user", content_parts=parts),
        repeated_roles=takes("user", "user", content_parts=parts)
        and takes("user", "assistant", "assistant", "user", content_parts=parts),
        assistant_first=takes("assistant", "user", content_parts=parts)
        and takes(*opening, "assistant", "user", content_parts=parts),
        environment=takes("user", "assistant", "environment", content_parts=parts),
        content_parts=parts,
        tools=tools,
        long_ids=not tools or takes("user", "assistant", "tool", content_parts=parts, made=OTHERS_CALL),
        userless=takes("assistant", content_parts=parts)
        and (
            not system or (takes("system", content_parts=parts) and takes("system", "assistant", content_parts=parts))
        ),
        ends_with_answer=takes(*opening, "user", "assistant", content_parts=parts),
    )


def _told(turn: Message) -> Message:
    """Calls of tools and their results in words, for a template that knows none."""
    if turn["role"] == "tool":
        return {"role": "user", "content": turn["content"]}
    if not (calls := turn.get("tool_calls")):
        return turn
    written = [json.dumps(call["function"], ensure_ascii=False) for call in calls]
    return {"role": turn["role"], "content": "\n".join(filter(None, [turn["content"], *written]))}


def _with_short_ids(turn: Message) -> Message:
    """The same id for a call and its result, and in each later prompt."""
    made = turn.copy()
    if calls := turn.get("tool_calls"):
        made["tool_calls"] = tuple({**call, "id": _short_id(call.get("id", ""))} for call in calls)
    if turn["role"] == "tool":
        made["tool_call_id"] = _short_id(turn.get("tool_call_id", ""))
    return made


def _short_id(written: str) -> str:
    return written if SHORT_ID.fullmatch(written) else hashlib.sha256(written.encode()).hexdigest()[:9]


def _as_user(turn: Message) -> Message:
    made: Message = {"role": "user", "content": turn["content"]}
    if turn.get("images"):
        made["images"] = turn["images"]
    return made


def _systems_first(turns: list[Message]) -> list[Message]:
    systems = [turn["content"] for turn in turns if turn["role"] == "system"]
    if not systems:
        return turns
    joined: Message = {"role": "system", "content": SEPARATOR.join(systems)}
    return [joined, *(turn for turn in turns if turn["role"] != "system")]


def _neighbours_joined(turns: list[Message]) -> list[Message]:
    made: list[Message] = []
    for turn in turns:
        if made and made[-1]["role"] == turn["role"] != "tool":
            made[-1] = _joined(made[-1], turn)
        else:
            made.append(turn)
    return made


def _joined(first: Message, second: Message) -> Message:
    both = {**second, **first, "content": SEPARATOR.join(filter(None, (first["content"], second["content"])))}
    if images := (*first.get("images", ()), *second.get("images", ())):
        both["images"] = images
    if calls := (*first.get("tool_calls", ()), *second.get("tool_calls", ())):
        both["tool_calls"] = calls
    return both  # type: ignore[return-value]
