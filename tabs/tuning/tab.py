"""Tune and compare page: training, comparison and judging panels."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app.finetune.comparing import CompareService
from app.finetune.service import FinetuneService
from app.models.interface import Registry
from tabs.shell.generators import View
from tabs.shell.page import Page, Visitor
from tabs.tuning import comparison, finishing, judging, run_view, training
from tabs.tuning.comparison_widgets import ComparisonView
from tabs.tuning.training_widgets import Watch


@dataclass(frozen=True)
class RunPanels:
    """All that shows one run."""

    watch: Watch
    board: ComparisonView
    judgements: judging.JudgingPanel
    finished: finishing.FinishingPanel

    @property
    def chosen(self) -> list[Any]:
        """Which run, and how much of it is on the page."""
        return [*self.watch.chosen, self.judgements.shown, self.finished.shown]

    @property
    def view(self) -> list[Any]:
        """Everything that follows the run."""
        board = [self.board.left, self.board.right]
        return [*self.watch.view, *self.judgements.view, *board, *self.finished.view]


def build(page: Page, trainer: FinetuneService, service: CompareService, registry: Registry) -> None:
    """Draw both halves; the second follows the run that is chosen in the first."""
    with gr.Tabs(elem_id="compare-parts"):
        with page.bind(gr.Tab("", id="train", elem_id="compare-train"), label="compare.train"):
            watch, shown = training.build(page, trainer)
        with page.bind(gr.Tab("", id="side", elem_id="compare-side"), label="compare.side_by_side"):
            board, judgements = comparison.build(page, service, trainer, registry, watch, shown)
            finished = finishing.build(page, trainer, watch, shown)
    panels = RunPanels(watch, board, judgements, finished)
    page.on_arrival(partial(arrive, trainer, panels), panels.chosen, panels.view)


def arrive(
    trainer: FinetuneService,
    panels: RunPanels,
    visitor: Visitor,
    run_id: str | None,
    shown: run_view.Shown | None,
    judged: judging.Shown | None,
    finished: finishing.Shown | None,
) -> View:
    """The newest run of whoever the browser says it is, or the one that is shown already."""
    watch = _view(run_view.show(trainer, panels.watch, visitor, run_id, shown))
    now = watch.get(panels.watch.shown, shown)
    chosen = now.run_id if now else None
    judgements = judging.show_judgements(trainer, panels.board, panels.judgements, visitor, chosen, judged)
    return watch | judgements | _view(finishing.show(trainer, panels.finished, visitor, chosen, finished))


def _view(result: Any) -> View:
    """Nothing where all stays as it is."""
    return {} if result == gr.skip() else result
