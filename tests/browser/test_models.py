"""The models panel in a real browser."""

import threading
from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.errors import ModelError
from app.models.interface import Drift, DriftStep
from app.story.illustrating import IllustrationService
from app.story.service import StoryService
from app.web import ui
from tests.browser.accordions import unfold
from tests.fakes import FakeModel, FakeRegistry, fake_services
from tests.waiting import wait_for

pytestmark = pytest.mark.browser


class Checked(FakeRegistry):
    """A drift check goes on when the test says so, and none can be made of `far`."""

    def reset(self, *models: FakeModel) -> None:
        super().reset(*models)
        self.go_on = threading.Event()
        self.left_off = threading.Event()

    def check_drift(self, name: str) -> Generator[DriftStep | Drift, None, None]:
        if name == "far":
            raise ModelError
        try:
            while not self.go_on.wait(0.05):
                yield DriftStep("full", 3, 20)
            yield from super().check_drift(name)
        except GeneratorExit:
            self.left_off.set()
            raise


@pytest.fixture(scope="module")
def registry() -> Checked:
    return Checked(budget_mib=400)


@pytest.fixture(scope="module")
def address(serve_module: Callable[..., str], registry: Checked) -> str:
    return serve_module(ui.build(fake_services(registry)))


@pytest.fixture
def page(open_page: Callable[..., Page], address: str, registry: Checked) -> Page:
    registry.reset(FakeModel("tiny"), FakeModel("other"), FakeModel("far"))
    page = open_page(address)
    page.get_by_role("tab", name="Models").click()
    return page


def test_load_fit_and_unload(page: Page) -> None:
    expect(page.locator("#models-fit")).to_contain_text("will fit")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator("#ledger .card.ready b")).to_have_text("tiny")
    expect(page.locator("#models-fit")).to_contain_text("is loaded")
    choice = page.locator("#models-bar").get_by_role("combobox")
    choice.fill("other")
    choice.press("Enter")
    expect(page.locator("#models-fit")).to_contain_text("will not fit: it needs 260 MiB, 140 MiB are free")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator(".toast-body")).to_contain_text("140 MiB are free")
    choice.fill("tiny")
    choice.press("Enter")
    page.get_by_role("button", name="Unload").click()
    expect(page.locator("#ledger")).to_contain_text("No model is loaded")


def test_a_list_closes_when_the_keyboard_leaves_it(page: Page) -> None:
    choice, options = page.locator("#models-bar").get_by_role("combobox"), page.get_by_role("option")
    for leave in ("Tab", "Shift+Tab", "Escape"):
        choice.press("ArrowDown")
        expect(options.first).to_be_visible()
        choice.press(leave)
        expect(choice).not_to_be_focused()
        page.evaluate("() => new Promise(requestAnimationFrame)")  # gradio would open it again by then
        expect(options).to_have_count(0)


def test_a_list_that_opens_after_its_box_was_left_closes_again(page: Page) -> None:
    choice = page.locator("#models-bar").get_by_role("combobox")
    opened = """(box) => new Promise((seen) => {
        new MutationObserver(() => box.ariaExpanded === "true" && seen()).observe(box, {attributes: true});
        box.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown", bubbles: true}));
    })"""
    choice.evaluate(opened)
    expect(page.get_by_role("option")).to_have_count(0)
    expect(choice).to_have_attribute("aria-expanded", "false")


def test_the_ledger_is_live_while_it_is_seen_and_rests_while_it_is_not(page: Page, registry: Checked) -> None:
    expect(page.locator("#ledger")).to_contain_text("No model is loaded")
    registry.load("other")
    expect(page.locator("#ledger .card b")).to_have_text("other")
    page.locator("#language").click()
    expect(page.locator("#ledger")).to_contain_text("就绪")
    page.clock.install()  # a clock that the test turns, for the page as it comes anew
    page.reload()
    page.get_by_role("tab", name="模型").click()
    expect(page.locator("#ledger .card b")).to_have_text("other")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    wait_for(lambda: (page.clock.run_for(10_000), page.evaluate("1"), asked)[-1])  # it is asked for while it is seen
    page.get_by_role("tab", name="对话").click()
    expect(page.locator("#chat-box")).to_be_visible()

    def rests() -> bool:
        asked.clear()
        page.clock.run_for(60_000)
        page.evaluate("1")
        return not [url for url in asked if "queue/join" in url]

    wait_for(rests)  # once the server has heard that the tab was left


LOOKS = 2  # one for all lists of models, one for those that see pictures


class Owned(FakeRegistry):
    """What is `mine` is there for whoever the browser knows, and not before it has said so."""

    asked = 0

    def names(self) -> list[str]:
        self.asked += 1
        return super().names()

    def for_visitor(self, visitor: str) -> FakeRegistry:
        others = [model for name, model in self.models.items() if name != "mine"]
        return self if visitor.startswith("guest:") else FakeRegistry(*others)


def test_one_s_own_models_are_in_the_lists_at_once(open_page: Callable[..., Page], serve: Callable[..., str]) -> None:
    registry = Owned(FakeModel("tiny"), FakeModel("mine", is_multimodal=True))
    nothing: Any = nullcontext(None)
    illustration = IllustrationService(registry, lambda: nothing)
    services = fake_services(registry, story=StoryService(registry), illustration=illustration)
    page = open_page(serve(ui.build(services)))
    registry.asked = 0
    page.reload()
    wait_for(lambda: registry.asked >= LOOKS)  # before any list is opened, which would ask again
    page.get_by_role("tab", name="Models").click()
    page.locator("#models-bar").get_by_role("combobox").click()
    page.get_by_role("option", name="mine").wait_for()
    page.get_by_role("tab", name="Story").click()
    vision = page.locator("#article-vision").get_by_role("combobox")
    unfold(page.locator("#article-more"), vision)
    vision.click()
    page.get_by_role("option", name="mine").wait_for()


def test_a_drift_check_tells_how_far_it_is_and_its_figures(page: Page, registry: Checked) -> None:
    page.locator("#models-check").click()
    told = page.locator("#models-fit")
    expect(told).to_contain_text("the full model answers, 3 of 20")
    expect(page.locator("#models-check")).to_be_hidden()
    registry.go_on.set()
    expect(told).to_contain_text("mean KL 0.0123 nats")
    expect(page.locator("#ledger .card")).to_contain_text("drift 0.012 nats, same choice 96%")
    expect(page.locator("#models-check-stop")).to_be_hidden()


def test_a_drift_check_is_stopped_and_a_refusal_leaves_the_button(page: Page, registry: Checked) -> None:
    page.locator("#models-check").click()
    expect(page.locator("#models-fit")).to_contain_text("3 of 20")
    page.locator("#models-check-stop").click()
    assert registry.left_off.wait(120) and not registry.drifts
    expect(page.locator("#models-fit")).to_contain_text("will fit")
    expect(page.locator("#models-check-stop")).to_be_hidden()
    choice = page.locator("#models-bar").get_by_role("combobox")
    choice.fill("far")
    choice.press("Enter")
    page.locator("#models-check").click()
    expect(page.locator(".toast-body")).to_be_visible()
    expect(page.locator("#models-check")).to_be_visible()
