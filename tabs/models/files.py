"""Model files on the models page: list them with their sizes, delete them, take a GGUF file or a folder dropped in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from app.models.catalog import known_models
from app.models.catalog.stored_models import StoredModel
from app.models.model_files import ModelFiles
from tabs.models.ledger_view import readable_size
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.generators import View
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import uploaded

DELETE = """
element.addEventListener("click", (event) => {
  const key = event.target.closest("[data-key]")?.dataset.key;
  if (key) trigger("select", {key});
});
"""


@dataclass(frozen=True)
class FileWidgets:
    """The list of what is on the disk, and the place to drop files on."""

    stored: gr.HTML
    drop: gr.File
    told: gr.HTML
    choice: gr.Dropdown

    @property
    def view(self) -> list[Any]:
        return [self.stored, self.drop, self.told, self.choice]


def draw_files(page: Page, files: ModelFiles, tab: gr.Tab, choice: gr.Dropdown) -> None:
    """Below the memory account; drawn only for people of this machine."""
    with gr.Column(elem_id="models-files"):
        stored = gr.HTML(elem_id="models-stored", js_on_load=DELETE)
        drop = page.bind(gr.File(file_count="multiple", elem_id="models-drop", height=150), label="models.drop")
        told = gr.HTML(elem_id="models-told")
    widgets = FileWidgets(stored, drop, told, choice)
    page.on(tab.select, partial(look, files, widgets), [], widgets.view)
    page.on_arrival(partial(look, files, widgets), [], widgets.view)
    following = list(page.following)  # of all pages: this one is drawn last
    outputs = list(dict.fromkeys([*widgets.view, *following]))
    page.on(stored.select, partial(delete, files, widgets, following), following, outputs)
    brought = page.on(drop.upload, partial(bring_in, files, widgets), [drop], widgets.view)
    page.on(brought.failure, partial(look, files, widgets), [], widgets.view)
    page.keep_upload(drop)


def look(files: ModelFiles, widgets: FileWidgets, visitor: Visitor) -> View:
    """What is there now."""
    return {widgets.stored: _table(visitor, files.stored(), files.free_mib()), widgets.drop: None}


def delete(
    files: ModelFiles,
    widgets: FileWidgets,
    following: Sequence[gr.Dropdown],
    visitor: Visitor,
    event: gr.EventData,
    *chosen: str,
) -> View:
    """The dialog was answered with yes: lists that had it turn to the default, or the next answer would fetch it."""
    gone, default = files.delete(str(event.key))
    turned = {
        choice: gr.update(value=default)
        for choice, name in zip(following, chosen, strict=True)
        if known_models.split_precision(name or "")[0] in gone
    }
    return turned | look(files, widgets, visitor) | {widgets.told: _told(visitor, "models.deleted", str(event.key))}


def bring_in(files: ModelFiles, widgets: FileWidgets, visitor: Visitor, paths: list[str] | None) -> View:
    """Make a model of what was dropped, and choose it."""
    name = files.bring_in(uploaded(paths or []))
    told = _told(visitor, "models.brought", name)
    return look(files, widgets, visitor) | {widgets.told: told, widgets.choice: name}


def _told(visitor: Visitor, key: str, name: str) -> str:
    return f"<p role='status'>{escape(visitor.text(key, name=name))}</p>"


def _table(visitor: Visitor, stored: Sequence[StoredModel], free_mib: int) -> str:
    used = sum(model.mib for model in stored)
    head = visitor.text("models.on_disk", used=readable_size(used), free=readable_size(free_mib))
    rows = "".join(_row(visitor, model) for model in stored)
    return f"<h3>{head}</h3>" + (f"<ul>{rows}</ul>" if rows else f"<p>{visitor.text('models.nothing_on_disk')}</p>")


def _row(visitor: Visitor, model: StoredModel) -> str:
    name = escape(model.key, quote=True)
    return (
        f"<li><span>{name}</span><span>{readable_size(model.mib)}</span>"
        f'<button type="button" class="{ASKS_FIRST}" data-key="{name}">{visitor.text("models.delete")}'
        f'<i class="unseen"> {name}</i></button></li>'
    )
