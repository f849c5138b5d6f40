"""Base and adapters in one batch: what an adapter costs in time and memory, and what switching costs.

python -m bench.adapters [--tokens 64] [--rank 16] [--device cpu]
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import nn

from app.models.engine.engine import Engine, EngineOptions
from app.models.interface import Message, Sampling
from bench.measure import line, machine, packaged_model

NAMES = ("first", "second", "third")
REPEATS = 3


def make_adapter(model: nn.Module, folder: Path, rank: int, seed: int, strength: float = 0.02) -> int:
    """An adapter over every linear layer of the decoder, in the base's number format; its tensors' bytes."""
    made = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "lm_head" not in name:
            down = torch.randn(rank, module.in_features, generator=made) * strength
            up = torch.randn(module.out_features, rank, generator=made) * strength
            tensors[f"base_model.model.{name}.lora_A.weight"] = down.to(torch.bfloat16)
            tensors[f"base_model.model.{name}.lora_B.weight"] = up.to(torch.bfloat16)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    targets = sorted({name.split(".")[-3] for name in tensors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return sum(tensor.nbytes for tensor in tensors.values())


def question(number: int) -> list[Message]:
    return [{"role": "user", "content": f"Tell me story number {number} in a few sentences."}]


class Runs:
    """Timed answers of one engine; every answer has the same number of tokens."""

    def __init__(self, engine: Engine, tokens: int) -> None:
        self.engine = engine
        self.sampling = Sampling(temperature=0, top_p=1, max_new_tokens=tokens)

    def together(self, adapters: Sequence[str | None]) -> float:
        """Seconds until all requests, submitted at once, have their answers."""
        start = time.perf_counter()
        streams = [
            self.engine.stream(question(number), self.sampling, adapter=adapter)
            for number, adapter in enumerate(adapters)
        ]
        for stream in streams:
            for _ in stream:
                pass
        return time.perf_counter() - start

    def in_turn(self, adapters: Sequence[str | None]) -> float:
        """Seconds for the same requests one after another."""
        start = time.perf_counter()
        for number, adapter in enumerate(adapters):
            for _ in self.engine.stream(question(number), self.sampling, adapter=adapter):
                pass
        return time.perf_counter() - start

    def first_token(self, adapter: str | None) -> float:
        """Seconds until the first piece of an answer."""
        start = time.perf_counter()
        stream = self.engine.stream(question(0), self.sampling, adapter=adapter)
        next(iter(stream))
        seconds = time.perf_counter() - start
        stream.cancel()
        return seconds


def best(values: Sequence[float]) -> float:
    """The run that the rest of the machine disturbed least."""
    return min(values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    # without stop tokens every answer is as long as every other
    loaded = replace(packaged_model(options.device), stop_token_ids=())
    engine = Engine("smollm2-135m", loaded, EngineOptions(cache_tokens=8192))
    line(**machine(), tokens=options.tokens, rank=options.rank, device=options.device)
    runs = Runs(engine, options.tokens)
    bare = best([runs.together([None]) for _ in range(REPEATS + 1)])
    with TemporaryDirectory() as work:
        for number, name in enumerate(NAMES):
            folder = Path(work) / name
            size = make_adapter(loaded.model, folder, options.rank, number)
            start = time.perf_counter()
            engine.adapters.add(name, folder)
            loading = time.perf_counter() - start
            held = engine.adapters.loaded(name).bytes
            line(adapter=name, file_mib=size / 2**20, held_mib=held / 2**20, ratio=held / size, load_s=loading)
            if number == 0:
                pair = best([runs.together([None, name]) for _ in range(REPEATS + 1)])
    alone = best([runs.together([None]) for _ in range(REPEATS)])
    line(case="base alone", no_adapter_loaded_s=bare, adapters_loaded_s=alone)
    line(case="base and tuned together", seconds=pair, against_base_alone=pair / bare)
    eight = [None, *NAMES] * 2
    batch = best([runs.together(eight) for _ in range(REPEATS)])
    serial = best([runs.in_turn(eight) for _ in range(2)])
    line(case="8 requests over base and 3 adapters", together_s=batch, one_after_another_s=serial)
    stay = best([runs.first_token("first") for _ in range(REPEATS)])
    switch = best([max(runs.first_token(None), runs.first_token("first")) for _ in range(REPEATS)])
    line(case="first token", same_adapter_s=stay, other_adapter_each_time_s=switch)
    line(bench="adapters", ratio=serial / batch, of="8 requests over base and 3 adapters, one after another")
    engine.close()


if __name__ == "__main__":
    main()
