"""View states of the story page: component updates while writing, when stopped, when idle."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import gradio as gr

from app.story.draft import Draft
from app.story.names import strangers
from app.story.request import language_of
from tabs.shell.generators import View
from tabs.shell.page import Visitor
from tabs.story import view
from tabs.story.widgets import StoryWidgets


@dataclass(frozen=True)
class Written:
    """The draft as the server last sent it; `closed` when it sends no more, `stopped` when the visitor wished that."""

    draft: Draft
    status: str = ""
    closed: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around the values a handler sends."""
        try:
            yield
        except GeneratorExit:
            self.stopped.set()
            raise
        finally:
            self.closed.set()


def busy(widgets: StoryWidgets, visitor: Visitor, written: Written, draft: Draft) -> View:
    """A story or a paragraph is about to be written."""
    return {
        widgets.paper: view.paper(draft, busy=True),
        widgets.welcome: gr.update(visible=False),
        widgets.status: visitor.text("chat.thinking"),
        widgets.names: "",
        widgets.write: gr.update(visible=False),
        widgets.stop: gr.update(visible=True),
        widgets.undo: gr.update(interactive=False),
        widgets.clear: gr.update(interactive=False),
        widgets.tools: gr.update(visible=False),
        widgets.written: written,
        widgets.chosen: None,
        widgets.kept: draft.to_json(),
    }


def writing(widgets: StoryWidgets, written: Written) -> View:
    """As far as it is written."""
    return {
        widgets.paper: view.paper(written.draft, busy=True),
        widgets.status: written.status,
        widgets.written: written,
    }


def show(widgets: StoryWidgets, visitor: Visitor, draft: Draft, chosen: int | None, status: str = "") -> View:
    """A draft that nothing is written to, and the tools for a chosen paragraph."""
    hint = visitor.text("story.hint") if draft.paragraphs and chosen is None else ""
    return idle_buttons(widgets, draft) | {
        widgets.paper: view.paper(draft, chosen),
        widgets.welcome: gr.update(visible=not draft.paragraphs),
        widgets.status: " · ".join(part for part in (status, hint) if part),
        widgets.names: names(visitor, draft),
        widgets.tools: gr.update(visible=chosen is not None),
        widgets.edited: draft.paragraphs[chosen] if chosen is not None else "",
        widgets.written: None,
        widgets.chosen: chosen,
        widgets.kept: draft.to_json(),
    }


def idle_buttons(widgets: StoryWidgets, draft: Draft) -> View:
    return {
        widgets.write: gr.update(visible=True),
        widgets.stop: gr.update(visible=False),
        widgets.undo: gr.update(interactive=bool(draft.changes)),
        widgets.clear: gr.update(interactive=True),
    }


def names(visitor: Visitor, draft: Draft) -> str:
    language = language_of(draft.text)
    return view.warnings(visitor, strangers(draft.text, draft.bible, language)) if language else ""
