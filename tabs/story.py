"""The story tab: a story beside its bible, worked on paragraph by paragraph; `/story` for programs."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.models.interface import Registry
from app.story import export
from app.story.bible import Bible, bible_of
from app.story.draft import Draft, draft_from, paragraphs_of
from app.story.errors import NoParagraph, NothingWritten
from app.story.illustrating import IllustrationService
from app.story.names import strangers
from app.story.outline import outline_text, parse_outline
from app.story.paragraphs import ACTIONS, Action
from app.story.request import StoryRequest, language_of, story_request
from app.story.service import StoryService
from tabs import article, story_view
from tabs.page import BROWSER_SECRET, Page, Visitor
from tabs.saving import save_bytes
from tabs.story_widgets import INPUTS, StoryWidgets, draw

View = list[Any]  # StoryWidgets.view
CLOSING_S = 5.0
SMALL = "smollm2-135m"


@dataclass(frozen=True)
class Written:
    """The draft as the server last sent it; `closed` when it sends no more."""

    draft: Draft
    status: str
    closed: threading.Event


def kept() -> gr.BrowserState:
    """Where the browser keeps the story. To be drawn outside the tabs: what is in a hidden one is not yet read."""
    return gr.BrowserState({}, storage_key="studio-story", secret=BROWSER_SECRET)


def build(
    page: Page,
    service: StoryService,
    illustration: IllustrationService,
    registry: Registry,
    shelf: gr.BrowserState,
) -> None:
    """Draw the tab, wire it, publish `/story`."""
    widgets = draw(page, registry, shelf)
    _wire_writing(page, service, widgets)
    _wire_paragraphs(page, widgets)
    _wire_bible(page, service, widgets)
    _wire_exports(page, widgets)
    article.build(page, illustration, shelf, widgets.inputs[INPUTS.index("model")])
    page.api(partial(story, service), "story")


def story(
    service: StoryService,
    visitor: Visitor,
    premise: str,
    style: str | None = None,
    length: int | None = None,
    language: str | None = None,
    model: str | None = None,
    temperature: float | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    """Stream a story; each value is the text so far. `length` in characters (zh) or words (en)."""
    request = story_request(premise, style, length, language, model, temperature, seed)
    yield ""  # gradio forgets a cancel that comes before the first value, and hears others only between two
    for telling in service.tell(request, visitor.name):
        yield telling.text


def _wire_writing(page: Page, service: StoryService, widgets: StoryWidgets) -> None:
    everything = [*widgets.inputs, *widgets.bible, widgets.outline]
    running = [page.on(widgets.write.click, partial(write, service), [widgets.shelf, *everything], widgets.view)]
    for action, button in zip(ACTIONS, widgets.actions, strict=True):
        inputs = [widgets.shelf, widgets.chosen, widgets.wish, *everything]
        running.append(page.on(button.click, partial(rework, service, action), inputs, widgets.view))
    ended = [widgets.written, widgets.shelf]
    for each in running:
        for end in (each.success, each.failure):  # `then` alone is not called after an error
            page.on(end, partial(settle, False), ended, widgets.view)
    _cancel(widgets.stop.click, running)
    page.on(widgets.stop.click, partial(settle, True), ended, widgets.view)


def _cancel(event: Callable[..., Dependency], running: list[Dependency]) -> None:
    """End what runs first: a listener's own `cancels` would only work once its handler has returned."""
    event(None, None, None, cancels=running, api_visibility="private")


def _wire_paragraphs(page: Page, widgets: StoryWidgets) -> None:
    page.on(widgets.paper.select, choose, [widgets.shelf, widgets.chosen], widgets.view)
    page.on(widgets.welcome.select, take_example, [], [widgets.inputs[0]])
    page.on(widgets.keep.click, edit, [widgets.shelf, widgets.chosen, widgets.edited], widgets.view)
    page.on(widgets.undo.click, undo, [widgets.shelf], widgets.view)
    page.on(widgets.clear.click, clear, [widgets.shelf], widgets.view)


def _wire_bible(page: Page, service: StoryService, widgets: StoryWidgets) -> None:
    everything = [*widgets.inputs, *widgets.bible, widgets.outline]
    notes = [widgets.shelf, widgets.budget, widgets.names, widgets.note]
    for box in everything:
        event = (
            box.blur if isinstance(box, gr.Textbox | gr.Number) else box.input if hasattr(box, "input") else box.change
        )
        page.on(event, partial(keep, service), [widgets.shelf, *everything], notes)
    for button, handler, outputs in (
        (widgets.draft_bible, draft_bible, widgets.bible),
        (widgets.draft_outline, draft_outline, [widgets.outline]),
    ):
        drafted = page.on(button.click, partial(handler, service), everything, outputs)
        page.on(drafted.success, partial(keep, service), [widgets.shelf, *everything], notes)
        _cancel(widgets.stop.click, [drafted])
    arrived = page.on(page.blocks.load, arrive, [widgets.shelf], [*everything, *widgets.view])
    page.on(arrived.success, partial(keep, service), [widgets.shelf, *everything], notes)


