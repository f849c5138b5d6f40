"""Handlers of the knowledge tab that make, fill, share and delete collections."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.service import SAMPLES, KnowledgeService
from tabs.knowledge.view import files_view, owner_of, progress_view
from tabs.knowledge.widgets import CollectionsView, QuestionView, examples
from tabs.shell.conversation import idle_box
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded

LISTED = 1000  # files a list offers
View = list[Any]


def wire_shelf(page: Page, service: KnowledgeService, shelf: CollectionsView, desk: QuestionView, tab: gr.Tab) -> None:
    """Every event that changes what is on the shelf."""
    view = _view(shelf, desk)
    name = [shelf.collection]
    for event in (page.remembered.change, tab.select):
        page.on(event, partial(look, service), name, view)
    page.on(shelf.timer.tick, partial(look, service), name, view)
    page.on(shelf.collection.input, partial(choose, service), name, [*view, *desk.view])
    page.on(shelf.new.submit, partial(make, service), [shelf.new], [*view, *desk.view, shelf.new])
    page.on(shelf.drop.upload, partial(take, service), [*name, shelf.drop], [*view, shelf.drop])
    page.on(shelf.folder.submit, partial(follow, service), [*name, shelf.folder], view)
    page.on(shelf.go_on.click, partial(go_on, service), name, view)
    page.on(shelf.rebuild.click, partial(rebuild, service), name, view)
    page.on(shelf.stop.click, partial(stop, service), name, view)
    page.on(shelf.shared.input, partial(share, service), [*name, shelf.shared], view)
    page.on(shelf.remove.click, partial(remove, service), [*name, shelf.chosen], view)
    page.on(shelf.delete.click, partial(delete, service), name, [*view, *desk.view])


def look(service: KnowledgeService, visitor: Visitor, name: str | None) -> View:
    """The shelf as it is now; a collection that is gone gives way to the first one."""
    owner = owner_of(visitor)
    records = service.collections(owner)
    names = list(dict.fromkeys(record.name for record in records))
    name = name if name in names else next(iter(names), None)
    if name is None:
        return [gr.update(choices=[], value=None), *[gr.update(visible=False)] * 2, *_nothing(visitor)]
    record = next(record for record in records if record.name == name)
    mine = record.owner == owner.key
    job = service.job(owner, name)
    busy = job is not None and not job.ended  # asked before the files: one that ends in between is seen next time
    files = service.files(owner, name)
    waiting = any(file.state == "waiting" for file in files)
    outdated = service.other_embedder(owner, name)
    listed = [(file.path, file.id) for file in files[:LISTED]]
    labels = [(f"{each} · {visitor.text('knowledge.samples')}" if each == SAMPLES else each, each) for each in names]
    return [
        gr.update(choices=labels, value=name),
        gr.update(visible=mine and outdated is None),
        gr.update(value=record.shared, visible=not owner.guest),
        gr.update(visible=service.may_index_folders(owner)),
        progress_view(visitor, job),
        gr.update(visible=busy and mine),
        gr.update(visible=mine and waiting and not busy and outdated is None),
        gr.update(value=outdated.text(visitor.language) if outdated else "", visible=outdated is not None),
        gr.update(visible=mine and outdated is not None and not busy),
        files_view(visitor, files),
        gr.update(choices=listed, visible=mine and bool(files)),
        gr.update(visible=mine and bool(files)),
        gr.update(visible=mine),
        gr.update(choices=listed),
        gr.Timer(active=busy or (waiting and not mine)),
    ]


def choose(service: KnowledgeService, visitor: Visitor, name: str | None) -> View:
    """Another collection, another talk."""
    return [*look(service, visitor, name), *_fresh_talk(visitor, name)]


def make(service: KnowledgeService, visitor: Visitor, name: str) -> View:
    """A new collection, chosen at once."""
    made = service.make(owner_of(visitor), name).name
    return [*look(service, visitor, made), *_fresh_talk(visitor, made), ""]


def take(service: KnowledgeService, visitor: Visitor, name: str, paths: object) -> View:
    """Index what was dropped; gradio's own copies do not stay."""
    files = uploaded(paths)
    try:
        steps = service.index_uploads(owner_of(visitor), name, files)
    finally:
        discard(path for path, _ in files)
    return [*_begin(service, visitor, name, steps), None]


def follow(service: KnowledgeService, visitor: Visitor, name: str, folder: str) -> View:
    """Index a folder of this machine."""
    return _begin(service, visitor, name, service.index_folder(owner_of(visitor), name, Path(folder).expanduser()))


def go_on(service: KnowledgeService, visitor: Visitor, name: str) -> View:
    """Index what a stopped run left."""
    return _begin(service, visitor, name, service.index_waiting(owner_of(visitor), name))


def rebuild(service: KnowledgeService, visitor: Visitor, name: str) -> View:
    """Embed the collection anew."""
    return _begin(service, visitor, name, service.rebuild(owner_of(visitor), name))


def stop(service: KnowledgeService, visitor: Visitor, name: str) -> View:
    """End the indexing after the present file."""
    service.stop_jobs(owner_of(visitor), name)
    return look(service, visitor, name)


def share(service: KnowledgeService, visitor: Visitor, name: str, shared: bool) -> View:
    """Let the others read it, or not."""
    service.share(owner_of(visitor), name, shared)
    return look(service, visitor, name)


def remove(service: KnowledgeService, visitor: Visitor, name: str, chosen: list[int]) -> View:
    """Take files out."""
    service.remove_files(owner_of(visitor), name, [int(file) for file in chosen or []])
    view = look(service, visitor, name)
    view[10]["value"] = []
    return view


def delete(service: KnowledgeService, visitor: Visitor, name: str) -> View:
    """Remove the whole collection."""
    service.delete(owner_of(visitor), name)
    view = look(service, visitor, None)
    return [*view, *_fresh_talk(visitor, view[0]["value"])]


def _begin(service: KnowledgeService, visitor: Visitor, name: str, steps: Iterator[IndexingProgress]) -> View:
    service.start_job(owner_of(visitor), name, steps)
    return look(service, visitor, name)


def _fresh_talk(visitor: Visitor, name: str | None) -> View:
    fitting = examples(visitor.language) if name == SAMPLES else None
    hint = visitor.text("knowledge.sources_hint")
    return [gr.update(value=[], examples=fitting), [], hint, idle_box()]


def _nothing(visitor: Visitor) -> View:
    hidden = gr.update(visible=False)
    return [
        hidden,
        "",
        hidden,
        hidden,
        hidden,
        hidden,
        files_view(visitor, []),
        gr.update(choices=[], visible=False),
        hidden,
        hidden,
        gr.update(choices=[]),
        gr.Timer(active=True),  # the samples will come
    ]


def _view(shelf: CollectionsView, desk: QuestionView) -> list[Any]:
    return [
        shelf.collection,
        shelf.own,
        shelf.shared,
        shelf.folder,
        shelf.progress,
        shelf.stop,
        shelf.go_on,
        shelf.rebuild_note,
        shelf.rebuild,
        shelf.files,
        shelf.chosen,
        shelf.remove,
        shelf.delete,
        desk.only,
        shelf.timer,
    ]
