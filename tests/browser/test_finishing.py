"""The button that makes a run ready for others, and its table, in a browser; nothing is measured here."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from app.finetune.comparing import CompareService
from app.finetune.finishing import Row, save_rows
from app.finetune.options import TrainOptions
from app.finetune.runs import Run, new_id
from app.finetune.service import FinetuneService
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.web import ui
from tests.fakes import fake_services

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BASE = "smollm2-135m"
WHOLE = f"merged/{BASE}/nova"
ROWS = (
    Row("base", BASE, 259, 47.9, 0.0, 1.0, 1.204),
    Row("adapter", f"{BASE}+nova", 259, 46.2, 1.0, 0.75),
    Row("merged", WHOLE, 259, 47.5, 1.0, 0.75, 0.002),
    Row("quantised", f"{WHOLE}:4bit", reason="no room <here>"),
)


@pytest.mark.browser
def test_the_button_starts_the_table_follows_and_a_stop_is_heard(
    tmp_path: Path, serve: Callable[..., str], chromium: "Browser"
) -> None:
    registry = ModelRegistry(Placement("cpu", "float32", None, 4096, tmp_path), BASE)
    training = FinetuneService(registry, tmp_path)  # its threads are not started: what waits, waits
    run = Run(new_id(), "nova", BASE, "lin", 1.0, TrainOptions(), rows=1, total=4)
    training.store.create(run, [], {})
    training.store.change(run.id, state="finished", chosen=4)
    services = fake_services(registry, finetune=training, compare=CompareService(registry, tmp_path))
    address = serve(ui.build(services), auth=[("lin", "any")])
    context = chromium.new_context(locale="en-GB")
    context.request.post(f"{address}/login", form={"username": "lin", "password": "any"})
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(address)
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    page.get_by_role("tab", name="Tune & compare").click()
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.locator("#finish").click()
    page.locator("#finished").get_by_text("Waits to be merged and measured").wait_for()
    save_rows(training.store.folder_of(run.id), ROWS)
    page.locator("#finished .why").get_by_text("no room <here>").wait_for()
    rounded, apart = Row("quantised", f"{WHOLE}:4bit", 117, 9.1, 0.0, 1.0, 0.4), f"{BASE}:4bit+nova"
    save_rows(
        training.store.folder_of(run.id), [*ROWS[:3], rounded, Row("adapter_4bit", apart, 117, 9.1, 1.0, 0.8, 0.1)]
    )
    page.locator("#finished .why").get_by_text(apart).wait_for()
    cells = page.locator("#finished tbody tr").nth(2).locator("td")
    expect(cells).to_have_text(["259 MiB", "47.5", "100%", "75%", "0.002"])
    page.locator("#finish-stop").click()
    page.locator("#finish").wait_for()
    assert not training.get("lin", run.id).finishing
    expect(page.locator("#finished tbody tr")).to_have_count(len(ROWS) + 2)
    context.close()
