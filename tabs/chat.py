"""The chat tab: one conversation on the page, all of them in the visitor's browser, `/chat` for programs."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.chat.conversations import Shelf, Turn, as_json, as_markdown, file_name, shelf_from
from app.chat.request import chat_request
from app.chat.service import ChatService
from app.errors import BadInput
from app.models.interface import Registry
from tabs.chat_bubbles import bubbles_of, note_of, turns_of, waiting, waiting_text
from tabs.chat_widgets import ChatWidgets, draw
from tabs.page import Page, Visitor

View = list[Any]  # chatbot, turns written, box, shelf, list, title: what every event of the tab may change
Bubbles = list[Any]  # the chatbot's value
READY_BOX = gr.update(submit_btn=True, stop_btn=False)
CLOSING_S = 5.0
OPTIONS = ("model", "system", "temperature", "top_p", "max_new_tokens", "seed")


@dataclass(frozen=True)
class Written:
    """What the server last sent of an answer, its conversation's turns and all; `closed` when it sends no more.

    A cancelled answer may send once more, so whoever takes its place on the page waits for `closed` first.
    """

    turns: tuple[Turn, ...]
    closed: threading.Event

    def final(self) -> list[Turn]:
        """The turns once the answer is closed, without a question that got no answer."""
        self.closed.wait(CLOSING_S)
        answered = self.turns[-1].role == "assistant"
        return list(self.turns if answered else self.turns[:-1])


class NothingToSave(BadInput):
    zh = "这个对话还没有内容。"
    en = "This conversation is still empty."


def build(page: Page, service: ChatService, registry: Registry) -> None:
    """Draw the tab, wire it, publish `/chat`."""
    widgets = draw(page, registry)
    answers = _wire_answers(page, service, widgets)
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
    inputs = [chatbot, widgets.shelf, *widgets.options]
    answers = [
        page.on(box.submit, partial(send, service), [box, *inputs], widgets.view),
        page.on(chatbot.example_select, partial(send_example, service), inputs, widgets.view),
        page.on(chatbot.retry, partial(retry, service), inputs, widgets.view),
        page.on(chatbot.edit, partial(edit, service), inputs, widgets.view),
    ]
    ended = [widgets.written, box, widgets.shelf]
    for each in answers:
        for end in (each.success, each.failure):  # `then` alone is not called after an error
            page.on(end, partial(settle, False), ended, widgets.view)
    _cancel(box.stop, answers)
    page.on(box.stop, partial(settle, True), ended, widgets.view)
    page.on(chatbot.undo, undo, [chatbot, widgets.shelf], widgets.view)
    return answers


def _cancel(event: Callable[..., Dependency], answers: list[Dependency]) -> None:
    """End the answer first: a listener's own `cancels` would only work once its handler has returned."""
    event(None, None, None, cancels=answers, api_visibility="private")


def _wire_conversations(page: Page, widgets: ChatWidgets, answers: list[Dependency]) -> None:
    kept = [widgets.written, widgets.shelf]
    view = widgets.view
    for event in (widgets.new.click, widgets.talks.input, widgets.really_delete.click):
        _cancel(event, answers)
    page.on(page.blocks.load, arrive, [widgets.shelf], view)
    page.on(widgets.new.click, start_new, kept, view)
    page.on(widgets.talks.input, switch_to, [*kept, widgets.talks], view)
    page.on(widgets.title.submit, rename, [widgets.shelf, widgets.title], view)
    page.on(widgets.title.blur, rename, [widgets.shelf, widgets.title], view)
    removed = page.on(widgets.really_delete.click, delete_open, kept, view)
    for event, shown in ((widgets.delete.click, True), (widgets.keep.click, False), (removed.then, False)):
        event(None, None, [widgets.confirm], js=f"() => ({{__type__: 'update', visible: {str(shown).lower()}}})")
    saved = [widgets.chatbot, widgets.shelf]
    page.download(widgets.save_markdown.click, partial(export, "md"), saved)
    page.download(widgets.save_json.click, partial(export, "json"), saved)


def send(
    service: ChatService, visitor: Visitor, message: str, bubbles: Bubbles, stored: object, *options: Any
) -> Iterator[View]:
    """The visitor typed something."""
    yield from answer(service, visitor, turns_of(bubbles), message, shelf_from(stored), options)


def send_example(
    service: ChatService, visitor: Visitor, event: gr.SelectData, bubbles: Bubbles, stored: object, *options: Any
) -> Iterator[View]:
    """The visitor chose an example."""
    yield from answer(service, visitor, turns_of(bubbles), event.value["text"], shelf_from(stored), options)


def retry(
    service: ChatService, visitor: Visitor, event: gr.RetryData, bubbles: Bubbles, stored: object, *options: Any
) -> Iterator[View]:
    """Answer the same question anew."""
    place = _place(event.index)
    question = turns_of(bubbles[place : place + 1])[0].content
    yield from answer(service, visitor, turns_of(bubbles[:place]), question, shelf_from(stored), options)