def _wire_exports(page: Page, widgets: StoryWidgets) -> None:
    as_markdown, as_word, as_zip = widgets.exports
    page.download(as_markdown.click, export_markdown, [widgets.shelf])
    save_bytes(page, as_word.click, partial(export_bytes, "docx"), [widgets.shelf])
    save_bytes(page, as_zip.click, partial(export_bytes, "zip"), [widgets.shelf])


def write(service: StoryService, visitor: Visitor, stored: object, *values: Any) -> Iterator[View]:
    """A whole story; what stood there before can be had back by undo."""
    request = _request(values)
    draft = _with_inputs(draft_from(stored), values)
    written = Written(draft, "", threading.Event())
    try:
        yield _busy(visitor, written, draft)
        for telling in service.tell(request, visitor.name):
            now = draft.replaced(0, len(draft.paragraphs), paragraphs_of(telling.text)) if telling.text else draft
            written = replace(written, draft=now, status=story_view.status(visitor, telling, request.length))
            yield _writing(written)
    finally:
        written.closed.set()


def rework(
    service: StoryService, action: Action, visitor: Visitor, stored: object, chosen: int | None, wish: str, *values: Any
) -> Iterator[View]:
    """The chosen paragraph anew, or a new one after it."""
    draft = _with_inputs(draft_from(stored), values)
    if chosen is None or not draft.is_text(chosen):
        raise NoParagraph
    premise = values[0] if str(values[0] or "").strip() else draft.paragraphs[chosen]
    request = _request((premise, *values[1:]), draft.text)
    written = Written(draft, visitor.text("chat.thinking"), threading.Event())
    try:
        yield _busy(visitor, written, draft)
        for now in service.rework(request, draft, chosen, action, wish or "", visitor.name):
            written = replace(written, draft=now)
            yield _writing(written)
        written = replace(written, status="")
        yield _writing(written)
    finally:
        written.closed.set()


def settle(stopped: bool, visitor: Visitor, written: Written | None, stored: object) -> View:
    """After the writing, however it ended: keep what is there."""
    if written is None:
        return [*([gr.skip()] * 4), *_idle_buttons(draft_from(stored)), *([gr.skip()] * 2), None, gr.skip(), gr.skip()]
    written.closed.wait(CLOSING_S)
    said = " · ".join(part for part in (written.status, visitor.text("chat.stopped")) if part)
    return _show(visitor, written.draft, None, said if stopped else written.status)


def choose(visitor: Visitor, event: gr.EventData, stored: object, chosen: int | None) -> View:
    """A paragraph was clicked; a second click lets it go."""
    draft = draft_from(stored)
    place = int(event.place)
    return _show(visitor, draft, place if draft.is_text(place) and place != chosen else None)


def take_example(_visitor: Visitor, event: gr.EventData) -> str:
    """An example becomes the premise."""
    return str(event.example)


def edit(visitor: Visitor, stored: object, chosen: int | None, text: str) -> View:
    """The chosen paragraph as the visitor typed it; emptied, it goes."""
    draft = draft_from(stored)
    if chosen is None or not draft.is_text(chosen):
        raise NoParagraph
    return _show(visitor, draft.replaced(chosen, 1, paragraphs_of(text)), None)


def undo(visitor: Visitor, stored: object) -> View:
    """Before the last change."""
    return _show(visitor, draft_from(stored).undone(), None)


def clear(visitor: Visitor, stored: object) -> View:
    """An empty page; undo brings the story back."""
    draft = draft_from(stored)
    return _show(visitor, draft.replaced(0, len(draft.paragraphs), ()), None)


def arrive(visitor: Visitor, stored: object) -> View:
    """A page was loaded: the story that was there last, with all that belongs to it."""
    draft = draft_from(stored)
    kept = [draft.inputs.get(name, gr.skip()) if name != "model" else gr.skip() for name in INPUTS]
    bible = [draft.bible.synopsis, "\n".join(draft.bible.characters), "\n".join(draft.bible.facts)]
    return [*kept, *bible, draft.outline, *_show(visitor, draft, None)]


