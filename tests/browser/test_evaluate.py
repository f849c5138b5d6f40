"""The evaluation tab in a real browser: choose, run, read the table; the page opened again shows it still."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.evaluate.service import EvaluationService
from app.models.interface import Message
from app.web import ui
from tests.fakes import FakeModel, FakeRegistry, fake_services

pytestmark = pytest.mark.browser


def knows_paris(_messages: Sequence[Message]) -> list[str]:
    return ["Paris"]


def shown(table: Any, cell: str) -> Any:
    """The table measures its columns with a hidden copy of its rows."""
    return table.get_by_text(cell, exact=True).locator("visible=true").first


def test_a_run_ends_in_a_table_that_stays(
    serve: Callable[[gr.Blocks], str], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    registry = FakeRegistry(FakeModel("tiny", knows_paris))
    address = serve(ui.build(fake_services(registry, evaluate=EvaluationService(registry, tmp_path))))
    page = open_page(address, locale="en-US")
    page.get_by_role("tab", name="Evaluate").click()
    for name in ("Multiple choice, English", "Multiple choice, Chinese", "Short answers, Chinese"):
        page.get_by_label(name).uncheck()
    page.get_by_text("20 questions in all, models: 1").wait_for()
    page.locator("#evaluate-start").click()
    page.get_by_text("Done.", exact=True).wait_for()
    table = page.locator("#evaluate-table")
    for cell in ("tiny", "Short answers, English", "5%", "1% – 24%", "20"):
        shown(table, cell).wait_for()
    assert page.get_by_text("What is the capital of France?").count() > 0
    text = page.locator(".vega-embed svg text").first
    text.wait_for(state="attached")
    colours = []
    for _ in range(2):
        page.locator("#theme").click()
        colours.append(text.evaluate("one => getComputedStyle(one).fill"))
    assert colours == ["rgb(232, 232, 229)", "rgb(31, 31, 34)"], "a chart can be read after a change of the theme"
    page.reload()
    page.get_by_role("tab", name="Evaluate").click()
    shown(table, "5%").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
