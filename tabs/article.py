"""Pictures for the story: an album, a caption for each place, the best picture there, others to choose from."""

from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from app.errors import Language
from app.story import export
from app.story.article import Article
from app.story.draft import draft_from
from app.story.errors import NothingWritten
from app.story.illustrating import IllustrationService
from app.texts import sentence
from tabs import article_view
from tabs.page import Page, Visitor
from tabs.saving import save_bytes
from tabs.story_view import CLICKS

View = list[Any]  # magazine, choices, tools, caption, chosen
TOLD = 3  # refusals shown one by one


def build(page: Page, service: IllustrationService, shelf: gr.BrowserState, model: gr.Dropdown) -> None:
    """Draw the part below the story and wire it."""
    with gr.Column(elem_id="article"):
        page.bind(gr.Markdown(elem_id="article-title"), value=_title)
        with gr.Row(elem_classes="story-buttons"):
            look: dict[str, Any] = {"size": "sm", "min_width": 0}
            upload = page.bind(
                gr.UploadButton(file_count="multiple", file_types=["image"], elem_id="article-upload", **look),
                label="story.upload",
            )
            start = page.bind(gr.Button(elem_id="article-start", **look), value="story.illustrate")
            stop = page.bind(gr.Button(**look), value="story.stop")
            clear = page.bind(gr.Button(**look), value="story.empty_album")
            word = gr.Button("Word", elem_id="article-word", **look)
            packed = page.bind(gr.Button(elem_id="article-zip", **look), value="story.zip")
        status = gr.HTML(elem_id="article-status")
        magazine = gr.HTML(elem_id="article-paper", js_on_load=CLICKS)
        with gr.Column(visible=False, elem_id="article-tools") as tools:
            others = gr.HTML(js_on_load=CLICKS, elem_id="article-choices")
            with gr.Row(elem_classes="story-buttons"):
                better = page.bind(gr.Button(elem_id="article-next", **look), value="story.next_best")
                remove = page.bind(gr.Button(elem_id="article-remove", **look), value="story.remove_picture")
            caption = page.bind(gr.Textbox(max_lines=2, elem_id="article-caption"), label="story.caption")
            keep = page.bind(gr.Button(elem_id="article-keep", size="sm"), value="story.keep_caption")
        chosen = gr.State()
    view = [magazine, others, tools, caption, chosen]
    page.on(upload.upload, partial(take, service), [upload], [status])
    running = page.on(start.click, partial(illustrate, service), [shelf, model], [status, *view])
    stop.click(None, None, None, cancels=[running], api_visibility="private")
    page.on(clear.click, partial(empty, service), [], [status, *view])
    page.on(magazine.select, partial(choose, service), [chosen], view)
    page.on(others.select, partial(put, service), [chosen], view)
    page.on(better.click, partial(change, service, Article.next_best), [chosen], view)
    page.on(remove.click, partial(change, service, partial(Article.chosen, picture=None)), [chosen], view)
    page.on(keep.click, partial(recaption, service), [chosen, caption], view)
    save_bytes(page, word.click, partial(save, service, "docx"))
    save_bytes(page, packed.click, partial(save, service, "zip"))

    def leave(request: gr.Request) -> None:
        """The page was closed: nothing of its album stays."""
        service.leave(request.session_hash or "")

    page.blocks.unload(leave)


def _title(language: Language) -> str:
    return f"### {sentence(language, 'story.article')}\n{sentence(language, 'story.article_info')}"


def take(service: IllustrationService, visitor: Visitor, paths: list[str] | None) -> Iterator[str]:
    """Take uploads into the album; no other copy stays."""
    refused = []
    for path in map(Path, paths or []):
        try:
            refused += service.add(visitor.session, [(path, path.name)])
        finally:
            path.unlink(missing_ok=True)
        yield visitor.text("story.album", count=len(service.desk(visitor.session).pictures))
    if refused:
        told = "".join(f"<br>{escape(error.text(visitor.language))}" for error in refused[:TOLD])
        yield visitor.text("story.album", count=len(service.desk(visitor.session).pictures)) + told


def illustrate(service: IllustrationService, visitor: Visitor, stored: object, model: str) -> Iterator[View]:
    """The story as it stands in the browser, with pictures."""
    draft = draft_from(stored)
    title = export.title_of(str(draft.inputs.get("premise") or "")) or visitor.text("story.tab")
    for progress in service.illustrate(visitor.session, title, draft.paragraphs, model, visitor.name):
        said = visitor.text(f"story.{progress.step}", done=progress.done, total=progress.total)
        yield [said, *([gr.skip()] * 5)]
    yield ["", *_show(service, visitor, None)]


def empty(service: IllustrationService, visitor: Visitor) -> View:
    """Away with pictures and article."""
    service.clear(visitor.session)
    return ["", *_show(service, visitor, None)]


def choose(service: IllustrationService, visitor: Visitor, event: gr.EventData, chosen: int | None) -> View:
    """A figure was clicked; a second click lets it go."""
    place = int(event.place)
    return _show(service, visitor, place if place >= 0 and place != chosen else None)


def put(service: IllustrationService, visitor: Visitor, event: gr.EventData, chosen: int | None) -> View:
    """Another picture for the chosen place."""
    picture = int(event.picture)
    if 0 <= picture < len(service.desk(visitor.session).pictures) and chosen is not None:
        service.change(visitor.session, lambda article: article.chosen(chosen, picture))
    return _show(service, visitor, chosen)


def change(
    service: IllustrationService, step: Callable[[Article, int], Article], visitor: Visitor, chosen: int | None
) -> View:
    """Next best, or none, at the chosen place."""
    if chosen is not None:
        service.change(visitor.session, lambda article: step(article, chosen))
    return _show(service, visitor, chosen)


def recaption(service: IllustrationService, visitor: Visitor, chosen: int | None, caption: str) -> View:
    """Another caption; its next best are other ones then."""
    if chosen is not None:
        service.recaption(visitor.session, chosen, caption)
    return _show(service, visitor, chosen)


def save(service: IllustrationService, kind: str, visitor: Visitor) -> tuple[str, bytes]:
    """The article with its pictures, for Word or all in one zip."""
    article = service.desk(visitor.session).article
    if article is None:
        raise NothingWritten
    make = export.docx if kind == "docx" else export.archive
    return export.file_name(article.title, kind), make(
        article.title, article.paragraphs, service.pictures(visitor.session)
    )


def _show(service: IllustrationService, visitor: Visitor, chosen: int | None) -> View:
    desk = service.desk(visitor.session)
    place = desk.article.at(chosen) if desk.article and chosen is not None else None
    tools = gr.update(visible=place is not None)
    caption = place.caption if place else ""
    shown = article_view.magazine(visitor, desk, chosen)
    return [shown, article_view.choices(desk, chosen), tools, caption, chosen if place else None]
