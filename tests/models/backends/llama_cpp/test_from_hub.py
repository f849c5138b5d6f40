"""A GGUF file of a repository: downloaded alone, watched, stopped, continued, and talked to."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.models.catalog import bundled, known_models
from app.models.interface import Ledger, LedgerEntry, Message, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.models.catalog.fake_hub import FakeHub, in_reach, running

FILE = "q4/small-q4_1.gguf"
NAME = f"someone/model#{FILE}"
FRANCE: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    content = bundled.gguf_file(known_models.find(known_models.PACKAGED)).read_bytes()
    files = {FILE: content, "q8/small-q8_0.gguf": bytes(5000), "config.json": b"{}", "README.md": b"#"}
    with running(FakeHub(files)) as started:
        in_reach(started, tmp_path / "hub", monkeypatch)
        yield started


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ModelRegistry]:
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, tmp_path), known_models.PACKAGED)
    yield registry
    registry.close()


def until(registry: ModelRegistry, holds: Callable[[Ledger], bool]) -> tuple[LedgerEntry, ...]:
    """The models of the ledger once it is so."""
    deadline = time.monotonic() + 60
    while not holds(ledger := registry.ledger()):
        assert time.monotonic() < deadline, ledger
        time.sleep(0.01)
    return ledger.models


def test_it_is_downloaded_alone_stopped_continued_and_answers(hub: FakeHub, registry: ModelRegistry) -> None:
    hub.cut, hub.held = 8 * 2**20, threading.Event()
    registry.load(NAME)
    (entry,) = until(registry, lambda ledger: any("8 / " in entry.detail for entry in ledger.models))
    assert (entry.name, entry.state, entry.mib) == (NAME, "downloading", 0)
    assert entry.progress == pytest.approx(hub.cut / len(hub.files[FILE]))

    registry.unload(NAME)
    hub.held.set()
    assert until(registry, lambda ledger: not ledger.models) == ()

    with registry.lease(NAME) as model:
        assert len(list(model.stream(FRANCE, Sampling(temperature=0, max_new_tokens=8)))) > 3
        assert model.context_tokens == 8192
    (entry,) = registry.ledger().models
    assert (entry.state, entry.kind) == ("ready", "chat")
    assert entry.mib >= len(hub.files[FILE]) // 2**20
    first, again = hub.sent_ranges(FILE)
    assert first == "bytes=0-" and again and int(again.removeprefix("bytes=")[:-1]) >= hub.cut
    asked = {path.partition("/resolve/")[2].partition("/")[2] for _, path, _ in hub.asked if "/resolve/" in path}
    assert asked == {FILE}
