"""Components of the knowledge tab."""

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.blocks import Block

from app.errors import Language
from app.knowledge.answer.answering import Question
from app.knowledge.upkeep import SAMPLES
from app.models.interface import Registry
from app.texts import load_texts, sentence
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.conversation import conversation_chatbot, question_box
from tabs.shell.documents import CHOOSE_FILE
from tabs.shell.model_choice import model_choice
from tabs.shell.page import Page

LIST = "window.studio.talks.list(element)"  # assets/talks.js
KEEPER = "window.studio.talks.keep(props, trigger, watch)"


@dataclass(frozen=True)
class CollectionWidgets:
    """Choosing, making and filling collections."""

    collection: gr.Dropdown
    new: gr.Textbox
    own: gr.Column
    shared: gr.Checkbox
    drop: gr.File
    folder: gr.Textbox
    progress: gr.HTML
    stop: gr.Button
    go_on: gr.Button
    embedder: gr.Dropdown
    embed_anew: gr.Button
    files: gr.HTML
    delete: gr.Button
    timer: gr.Timer


@dataclass(frozen=True)
class QuestionWidgets:
    """Asking, and what comes back. Whatever is put into `kept`, the browser stores."""

    compare: gr.Checkbox
    exchanges: gr.State
    kept: gr.HTML
    chatbot: gr.Chatbot
    heading: gr.Markdown
    beside: gr.Column
    alone: gr.Chatbot
    box: gr.Textbox
    clear: gr.Button
    sources: gr.HTML
    model: gr.Dropdown
    only: gr.Dropdown
    k: gr.Slider
    temperature: gr.Slider

    @property
    def answer(self) -> list[Block]:
        """What an answer changes."""
        return [self.exchanges, self.kept, self.chatbot, self.alone, self.sources, self.box]

    @property
    def panes(self) -> list[Block]:
        """What is there only while the model's own answer is shown beside."""
        return [self.beside, self.heading]


def examples(language: Language) -> list[dict[str, str]]:
    """Questions that the sample documents answer."""
    return [{"text": question} for question in load_texts(language)["knowledge.examples"]]


def draw(page: Page, registry: Registry) -> tuple[CollectionWidgets, QuestionWidgets]:
    """Documents on the left, the talk in the middle, its sources on the right."""
    collection = page.bind(
        gr.Dropdown([SAMPLES], value=SAMPLES, elem_id="knowledge-collection", container=False, render=False),
        label="knowledge.collection",
    )
    with gr.Row(elem_id="knowledge", equal_height=False):
        with gr.Column(elem_id="knowledge-side", scale=0, min_width=260):
            page.bind(gr.HTML(elem_id="knowledge-talks", js_on_load=LIST), value=_talks)
            collections = _draw_collections(page, collection)
        with gr.Column(elem_id="knowledge-main", scale=1, min_width=0):
            drawn = _draw_talk(page, collection)
        with gr.Column(elem_id="knowledge-right", scale=0, min_width=300):
            page.bind(gr.Markdown(elem_classes="knowledge-title"), value="knowledge.sources")
            drawn["sources"] = page.bind(gr.HTML(elem_id="knowledge-sources"), value="knowledge.sources_hint")
            with page.bind(gr.Accordion(open=False, elem_id="knowledge-settings"), label="knowledge.settings"):
                drawn |= _draw_settings(page, registry)
    return collections, QuestionWidgets(**drawn)


def _talks(language: Language) -> str:
    title, remove = (escape(sentence(language, f"knowledge.{key}"), quote=True) for key in ("talks", "delete_talk"))
    return f'<nav aria-label="{title}" data-remove="{remove}"><h3>{title}</h3><ul></ul></nav>'


def _draw_settings(page: Page, registry: Registry) -> dict[str, Any]:
    asked = Question("")
    return {
        "model": model_choice(page, registry),
        "only": page.bind(
            gr.Dropdown([], multiselect=True, elem_id="knowledge-only"),
            label="knowledge.only",
            info="knowledge.only_info",
        ),
        "k": page.bind(gr.Slider(1, 20, asked.k, step=1), label="knowledge.k", info="knowledge.k_info"),
        "temperature": page.bind(
            gr.Slider(0, 1.5, asked.sampling.temperature, step=0.05),
            label="chat.temperature",
            info="chat.temperature_info",
        ),
    }


