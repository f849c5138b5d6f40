"""The fused forward pass is that of the layers themselves, with adapters and without, whoever else is in the step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.models.catalog import known_models
from app.models.engine.engine import Engine, EngineOptions
from app.models.engine.fused.decoder import FusedDecoder
from app.models.interface import Sampling
from app.models.loading.loader import LoadedModel, load
from app.models.loading.packed_linear import pack
from bench.tiny_checkpoints import save_tiny
from tests.models.engine.adapter_batches import save_adapter

OPTIONS = EngineOptions(cache_tokens=4096, page_size=16, max_batched_tokens=64)
FUSED, PLAIN = ("llama", "mistral", "qwen2", "qwen3"), ("gemma2", "phi3")


def loaded(kind: str, folder: Path, dtype: str = "bfloat16", **sizes: Any) -> LoadedModel:
    path = save_tiny(kind, folder / kind, **sizes)
    model = load(path, known_models.find(str(path)), "cpu", dtype, None, lambda *_: None)
    pack(model.model)
    return model


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each fused pass had."""
    seen: list[int] = []
    run = FusedDecoder.logits

    def counted(self: FusedDecoder, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(tokens.shape[-1])
        return run(self, tokens, *rest)

    monkeypatch.setattr(FusedDecoder, "logits", counted)
    return seen


def gaps(engine: Engine, adapters: list[str | None], longer: int = 0, tokens: int = 12) -> list[float]:
    """How far the log-probabilities of each answer's tokens, drawn in one batch, are from those of a plain pass over
    the whole; the largest of each answer."""
    wanted = Sampling(temperature=0, max_new_tokens=tokens, ignore_eos=True, top_logprobs=1)
    prompts = [[17 + 5 * number, 3, *range(40, 45 + 9 * number + longer)] for number in range(len(adapters))]
    streams = [engine.complete(ids, wanted, adapter=adapter) for ids, adapter in zip(prompts, adapters, strict=True)]
    found = []
    for stream, ids, adapter in zip(streams, prompts, adapters, strict=True):
        for _ in stream:
            pass
        drawn = [(token, log) for token, log, _ in stream.recorded or ()]
        whole = [*ids, *(token for token, _ in drawn)]
        read = engine.score_text(whole, 1, len(ids), adapter)
        found.append(max(abs(log - score.logprob) for (_, log), score in zip(drawn, read, strict=True)))
    return found


@pytest.mark.parametrize("kind", FUSED)
def test_a_step_is_fused_and_gives_what_the_layers_give(kind: str, tmp_path: Path, passes: list[int]) -> None:
    engine = Engine(kind, loaded(kind, tmp_path, sliding_window=None), OPTIONS)
    try:
        assert engine.proof() == ""
        assert max(passes) > OPTIONS.page_size and min(passes) <= 2, "prompts and decoding"
    finally:
        engine.close()


@pytest.mark.parametrize("kind", PLAIN)
def test_other_architectures_are_run_by_their_own_layers(kind: str, tmp_path: Path, passes: list[int]) -> None:
    engine = Engine(kind, loaded(kind, tmp_path), OPTIONS)
    try:
        assert engine.proof() == ""
        assert passes == []
    finally:
        engine.close()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(("dtype", "tied"), [("bfloat16", False), ("bfloat16", True), ("float32", False)])
def test_adapters_and_the_base_in_one_step_are_each_itself(
    dtype: str, tied: bool, tmp_path: Path, passes: list[int]
) -> None:
    model = loaded("llama", tmp_path, dtype, tie_word_embeddings=tied)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "llama")
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    kinds = {
        "every": {"target_modules": every},
        "head": {"target_modules": ["up_proj", "lm_head"]},
        "dora": {"target_modules": ["v_proj", "down_proj"], "use_dora": True},
    }
    engine = Engine("base", model, OPTIONS)
    try:
        bare = gaps(engine, [None, None])  # no adapter is there
        for number, (name, lora) in enumerate(kinds.items()):
            engine.adapters.add(name, save_adapter(base, tmp_path / name, number, 0.1, **lora))
        together = gaps(engine, ["every", None, "head", "dora", "every", None])
        long = gaps(engine, ["every"], 150) + gaps(engine, [None, "head"], 150)
        assert max(bare + together + long) < 0.1, "bfloat16 explains no more"
        assert bool(passes) == (dtype == "bfloat16")
    finally:
        engine.close()
