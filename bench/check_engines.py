"""A real vLLM as a child of the registry: start, answers, a stop, an adapter, a fall and its restart, unloading.

python -m bench.check_engines [--vllm .vllm]
"""

import argparse
import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from app.models.catalog import known_models, sources
from app.models.interface import Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from bench.adapters import make_adapter
from bench.concurrency import question
from bench.measure import DATA, line, packaged_model
from bench.peers import BUDGET_MIB, VLLM, launched


def ask(registry: ModelRegistry, name: str = VLLM, tokens: int = 12) -> str:
    with registry.lease(name) as model:
        return "".join(model.stream(question(0), Sampling(temperature=0, max_new_tokens=tokens)))


def servers() -> list[psutil.Process]:
    """vLLM's own processes below this one."""
    return [child for child in psutil.Process().children(recursive=True) if "vllm" in " ".join(child.cmdline()).lower()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm", type=Path, default=Path(".vllm"))
    options = parser.parse_args()
    folder = sources.fetch(known_models.find(known_models.PACKAGED), DATA / "models", lambda *_: None)
    engines = launched(options.vllm, folder, "--enforce-eager", "--enable-lora", "--max-lora-rank=16")
    registry = ModelRegistry(Placement("cpu", "auto", None, BUDGET_MIB, DATA), known_models.PACKAGED, engines=engines)
    try:
        first = ask(registry)
        line(check="answers", answer=first, booked_mib=next(e.mib for e in registry.ledger().models if e.name == VLLM))
        with registry.lease(VLLM) as model:
            stream = model.stream(question(1), Sampling(temperature=0, max_new_tokens=400))
            pieces = iter(stream)
            next(pieces)
            stream.cancel()
            line(check="a stop", left=sum(1 for _ in pieces), finish_reason=stream.finish_reason)
        with TemporaryDirectory() as work:
            tuned = f"{registry.named(str(folder.absolute()))}+made"
            make_adapter(packaged_model().model, Path(work) / "made", rank=8, seed=1, strength=0.1)
            registry.add_adapter(tuned, Path(work) / "made")
            other = ask(registry, f"{VLLM}+made")
            line(check="an adapter of ours", changes_the_answer=other != first, base_stays=ask(registry) == first)
            for process in servers():
                os.kill(process.pid, signal.SIGKILL)
            again, tuned_again = ask(registry), ask(registry, f"{VLLM}+made")
            line(check="restarted after a fall", same_answer=again == first, same_by_adapter=tuned_again == other)
            registry.remove_adapter(tuned)
            line(check="withdrawn", left=f"{VLLM}+made" in registry.names())
    finally:
        registry.close()
    line(check="ended with the registry", processes_left=len(servers()))


if __name__ == "__main__":
    main()
