"""A loaded engine's cache: given back to others at a moment when no answer is written, and booked as it is."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models.catalog import known_models
from app.models.engine.engine import LEAST_CACHE_TOKENS, Engine, EngineOptions
from app.models.interface import Sampling
from app.models.loading.loader import load
from app.models.registry.engine_size import EngineSize
from app.models.registry.loaded_engine import LoadedEngine
from bench.check_models import turns
from bench.tiny_checkpoints import save_tiny

TOKENS, PER_TOKEN = 8192, 2**18
GREEDY = Sampling(temperature=0, max_new_tokens=12, ignore_eos=True)


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[LoadedEngine]:
    folder = save_tiny("llama", tmp_path / "llama")
    model = load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
    options = EngineOptions(cache_tokens=TOKENS, page_size=16)
    size = EngineSize(options, TOKENS, PER_TOKEN, step=2**20, gives_back=True)
    resident = LoadedEngine(Engine("llama", model, options), "cpu", size)
    yield resident
    resident.close()


def engine_of(loaded: LoadedEngine) -> Engine:
    assert isinstance(loaded.engine, Engine)
    return loaded.engine


def test_an_idle_cache_gives_back_what_is_asked_and_keeps_its_least(loaded: LoadedEngine) -> None:
    engine = engine_of(loaded)
    before = "".join(engine.stream(turns("Hello"), GREEDY))
    assert (loaded.cache_mib, loaded.spare_mib) == (2049, 1024)
    loaded.shrink(100)
    assert (loaded.cache_mib, loaded.spare_mib, engine.options.cache_tokens) == (1949, 924, TOKENS - 400)
    assert "".join(engine.stream(turns("Hello"), GREEDY)) == before
    loaded.shrink(5000)
    assert (loaded.cache_mib, loaded.spare_mib, engine.options.cache_tokens) == (1025, 0, LEAST_CACHE_TOKENS)
    assert "".join(engine.stream(turns("Hello"), GREEDY)) == before


def test_an_answer_that_is_being_written_is_not_disturbed_and_its_end_is_waited_for(loaded: LoadedEngine) -> None:
    engine = engine_of(loaded)
    running = engine.stream(turns("Hello"), Sampling(temperature=0, max_new_tokens=300, ignore_eos=True))
    next(iter(running))
    loaded.shrink(100)
    assert loaded.cache_mib == 2049
    waiting = threading.Thread(target=loaded.shrink, args=(100, 60.0))
    waiting.start()
    rest = "".join(running)
    waiting.join()
    assert rest and running.finish_reason == "length" and loaded.cache_mib == 1949
