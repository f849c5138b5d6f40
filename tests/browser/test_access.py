"""axe-core on the chat and models pages: no serious or critical violation, light and dark, phone and desktop."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
FADED_IN = """document.getAnimations().every((one) =>
    one.playState !== "running" || one.effect.getComputedTiming().iterations === Infinity)"""


@pytest.mark.parametrize(("locale", "width", "dark"), [("en-US", 1440, False), ("zh-CN", 390, True)])
def test_no_page_has_a_serious_violation(
    open_page: Callable[..., Page], address: str, locale: str, width: int, dark: bool
) -> None:
    page = open_page(address, locale=locale, width=width)
    if dark:
        page.locator("#theme").click()
    page.locator("#chat-box textarea").fill("hello")
    page.locator("#chat-box textarea").press("Enter")
    expect(page.locator("#chatbot .thought-group")).to_have_count(1)
    for tab in ("chat", "models"):
        page.locator(f"#tab-{tab}-button").click()
        expect(page.locator(f"#tab-{tab}-button")).to_have_attribute("aria-selected", "true")
        page.wait_for_function(FADED_IN)  # what fades in is pale for a moment
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert not [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found], tab
