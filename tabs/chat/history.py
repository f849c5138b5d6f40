"""Show and title the conversation that the browser keeps."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import gradio as gr

from app.chat.conversations import Conversation, Turn, conversation_from
from app.chat.service import ChatService
from app.chat.titles import title_of
from app.errors import StudioError
from app.models.catalog.known_models import split_precision
from app.models.interface import Registry
from tabs.chat.bubbles import bubbles_of, side_by_side
from tabs.chat.documents import Documents, as_shown
from tabs.chat.widgets import DRAWN_RANGES, ChatWidgets, can_switch, drawn_values, examples_for, name_html, note_html
from tabs.shell.conversation import idle_box
from tabs.shell.generators import View
from tabs.shell.page import Visitor

CLOSING_S = 5.0
RANGES = DRAWN_RANGES | {"max_new_tokens": (16, 4096)}


@dataclass
class Answering:
    """An answer that is being written. `conversation` is what is there of it now, `before` what was there before.

    A cancelled answer may send once more, so whoever takes its place on the page waits for `closed` first.
    """

    before: Conversation
    conversation: Conversation
    question: Turn
    sent: bool  # the question came from the box, where it goes back if nothing answers it
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def answered(self) -> bool:
        turns = self.conversation.turns
        return bool(turns) and turns[-1].role == "assistant"

    def wait(self) -> None:
        """Until nothing more is sent of it."""
        self.closed.wait(CLOSING_S)


def show(
    registry: Registry,
    widgets: ChatWidgets,
    documents: Documents | None,
    visitor: Visitor,
    event: gr.EventData,
    answering: Answering | None,
) -> View:
    """The conversation that the browser hands over: after a load, a choice from the list, a change in another tab."""
    if answering is not None:
        answering.wait()
        gr.Info(visitor.text("chat.left_unfinished", title=answering.conversation.title), title="")
    conversation = conversation_from(event.conversation)
    files: View = {}
    if documents is not None:
        conversation = documents.relinked(visitor, conversation)
        files = documents.view(visitor, conversation.id)
    options = settings_view(registry.for_visitor(visitor.name), widgets, conversation.settings)
    kept = conversation.to_json() | {"shown": event.choice}  # which of the browser's choices this is
    box = idle_box("" if answering else None)
    own = {widgets.kept: kept, widgets.title: conversation.title, widgets.box: box}
    return idle_view(widgets, visitor, conversation) | options | files | own


def show_first(
    registry: Registry,
    widgets: ChatWidgets,
    documents: Documents | None,
    visitor: Visitor,
    event: gr.EventData,
    answering: Answering | None,
    model: str,
    drawn: dict[str, float],
    *now: float,
) -> View:
    """The conversation of a page that was just loaded, over its model's own sampling; a question sent before that goes
    first."""
    own = follow_model(registry, widgets, visitor, model, drawn, *now)
    if answering is not None:
        return own
    return own | show(registry, widgets, documents, visitor, event, None)


def idle_view(widgets: ChatWidgets, visitor: Visitor, conversation: Conversation, dropped: Iterable[str] = ()) -> View:
    """A conversation to which nothing is being written; the turns `dropped`, by id, go from what the browser keeps."""
    turns = conversation.turns
    last = turns[-1] if turns else None
    unanswered = last is not None and last.role == "user"
    cut = last is not None and last.role == "assistant" and not last.whole
    return {
        widgets.kept: conversation.to_json() | {"writing": False, "dropped": list(dropped)},
        widgets.answering: None,
        widgets.chatbot: shown(visitor, conversation),
        widgets.resume: gr.update(visible=unanswered or cut),
        widgets.retry: gr.update(visible=unanswered, value=visitor.text("chat.retry")),
        widgets.go_on: gr.update(visible=cut),
    }


def shown(visitor: Visitor, conversation: Conversation, *, writing: bool = False) -> list[dict[str, Any]]:
    """Its bubbles; answers of several models side by side, each with a link that keeps it."""
    turns, beside = conversation.turns, conversation.beside
    if not beside:
        return bubbles_of(told(visitor, turns, writing=writing))
    keep = visitor.text("chat.keep")
    pair = []
    for turn in (turns[-1], *beside):
        link = "" if writing else f'<a class="keep" href="#version-{turn.id}">{keep}</a>'
        note = " · ".join(part for part in (link, turn.note) if part)
        pair.append(replace(as_shown(visitor, turn), note=note))
    return [*bubbles_of(told(visitor, turns[:-1], writing=True)), *side_by_side(pair)]


def told(visitor: Visitor, turns: Sequence[Turn], *, writing: bool = False) -> list[Turn]:
    """Turns as they are shown, under each the choice of its versions, and a word where something was broken off: a
    question without answer, an answer without figures. To the last one more may still be written."""
    shown = []
    for turn, following in zip(turns, [*turns[1:], None], strict=False):
        ended = following is not None or not writing
        unanswered = turn.role == "user" and ended and (following is None or following.role == "user")
        broken = turn.role == "assistant" and ended and not turn.whole and not turn.note
        word = visitor.text("chat.unanswered" if unanswered else "chat.interrupted") if unanswered or broken else ""
        parts = [_versions(visitor, turn), word or turn.note]
        shown.append(as_shown(visitor, replace(turn, note=" · ".join(part for part in parts if part))))
    return shown


def _versions(visitor: Visitor, turn: Turn) -> str:
    """«‹ 2 / 3 ›» as links that assets/conversations.js follows."""
    if turn.id not in turn.siblings:
        return ""
    place, count = turn.siblings.index(turn.id), len(turn.siblings)
    links = [
        f'<a href="#version-{escape(turn.siblings[other])}" title="{visitor.text(key)}"></a>'
        if 0 <= other < count
        else "<s></s>"
        for other, key in ((place - 1, "chat.older"), (place + 1, "chat.newer"))
    ]
    kind = "versions asked" if turn.role == "user" else "versions"
    return f'<span class="{kind}">{links[0]}{place + 1} / {count}{links[1]}</span> {escape(turn.model)}'


def settings_view(registry: Registry, widgets: ChatWidgets, kept: dict[str, Any]) -> View:
    """The settings of a conversation; what a browser should not have kept is left as the page has it."""
    view: View = {}
    for name, component in widgets.options.by_name.items():
        value = kept.get(name)
        if name in ("model", "compare"):
            known = isinstance(value, str) and (
                "/" in value or {value, split_precision(value)[0]} & {*registry.names()}
            )
            usable = known or (name == "compare" and value == "")
        elif name in RANGES:
            low, high = RANGES[name]
            usable = isinstance(value, int | float) and low <= value <= high
        else:
            usable = isinstance(value, bool if name == "thinking" else str)
        if usable:
            view[component] = value
    return view


def name_by_model(service: ChatService, visitor: Visitor, event: gr.EventData) -> dict[str, str]:
    """A title for the conversation whose first answer has just come: the model's own, or none."""
    conversation = conversation_from(event.conversation)
    try:
        question, answer = conversation.turns
        return {"id": conversation.id, "title": title_of(service, question, answer, visitor.name)}
    except (StudioError, ValueError):  # the first words stay
        return {"id": conversation.id, "title": ""}


