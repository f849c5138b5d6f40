"""Limits for one visitor that leave the others alone, what is told of an answer, and an orderly end."""

import gc
import threading
import weakref

import pytest

from app.access.client_address import SHARE, AddressSpent, ClientAddresses
from app.access.identity import server
from app.models.interface import ChatModel, InspectableModel, Message, Sampling
from app.models.registry.metering import Allowance, Ending, Meter, TooManyAtOnce, TooManyTokens
from app.models.registry.running_request import Answered
from tests.fakes import FakeModel
from tests.waiting import wait_for

ASK: list[Message] = [{"role": "user", "content": "one two three"}]


def metered(meter: Meter, gate: threading.Semaphore | None = None) -> ChatModel:
    return meter.model(FakeModel("tiny", gate=gate))


def test_only_so_many_answers_at_once_for_one_visitor() -> None:
    model = metered(Meter(Allowance(requests_at_once=2)))
    first, _second = (model.stream(ASK, Sampling(), visitor="ada") for _ in range(2))
    with pytest.raises(TooManyAtOnce, match="2"):
        model.stream(ASK, Sampling(), visitor="ada")
    assert "".join(model.stream(ASK, Sampling(), visitor="lin")) == "You said: one two three"
    first.cancel()
    assert "".join(model.stream(ASK, Sampling(), visitor="ada"))


def test_an_answer_that_failed_or_was_left_gives_its_place_back() -> None:
    class Broken(FakeModel):
        def stream(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise ValueError("no")

    meter = Meter(Allowance(requests_at_once=1))
    for _ in range(3):
        with pytest.raises(ValueError):
            meter.model(Broken("broken")).stream(ASK, Sampling(), visitor="ada")
    pieces = iter(metered(meter).stream(ASK, Sampling(), visitor="ada"))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert "".join(metered(meter).stream(ASK, Sampling(), visitor="ada"))


def test_nothing_of_an_answer_that_was_booked_is_kept() -> None:
    meter, seen = Meter(), threading.Event()
    meter.observers.append(lambda _: seen.set())
    model = FakeModel("tiny")
    assert "".join(meter.model(model).stream(ASK, Sampling(), visitor="ada"))
    assert seen.wait(30)
    answer = weakref.ref(model.generations.pop())  # in an engine it leads to the model's weights
    gc.collect()
    wait_for(lambda: answer() is None, 30)


def test_tokens_of_a_minute_are_counted_for_each_visitor() -> None:
    model = metered(Meter(Allowance(tokens_per_minute=10)))
    for visitor in ("ada", "lin"):
        list(model.stream(ASK, Sampling(), visitor=visitor))  # 3 of the prompt, 5 of the answer
        list(model.stream(ASK, Sampling(), visitor=visitor))
        with pytest.raises(TooManyTokens, match="10 tokens"):
            model.stream(ASK, Sampling(), visitor=visitor)
    for own in ("", server("judging")):
        assert [list(model.stream(ASK, Sampling(), visitor=own)) for _ in range(2)]


def test_who_throws_the_browser_s_key_away_is_still_at_the_same_address() -> None:
    addresses = ClientAddresses(watched=True)
    at_once = metered(Meter(Allowance(requests_at_once=1), addresses=addresses))
    tokens = metered(Meter(Allowance(tokens_per_minute=8), addresses=addresses))
    held = []
    for number in range(SHARE):
        addresses.note(f"key {number}", "8.8.8.8" if number else "::ffff:8.8.8.8")
        held.append(at_once.stream(ASK, Sampling(), visitor=f"key {number}"))
        list(tokens.stream(ASK, Sampling(), visitor=f"key {number}"))
    addresses.note("one more key", "8.8.8.8")
    addresses.note("elsewhere", "9.9.9.9")
    addresses.note("behind a proxy", "10.0.0.1")
    for model in (at_once, tokens):
        with pytest.raises(AddressSpent):
            model.stream(ASK, Sampling(), visitor="one more key")
        for other in ("elsewhere", "behind a proxy"):
            assert list(model.stream(ASK, Sampling(), visitor=other))
    held[0].cancel()
    assert list(at_once.stream(ASK, Sampling(), visitor="one more key"))


def test_each_answer_is_told_once() -> None:
    told: list[Answered] = []
    meter = Meter()
    meter.observers.append(told.append)
    done = metered(meter).stream(ASK, Sampling(), visitor="ada")
    list(done)
    done.cancel()
    meter.flush()
    (answer,) = told
    assert (answer.model, answer.visitor, answer.prompt_tokens, answer.completion_tokens) == ("tiny", "ada", 3, 5)
    assert answer.finish_reason == "stop" and answer.first_token_s is not None
    assert meter.running() == []


def test_at_the_end_answers_may_finish_and_new_ones_are_refused() -> None:
    meter, gate = Meter(), threading.Semaphore(0)
    model = metered(meter, gate)
    quick, slow = model.stream(ASK, Sampling()), model.stream(ASK, Sampling())
    texts: list[str] = []
    reading = threading.Thread(target=lambda: texts.append("".join(quick)))
    reading.start()
    cut: list[int] = []
    ending = threading.Thread(target=lambda: cut.append(meter.end(60)))
    ending.start()
    gate.release(5)
    reading.join(120)
    assert texts == ["You said: one two three"]
    with pytest.raises(Ending):
        model.stream(ASK, Sampling())
    slow.cancel()
    ending.join(120)
    assert cut == [0]


def test_what_does_not_finish_in_time_is_cancelled() -> None:
    meter = Meter()
    stuck = metered(meter, threading.Semaphore(0)).stream(ASK, Sampling())
    assert meter.end(0.05) == 1
    assert list(stuck) == []


def test_the_end_of_an_answer_is_told_under_any_lock() -> None:
    """A finalizer runs wherever the collector does: within an observer's own lock, say."""
    meter, lock, told = Meter(Allowance(requests_at_once=1)), threading.Lock(), []

    def observe(answered: Answered) -> None:
        with lock:
            told.append(answered.finish_reason)

    meter.observers.append(observe)
    model = metered(meter, threading.Semaphore(0))
    left = model.stream(ASK, Sampling(), visitor="ada")
    with lock:
        left.cancel()
    unread = model.stream(ASK, Sampling(), visitor="ada")
    with lock:
        del unread
        gc.collect()
    assert meter.running() == []
    meter.flush()
    assert len(told) == 2


def test_only_what_can_be_inspected_says_so() -> None:
    class Inspectable(FakeModel):
        def inspect(self, *_: object) -> str:
            return "seen"

    assert not isinstance(Meter().model(FakeModel("tiny")), InspectableModel)
    inspected = Meter().model(Inspectable("tiny"))
    assert isinstance(inspected, InspectableModel) and inspected.inspect(ASK, "x") == "seen"  # type: ignore[comparison-overlap]
