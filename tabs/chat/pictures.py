"""Pictures of the chat page: uploaded, shown as thumbnails above the box, handed to the question that is sent.

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
from tabs.shell.generators import View
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded

MOST_AT_ONCE = 6
MOST_KEPT = 40
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


def draw_pictures(page: Page, beside: Sequence[gr.UploadButton] = ()) -> PictureWidgets:
    """The row above the box, with other buttons of its kind."""
    tray = gr.HTML(elem_id="chat-tray")
    # Without a mode gradio hands over the upload itself; else it would convert it and keep the original.
    lens = gr.Image(
        sources=["webcam"], type="filepath", image_mode=None, visible=False, show_label=False, elem_id="chat-lens"
    )
    with gr.Row(elem_id="chat-pictures"):
        attach = page.bind(
            gr.UploadButton(file_count="multiple", file_types=["image"], size="sm", min_width=0, elem_id="chat-attach"),
            label="chat.attach",
        )
        for button in beside:
            button.render()
        camera = page.bind(gr.Button(size="sm", min_width=0, elem_id="chat-camera"), value="chat.camera")
        remove = page.bind(
            gr.Button(size="sm", min_width=0, visible=False, elem_id="chat-remove"), value="chat.remove_pictures"
        )
    return PictureWidgets(gr.State(Album()), tray, attach, remove, camera, lens, gr.State(False))


def wire_pictures(page: Page, registry: Registry, widgets: PictureWidgets, model: gr.Dropdown) -> None:
    """Uploads, the camera, and a word in time when the chosen model does not see."""
    shown, lens = widgets.shown, [widgets.lens_open, widgets.lens]
    taken = [widgets.album, model]
    page.on(widgets.attach.upload, partial(attach, registry, widgets), [widgets.attach, *taken], shown, holds=True)
    snapped = [*shown, *lens]
    page.on(widgets.lens.input, partial(snap, registry, widgets), [widgets.lens, *taken], snapped, holds=True)
    page.on(widgets.camera.click, partial(flip_camera, widgets), [widgets.lens_open], lens)
    page.on(widgets.remove.click, partial(clear, widgets), [widgets.album], shown)
    page.on(model.change, partial(tray_view, registry, widgets), taken, shown)


def attach(
    registry: Registry, widgets: PictureWidgets, visitor: Visitor, paths: list[str] | None, album: Album, model: str
) -> View:
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
    return tray_view(registry, widgets, visitor, album, model)


def snap(
    registry: Registry, widgets: PictureWidgets, visitor: Visitor, path: str | None, album: Album, model: str
) -> View:
    """A photo was taken; the camera goes off."""
    taken = attach(registry, widgets, visitor, [path] if path else [], album, model)
    return taken | {widgets.lens_open: False, widgets.lens: gr.update(value=None, visible=False)}


def flip_camera(widgets: PictureWidgets, _visitor: Visitor, shown: bool) -> View:
    """Show or hide the camera."""
    return {widgets.lens_open: not shown, widgets.lens: gr.update(visible=not shown)}


def clear(widgets: PictureWidgets, _visitor: Visitor, album: Album) -> View:
    """The next question goes without pictures."""
    return waiting_view(widgets, replace(album, waiting=()))


def tray_view(registry: Registry, widgets: PictureWidgets, visitor: Visitor, album: Album, model: str) -> View:
    """What waits, and a sentence where the model does not see it."""
    view = waiting_view(widgets, album)
    if album.waiting and not can_see(registry.for_visitor(visitor.name), model):
        name = "".join(letter for letter in model if letter.isalnum() or letter in "-_./+ ")[:80]
        view[widgets.tray] += f"<p>{visitor.text('chat.cannot_see', model=name)}</p>"
    return view


def waiting_view(widgets: PictureWidgets, album: Album) -> View:
    """Thumbnails of what waits, and the button that removes them."""
    tray = f"<div>{''.join(map(picture_tag, album.waiting))}</div>" if album.waiting else ""
    return {widgets.album: album, widgets.tray: tray, widgets.remove: gr.update(visible=bool(tray))}


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
    """Earlier turns as the model is told them, their pictures with them; questions without answer become one."""
    messages: list[Message] = []
    for message in (_message(turn, album) for turn in turns):
        if messages and messages[-1]["role"] == message["role"]:
            before = messages.pop()
            message["content"] = f"{before['content']}\n\n{message['content']}"
            if images := (*before.get("images", ()), *message.get("images", ())):
                message["images"] = images
        messages.append(message)
    return messages


def _message(turn: Turn, album: Album) -> Message:
    role = "user" if turn.role == "user" else "assistant"
    message: Message = {"role": role, "content": turn.content}  # type: ignore[typeddict-item]
    if turn.pictures:
        message["images"] = album.images(turn.pictures)
    return message
