"""The chat tab: one conversation on the page, all of them in the visitor's browser, `/chat` for programs."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.chat.conversations import History, Turn, shelf_from
from app.chat.request import chat_request
from app.chat.service import ChatService
from app.models.interface import Registry
from tabs.chat.bubbles import bubbles_of, note_of, turns_of, waiting, waiting_text, words_of
from tabs.chat.history import (
    Bubbles,
    View,
    Written,
    arrive,
    delete_open,
    export,
    idle_box,
    rename,
    shelf_view,
    start_new,
    switch_to,
)
from tabs.chat.pictures import NOTHING_WAITS, Album, check_sight, history_of, waiting_view, wire_pictures
from tabs.chat.widgets import ChatWidgets, draw
from tabs.shell.page import Page, Visitor

READY_BOX = gr.update(submit_btn=True, stop_btn=False)
OPTIONS = ("model", "system", "temperature", "top_p", "max_new_tokens", "seed")


def build(page: Page, service: ChatService, registry: Registry) -> None:
    """Draw the tab, wire it, publish `/chat`."""
    widgets = draw(page, registry)
    answers = _wire_answers(page, service, widgets)
    wire_pictures(page, registry, widgets.pictures, widgets.options[0])
    _wire_conversations(page, widgets, answers)
    page.api(partial(chat, service), "chat")


def chat(
    service: ChatService,
    visitor: Visitor,
    message: str,
    history: list[dict[str, str]] | None = None,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_new_tokens: int | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    """Stream an answer; each value is the text so far, empty while it waits for its turn."""
    request = chat_request(
        message,
        history,
        model=model,
        system=system,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    yield ""  # gradio forgets a cancel that comes before the first value, and hears others only between two
    for reply in service.reply(request, visitor.name):
        yield reply.text


def _wire_answers(page: Page, service: ChatService, widgets: ChatWidgets) -> list[Dependency]:
    chatbot, box = widgets.chatbot, widgets.box
    inputs = [chatbot, widgets.shelf, widgets.pictures.album, *widgets.options]
    view = widgets.answer_view
    answers = [
        page.on(box.submit, partial(send, service), [box, *inputs], view),
        page.on(chatbot.example_select, partial(send_example, service), inputs, view),
        page.on(chatbot.retry, partial(retry, service), inputs, view),
        page.on(chatbot.edit, partial(edit, service), inputs, view),
    ]
    ended = [widgets.written, box, widgets.shelf, widgets.pictures.album]
    for each in answers:
        for end in (each.success, each.failure):  # `then` alone is not called after an error
            page.on(end, partial(settle, False), ended, view)
    page.on(box.stop, partial(settle, True), ended, view, cancels=answers)
    page.on(chatbot.undo, undo, [chatbot, widgets.shelf, widgets.pictures.album], view)
    return answers


def _wire_conversations(page: Page, widgets: ChatWidgets, answers: list[Dependency]) -> None:
    kept = [widgets.written, widgets.shelf]
    view = widgets.view
    page.on(page.blocks.load, arrive, [widgets.shelf], view)
    page.on(widgets.new.click, start_new, kept, view, cancels=answers)
    page.on(widgets.talks.input, switch_to, [*kept, widgets.talks], view, cancels=answers)
    page.on(widgets.title.submit, rename, [widgets.shelf, widgets.title], view)
    page.on(widgets.title.blur, rename, [widgets.shelf, widgets.title], view)
    page.on(widgets.delete.click, delete_open, kept, view, cancels=answers)
    saved = [widgets.chatbot, widgets.shelf]
    page.download(widgets.save_markdown.click, partial(export, "md"), saved)
    page.download(widgets.save_json.click, partial(export, "json"), saved)


def send(
    service: ChatService, visitor: Visitor, message: str, bubbles: Bubbles, stored: object, album: Album, *options: Any
) -> Iterator[View]:
    """The visitor typed something."""
    asked = Turn("user", message, pictures=album.waiting)
    yield from answer(service, visitor, turns_of(bubbles), asked, shelf_from(stored), album, options)


def send_example(
    service: ChatService,
    visitor: Visitor,
    event: gr.SelectData,
    bubbles: Bubbles,
    stored: object,
    album: Album,
    *options: Any,
) -> Iterator[View]:
    """The visitor chose an example."""
    yield from send(service, visitor, event.value["text"], bubbles, stored, album, *options)


def retry(
    service: ChatService,
    visitor: Visitor,
    event: gr.RetryData,
    bubbles: Bubbles,
    stored: object,
    album: Album,
    *options: Any,
) -> Iterator[View]:
    """Answer the same question anew."""
    place = _place(event.index)
    asked = turns_of(bubbles[place : place + 1])[0]
    yield from answer(service, visitor, turns_of(bubbles[:place]), asked, shelf_from(stored), album, options)


def edit(
    service: ChatService,
    visitor: Visitor,
    event: gr.EditData,
    bubbles: Bubbles,
    stored: object,
    album: Album,
    *options: Any,
) -> Iterator[View]:
    """Another question in place of an earlier one, about the same pictures; what followed it goes.

    gradio has put the new words in place of the whole bubble, so the pictures are those that the browser keeps.
    """
    before, shelf = turns_of(bubbles[: _place(event.index)]), shelf_from(stored)
    kept = shelf.open.turns[len(before) : len(before) + 1]
    asked = Turn("user", words_of(str(event.value)), pictures=kept[0].pictures if kept else ())
    yield from answer(service, visitor, before, asked, shelf, album, options)


def answer(
    service: ChatService,
    visitor: Visitor,
    before: Sequence[Turn],
    question: Turn,
    shelf: History,
    album: Album,
    options: Sequence[Any],
) -> Iterator[View]:
    """Put the question on the page and stream the answer under it."""
    history = history_of(before, album)
    request = chat_request(question.content, history, **dict(zip(OPTIONS, options, strict=True)))
    check_sight(service.registry.for_visitor(visitor.name), request.model, question.pictures)
    request = replace(request, history=tuple(history), images=album.images(question.pictures))
    turns = [*before, question]
    shelf = shelf.saved(shelf.open.id, turns)
    asked = bubbles_of(turns)
    written = Written(tuple(turns), threading.Event())
    try:
        sent = [_busy_box(), *shelf_view(visitor, shelf), replace(album, waiting=()), *NOTHING_WAITS]
        yield [[*asked, waiting(visitor.text("chat.thinking"))], written, *sent]
        for reply in service.reply(request, visitor.name):
            if reply.text or reply.state == "done":
                said = [Turn("assistant", reply.text, note_of(visitor, reply))]
                written = replace(written, turns=(*turns, *said))
                yield [[*asked, *bubbles_of(said)], written, *([gr.skip()] * 7)]
            else:
                yield [[*asked, waiting(waiting_text(visitor, reply))], *([gr.skip()] * 8)]
    finally:
        written.closed.set()


def settle(
    stopped: bool,
    visitor: Visitor,
    written: Written | None,
    message: str,
    stored: object,
    album: Album,
) -> View:
    """After an answer, however it ended: keep what is there; a question without answer goes back into the box.

    gradio calls this for a cancelled answer as well, when another handler has settled it already.
    """
    if written is None:
        return [gr.skip(), None, READY_BOX, *([gr.skip()] * 6)]
    shelf = shelf_from(stored)
    turns = written.final()
    pictures: list[Any] = [gr.skip()] * 3
    if len(turns) < len(written.turns):
        message = message or written.turns[-1].content
        pictures = _back(album, written.turns[-1])
    elif stopped:
        last = turns.pop()
        turns.append(replace(last, note=f"{last.note} · {visitor.text('chat.stopped')}"))
    shelf = shelf.saved(shelf.open.id, turns)
    return [bubbles_of(turns), None, idle_box(message), *shelf_view(visitor, shelf), *pictures]


def undo(visitor: Visitor, bubbles: Bubbles, stored: object, album: Album) -> View:
    """Take the last question back into the box."""
    shelf = shelf_from(stored)
    turns = turns_of(bubbles)
    place = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
    question = turns[place] if turns else Turn("user", "")
    shelf = shelf.saved(shelf.open.id, turns[:place])
    pictures = _back(album, question)
    return [bubbles_of(turns[:place]), None, idle_box(question.content), *shelf_view(visitor, shelf), *pictures]


def _back(album: Album, question: Turn) -> list[Any]:
    """A question's pictures wait for the next one again."""
    album = replace(album, waiting=tuple(dict.fromkeys((*question.pictures, *album.waiting))))
    return [album, *waiting_view(album)] if question.pictures else [gr.skip()] * 3


def _busy_box() -> dict[str, Any]:
    return gr.update(value="", submit_btn=False, stop_btn=True)


def _place(index: int | tuple[int, int] | list[int]) -> int:
    return index if isinstance(index, int) else index[0]
