"""Header, language and theme in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_the_page_speaks_the_browser_s_language(address: str, open_page: Callable[..., Any]) -> None:
    open_page(address, locale="zh-CN").get_by_role("tab", name="模型").wait_for()
    open_page(address, locale="en-GB").get_by_role("tab", name="Models").wait_for()


def test_the_chosen_language_and_theme_stay_over_a_reload(address: str, open_page: Callable[..., Any]) -> None:
    page = open_page(address, locale="en-GB")
    page.locator("#language").press("Enter")
    page.get_by_role("tab", name="模型").wait_for()
    expect(page.locator("#language")).to_be_focused()
    page.locator("#theme").click()
    page.locator("body.dark").wait_for()
    page.reload()
    page.get_by_role("tab", name="模型").wait_for()
    page.locator("body.dark").wait_for()
