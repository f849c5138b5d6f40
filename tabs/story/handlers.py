"""The story page's handlers: writing, working on paragraphs, what is kept and drafted."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from app.story.draft import draft_from, paragraphs_of
from app.story.errors import NoParagraph
from app.story.outline import outline_text
from app.story.paragraphs import Action
from app.story.request import language_of
from app.story.service import StoryService
from tabs.shell.page import Visitor
from tabs.story import view
from tabs.story.inputs import request_of, with_inputs
from tabs.story.screen import View, Written, busy, idle_buttons, names, show, writing
from tabs.story.widgets import INPUTS

CLOSING_S = 5.0
SMALL = "smollm2-135m"
DRAFTING = (gr.update(visible=False), gr.update(visible=True))  # the button that drafts, the one that stops it


def write(service: StoryService, visitor: Visitor, stored: object, *values: Any) -> Iterator[View]:
    """A whole story; what stood there before can be had back by undo."""
    request = request_of(values)
    draft = with_inputs(draft_from(stored), values)
    written = Written(draft, "", threading.Event())
    try:
        yield busy(visitor, written, draft)
        for telling in service.tell(request, visitor.name):
            now = draft.replaced(0, len(draft.paragraphs), paragraphs_of(telling.text)) if telling.text else draft
            written = replace(written, draft=now, status=view.status(visitor, telling, request.length))
            yield writing(written)
    finally:
        written.closed.set()


def rework(
    service: StoryService, action: Action, visitor: Visitor, stored: object, chosen: int | None, wish: str, *values: Any
) -> Iterator[View]:
    """The chosen paragraph anew, or a new one after it."""
    draft = with_inputs(draft_from(stored), values)
    if chosen is None or not draft.is_text(chosen):
        raise NoParagraph
    premise = values[0] if str(values[0] or "").strip() else draft.paragraphs[chosen]
    request = request_of((premise, *values[1:]), draft.text)
    written = Written(draft, visitor.text("chat.thinking"), threading.Event())
    try:
        yield busy(visitor, written, draft)
        for now in service.rework(request, draft, chosen, action, wish or "", visitor.name):
            written = replace(written, draft=now)
            yield writing(written)
        written = replace(written, status="")
        yield writing(written)
    finally:
        written.closed.set()


def settle(stopped: bool, visitor: Visitor, written: Written | None, stored: object) -> View:
    """After the writing, however it ended: keep what is there."""
    if written is None:
        return [*([gr.skip()] * 4), *idle_buttons(draft_from(stored)), *([gr.skip()] * 2), None, gr.skip(), gr.skip()]
    written.closed.wait(CLOSING_S)
    said = " · ".join(part for part in (written.status, visitor.text("chat.stopped")) if part)
    return show(visitor, written.draft, None, said if stopped else written.status)


def choose(visitor: Visitor, event: gr.EventData, stored: object, chosen: int | None) -> View:
    """A paragraph was clicked; a second click lets it go."""
    draft = draft_from(stored)
    place = int(event.place)
    return show(visitor, draft, place if draft.is_text(place) and place != chosen else None)


def take_example(_visitor: Visitor, event: gr.EventData) -> str:
    """An example becomes the premise."""
    return str(event.example)


def edit(visitor: Visitor, stored: object, chosen: int | None, text: str) -> View:
    """The chosen paragraph as the visitor typed it; emptied, it goes."""
    draft = draft_from(stored)
    if chosen is None or not draft.is_text(chosen):
        raise NoParagraph
    return show(visitor, draft.replaced(chosen, 1, paragraphs_of(text)), None)


def undo(visitor: Visitor, stored: object) -> View:
    """Before the last change."""
    return show(visitor, draft_from(stored).undone(), None)


def clear(visitor: Visitor, stored: object) -> View:
    """An empty page; undo brings the story back."""
    draft = draft_from(stored)
    return show(visitor, draft.replaced(0, len(draft.paragraphs), ()), None)


def arrive(visitor: Visitor, stored: object) -> View:
    """A page was loaded: the story that was there last, with all that belongs to it."""
    draft = draft_from(stored)
    kept = [draft.inputs.get(name, gr.skip()) if name != "model" else gr.skip() for name in INPUTS]
    bible = [draft.bible.synopsis, "\n".join(draft.bible.characters), "\n".join(draft.bible.facts)]
    return [*kept, *bible, draft.outline, *show(visitor, draft, None)]


def keep(service: StoryService, visitor: Visitor, stored: object, *values: Any) -> list[Any]:
    """Save what was typed; say what the bible costs and which names contradict it."""
    draft = with_inputs(draft_from(stored), values)
    language = language_of(draft.text or str(values[0] or "")) or visitor.language
    model = str(values[INPUTS.index("model")] or "")
    pinned = service.pinned(draft.bible, model, language, visitor.name)
    small = visitor.text("story.small_model") if model.startswith(SMALL) else ""
    note = gr.update(value=f"<p>{escape(small)}</p>", visible=bool(small))
    return [draft.to_json(), view.budget(visitor, pinned), names(visitor, draft), note]


def draft_bible(service: StoryService, visitor: Visitor, *values: Any) -> Iterator[list[Any]]:
    """The model's proposal for the bible, for the visitor to change."""
    nothing = [gr.skip()] * 3
    yield [*nothing, *DRAFTING]
    for bible in service.draft_bible(request_of(values), visitor.name):
        boxes = [bible.synopsis, "\n".join(bible.characters), "\n".join(bible.facts)] if bible else nothing
        yield [*boxes, *DRAFTING]


def draft_outline(service: StoryService, visitor: Visitor, *values: Any) -> Iterator[list[Any]]:
    """The model's proposal for the chapters."""
    yield [gr.skip(), *DRAFTING]
    request = request_of(values)
    for chapters in service.draft_outline(replace(request, outline=()), visitor.name):
        yield [outline_text(chapters, request.language) if chapters else gr.skip(), *DRAFTING]


def drafting_ended(_visitor: Visitor) -> list[Any]:
    """However a draft ended, another may begin."""
    return [gr.update(visible=True), gr.update(visible=False)]
