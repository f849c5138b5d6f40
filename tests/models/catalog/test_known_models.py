"""Names to cards, their memory, and what `auto` takes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.errors import ModelError, UnknownModel
from app.models.catalog import known_models
from app.models.loading.checkpoint import BrokenWeights, NoConfig, NoWeights, OnlyAnAdapter


def write_folder(folder: Path, rows: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 512}))
    weights = {"model.embed_tokens.weight": torch.zeros(rows, 4), "model.norm.weight": torch.zeros(4)}
    save_file(weights, folder / "model.safetensors")
    return folder


def test_every_name_of_the_list_is_found_and_its_repository_means_the_same_card() -> None:
    assert {"smollm2-135m", "internlm3-8b", "internlm2.5-1.8b", "internlm2.5-20b", "internlm-7b"} <= set(
        known_models.names()
    )
    for name in known_models.names():
        card = known_models.find(name)
        assert card.name == name
        assert known_models.find(card.location) is card
        assert card.licence and card.note_zh and card.note_en and card.context_tokens and card.parameters


@pytest.mark.parametrize(
    "name", ["", "nothing-like-this", "a/b/c", "../b", "x" * 1000, "a\0b", "https://example.org/a", "a/.."]
)
def test_other_names_are_refused_with_a_few_there_are(name: str) -> None:
    with pytest.raises(UnknownModel) as refusal:
        known_models.find(name)
    said = refusal.value.text("en")
    assert len(said) < 500 and sum(known in said for known in known_models.names()) in range(4)


def test_a_refusal_names_what_reads_alike_and_of_a_path_only_the_path(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"internlm2\.5-7b"):
        known_models.find("internlm2.5-7")
    for path in (str(tmp_path / "internlm3-8b"), "./models/mine", "~/none"):
        with pytest.raises(known_models.NoSuchFolder) as refusal:
            known_models.find(path)
        assert path in refusal.value.text("zh") and known_models.PACKAGED not in refusal.value.text("en")


def test_any_repository_is_a_card_of_unknown_size() -> None:
    card = known_models.find("somebody/some-model_1.5")
    assert (card.source, card.location, card.mib("bfloat16", None)) == ("hub", "somebody/some-model_1.5", 0)


def test_a_folder_is_measured_by_its_files(tmp_path: Path) -> None:
    card = known_models.find(str(write_folder(tmp_path / "mine", rows=2**20)))
    assert (card.source, card.parameters, card.embedding_parameters) == ("folder", 4 * 2**20 + 4, 4 * 2**20)
    assert card.context_tokens == 512
    assert card.mib("float32", None) == 16
    assert card.mib("bfloat16", "4bit") == 8, "embeddings are not quantised"
    large = replace(card, parameters=1004 * 2**20)
    assert (large.mib("bfloat16", "4bit"), large.mib("bfloat16", "4bit", "cpu")) == (524, 633)


def test_folders_that_hold_no_model_say_why(tmp_path: Path) -> None:
    with pytest.raises(NoConfig):
        known_models.find(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(OnlyAnAdapter):
        known_models.find(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(NoConfig):
        known_models.find(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NoWeights):
        known_models.find(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BrokenWeights) as refusal:
        known_models.find(str(tmp_path))
    assert "model.safetensors" in refusal.value.text("zh")
    assert isinstance(refusal.value, ModelError)


@pytest.mark.parametrize("cut", [1, 20, 10**6])
def test_a_cut_weight_file_is_noticed_before_loading(tmp_path: Path, cut: int) -> None:
    folder = write_folder(tmp_path / "cut")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(BrokenWeights):
        known_models.find(str(folder))


def test_a_listed_but_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(BrokenWeights) as refusal:
        known_models.find(str(folder))
    assert "model-00002-of-00002.safetensors" in refusal.value.text("en")


def test_memory_follows_parameters_and_quantisation() -> None:
    card = known_models.find("internlm2.5-7b")
    assert card.mib("bfloat16", None) == card.mib("auto", None) == pytest.approx(7738 * 2 / 1.048576, abs=1)
    assert card.mib("float32", None) == pytest.approx(2 * card.mib("bfloat16", None), abs=1)
    assert 4500 < card.mib("bfloat16", "4bit") < 5500 < card.mib("bfloat16", "8bit") < card.mib("bfloat16", None)


@pytest.mark.parametrize(
    ("gpu_mib", "hub", "name", "quantise"),
    [
        (80_000, True, "internlm3-8b", None),
        (24_000, True, "internlm3-8b", None),
        (12_000, True, "internlm3-8b", "4bit"),
        (6_144, True, "internlm2.5-1.8b", None),
        (3_000, True, "smollm2-135m", None),
        (80_000, False, "smollm2-135m", None),
        (None, True, "smollm2-135m", None),
    ],
)
def test_auto_takes_the_best_that_fits(gpu_mib: int | None, hub: bool, name: str, quantise: str | None) -> None:
    assert known_models.choose(gpu_mib, hub) == known_models.Choice(name, quantise)
