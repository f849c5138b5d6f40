"""Story page: wiring of its events, and the endpoint `/story`."""

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
from tabs.story import article, exports, handlers
from tabs.story.widgets import INPUTS, StoryWidgets, draw


def kept() -> gr.BrowserState:
    """Where the browser keeps the story. To be drawn outside the tabs: what is in a hidden one is not yet read."""
    return gr.BrowserState({}, storage_key="studio-story", secret=BROWSER_SECRET)


def build(
    page: Page,
    service: StoryService,
    illustration: IllustrationService,
    registry: Registry,
    kept_story: gr.BrowserState,
) -> None:
    """Draw the tab, wire it, publish `/story`."""
    widgets = draw(page, registry, kept_story)
    edited = [*_wire_writing(page, service, widgets), *_wire_paragraphs(page, widgets)]
    _wire_bible(page, service, widgets)
    _wire_exports(page, illustration, widgets)
    article.build(page, illustration, registry, kept_story, widgets.inputs[INPUTS.index("model")], edited)
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
        page.on(
            widgets.write.click, partial(handlers.write, widgets, service), [widgets.kept, *everything], widgets.view
        )
    ]
    for action, button in zip(ACTIONS, widgets.actions, strict=True):
        inputs = [widgets.kept, widgets.chosen, widgets.wish, *everything]
        running.append(page.on(button.click, partial(handlers.rework, widgets, service, action), inputs, widgets.view))
    ended = [widgets.written, widgets.kept]
    ends = [end for each in running for end in (each.success, each.failure)]  # `then` is not called after an error
    settle = partial(handlers.settle, widgets)
    settled = [page.on(end, settle, ended, widgets.view) for end in ends]
    stopped = page.on(widgets.stop.click, settle, ended, widgets.view, cancels=running)
    return [*settled, stopped]


def _wire_paragraphs(page: Page, widgets: StoryWidgets) -> list[Dependency]:
    """Wire it; the events after which a paragraph may be another."""
    page.on(widgets.paper.select, partial(handlers.choose, widgets), [widgets.kept, widgets.chosen], widgets.view)
    page.on(widgets.welcome.select, handlers.take_example, [], [widgets.inputs[0]])
    page.on(widgets.clear.click, partial(handlers.clear, widgets), [widgets.kept], widgets.view)
    return [
        page.on(
            widgets.keep.click,
            partial(handlers.edit, widgets),
            [widgets.kept, widgets.chosen, widgets.edited],
            widgets.view,
        ),
        page.on(widgets.undo.click, partial(handlers.undo, widgets), [widgets.kept], widgets.view),
    ]


def _wire_bible(page: Page, service: StoryService, widgets: StoryWidgets) -> None:
    everything = [*widgets.inputs, *widgets.bible, widgets.outline]
    notes = [widgets.budget, widgets.names, widgets.note]
    saved = [widgets.kept, *notes]
    for box in everything:
        event = (
            box.blur if isinstance(box, gr.Textbox | gr.Number) else box.input if hasattr(box, "input") else box.change
        )
        page.on(event, partial(handlers.keep, widgets, service), [widgets.kept, *everything], saved)
    for draft, drafting in (
        (handlers.draft_bible, widgets.drafting_bible),
        (handlers.draft_outline, widgets.drafting_outline),
    ):
        buttons, ended = [drafting.start, drafting.stop], partial(handlers.drafting_ended, drafting)
        drafted = page.on(
            drafting.start.click, partial(draft, widgets, service), everything, [*drafting.boxes, *buttons]
        )
        stopped = page.on(drafting.stop.click, ended, [], buttons, cancels=[drafted])
        for end in (drafted.success, drafted.failure, stopped.success):
            page.on(end, ended, [], buttons)
            page.on(end, partial(handlers.keep, widgets, service), [widgets.kept, *everything], saved)
    read_draft, keep_draft = (f"(kept) => window.studio.drafts.{deed}(kept)" for deed in ("read", "keep"))
    read = page.blocks.load(None, [widgets.kept], [widgets.kept], js=read_draft, api_visibility="private")
    widgets.kept.change(None, [widgets.kept], None, js=keep_draft, api_visibility="private")
    here = [widgets.kept, widgets.written]
    arrived = page.on(read.then, partial(handlers.arrive, widgets), here, [*everything, *widgets.view])
    page.last_steps.append(arrived)
    page.on(arrived.success, partial(handlers.look_over, widgets, service), [widgets.kept, *everything], notes)


def _wire_exports(page: Page, illustration: IllustrationService, widgets: StoryWidgets) -> None:
    as_markdown, as_word, as_zip = widgets.exports
    page.download(as_markdown.click, exports.export_markdown, [widgets.kept])
    page.download(as_word.click, partial(exports.export_bytes, illustration, "docx"), [widgets.kept])
    page.download(as_zip.click, partial(exports.export_bytes, illustration, "zip"), [widgets.kept])
