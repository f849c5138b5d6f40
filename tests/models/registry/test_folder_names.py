"""A model that is given by a path is called by the last part of it; the path still means it, and strangers see none."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.access.identity import Guest
from app.errors import ModelError, UnknownModel
from app.finetune.options import TrainOptions
from app.finetune.runs import Run, new_id
from app.finetune.service import FinetuneService
from app.models.catalog.stored_models import NameTaken
from app.models.model_files import ModelFiles
from app.models.registry.model_names import ModelNames
from app.models.registry.placement import Placement, choose_placement
from app.models.registry.registry import ModelRegistry
from app.settings import read_settings
from tests.models.catalog.test_known_models import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "one" / "My model")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another one whose last name is the same."""
    return write_folder(tmp_path / "two" / "My model")


def registry_of(data: Path, default: str, *, open_address: bool = False) -> ModelRegistry:
    placement = Placement("cpu", "float32", None, 4000, data)
    return ModelRegistry(placement, default, listed_only=open_address, private=open_address)


@pytest.fixture
def registry(tmp_path: Path, folder: Path) -> Iterator[ModelRegistry]:
    registry = registry_of(tmp_path / "data", str(folder))
    yield registry
    registry.close()


def test_the_last_part_is_the_name_and_two_that_are_alike_differ(
    registry: ModelRegistry, folder: Path, other: Path
) -> None:
    assert registry.default_name == "My-model" == registry.names()[0]
    assert registry.folder(str(folder)) == registry.folder("My-model") == folder
    assert registry.folder(str(other)) == registry.folder("My-model-2") == other
    assert registry.fit(f"{folder}:8bit").needed_mib == registry.fit("My-model:8bit").needed_mib
    assert not [name for name in registry.names() if "/" in name]
    shown = registry.for_visitor("lin").public_name(f"{folder}:4bit+nova")
    assert shown == "My-model:4bit+nova" and registry.public_name("smollm2-135m") == "smollm2-135m"


def test_a_folder_named_like_a_known_model_is_another_model(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "Qwen3-8B")
    registry = registry_of(tmp_path / "data", str(folder))
    assert registry.default_name == "Qwen3-8B-2" and registry.folder("Qwen3-8B-2") == folder
    kept = tmp_path / "qwen3-8b-2"
    kept.mkdir()
    for file in folder.iterdir():
        (kept / file.name).write_bytes(file.read_bytes())
    with pytest.raises(NameTaken):
        ModelFiles(registry, tmp_path / "data").bring_in([(file, f"qwen3-8b-2/{file.name}") for file in kept.iterdir()])


def test_adapters_are_found_by_either_and_listed_by_the_name(registry: ModelRegistry, folder: Path) -> None:
    registry.add_adapter(f"{folder}+nova", folder / "adapter", "lin")
    assert "My-model+nova" in registry.names() and not [name for name in registry.names() if "/" in name]
    for name in (f"{folder}+nova", "My-model+nova"):
        with pytest.raises(ModelError) as refusal, registry.lease(name):
            pass
        assert not isinstance(refusal.value, UnknownModel), "its files are not there, but it is known"
    registry.remove_adapter(f"{folder}+nova")
    assert "My-model+nova" not in registry.names()


def test_both_mean_it_after_a_restart(tmp_path: Path, registry: ModelRegistry, folder: Path, other: Path) -> None:
    registry.use(str(other))
    for chosen in ([], ["--model", "My-model-2"], ["--model", str(other)]):
        settings = read_settings(["--data", str(tmp_path / "data"), "--device", "cpu", *chosen])
        again = ModelRegistry(*choose_placement(settings))
        assert again.default_name == "My-model-2" and again.folder("My-model-2") == other
        assert again.folder("My-model") == folder


def test_strangers_can_name_the_default_alone_and_are_shown_no_path(
    tmp_path: Path, registry: ModelRegistry, folder: Path, other: Path
) -> None:
    registry.folder(str(other))  # the operator's, from before
    guarded = registry_of(tmp_path / "data", str(folder), open_address=True)
    assert guarded.default_name == "My-model" and "My-model-2" not in guarded.names()
    stranger = guarded.for_visitor(Guest("a"))
    with guarded.hold("embedder", "/srv/models/e5", 1, lambda _: None):
        assert "e5" in [entry.name for entry in stranger.ledger().models]
        assert "/srv" not in repr(stranger.ledger())
    for name in (str(other), "My-model-2", "nope", "smollm2-135m+nope", "My-model+nope", "someone/repository"):
        with pytest.raises(UnknownModel) as refusal:
            stranger.fit(name)
        assert f"named {name}. Models on this server: " in refusal.value.text("en")
    names = ModelNames(guarded.specs, (), guarded.default_name, listed_only=True, private=True, served={})
    with pytest.raises(UnknownModel, match="on this server: My-model"):  # one that was removed while its base loaded
        names.adapter("My-model+nova")
    guarded.close()


def test_a_run_of_before_is_named_anew(tmp_path: Path, registry: ModelRegistry, folder: Path) -> None:
    service = FinetuneService(registry, tmp_path / "data")
    old = Run(new_id(), "nova", str(folder), "lin", 1.0, TrainOptions(), rows=1, total=1)
    service.store.create(old, [], {})
    service.queue.start()
    with suppress(ModelError):
        service.queue.close()
    assert service.get("lin", old.id).model == "My-model+nova"
