"""Answers as they grow, over a registry that keeps to the Protocol."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from app.chat.request import chat_request
from app.chat.service import ChatService, Reply
from app.errors import EngineFailed, UnknownModel
from app.models.interface import Ledger, LedgerEntry, Message
from tests.fakes import FakeModel, FakeRegistry


def first_writing(replies: Iterator[Reply]) -> Reply:
    return next(reply for reply in replies if reply.state == "writing")


def test_the_answer_grows_and_ends_with_its_figures() -> None:
    model = FakeModel("tiny")
    *growing, last = ChatService(FakeRegistry(model)).reply(chat_request("hi there"))
    assert last.text == "You said: hi there"
    assert (last.state, last.finish_reason, last.completion_tokens, last.prompt_tokens) == ("done", "stop", 4, 2)
    assert all(last.text.startswith(reply.text) for reply in growing)
    assert last.model == "tiny"


def test_an_answer_in_a_loop_is_ended_and_says_so() -> None:
    model = FakeModel("tiny", script=lambda _: ["Paris. ", *["la femme au martyre, "] * 500])
    *_, last = ChatService(FakeRegistry(model)).reply(chat_request("hi there"))
    assert (last.state, last.repeats) == ("done", True)
    assert last.text.startswith("Paris. la femme")
    assert model.generations[0].cancelled.is_set()


def test_a_table_and_a_chorus_are_no_loop() -> None:
    rows = [*["| 0 | 0 | no |\n"] * 40, *["Row, row, row your boat, gently down the stream.\n"] * 4]
    *_, last = ChatService(FakeRegistry(FakeModel("tiny", script=lambda _: rows))).reply(chat_request("hi there"))
    assert (last.text, last.repeats, last.finish_reason) == ("".join(rows), False, "stop")


def test_tokens_per_second_are_counted_from_the_first_token() -> None:
    gate = threading.Semaphore(1)
    replies = ChatService(FakeRegistry(FakeModel("tiny", gate=gate))).reply(chat_request("hi there"))
    assert first_writing(replies).tokens_per_second == 0.0
    gate.release(10)
    assert list(replies)[-1].tokens_per_second > 0


def test_the_request_reaches_the_model_as_it_was_made() -> None:
    model = FakeModel("tiny")
    request = chat_request("c", [{"role": "user", "content": "a"}], system="s", seed=3)
    list(ChatService(FakeRegistry(model)).reply(request, visitor="li"))
    messages, sampling, visitor = model.prompts[0]
    assert messages == request.messages()
    assert (sampling.seed, visitor) == (3, "li")


def test_closing_cancels_and_gives_the_model_back() -> None:
    gate = threading.Semaphore(1)
    model = FakeModel("tiny", gate=gate)
    registry = FakeRegistry(model)
    replies = ChatService(registry).reply(chat_request("one two three"))
    first_writing(replies)
    assert registry.leases == {"tiny": 1}
    replies.close()  # type: ignore[attr-defined]
    assert model.generations[0].finish_reason == "cancelled"
    assert registry.leases == {"tiny": 0}


def test_an_answer_still_in_the_queue_can_be_cancelled_and_tells_its_place() -> None:
    model = FakeModel("tiny", gate=threading.Semaphore(0), queue_ahead=3)
    replies = ChatService(FakeRegistry(model)).reply(chat_request("hi"))
    waiting = next(replies)
    assert (waiting.state, waiting.queue_ahead, waiting.wait_s) == ("queued", 3, None)
    model.generations[0].queue_ahead = 1
    moved = next(replies)
    assert moved.queue_ahead == 1
    assert moved.wait_s is not None and moved.wait_s > 0
    replies.close()  # type: ignore[attr-defined]
    assert model.generations[0].cancelled.is_set()


def test_dropped_turns_are_told_and_only_a_conversation_may_drop_them() -> None:
    model = FakeModel("tiny", dropped_turns=2)
    service = ChatService(FakeRegistry(model))
    long = chat_request("hi", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    assert list(service.reply(long))[-1].dropped_turns == 2
    assert list(service.reply(chat_request("hi")))[-1].dropped_turns == 0


def test_pictures_that_a_model_cannot_see_are_left_out_and_counted() -> None:
    shown: Message = {"role": "user", "content": "Look", "images": (b"1", b"2")}
    said: Message = {"role": "assistant", "content": "A cat."}
    request = replace(chat_request("Why?"), history=(shown, said))
    blind, eyes = FakeModel("blind"), FakeModel("eyes", is_multimodal=True)
    assert list(ChatService(FakeRegistry(blind)).reply(request))[-1].unseen_pictures == 2
    assert blind.prompts[0][0][0] == {"role": "user", "content": "Look"}
    assert list(ChatService(FakeRegistry(eyes)).reply(request))[-1].unseen_pictures == 0
    assert eyes.prompts[0][0][0] == shown


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UnknownModel, match="no model named nope"):
        list(ChatService(FakeRegistry()).reply(chat_request("hi", model="nope")))


def test_a_fault_of_the_engine_reaches_the_reader() -> None:
    def fail(_: Sequence[Message]) -> Sequence[str]:
        return FailingPieces(["a", "b"])

    replies = ChatService(FakeRegistry(FakeModel("tiny", script=fail))).reply(chat_request("hi"))
    with pytest.raises(EngineFailed):
        list(replies)


class FailingPieces(list[str]):
    def __iter__(self) -> Iterator[str]:
        yield self[0]
        raise EngineFailed


class LoadingRegistry(FakeRegistry):
    """Ready only after the ledger was looked at three times."""

    looks = 0

    def ledger(self) -> Ledger:
        self.looks += 1
        state = "loading" if self.looks < 3 else "ready"
        entry = LedgerEntry("tiny", "chat", state, "cpu", 1, 0, (), 0, progress=self.looks / 3)
        return Ledger(10, 1, (entry,))


def test_loading_is_told_while_the_first_answer_waits() -> None:
    replies = list(ChatService(LoadingRegistry()).reply(chat_request("hi")))
    assert [reply.loading for reply in replies if reply.state == "loading"] == [1 / 3, 2 / 3]
    assert replies[-1].text == "You said: hi"
