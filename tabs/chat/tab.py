"""Chat page: wiring of answers and conversations, and the endpoint `/chat`."""

import json
from collections.abc import Iterator
from functools import partial

import gradio as gr
from gradio.events import Dependency

from app.chat.request import chat_request
from app.chat.service import ChatService
from app.knowledge.service import KnowledgeService
from app.models.interface import Registry
from tabs.chat.answers import Answerer
from tabs.chat.documents import Documents
from tabs.chat.history import follow_model, name_by_model, name_model, show, show_first, use_preset
from tabs.chat.pictures import wire_pictures
from tabs.chat.widgets import DRAWN_RANGES, ChatWidgets, draw
from tabs.shell.page import Page, Visitor


def build(page: Page, service: ChatService, registry: Registry, knowledge: KnowledgeService | None = None) -> None:
    """Draw the tab, wire it, publish `/chat`. With `knowledge` a conversation may have documents."""
    widgets = draw(page, registry, with_documents=knowledge is not None)
    documents = Documents(knowledge, widgets.documents) if knowledge and widgets.documents else None
    if documents is not None:
        documents.wire(page, widgets.kept, widgets.listed)
    answers = _wire_answers(page, service, widgets, documents)
    wire_pictures(page, registry, widgets.pictures, widgets.options.model)
    _wire_conversations(page, service, widgets, documents, answers)
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


def _wire_answers(
    page: Page, service: ChatService, widgets: ChatWidgets, documents: Documents | None
) -> list[Dependency]:
    answerer = Answerer(service, widgets, documents)
    chatbot, box, album = widgets.chatbot, widgets.box, widgets.pictures.album
    inputs = [widgets.kept, album, widgets.drawn, *widgets.options.by_name.values()]
    view = widgets.answer_view
    answers = [
        page.on(box.submit, answerer.send, [box, *inputs], view),
        page.on(chatbot.example_select, answerer.send_example, inputs, view),
        page.on(chatbot.retry, answerer.retry, inputs, view),
        page.on(widgets.retry.click, answerer.retry, inputs, view),
        page.on(chatbot.edit, answerer.edit, inputs, view),
        page.on(widgets.go_on.click, answerer.go_on, inputs, view),
    ]
    page.on(box.stop, answerer.stop, [widgets.answering, box, album], view, cancels=answers)
    page.on(chatbot.undo, answerer.undo, [widgets.kept, album], view)
    return answers


def _wire_conversations(
    page: Page, service: ChatService, widgets: ChatWidgets, documents: Documents | None, answers: list[Dependency]
) -> None:
    """Opening one goes through the server; naming, settings and deletion are the browser's alone."""
    registry = service.registry
    view = [*widgets.view, *(documents.widgets.shown if documents else ())]
    opened = partial(show, registry, widgets, documents)
    page.on(widgets.listed.select, opened, [widgets.answering], view, cancels=answers)
    browser = "window.studio.conversations"
    for event in (widgets.title.submit, widgets.title.blur):
        rename = f"(title) => {browser}.rename(title)"
        event(None, [widgets.title], [widgets.title], js=rename, api_visibility="private")
    title = gr.JSON(visible=False)
    titled = page.on(widgets.listed.submit, partial(name_by_model, service), [], [title])
    take = f"(found) => {browser}.titled(found)"
    titled.success(None, [title], None, js=take, api_visibility="private")
    options = widgets.options.by_name
    store = f"(...values) => {{ {browser}.settings({json.dumps(list(options))}, values); }}"
    for option in options.values():
        option.change(None, list(options.values()), None, js=store, api_visibility="private")
    page.blocks.load(None, list(options.values()), None, js=store, api_visibility="private")
    page.on(widgets.presets.select, partial(use_preset, registry, widgets), [], list(options.values()))
    model = widgets.options.model
    named = [widgets.model_name, widgets.note, widgets.chatbot, widgets.resume, widgets.retry]
    naming = partial(name_model, widgets), [model, widgets.kept, widgets.answering], named
    page.on_arrival(*naming)
    page.on(model.change, *naming)
    sampling = [options[name] for name in DRAWN_RANGES]
    followed = [widgets.drawn, *sampling, widgets.options.thinking]
    following = partial(follow_model, registry, widgets), [model, widgets.drawn, *sampling], followed
    for changed in (model.change, widgets.settings_switch.click):
        page.on(changed, *following)
    # one event: another for the model's sampling could come later than the sampling that the conversation keeps
    first = partial(show_first, registry, widgets, documents)
    page.on(widgets.listed.input, first, [widgets.answering, *following[1]], list(dict.fromkeys([*view, *followed])))
    adopt = f"(old) => {browser}.adopt(old)"
    page.blocks.load(None, [widgets.legacy], [widgets.legacy], js=adopt, api_visibility="private")