def _draw_collections(page: Page, collection: gr.Dropdown) -> CollectionWidgets:
    drawn: dict[str, Any] = {"collection": collection}
    drawn["new"] = page.bind(
        gr.Textbox(elem_id="knowledge-new", max_length=60, max_lines=1, submit_btn=True),
        label="knowledge.new",
        placeholder="knowledge.new_hint",
    )
    with gr.Column(visible=False, elem_id="knowledge-own") as drawn["own"]:
        drawn["drop"] = page.bind(
            gr.File(file_count="multiple", elem_id="knowledge-drop", height=120), label="knowledge.drop"
        )
        drawn["folder"] = page.bind(
            gr.Textbox(elem_id="knowledge-folder", max_lines=1, submit_btn=True, visible=False),
            label="knowledge.folder",
            placeholder="knowledge.folder_hint",
        )
        drawn["shared"] = page.bind(
            gr.Checkbox(False, visible=False), label="knowledge.shared", info="knowledge.shared_info"
        )
    drawn["progress"] = gr.HTML(elem_id="knowledge-progress")
    drawn["stop"] = _hidden_button(page, "knowledge.stop", elem_id="knowledge-stop")
    drawn["go_on"] = _hidden_button(page, "knowledge.go_on")
    drawn["files"] = gr.HTML(elem_id="knowledge-files", js_on_load=CHOOSE_FILE)
    drawn["embedder"] = page.bind(
        gr.Dropdown([], allow_custom_value=True, visible=False, elem_id="knowledge-embedder"),
        label="knowledge.embedder",
        info="knowledge.embedder_info",
    )
    drawn["embed_anew"] = _hidden_button(page, "knowledge.embed_anew", elem_id="knowledge-embed")
    drawn["delete"] = _hidden_button(page, "knowledge.delete", elem_id="knowledge-delete", elem_classes=ASKS_FIRST)
    return CollectionWidgets(**drawn, timer=gr.Timer(1.0, active=False))


def _hidden_button(page: Page, key: str, **more: Any) -> gr.Button:
    return page.bind(gr.Button(size="sm", visible=False, **more), value=key)


def _draw_talk(page: Page, collection: gr.Dropdown) -> dict[str, Any]:
    kept = gr.HTML(visible="hidden", html_template="", js_on_load=KEEPER)
    drawn: dict[str, Any] = {"exchanges": gr.State([]), "kept": kept}
    with gr.Row(elem_id="knowledge-bar"):
        collection.render()
        drawn["compare"] = page.bind(
            gr.Checkbox(False, elem_id="knowledge-compare", container=False), label="knowledge.compare"
        )
        drawn["clear"] = page.bind(
            gr.Button(size="sm", min_width=0, elem_id="knowledge-clear"), value="knowledge.clear"
        )
    with gr.Row(elem_id="knowledge-talk"):
        with gr.Column(scale=1, min_width=0, elem_classes="knowledge-column"):
            drawn["heading"] = page.bind(
                gr.Markdown(visible=False, elem_classes="knowledge-title"), value="knowledge.with_documents"
            )
            drawn["chatbot"] = page.bind(
                conversation_chatbot("knowledge-chat"),
                label="knowledge.with_documents",
                placeholder="knowledge.welcome",
                examples=examples,
            )
        with gr.Column(scale=1, min_width=0, visible=False, elem_classes="knowledge-column") as drawn["beside"]:
            page.bind(gr.Markdown(elem_classes="knowledge-title"), value="knowledge.alone")
            drawn["alone"] = page.bind(
                conversation_chatbot("knowledge-alone"),
                label="knowledge.alone",
                placeholder="knowledge.alone_hint",
            )
    drawn["box"] = page.bind(
        question_box("knowledge-box"),
        label="knowledge.question",
        placeholder="knowledge.placeholder",
    )
    return drawn
