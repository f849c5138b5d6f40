"""The chat tab's components, drawn."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.errors import Language
from app.models.interface import Registry, Sampling, SamplingDefaults
from app.texts import load_texts
from tabs.chat.pictures import PictureWidgets, draw_pictures
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.conversation import conversation_chatbot
from tabs.shell.model_choice import model_choice
from tabs.shell.page import BROWSER_SECRET, Page


@dataclass(frozen=True)
class ChatWidgets:
    """What the tab's events read and write. `options` in the order of chat.OPTIONS.

    `written` holds the turns as the server last sent them: the browser may lag behind when an answer ends.
    """

    chatbot: gr.Chatbot
    box: gr.Textbox
    pictures: PictureWidgets
    shelf: gr.BrowserState
    written: gr.State
    talks: gr.Radio
    title: gr.Textbox
    options: list[Any]
    new: gr.Button
    save_markdown: gr.Button
    save_json: gr.Button
    delete: gr.Button

    @property
    def answer_view(self) -> list[Any]:
        """What an answer may change: the view, and the pictures that wait."""
        return [*self.view, *self.pictures.shown]

    @property
    def view(self) -> list[Any]:
        """What every event of the tab may change."""
        return [self.chatbot, self.written, self.box, self.shelf, self.talks, self.title]


def draw(page: Page, registry: Registry) -> ChatWidgets:
    """Conversations on the left, the open one in the middle, settings on the right."""
    shelf = gr.BrowserState({}, storage_key="studio-conversations", secret=BROWSER_SECRET)
    with gr.Row(elem_id="chat", equal_height=False):
        with gr.Column(elem_id="chat-side", scale=0, min_width=240):
            new = page.bind(gr.Button(elem_id="chat-new"), value="chat.new")
            talks = page.bind(gr.Radio(elem_id="chat-talks", container=False), label="chat.conversations")
            with gr.Row(elem_id="chat-export"):
                save_markdown = page.bind(gr.Button(size="sm", min_width=0), value="chat.save_markdown")
                save_json = page.bind(gr.Button(size="sm", min_width=0), value="chat.save_json")
                delete = page.bind(gr.Button(size="sm", min_width=0, elem_classes=ASKS_FIRST), value="chat.delete")
        with gr.Column(elem_id="chat-main", scale=1, min_width=0):
            title = _bar(page)
            chatbot, box, pictures = _conversation(page)
        with gr.Column(elem_id="chat-settings", scale=0, min_width=260):
            options = _settings(page, registry)
    return ChatWidgets(
        chatbot,
        box,
        pictures,
        shelf,
        gr.State(),
        talks,
        title,
        options,
        new,
        save_markdown,
        save_json,
        delete,
    )


def _bar(page: Page) -> gr.Textbox:
    with gr.Row(elem_id="chat-bar"):
        side = gr.Button("☰", elem_id="chat-side-switch", min_width=0, size="sm")
        title = page.bind(
            gr.Textbox(elem_id="chat-title", show_label=False, container=False, max_lines=1, max_length=200),
            label="chat.title",
            placeholder="chat.untitled",
        )
        options = page.bind(gr.Button(elem_id="chat-settings-switch", min_width=0, size="sm"), value="chat.settings")
    side.click(None, js="() => window.studio.flip('side')", api_visibility="private")
    options.click(None, js="() => window.studio.flip('settings')", api_visibility="private")
    return title


def _conversation(page: Page) -> tuple[gr.Chatbot, gr.Textbox, PictureWidgets]:
    chatbot = page.bind(
        conversation_chatbot("chatbot", editable="user"),
        label="chat.conversation",
        placeholder="chat.welcome",
        examples=_examples,
    )
    pictures = draw_pictures(page)
    box = page.bind(
        gr.Textbox(
            elem_id="chat-box",
            show_label=False,
            container=False,
            lines=1,
            max_lines=8,
            autofocus=True,
            submit_btn=True,
        ),
        label="chat.message",
        placeholder="chat.placeholder",
    )
    return chatbot, box, pictures


def _examples(language: Language) -> list[dict[str, str]]:
    return [{"text": example} for example in load_texts(language)["chat.examples"]]


def _settings(page: Page, registry: Registry) -> list[Any]:
    usual, length = SamplingDefaults(), Sampling.max_new_tokens
    return [
        model_choice(page, registry),
        page.bind(gr.Textbox(lines=3, max_lines=10), label="chat.system", placeholder="chat.system_placeholder"),
        page.bind(
            gr.Slider(0, 2, usual.temperature, step=0.05),
            label="chat.temperature",
            info="chat.temperature_info",
        ),
        page.bind(gr.Slider(0.05, 1, usual.top_p, step=0.05), label="chat.top_p", info="chat.top_p_info"),
        page.bind(gr.Slider(16, 4096, length, step=16), label="chat.length"),
        page.bind(gr.Textbox(max_lines=1, max_length=20), label="chat.seed", info="chat.seed_info"),
    ]
