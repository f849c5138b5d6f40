"""Better models: what is offered on which machine, a download that turns the default, files brought in and deleted."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from app.errors import ModelInUse, NotAModel
from app.models.better_model import BetterModel
from app.models.catalog import bundled, known_models, sources
from app.models.catalog.stored_models import NameTaken, NothingBrought
from app.models.interface import Sampling
from app.models.model_files import ModelFiles
from app.models.registry.placement import Placement, remembered_default
from app.models.registry.registry import ModelRegistry
from tests.models.catalog.fake_hub import FakeHub, in_reach, running
from tests.training_fixtures import wait_for

FAST, SLOW = 40e9, 3e9  # bytes a second


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def registry(tmp_path: Path, cache: Path) -> Iterator[ModelRegistry]:  # noqa: ARG001
    made = ModelRegistry(Placement("cpu", "auto", None, 14_000, tmp_path, prefers_gguf=True), "smollm2-135m")
    yield made
    made.close()


def names(registry: ModelRegistry, bandwidth: float) -> list[str]:
    return [offer.name for offer in BetterModel(registry, bandwidth=lambda: bandwidth, hub=lambda: True).offers()]


def test_a_slow_processor_is_offered_small_bilingual_files_and_a_fast_one_larger_ones(registry: ModelRegistry) -> None:
    assert names(registry, SLOW) == ["internlm2.5-1.8b-gguf", "qwen3-1.7b-gguf", "qwen3-0.6b-gguf"]
    assert names(registry, FAST) == ["internlm3-8b-gguf", "qwen3-8b-gguf", "qwen3-4b-2507-gguf"]
    offers = BetterModel(registry, bandwidth=lambda: SLOW, hub=lambda: True).offers()
    assert all(offer.licence and offer.mib and offer.tokens_per_second and not offer.is_here for offer in offers)


@pytest.mark.parametrize(
    ("budget", "first"), [(80_000, "internlm3-8b"), (12_000, "internlm3-8b:4bit"), (6_144, "internlm2.5-1.8b")]
)
def test_a_gpu_is_offered_the_internlm_that_fits_it(tmp_path: Path, cache: Path, budget: int, first: str) -> None:
    placement = Placement("cuda", "auto", None, budget, tmp_path, host_mib=16_000)
    assert names(ModelRegistry(placement, "smollm2-135m"), 500e9)[0] == first
    assert not cache.exists()


def test_little_memory_or_a_full_disk_leaves_no_offer(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.models.better_model.free_bytes", lambda _: 100 * 2**20)
    assert names(registry, FAST) == []


@pytest.mark.parametrize("name", [name for name in known_models.names() if known_models.find(name).gguf])
def test_each_gguf_entry_names_a_file_that_its_repository_can_have(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = known_models.find(name)
    content = b"GGUF" + bytes(5000)
    with running(FakeHub({card.gguf: content, "README.md": b"x"}, repository=card.location)) as hub:
        in_reach(hub, cache, monkeypatch)
        assert not sources.is_here(card)
        folder = sources.fetch(card, Path("unused"), lambda *_: None)
        assert (folder / card.gguf).read_bytes() == content
        assert sources.is_here(card)
        assert sources.describe(replace(card, gguf_mib=0)).gguf_mib == round(len(content) / 2**20)
    base = known_models.find(name.removesuffix("-gguf"))
    assert card.gguf.lower().startswith(base.location.rpartition("/")[2].lower().removeprefix("qwen/")[:8])
    assert card.gguf_mib < base.mib("bfloat16", None) and card.parameters == base.parameters


@pytest.fixture
def downloadable(registry: ModelRegistry, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that has the packaged GGUF file under the name of the smallest offer."""
    card = known_models.find("qwen3-0.6b-gguf")
    file = bundled.gguf_file(known_models.find(known_models.PACKAGED))
    with running(FakeHub({card.gguf: file.read_bytes()}, repository=card.location)) as hub:
        in_reach(hub, cache, monkeypatch)
        yield hub
        registry.close()


