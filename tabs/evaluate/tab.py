"""Evaluation page: run tasks on several models, results as tables; the endpoint `/evaluate`."""

from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from app.errors import BadInput
from app.evaluate.service import EvaluationProgress, EvaluationService, Row
from app.evaluate.tasks import Task, find_task, read_task
from app.models.interface import Registry
from tabs.evaluate.results import results_html
from tabs.evaluate.widgets import EvaluateWidgets, draw, task_label
from tabs.shell.generators import View
from tabs.shell.page import Page, Visitor


def build(page: Page, service: EvaluationService, registry: Registry) -> None:
    """Draw the tab, wire it, publish `/evaluate`."""
    widgets = draw(page, registry)
    _wire(page, service, widgets)
    page.api(partial(evaluate, service), "evaluate")


def evaluate(
    service: EvaluationService, visitor: Visitor, models: list[str], tasks: list[str]
) -> Iterator[list[dict[str, Any]]]:
    """Ask each model the questions of each task (names of those that ship); each value is the rows so far."""
    rows: list[Row] = []
    chosen = [find_task(name, files=False) for name in _names(tasks)]
    for progress in service.run(_names(models), chosen, visitor.name):
        rows += [progress.row] if progress.row else []
        yield [
            {"model": row.model, "task": row.task, "right": row.right, "count": row.count, "seconds": row.seconds}
            for row in rows
        ]


def _names(given: object) -> list[str]:
    """Names as programs give them: a list, one alone, or nothing."""
    several = given if isinstance(given, list | tuple) else [given]
    return [name for name in several if isinstance(name, str) and name.strip()]


def _wire(page: Page, service: EvaluationService, widgets: EvaluateWidgets) -> None:
    inputs = [widgets.models, widgets.tasks, widgets.own_file]
    how_much = partial(say_how_much, service), inputs, [widgets.amount]
    page.keep_upload(widgets.own_file)
    page.on(widgets.start.click, partial(_busy, widgets), [], widgets.buttons)
    running = page.on(widgets.start.click, partial(run, service, widgets), inputs, widgets.view)
    page.on(widgets.stop.click, partial(stopped, widgets), [], [widgets.progress, *widgets.buttons], cancels=[running])
    for end in (running.success, running.failure):
        page.on(end, partial(_idle, widgets), [], widgets.buttons)
        page.on(end, *how_much)
    page.on(widgets.runs.input, partial(show, service, widgets), [widgets.runs], [widgets.results])
    page.on_arrival(partial(show_newest, service, widgets), [], widgets.view)
    page.on_arrival(*how_much)
    for changed in (widgets.models.change, widgets.tasks.change, widgets.own_file.change):
        page.on(changed, *how_much)


def run(
    service: EvaluationService,
    widgets: EvaluateWidgets,
    visitor: Visitor,
    models: list[str],
    tasks: list[str],
    own_file: str | None,
) -> Iterator[View]:
    """The button was pressed: progress while it runs, a row whenever a model has finished a task."""
    for progress in service.run(models, _chosen(tasks, own_file), visitor.name):
        view: View = {widgets.progress: _progress_html(visitor, progress)}
        if progress.row is not None:
            view |= show_newest(service, widgets, visitor)
        yield view
    yield {widgets.progress: _told(visitor, "finished")}


def say_how_much(
    service: EvaluationService, visitor: Visitor, models: list[str], tasks: list[str], own_file: str | None
) -> str:
    """How many questions are to be asked, and how long that would take."""
    try:
        chosen = _chosen(tasks, own_file)
    except BadInput as error:
        return error.text(visitor.language)
    count = len(models) * sum(len(task.items) for task in chosen)
    seconds = service.seconds_expected(visitor.name, models, chosen)
    if not count:
        return ""
    if seconds is None:
        return visitor.text("evaluate.amount", count=count, models=len(models))
    return visitor.text("evaluate.amount_and_time", count=count, models=len(models), seconds=max(1, round(seconds)))


def _chosen(tasks: list[str], own_file: str | None) -> list[Task]:
    chosen = [find_task(name, files=False) for name in tasks]
    return [*chosen, read_task(Path(own_file))] if own_file else chosen


def stopped(widgets: EvaluateWidgets, visitor: Visitor) -> View:
    """What was finished is kept; the run itself was cancelled by the event."""
    return {widgets.progress: _told(visitor, "stopped")} | _idle(widgets, visitor)


def show_newest(service: EvaluationService, widgets: EvaluateWidgets, visitor: Visitor) -> View:
    """The list of runs with the newest one chosen and shown; where there is none, what to do for a first one."""
    known = service.runs(visitor.name)
    told = {} if known else {widgets.progress: _told(visitor, "empty")}
    return told | {widgets.runs: _runs(known, known[:1])} | show(service, widgets, visitor, known[:1])


def show(service: EvaluationService, widgets: EvaluateWidgets, visitor: Visitor, run_ids: list[str]) -> View:
    """Figures and answers of these runs together."""
    found = [made for run_id in run_ids if (made := service.read(visitor.name, run_id))]
    return {widgets.results: results_html(visitor, found)}


def _told(visitor: Visitor, key: str) -> str:
    return f"<p>{escape(visitor.text(f'evaluate.{key}'))}</p>"


def _progress_html(visitor: Visitor, progress: EvaluationProgress) -> str:
    names = {"model": progress.model, "task": task_label(visitor.language, progress.task)}
    counts = {"done": progress.done, "total": progress.total, "right": progress.right}
    share = 100 * progress.done / max(1, progress.total)
    told = escape(visitor.text("evaluate.progress", **names, **counts))
    if (left := progress.seconds_left) is not None:
        told += escape(visitor.text("evaluate.left", seconds=max(1, round(left))))
    return f'<p>{told}</p><div class="bar"><i style="width:{share:.0f}%"></i></div>'


def _runs(known: list[str], chosen: list[str]) -> dict[str, Any]:
    labelled = [
        (f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]} {run_id[9:11]}:{run_id[11:13]}", run_id) for run_id in known
    ]
    return gr.update(choices=labelled, value=chosen, visible=bool(known))


def _busy(widgets: EvaluateWidgets, _visitor: Visitor) -> View:
    return {widgets.start: gr.update(visible=False), widgets.stop: gr.update(visible=True)}


def _idle(widgets: EvaluateWidgets, _visitor: Visitor) -> View:
    return {widgets.start: gr.update(visible=True), widgets.stop: gr.update(visible=False)}
