"""Event handlers of the story page: write, edit paragraphs, undo, draft bible and outline."""

from collections.abc import Iterator
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from app.story.bible import Bible
from app.story.draft import draft_from, paragraphs_of
from app.story.errors import NoParagraph
from app.story.outline import outline_text
from app.story.paragraphs import Action
from app.story.request import language_of
from app.story.service import StoryService
from tabs.shell.generators import View
from tabs.shell.page import Visitor
from tabs.story import view
from tabs.story.inputs import request_of, with_inputs
from tabs.story.screen import Written, busy, idle_buttons, names, show, writing
from tabs.story.widgets import INPUTS, Drafting, StoryWidgets

CLOSING_S = 5.0
SMALL = "smollm2-135m"


def write(
    widgets: StoryWidgets, service: StoryService, visitor: Visitor, stored: object, *values: Any
) -> Iterator[View]:
    """A whole story; what stood there before can be had back by undo."""
    request = request_of(values)
    draft = with_inputs(draft_from(stored), values)
    written = Written(draft)
    with written.sending():
        yield busy(widgets, visitor, written, draft)
        for telling in service.tell(request, visitor.name):
            now = draft.replaced(0, len(draft.paragraphs), paragraphs_of(telling.text)) if telling.text else draft
            written = replace(written, draft=now, status=view.status(visitor, telling, request.length))
            yield writing(widgets, written)


def rework(
    widgets: StoryWidgets,
    service: StoryService,
    action: Action,
    visitor: Visitor,
    stored: object,
    chosen: int | None,
    wish: str,
    *values: Any,
) -> Iterator[View]:
    """The chosen paragraph anew, or a new one after it."""
    draft = with_inputs(draft_from(stored), values)
    if chosen is None or not draft.is_text(chosen):
        raise NoParagraph
    premise = values[0] if str(values[0] or "").strip() else draft.paragraphs[chosen]
    request = request_of((premise, *values[1:]), draft.text)
    written = Written(draft, visitor.text("chat.thinking"))
    with written.sending():
        yield busy(widgets, visitor, written, draft)
        for now in service.rework(request, draft, chosen, action, wish or "", visitor.name):
            written = replace(written, draft=now)
            yield writing(widgets, written)
        written = replace(written, status="")
        yield writing(widgets, written)


def settle(widgets: StoryWidgets, visitor: Visitor, written: Written | None, stored: object) -> View:
    """After the writing, however it ended: keep what is there.

    A stopped story ends twice, by the click and by the end of its events, in either order or at once. Whoever comes
    second finds nothing written, and may bring what the browser kept before it heard of the first.
    """
    if written is None:
        idle = idle_buttons(widgets, draft_from(stored))
        return idle if draft_from(stored).changes else {box: idle[box] for box in idle if box is not widgets.undo}
    stopped = not written.closed.wait(CLOSING_S) or written.stopped.is_set()
    said = [written.status, visitor.text("chat.stopped") if stopped else ""]
    typed = draft_from(stored)  # meanwhile
    draft = written.draft
    if typed.inputs:
        draft = replace(draft, inputs=typed.inputs, bible=typed.bible, outline=typed.outline)
    return show(widgets, visitor, draft, None, " · ".join(filter(None, said)))


def choose(widgets: StoryWidgets, visitor: Visitor, event: gr.EventData, stored: object, chosen: int | None) -> View:
    """A paragraph was clicked; a second click lets it go."""
    draft = draft_from(stored)
    place = int(event.place)
    return show(widgets, visitor, draft, place if draft.is_text(place) and place != chosen else None)


def take_example(_visitor: Visitor, event: gr.EventData) -> str:
    """An example becomes the premise."""
    return str(event.example)


def edit(widgets: StoryWidgets, visitor: Visitor, stored: object, chosen: int | None, text: str) -> View:
    """The chosen paragraph as the visitor typed it; emptied, it goes."""
    draft = draft_from(stored)
    if chosen is None or not draft.is_text(chosen):
        raise NoParagraph
    return show(widgets, visitor, draft.replaced(chosen, 1, paragraphs_of(text)), None)


def undo(widgets: StoryWidgets, visitor: Visitor, stored: object) -> View:
    """Before the last change."""
    return show(widgets, visitor, draft_from(stored).undone(), None)


def clear(widgets: StoryWidgets, visitor: Visitor, stored: object) -> View:
    """An empty page; undo brings the story back."""
    draft = draft_from(stored)
    return show(widgets, visitor, draft.replaced(0, len(draft.paragraphs), ()), None)


def arrive(widgets: StoryWidgets, visitor: Visitor, stored: object, written: Written | None) -> View:
    """A page was loaded: the story that was there last, with all that belongs to it.

    A quick visitor may have begun one before: it is on the page, whether `stored` tells of it by now or not.
    """
    if not stored or written is not None:
        return gr.skip()
    draft = draft_from(stored)
    boxes = dict(zip(INPUTS, widgets.inputs, strict=True))
    typed = {box: draft.inputs[name] for name, box in boxes.items() if name in draft.inputs and name != "model"}
    bible = _bible_view(widgets, draft.bible)
    return typed | bible | {widgets.outline: draft.outline} | show(widgets, visitor, draft, None)


def keep(widgets: StoryWidgets, service: StoryService, visitor: Visitor, stored: object, *values: Any) -> View:
    """Save what was typed, and look at it."""
    draft = with_inputs(draft_from(stored), values)
    return {widgets.kept: draft.to_json()} | look_over(widgets, service, visitor, stored, *values)


def look_over(widgets: StoryWidgets, service: StoryService, visitor: Visitor, stored: object, *values: Any) -> View:
    """Say what the bible costs and which names contradict it."""
    draft = with_inputs(draft_from(stored), values)
    language = language_of(draft.text or str(values[0] or "")) or visitor.language
    model = str(values[INPUTS.index("model")] or "")
    pinned = service.pinned(draft.bible, model, language, visitor.name)
    small = visitor.text("story.small_model") if model.startswith(SMALL) else ""
    return {
        widgets.budget: view.budget(visitor, pinned),
        widgets.names: names(visitor, draft),
        widgets.note: gr.update(value=f"<p>{escape(small)}</p>", visible=bool(small)),
    }


def draft_bible(widgets: StoryWidgets, service: StoryService, visitor: Visitor, *values: Any) -> Iterator[View]:
    """The model's proposal for the bible, for the visitor to change."""
    started = drafting_view(widgets.drafting_bible, busy=True)
    yield started
    for bible in service.draft_bible(request_of(values), visitor.name):
        yield started | (_bible_view(widgets, bible) if bible else {})


def draft_outline(widgets: StoryWidgets, service: StoryService, visitor: Visitor, *values: Any) -> Iterator[View]:
    """The model's proposal for the chapters."""
    started = drafting_view(widgets.drafting_outline, busy=True)
    yield started
    request = request_of(values)
    for chapters in service.draft_outline(replace(request, outline=()), visitor.name):
        yield started | ({widgets.outline: outline_text(chapters, request.language)} if chapters else {})


def drafting_ended(drafting: Drafting, _visitor: Visitor) -> View:
    """However a draft ended, another may begin."""
    return drafting_view(drafting, busy=False)


def drafting_view(drafting: Drafting, *, busy: bool) -> View:
    return {drafting.start: gr.update(visible=not busy), drafting.stop: gr.update(visible=busy)}


def _bible_view(widgets: StoryWidgets, bible: Bible) -> View:
    texts = (bible.synopsis, "\n".join(bible.characters), "\n".join(bible.facts))
    return dict(zip(widgets.bible, texts, strict=True))
