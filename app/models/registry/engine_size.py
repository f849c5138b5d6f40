"""How large a model's batch is on a device: tokens and requests of a step, cache tokens that its room affords."""

from dataclasses import dataclass, replace
from typing import Any

from app.models.engine.engine import EngineOptions
from app.models.registry.device_memory import cache_bytes_per_token

LEAST_CACHE_TOKENS = 4096
CONVERSATIONS = 8  # full-length ones that a processor's cache is sized for, where the budget allows
MOST_CACHE_TOKENS = 32768  # on a processor
GPU_STEP_TOKENS, GPU_STEP_REQUESTS = 2048, 256  # a GPU is not busy with less
LOGIT_BYTES = 8  # in the model's number format, in float32, and what a draw makes of them


@dataclass(frozen=True)
class EngineSize:
    """`affordable` is how many tokens the room holds, `per_token` their bytes."""

    options: EngineOptions
    affordable: int
    per_token: int

    def mib(self, tokens: int) -> int:
        return round(tokens * self.per_token / 2**20)


def engine_size(model: Any, context_tokens: int, room: int) -> EngineSize:
    """For a model that lies where it will run, with `room` bytes for keys and values and for what a step needs."""
    per_token = max(1, cache_bytes_per_token(model))
    options = EngineOptions()
    if model.device.type == "cuda":
        options = EngineOptions(max_batched_tokens=GPU_STEP_TOKENS, max_running_requests=GPU_STEP_REQUESTS)
        room -= step_bytes(model, GPU_STEP_TOKENS, GPU_STEP_REQUESTS)
        wanted = context_tokens * GPU_STEP_REQUESTS
    else:
        wanted = min(context_tokens * CONVERSATIONS, MOST_CACHE_TOKENS)
    affordable = max(LEAST_CACHE_TOKENS, room // per_token)
    tokens = max(LEAST_CACHE_TOKENS, min(wanted, affordable))
    return EngineSize(replace(options, cache_tokens=tokens), affordable, per_token)


def step_bytes(model: Any, tokens: int, requests: int) -> int:
    """About what one step needs beside weights and cache: a layer's states, and the logits of those that draw."""
    config = model.config.get_text_config()
    hidden = getattr(config, "hidden_size", 0) or 0
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    return tokens * (6 * hidden + 3 * inner) * model.dtype.itemsize + requests * config.vocab_size * LOGIT_BYTES
