"""The optional cross-encoder: held by the registry, loaded once, and its order is the order of the hits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.knowledge.retrieve.embedders import CannotRerank, reranker_held_by
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.knowledge.conftest import ANN, Start, run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with random weights, small enough to make here."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("reranker")
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokens: dict[str, Any] = {word: number for number, word in enumerate(vocabulary)}
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab=tokens).save_pretrained(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(Placement("cpu", "auto", None, 2000, tmp_path), "smollm2-135m")


def test_its_order_is_the_order_of_the_hits(
    start: Start, tmp_path: Path, checkpoint: Path, registry: ModelRegistry
) -> None:
    lease = reranker_held_by(registry.hold, str(checkpoint))
    folder = tmp_path / "fruit"
    folder.mkdir()
    for name in ("apple", "pear", "plum", "cherry", "quince", "fig"):
        (folder / f"{name}.md").write_text(f"# Fruit\n\nThe {name} is a fruit that grows on a tree.\n")
    service = start(lease_reranker=lease)
    run(service.index_folder(ANN, "course", folder))
    found = [hit.passage.content for hit in service.search(ANN, "course", "which fruit grows on a tree", 4)]
    with lease() as reranker:
        texts = [path.read_text()[len("# Fruit\n\n") :].strip() for path in folder.iterdir()]
        everything = {hit.passage.content for hit in service.search(ANN, "course", "which fruit grows on a tree", 20)}
        assert all(any(text in content for content in everything) for text in texts)
        scores = reranker.scores("which fruit grows on a tree", sorted(everything))
        wanted = [text for _, text in sorted(zip(scores, sorted(everything), strict=True), reverse=True)][:4]
    assert found == wanted
    assert len(set(scores)) == 6, "a reranker that tells nothing apart proves nothing"
    (entry,) = [entry for entry in registry.ledger().models if entry.kind == "reranker"]
    assert (entry.state, entry.leases, entry.mib) == ("ready", 0, 1)
    registry.close()


def test_a_name_that_is_no_reranker_says_so(registry: ModelRegistry) -> None:
    with pytest.raises(CannotRerank, match="at-all"), reranker_held_by(registry.hold, "./nowhere/at-all")():
        pass
    registry.close()
