"""The story tab: a story beside its bible, worked on paragraph by paragraph; `/story` for programs."""

from collections.abc import Iterator
from functools import partial

import gradio as gr
from gradio.events import Dependency

from app.models.interface import Registry
from app.story.illustrating import IllustrationService
from app.story.paragraphs import ACTIONS
from app.story.request import story_request
from app.story.service import StoryService
from tabs.shell.page import BROWSER_SECRET, Page, Visitor
from tabs.story import article, exports
from tabs.story import handlers as handlers
from tabs.story.widgets import INPUTS, StoryWidgets, draw


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
    edited = [*_wire_writing(page, service, widgets), *_wire_paragraphs(page, widgets)]
    _wire_bible(page, service, widgets)
    _wire_exports(page, illustration, widgets)
    article.build(page, illustration, registry, shelf, widgets.inputs[INPUTS.index("model")], edited)
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


def _wire_writing(page: Page, service: StoryService, widgets: StoryWidgets) -> list[Dependency]:
    """Wire it; the events after which a paragraph may be another."""
    everything = [*widgets.inputs, *widgets.bible, widgets.outline]
    running = [
        page.on(widgets.write.click, partial(handlers.write, service), [widgets.shelf, *everything], widgets.view)
    ]
    for action, button in zip(ACTIONS, widgets.actions, strict=True):
        inputs = [widgets.shelf, widgets.chosen, widgets.wish, *everything]
        running.append(page.on(button.click, partial(handlers.rework, service, action), inputs, widgets.view))
    ended = [widgets.written, widgets.shelf]
    ends = [end for each in running for end in (each.success, each.failure)]  # `then` is not called after an error
    settled = [page.on(end, partial(handlers.settle, False), ended, widgets.view) for end in ends]
    stopped = page.on(widgets.stop.click, partial(handlers.settle, True), ended, widgets.view, cancels=running)
    return [*settled, stopped]


def _wire_paragraphs(page: Page, widgets: StoryWidgets) -> list[Dependency]:
    """Wire it; the events after which a paragraph may be another."""
    page.on(widgets.paper.select, handlers.choose, [widgets.shelf, widgets.chosen], widgets.view)
    page.on(widgets.welcome.select, handlers.take_example, [], [widgets.inputs[0]])
    page.on(widgets.clear.click, handlers.clear, [widgets.shelf], widgets.view)
    return [
        page.on(widgets.keep.click, handlers.edit, [widgets.shelf, widgets.chosen, widgets.edited], widgets.view),
        page.on(widgets.undo.click, handlers.undo, [widgets.shelf], widgets.view),
    ]


def _wire_bible(page: Page, service: StoryService, widgets: StoryWidgets) -> None:
    everything = [*widgets.inputs, *widgets.bible, widgets.outline]
    notes = [widgets.shelf, widgets.budget, widgets.names, widgets.note]
    for box in everything:
        event = (
            box.blur if isinstance(box, gr.Textbox | gr.Number) else box.input if hasattr(box, "input") else box.change
        )
        page.on(event, partial(handlers.keep, service), [widgets.shelf, *everything], notes)
    for draft, drafting in (
        (handlers.draft_bible, widgets.drafting_bible),
        (handlers.draft_outline, widgets.drafting_outline),
    ):
        buttons = [drafting.start, drafting.stop]
        drafted = page.on(drafting.start.click, partial(draft, service), everything, [*drafting.boxes, *buttons])
        stopped = page.on(drafting.stop.click, handlers.drafting_ended, [], buttons, cancels=[drafted])
        for end in (drafted.success, drafted.failure, stopped.success):
            page.on(end, handlers.drafting_ended, [], buttons)
            page.on(end, partial(handlers.keep, service), [widgets.shelf, *everything], notes)
    arrived = page.on(page.blocks.load, handlers.arrive, [widgets.shelf], [*everything, *widgets.view])
    page.on(arrived.success, partial(handlers.keep, service), [widgets.shelf, *everything], notes)


def _wire_exports(page: Page, illustration: IllustrationService, widgets: StoryWidgets) -> None:
    as_markdown, as_word, as_zip = widgets.exports
    page.download(as_markdown.click, exports.export_markdown, [widgets.shelf])
    page.download(as_word.click, partial(exports.export_bytes, illustration, "docx"), [widgets.shelf])
    page.download(as_zip.click, partial(exports.export_bytes, illustration, "zip"), [widgets.shelf])
