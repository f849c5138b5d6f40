"""Widgets of the evaluation page."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.errors import Language
from app.evaluate.tasks import find_task, shipped_tasks
from app.models.interface import Registry
from app.texts import load_texts, sentence
from tabs.shell.model_choice import keep_fresh
from tabs.shell.page import Page


@dataclass(frozen=True)
class EvaluateWidgets:
    """What the handlers read and change."""

    models: gr.Dropdown
    tasks: gr.CheckboxGroup
    own_file: gr.File
    start: gr.Button
    stop: gr.Button
    amount: gr.Markdown
    progress: gr.HTML
    runs: gr.Dropdown
    results: gr.HTML

    @property
    def buttons(self) -> list[Any]:
        return [self.start, self.stop]

    @property
    def view(self) -> list[Any]:
        return [self.progress, self.runs, self.results]


def draw(page: Page, registry: Registry) -> EvaluateWidgets:
    """Choices beside the results; above one another on a phone."""
    page.bind(gr.Markdown(), value="evaluate.intro")
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            models = page.bind(
                gr.Dropdown(
                    registry.for_visitor("").names(),
                    value=[registry.default_name],
                    multiselect=True,
                    allow_custom_value=True,
                ),
                label="evaluate.models",
                info="evaluate.models_info",
            )
            keep_fresh(page, registry, models)
            names = list(shipped_tasks())
            tasks = page.bind(gr.CheckboxGroup(names, value=names), label="evaluate.tasks", choices=task_choices)
            own_file = page.bind(
                gr.File(file_types=[".jsonl"], type="filepath", height=150),
                label="evaluate.own_file",
            )
            with gr.Row(elem_id="evaluate-buttons"):
                start = page.bind(gr.Button(variant="primary", elem_id="evaluate-start"), value="evaluate.start")
                stop = page.bind(gr.Button(visible=False, elem_id="evaluate-stop"), value="evaluate.stop")
            amount = gr.Markdown(elem_id="evaluate-amount")
        with gr.Column(scale=2, min_width=320):
            progress = gr.HTML(elem_id="evaluate-progress")
            runs = page.bind(
                gr.Dropdown([], multiselect=True, visible=False),
                label="evaluate.runs",
                info="evaluate.runs_info",
            )
            results = gr.HTML(elem_id="evaluate-results")
    return EvaluateWidgets(models, tasks, own_file, start, stop, amount, progress, runs, results)


def task_choices(language: Language) -> list[tuple[str, str]]:
    """(label with the number of questions, name) of each task that ships."""
    counted = {name: len(find_task(name).items) for name in shipped_tasks()}
    return [
        (sentence(language, "evaluate.task_and_count", task=task_label(language, name), count=count), name)
        for name, count in counted.items()
    ]


def task_label(language: Language, name: str) -> str:
    """What a task is called on the page: one's own by its file's name."""
    labels: Any = load_texts(language)["evaluate.task_labels"]
    return str(labels.get(name, name))
