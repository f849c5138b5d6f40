"""Widgets of the chat page."""

import json
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from app.chat.presets import shipped_presets
from app.errors import Language, StudioError
from app.models.catalog.known_models import PACKAGED
from app.models.interface import Registry, Sampling, SamplingDefaults
from app.texts import load_texts, sentence
from tabs.chat.documents import DocumentWidgets, draw_documents
from tabs.chat.pictures import PictureWidgets, draw_pictures
from tabs.shell.conversation import conversation_chatbot, question_box
from tabs.shell.model_choice import keep_fresh, model_choice, spoken
from tabs.shell.page import BROWSER_SECRET, Page

DRAWN_RANGES: dict[str, tuple[float, float]] = {"temperature": (0, 2), "top_p": (0.05, 1)}
LIST = "window.studio.conversations.draw(element, trigger, watch)"  # assets/conversations.js
PRESETS = "window.studio.presets.draw(element, trigger, watch)"  # assets/presets.js
KEEPER = "window.studio.conversations.keep(props, watch)"


@dataclass(frozen=True)
class Options:
    """The settings of a conversation; its names are those of `chat_request` and of what the browser keeps.
    `compare` is another model that is to answer beside the first."""

    model: gr.Dropdown
    system: gr.Textbox
    temperature: gr.Slider
    top_p: gr.Slider
    max_new_tokens: gr.Slider
    seed: gr.Textbox
    thinking: gr.Checkbox
    compare: gr.Dropdown

    @property
    def by_name(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class ChatWidgets:
    """What the tab's events read and write.

    `listed` tells which conversation is to be shown; whatever is put into `kept`, the browser stores. `answering` is
    the answer that is being written. `drawn` are the sampling values that the page put into the settings.
    """

    listed: gr.HTML
    kept: gr.HTML
    legacy: gr.BrowserState
    answering: gr.State
    title: gr.Textbox
    model_name: gr.HTML
    note: gr.HTML
    chatbot: gr.Chatbot
    resume: gr.Row
    retry: gr.Button
    go_on: gr.Button
    box: gr.Textbox
    pictures: PictureWidgets
    documents: DocumentWidgets | None
    presets: gr.HTML
    options: Options
    drawn: gr.State
    settings_switch: gr.Button

    @property
    def answer_view(self) -> list[Any]:
        """What an answer may change."""
        buttons = [self.resume, self.retry, self.go_on]
        own = [self.kept, self.answering, self.title, self.chatbot, *buttons, self.box, self.options.thinking]
        return [*own, *self.pictures.shown]

    @property
    def view(self) -> list[Any]:
        """What another conversation changes."""
        return list(dict.fromkeys([*self.answer_view, *self.options.by_name.values()]))


def draw(page: Page, registry: Registry, *, with_documents: bool = False) -> ChatWidgets:
    """Conversations on the left, the open one in the middle, settings on the right."""
    with gr.Row(elem_id="chat", equal_height=False):
        with gr.Column(elem_id="chat-side", scale=0, min_width=240):
            page.bind(gr.Button(elem_id="chat-new"), value="chat.new")
            drawn = gr.HTML(elem_id="chat-list", js_on_load=LIST)
            conversations = page.bind(drawn, value=_list)
        with gr.Column(elem_id="chat-main", scale=1, min_width=0):
            title, model_name, settings_switch = _bar(page, registry.default_name)
            parts = _conversation(page, registry, with_documents)
        with gr.Column(elem_id="chat-settings", scale=0, min_width=260):
            drawn = gr.HTML(elem_id="chat-presets", js_on_load=PRESETS)
            presets = page.bind(drawn, value=_presets)
            options = _settings(page, registry)
    return ChatWidgets(
        listed=conversations,
        kept=gr.HTML(visible="hidden", html_template="", js_on_load=KEEPER),
        legacy=gr.BrowserState({}, storage_key="studio-conversations", secret=BROWSER_SECRET),
        answering=gr.State(),
        title=title,
        model_name=model_name,
        presets=presets,
        options=options,
        drawn=gr.State(drawn_values(registry, registry.default_name)),
        settings_switch=settings_switch,
        **parts,
    )


def name_html(model: str) -> str:
    """The model's name over the conversation."""
    return f"<span>{escape(model)}</span>"


def note_html(model: str, language: Language) -> str:
    """A word about the packaged model."""
    return f"<p>{escape(sentence(language, 'chat.small_model', model=model))}</p>" if model.startswith(PACKAGED) else ""


def _list(language: Language) -> str:
    """What assets/conversation_list.js fills: a search, a menu for all, the offer to move in, the conversations."""
    section = "chat.list."
    texts = {key.removeprefix(section): text for key, text in load_texts(language).items() if key.startswith(section)}
    told = {key: escape(str(text)) for key, text in texts.items()}
    return (
        f'<div class="tools"><input type="search" placeholder="{told["search"]}" aria-label="{told["search"]}">'
        f'<button type="button" id="chat-more" class="more" aria-haspopup="menu" aria-label="{told["all"]}">⋯</button>'
        '</div><p class="unseen" role="status"></p><p id="chat-move" hidden><button type="button"></button></p>'
        f'<nav data-texts="{escape(json.dumps(texts, ensure_ascii=False))}"></nav>'
    )


def _presets(language: Language) -> str:
    keys = ["preset", "preset_name", "preset_none", "preset_save", "preset_saved", "presets_shipped", "presets_own"]
    keys += ["presets_manage", "presets_export", "presets_import", "presets_imported", "presets_wrong", "preset_delete"]
    texts = json.dumps({key: load_texts(language)[f"chat.{key}"] for key in keys}, ensure_ascii=False)
    presets = json.dumps(shipped_presets(language), ensure_ascii=False)
    return f'<div data-texts="{escape(texts)}" data-presets="{escape(presets)}"></div>'


def _bar(page: Page, model: str) -> tuple[gr.Textbox, gr.HTML, gr.Button]:
    with gr.Row(elem_id="chat-bar"):
        side = gr.Button("☰", elem_id="chat-side-switch", min_width=0, size="sm")
        title = page.bind(
            gr.Textbox(elem_id="chat-title", show_label=False, container=False, max_lines=1, max_length=200),
            label="chat.title",
            placeholder="chat.untitled",
        )
        model_name = gr.HTML(name_html(model), elem_id="chat-model", js_on_load=None)
        options = page.bind(gr.Button(elem_id="chat-settings-switch", min_width=0, size="sm"), value="chat.settings")
    side.click(None, js="() => window.studio.flip('side')", api_visibility="private")
    options.click(None, js="() => window.studio.flip('settings')", api_visibility="private")
    return title, model_name, options


def _conversation(page: Page, registry: Registry, with_documents: bool) -> dict[str, Any]:
    chatbot = page.bind(
        conversation_chatbot("chatbot", editable="all"),
        label="chat.conversation",
        placeholder="chat.welcome",
        examples=lambda language: examples_for(registry.default_name, language),
        live=True,
    )
    with gr.Row(visible=False, elem_id="chat-resume") as resume:
        retry = page.bind(gr.Button(size="sm", min_width=0, elem_id="chat-retry"), value="chat.retry")
        go_on = page.bind(gr.Button(size="sm", min_width=0, elem_id="chat-go-on"), value="chat.go_on")
    documents = draw_documents(page) if with_documents else None
    pictures = draw_pictures(page, [documents.attach] if documents else [])
    told = partial(note_html, registry.default_name)  # drawn at once, so that nothing moves
    note = page.at_first(gr.HTML(elem_id="chat-note", js_on_load=None), value=told)
    box = page.bind(question_box("chat-box", autofocus=True), label="chat.message", placeholder="chat.placeholder")
    parts = {"chatbot": chatbot, "resume": resume, "retry": retry, "go_on": go_on}
    return parts | {"documents": documents, "pictures": pictures, "note": note, "box": box}


def examples_for(model: str, language: Language) -> list[dict[str, str]]:
    """Examples in the page's language, or in English where the model speaks nothing else."""
    return [{"text": example} for example in load_texts(spoken(model, language))["chat.examples"]]


def drawn_values(registry: Registry, model: str) -> dict[str, float]:
    """What a model samples with where nothing is chosen, as far as the settings show and reach it."""
    try:
        own = registry.sampling_defaults(model)
    except StudioError:  # a name that is only half typed
        own = SamplingDefaults()
    values = {"temperature": own.temperature, "top_p": own.top_p}
    return {name: min(max(values[name], low), high) for name, (low, high) in DRAWN_RANGES.items()}


def can_switch(registry: Registry, model: str) -> bool:
    """Whether the model's reasoning can be switched on and off, as far as is known."""
    try:
        return registry.thinking(model) == "optional"
    except StudioError:  # a name that is only half typed
        return False


def _sampling_slider(name: str, usual: dict[str, float]) -> gr.Slider:
    return gr.Slider(*DRAWN_RANGES[name], usual[name], step=0.05)


def _settings(page: Page, registry: Registry) -> Options:
    usual, length = drawn_values(registry, registry.default_name), Sampling.max_new_tokens
    model = model_choice(page, registry)
    compare = page.bind(gr.Dropdown([], value="", allow_custom_value=True), label="chat.compare")
    keep_fresh(page, registry, compare, "chat.compare_none")
    return Options(
        model=model,
        system=page.bind(gr.Textbox(lines=3, max_lines=10), label="chat.system", placeholder="chat.system_placeholder"),
        temperature=page.bind(
            _sampling_slider("temperature", usual), label="chat.temperature", info="chat.temperature_info"
        ),
        top_p=page.bind(_sampling_slider("top_p", usual), label="chat.top_p", info="chat.top_p_info"),
        max_new_tokens=page.bind(gr.Slider(16, 4096, length, step=16), label="chat.length"),
        seed=page.bind(gr.Textbox(max_lines=1, max_length=20), label="chat.seed", info="chat.seed_info"),
        thinking=page.bind(gr.Checkbox(True, visible=can_switch(registry, registry.default_name)), label="chat.think"),
        compare=compare,
    )
