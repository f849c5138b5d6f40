"""Widgets of the story page."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app.models.interface import Registry
from app.story.paragraphs import ACTIONS
from app.story.request import LONGEST, SHORTEST, TEMPERATURE, USUAL
from tabs.shell.model_choice import model_choice
from tabs.shell.page import Page
from tabs.story.view import CLICKS, welcome

INPUTS = ("premise", "style", "length", "language", "model", "temperature", "seed")


@dataclass(frozen=True)
class Drafting:
    """The button that lets the model fill boxes, and the one in its place while it does."""

    start: gr.Button
    stop: gr.Button
    boxes: list[gr.Textbox]


@dataclass(frozen=True)
class StoryWidgets:
    """What the tab's events read and write. `inputs` in the order of INPUTS; `bible` synopsis, characters, facts.

    `written` holds the draft as the server last sent it: the browser may lag behind when a story is stopped.
    """

    inputs: list[Any]
    bible: list[gr.Textbox]
    outline: gr.Textbox
    paper: gr.HTML
    welcome: gr.HTML
    status: gr.HTML
    names: gr.HTML
    budget: gr.HTML
    note: gr.HTML
    write: gr.Button
    stop: gr.Button
    undo: gr.Button
    clear: gr.Button
    tools: gr.Column
    actions: list[gr.Button]
    wish: gr.Textbox
    edited: gr.Textbox
    keep: gr.Button
    drafting_bible: Drafting
    drafting_outline: Drafting
    exports: list[gr.Button]
    written: gr.State
    chosen: gr.State
    kept: gr.BrowserState

    @property
    def view(self) -> list[Any]:
        """What every event that changes the text may change."""
        text = [self.paper, self.welcome, self.status, self.names]
        buttons = [self.write, self.stop, self.undo, self.clear]
        return [*text, *buttons, self.tools, self.edited, self.written, self.chosen, self.kept]


def draw(page: Page, registry: Registry, kept: gr.BrowserState) -> StoryWidgets:
    """What is wanted on the left, the story in the middle, the bible on the right."""
    with gr.Row(elem_id="story", equal_height=False):
        with gr.Column(elem_id="story-side", scale=0, min_width=260):
            inputs, note = _inputs(page, registry)
            write = page.bind(gr.Button(variant="primary", elem_id="story-write"), value="story.write")
            stop = page.bind(gr.Button(visible=False, elem_id="story-stop"), value="story.stop")
        with gr.Column(elem_id="story-main", scale=1, min_width=0):
            shown = partial(welcome, registry)
            empty = page.bind(gr.HTML(elem_id="story-empty", js_on_load=CLICKS), live=True, value=shown)
            paper = gr.HTML(elem_id="story-paper", js_on_load=CLICKS)
            status, names = gr.HTML(elem_id="story-status"), gr.HTML(elem_id="story-warnings")
            tools, actions, wish, edited, keep = _tools(page)
            undo, clear, exports = _bar(page)
        with gr.Column(elem_id="story-bible", scale=0, min_width=280):
            bible, budget = _bible(page)
            drafting_bible = _drafting(page, "bible", bible)
            outline = page.bind(
                gr.Textbox(lines=3, max_lines=12, elem_id="story-outline"),
                label="story.outline",
                info="story.outline_info",
            )
            drafting_outline = _drafting(page, "outline", [outline])
    return StoryWidgets(
        inputs, bible, outline, paper, empty, status, names, budget, note, write, stop, undo, clear, tools, actions,
        wish, edited, keep, drafting_bible, drafting_outline, exports, gr.State(), gr.State(), kept,
    )  # fmt: skip


def _inputs(page: Page, registry: Registry) -> tuple[list[Any], gr.HTML]:
    premise = page.bind(
        gr.Textbox(lines=4, max_lines=12, elem_id="story-premise"),
        label="story.premise",
        placeholder="story.premise_placeholder",
    )
    style = page.bind(gr.Textbox(max_lines=3), label="story.style", placeholder="story.style_placeholder")
    length = page.bind(
        gr.Number(USUAL, precision=0, minimum=SHORTEST, maximum=LONGEST, elem_id="story-length"),
        label="story.length",
        info="story.length_info",
    )
    language = page.bind(
        gr.Dropdown(["auto", "zh", "en"], value="auto"), label="story.language", choices="story.languages"
    )
    model = model_choice(page, registry)
    note = gr.HTML(elem_id="story-note", visible=False)
    with page.bind(gr.Accordion(open=False, elem_id="story-more"), label="story.more"):
        temperature = page.bind(
            gr.Slider(0, 2, TEMPERATURE, step=0.05), label="chat.temperature", info="chat.temperature_info"
        )
        seed = page.bind(gr.Textbox(max_lines=1, max_length=20), label="chat.seed", info="chat.seed_info")
    return [premise, style, length, language, model, temperature, seed], note


def _tools(page: Page) -> tuple[gr.Column, list[gr.Button], gr.Textbox, gr.Textbox, gr.Button]:
    with gr.Column(visible=False, elem_id="story-tools") as tools:
        with gr.Row(elem_classes="story-buttons"):
            actions = [page.bind(gr.Button(size="sm", min_width=0), value=f"story.actions.{name}") for name in ACTIONS]
        wish = page.bind(gr.Textbox(max_lines=2, show_label=False), label="story.wish", placeholder="story.wish")
        edited = page.bind(gr.Textbox(lines=3, max_lines=14, elem_id="story-edited"), label="story.by_hand")
        keep = page.bind(gr.Button(size="sm", elem_id="story-keep"), value="story.keep")
    return tools, actions, wish, edited, keep


def _bar(page: Page) -> tuple[gr.Button, gr.Button, list[gr.Button]]:
    with gr.Row(elem_classes="story-buttons", elem_id="story-bar"):
        undo = page.bind(gr.Button(size="sm", min_width=0, interactive=False, elem_id="story-undo"), value="story.undo")
        exports = [gr.Button("Markdown", size="sm", min_width=0), gr.Button("Word", size="sm", min_width=0)]
        exports.append(page.bind(gr.Button(size="sm", min_width=0), value="story.zip"))
        clear = page.bind(gr.Button(size="sm", min_width=0, elem_id="story-clear"), value="story.clear")
    return undo, clear, exports


def _bible(page: Page) -> tuple[list[gr.Textbox], gr.HTML]:
    page.bind(gr.Markdown(elem_id="story-bible-title"), value="story.bible")
    boxes = []
    for name, lines in (("synopsis", 3), ("characters", 4), ("facts", 3)):
        box = gr.Textbox(lines=lines, max_lines=12, elem_id=f"story-{name}")
        boxes.append(page.bind(box, label=f"story.{name}", placeholder=f"story.{name}_placeholder"))
    return boxes, gr.HTML(elem_id="story-budget")


def _drafting(page: Page, what: str, boxes: list[gr.Textbox]) -> Drafting:
    start = page.bind(gr.Button(size="sm", elem_id=f"story-draft-{what}"), value=f"story.draft_{what}")
    stop = page.bind(gr.Button(size="sm", visible=False, elem_id=f"story-stop-{what}"), value="story.stop")
    return Drafting(start, stop, boxes)
