"""Convert turns of a conversation to the messages of gr.Chatbot and back."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape, unescape
from typing import Any

from app.chat.conversations import Turn
from app.chat.service import Reply
from tabs.shell.conversation import typed
from tabs.shell.model_choice import speaks
from tabs.shell.page import Visitor

PICTURE = re.compile(r'<img class="chat-picture" alt="" src="data:image/jpeg;base64,([A-Za-z0-9+/]+={0,2})">')
SHOWN = re.compile(rf"((?:{PICTURE.pattern})+)\n\n")  # what stands before the words of a question
TYPED = re.compile(r'<div class="typed">(.*)</div>', re.DOTALL)
CHINESE = re.compile(r"[\u3400-\u9fff]")
NOTE = "\u2063"  # invisible; by it studio.js knows the notes and leaves them out of what is copied


def bubbles_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns as the chatbot shows them, a note as a bubble of its own below."""
    return [bubble for turn in turns for bubble in _bubbles(turn)]


def turn_at(turns: Sequence[Turn], bubble: int) -> int:
    """Which turn the bubble with this number shows."""
    owners = [place for place, turn in enumerate(turns) for _ in _bubbles(turn)]
    return owners[bubble] if 0 <= bubble < len(owners) else max(0, len(turns) - 1)


def turns_of(bubbles: Sequence[Any]) -> list[Turn]:
    """Turns from the chatbot's value; a bubble that only says «please wait» is none."""
    turns: list[Turn] = []
    for bubble in bubbles:
        metadata = bubble.get("metadata") or {}
        if not metadata.get("title"):
            turns.append(Turn(bubble["role"], _text(bubble), pictures=_pictures(bubble)))
        elif turns and metadata.get("status") == "done":
            turns[-1] = replace(turns[-1], note=str(metadata["title"]).removeprefix(NOTE))
    return turns


def waiting(text: str) -> dict[str, Any]:
    """A bubble that says what is being waited for."""
    return _titled(text, "pending")


def waiting_text(visitor: Visitor, reply: Reply) -> str:
    """What an answer without text yet waits for."""
    if reply.state == "loading":
        if reply.loading is None:
            return visitor.text("chat.loading", model=reply.model)
        return visitor.text("chat.loading_percent", model=reply.model, percent=int(reply.loading * 100))
    if reply.queue_ahead and reply.wait_s is not None:
        return visitor.text("chat.queued_seconds", ahead=reply.queue_ahead, seconds=round(reply.wait_s) + 1)
    if reply.queue_ahead:
        return visitor.text("chat.queued", ahead=reply.queue_ahead)
    return visitor.text("chat.thinking")


def note_of(visitor: Visitor, reply: Reply, question: str = "") -> str:
    """Figures and notices of an answer."""
    lost = CHINESE.search(question) and not speaks(reply.model, "zh")
    parts = [visitor.text("chat.only_english")] if lost else []
    parts += [visitor.text("chat.tokens", tokens=reply.completion_tokens)]
    if reply.tokens_per_second:
        parts.append(visitor.text("chat.speed", speed=f"{reply.tokens_per_second:.1f}"))
    if reply.finish_reason == "length":
        parts.append(visitor.text("chat.cut"))
    if reply.dropped_turns:
        parts.append(visitor.text("chat.dropped", turns=reply.dropped_turns))
    if reply.unseen_pictures:
        parts.append(visitor.text("chat.unseen", pictures=reply.unseen_pictures))
    return " · ".join(parts)


def _bubbles(turn: Turn) -> list[dict[str, Any]]:
    # A part, not a plain string: gradio would strip a string's indentation. One part: gradio edits each by itself.
    shown = f"{''.join(map(picture_tag, turn.pictures))}\n\n" if turn.pictures else ""
    words = typed(turn.content) if turn.role == "user" else _thinking(turn) + turn.content
    said: dict[str, Any] = {"role": turn.role, "content": [{"type": "text", "text": shown + words}]}
    return [said, _titled(NOTE + turn.note, "done")] if turn.note else [said]


def _thinking(turn: Turn) -> str:
    """The reasoning before an answer, folded once the answer has begun."""
    if not turn.reasoning:
        return ""
    state = "" if turn.content else " open"
    summary = f"<summary>{escape(turn.thought)}</summary>"
    return f'<details class="thinking"{state}>{summary}{typed(turn.reasoning)}</details>\n\n'


def _titled(title: str, status: str) -> dict[str, Any]:
    """A bubble with a title only: shown as small print by the style sheet."""
    return {"role": "assistant", "content": "", "metadata": {"title": title, "status": status}}


def _text(bubble: Any) -> str:
    return words_of(_whole(bubble)) if bubble["role"] == "user" else _whole(bubble)


def words_of(text: str) -> str:
    """A question as it was typed, without the pictures that stand before it."""
    shown = SHOWN.match(text)
    words = text[shown.end() :] if shown else text
    return unescape(found[1]) if (found := TYPED.fullmatch(words)) else words


def _pictures(bubble: Any) -> tuple[str, ...]:
    """The thumbnails that a question carries; a picture that an answer writes is only text."""
    shown = SHOWN.match(_whole(bubble)) if bubble["role"] == "user" else None
    return tuple(PICTURE.findall(shown[1])) if shown else ()


def _whole(bubble: Any) -> str:
    content = bubble["content"]
    return content if isinstance(content, str) else "\n".join(str(part.get("text", "")) for part in content)


def picture_tag(thumbnail: str) -> str:
    """A thumbnail, JPEG in base64, as the page shows it."""
    return f'<img class="chat-picture" alt="" src="data:image/jpeg;base64,{thumbnail}">'
