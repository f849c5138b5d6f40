"""A Hugging Face checkpoint in 8 and 4 bits on a processor, held in several ways, against the same checkpoint as it is.

Each way is loaded in a process of its own and answers through the app's engine. The packaged weights lie on a grid of
4 bits, which would favour whatever rounds to the same grid; they are moved off it first, by up to half a step.
The last row is the GGUF file by llama.cpp, for comparison; it is the packaged one as it is, so it has no drift here.

`cpu_ms` is processor time for a token, over all rounds: a busy machine changes it less than the rates.
torchao is in no requirements file: `pip install --no-deps torchao==0.18.0`. What is not installed says so in its row.

python -m bench.quantised [--tokens 48] [--rounds 2] [--prompts 20] [--ways "as it is" "our 4bit"]
"""

import argparse
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

from app.models.catalog import bundled, known_models, sources
from app.models.engine.engine import Engine, EngineOptions
from app.models.loading.loader import LoadedModel, load
from app.models.registry.drift import Reference, answered, compared, prompts, summary
from bench.measure import DATA, line, machine
from bench.single import USERS, ours, rates

PLAIN = "as it is"
LLAMA = "llama.cpp Q4_1"
GRID = 32  # inputs that share a scale in the packaged file
Made = tuple[int, dict[int, float], dict[str, float]]  # MiB, tokens/s by users, what else is told


def _nf4() -> Any:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _torchao_int8() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _torchao_int8_dynamic() -> Any:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig())


def _torchao_int4() -> Any:
    from torchao.prototype.quantization.int4.inference_workflow import PrototypeInt4WeightOnlyConfig

    return TorchAoConfig(PrototypeInt4WeightOnlyConfig(group_size=32, set_inductor_config=False))


OURS = {  # number format, bits
    PLAIN: ("bfloat16", None),
    "float32": ("float32", None),
    "our 8bit": ("bfloat16", "8bit"),
    "our 4bit": ("bfloat16", "4bit"),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "bitsandbytes int8": lambda: BitsAndBytesConfig(load_in_8bit=True),
    "bitsandbytes nf4": _nf4,
    "torchao int8, weights": _torchao_int8,
    "torchao int8, dynamic": _torchao_int8_dynamic,
    "torchao int4, weights": _torchao_int4,
}
WAYS = (*OURS, *OTHERS, LLAMA)


def off_the_grid(source: Path, target: Path) -> None:
    """A copy of the checkpoint whose linear weights are moved by up to half of a 4-bit step."""
    shutil.copytree(source, target)
    torch.manual_seed(0)
    weights = load_file(source / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("_proj.weight"):
            groups = weight.float().view(weight.shape[0], -1, GRID)
            low, high = groups.aminmax(dim=-1, keepdim=True)
            moved = groups + (torch.rand_like(groups) - 0.5) * (high - low) / 15
            weights[name] = moved.view_as(weight).to(weight.dtype)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def loaded_as(way: str, folder: Path) -> LoadedModel:
    card = known_models.find(str(folder))
    if way in OURS:
        return load(folder, card, "cpu", *OURS[way], lambda *_: None)
    wanted = OTHERS[way]()
    plain = load(folder, card, "cpu", "bfloat16", None, lambda *_: None)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=plain.model.dtype, device_map="cpu", quantization_config=wanted
    )
    return replace(plain, model=model)


def measured(way: str, folder: Path, reference: Path, asked: int, tokens: int, rounds: int) -> Made:
    """MiB of weights, tokens/s for one user and for eight, drift from the checkpoint as it is."""
    loaded = loaded_as(way, folder)
    mib = round(sum(map(held, {id(part): part for part in loaded.model.parameters()}.values())) / 2**20)
    engine = Engine(way, loaded, EngineOptions())
    if way == PLAIN:
        Reference(tuple(answered(engine, prompts()[:asked]))).save(reference)
    told = Reference.read(reference)
    assert told is not None, "the checkpoint as it is comes first"
    drift = summary(way, compared(told, engine))
    best, cpu_ms = repeated(lambda: rates(engine, tokens), tokens, rounds)
    engine.close()
    more = {"cpu_ms": cpu_ms, "mean_kl": round(drift.mean_kl, 5), "same_choice": drift.same_choice}
    return mib, best, more


def held(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, or of those that torchao's kinds of tensor are made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.nbytes
    return sum(held(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])


def by_llama(tokens: int, rounds: int) -> Made:
    file = bundled.gguf_file(known_models.find(known_models.PACKAGED))
    best, _ = repeated(lambda: ours(file, tokens), tokens, rounds)
    return round(file.stat().st_size / 2**20), best, {}


def repeated(run: Callable[[], dict[int, float]], tokens: int, rounds: int) -> tuple[dict[int, float], float]:
    """The best rates, and this process's time for a token in ms."""
    began = time.process_time()
    found = [run() for _ in range(rounds)]
    made = rounds * tokens * (USERS + 2)  # one answer to warm up
    return {users: max(one[users] for one in found) for users in (1, USERS)}, 1e3 * (time.process_time() - began) / made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    options = parser.parse_args()
    line(part="machine", **machine())
    ways = dict.fromkeys((PLAIN, *options.ways))
    plain: dict[int, float] = {}
    with TemporaryDirectory() as scratch:
        folder, reference = Path(scratch, "checkpoint"), Path(scratch, "reference.json")
        card = known_models.find(known_models.PACKAGED)
        off_the_grid(sources.fetch(card, DATA / "models", lambda *_: None), folder)
        for way in ways:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                length = (options.tokens, options.rounds)
                if way == LLAMA:
                    task = alone.submit(by_llama, *length)
                else:
                    task = alone.submit(measured, way, folder, reference, options.prompts, *length)
                try:
                    mib, best, more = task.result()
                except Exception as error:  # whatever another library says stands in its row
                    line(way=way, failed=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
                    continue
            plain = plain or best
            shares = {f"of_{users}": rate / plain[users] for users, rate in best.items()}
            line(way=way, mib=mib, tokens_per_s=best[1], tokens_per_s_8=best[USERS], **shares, **more)


if __name__ == "__main__":
    main()