def test_what_was_downloaded_becomes_the_default_also_after_a_restart(
    registry: ModelRegistry, downloadable: FakeHub, tmp_path: Path
) -> None:
    better = BetterModel(registry, bandwidth=lambda: SLOW)
    assert better.hub_answers() and better.needed and better.fetching() is None
    downloadable.cut, downloadable.cuts = 2**20, 1
    better.start("qwen3-0.6b-gguf")
    wait_for(lambda: better.fetching() is None, 120)
    assert registry.default_name == "qwen3-0.6b-gguf" and not better.needed
    assert registry.for_visitor("guest:1").default_name == "qwen3-0.6b-gguf"
    with registry.lease("qwen3-0.6b-gguf") as model:
        assert "".join(model.stream([{"role": "user", "content": "Say hello."}], Sampling(max_new_tokens=8)))
    assert remembered_default(tmp_path) == "qwen3-0.6b-gguf"
    files = ModelFiles(registry, tmp_path)
    stored = files.stored()
    assert [(one.key, one.in_hub_cache) for one in stored] == [("Qwen/Qwen3-0.6B-GGUF", True)] and stored[0].mib > 50
    with registry.lease("qwen3-0.6b-gguf"), pytest.raises(ModelInUse):
        files.delete("Qwen/Qwen3-0.6B-GGUF")
    files.delete("Qwen/Qwen3-0.6B-GGUF")
    assert files.stored() == [] and registry.default_name == known_models.PACKAGED
    assert not sources.is_here(known_models.find("qwen3-0.6b-gguf"))


def test_a_stopped_download_goes_on_where_it_stopped(registry: ModelRegistry, downloadable: FakeHub) -> None:
    better = BetterModel(registry, bandwidth=lambda: SLOW)
    downloadable.held, downloadable.cut = threading.Event(), 3 * 2**20
    better.start("qwen3-0.6b-gguf")
    wait_for(lambda: bool((come := better.fetching()) and come.progress > 0), 60)
    better.stop()
    downloadable.held.set()
    wait_for(lambda: registry.memory_manager.state("qwen3-0.6b-gguf") == "absent", 60)
    assert better.fetching() is None and better.needed
    downloadable.held = None
    better.start("qwen3-0.6b-gguf")
    wait_for(lambda: better.fetching() is None, 120)
    assert any(one and one != "bytes=0-" for one in downloadable.sent_ranges(known_models.find("qwen3-0.6b-gguf").gguf))


def test_a_file_or_folder_brought_in_is_a_model_and_can_be_deleted(
    registry: ModelRegistry, tmp_path: Path, packaged_folder: Path
) -> None:
    files = ModelFiles(registry, tmp_path)
    gguf = bundled.gguf_file(known_models.find(known_models.PACKAGED))
    upload = tmp_path / "upload.gguf"
    upload.write_bytes(gguf.read_bytes())
    assert files.bring_in([(upload, "My Model Q4.gguf")]) == "my-model-q4"
    assert not upload.exists() and "my-model-q4" in registry.names()
    copies = []
    for path in packaged_folder.iterdir():
        copy = tmp_path / f"copy-{path.name}"
        copy.write_bytes(path.read_bytes())
        copies.append((copy, f"folder/{path.name}"))
    assert files.bring_in(copies) == "folder"
    again = ModelRegistry(registry.placement, "smollm2-135m")
    assert {"my-model-q4", "folder"} <= {one.key for one in ModelFiles(again, tmp_path).stored()}
    with again.lease("my-model-q4") as model:
        assert model.context_tokens > 100
    again.close()
    registry.use("folder")
    files.delete("folder")
    assert "folder" not in registry.names() and registry.default_name == known_models.PACKAGED


def test_what_is_no_model_is_refused_and_leaves_nothing(registry: ModelRegistry, tmp_path: Path) -> None:
    files = ModelFiles(registry, tmp_path)
    odd = tmp_path / "odd"
    odd.write_bytes(b"GGUF and nothing more")
    with pytest.raises(NothingBrought):
        files.bring_in([(odd, "notes.txt")])
    with pytest.raises(NotAModel):
        files.bring_in([(odd, "../../odd.gguf")])
    assert files.stored() == []
    odd.write_bytes(b"x")
    with pytest.raises(NameTaken):
        files.bring_in([(odd, "smollm2-135m.gguf")])
