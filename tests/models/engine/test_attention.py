"""In float32 the batch gives, token for token, what transformers' own `generate` gives each request alone."""

import pytest
import torch
from transformers import LlamaForCausalLM

from app.models.engine.attention import round_up_pages
from app.models.interface import Sampling
from tests.models.engine.adapter_batches import tiny_llama
from tests.models.engine.running_batch import RunningBatch

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
    batch = RunningBatch(model)
    try:
        assert batch.answers(24, [(prompt, Sampling(temperature=0), None) for prompt in prompts]) == alone
    finally:
        batch.close()


@pytest.mark.parametrize(("pages", "rounded"), [(1, 1), (4, 4), (5, 6), (8, 8), (9, 12), (17, 24), (33, 48)])
def test_page_counts_are_rounded_to_few_shapes(pages: int, rounded: int) -> None:
    assert round_up_pages(pages) == rounded
