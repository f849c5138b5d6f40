"""Event handlers of the knowledge tab that make, fill, share and delete collections."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.blocks import Block

from app.knowledge.ingest.indexing import IndexingProgress
from app.knowledge.service import KnowledgeService
from app.knowledge.upkeep import SAMPLES
from tabs.knowledge.exchanges import Exchange, exchanges_from
from tabs.knowledge.talk import restored, settle
from tabs.knowledge.widgets import CollectionWidgets, QuestionWidgets, examples
from tabs.shell.documents import files_view, owner_of, progress_view
from tabs.shell.generators import View
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded

OPENED = "async (remembered, stored) => [remembered, stored, await window.studio.talks.open()]"
CHOSEN = "async (remembered, stored, name) => [remembered, stored, name, await window.studio.talks.choose(name)]"
LISTED = 1000  # files a list offers


@dataclass(frozen=True)
class CollectionsPanel:
    """The service and the components that its collections are shown in."""

    service: KnowledgeService
    widgets: CollectionWidgets
    question: QuestionWidgets

    @property
    def shown(self) -> list[Block]:
        """What `look` updates."""
        own, question = self.widgets, self.question
        return [
            *(own.collection, own.own, own.shared, own.folder, own.progress, own.stop, own.go_on, own.embedder),
            *(own.embed_anew, own.files, own.delete, own.timer, question.only, question.kept),
        ]

    def wire(self, page: Page, tab: gr.Tab) -> None:
        """Every event that changes collections."""
        own, shown, kept = self.widgets, self.shown, self.question.kept
        fresh = [*shown, *self.question.answer]
        name = [own.collection]
        looks = [
            page.on(event, partial(arrive, self), [kept], fresh, js=OPENED)
            for event in (page.remembered.change, tab.select, own.timer.tick, kept.select)
        ]
        # What a look would show that began before is not the collection that is chosen now. One that is not sent yet
        # cannot be cancelled: the browser sees by what was asked that its answer is late, and looks again.
        page.on(own.collection.input, partial(choose, self), [*name, kept], fresh, js=CHOSEN, cancels=looks)
        made = page.on(own.new.submit, partial(make, self), [own.new], [*fresh, own.new], cancels=looks)
        ended = partial(settle, self.question)  # a refused name has ended the answer that was being written
        page.on(made.failure, ended, [self.question.exchanges], self.question.answer)
        page.on(own.drop.upload, partial(take, self), [*name, own.drop], [*shown, own.drop])
        page.on(own.folder.submit, partial(follow, self), [*name, own.folder], shown)
        page.on(own.go_on.click, partial(go_on, self), name, shown)
        page.on(own.embed_anew.click, partial(embed_anew, self), [*name, own.embedder], shown)
        page.on(own.stop.click, partial(stop, self), name, shown)
        page.on(own.shared.input, partial(share, self), [*name, own.shared], shown)
        page.on(own.files.select, partial(remove, self), name, shown)
        page.on(own.delete.click, partial(delete, self), name, fresh)


def look(panel: CollectionsPanel, visitor: Visitor, name: str | None) -> View:
    """The collections as they are now; one that is gone gives way to the first."""
    service, own, owner = panel.service, panel.widgets, owner_of(visitor)
    names = list(dict.fromkeys(record.name for record in service.collections(owner)))
    asked, name = name, name if name in names else next(iter(names), None)
    if name is None:
        return _nothing(panel, visitor)
    job = service.job(owner, name)
    busy = job is not None and not job.ended  # asked before what it changes: one that ends meanwhile is seen next time
    record = service.collection(owner, name)
    mine = record.owner == owner.key
    files = service.files(owner, name)
    waiting = any(file.state == "waiting" for file in files)
    listed = [(file.path, file.id) for file in files[:LISTED]]
    labels = [(f"{each} · {visitor.text('knowledge.samples')}" if each == SAMPLES else each, each) for each in names]
    return {
        own.collection: gr.update(choices=labels, value=name),
        own.own: gr.update(visible=mine),
        own.shared: gr.update(value=record.shared, visible=not owner.guest),
        own.folder: gr.update(visible=service.may_index_folders(owner)),
        own.progress: progress_view(visitor, job, waits=service.waits_to_read(owner)),
        own.stop: gr.update(visible=busy and mine),
        own.go_on: gr.update(visible=mine and waiting and not busy),
        own.embedder: gr.update(choices=service.embedders(), value=record.embedder, visible=mine and not busy),
        own.embed_anew: gr.update(visible=mine and not busy),
        own.files: files_view(visitor, files, mine=mine),
        own.delete: gr.update(visible=mine),
        own.timer: gr.Timer(active=busy or (waiting and not mine)),
        panel.question.only: gr.update(choices=listed),
        panel.question.kept: {"collection": name, "asked": asked},
    }


def arrive(panel: CollectionsPanel, visitor: Visitor, opened: object) -> View:
    """The collection that was open last, and its talk where the page does not show it yet."""
    kept = opened if isinstance(opened, dict) else {}
    name, talk = kept.get("collection"), kept.get("talk")
    updates = look(panel, visitor, name if isinstance(name, str) else None)
    if talk is None:
        return updates
    shown = updates[panel.widgets.collection]["value"]
    return updates | _talk(panel, visitor, shown, exchanges_from(panel.service, visitor, talk if shown == name else []))


def _nothing(panel: CollectionsPanel, visitor: Visitor) -> View:
    own = panel.widgets
    hidden = (own.own, own.shared, own.folder, own.stop, own.go_on, own.embedder, own.embed_anew)
    return {
        **dict.fromkeys((*hidden, own.delete), gr.update(visible=False)),
        own.collection: gr.update(choices=[], value=None),
        own.progress: "",
        own.files: files_view(visitor, []),
        own.timer: gr.Timer(active=True),  # the samples will come
        panel.question.only: gr.update(choices=[]),
    }


def choose(panel: CollectionsPanel, visitor: Visitor, _name: str, opened: object) -> View:
    """Another collection, with its last talk."""
    return arrive(panel, visitor, opened)


def make(panel: CollectionsPanel, visitor: Visitor, name: str) -> View:
    """A new collection, chosen at once."""
    made = panel.service.make(owner_of(visitor), name).name
    chosen = {panel.question.kept: {"collection": made}, panel.widgets.new: ""}
    return look(panel, visitor, made) | _talk(panel, visitor, made, []) | chosen


def take(panel: CollectionsPanel, visitor: Visitor, name: str, paths: object) -> View:
    """Index what was dropped; gradio's own copies do not stay."""
    files = uploaded(paths)
    try:
        steps = panel.service.index_uploads(owner_of(visitor), name, files)
    finally:
        discard(path for path, _ in files)
    return _begin(panel, visitor, name, steps) | {panel.widgets.drop: None}


