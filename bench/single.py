"""llama.cpp by `llama-cpp-python` alone against the same GGUF file through our registry: one user, then eight together.

The baseline answers one after the other, as it serves. It comes as source only and is built on this machine (a C++
compiler and cmake; some ten minutes), with all that this processor can do: `pip install llama-cpp-python==0.3.36`. So
it is in no requirements file. Each side runs while the other is not in memory; sides alternate, the best round counts.

python -m bench.single [--tokens 128] [--rounds 3] [--file model.gguf]
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.models.catalog import bundled, known_models
from app.models.interface import ChatModel, Message, Sampling
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from bench.measure import DATA, line, machine

USERS = 8
TOPICS = ("a fox", "the sea", "a lost key", "two friends", "a long winter", "the moon", "an old train", "a garden")


def question(user: int) -> Message:
    return {"role": "user", "content": f"Tell me a long story about {TOPICS[user]}, with many details."}


def baseline(file: Path, tokens: int) -> dict[int, float]:
    """Tokens per second for one user and for eight who wait for each other."""
    from llama_cpp import Llama

    model = Llama(str(file), n_ctx=2048, verbose=False)

    def ask(user: int) -> int:
        messages = [dict(question(user))]
        stream = model.create_chat_completion(messages, temperature=0, max_tokens=tokens, stream=True)
        return sum(1 for event in stream if event["choices"][0]["delta"].get("content"))

    ask(1)
    found = {1: _rate(lambda: ask(0)), USERS: _rate(lambda: sum(ask(user) for user in range(USERS)))}
    model.close()
    return found


def ours(file: Path, tokens: int) -> dict[int, float]:
    """The same through the registry, all at once."""
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, DATA), str(file))
    with registry.lease(str(file)) as model:
        found = rates(model, tokens)
    registry.close()
    return found


def rates(model: ChatModel, tokens: int) -> dict[int, float]:
    """A model's tokens per second for one user and for eight together."""
    sampling = Sampling(temperature=0, max_new_tokens=tokens)

    def ask(user: int) -> int:
        stream = model.stream([question(user)], sampling, visitor=str(user))
        for _ in stream:
            pass
        return stream.completion_tokens

    def together() -> int:
        with ThreadPoolExecutor(USERS) as users:
            return sum(users.map(ask, range(USERS)))

    ask(1)
    return {1: _rate(lambda: ask(0)), USERS: _rate(together)}


def _rate(run: Callable[[], int]) -> float:
    began = time.perf_counter()
    return run() / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--file", type=Path, default=bundled.gguf_file(known_models.find(known_models.PACKAGED)))
    options = parser.parse_args()
    line(part="machine", **machine())
    best: dict[tuple[str, int], float] = {}
    for number in range(options.rounds):
        for side, run in (("llama-cpp-python", baseline), ("ours", ours)):
            for users, rate in run(options.file, options.tokens).items():
                line(round=number, side=side, users=users, tokens_per_s=rate)
                best[side, users] = max(rate, best.get((side, users), 0.0))
    ratios = {users: best["ours", users] / best["llama-cpp-python", users] for users in (1, USERS)}
    for users, ratio in ratios.items():
        line(part="users", users=users, ratio=ratio, of="tokens/s, ours over llama-cpp-python, best rounds")
    line(bench="single", ratio=ratios[1], of="tokens/s for one user, our engine over llama-cpp-python, same GGUF")


if __name__ == "__main__":
    main()
