"""Render an agent's steps as chat messages and as JSON."""

import base64
import re
from collections.abc import Sequence
from typing import Any

from app.agent.steps import Exchange, Step
from tabs.shell.page import Visitor

_ENDS = ("stopped", "time", "steps")


def bubbles_of(visitor: Visitor, talk: Sequence[Exchange]) -> list[dict[str, Any]]:
    """The whole talk for the chatbot."""
    bubbles: list[dict[str, Any]] = []
    for exchange in talk:
        bubbles.append(_said("user", exchange.task))
        bubbles += [_bubble(visitor, step) for step in exchange.steps]
        if not exchange.steps:
            bubbles.append(_folded(visitor.text("agent.kinds.thought"), "", {"status": "pending"}))
    return bubbles


def plain_steps(visitor: Visitor, steps: Sequence[Step]) -> list[dict[str, str]]:
    """Steps as `/agent` gives them; a picture is a data address."""
    return [
        {"kind": step.kind, "text": _address(step.image) if step.image else _text(visitor, step)}
        for step in steps
        if step.kind != "loading"
    ]


def _bubble(visitor: Visitor, step: Step) -> dict[str, Any]:
    """Answers and pictures stand open; the rest folds, with its state and seconds in the title."""
    if step.kind == "answer":
        return _said("assistant", step.text)
    if step.kind == "image":
        return _said("assistant", f"![]({_address(step.image)})")
    title = visitor.text(f"agent.kinds.{step.kind}")
    if step.kind == "code":
        title = f"{title} · {visitor.text(f'agent.states.{step.state}')}"
    state: dict[str, Any] = {"status": "pending"} if step.state == "running" else {}
    if step.seconds:
        state["duration"] = round(step.seconds, 2)
    if step.kind == "code" and step.state == "done":
        state["status"] = "done"  # folded: the output below says more
    text = _text(visitor, step)
    language = {"code": "python", "output": "text"}.get(step.kind)
    return _folded(title, _fenced(text, language) if language or "\n" in text else text, state)


def _text(visitor: Visitor, step: Step) -> str:
    ended = step.kind == "error" and step.text in _ENDS
    return visitor.text(f"agent.ended.{step.text}") if ended else step.text


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _folded(title: str, text: str, state: dict[str, Any]) -> dict[str, Any]:
    return _said("assistant", text) | {"metadata": {"title": title, **state}}


def _fenced(text: str, language: str | None) -> str:
    """A code block that no run of backticks inside can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language or 'text'}\n{text}\n{fence}"


def _address(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")
