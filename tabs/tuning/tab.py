"""Tune and compare page: training, comparison and judging panels."""

import gradio as gr

from app.finetune.comparing import CompareService
from app.finetune.service import FinetuneService
from app.models.interface import Registry
from tabs.shell.page import Page
from tabs.tuning import comparison, finishing, training


def build(page: Page, trainer: FinetuneService, service: CompareService, registry: Registry) -> None:
    """Draw both halves; the second follows the run that is chosen in the first."""
    with gr.Tabs(elem_id="compare-parts"):
        with page.bind(gr.Tab("", id="train", elem_id="compare-train"), label="compare.train"):
            watch, shown = training.build(page, trainer)
        with page.bind(gr.Tab("", id="side", elem_id="compare-side"), label="compare.side_by_side"):
            comparison.build(page, service, trainer, registry, watch, shown)
            finishing.build(page, trainer, watch, shown)
