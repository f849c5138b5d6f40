"""In float32 the batch gives, token for token, what transformers' own `generate` gives each request alone."""

import threading
from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM

from app.models.engine.attention import round_up_pages
from app.models.engine.batch_manager import BatchManager
from app.models.engine.lora import AdapterBank
from app.models.engine.sampler import RequestSampling
from app.models.interface import Sampling
from tests.models.engine.adapter_batches import tiny_llama

LENGTHS = (1, 3, 13, 14, 15, 16, 17, 40, 90, 200)  # often more than three of one number of pages


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny_llama()


def plain(model: LlamaForCausalLM, prompt: list[int], tokens: int) -> list[int]:
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
    )
    model.set_attn_implementation(own)
    return out[0, len(prompt) :].tolist()


def test_requests_of_all_lengths_in_one_batch_equal_each_alone(model: LlamaForCausalLM) -> None:
    prompts = [torch.randint(1, 300, (length,)).tolist() for length in LENGTHS]
    alone = [plain(model, prompt, 24) for prompt in prompts]
    bank = AdapterBank()
    bank.install(model)
    options = {
        "cache_tokens": 2048,
        "page_size": 16,
        "max_batched_tokens": 64,
        "max_running_requests": 10,
        "prefix_sharing": True,
    }
    manager = BatchManager(model, bank, **options)
    manager.start()
    finished: dict[int, list[int]] = {}
    done = threading.Event()

    def receive(number: int, output: object) -> None:
        if output.is_finished():
            finished[number] = output.generated_tokens
            if len(finished) == len(prompts):
                done.set()

    try:
        for number, prompt in enumerate(prompts):
            sampling = RequestSampling(replace(Sampling(), temperature=0))
            manager.submit(
                str(number), prompt, 24, [-1], sampling, f"v{number}", 0, lambda out, n=number: receive(n, out)
            )
        assert done.wait(120)
    finally:
        manager.stop(hard_stop=True)
    assert [finished[number] for number in range(len(prompts))] == alone


@pytest.mark.parametrize(("pages", "rounded"), [(1, 1), (4, 4), (5, 6), (8, 8), (9, 12), (17, 24), (33, 48)])
def test_page_counts_are_rounded_to_few_shapes(pages: int, rounded: int) -> None:
    assert round_up_pages(pages) == rounded
