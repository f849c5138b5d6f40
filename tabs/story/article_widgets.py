"""Widgets of the illustrated article."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.errors import Language, StudioError
from app.models.interface import Registry
from app.texts import sentence
from tabs.shell.confirmation import ASKS_FIRST
from tabs.shell.page import Page, Visitor
from tabs.story.view import CLICKS


@dataclass(frozen=True)
class ArticleWidgets:
    """What the article's events read and write. `swapping` while the figure to swap with is being chosen."""

    upload: gr.UploadButton
    start: gr.Button
    stop: gr.Button
    empty: gr.Button
    vision_model: gr.Dropdown
    bar: gr.Row
    exports: list[gr.Button]
    status: gr.HTML
    magazine: gr.HTML
    tools: gr.Column
    choices: gr.HTML
    better: gr.Button
    swap: gr.Button
    remove: gr.Button
    caption: gr.Textbox
    keep: gr.Button
    chosen: gr.State
    swapping: gr.State

    @property
    def view(self) -> list[Any]:
        """What every event that changes the article may change."""
        return [self.status, self.start, self.stop, *self.text]

    @property
    def text(self) -> list[Any]:
        """What shows the article itself and what is chosen in it."""
        return [self.magazine, self.choices, self.tools, self.caption, self.chosen, self.swapping, self.bar]


def draw(page: Page, registry: Registry) -> ArticleWidgets:
    """Buttons, the magazine, and what can be done with a chosen figure."""
    look: dict[str, Any] = {"size": "sm", "min_width": 0}
    with gr.Column(elem_id="article"):
        page.bind(gr.Markdown(elem_id="article-title"), value=_title)
        with gr.Row(elem_classes="story-buttons"):
            upload = page.bind(
                gr.UploadButton(file_count="multiple", file_types=["image"], elem_id="article-upload", **look),
                label="story.upload",
            )
            start = page.bind(gr.Button(elem_id="article-start", **look), value="story.illustrate")
            stop = page.bind(gr.Button(visible=False, elem_id="article-stop", **look), value="story.stop")
            empty = page.bind(
                gr.Button(elem_id="article-empty", elem_classes=ASKS_FIRST, **look), value="story.empty_album"
            )
        with page.bind(gr.Accordion(open=False, elem_id="article-more"), label="story.more"):
            vision_model = _vision_choice(page, registry)
        status = gr.HTML(elem_id="article-status")
        magazine = gr.HTML(elem_id="article-paper", js_on_load=CLICKS)
        tools, choices, (better, swap, remove), caption, keep = _tools(page, look)
        with gr.Row(elem_classes="story-buttons", elem_id="article-bar", visible=False) as bar:
            exports = [gr.Button(name, elem_id=f"article-{name.lower()}", **look) for name in ("Markdown", "Word")]
            exports.append(page.bind(gr.Button(elem_id="article-zip", **look), value="story.zip"))
    return ArticleWidgets(
        upload, start, stop, empty, vision_model, bar, exports, status, magazine, tools, choices, better, swap, remove,
        caption, keep, gr.State(), gr.State(False),
    )  # fmt: skip


def _tools(page: Page, look: dict[str, Any]) -> tuple[gr.Column, gr.HTML, list[gr.Button], gr.Textbox, gr.Button]:
    with gr.Column(visible=False, elem_id="article-tools") as tools:
        choices = gr.HTML(js_on_load=CLICKS, elem_id="article-choices")
        with gr.Row(elem_classes="story-buttons"):
            buttons = [
                page.bind(gr.Button(elem_id=f"article-{name}", **look), value=f"story.{text}")
                for name, text in (("next", "next_best"), ("swap", "swap"), ("remove", "remove_picture"))
            ]
        caption = page.bind(gr.Textbox(max_lines=2, elem_id="article-caption"), label="story.caption")
        keep = page.bind(gr.Button(elem_id="article-keep", size="sm"), value="story.keep_caption")
    return tools, choices, buttons, caption, keep


def _vision_choice(page: Page, registry: Registry) -> gr.Dropdown:
    """Models that see, off at first; any hub repository or folder can be typed as well."""

    drawn = gr.Dropdown([], value="", allow_custom_value=True, elem_id="article-vision")
    dropdown = page.bind(drawn, label="story.vision_model", info="story.vision_model_info")

    def refresh(visitor: Visitor) -> dict[str, Any]:
        known = seeing(registry.for_visitor(visitor.name))
        return gr.update(choices=[(visitor.text("story.no_vision_model"), ""), *((name, name) for name in known)])

    page.on_arrival(refresh, [], [dropdown])
    page.on(dropdown.focus, refresh, [], [dropdown])
    return dropdown


def seeing(registry: Registry) -> list[str]:
    """The models of the list that take pictures."""

    def is_multimodal(name: str) -> bool:
        try:
            return bool(registry.is_multimodal(name))
        except StudioError:  # it has just gone from the list
            return False

    return [name for name in registry.names() if is_multimodal(name)]


def _title(language: Language) -> str:
    return f"### {sentence(language, 'story.article')}\n{sentence(language, 'story.article_info')}"
