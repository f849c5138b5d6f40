"""Pictures of the chat tab: taken in, shown as thumbnails above the box, handed to the question that is sent.

What was uploaded is scaled, its copy deleted soon. The scaled pictures stay in the session; the browser keeps
thumbnails, which stand in for them after a reload.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.chat.conversations import Turn
from app.errors import StudioError
from app.models.engine.prompt import CannotSee
from app.models.interface import Message, Registry
from app.pictures import LONGEST, as_jpeg, open_picture
from tabs.chat.bubbles import picture_tag
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded

MOST_AT_ONCE = 6
MOST_KEPT = 40
NOTHING_WAITS = ("", gr.update(visible=False))  # tray, remove
THUMBNAIL = 288  # pixels of its longer side: about 10 KB, of which a browser keeps a hundred


@dataclass(frozen=True)
class Album:
    """One session's pictures: `full` by thumbnail, the newest last; `waiting` are those of the next question."""

    full: dict[str, bytes] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()

    def with_picture(self, source: Path) -> "Album":
        """Raises what open_picture raises."""
        picture = open_picture(source)
        thumbnail = base64.b64encode(as_jpeg(picture, THUMBNAIL, quality=75)).decode()
        full = {**self.full, thumbnail: as_jpeg(picture, LONGEST)}
        kept = dict(list(full.items())[-MOST_KEPT:])
        waiting = tuple(dict.fromkeys((*self.waiting, thumbnail)))
        return Album(kept, waiting[:MOST_AT_ONCE])

    def images(self, thumbnails: Iterable[str]) -> tuple[bytes, ...]:
        """The pictures themselves; of one that this session does not know, the thumbnail."""
        return tuple(self.full.get(one) or base64.b64decode(one) for one in thumbnails)


@dataclass(frozen=True)
class PictureWidgets:
    """What the chat tab's events read and change."""

    album: gr.State
    tray: gr.HTML
    attach: gr.UploadButton
    remove: gr.Button
    camera: gr.Button
    lens: gr.Image
    lens_open: gr.State

    @property
    def shown(self) -> list[Any]:
        """What changes with the pictures that wait."""
        return [self.album, self.tray, self.remove]


def draw_pictures(page: Page) -> PictureWidgets:
    """The row above the box."""
    tray = gr.HTML(elem_id="chat-tray", padding=False)
    # Without a mode gradio hands over the upload itself; else it would convert it and keep the original.
    lens = gr.Image(
        sources=["webcam"], type="filepath", image_mode=None, visible=False, show_label=False, elem_id="chat-lens"
    )
    with gr.Row(elem_id="chat-pictures"):
        attach = page.bind(
            gr.UploadButton(file_count="multiple", file_types=["image"], size="sm", min_width=0, elem_id="chat-attach"),
            label="chat.attach",
        )
        camera = page.bind(gr.Button(size="sm", min_width=0, elem_id="chat-camera"), value="chat.camera")
        remove = page.bind(
            gr.Button(size="sm", min_width=0, visible=False, elem_id="chat-remove"), value="chat.remove_pictures"
        )
    return PictureWidgets(gr.State(Album()), tray, attach, remove, camera, lens, gr.State(False))


def wire_pictures(page: Page, registry: Registry, widgets: PictureWidgets, model: gr.Dropdown) -> None:
    """Uploads, the camera, and a word in time when the chosen model does not see."""
    shown = widgets.shown
    page.on(widgets.attach.upload, partial(attach, registry), [widgets.attach, widgets.album, model], shown, holds=True)
    lens = [widgets.lens_open, widgets.lens]
    page.on(
        widgets.lens.input, partial(snap, registry), [widgets.lens, widgets.album, model], [*shown, *lens], holds=True
    )
    page.on(widgets.camera.click, flip_camera, [widgets.lens_open], lens)
    page.on(widgets.remove.click, clear, [widgets.album], shown)
    page.on(model.change, partial(look_again, registry), [widgets.album, model], [widgets.tray, widgets.remove])


def attach(registry: Registry, visitor: Visitor, paths: list[str] | None, album: Album, model: str) -> list[Any]:
    """Take uploads in. One that cannot be used is told of; the others stay."""
    refused: StudioError | None = None
    files = [path for path, _ in uploaded(paths or [])]
    for path in files:
        try:
            full = len(album.waiting) >= MOST_AT_ONCE
            album = album if full else album.with_picture(path)
            if full:
                gr.Warning(visitor.text("chat.too_many_pictures", limit=MOST_AT_ONCE), title="")
        except StudioError as error:
            refused = error
    discard(files)
    if refused is not None:
        gr.Warning(refused.text(visitor.language), title=visitor.text("app.error"))
    return [album, *tray_view(registry, visitor, album, model)]


def snap(registry: Registry, visitor: Visitor, path: str | None, album: Album, model: str) -> list[Any]:
    """A photo was taken; the camera goes off."""
    taken = attach(registry, visitor, [path] if path else [], album, model)
    return [*taken, False, gr.update(value=None, visible=False)]


def flip_camera(_visitor: Visitor, shown: bool) -> list[Any]:
    """Show or hide the camera."""
    return [not shown, gr.update(visible=not shown)]


def clear(_visitor: Visitor, album: Album) -> list[Any]:
    """The next question goes without pictures."""
    return [replace(album, waiting=()), *NOTHING_WAITS]


def look_again(registry: Registry, visitor: Visitor, album: Album, model: str) -> list[Any]:
    """Another model was chosen: does it see what waits?"""
    return tray_view(registry, visitor, album, model)


def tray_view(registry: Registry, visitor: Visitor, album: Album, model: str) -> list[Any]:
    """Thumbnails of what waits, the sentence where the model does not see it, and the button that removes them."""
    shown, button = waiting_view(album)
    if not album.waiting or can_see(registry.for_visitor(visitor.name), model):
        return [shown, button]
    return [f"{shown}<p>{visitor.text('chat.cannot_see', model=_plain(model))}</p>", button]


def waiting_view(album: Album) -> list[Any]:
    """Thumbnails of what waits, and the button that removes them."""
    if not album.waiting:
        return list(NOTHING_WAITS)
    return [f"<div>{''.join(map(picture_tag, album.waiting))}</div>", gr.update(visible=True)]


def can_see(registry: Registry, model: str) -> bool:
    """Whether it may see; of a name that is not known yet the model itself decides."""
    try:
        return registry.is_multimodal(model or registry.default_name) is not False
    except StudioError:
        return True  # there is no such model: that is told when the question is sent


def check_sight(registry: Registry, model: str, thumbnails: Sequence[str]) -> None:
    """Raises CannotSee before anything of the page has changed."""
    if thumbnails and not can_see(registry, model):
        raise CannotSee(name=model or registry.default_name)


def history_of(turns: Sequence[Turn], album: Album) -> list[Message]:
    """Earlier turns as the model is told them, their pictures with them."""
    return [_message(turn, album) for turn in turns]


def _message(turn: Turn, album: Album) -> Message:
    role = "user" if turn.role == "user" else "assistant"
    message: Message = {"role": role, "content": turn.content}  # type: ignore[typeddict-item]
    if turn.pictures:
        message["images"] = album.images(turn.pictures)
    return message


def _plain(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum() or letter in "-_./+ ")[:80]
