"""What waits for a page's arrival comes in one event, and one failure keeps nothing else from being drawn."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import expect

from app.errors import BadInput
from app.evaluate.service import EvaluationService
from app.story.illustrating import IllustrationService
from app.story.service import StoryService
from app.web import ui
from tabs.shell.arrival import wire_arrivals
from tabs.shell.page import BROWSER_SECRET, Page, Remembered, Visitor
from tabs.story import handlers
from tests.fakes import FakeModel, FakeRegistry, fake_services


def refuse(_visitor: Visitor) -> str:
    raise BadInput(reason_zh="不行", reason_en="not this")


@pytest.mark.browser
def test_all_is_drawn_but_what_failed(serve: Callable[[gr.Blocks], str], open_page: Callable[..., BrowserPage]) -> None:
    with gr.Blocks() as blocks:
        page = Page(blocks, None, gr.State(), gr.BrowserState({}, secret=BROWSER_SECRET))
        given, first, failed, last = (
            gr.Textbox(value, elem_id=value) for value in ("given", "first", "failed", "last")
        )

        def relabel(_visitor: Visitor, value: str) -> dict[Any, Any]:
            return {last: gr.update(label=f"told {value}"), failed: gr.skip()}

        page.on_arrival(lambda visitor: visitor.language, [], [first])
        page.on_arrival(refuse, [], [failed])
        page.on_arrival(lambda _, one, two: [gr.update(value=one + two), gr.skip()], [given, first], [last, first])
        page.on_arrival(relabel, [given], [last, failed])
        wire_arrivals(page)
        page.on(blocks.load, lambda _: Remembered("en"), [], [page.remembered])
        blocks.load(None, js="() => { document.documentElement.dataset.studioReady = 'en'; }")
    shown = open_page(serve(blocks))
    expect(shown.get_by_label("told given")).to_have_value("givenfirst")
    expect(shown.locator("#first textarea")).to_have_value("en")
    expect(shown.locator("#failed textarea")).to_have_value("failed")
    expect(shown.locator(".toast-body")).to_contain_text("not this")


@pytest.mark.browser
@pytest.mark.parametrize("held", ["what all tabs wait for", "the story"])
def test_a_page_is_ready_when_its_arrival_is_drawn(
    held: str,
    serve: Callable[[gr.Blocks], str],
    open_page: Callable[..., BrowserPage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, may = FakeRegistry(FakeModel("tiny")), Event()
    service = EvaluationService(registry, tmp_path)
    runs, arrive = service.runs, handlers.arrive
    if held == "the story":
        monkeypatch.setattr(
            handlers, "arrive", lambda w, v, kept, written: may.wait(60) and arrive(w, v, kept, written)
        )
    else:
        monkeypatch.setattr(service, "runs", lambda owner: runs(owner) if may.wait(60) else [])
    services = fake_services(
        registry,
        evaluate=service,
        story=StoryService(registry),
        illustration=IllustrationService(registry, lambda: nullcontext(None)),
    )
    shown = open_page(serve(ui.build(services)), ready=False)
    shown.locator("html[data-studio-conversation]").wait_for(state="attached")
    shown.evaluate("new Promise((done) => setTimeout(done, 100))")  # what follows in the browser's own time
    assert shown.locator("html[data-studio-ready]").count() == 0
    may.set()
    shown.locator("html[data-studio-ready]").wait_for(state="attached")


def test_few_events_follow_a_page_s_arrival() -> None:
    blocks = ui.build(fake_services(FakeRegistry(FakeModel("tiny"))))
    events = blocks.get_config_file()["dependencies"]
    followers = Counter(
        target
        for event in events
        for target, name in event["targets"]
        if name == "change" and _is_state(blocks, target)
    )
    assert max(followers.values()) < 6


def _is_state(blocks: gr.Blocks, component: int) -> bool:
    return type(blocks.blocks.get(component)) is gr.State
