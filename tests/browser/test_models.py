"""The models panel in a real browser."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from app import ui
from app.models.interface import Ledger
from tests.fakes import FakeModel, FakeRegistry, fake_services

pytestmark = pytest.mark.browser


class CountingRegistry(FakeRegistry):
    looks = 0

    def ledger(self) -> Ledger:
        self.looks += 1
        return super().ledger()


@pytest.fixture
def registry() -> CountingRegistry:
    return CountingRegistry(FakeModel("tiny"), FakeModel("other"), budget_mib=400)


@pytest.fixture
def page(open_page: Callable[..., Page], serve: Callable[..., str], registry: CountingRegistry) -> Page:
    page = open_page(serve(ui.build(fake_services(registry))))
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


def test_the_ledger_is_live_while_it_is_seen(page: Page, registry: CountingRegistry) -> None:
    expect(page.locator("#ledger")).to_contain_text("No model is loaded")
    registry.load("other")
    expect(page.locator("#ledger .card b")).to_have_text("other")
    page.locator("#language").click()
    expect(page.locator("#ledger")).to_contain_text("就绪")


def test_the_ledger_rests_while_it_is_not_seen(page: Page, registry: CountingRegistry) -> None:
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#chat-box")).to_be_visible()
    page.wait_for_timeout(1000)  # what was under way when the tab closed
    before = registry.looks
    page.wait_for_timeout(4000)
    assert registry.looks == before
