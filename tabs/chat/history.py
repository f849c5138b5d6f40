"""The visitor's conversations on the chat tab: open, begin, name, delete, save; kept in their own browser."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.chat.conversations import History, Turn, as_json, as_markdown, file_name, shelf_from
from app.errors import BadInput
from tabs.chat.bubbles import bubbles_of, turns_of
from tabs.shell.page import Visitor

View = list[Any]  # chatbot, turns written, box, shelf, list, title: what every event of the tab may change
Bubbles = list[Any]  # the chatbot's value
CLOSING_S = 5.0


@dataclass(frozen=True)
class Written:
    """What the server last sent of an answer, its conversation's turns and all; `closed` when it sends no more.

    A cancelled answer may send once more, so whoever takes its place on the page waits for `closed` first.
    """

    turns: tuple[Turn, ...]
    closed: threading.Event

    def final(self) -> list[Turn]:
        """The turns once the answer is closed, without a question that got no answer."""
        self.closed.wait(CLOSING_S)
        answered = self.turns[-1].role == "assistant"
        return list(self.turns if answered else self.turns[:-1])


class NothingToSave(BadInput):
    zh = "这个对话还没有内容。"
    en = "This conversation is still empty."


def arrive(visitor: Visitor, stored: object) -> View:
    """A page was loaded: the conversation that was open last."""
    return _show(visitor, shelf_from(stored))


def start_new(visitor: Visitor, written: Written | None, stored: object) -> View:
    """A new conversation; what was being written is kept."""
    return _show(visitor, _kept(written, stored).started())


def switch_to(visitor: Visitor, written: Written | None, stored: object, identity: str) -> View:
    """Another conversation from the list; what was being written is kept."""
    return _show(visitor, _kept(written, stored).opened(identity))


def rename(visitor: Visitor, stored: object, title: str) -> View:
    """Another title for the open conversation."""
    return [*([gr.skip()] * 3), *shelf_view(visitor, shelf_from(stored).renamed(title))]


def delete_open(visitor: Visitor, written: Written | None, stored: object) -> View:
    """Away with the open conversation."""
    return _show(visitor, _kept(written, stored).without_open())


def export(kind: str, visitor: Visitor, bubbles: Bubbles, stored: object) -> tuple[str, str]:
    """The open conversation as a file: its name and its text."""
    talk = replace(shelf_from(stored).open, turns=tuple(turns_of(bubbles)))
    if not talk.turns:
        raise NothingToSave
    text = as_markdown(talk, visitor.language) if kind == "md" else as_json(talk)
    return file_name(talk, kind), text


def shelf_view(visitor: Visitor, shelf: History) -> list[Any]:
    """The shelf itself, its list and the open title."""
    untitled = visitor.text("chat.untitled")
    choices = [(talk.title or untitled, talk.id) for talk in shelf.conversations]
    return [shelf.to_json(), gr.update(choices=choices, value=shelf.open.id), shelf.open.title]


def _show(visitor: Visitor, shelf: History) -> View:
    return [bubbles_of(shelf.open.turns), None, idle_box(""), *shelf_view(visitor, shelf)]


def _kept(written: Written | None, stored: object) -> History:
    """The shelf with an answer that was cut short just now."""
    shelf = shelf_from(stored)
    return shelf.saved(shelf.open.id, written.final()) if written else shelf


def idle_box(message: str) -> dict[str, Any]:
    return gr.update(value=message, submit_btn=True, stop_btn=False)
