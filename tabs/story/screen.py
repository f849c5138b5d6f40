"""What the story page shows at a moment: one value for each component of `StoryWidgets.view`."""

import threading
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.story.draft import Draft
from app.story.names import strangers
from app.story.request import language_of
from tabs.shell.page import Visitor
from tabs.story import view

View = list[Any]  # StoryWidgets.view


@dataclass(frozen=True)
class Written:
    """The draft as the server last sent it; `closed` when it sends no more."""

    draft: Draft
    status: str
    closed: threading.Event


def busy(visitor: Visitor, written: Written, draft: Draft) -> View:
    status = visitor.text("chat.thinking")
    shown = [view.paper(draft, busy=True), gr.update(visible=False), status, ""]
    buttons = [
        gr.update(visible=False),
        gr.update(visible=True),
        gr.update(interactive=False),
        gr.update(visible=False),
    ]
    return [*shown, *buttons, gr.skip(), written, None, draft.to_json()]


def writing(written: Written) -> View:
    shown = [view.paper(written.draft, busy=True), gr.skip(), written.status]
    return [*shown, *([gr.skip()] * 6), written, gr.skip(), gr.skip()]


def show(visitor: Visitor, draft: Draft, chosen: int | None, status: str = "") -> View:
    text = draft.paragraphs[chosen] if chosen is not None else ""
    shown = [view.paper(draft, chosen), gr.update(visible=not draft.paragraphs), status, names(visitor, draft)]
    return [
        *shown,
        *idle_buttons(draft),
        gr.update(visible=chosen is not None),
        text,
        None,
        chosen,
        draft.to_json(),
    ]


def idle_buttons(draft: Draft) -> list[Any]:
    return [gr.update(visible=True), gr.update(visible=False), gr.update(interactive=bool(draft.changes))]


def names(visitor: Visitor, draft: Draft) -> str:
    language = language_of(draft.text)
    return view.warnings(visitor, strangers(draft.text, draft.bible, language)) if language else ""
