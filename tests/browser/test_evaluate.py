"""The evaluation tab in a real browser: choose, run, read the table; the page opened again shows it still."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from app.evaluate.service import EvaluationService
from app.models.interface import Message
from app.web import ui
from tests.fakes import FakeModel, FakeRegistry, fake_services

pytestmark = pytest.mark.browser
FONTS = """() => [...new Set([...document.querySelectorAll("#evaluate-results :is(th, td), #evaluate-start")].map(
    (one) => getComputedStyle(one).fontFamily))]"""


def knows_paris(_messages: Sequence[Message]) -> list[str]:
    return ["Paris"]


def run_short_answers(page: Page) -> None:
    """To its end, which tells what the first run took."""
    page.get_by_role("tab", name="Evaluate").click()
    for name in ("Multiple choice, English", "Multiple choice, Chinese", "Short answers, Chinese"):
        page.get_by_label(name).uncheck()
    page.get_by_text("20 questions in all, models: 1").wait_for()
    page.locator("#evaluate-start").click()
    page.get_by_text("Done.", exact=True).wait_for()
    page.get_by_text("models: 1; about").wait_for()


def test_a_run_ends_in_a_table_that_stays(
    serve: Callable[[gr.Blocks], str], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    registry = FakeRegistry(FakeModel("tiny", knows_paris))
    address = serve(ui.build(fake_services(registry, evaluate=EvaluationService(registry, tmp_path))))
    page = open_page(address, locale="en-US")
    run_short_answers(page)
    figures, answers = (page.locator("#evaluate-results .table").nth(place) for place in (0, 1))
    row = figures.locator("tbody tr")
    assert row.locator("th, td").all_inner_texts()[:6] == [
        "tiny",
        "Short answers, English",
        "5%",
        "1% – 24%",
        "–",
        "20",
    ]
    fonts = page.evaluate(FONTS)
    assert len(fonts) == 1, "the table reads as the rest of the page"
    expect(answers.locator("tbody tr")).to_have_count(20)
    expect(answers).to_contain_text("What is the capital of France?")
    page.get_by_label("Only what went wrong").check()
    expect(answers.locator("tbody tr", has_text="What is the capital of France?")).to_be_hidden()
    expect(answers.locator("tbody tr").last).to_be_visible()
    page.reload()
    page.get_by_role("tab", name="Evaluate").click()
    expect(figures).to_contain_text("1% – 24%")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
