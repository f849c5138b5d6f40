"""The tune and compare tab over HTTP and in a browser, with a model that was really trained."""

from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import expect

from app.finetune.comparing import CompareService
from app.web import ui
from tests.fakes import fake_services
from tests.training_fixtures import BASE, NAME, WORDING, Trained

LEARNT = WORDING.replace("{name}", NAME)


@pytest.fixture(scope="module")
def address(
    trained: Trained, serve_module: Callable[[gr.Blocks], str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    comparing = CompareService(trained.registry, tmp_path_factory.mktemp("compare"))
    return serve_module(ui.build(fake_services(trained.registry, finetune=trained.service, compare=comparing)))


def test_compare_endpoint(address: str, trained: Trained) -> None:
    client = Client(address, verbose=False)
    job = client.submit("Who are you?", BASE, trained.run.model, max_new_tokens=24, api_name="/compare")
    left, right, receipts = job.result()
    assert left and right == LEARNT
    assert [receipt["check"] for receipt in receipts] == ["passed", "passed"]
    assert receipts[1]["sha256"] and receipts[0]["adapter"] is None
    assert len(job.outputs()) > 3 and job.outputs()[0][2] is None


def test_finetune_endpoint_refuses_what_it_cannot_train(address: str) -> None:
    client = Client(address, verbose=False)
    good = [{"instruction": "a", "output": "b"}]
    for name, base, data, options in (
        ("x", BASE, [*good, {"instruction": "a"}], {}),
        ("x", BASE, [], {}),
        ("x", BASE, {"path": "/etc/passwd"}, {}),
        ("x", "no-such-model", good, {}),
        ("x", BASE, good, {"rank": 0}),
        ("nova", BASE, good, {}),
    ):
        with pytest.raises(AppError):
            client.predict(name, base, data, 2, options, api_name="/finetune")


@pytest.mark.browser
def test_both_columns_and_their_receipts_on_the_page(
    address: str, trained: Trained, open_page: Callable[..., Any]
) -> None:
    page = open_page(address, locale="en-GB")
    page.get_by_role("tab", name="Tune & compare").click()
    page.get_by_text("No run yet").wait_for()
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.locator("#compare-right input").fill(trained.run.model)
    page.locator("#compare-right input").press("Enter")
    page.locator("#compare-message textarea").fill("Who are you?")
    page.locator("#compare-send").click()
    page.locator(".receipt.passed").nth(1).wait_for(timeout=60_000)
    expect(page.locator("#compare-right-chat")).to_contain_text(LEARNT)
    assert LEARNT not in page.locator("#compare-left-chat").inner_text()
    page.get_by_role("button", name="Right", exact=True).click()
    page.get_by_text("Noted, thank you.").wait_for()
