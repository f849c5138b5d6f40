"""A real Chromium: one for the files of tests that follow on one another, visitors with empty storage, their pages."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest

from tests.conftest import OpenPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Request

CAMERA = (
    "--use-fake-device-for-media-stream",  # a camera that films a test card, and may be used unasked
    "--use-fake-ui-for-media-stream",
)


class Chromium:
    """Started when it is first wanted, again after it was closed.

    Contexts are lent to one test after another: what the pages are made of stays in their cache, and nothing else, so
    that a page is not fetched and compiled anew for each test.
    """

    def __init__(self) -> None:
        self._running = ExitStack()
        self._browser: Browser | None = None
        self._free: dict[tuple[str, int, int], list[BrowserContext]] = defaultdict(list)

    def browser(self) -> "Browser":
        from playwright.sync_api import expect, sync_playwright  # for those files alone that want a browser

        from bench.browser import launched

        if self._browser is None:
            expect.set_options(timeout=60_000)  # a busy machine's browser is slow: no test fails for that
            driver = self._running.enter_context(sync_playwright())
            self._browser = launched(driver, *CAMERA)
            self._running.callback(self._browser.close)
        return self._browser

    def close(self) -> None:
        self._browser = None
        self._free.clear()
        self._running.close()

    @contextmanager
    def visitor(self, locale: str, width: int, height: int, address: str) -> Iterator["BrowserContext"]:
        """One with empty storage, who is about to open `address`."""
        browser, free = self.browser(), self._free[locale, width, height]
        if free:
            context = free.pop()
        else:
            context = browser.new_context(
                locale=locale, viewport={"width": width, "height": height}, accept_downloads=True
            )
            context.set_default_timeout(60_000)
        yield context
        empty(context, address)
        free.append(context)


def empty(context: "BrowserContext", address: str) -> None:
    """Close its pages and forget what they have kept."""
    seen = {urljoin(url, "/") for url in (address, *(page.url for page in context.pages))}
    for page in context.pages:
        page.close()
    broom = context.new_page()
    session = context.new_cdp_session(broom)
    for place in seen:
        if place.startswith("http"):
            session.send("Storage.clearDataForOrigin", {"origin": place.rstrip("/"), "storageTypes": "all"})
    broom.close()
    context.clear_cookies()
    context.clear_permissions()


_CHROMIUM = pytest.StashKey[Chromium]()
_WITH_IT = pytest.StashKey[set[object]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[_CHROMIUM] = Chromium()
    config.stash[_WITH_IT] = {item.path for item in items if "chromium" in getattr(item, "fixturenames", ())}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Playwright's event loop would be in the way of asyncio in a file without a browser."""
    if item.path not in item.config.stash[_WITH_IT]:
        item.config.stash[_CHROMIUM].close()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _CHROMIUM in config.stash:
        config.stash[_CHROMIUM].close()


@pytest.fixture
def chromium(pytestconfig: pytest.Config) -> "Browser":
    return pytestconfig.stash[_CHROMIUM].browser()


@pytest.fixture
def open_page(chromium: "Browser", pytestconfig: pytest.Config) -> Iterator[OpenPage]:  # noqa: ARG001
    """`open_page(url, locale="zh-CN", width=1440)`: a new visitor with empty storage, the page
    loaded; not `ready`: a page that is none of ours.

    A request that leaves this machine fails the test.
    """
    outside: list[str] = []

    def note(request: "Request") -> None:
        if leaves(request.url):
            outside.append(request.url)

    with ExitStack() as lent:

        def visit(
            url: str, *, locale: str = "en-US", width: int = 1440, height: int = 900, ready: bool = True
        ) -> "Page":
            visitor = pytestconfig.stash[_CHROMIUM].visitor(locale, width, height, url)
            page = lent.enter_context(visitor).new_page()
            page.on("requestfinished", note)
            page.on("requestfailed", lambda request: None if request.failure == "csp" else note(request))
            page.goto(url)
            if ready:
                page.locator("html[data-studio-ready]").wait_for(state="attached")
            return page

        yield visit
    assert not outside, f"the page asked for {outside}"


def leaves(address: str) -> bool:
    return not address.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))
