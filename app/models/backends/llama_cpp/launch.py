"""Start a llama.cpp engine for a GGUF file: slots, KV cache size, GPU layers."""

import os
from pathlib import Path

from app.models.backends.llama_cpp.engine import LlamaEngine
from app.models.backends.llama_cpp.gguf_file import GgufFacts
from app.models.backends.llama_cpp.process import CACHE_TYPES, ServerOptions, ServerProcess, has_gpu_support
from app.openmp_threads import cores

SLOTS = 9  # eight answers, and one place that nobody fills alone
MOST_CACHE_TOKENS = 32768
CONVERSATIONS = 8
LEAST_CONTEXT = 2048
USUAL_CONTEXT = 4096  # for a file that does not tell its own
ALL_LAYERS = 999


def device_for(device: str) -> str:
    """Where llama.cpp runs a model: the processor where the installed build cannot use the GPU."""
    return device if device == "cpu" or has_gpu_support() else "cpu"


def open_gguf(name: str, file: Path, facts: GgufFacts, device: str, room: int, cache: str) -> LlamaEngine:
    """`room` is what the cache may take in bytes, `cache` how its numbers are kept. Raises what starting raises."""
    number, width = CACHE_TYPES[cache]
    per_token = facts.cache_bytes_per_token(width) or 1.0
    trained = facts.context_tokens or USUAL_CONTEXT
    wanted = min(trained * CONVERSATIONS, MOST_CACHE_TOKENS, int(room / per_token))
    tokens = max(min(LEAST_CONTEXT, trained), wanted // 256 * 256)
    options = ServerOptions(
        file=os.fspath(file),
        slots=SLOTS,
        cache_tokens=tokens,
        cache_type=number,
        gpu_layers=0 if device == "cpu" else ALL_LAYERS,
        threads=cores(),
    )
    file_mib, cache_mib = round(facts.bytes / 2**20), round(tokens * per_token / 2**20)
    server, context = ServerProcess(name, options), min(trained, tokens)
    return LlamaEngine(server, context, device, file_mib, cache_mib, facts)