def use_preset(registry: Registry, widgets: ChatWidgets, visitor: Visitor, event: gr.EventData) -> View:
    """The settings that a preset has; the others stay. A file may hold anything, so each is checked."""
    settings = event.settings if isinstance(event.settings, dict) else {}
    return settings_view(registry.for_visitor(visitor.name), widgets, settings)


def name_model(widgets: ChatWidgets, visitor: Visitor, model: str, kept: object, answering: Answering | None) -> View:
    """The model's name over the conversation, a word about the packaged one, examples that it understands; where
    another one has given the last answer, the offer to answer again."""
    name = model if isinstance(model, str) else ""
    last = conversation_from(kept).turns[-1:]
    view: View = {
        widgets.model_name: name_html(name),
        widgets.note: note_html(name, visitor.language),
        widgets.chatbot: gr.update(examples=examples_for(name, visitor.language)),
    }
    if answering is None and last and last[0].role == "assistant":
        other = name not in ("", last[0].model)
        view[widgets.resume] = gr.update(visible=other or not last[0].whole)
        view[widgets.retry] = gr.update(visible=other, value=visitor.text("chat.retry_with", model=name))
    return view


def follow_model(
    registry: Registry, widgets: ChatWidgets, visitor: Visitor, model: str, drawn: dict[str, float], *now: float
) -> View:
    """The chosen model's own sampling, in place of what the page showed before; what the visitor has set stays. Its
    reasoning has a switch where it can be switched."""
    known, name = registry.for_visitor(visitor.name), model if isinstance(model, str) else ""
    own = drawn_values(known, name)
    options = widgets.options.by_name
    view: View = {options[name]: own[name] for name, value in zip(own, now, strict=True) if value == drawn.get(name)}
    return view | {widgets.drawn: own, widgets.options.thinking: gr.update(visible=can_switch(known, name))}