def follow(panel: CollectionsPanel, visitor: Visitor, name: str, folder: str) -> View:
    """Index a folder of this machine."""
    return _begin(panel, visitor, name, panel.service.index_folder(owner_of(visitor), name, Path(folder)))


def go_on(panel: CollectionsPanel, visitor: Visitor, name: str) -> View:
    """Index what a stopped run left."""
    return _begin(panel, visitor, name, panel.service.index_waiting(owner_of(visitor), name))


def embed_anew(panel: CollectionsPanel, visitor: Visitor, name: str, embedder: str) -> View:
    """Embed the collection with this model; it answers as before until that is done."""
    return _begin(panel, visitor, name, panel.service.embed_anew(owner_of(visitor), name, embedder or ""))


def stop(panel: CollectionsPanel, visitor: Visitor, name: str) -> View:
    """End the indexing after the present file."""
    panel.service.stop_jobs(owner_of(visitor), name)
    return look(panel, visitor, name)


def share(panel: CollectionsPanel, visitor: Visitor, name: str, shared: bool) -> View:
    """Let the others read it, or not."""
    panel.service.share(owner_of(visitor), name, shared)
    return look(panel, visitor, name)


def remove(panel: CollectionsPanel, visitor: Visitor, event: gr.EventData, name: str) -> View:
    """Take a file out."""
    panel.service.remove_files(owner_of(visitor), name, [event.file])
    return look(panel, visitor, name)


def delete(panel: CollectionsPanel, visitor: Visitor, name: str) -> View:
    """Remove the whole collection."""
    panel.service.delete(owner_of(visitor), name)
    updates, kept = look(panel, visitor, None), panel.question.kept
    left = updates[panel.widgets.collection]["value"]
    return updates | _talk(panel, visitor, left, []) | {kept: {"collection": left, "deleted": name}}


def _begin(panel: CollectionsPanel, visitor: Visitor, name: str, steps: Iterator[IndexingProgress]) -> View:
    panel.service.start_job(owner_of(visitor), name, steps)
    return look(panel, visitor, name)


def _talk(panel: CollectionsPanel, visitor: Visitor, name: object, exchanges: list[Exchange]) -> View:
    view, chatbot = restored(panel.question, visitor, exchanges), panel.question.chatbot
    asked = examples(visitor.language) if name == SAMPLES else []
    return view | {chatbot: gr.update(value=view[chatbot], examples=asked)}
