"""Identity and retention of each checkpoint: curves, the checkpoint slider, judging again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.finetune.judging import Judgement
from app.finetune.runs import Run
from app.finetune.service import FinetuneService
from tabs.shell.page import Page, Visitor
from tabs.tuning.charts import over_steps
from tabs.tuning.comparison_widgets import ComparisonView
from tabs.tuning.run_view import show as show_run
from tabs.tuning.training_widgets import Watch


@dataclass(frozen=True)
class Shown:
    """Which run's judgements stand on the page."""

    run_id: str
    language: str
    chosen: int
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True)
class JudgingPanel:
    """Identity against damage. `shown` is what stands on the page."""

    judge: gr.Button
    curves: gr.LinePlot
    slider: gr.Slider
    note: gr.Markdown
    shown: gr.State

    @property
    def view(self) -> list[Any]:
        """What a new judgement changes."""
        return [self.curves, self.slider, self.note, self.judge, self.shown]


def build(
    page: Page, trainer: FinetuneService, board: ComparisonView, watch: Watch, shown: Sequence[Dependency]
) -> JudgingPanel:
    """Draw the panel and wire it. After each event in `shown` the run may look otherwise."""
    judging = draw_judging(page)
    inputs, view = [watch.runs, judging.shown], [*judging.view, board.left, board.right]
    for event in shown:
        page.on(event.success, partial(show_judgements, trainer, board, judging), inputs, view)
    judged = page.on(judging.judge.click, partial(judge, trainer, board, judging), inputs, view)
    # which sets the clock going
    page.on(judged.success, partial(show_run, trainer, watch), watch.chosen, watch.view)
    picked = [watch.runs, judging.slider]
    page.on(judging.slider.release, partial(pick, trainer, board), picked, [board.left, board.right])
    return judging


def draw_judging(page: Page) -> JudgingPanel:
    with page.bind(gr.Accordion(open=True, elem_id="judging"), label="compare.judgement"):
        curves = gr.LinePlot(None, x="step", y="share", color="curve", y_lim=[0, 1.02], height=240, visible=False)
        page.bind(curves, x_title="compare.step", y_title="compare.share", color_title="compare.curves_title")
        slider = page.bind(gr.Slider(0, 1, visible=False), label="compare.checkpoint")
        note = gr.Markdown(elem_id="judging-note")
        judge = page.bind(gr.Button(visible=False, size="sm", elem_id="judge-again"), value="compare.judge")
        page.bind(gr.Markdown(elem_classes="compare-measure"), value="compare.measure")
    return JudgingPanel(judge, curves, slider, note, gr.State())


def judge(
    trainer: FinetuneService,
    board: ComparisonView,
    panel: JudgingPanel,
    visitor: Visitor,
    run_id: str | None,
    shown: Shown | None,
) -> dict[Any, Any]:
    """Judge all checkpoints of the chosen run once more; the curves follow."""
    trainer.judge(visitor.name, run_id or "")
    return show_judgements(trainer, board, panel, visitor, run_id, shown)


def show_judgements(
    trainer: FinetuneService,
    board: ComparisonView,
    panel: JudgingPanel,
    visitor: Visitor,
    run_id: str | None,
    shown: Shown | None,
) -> dict[Any, Any]:
    """What is judged of the run so far; curves and slider stay as they are while nothing new is known.

    A run that has a model now is put beside its base.
    """
    run = next((run for run in trainer.runs(visitor.name) if run.id == run_id), None)
    if run is None:
        hidden = {component: gr.update(visible=False) for component in (panel.curves, panel.slider, panel.judge)}
        return hidden | {panel.note: visitor.text("compare.nothing_judged"), panel.shown: None}
    found = trainer.judgements(visitor.name, run.id)
    total = len(trainer.progress(visitor.name, run.id).checkpoints)
    now = Shown(run.id, visitor.language, run.chosen, tuple(found))
    view: dict[Any, Any] = {
        panel.note: _judging_note(visitor, run, len(found), total),
        panel.judge: gr.update(visible=bool(total) and not run.judging),
        panel.shown: now,
    }
    if shown != now:
        view[panel.curves], view[panel.slider] = _curve(visitor, found), _slider(found)
    if run.chosen and (shown is None or (shown.run_id, shown.chosen) != (run.id, run.chosen)):
        view[board.left], view[board.right] = gr.update(value=run.base), gr.update(value=run.model)
    return view


def _judging_note(visitor: Visitor, run: Run, done: int, total: int) -> str:
    if run.judging:
        return visitor.text("compare.judging", done=done, total=total)
    if run.judging_reason:
        return visitor.text("compare.not_judged", reason=run.judging_reason)
    return "" if done else visitor.text("compare.nothing_judged")


def pick(trainer: FinetuneService, board: ComparisonView, visitor: Visitor, run_id: str, step: float) -> dict[Any, Any]:
    """Compare the base with the checkpoint nearest to the slider."""
    run = trainer.get(visitor.name, run_id)
    steps = trainer.progress(visitor.name, run_id).checkpoints
    nearest = min(steps, key=lambda known: abs(known - step))
    return {board.left: gr.update(value=run.base), board.right: gr.update(value=run.checkpoint_model(nearest))}


def _curve(visitor: Visitor, found: list[Judgement]) -> dict[str, Any]:
    if not found:
        return gr.update(visible=False)
    rows = [(one.step, one.retention, visitor.text("compare.curves.retention")) for one in found]
    rows += [
        (one.step, one.identity, visitor.text("compare.curves.identity")) for one in found if one.identity is not None
    ]
    return over_steps(rows, ("step", "share", "curve"))


def _slider(found: list[Judgement]) -> dict[str, Any]:
    if not found:
        return gr.update(visible=False)
    steps = [one.step for one in found]
    pace = steps[1] - steps[0] if len(steps) > 1 else 1
    # a slider wants room between its ends, even while one checkpoint is judged
    last = max(steps[-1], steps[0] + pace)
    return gr.update(minimum=steps[0], maximum=last, step=pace, value=steps[-1], visible=len(steps) > 1)
