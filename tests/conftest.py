"""Fixtures for every tab: the page on a server of its own, a real Chromium to look at it, the packaged model."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import pytest
from xdist.scheduler import LoadScopeScheduling

from app.models.catalog import known_models, sources
from app.paths import ROOT
from app.web import ui

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request


pytest_plugins = ["tests.real_server", "tests.sandbox_fixtures", "tests.training_fixtures", "tests.story.page_fixtures"]

Serve = Callable[..., str]
OpenPage = Callable[..., "Page"]


# What makes a test slow: it reads weights, starts a process or opens a browser.
_SLOW_FIXTURES = {
    "packaged_folder",
    "chromium",
    "serve",
    "serve_module",
    "serve_session",
    "story_address",
    "tiny_base",
    "server",
}
_SLOW_PLACES = (
    "agent",
    "api/test_mcp_server",
    "finetune",
    "web",
    "models/backends",
    "models/loading",
    "models/catalog/test_bundled",
    "models/catalog/test_hub",
    "story/test_article",
)
# Files whose tests share one costly thing of the whole session stay on one worker, and the longest begin first.
_TOGETHER = {
    "finetune": "training",
    "tabs/tuning": "training",
    "browser/test_training": "training",
    "browser/test_finishing": "training",
    "api/test_real": "servers",
    "web/test_real_server": "servers",
    "agent": "sandbox",
    "tabs/agent": "sandbox",
    "browser/test_agent": "sandbox",
    "browser/test_chat": "page",
    "browser/test_conversations": "page",
    "browser/test_history": "page",
    "browser/test_presets": "page",
    "browser/test_access": "page",
    "browser/test_story": "story",
    "tabs/story": "story",
}


class GroupScheduling(LoadScopeScheduling):
    """Gives whole groups of files to a worker of pytest-xdist."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0])


def pytest_configure() -> None:
    """A server hears that a page is gone when it next writes to it: every 15 seconds, unless it is told otherwise."""
    os.environ.setdefault("GRADIO_HEARTBEAT_INTERVAL", "0.5")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    return GroupScheduling(config, log)


def _group(file: str) -> str:
    place = file.removeprefix("tests/")
    return next((group for start, group in _TOGETHER.items() if place.startswith(start)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow (`make test-fast` leaves it out); groups come first, in their order, and quick files last."""
    order = list(dict.fromkeys(_TOGETHER.values()))
    slow_files = set()
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        place = item.path.relative_to(ROOT / "tests").as_posix()
        if fixtures & _SLOW_FIXTURES or place.startswith(_SLOW_PLACES):
            item.add_marker("slow")
            slow_files.add(item.path)
        if "trained" in fixtures:  # the one real training of the session belongs to the first test that asks for it
            item.add_marker(pytest.mark.timeout(1200))

    def rank(item: pytest.Item) -> int:
        group = _group(item.path.relative_to(ROOT).as_posix())
        return order.index(group) if group in order else len(order) + (item.path not in slow_files)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def packaged_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model, converted once and kept in pytest's cache, in the data folder two levels up."""
    card = known_models.find(known_models.PACKAGED)
    kept = sources.fetch(card, pytestconfig.cache.mkdir("models"), lambda *_: None)
    models = tmp_path_factory.mktemp("data") / "models"
    models.mkdir()
    (models / kept.name).symlink_to(kept)
    return models / kept.name


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(blocks)` starts a server thread on a free port, or on the given one, and returns its address.

    `auth` are the logins, (name, password) pairs, `app_kwargs` what the application is made with.
    """
    with _servers() as start:
        yield start


@pytest.fixture(scope="module")
def serve_module() -> Iterator[Serve]:
    """The same for a page that all tests of a file share; each puts its own models into the registry."""
    with _servers() as start:
        yield start


@pytest.fixture(scope="session")
def serve_session() -> Iterator[Serve]:
    with _servers() as start:
        yield start


@contextmanager
def _servers() -> Iterator[Serve]:
    with ExitStack() as running:

        def start(
            blocks: gr.Blocks,
            port: int | None = None,
            auth: list[tuple[str, str]] | None = None,
            app_kwargs: dict[str, Any] | None = None,
        ) -> str:
            blocks.queue(default_concurrency_limit=None)
            _, url, _ = blocks.launch(
                server_name="127.0.0.1",
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                max_threads=200,
                auth=auth,
                app_kwargs=app_kwargs,
                **ui.appearance(),
            )
            running.callback(blocks.close, verbose=False)
            return str(url).rstrip("/")

        yield start


@pytest.fixture(scope="module")  # Playwright's event loop would be in the way of asyncio in other files
def chromium() -> Iterator["Browser"]:
    """One browser for the tests of a file; Debian's if there is one, else Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=60_000)  # a busy machine's browser is slow: no test fails for that
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--no-sandbox",
                "--disable-background-networking",
                "--use-fake-device-for-media-stream",  # a camera that films a test card, and may be used unasked
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: "Browser") -> Iterator[OpenPage]:
    """`open_page(url, locale="zh-CN", width=1440)`: a new visitor with empty storage, the page
    loaded; not `ready`: a page that is none of ours.

    A request that leaves this machine fails the test.
    """
    outside: list[str] = []

    def note(request: "Request") -> None:
        if leaves(request.url):
            outside.append(request.url)

    with ExitStack() as visitors:

        def visit(
            url: str, *, locale: str = "en-US", width: int = 1440, height: int = 900, ready: bool = True
        ) -> "Page":
            context = chromium.new_context(
                locale=locale, viewport={"width": width, "height": height}, accept_downloads=True
            )
            visitors.callback(context.close)
            context.set_default_timeout(60_000)
            page = context.new_page()
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