def edit(
    service: ChatService, visitor: Visitor, event: gr.EditData, bubbles: Bubbles, stored: object, *options: Any
) -> Iterator[View]:
    """Another question in place of an earlier one; what followed it goes."""
    before = turns_of(bubbles[: _place(event.index)])
    yield from answer(service, visitor, before, str(event.value), shelf_from(stored), options)


def answer(
    service: ChatService,
    visitor: Visitor,
    before: Sequence[Turn],
    message: str,
    shelf: Shelf,
    options: Sequence[Any],
) -> Iterator[View]:
    """Put the question on the page and stream the answer under it."""
    history = [{"role": turn.role, "content": turn.content} for turn in before]
    request = chat_request(message, history, **dict(zip(OPTIONS, options, strict=True)))
    turns = [*before, Turn("user", message)]
    shelf = shelf.saved(shelf.open.id, turns)
    asked = bubbles_of(turns)
    written = Written(tuple(turns), threading.Event())
    try:
        yield [[*asked, waiting(visitor.text("chat.thinking"))], written, _busy_box(), *shelf_view(visitor, shelf)]
        for reply in service.reply(request, visitor.name):
            if reply.text or reply.state == "done":
                said = [Turn("assistant", reply.text, note_of(visitor, reply))]
                written = replace(written, turns=(*turns, *said))
                yield [[*asked, *bubbles_of(said)], written, *([gr.skip()] * 4)]
            else:
                yield [[*asked, waiting(waiting_text(visitor, reply))], *([gr.skip()] * 5)]
    finally:
        written.closed.set()


def settle(stopped: bool, visitor: Visitor, written: Written | None, message: str, stored: object) -> View:
    """After an answer, however it ended: keep what is there; a question without answer goes back into the box.

    gradio calls this for a cancelled answer as well, when another handler has settled it already.
    """
    if written is None:
        return [gr.skip(), None, READY_BOX, *([gr.skip()] * 3)]
    shelf = shelf_from(stored)
    turns = written.final()
    if len(turns) < len(written.turns):
        message = message or written.turns[-1].content
    elif stopped:
        last = turns.pop()
        turns.append(replace(last, note=f"{last.note} · {visitor.text('chat.stopped')}"))
    shelf = shelf.saved(shelf.open.id, turns)
    return [bubbles_of(turns), None, _idle_box(message), *shelf_view(visitor, shelf)]


def undo(visitor: Visitor, bubbles: Bubbles, stored: object) -> View:
    """Take the last question back into the box."""
    shelf = shelf_from(stored)
    turns = turns_of(bubbles)
    asked = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
    question = turns[asked].content if turns else ""
    shelf = shelf.saved(shelf.open.id, turns[:asked])
    return [bubbles_of(turns[:asked]), None, _idle_box(question), *shelf_view(visitor, shelf)]


def arrive(visitor: Visitor, stored: object) -> View:
    """A page was loaded: the conversation that was open last."""
    return _show(visitor, shelf_from(stored))


def start_new(visitor: Visitor, written: Written | None, stored: object) -> View:
    """A new conversation; what was being written is kept."""
    return _show(visitor, _kept(written, stored).started())


def switch_to(visitor: Visitor, written: Written | None, stored: object, identity: str) -> View:
    """Another conversation from the list; what was being written is kept."""
    return _show(visitor, _kept(written, stored).opened(identity))


def rename(visitor: Visitor, stored: object, title: str) -> View:
    """Another title for the open conversation."""
    return [*([gr.skip()] * 3), *shelf_view(visitor, shelf_from(stored).renamed(title))]


def delete_open(visitor: Visitor, written: Written | None, stored: object) -> View:
    """Away with the open conversation."""
    return _show(visitor, _kept(written, stored).without_open())


def export(kind: str, visitor: Visitor, bubbles: Bubbles, stored: object) -> tuple[str, str]:
    """The open conversation as a file: its name and its text."""
    talk = replace(shelf_from(stored).open, turns=tuple(turns_of(bubbles)))
    if not talk.turns:
        raise NothingToSave
    text = as_markdown(talk, visitor.language) if kind == "md" else as_json(talk)
    return file_name(talk, kind), text


def shelf_view(visitor: Visitor, shelf: Shelf) -> list[Any]:
    """The shelf itself, its list and the open title."""
    untitled = visitor.text("chat.untitled")
    choices = [(talk.title or untitled, talk.id) for talk in shelf.conversations]
    return [shelf.to_json(), gr.update(choices=choices, value=shelf.open.id), shelf.open.title]


def _show(visitor: Visitor, shelf: Shelf) -> View:
    return [bubbles_of(shelf.open.turns), None, _idle_box(""), *shelf_view(visitor, shelf)]


def _kept(written: Written | None, stored: object) -> Shelf:
    """The shelf with an answer that was cut short just now."""
    shelf = shelf_from(stored)
    return shelf.saved(shelf.open.id, written.final()) if written else shelf


def _busy_box() -> dict[str, Any]:
    return gr.update(value="", submit_btn=False, stop_btn=True)


def _idle_box(message: str) -> dict[str, Any]:
    return gr.update(value=message, submit_btn=True, stop_btn=False)


def _place(index: int | tuple[int, int] | list[int]) -> int:
    return index if isinstance(index, int) else index[0]
