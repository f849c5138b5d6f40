"""The knowledge tab's components, drawn."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.errors import Language
from app.knowledge.service import SAMPLES
from app.models.interface import Registry, Sampling
from app.texts import load_texts
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.conversation import conversation_chatbot, question_box
from tabs.shell.model_choice import model_choice
from tabs.shell.page import Page


@dataclass(frozen=True)
class CollectionsView:
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
    rebuild_note: gr.Markdown
    rebuild: gr.Button
    files: gr.HTML
    chosen: gr.Dropdown
    remove: gr.Button
    delete: gr.Button
    timer: gr.Timer


@dataclass(frozen=True)
class QuestionView:
    """Asking, and what comes back."""

    compare: gr.Checkbox
    chatbot: gr.Chatbot
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
    def view(self) -> list[Any]:
        """What an answer changes."""
        return [self.chatbot, self.alone, self.sources, self.box]


def examples(language: Language) -> list[dict[str, str]]:
    """Questions that the sample documents answer."""
    return [{"text": question} for question in load_texts(language)["knowledge.examples"]]


def draw(page: Page, registry: Registry) -> tuple[CollectionsView, QuestionView]:
    """Documents on the left, the talk in the middle, its sources on the right."""
    collection = page.bind(
        gr.Dropdown([SAMPLES], value=SAMPLES, elem_id="knowledge-collection", container=False, render=False),
        label="knowledge.collection",
    )
    with gr.Row(elem_id="knowledge", equal_height=False):
        with gr.Column(elem_id="knowledge-side", scale=0, min_width=260):
            shelf = _draw_shelf(page, collection)
        with gr.Column(elem_id="knowledge-main", scale=1, min_width=0):
            compare, chatbot, beside, alone, box, clear = _draw_talk(page, collection)
        with gr.Column(elem_id="knowledge-right", scale=0, min_width=300):
            page.bind(gr.Markdown(elem_classes="knowledge-title"), value="knowledge.sources")
            sources = page.bind(gr.HTML(elem_id="knowledge-sources", padding=False), value="knowledge.sources_hint")
            with page.bind(gr.Accordion(open=False, elem_id="knowledge-settings"), label="knowledge.settings"):
                model = model_choice(page, registry)
                only = page.bind(
                    gr.Dropdown([], multiselect=True, elem_id="knowledge-only"),
                    label="knowledge.only",
                    info="knowledge.only_info",
                )
                k = page.bind(gr.Slider(1, 20, 5, step=1), label="knowledge.k", info="knowledge.k_info")
                temperature = page.bind(
                    gr.Slider(0, 1.5, Sampling.temperature, step=0.05),
                    label="chat.temperature",
                    info="chat.temperature_info",
                )
    return shelf, QuestionView(compare, chatbot, beside, alone, box, clear, sources, model, only, k, temperature)


def _draw_shelf(page: Page, collection: gr.Dropdown) -> CollectionsView:
    new = page.bind(
        gr.Textbox(elem_id="knowledge-new", max_length=60, max_lines=1, submit_btn=True),
        label="knowledge.new",
        placeholder="knowledge.new_hint",
    )
    with gr.Column(visible=False, elem_id="knowledge-own") as own:
        drop = page.bind(gr.File(file_count="multiple", elem_id="knowledge-drop", height=120), label="knowledge.drop")
        folder = page.bind(
            gr.Textbox(elem_id="knowledge-folder", max_lines=1, submit_btn=True, visible=False),
            label="knowledge.folder",
            placeholder="knowledge.folder_hint",
        )
        shared = page.bind(gr.Checkbox(False, visible=False), label="knowledge.shared", info="knowledge.shared_info")
    progress = gr.HTML(elem_id="knowledge-progress", padding=False)
    stop = page.bind(gr.Button(size="sm", visible=False, elem_id="knowledge-stop"), value="knowledge.stop")
    go_on = page.bind(gr.Button(size="sm", visible=False), value="knowledge.go_on")
    rebuild_note = gr.Markdown(visible=False)
    rebuild = page.bind(gr.Button(size="sm", visible=False), value="knowledge.rebuild")
    files = gr.HTML(elem_id="knowledge-files", padding=False)
    chosen = page.bind(gr.Dropdown([], multiselect=True, visible=False), label="knowledge.chosen")
    remove = page.bind(gr.Button(size="sm", visible=False), value="knowledge.remove")
    delete = page.bind(
        gr.Button(size="sm", visible=False, elem_id="knowledge-delete", elem_classes=ASKS_FIRST),
        value="knowledge.delete",
    )
    return CollectionsView(
        collection,
        new,
        own,
        shared,
        drop,
        folder,
        progress,
        stop,
        go_on,
        rebuild_note,
        rebuild,
        files,
        chosen,
        remove,
        delete,
        gr.Timer(1.0, active=False),
    )


def _draw_talk(
    page: Page, collection: gr.Dropdown
) -> tuple[gr.Checkbox, gr.Chatbot, gr.Column, gr.Chatbot, gr.Textbox, gr.Button]:
    with gr.Row(elem_id="knowledge-bar"):
        collection.render()
        compare = page.bind(gr.Checkbox(False, elem_id="knowledge-compare", container=False), label="knowledge.compare")
        clear = page.bind(gr.Button(size="sm", min_width=0, elem_id="knowledge-clear"), value="knowledge.clear")
    with gr.Row(elem_id="knowledge-talk"):
        with gr.Column(scale=1, min_width=0, elem_classes="knowledge-column"):
            chatbot = page.bind(
                conversation_chatbot("knowledge-chat", elem_classes="knowledge-chat"),
                label="knowledge.with_documents",
                placeholder="knowledge.welcome",
                examples=examples,
            )
        with gr.Column(scale=1, min_width=0, visible=False, elem_classes="knowledge-column") as beside:
            alone = page.bind(
                conversation_chatbot("knowledge-alone", elem_classes="knowledge-chat"),
                label="knowledge.alone",
                placeholder="knowledge.alone_hint",
            )
    box = page.bind(
        question_box("knowledge-box"),
        label="knowledge.question",
        placeholder="knowledge.placeholder",
    )
    return compare, chatbot, beside, alone, box, clear
