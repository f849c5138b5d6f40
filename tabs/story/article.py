"""Event handlers of the illustrated article: album, captions, choosing pictures, export."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.files import file_name, first_words
from app.models.interface import Registry
from app.story import export
from app.story.article import Article
from app.story.draft import draft_from
from app.story.errors import NothingWritten
from app.story.illustrating import IllustrationProgress, IllustrationService
from tabs.shell.generators import View, Views
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded
from tabs.story import article_view
from tabs.story.article_widgets import ArticleWidgets, draw

TOLD = 3  # refusals shown one by one
REMOVE: Callable[[Article, int], Article] = partial(Article.chosen, picture=None)


def build(
    page: Page,
    service: IllustrationService,
    registry: Registry,
    kept_story: gr.BrowserState,
    model: gr.Dropdown,
    edited: Sequence[Dependency],
) -> None:
    """Draw the part below the story and wire it; after each of `edited` the story may have another text."""
    widgets = draw(page, registry)
    made = _wire_making(page, service, widgets, [kept_story, model, widgets.vision_model])
    for each in (*edited, made):
        page.on(each.success, partial(follow, widgets, service), [kept_story], widgets.text)
    _wire_figures(page, service, widgets)
    as_markdown, as_word, as_zip = widgets.exports
    page.download(as_markdown.click, partial(save_markdown, service))
    page.download(as_word.click, partial(save, service, "docx"))
    page.download(as_zip.click, partial(save, service, "zip"))

    def leave(request: gr.Request) -> None:
        """The page was closed: nothing of its album stays."""
        service.leave(request.session_hash or "")

    page.blocks.unload(leave)


def _wire_making(page: Page, service: IllustrationService, widgets: ArticleWidgets, inputs: list[Any]) -> Dependency:
    page.on(widgets.upload.upload, partial(take, service), [widgets.upload], [widgets.status], holds=True)
    page.on(widgets.empty.click, partial(empty, widgets, service), [], widgets.view)
    running = page.on(widgets.start.click, partial(illustrate, widgets, service), inputs, widgets.view)
    again = [widgets.chosen, widgets.caption]
    captioned = page.on(widgets.keep.click, partial(recaption, widgets, service), again, widgets.view)
    for each in (running, captioned):
        page.on(each.failure, partial(settle, widgets, service, ""), [], widgets.view)
    stopped = partial(settle, widgets, service, "chat.stopped")
    page.on(widgets.stop.click, stopped, [], widgets.view, cancels=[running, captioned])
    return running


def _wire_figures(page: Page, service: IllustrationService, widgets: ArticleWidgets) -> None:
    chosen = [widgets.chosen]
    page.on(widgets.magazine.select, partial(choose, widgets, service), [*chosen, widgets.swapping], widgets.view)
    page.on(widgets.choices.select, partial(put, widgets, service), chosen, widgets.view)
    page.on(widgets.better.click, partial(change, widgets, service, Article.next_best), chosen, widgets.view)
    page.on(widgets.remove.click, partial(change, widgets, service, REMOVE), chosen, widgets.view)
    page.on(widgets.swap.click, partial(begin_swap, widgets, service), [*chosen, widgets.swapping], widgets.view)


def take(service: IllustrationService, visitor: Visitor, paths: list[str] | None) -> Iterator[str]:
    """Take uploads into the album; no other copy stays."""
    files = uploaded(paths or [])
    refused = []
    try:
        for file in files:
            refused += service.add(visitor.session, [file])
            yield _album(service, visitor)
    finally:
        discard(path for path, _ in files)
    if refused:
        told = "".join(f"<br>{escape(error.text(visitor.language))}" for error in refused[:TOLD])
        more = len(refused) - TOLD
        yield _album(service, visitor) + told + (f"<br>{visitor.text('story.refused', count=more)}" if more > 0 else "")


def illustrate(
    widgets: ArticleWidgets,
    service: IllustrationService,
    visitor: Visitor,
    stored: object,
    model: str,
    vision_model: str | None,
) -> Views:
    """The story as it stands in the browser, with pictures."""
    draft = draft_from(stored)
    title = first_words(str(draft.inputs.get("premise") or "")) or visitor.text("story.tab")
    making = service.illustrate(visitor.session, title, draft.paragraphs, model, visitor.name, vision_model or "")
    for progress in making:
        yield _busy(widgets, visitor, progress)
    return _show(widgets, service, visitor, None)


def recaption(
    widgets: ArticleWidgets, service: IllustrationService, visitor: Visitor, chosen: int | None, caption: str
) -> Views:
    """Another caption; its next best are other ones then."""
    if chosen is not None:
        for progress in service.recaption(visitor.session, chosen, caption):
            yield _busy(widgets, visitor, progress)
    return _show(widgets, service, visitor, chosen)


def settle(widgets: ArticleWidgets, service: IllustrationService, said: str, visitor: Visitor) -> View:
    """After a stop or a failure: what is there."""
    return _show(widgets, service, visitor, None, visitor.text(said) if said else "")


def follow(widgets: ArticleWidgets, service: IllustrationService, visitor: Visitor, stored: object) -> View:
    """The story's text was edited: the article has the new one, each picture with its paragraph."""
    before = service.workspace(visitor.session).article
    after = service.change(visitor.session, lambda article: article.told_as(draft_from(stored).paragraphs))
    text = _text(widgets, service, visitor, None)
    return text if after != before else {widgets.swapping: gr.skip()}


