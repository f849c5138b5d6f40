"""The engine: pinned answers of the packaged model; streams apart, stops, limits and faults on its first layers."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from app.errors import EngineFailed, PromptTooLong
from app.models.catalog import known_models
from app.models.engine.engine import Engine, EngineOptions
from app.models.fair_share import FORESEEN
from app.models.interface import Message, Sampling
from app.models.loading.loader import load
from tests.waiting import wait_for

GREEDY = Sampling(temperature=0, max_new_tokens=48)
FRANCE: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]
STORY: list[Message] = [{"role": "user", "content": "Tell me a long story about a fox and the sea."}]


def endless(tokens: int, **more: Any) -> Sampling:
    return Sampling(**{"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True, **more})


@contextmanager
def running(folder: Path) -> Iterator[Engine]:
    card = known_models.find("smollm2-135m")
    loaded = load(folder, card, "cpu", "float32", None, lambda *_: None)
    engine = Engine("smollm2-135m", loaded, EngineOptions(cache_tokens=4096, max_running_requests=4))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def packaged(packaged_folder: Path) -> Iterator[Engine]:
    with running(packaged_folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def engine(short_folder: Path) -> Iterator[Engine]:
    with running(short_folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def told(engine: Engine) -> str:
    """What it says of France when it is asked alone."""
    text = "".join(engine.stream(FRANCE, GREEDY))
    assert text
    return text


def test_the_packaged_model_knows_the_capital_of_france(packaged: Engine) -> None:
    generation = packaged.stream(FRANCE, GREEDY)
    assert "".join(generation) == "The capital of France is Paris."
    assert (generation.finish_reason, generation.prompt_tokens, generation.completion_tokens) == ("stop", 37, 8)


def test_an_answer_that_is_begun_goes_on_from_its_last_letter(packaged: Engine) -> None:
    begun: Message = {"role": "assistant", "content": "The capital of France", "begun": True}
    assert "".join(packaged.stream([*FRANCE, begun], GREEDY)) == " is Paris."


def test_a_length_limit_ends_the_answer(engine: Engine) -> None:
    generation = engine.stream(STORY, Sampling(temperature=0, max_new_tokens=5))
    assert "".join(generation)
    assert (generation.finish_reason, generation.completion_tokens) == ("length", 5)


def test_the_same_seed_gives_the_same_text(engine: Engine) -> None:
    once, again, other = ("".join(engine.stream(STORY, endless(24, temperature=1, seed=seed))) for seed in (11, 11, 12))
    assert once == again != other


def test_a_stop_string_ends_the_answer_and_is_not_shown(packaged: Engine) -> None:
    generation = packaged.stream(FRANCE, Sampling(temperature=0, stop=(" Paris",)))
    assert "".join(generation) == "The capital of France is"
    assert generation.finish_reason == "stop"


def test_one_stops_and_the_others_go_on(engine: Engine) -> None:
    others = [engine.stream(STORY, endless(48), visitor=name) for name in "ab"]
    stopped = engine.stream(STORY, endless(1000), visitor="c")
    own = iter(stopped)
    next(own)
    stopped.cancel()
    assert list(own) == []
    assert stopped.finish_reason == "cancelled"
    texts = ["".join(other) for other in others]
    assert texts[0] == texts[1]
    assert {other.finish_reason for other in others} == {"length"}
    assert engine.requests == 0


def test_a_stop_ends_the_work_within_one_step(engine: Engine) -> None:
    widths: list[int] = []  # tokens of each forward pass
    embedding = engine.loaded.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, arguments: widths.append(arguments[0].numel()))
    try:
        streams = [engine.stream(STORY, endless(1000), visitor=name) for name in "abc"]
        readers = [iter(stream) for stream in streams]
        for reader in readers:
            next(reader)
        while widths[-1] != 3:
            next(readers[0])
        before = len(widths)
        streams[2].cancel()
        wait_for(lambda: len(widths) > before + 20)
    finally:
        handle.remove()
        for stream in streams:
            stream.cancel()
    assert 3 in widths[:before]
    assert len(widths) > before + 10
    assert max(widths[before + 1 :]) <= 2


def test_a_stopped_answer_is_collected_even_while_the_engine_restarts(engine: Engine, told: str) -> None:
    gc.disable()
    try:
        stopped = engine.stream(STORY, endless(1000))
        next(iter(stopped))
        stopped.cancel()
        del stopped  # a cycle with its half-read iterator: only the garbage collector ends it
        fail_one_step(engine)
        texts: list[str] = []
        # the restart collects garbage while it holds the engine
        asking = threading.Thread(target=lambda: texts.extend(engine.stream(FRANCE, GREEDY)), daemon=True)
        asking.start()
        asking.join(120)
        assert "".join(texts) == told
    finally:
        gc.enable()
    assert engine.requests == 0


def test_leaving_the_iterator_cancels(engine: Engine) -> None:
    generation = engine.stream(STORY, endless(1000))
    pieces = iter(generation)
    next(pieces)
    pieces.close()
    assert generation.finish_reason == "cancelled"
    assert engine.requests == 0


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(engine: Engine) -> None:
    with pytest.raises(PromptTooLong) as refused:
        engine.stream([{"role": "user", "content": "word " * 5000}], GREEDY)
    assert refused.value.values["limit"] == 4096
    assert int(str(refused.value.values["tokens"])) > 5000


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_the_system_prompt(engine: Engine) -> None:
    turns: list[Message] = [{"role": "system", "content": "Answer in one word."}]
    for number in range(12):
        turns += [
            {"role": "user", "content": f"Fact {number}. " + "word " * 400},
            {"role": "assistant", "content": "Yes."},
        ]
    turns.append({"role": "user", "content": "Is it?"})
    generation = engine.stream(turns, endless(16), drop_oldest=True)
    assert "".join(generation)
    assert generation.dropped_turns > 0
    fewer = turns[:1] + turns[1 + 2 * generation.dropped_turns :]
    assert generation.prompt_tokens == engine.count_tokens(fewer)


def test_more_requests_than_places_all_get_their_answer(engine: Engine, told: str) -> None:
    generations = [engine.stream(FRANCE, GREEDY, visitor=str(n % 3)) for n in range(10)]
    assert {"".join(g) for g in generations} == {told}


def test_who_waits_is_told_the_place_in_the_fair_order(packaged: Engine) -> None:
    running = [packaged.stream(FRANCE, endless(800), visitor=name) for name in "aabb"]
    for generation in running:
        next(iter(generation))
    few = Sampling(temperature=0, max_new_tokens=FORESEEN - 4)
    long, short = packaged.stream(FRANCE, endless(800), visitor="c"), packaged.stream(FRANCE, few, visitor="d")
    wait_for(lambda: (long.queue_ahead, short.queue_ahead) == (2, 1))  # the short one came last and is the next
    assert [generation.queue_ahead for generation in running] == [0, 0, 0, 0]
    for generation in (*running, long):
        generation.cancel()
    assert "".join(short) == "The capital of France is Paris." and short.queue_ahead == 0


def test_a_visitor_with_many_requests_leaves_room_for_another(engine: Engine, told: str) -> None:
    with Steps(engine) as steps:
        many = [engine.stream(STORY, endless(3000), visitor="many") for _ in range(12)]
        wait_for(lambda: {3, 4} & set(map(len, list(steps.tokens))))  # each writes a token in a step
        assert "".join(engine.stream(FRANCE, GREEDY, visitor="one")) == told
        before = steps.tokens[: steps.first_with(" capital of France") - 1]
        assert before and 4 not in map(len, before), "one of four places stays free for who comes"
        for generation in many:
            generation.cancel()


def test_a_fault_fails_its_requests_with_a_clear_error_and_the_engine_starts_again(engine: Engine, told: str) -> None:
    fail_one_step(engine)
    assert "".join(engine.stream(FRANCE, GREEDY)) == told


def test_neither_fifty_requests_nor_a_long_prompt_of_one_delay_another_by_more_than_two_steps(
    engine: Engine, told: str
) -> None:
    def question(words: str) -> list[Message]:
        return [{"role": "user", "content": words}]

    with Steps(engine) as steps:
        many = [engine.stream(STORY, endless(1000), visitor="many") for _ in range(50)]
        next(iter(many[0]))
        before = steps.hold()
        one = engine.stream(FRANCE, GREEDY, visitor="one")
        steps.go_on.set()
        assert "".join(one) == told
        assert before < steps.first_with(" capital of France") <= before + 2
        for generation in many:
            generation.cancel()
        steps.hold_at = " sea, fox"
        long = engine.stream(question("fox and sea, " * 400 + "Berlin Vienna"), GREEDY, visitor="many")
        wait_for(lambda: not steps.go_on.is_set())
        other = engine.stream(question("The rivers Rhine Danube"), GREEDY, visitor="two")
        steps.go_on.set()
        assert "".join(other) and "".join(long)
        assert 0 < steps.first_with(" Rhine Danube") < steps.first_with(" Berlin Vienna")


class Steps:
    """The tokens of each step, as they come. None is taken while `go_on` is clear; the first with the words `hold_at`
    clears it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.tokens: list[torch.Tensor] = []
        self.hold_at = ""
        self.go_on = threading.Event()

    def __enter__(self) -> "Steps":
        self.go_on.set()
        self.hook = self.engine.loaded.model.get_input_embeddings().register_forward_pre_hook(self.note)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.hook.remove()

    def note(self, _module: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        self.tokens.append(arguments[0].flatten().clone())  # the engine writes every step into the same memory
        if self.hold_at and self.first_with(self.hold_at):
            self.hold_at = ""
            self.go_on.clear()
        self.go_on.wait()

    def hold(self) -> int:
        """The number of a step that is not taken yet."""
        seen = len(self.tokens)
        self.go_on.clear()
        wait_for(lambda: len(self.tokens) > seen)
        return len(self.tokens)

    def first_with(self, words: str) -> int:
        """The number of the first step that has these words, from 1; 0 for none."""
        wanted = torch.tensor(self.engine.loaded.tokenizer.encode(words))
        size = len(wanted)
        found = (
            n
            for n, one in enumerate(self.tokens, 1)
            if len(one) >= size and (one.unfold(0, size, 1) == wanted).all(1).any()
        )
        return next(found, 0)


def fail_one_step(engine: Engine) -> None:
    """A fault of the device while an answer streams: the answer fails with a clear error."""
    broken = threading.Event()

    def fault(_module: torch.nn.Module, _arguments: object) -> None:
        if broken.is_set():
            raise RuntimeError("a fault of the device")

    handle = engine.loaded.model.model.layers[0].register_forward_pre_hook(fault)
    try:
        pieces = iter(engine.stream(STORY, endless(500)))
        next(pieces)
        broken.set()
        with pytest.raises(EngineFailed):
            list(pieces)
    finally:
        handle.remove()
