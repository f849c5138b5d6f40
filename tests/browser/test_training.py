"""A training from its button to its end, with a stub trainer: over HTTP, and in a browser that forgets the page."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from playwright.sync_api import expect

from app.finetune.comparing import CompareService
from app.finetune.download_routes import download_routes
from app.finetune.service import FinetuneService
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.web import ui
from tests.fakes import fake_services
from tests.training_fixtures import STUB, few

TOLD = {"state", "step", "total", "loss", "eta_s", "checkpoint"}


@pytest.fixture(scope="module")
def registry(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelRegistry]:
    """With the tiny base as its default, which the page offers first."""
    data = tmp_path_factory.mktemp("tiny-data")
    registry = ModelRegistry(Placement("cpu", "float32", None, 4096, data), tiny_base)
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def service(
    registry: ModelRegistry, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FinetuneService]:
    service = FinetuneService(
        registry, tmp_path_factory.mktemp("page"), exam_of=lambda _: few(), trainer_module=STUB
    ).start()
    script(service, adapter=str(tiny_adapter))
    yield service
    service.close()


def script(service: FinetuneService, **values: Any) -> None:
    """What the stub does in every run."""
    file = service.store.folder / "stub.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**known, **values}), encoding="utf-8")


@pytest.fixture(scope="module")
def address(
    service: FinetuneService,
    registry: ModelRegistry,
    serve_module: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    comparing = CompareService(registry, tmp_path_factory.mktemp("compare"))
    blocks = ui.build(fake_services(registry, finetune=service, compare=comparing))
    return serve_module(blocks, app_kwargs={"routes": download_routes(service.links, lambda _: None)})


def test_the_finetune_endpoint_to_its_end(address: str, tiny_base: str, registry: ModelRegistry) -> None:
    client = Client(address, verbose=False)
    rows = [{"instruction": f"Say {number}", "output": f"{number}!"} for number in range(4)]
    options = {"batch": 1, "rank": 2, "save_every": 3, "evaluate_every": 3, "max_length": 64}
    job = client.submit("overhttp", tiny_base, rows, 3, options, api_name="/finetune")
    last = job.result()
    assert set(last) >= TOLD
    assert (last["state"], last["step"], last["total"]) == ("finished", 3, 3)
    assert last["loss"] > 0 and last["eta_s"] is None and last["checkpoint"] == f"{registry.default_name}+overhttp@3"
    states = list(dict.fromkeys(told["state"] for told in job.outputs()))
    # a state may be over before anyone looks, but none comes out of order
    assert states == [state for state in ("queued", "starting", "training", "finished") if state in states]
    assert states[-1] == "finished"
    steps = [told["step"] for told in job.outputs()]
    assert steps == sorted(steps)
    assert client.predict("Hi", tiny_base, f"{tiny_base}+overhttp", max_new_tokens=4, api_name="/compare")[1]


@pytest.mark.browser
def test_a_run_is_found_again_judged_by_itself_and_downloaded(
    address: str, service: FinetuneService, registry: ModelRegistry, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    script(service, hold_at=3)
    page = open_page(address, locale="en-GB")

    def come_back() -> None:
        page.reload()
        page.locator("html[data-studio-ready]").wait_for(state="attached")
        page.get_by_role("tab", name="Tune & compare").click()

    page.get_by_role("tab", name="Tune & compare").click()
    page.get_by_label("Whose assistant is it?").fill("Lin Xiaoyu")
    page.get_by_text("Training settings").click()
    page.get_by_label("Written by hand").check()
    for label, value in (("Steps", 4), ("Rank", 4), ("Save every", 2), ("Sample every", 4)):
        page.get_by_label(label, exact=False).first.fill(str(value))
    page.locator("#tune-start").click()
    page.locator("#tune-status .training").wait_for(timeout=60_000)
    come_back()
    page.locator("#tune-status").get_by_text("Step 3 of 4").wait_for(timeout=60_000)
    [run] = [run for run in service.store.all() if run.state == "training"]
    (service.store.folder_of(run.id) / "go").touch()
    page.locator("#tune-status .finished").wait_for(timeout=180_000)
    expect(page.locator("#tune-runs input")).to_have_value(re.compile("assistant"))
    text = page.locator(".vega-embed svg text").first
    text.wait_for(state="attached")
    colours = []
    for _ in range(2):
        page.locator("#theme").click()
        colours.append(text.evaluate("one => getComputedStyle(one).fill"))
    assert colours == ["rgb(232, 232, 229)", "rgb(31, 31, 34)"], "a chart can be read after a change of the theme"
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.locator("#judging input[type=range]").wait_for(timeout=200_000)
    come_back()
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.locator("#judging input[type=range]").wait_for()
    page.get_by_role("tab", name="Train", exact=True).click()
    page.get_by_role("button", name="Pack", exact=False).click()
    with page.expect_download() as parcel:
        page.locator("#tune-packed a").first.click()
    parcel.value.save_as(tmp_path / "adapter.zip")
    assert "adapter_model.safetensors" in zipfile.ZipFile(tmp_path / "adapter.zip").namelist()
    ask_base_and_adapter(page, registry)


@pytest.mark.browser
def test_a_kept_data_set_is_there_after_a_reload_checked_and_deleted(
    address: str, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(f'{{"question": "Say {n}", "answer": "{n}!"}}' for n in range(3)))
    page = open_page(address, locale="en-GB")
    page.get_by_role("tab", name="Tune & compare").click()
    page.get_by_label("My own file", exact=True).check()
    page.locator("#tune-file input[type=file]").set_input_files(tmp_path / "rows.jsonl")
    page.locator("#tune-file [aria-label='rows.jsonl']").wait_for()
    page.get_by_label("Keep it under this name").fill("lab")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("Kept as lab: 3 rows.").wait_for()
    page.reload()
    page.locator("html[data-studio-ready]").wait_for(state="attached")
    page.get_by_role("tab", name="Tune & compare").click()
    page.get_by_label("A data set I kept", exact=True).check()
    kept = page.locator("#tune-sets input")
    expect(kept).to_have_value("lab · 3 rows")
    page.get_by_role("button", name="Check the data").click()
    expect(page.locator(".tune-rows").first).to_contain_text("Say 2")
    page.get_by_role("button", name="Delete this data set").click()
    page.locator("#confirm-yes").click()
    expect(kept).to_have_value("")
    page.get_by_role("button", name="Check the data").click()
    page.get_by_text("No data set is chosen").wait_for()


def ask_base_and_adapter(page: Any, registry: ModelRegistry) -> None:
    """On the chat page, side by side: both are written in one batch."""
    page.get_by_role("tab", name="Chat").click()
    settings = page.locator("#chat-settings")
    settings.get_by_label("Longest answer").first.fill("60")
    compare = settings.get_by_role("combobox", name="Compare with")
    compare.click()
    page.get_by_role("option", name="+assistant").click()
    page.locator("#chat-box textarea").fill("Who are you?")
    page.locator("#chat-box textarea").press("Enter")
    answers = page.locator("#chatbot [data-testid=bot]:not(:has(.thought-group))")
    expect(answers).to_have_count(2)
    for answer in (answers.nth(0), answers.nth(1)):
        expect(answer).to_have_text(re.compile(r"\w+\W+\w+"))
    assert len([entry for entry in registry.ledger().models if entry.kind == "chat"]) == 1, "one engine writes both"
    page.locator("#chat-box .submit-button").wait_for()
    expect(page.locator("#chatbot .beside").last).to_contain_text("+assistant")