def empty(widgets: ArticleWidgets, service: IllustrationService, visitor: Visitor) -> View:
    """Away with pictures and article."""
    service.clear(visitor.session)
    return _show(widgets, service, visitor, None)


def choose(
    widgets: ArticleWidgets,
    service: IllustrationService,
    visitor: Visitor,
    event: gr.EventData,
    chosen: int | None,
    swapping: bool,
) -> View:
    """A figure was clicked: it is chosen, let go by a second click, or swapped with the one chosen before."""
    place = int(event.place)
    if swapping and chosen is not None and place not in (-1, chosen):
        service.change(visitor.session, lambda article: article.swapped(chosen, place))
        return _show(widgets, service, visitor, place)
    return _show(widgets, service, visitor, place if place >= 0 and place != chosen else None)


def begin_swap(
    widgets: ArticleWidgets, service: IllustrationService, visitor: Visitor, chosen: int | None, swapping: bool
) -> View:
    """The next figure clicked is the one to swap with; a second click on the button thinks better of it."""
    said = "" if swapping else visitor.text("story.swap_with")
    return _show(widgets, service, visitor, chosen, said, swapping=not swapping)


def put(
    widgets: ArticleWidgets, service: IllustrationService, visitor: Visitor, event: gr.EventData, chosen: int | None
) -> View:
    """Another picture for the chosen place."""
    picture = int(event.picture)
    if 0 <= picture < len(service.workspace(visitor.session).pictures) and chosen is not None:
        service.change(visitor.session, lambda article: article.chosen(chosen, picture))
    return _show(widgets, service, visitor, chosen)


def change(
    widgets: ArticleWidgets,
    service: IllustrationService,
    step: Callable[[Article, int], Article],
    visitor: Visitor,
    chosen: int | None,
) -> View:
    """Next best, or none, at the chosen place."""
    if chosen is not None:
        service.change(visitor.session, lambda article: step(article, chosen))
    return _show(widgets, service, visitor, chosen)


def save_markdown(service: IllustrationService, visitor: Visitor) -> tuple[str, str]:
    """The article as one Markdown file with its pictures inside."""
    article = _article(service, visitor)
    pictures = service.pictures(visitor.session)
    return file_name(article.title, "md", "story"), export.markdown(
        article.title, article.paragraphs, pictures, alone=True
    )


def save(service: IllustrationService, kind: str, visitor: Visitor) -> tuple[str, bytes]:
    """The article with its pictures, for Word or all in one zip."""
    article = _article(service, visitor)
    make = export.docx if kind == "docx" else export.archive
    made = make(article.title, article.paragraphs, service.pictures(visitor.session))
    return file_name(article.title, kind, "story"), made


def _article(service: IllustrationService, visitor: Visitor) -> Article:
    article = service.workspace(visitor.session).article
    if article is None:
        raise NothingWritten
    return article


def _album(service: IllustrationService, visitor: Visitor) -> str:
    return visitor.text("story.album", count=len(service.workspace(visitor.session).pictures))


def _busy(widgets: ArticleWidgets, visitor: Visitor, progress: IllustrationProgress) -> View:
    if progress.step == "loading":
        key = "chat.loading_percent" if progress.total else "chat.loading"
        said = visitor.text(key, model=progress.model, percent=progress.done)
    else:
        said = visitor.text(f"story.{progress.step}", done=progress.done, total=progress.total)
    off = gr.update(visible=False)
    return {
        widgets.status: said,
        widgets.start: off,
        widgets.stop: gr.update(visible=True),
        widgets.tools: off,
        widgets.chosen: None,
        widgets.swapping: False,
    }


def _show(
    widgets: ArticleWidgets,
    service: IllustrationService,
    visitor: Visitor,
    chosen: int | None,
    said: str = "",
    *,
    swapping: bool = False,
) -> View:
    return _text(widgets, service, visitor, chosen, swapping=swapping) | {
        widgets.status: said or (_album(service, visitor) if service.workspace(visitor.session).pictures else ""),
        widgets.start: gr.update(visible=True),
        widgets.stop: gr.update(visible=False),
    }


def _text(
    widgets: ArticleWidgets,
    service: IllustrationService,
    visitor: Visitor,
    chosen: int | None,
    *,
    swapping: bool = False,
) -> View:
    """The article, and what is chosen in it."""
    workspace = service.workspace(visitor.session)
    place = workspace.article.at(chosen) if workspace.article and chosen is not None else None
    return {
        widgets.magazine: article_view.magazine(visitor, workspace, chosen),
        widgets.choices: article_view.choices(workspace, chosen),
        widgets.tools: gr.update(visible=place is not None),
        widgets.caption: place.caption if place else "",
        widgets.chosen: chosen if place else None,
        widgets.swapping: swapping and place is not None,
        widgets.bar: gr.update(visible=workspace.article is not None),
    }
