"""Render an agent's steps as chat messages and as JSON."""

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any

from app.agent.kept_files import TaskFiles
from app.agent.steps import Exchange, Step
from tabs.shell.page import Visitor


def bubbles_of(
    visitor: Visitor, talk: Sequence[Exchange], files_of: Callable[[int], TaskFiles] = lambda _: TaskFiles()
) -> list[dict[str, Any]]:
    """The whole talk for the chatbot; `files_of` tells what the task of a number wrote."""
    bubbles: list[dict[str, Any]] = []
    if talk and talk[0].number > 1:
        bubbles.append(_said("assistant", f"*{visitor.text('agent.earlier_tasks', count=len(talk))}*"))
    for exchange in talk:
        bubbles.append(_said("user", exchange.task))
        bubbles += [_bubble(visitor, step) for step in exchange.steps]
        if not exchange.steps:
            bubbles.append(_folded(visitor.text("agent.kinds.thought"), "", {"status": "pending"}))
        bubbles += _files(visitor, exchange.number, files_of(exchange.number))
    return bubbles


def file_label(task: int, name: str) -> str:
    """In the list of files, in any language: `#2 · plot.png` is what the second task wrote."""
    return f"#{task} · {name}" if task else name


def plain_steps(visitor: Visitor, steps: Sequence[Step]) -> list[dict[str, str]]:
    """Steps as `/agent` gives them; a picture is a data address. What has to be said of an answer is its `note`."""
    return [_plain(visitor, step) for step in steps if step.kind != "loading"]


def _plain(visitor: Visitor, step: Step) -> dict[str, str]:
    if step.kind == "answer":
        note = step.notes_in(visitor.language)
        return {"kind": step.kind, "text": step.text} | ({"note": note} if note else {})
    return {"kind": step.kind, "text": _address(step.image) if step.image else step.shown(visitor.language)}


def _bubble(visitor: Visitor, step: Step) -> dict[str, Any]:
    """Answers and pictures stand open; the rest folds, with its state and seconds in the title."""
    if step.kind == "answer":
        note = step.notes_in(visitor.language)
        return _said("assistant", f"{step.text}\n\n*⚠ {note}*" if note else step.text)
    if step.kind == "image":
        return _said("assistant", f"![]({_address(step.image)})")
    title = visitor.text(f"agent.kinds.{step.kind}")
    if step.kind == "code":
        title = f"{title} · {visitor.text(f'agent.states.{step.state}')}"
        if step.total:
            title = f"{visitor.text('agent.step', number=step.number, total=step.total)} · {title}"
    state: dict[str, Any] = {"status": "pending"} if step.state == "running" else {}
    if step.seconds:
        state["duration"] = round(step.seconds, 2)
    if step.kind == "code" and step.state == "done":
        state["status"] = "done"  # folded: the output below says more
    language = {"code": "python", "output": "text", "error": "text", "stopped": "text"}.get(step.kind)
    text = _fenced(step.text, language) if step.text and language else step.text
    return _folded(title, "\n\n".join(filter(None, (text, step.notes_in(visitor.language)))), state)


def _files(visitor: Visitor, task: int, files: TaskFiles) -> list[dict[str, Any]]:
    """What a task wrote, by name: the list beside the talk has them to download."""
    names = "\n".join(" ".join(name.split()) for name in files.copies)
    gone = visitor.text("agent.files_gone") if files.incomplete else ""
    if not names and not gone:
        return []
    title = visitor.text("agent.task_files", number=task)
    return [_folded(title, "\n\n".join(filter(None, (names and _fenced(names, None), gone))), {})]


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
