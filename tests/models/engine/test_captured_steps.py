"""Steps that are captured once and replayed, as a GPU's are, answer like steps that are run: graphs by a stand-in."""

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.generation.continuous_batching import initialization, model_runner

from app.models.backends.local_engine import Verdict, Verdicts, open_engine
from app.models.catalog import known_models
from app.models.engine import varlen_attention
from app.models.engine.engine import Engine, EngineOptions
from app.models.engine.model_runner import StepRunner
from app.models.interface import Sampling
from app.models.loading.loader import load
from bench.tiny_checkpoints import save_tiny
from tests.models.engine.adapter_batches import alone, save_adapter, tiny_llama
from tests.models.engine.running_batch import RunningBatch
from tests.models.engine.varlen_reference import by_request
from tests.waiting import wait_for

TOKENS = 12
GREEDY = Sampling(temperature=0)


class Graph:
    """What a CUDA graph does: the captured work again, on the tensors and numbers of its capture. Nothing that Python
    kept from it is there."""

    def __init__(self, runner: StepRunner, arguments: tuple[Any, ...], counts: "Counter[str]") -> None:
        self._runner, self._arguments, self._counts = runner, arguments, counts

    def replay(self) -> None:
        self._counts["replayed"] += 1
        StepRunner._forward_process_and_sample(copy.copy(self._runner), *self._arguments)

    def reset(self) -> None:
        """Nothing is held."""


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> "Counter[str]":
    counts: Counter[str] = Counter()

    def capture(runner: StepRunner, forward: Any, _stream: Any, *arguments: Any) -> None:
        counts["captured"] += 1
        forward(*arguments)
        runner.inputs_and_outputs.set_graph(Graph(runner, arguments, counts))

    monkeypatch.setattr(varlen_attention, "varlen_attn", by_request)
    monkeypatch.setattr(initialization, "get_accelerator_graph_name", lambda: "CUDAGraph")
    monkeypatch.setattr(model_runner, "get_memory_pools", lambda: (None, 0))
    monkeypatch.setattr(StepRunner, "_capture_graph", capture)
    return counts


@pytest.fixture
def batch(counts: "Counter[str]") -> Iterator[RunningBatch]:  # noqa: ARG001  capturing is there before it
    made = RunningBatch(tiny_llama(), graph_tokens=64, attention_kind="varlen")
    yield made
    made.close()


def prompts() -> list[list[int]]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(1, 300, (length,), generator=draw).tolist() for length in (1, 16, 17, 40, 90)]


def test_replayed_steps_write_what_each_request_gets_alone_with_adapters_and_without(
    batch: RunningBatch, counts: "Counter[str]", tmp_path: Path
) -> None:
    folders = {
        name: save_adapter(tiny_llama(), tmp_path / name, seed, target_modules=["q_proj", "down_proj"])
        for seed, name in enumerate(("one", "two"))
    }
    batch.bank.add("one", folders["one"])
    used = [None, "one", None, "one", "one"]
    expected = [
        alone(tiny_llama(), folders.get(name or ""), prompt, TOKENS)
        for prompt, name in zip(prompts(), used, strict=True)
    ]
    requests = [(prompt, GREEDY, name) for prompt, name in zip(prompts(), used, strict=True)]
    assert batch.answers(TOKENS, requests) == expected
    captured = counts["captured"]
    batch.bank.add("two", folders["two"])  # into free rows of the same tensors
    assert batch.answers(TOKENS, requests) == expected and counts["captured"] == captured
    assert batch.answers(TOKENS, [(prompts()[3], GREEDY, "two")]) == [
        alone(tiny_llama(), folders["two"], prompts()[3], TOKENS)
    ]
    assert counts["replayed"] > 2 * TOKENS


def test_steps_are_captured_at_load_before_anybody_asks(counts: "Counter[str]", tmp_path: Path) -> None:
    folder = save_tiny("llama", tmp_path / "llama")
    verdicts = Verdicts(tmp_path / "proofs.json")
    verdicts.put("key", Verdict(attention="varlen"))
    loaded = load(folder, known_models.find(str(folder)), "cpu", "float32", None, lambda *_: None)
    engine = open_engine("llama", loaded, EngineOptions(cache_tokens=8192, page_size=16), verdicts, "key")
    assert isinstance(engine, Engine)
    try:
        wait_for(lambda: counts["captured"], 60)
        engine.resize_cache(4096)
        wait_for(lambda: counts["captured"] > 1, 60)
        assert counts["replayed"] == 0
    finally:
        engine.close()


def test_replayed_steps_are_drawn_from_as_each_request_wants(batch: RunningBatch, counts: "Counter[str]") -> None:
    prompt = prompts()[3]
    plain = batch.answers(TOKENS, [(prompt, GREEDY, None)])[0]
    biased = Sampling(temperature=0, logit_bias=((plain[0], -100.0),))
    hot = Sampling(temperature=1.5, top_p=1, seed=7)
    few = Sampling(temperature=1.5, top_k=20, seed=7)
    each = [batch.answers(TOKENS, [(prompt, sampling, None)])[0] for sampling in (biased, hot, few)]
    assert plain[0] not in each[0] and each[1] != plain != each[2]
    together = batch.answers(TOKENS, [(prompt, sampling, None) for sampling in (biased, GREEDY, hot, few)])
    assert together == [each[0], plain, each[1], each[2]]
    assert counts["replayed"] > 4 * TOKENS
