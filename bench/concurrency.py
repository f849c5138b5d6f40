"""The engine against plain `generate` behind a lock, which is what a simple demo does: same weights, same prompts.

python -m bench.concurrency [--tokens 64] [--device cpu] [--users 1 8] [--parts users memory]
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, TextIteratorStreamer

from app.models.engine.engine import Engine, EngineOptions
from app.models.interface import Message, Sampling
from app.models.loading.loader import LoadedModel
from app.openmp_threads import all_cores
from bench.measure import line, machine, packaged_model, percentile

USERS = (1, 2, 4, 8, 16)
PARTS = ("users", "stop", "turns", "memory")
TOPICS = ("a fox", "the sea", "a lost key", "two friends", "a long winter", "the moon", "an old train", "a garden")
Answer = Callable[[Sequence[Message]], Iterator[str]]


def question(user: int) -> list[Message]:
    topic = TOPICS[user % len(TOPICS)]
    return [{"role": "user", "content": f"Tell me story number {user} about {topic}, in a few sentences."}]


class Serial:
    """One `generate` at a time, with its streamer."""

    def __init__(self, loaded: LoadedModel, tokens: int) -> None:
        self.loaded, self.tokens = loaded, tokens
        self.lock = threading.Lock()
        self.model: Any = AutoModelForCausalLM.from_config(loaded.model.config, attn_implementation="sdpa").eval()
        self.model.load_state_dict(loaded.model.state_dict(), assign=True)
        self.model.tie_weights()

    def answer(self, messages: Sequence[Message]) -> Iterator[str]:
        tokenizer: Any = self.loaded.tokenizer
        inputs = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
        options = {"max_new_tokens": self.tokens, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        with self.lock:
            run = threading.Thread(target=self._generate, kwargs={**inputs, **options, "streamer": streamer})
            run.start()
            yield from streamer
            run.join()

    def _generate(self, **inputs: Any) -> None:
        with all_cores():
            self.model.generate(**inputs)


def timed(answer: Answer, users: int, tokens: int) -> dict[str, float]:
    """All users ask at once."""
    first: list[float] = []

    def ask(user: int) -> None:
        pieces = answer(question(user))
        next(piece for piece in pieces if piece)
        first.append(time.perf_counter() - began)
        for _ in pieces:
            pass

    threads = [threading.Thread(target=ask, args=(user,)) for user in range(users)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return {
        "tokens_per_s": users * tokens / seconds,
        "first_token_s": percentile(first, 0.5),
        "first_token_p95_s": percentile(first, 0.95),
    }


def stop_latency(engine: Engine, others: int) -> None:
    """One user stops while others stream: how long until the iterator ends, and what the others' steps take."""
    streams = [engine.stream(question(n), Sampling(temperature=0, max_new_tokens=192)) for n in range(others + 1)]
    gaps: list[float] = []

    def read(stream: Any) -> None:
        last = time.perf_counter()
        for _ in stream:
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()

    readers = [threading.Thread(target=read, args=(stream,)) for stream in streams[1:]]
    for reader in readers:
        reader.start()
    own = iter(streams[0])
    for _ in range(24):
        next(own)
    began = time.perf_counter()
    streams[0].cancel()
    rest = sum(1 for _ in own)
    stopped = time.perf_counter() - began
    for reader in readers:
        reader.join()
    line(part="stop", others=others, stop_s=stopped, pieces_after_stop=rest, step_s=percentile(gaps, 0.5))


def second_turn(engine: Engine, label: str) -> float:
    """First token of turn 2 over first token of turn 1, in a conversation of about 2,000 tokens."""
    text = " ".join(f"Fact {n}: the {TOPICS[n % 8]} was seen {n} times." for n in range(150))
    turn: list[Message] = [{"role": "user", "content": text + " Say hello."}]
    seconds = []
    for _ in range(2):
        stream = engine.stream(turn, Sampling(temperature=0, max_new_tokens=16))
        answer = "".join(stream)
        seconds.append(float(stream.first_token_seconds or 0))
        turn += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And what was fact 7?"}]
    line(
        part="second_turn",
        prefix_sharing=label,
        prompt_tokens=stream.prompt_tokens,
        first_s=seconds[0],
        second_s=seconds[1],
    )
    return seconds[1] / seconds[0]


def memory_over_turns(engine: Engine, turns: int) -> None:
    """Resident memory while one conversation grows and is cut at its context, again and again."""
    process = psutil.Process()
    messages: list[Message] = []
    sizes = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"Tell me more, part {turn}, with some detail please."})
        answer = "".join(engine.stream(messages, Sampling(temperature=0, max_new_tokens=12), drop_oldest=True))
        messages.append({"role": "assistant", "content": answer})
        sizes.append(process.memory_info().rss / 2**20)
    line(part="memory", turns=turns, mib_after_10=sizes[9], mib_after_half=sizes[turns // 2], mib_after_all=sizes[-1])


def users_compared(loaded: LoadedModel, engine: Engine, tokens: int, sizes: Sequence[int]) -> dict[int, float]:
    """Engine over serial, in total tokens/s, for each number of users."""
    serial = Serial(loaded, tokens)

    def batched(messages: Sequence[Message]) -> Iterator[str]:
        return iter(engine.stream(messages, Sampling(temperature=0, max_new_tokens=tokens)))

    ratios: dict[int, float] = {}
    for users in sizes:
        timed(serial.answer, min(users, 2), tokens)  # both sides warm for this size
        timed(batched, users, tokens)
        plain, ours = timed(serial.answer, users, tokens), timed(batched, users, tokens)
        ratios[users] = ours["tokens_per_s"] / plain["tokens_per_s"]
        line(part="users", users=users, side="serial", **plain)
        share = ours["first_token_p95_s"] / plain["first_token_p95_s"]
        line(part="users", users=users, side="engine", ratio=ratios[users], first_token_share=share, **ours)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--users", type=int, nargs="*", default=list(USERS))
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    options = parser.parse_args()
    line(part="machine", **machine())
    plain, loaded = (replace(packaged_model(options.device, packed), stop_token_ids=()) for packed in (False, True))
    engine = Engine("bench", loaded, EngineOptions())
    ratios: dict[int, float] = {}
    if "users" in options.parts:
        ratios = users_compared(plain, engine, options.tokens, options.users)
    if "stop" in options.parts:
        stop_latency(engine, 7)
    if "turns" in options.parts:
        line(part="second_turn", share_of_first=second_turn(engine, "on"))
    engine.close()
    if "turns" in options.parts:
        unshared = Engine("bench", loaded, EngineOptions(prefix_sharing=False))
        second_turn(unshared, "off")
        unshared.close()
    if "memory" in options.parts:
        small = Engine("bench", loaded, EngineOptions(cache_tokens=1024))
        memory_over_turns(small, 100)
        small.close()
    if ratios:
        most = max(ratios)
        line(bench="concurrency", ratio=ratios[most], of=f"total tokens/s at {most} users, engine over locked generate")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
