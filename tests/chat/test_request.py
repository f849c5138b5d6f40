"""What a chat may be asked."""

from typing import Any

import pytest

from app.chat.request import EmptyMessage, MessageTooLong, WrongHistory, chat_request
from app.errors import BadInput
from app.input_ranges import OutOfRange
from app.models.interface import Sampling


@pytest.mark.parametrize("message", ["", "  \n", None, 7])
def test_an_empty_message_is_refused(message: object) -> None:
    with pytest.raises(EmptyMessage):
        chat_request(message)


def test_a_megabyte_is_refused_with_both_numbers() -> None:
    with pytest.raises(MessageTooLong, match=r"1000000 characters; at most 200000"):
        chat_request("x" * 1_000_000)


def test_history_and_system_count_too() -> None:
    with pytest.raises(MessageTooLong):
        chat_request("hi", [{"role": "user", "content": "x" * 150_000}], system="y" * 60_000)


@pytest.mark.parametrize(
    "turn",
    [{"role": "robot", "content": "x"}, {"role": "user"}, {"role": "user", "content": 3}, "hello", None, ["user", "x"]],
)
def test_a_wrong_turn_is_named_by_its_place(turn: object) -> None:
    with pytest.raises(WrongHistory, match="Message 2 of the history"):
        chat_request("hi", [{"role": "user", "content": "before"}, turn])


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],  # as gradio 6 gives a conversation back
        ["a", {"text": "b", "type": "text"}],
        "a\nb",
    ],
)
def test_a_history_may_be_text_or_parts(content: object) -> None:
    assert chat_request("hi", [{"role": "user", "content": content}]).history[0]["content"] == "a\nb"


@pytest.mark.parametrize("history", ["user: hi", 5, {"role": "user"}])
def test_a_history_that_is_no_list_is_refused(history: object) -> None:
    with pytest.raises(WrongHistory):
        chat_request("hi", history)


@pytest.mark.parametrize(
    "option",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"max_new_tokens": 0},
        {"max_new_tokens": 10**9},
        {"seed": -1},
        {"seed": "five"},
        {"temperature": "hot"},
        {"temperature": True},
    ],
)
def test_a_setting_out_of_range_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(OutOfRange, match=next(iter(option))):
        chat_request("hi", **option)


def test_defaults_and_given_settings() -> None:
    assert chat_request("hi").sampling == Sampling(thinking=None)
    given = chat_request("hi", None, model="m", system="s", temperature=0, top_p=1, max_new_tokens=5.0, seed=" 7 ")
    assert given.sampling == Sampling(temperature=0, top_p=1, max_new_tokens=5, seed=7, thinking=None)
    assert (given.model, given.system) == ("m", "s")
    assert chat_request("hi", seed="").sampling.seed is None
    with pytest.raises(OutOfRange):
        chat_request("hi", seed="9" * 5000)


def test_the_prompt_s_turns_in_order() -> None:
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    roles = [turn["role"] for turn in chat_request("c", before, system="be brief").messages()]
    assert roles == ["system", "user", "assistant", "user"]
    assert [turn["content"] for turn in chat_request("c", system="  ").messages()] == ["c"]


def test_every_refusal_has_a_sentence_in_both_languages() -> None:
    for refusal in (EmptyMessage(), MessageTooLong(characters=2, limit=1), WrongHistory(place=1)):
        assert isinstance(refusal, BadInput)
        assert refusal.text("zh") != refusal.text("en")
