"""The packaged embedder, and how embedders are held."""

from pathlib import Path

import numpy as np
import pytest

from app.knowledge.retrieve.embedders import PACKAGED, CannotEmbed, PackagedEmbedder, held_by, load_embedder
from app.knowledge.retrieve.sample_vectors import digest, shipped
from app.knowledge.sample_embedding import sample_texts
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry


def test_the_packaged_embedder_knows_both_languages() -> None:
    embedder = load_embedder(PACKAGED)
    passages = embedder.passages(["量化减少显存。", "Cats like boxes.", "猫喜欢纸箱。"])
    question = embedder.query("Why do cats sit in cardboard boxes?")
    assert passages.shape == (3, embedder.dimensions)
    assert np.allclose(np.linalg.norm(passages, axis=1), 1, atol=1e-3)
    assert int(np.argmin(passages @ question)) == 0


def test_the_samples_vectors_that_ship_are_the_embedder_s_own() -> None:
    texts = sample_texts()
    assert {digest(text) for text in texts} == set(shipped()), "run python -m app.knowledge.sample_embedding"
    embedder, mixed = PackagedEmbedder(), [texts[0], "Cats like boxes.", texts[-1]]
    cosines = (embedder.passages(mixed) * embedder.computed(mixed)).sum(axis=1)
    assert min(cosines) > 0.999, cosines  # processors round its 8-bit steps differently
    assert embedder.passages([]).shape == (0, embedder.dimensions)


def test_a_sample_is_not_embedded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, texts = PackagedEmbedder(), sample_texts()[:3]
    monkeypatch.setattr(embedder, "computed", lambda texts: np.zeros((len(texts), embedder.dimensions), np.float32))
    assert np.allclose(np.linalg.norm(embedder.passages([*texts, "new"]), axis=1), [1, 1, 1, 0], atol=1e-3)


def test_a_name_that_is_no_model_says_so() -> None:
    with pytest.raises(CannotEmbed, match="at-all") as refused:
        load_embedder("./nowhere/at-all")
    assert "无法加载" in refused.value.text("zh") and PACKAGED in refused.value.text("zh")


def test_the_registry_holds_it_once_on_its_account(tmp_path: Path) -> None:
    registry = ModelRegistry(Placement("cpu", "auto", None, 1000, tmp_path), "smollm2-135m")
    lease = held_by(registry.hold)
    with lease(PACKAGED) as first, lease(PACKAGED) as second:
        assert first is second
        (entry,) = [entry for entry in registry.ledger().models if entry.name == PACKAGED]
        assert (entry.kind, entry.state, entry.leases) == ("embedder", "ready", 2)
    registry.close()