def keep(service: StoryService, visitor: Visitor, stored: object, *values: Any) -> list[Any]:
    """Save what was typed; say what the bible costs and which names contradict it."""
    draft = _with_inputs(draft_from(stored), values)
    language = language_of(draft.text or str(values[0] or "")) or visitor.language
    model = str(values[INPUTS.index("model")] or "")
    pinned = service.pinned(draft.bible, model, language, visitor.name)
    small = visitor.text("story.small_model") if model.startswith(SMALL) else ""
    note = gr.update(value=f"<p>{escape(small)}</p>", visible=bool(small))
    return [draft.to_json(), story_view.budget(visitor, pinned), _names(visitor, draft), note]


def draft_bible(service: StoryService, visitor: Visitor, *values: Any) -> Iterator[list[Any]]:
    """The model's proposal for the bible, for the visitor to change."""
    for bible in service.draft_bible(_request(values), visitor.name):
        yield [bible.synopsis, "\n".join(bible.characters), "\n".join(bible.facts)] if bible else [gr.skip()] * 3


def draft_outline(service: StoryService, visitor: Visitor, *values: Any) -> Iterator[Any]:
    """The model's proposal for the chapters."""
    request = _request(values)
    for chapters in service.draft_outline(replace(request, outline=()), visitor.name):
        yield outline_text(chapters, request.language) if chapters else gr.skip()


def export_markdown(visitor: Visitor, stored: object) -> tuple[str, str]:
    """The story as Markdown."""
    draft, title = _for_export(visitor, stored)
    return export.file_name(title, "md"), export.markdown(title, draft.paragraphs)


def export_bytes(kind: str, visitor: Visitor, stored: object) -> tuple[str, bytes]:
    """The story for Word, or all in one zip."""
    draft, title = _for_export(visitor, stored)
    make = export.docx if kind == "docx" else export.archive
    return export.file_name(title, kind), make(title, draft.paragraphs)


def _for_export(visitor: Visitor, stored: object) -> tuple[Draft, str]:
    draft = draft_from(stored)
    if not draft.paragraphs:
        raise NothingWritten
    return draft, export.title_of(str(draft.inputs.get("premise") or "")) or visitor.text("story.tab")


def _request(values: Sequence[Any], text: str = "") -> StoryRequest:
    """Inputs, bible and outline as the page has them; a text already there decides the language where it is open."""
    inputs = dict(zip(INPUTS, values, strict=False))
    if inputs["language"] == "auto" and text:
        inputs["language"] = language_of(text) or "auto"
    *bible, outline = values[len(INPUTS) :]
    return story_request(**inputs, bible=bible_of(*map(_text, bible)), outline=parse_outline(_text(outline)))


def _with_inputs(draft: Draft, values: Sequence[Any]) -> Draft:
    *bible, outline = values[len(INPUTS) :]
    inputs = dict(zip(INPUTS, values, strict=False))
    return replace(draft, inputs=inputs, bible=bible_of(*map(_text, bible)), outline=_text(outline))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _busy(visitor: Visitor, written: Written, draft: Draft) -> View:
    status = visitor.text("chat.thinking")
    shown = [story_view.paper(draft, busy=True), gr.update(visible=False), status, ""]
    buttons = [
        gr.update(visible=False),
        gr.update(visible=True),
        gr.update(interactive=False),
        gr.update(visible=False),
    ]
    return [*shown, *buttons, gr.skip(), written, None, draft.to_json()]


def _writing(written: Written) -> View:
    shown = [story_view.paper(written.draft, busy=True), gr.skip(), written.status]
    return [*shown, *([gr.skip()] * 6), written, gr.skip(), gr.skip()]


def _show(visitor: Visitor, draft: Draft, chosen: int | None, status: str = "") -> View:
    text = draft.paragraphs[chosen] if chosen is not None else ""
    shown = [story_view.paper(draft, chosen), gr.update(visible=not draft.paragraphs), status, _names(visitor, draft)]
    return [
        *shown,
        *_idle_buttons(draft),
        gr.update(visible=chosen is not None),
        text,
        None,
        chosen,
        draft.to_json(),
    ]


def _idle_buttons(draft: Draft) -> list[Any]:
    return [gr.update(visible=True), gr.update(visible=False), gr.update(interactive=bool(draft.changes))]


def _names(visitor: Visitor, draft: Draft) -> str:
    bible: Bible = draft.bible
    language = language_of(draft.text)
    return story_view.warnings(visitor, strangers(draft.text, bible, language)) if language else ""
