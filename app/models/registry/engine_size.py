"""How large a model's batch is on a device: tokens and requests of a step, cache tokens that its room affords."""

from dataclasses import dataclass, replace
from typing import Any

from app.models.engine.attention_kinds import attention_kinds
from app.models.engine.engine import LEAST_CACHE_TOKENS, EngineOptions
from app.models.registry.device_memory import cache_bytes_per_token

CONVERSATIONS = 8  # full-length ones that a processor's cache is sized for, where the budget allows
MOST_CACHE_TOKENS = 32768  # on a processor
GPU_STEP_TOKENS, GPU_STEP_REQUESTS = 2048, 256  # a GPU is not busy with less
LOGIT_BYTES = 10  # twice in the model's number format, in float32, and what a draw makes of them


@dataclass(frozen=True)
class EngineSize:
    """`affordable` is how many tokens the room holds, `per_token` their bytes, `step` those of one step beside them.
    `gives_back`: what the cache has more than it needs is for other models that come."""

    options: EngineOptions
    affordable: int
    per_token: int
    step: int = 0
    gives_back: bool = False

    def mib(self, tokens: int) -> int:
        return round((tokens * self.per_token + self.step) / 2**20)


def engine_size(model: Any, context_tokens: int, room: int) -> EngineSize:
    """For a model that lies where it will run, with `room` bytes for keys and values and for what a step needs."""
    per_token = max(1, cache_bytes_per_token(model))
    options, step, on_gpu = EngineOptions(), 0, model.device.type == "cuda"
    if on_gpu:
        options = EngineOptions(max_batched_tokens=GPU_STEP_TOKENS, max_running_requests=GPU_STEP_REQUESTS)
        step = step_bytes(model, GPU_STEP_TOKENS, GPU_STEP_REQUESTS)
        per_token += reading_bytes(model, per_token)
        wanted = context_tokens * GPU_STEP_REQUESTS
    else:
        wanted = min(context_tokens * CONVERSATIONS, MOST_CACHE_TOKENS)
    affordable = max(LEAST_CACHE_TOKENS, (room - step) // per_token)
    tokens = max(LEAST_CACHE_TOKENS, min(wanted, affordable))
    return EngineSize(replace(options, cache_tokens=tokens), affordable, per_token, step, gives_back=on_gpu)


def reading_bytes(model: Any, cached: int) -> int:
    """What a token that is read costs beside its `cached` bytes: one layer's keys and values are gathered at a time, by
    places of 8 bytes for each of two steps; without flash attention each token of a step has a number for it."""
    layers = model.config.get_text_config().num_hidden_layers
    mask = GPU_STEP_TOKENS * model.dtype.itemsize if attention_kinds(model)[0] == "library" else 0
    return cached // max(1, layers) + 16 + mask


def step_bytes(model: Any, tokens: int, requests: int) -> int:
    """About what one step needs beside weights and cache: a layer's states, and the logits of those that draw."""
    config = model.config.get_text_config()
    hidden = getattr(config, "hidden_size", 0) or 0
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    return tokens * (6 * hidden + 3 * inner) * model.dtype.itemsize + requests * config.vocab_size * LOGIT_BYTES
