"""A model that the batch cannot run still streams, stops, and takes its turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from app.models.backends.hf_generate import GenerateEngine
from app.models.engine.batchable import can_batch
from app.models.interface import Message, Sampling
from app.models.loading.loader import LoadedModel
from tests.models.engine.adapter_batches import tiny_llama

HELLO: list[Message] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def engine(packaged_folder: Path) -> Iterator[GenerateEngine]:
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder)
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2)).eval()
    engine = GenerateEngine("mamba", LoadedModel(model, tokenizer, tokenizer.chat_template, (2,), 4096, 1))
    yield engine
    engine.close()


def test_only_attention_models_are_batched(engine: GenerateEngine) -> None:
    assert can_batch(tiny_llama())
    assert not can_batch(engine.loaded.model)


def test_it_streams_what_generate_gives(engine: GenerateEngine) -> None:
    tokens = engine.loaded.tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_dict=False)
    plain = engine.loaded.model.generate(
        torch.tensor([tokens]), do_sample=False, max_new_tokens=8, eos_token_id=None, pad_token_id=0
    )
    generation = engine.stream(HELLO, Sampling(temperature=0, max_new_tokens=8))
    text = "".join(generation)
    assert text == engine.loaded.tokenizer.decode(plain[0, len(tokens) :], skip_special_tokens=True)
    assert (generation.finish_reason, generation.completion_tokens) == ("length", 8)


def test_one_stops_and_the_next_gets_its_turn(engine: GenerateEngine) -> None:
    lengthy, brief = Sampling(temperature=0, max_new_tokens=3000), Sampling(temperature=0, max_new_tokens=4)
    running = engine.stream(HELLO, lengthy, visitor="a")
    next(iter(running))
    later, after = engine.stream(HELLO, lengthy, visitor="b"), engine.stream(HELLO, brief, visitor="c")
    assert [one.queue_ahead for one in (running, later, after)] == [0, 2, 1], "in the order in which they are served"
    running.cancel()
    assert "".join(after)
    assert after.finish_reason == "length"
    later.cancel()
