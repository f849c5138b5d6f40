"""Merge, quantise and measure a trained run: the button, the table, and the `/finish` endpoint."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.errors import StudioError
from app.finetune.finishing import KINDS, Row
from app.finetune.runs import Run
from app.finetune.service import FinetuneService
from tabs.shell.page import Page, Visitor
from tabs.shell.tables import table_html
from tabs.tuning.run_view import show as show_run
from tabs.tuning.training_widgets import Watch

LOOK_SECONDS = 1.0
LOST = 0.5  # of the share of questions that were answered with the name
FIGURES = ("memory", "speed", "name", "retention", "drift")


class NotFinished(StudioError):
    zh = "没有完成：{reason}"
    en = "Not done: {reason}"


@dataclass(frozen=True)
class Shown:
    """What of a run's table stands on the page."""

    run_id: str
    language: str
    finishing: bool
    ready: bool
    note: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class FinishingPanel:
    """`shown` is what stands on the page."""

    start: gr.Button
    stop: gr.Button
    table: gr.HTML
    shown: gr.State

    @property
    def view(self) -> list[Any]:
        """What a new row changes."""
        return [self.start, self.stop, self.table, self.shown]


def build(page: Page, service: FinetuneService, watch: Watch, shown: Sequence[Dependency]) -> FinishingPanel:
    """Draw the panel, wire it, publish `/finish`. After each event in `shown` the run may look otherwise."""
    with page.bind(gr.Accordion(open=True, elem_id="finishing"), label="compare.finishing"):
        table = gr.HTML(elem_id="finished")
        with gr.Row():
            start = page.bind(
                gr.Button(visible=False, size="sm", scale=0, min_width=260, elem_id="finish"), value="compare.finish"
            )
            stop = page.bind(
                gr.Button(visible=False, size="sm", scale=0, min_width=120, elem_id="finish-stop"),
                value="compare.finish_stop",
            )
        page.bind(gr.Markdown(elem_classes="compare-measure"), value="compare.finish_measure")
    panel = FinishingPanel(start, stop, table, gr.State())
    inputs = [watch.runs, panel.shown]
    for event in shown:
        page.on(event.success, partial(show, service, panel), inputs, panel.view)
    for button, handler in ((start, begin), (stop, leave)):
        done = page.on(button.click, partial(handler, service, panel), inputs, panel.view)
        # which sets the clock going
        page.on(done.success, partial(show_run, service, watch), watch.chosen, watch.view)
    page.api(partial(finish, service), "finish")
    return panel


def finish(service: FinetuneService, visitor: Visitor, run: str) -> Iterator[list[dict[str, Any]]]:
    """Merge, quantise, load and measure a run, named as `/finetune` gives it; each value is the rows so far."""
    service.finish(visitor.name, run)
    while True:
        known = service.get(visitor.name, run)
        yield [row.as_dict() for row in service.finished(visitor.name, run)]
        if not known.finishing:
            break
        time.sleep(LOOK_SECONDS)
    if known.finishing_reason:
        raise NotFinished(reason=known.finishing_reason)


def begin(
    service: FinetuneService, panel: FinishingPanel, visitor: Visitor, run_id: str | None, shown: Shown | None
) -> Any:
    """Merge, quantise, load and measure the chosen run."""
    service.finish(visitor.name, run_id or "")
    return show(service, panel, visitor, run_id, shown)


def leave(
    service: FinetuneService, panel: FinishingPanel, visitor: Visitor, run_id: str | None, shown: Shown | None
) -> Any:
    """Leave off; the rows that are known stay."""
    service.stop_finishing(visitor.name, run_id or "")
    return show(service, panel, visitor, run_id, shown)


def show(
    service: FinetuneService, panel: FinishingPanel, visitor: Visitor, run_id: str | None, shown: Shown | None
) -> Any:
    """The table of one run as far as it is known; what is drawn stays while nothing happens."""
    run = next((run for run in service.runs(visitor.name) if run.id == run_id), None)
    if run is None:
        return {
            panel.start: gr.update(visible=False),
            panel.stop: gr.update(visible=False),
            panel.table: f"<p>{escape(visitor.text('compare.finish_empty'))}</p>",
            panel.shown: None,
        }
    rows = service.finished(visitor.name, run.id)
    ready = bool(run.chosen) and not run.is_under_way
    note = _note(visitor, run, len(rows), measured=service.is_measured_now(run), ready=ready)
    now = Shown(run.id, visitor.language, run.finishing, ready, note, tuple(rows))
    if shown == now:
        return gr.skip()
    return {
        panel.start: gr.update(visible=ready and not run.finishing),
        panel.stop: gr.update(visible=run.finishing),
        panel.table: f"<p>{escape(note)}</p>{measured_html(visitor, rows)}" if note else measured_html(visitor, rows),
        panel.shown: now,
    }


def _note(visitor: Visitor, run: Run, done: int, *, measured: bool, ready: bool) -> str:
    """Where it stands; nothing once the table is whole."""
    if run.finishing and not measured:
        return visitor.text("compare.finish_waits")
    if run.finishing:
        step = visitor.text(f"compare.finish_steps.{KINDS[min(done, len(KINDS) - 1)]}")
        return visitor.text("compare.finish_now", step=step, done=done, total=len(KINDS))
    if run.finishing_reason:
        return visitor.text("compare.not_finished", reason=run.finishing_reason)
    return "" if ready or done else visitor.text("compare.finish_empty")


def measured_html(visitor: Visitor, rows: Sequence[Row]) -> str:
    """One line a model; under it why a figure is missing, or what to do about it."""
    if not rows:
        return ""
    titles = [visitor.text(f"compare.figures.{key}") for key in ("model", *FIGURES)]
    return table_html(titles, [_line(visitor, row, _advice(visitor, row, rows)) for row in rows])


def _line(visitor: Visitor, row: Row, advice: str) -> str:
    kind = escape(visitor.text(f"compare.finished.{row.kind}"))
    drift = visitor.text("compare.finish_reference") if row.kind == "adapter" else _figure(row.drift, "{:.3f}")
    cells = [
        _figure(row.memory_mib, "{} MiB"),
        _figure(row.tokens_per_s, "{:.1f}"),
        _figure(row.identity, "{:.0%}"),
        _figure(row.retention, "{:.0%}"),
        escape(drift),
    ]
    line = f"<tr><th>{kind}<code>{escape(row.model)}</code></th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    told = row.reason or advice
    why = escape(told).replace("\n", "<br>")
    return line + (f'<tr class="why"><td colspan="{len(cells) + 1}"><span>{why}</span></td></tr>' if told else "")


def _advice(visitor: Visitor, row: Row, rows: Sequence[Row]) -> str:
    """About a model that has lost at 4 bits the name that it knew."""
    known = {other.kind: other for other in rows}
    merged, apart = known.get("merged", row), known.get("adapter_4bit", row)
    if row.kind not in ("quantised", "q4_k_m") or row.identity is None or merged.identity is None:
        return ""
    lost = merged.identity - row.identity > LOST and apart.identity is not None
    return visitor.text("compare.finish_rounded", name=apart.model) if lost else ""


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
