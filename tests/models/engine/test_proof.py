"""Fifteen kinds of architecture, tiny and on disk as repositories have them, answer as `generate` does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.models.backends.hf_generate import GenerateEngine
from app.models.backends.local_engine import Verdict, Verdicts, open_engine, verdict_key
from app.models.catalog import known_models
from app.models.engine.engine import Engine, EngineOptions
from app.models.interface import Sampling
from app.models.loading.errors import NotAChatModel, TokenizerDoesNotMatch, WeightsAreNotNumbers
from app.models.loading.loader import LoadedModel, load
from bench.check_models import check, turns
from bench.tiny_checkpoints import byte_tokenizer, save_tiny

SOFT_CAP = {"attn_logit_softcapping": 0.5}
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("llama", {}, "batched"),
    "biases, tied": ("qwen2", {}, "batched"),
    "norms on queries and keys": ("qwen3", {}, "batched"),
    "sliding window": ("mistral", {}, "batched"),
    "sliding and full layers": ("gemma3_text", {}, "batched"),
    "capped scores": ("gemma2", SOFT_CAP, "one at a time"),
    "positions learned": ("gpt2", {}, "batched"),
    "experts": ("mixtral", {}, "batched"),
    "parallel layers": ("gpt_neox", {}, "batched"),
    "layers that drop keyword arguments": ("nemotron", {}, "one at a time"),
    "differential attention": ("diffllama", {}, "one at a time"),
    "latent attention": ("deepseek_v3", {}, "batched"),
    "state space": ("mamba", {}, "one at a time"),
    "biased attention, no length": ("bloom", {}, "one at a time"),
    "an encoder": ("bert", {}, "refused"),
}


@pytest.mark.parametrize("name", KINDS)
def test_it_answers_like_generate_or_is_refused(name: str, tmp_path: Path) -> None:
    kind, more, verdict = KINDS[name]
    outcome = check(kind, tmp_path, **more)
    assert outcome.verdict == verdict, outcome.detail


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return save_tiny("llama", tmp_path / "llama")


def loaded_from(folder: Path) -> LoadedModel:
    return load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)


def test_what_was_proven_is_kept_with_the_checkpoint(llama: Path, tmp_path: Path) -> None:
    verdicts, loaded = Verdicts(tmp_path / "kept" / "proofs.json"), loaded_from(llama)
    key = verdict_key(llama, loaded, None)
    options = EngineOptions(cache_tokens=512, page_size=16)
    engine = open_engine("llama", loaded, options, verdicts, key)
    engine.close()
    assert isinstance(engine, Engine) and verdicts.get(key) == Verdict(attention="by request")
    verdicts.put(key, Verdict("it once answered otherwise"))
    again = open_engine("llama", loaded_from(llama), options, Verdicts(tmp_path / "kept" / "proofs.json"), key)
    again.close()
    assert isinstance(again, GenerateEngine), "not proven again"
    weights = load_file(llama / "model.safetensors")
    save_file(weights | {"more": torch.zeros(1)}, llama / "model.safetensors")
    assert verdict_key(llama, loaded, None) != key != verdict_key(llama, loaded, "4bit")


def test_other_logits_in_the_batch_than_alone_are_found(llama: Path) -> None:
    engine = Engine("llama", loaded_from(llama), EngineOptions(cache_tokens=512, page_size=16))
    layer = engine.loaded.model.get_submodule("model.layers.1.mlp")  # not of the twin that reads alone
    handle = layer.register_forward_hook(lambda _module, _arguments, out: out * 1.1)
    try:
        assert "differ" in engine.proof()
        handle.remove()
        assert engine.proof() == ""
    finally:
        engine.close()


def test_weights_that_are_no_numbers_are_an_error_of_loading(llama: Path, tmp_path: Path) -> None:
    weights = load_file(llama / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = float("nan")
    save_file(weights, llama / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsAreNotNumbers):
        open_engine("llama", loaded_from(llama), EngineOptions(512, 16), Verdicts(tmp_path / "p.json"), "")


def test_a_tokenizer_of_another_model_is_an_error_of_loading(llama: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})  # added without a row for it: only who types it is concerned
    tokenizer.save_pretrained(llama)
    assert loaded_from(llama).embeddings == len(tokenizer) - 1
    tokenizer.chat_template = "<pad>" + str(tokenizer.chat_template)
    tokenizer.save_pretrained(llama)
    with pytest.raises(TokenizerDoesNotMatch):
        loaded_from(llama)


def test_a_reward_model_is_no_chat_model(llama: Path) -> None:
    config = (llama / "config.json").read_text()
    (llama / "config.json").write_text(config.replace("LlamaForCausalLM", "LlamaForSequenceClassification"))
    with pytest.raises(NotAChatModel, match="no language model"):
        loaded_from(llama)


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_scores_beside_a_running_request_are_those_of_the_model_alone(kind: str, tmp_path: Path) -> None:
    engine = Engine(
        kind, loaded_from(save_tiny(kind, tmp_path, sliding_window=256)), EngineOptions(cache_tokens=1024, page_size=16)
    )
    ask, answer = turns("A long prompt. " * 8), "some answer"
    alone = [score.logprob for score in engine.score_tokens(ask, answer, 2)]
    try:
        running = engine.stream(turns("x"), Sampling(temperature=0, max_new_tokens=400, ignore_eos=True))
        pieces = iter(running)
        next(pieces)
        beside = [score.logprob for score in engine.score_tokens(ask, answer, 2)]
        assert running.finish_reason is None
        running.cancel()
    finally:
        engine.close()
    assert beside == pytest.approx(alone, abs=1e-4)
