"""Convert turns of a conversation to the messages of gr.Chatbot."""

from collections.abc import Sequence
from html import escape
from typing import Any

from app.chat.conversations import Turn
from app.chat.service import Reply
from app.texts import has_chinese
from tabs.shell.conversation import typed
from tabs.shell.model_choice import speaks
from tabs.shell.page import Visitor

NOTE = "\u2063"  # invisible; by it studio.js knows the notes and leaves them out of what is copied


def bubbles_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns as the chatbot shows them, a note as a bubble of its own below."""
    return [bubble for turn in turns for bubble in _bubbles(turn)]


def side_by_side(answers: Sequence[Turn]) -> list[dict[str, Any]]:
    """Answers to one question, a bubble each: the model's name, the small print, what it wrote."""
    bubbles = []
    for turn in answers:
        [said, *_] = _bubbles(turn)
        head = f'<div class="beside"><b>{escape(turn.model)}</b> {turn.note}</div>'
        said["content"][0]["text"] = f"{head}\n\n{said['content'][0]['text']}"
        bubbles.append(said)
    return bubbles


def turn_at(turns: Sequence[Turn], bubble: int) -> int | None:
    """Which turn the bubble with this number shows: the last where there is no such bubble, none for small print."""
    owners = [None if "metadata" in shown else place for place, turn in enumerate(turns) for shown in _bubbles(turn)]
    return owners[bubble] if 0 <= bubble < len(owners) else max(0, len(turns) - 1)


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
    lost = has_chinese(question) and not speaks(reply.model, "zh")
    parts = [visitor.text("chat.only_english")] if lost else []
    parts += [visitor.text("chat.tokens", tokens=reply.completion_tokens)]
    if reply.tokens_per_second:
        parts.append(visitor.text("chat.speed", speed=f"{reply.tokens_per_second:.1f}"))
    if reply.finish_reason == "length":
        parts.append(visitor.text("chat.cut"))
    if reply.repeats:
        parts.append(visitor.text("chat.repeats"))
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


def picture_tag(thumbnail: str) -> str:
    """A thumbnail, JPEG in base64, as the page shows it."""
    return f'<img class="chat-picture" alt="" src="data:image/jpeg;base64,{thumbnail}">'
