"""Batches by torch's flash attention for GPUs give the logits of the plain pass; which attention is tried, and when."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from app.models.backends import local_engine
from app.models.backends.hf_generate import GenerateEngine
from app.models.backends.local_engine import Verdict, Verdicts, open_engine
from app.models.catalog import known_models
from app.models.engine import attention_kinds, varlen_attention
from app.models.engine.engine import Engine, EngineOptions
from app.models.interface import Sampling
from app.models.loading.loader import LoadedModel, load
from bench.check_models import turns
from bench.tiny_checkpoints import save_tiny
from tests.models.engine.varlen_reference import by_request

OPTIONS = EngineOptions(cache_tokens=1024, page_size=16, attention_kind="varlen")
OPTIONS_BY_REQUEST = EngineOptions(cache_tokens=1024, page_size=16, attention_kind="by request")
GREEDY = Sampling(temperature=0, max_new_tokens=8, ignore_eos=True)


def loaded_from(folder: Path) -> LoadedModel:
    return load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen_attention, "varlen_attn", by_request)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text", "deepseek_v3", "gpt2"])
def test_requests_side_by_side_have_the_logits_of_each_alone(kind: str, tmp_path: Path) -> None:
    engine = Engine(kind, loaded_from(save_tiny(kind, tmp_path)), OPTIONS)
    try:
        assert engine.proof() == ""
    finally:
        engine.close()


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kind", ["gemma2", "nemotron"])
def test_layers_that_cap_scores_or_drop_what_the_batch_tells_them_are_not_batched(kind: str, tmp_path: Path) -> None:
    capped = {"attn_logit_softcapping": 0.5} if kind == "gemma2" else {}
    engine = Engine(kind, loaded_from(save_tiny(kind, tmp_path, **capped)), OPTIONS)
    try:
        assert "drops keyword arguments or caps scores" in engine.proof()
    finally:
        engine.close()


def test_where_the_fastest_attention_fails_the_next_is_proven_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny("llama", tmp_path / "llama")
    plain = Engine("llama", loaded_from(folder), OPTIONS_BY_REQUEST)
    expected = "".join(plain.stream(turns("Hello"), GREEDY))
    plain.close()
    monkeypatch.setattr(local_engine, "attention_kinds", lambda _: ("varlen", "by request"))
    verdicts = Verdicts(tmp_path / "proofs.json")
    for _ in range(2):  # torch's kernel does not run on a processor: proven once, then known
        engine = open_engine("llama", loaded_from(folder), EngineOptions(1024, 16), verdicts, "key")
        assert isinstance(engine, Engine) and engine.options.attention_kind == "by request"
        assert "".join(engine.stream(turns("Hello"), GREEDY)) == expected
        engine.close()
        monkeypatch.setattr(Engine, "proof", lambda _: "asked again")
    assert verdicts.get("key") == Verdict(attention="by request")
    monkeypatch.undo()
    monkeypatch.setattr(local_engine, "attention_kinds", lambda _: ("varlen",))
    alone = open_engine("llama", loaded_from(folder), EngineOptions(1024, 16), verdicts, "other")
    assert isinstance(alone, GenerateEngine) and "".join(alone.stream(turns("Hello"), GREEDY)) == expected
    assert (verdicts.get("other") or Verdict()).fault


@pytest.mark.parametrize(
    ("facts", "has_flash", "kinds"),
    [
        ({}, True, ("flash", "varlen", "library")),
        ({}, False, ("varlen", "library")),
        ({"supported": False}, True, ("varlen", "library")),
        ({"width": 512}, True, ("flash", "library")),
        ({"dtype": torch.float32}, True, ("library",)),
        ({"capability": (7, 5)}, True, ("library",)),
    ],
)
def test_a_gpu_tries_flash_attention_where_its_numbers_and_its_generation_bear_it(
    facts: dict[str, Any], has_flash: bool, kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_kinds, "has_flash_attention", lambda: has_flash)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: facts.get("capability", (8, 0)))
    config = LlamaConfig(num_hidden_layers=1, num_attention_heads=4, head_dim=facts.get("width", 64))
    model = SimpleNamespace(
        config=config,
        device=torch.device("cuda"),
        dtype=facts.get("dtype", torch.bfloat16),
        _supports_flash_attn=facts.get("supported", True),
    )
    assert attention_kinds.attention_kinds(model) == kinds
