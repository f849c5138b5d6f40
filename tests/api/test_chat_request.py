"""What a chat completion may ask for."""

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from app.api.chat_request import read_chat_request
from app.api.completion_request import read_completion_request
from app.api.errors import ApiError, CannotSee, LoneSurrogate, NoJson, NotSupported, WrongValue
from app.api.request_body import parse_object
from app.models.interface import Sampling
from app.pictures import NotAPicture

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}


def read(**more: object) -> Any:
    return read_chat_request(parse_object(json.dumps({**ASK, **more}).encode()))


def test_everything_that_is_asked_for_reaches_the_model() -> None:
    wanted = read(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"},
        ],
        temperature=0,
        top_p=0.5,
        seed=2**63 + 4,
        stop=["x", "y"],
        max_completion_tokens=7,
        max_tokens=9,
        stream=True,
        stream_options={"include_usage": True},
        user="someone",
        n=1,
        logprobs=False,
    )
    assert [(m["role"], m["content"]) for m in wanted.messages] == [
        ("system", "be brief"),
        ("user", "a\nb"),
        ("assistant", "c"),
        ("user", "d"),
    ]
    drawn = Sampling(temperature=0, top_p=0.5, max_new_tokens=7, seed=4, stop=("x", "y"), thinking=None)
    assert wanted.sampling_for(100) == drawn
    assert (wanted.options.stream, wanted.options.include_usage) == (True, True)


def test_without_a_length_the_answer_may_fill_the_context() -> None:
    assert read().sampling_for(2048).max_new_tokens == 2048


def test_log_probabilities_are_told_where_they_are_wanted() -> None:
    assert [read(**more).top_logprobs for more in ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True}, {})] == [
        3,
        0,
        None,
    ]


def test_values_that_clients_send_for_no_limit_are_taken() -> None:
    """-1 and numbers beyond any model, null for absent, an assistant's turn without text."""
    assert read(max_tokens=-1).sampling_for(2048).max_new_tokens == 2048
    assert read(max_tokens=10**9).sampling_for(2048).max_new_tokens == 131_072
    assert read(seed=-1).sampling_for(9).seed is None
    assert (read(top_p=0).sampling_for(9).top_k, read(top_k=-1).sampling_for(9).top_k) == (1, 0)
    assert read(temperature=None, stop=None, tools=None, unknown=None).sampling_for(512) == Sampling(thinking=None)
    said = read(messages=[*ASK["messages"], {"role": "assistant", "content": None, "refusal": "No."}])  # type: ignore[misc]
    assert said.messages[1]["content"] == "No."
    parts = [{"type": "refusal", "refusal": "Never."}]
    assert read(messages=[{"role": "assistant", "content": parts}]).messages[0]["content"] == "Never."


def test_an_effort_is_how_long_a_model_may_reason() -> None:
    none, low, high = (read(reasoning_effort=effort).sampling_for(9) for effort in ("none", "low", "high"))
    assert (none.thinking, low.thinking, high.thinking) == (False, True, True)
    assert low.max_reasoning_tokens < read().sampling_for(9).max_reasoning_tokens < high.max_reasoning_tokens


def test_who_speaks_reaches_the_template() -> None:
    ask = [{"role": "user", "content": "hi", "name": "Ada"}, {"role": "assistant", "content": "x", "name": None}]
    first, second = read(messages=ask).messages
    assert first["name"] == "Ada" and "name" not in second


def test_several_answers_have_seeds_of_their_own() -> None:
    asked = read(n=3, seed=7)
    assert [asked.sampling_for(9, choice).seed for choice in range(asked.options.choices)] == [7, 8, 9]


def test_a_lenient_server_ignores_what_it_does_not_know() -> None:
    body = {**ASK, "reasoning_mode": "deep"}
    assert read_chat_request(body, lenient=True).model == "tiny"
    with pytest.raises(NotSupported, match="reasoning_mode"):
        read_chat_request(body)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (b'"messages": [{"role": "user", "content": "\\ud83d"}]', "messages[0].content"),
        (b'"messages": [], "stop": ["a", "\\uDC00x"]', "stop[1]"),
        (b'"messages": [], "metadata": {"\\ud83d": 1}', "\ufffd"),
    ],
)
def test_half_a_character_is_refused_by_its_place(more: bytes, param: str) -> None:
    with pytest.raises(LoneSurrogate) as refused:
        parse_object(b'{"model": "tiny", ' + more + b"}")
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("arguments", "error"),
    [('{"a": "\\ud83d"}', LoneSurrogate), ("[" * 10_000, WrongValue), ('{"a": ' * 10_000, WrongValue)],
)
def test_arguments_of_an_earlier_call_are_checked_like_the_body(arguments: str, error: type[ApiError]) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": arguments}}
    with pytest.raises(error) as refused:
        read_chat_request({**ASK, "messages": [{"role": "assistant", "tool_calls": [call]}]})
    assert str(refused.value.values["param"]).startswith("messages[0].tool_calls")


def test_both_halves_of_a_character_are_one() -> None:
    data = b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud83d\\ude00"}]}'
    assert read_chat_request(parse_object(data)).messages[0]["content"] == "\U0001f600"


@pytest.mark.parametrize(
    ("more", "error", "param"),
    [
        ({"n": 9}, WrongValue, "n"),
        ({"reasoning_mode": "deep"}, NotSupported, "reasoning_mode"),
        ({"store": True}, NotSupported, "store"),
        ({"messages": [{"role": "user", "content": None}]}, WrongValue, "messages[0].content"),
        ({"logprobs": "yes"}, WrongValue, "logprobs"),
        ({"top_logprobs": 2}, WrongValue, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, WrongValue, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, WrongValue, "tools[0]"),
        ({"tool_choice": "required"}, WrongValue, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "none"}}},
            WrongValue,
            "tool_choice",
        ),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, WrongValue, "response_format"),
        ({"response_format": {"type": "xml"}}, WrongValue, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, WrongValue, "response_format.json_schema"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, WrongValue, "messages[0].tool_calls"),
        ({"reasoning_effort": "endless"}, WrongValue, "reasoning_effort"),
        ({"verbosity": "low"}, NotSupported, "verbosity"),
        ({"moderation": {"model": "m"}}, NotSupported, "moderation"),
        ({"messages": [{"role": "user", "content": "x", "name": "<|plugin|>"}]}, WrongValue, "messages[0].name"),
        ({"temperature": 3}, WrongValue, "temperature"),
        ({"temperature": True}, WrongValue, "temperature"),
        ({"temperature": "warm"}, WrongValue, "temperature"),
        ({"temperature": float("nan")}, WrongValue, "temperature"),
        ({"max_tokens": 0}, WrongValue, "max_tokens"),
        ({"max_tokens": -(10**400)}, WrongValue, "max_tokens"),
        ({"logit_bias": {"9" * 5000: 1}}, WrongValue, "logit_bias"),
        ({"stream": 1}, WrongValue, "stream"),
        ({"store": 0}, NotSupported, "store"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": 7}]}, WrongValue, "messages[0].tool_call_id"),
        ({"max_tokens": 1.5}, WrongValue, "max_tokens"),
        ({"max_tokens": -2}, WrongValue, "max_tokens"),
        ({"seed": 2**70}, WrongValue, "seed"),
        ({"stop": [1]}, WrongValue, "stop"),
        ({"stop": ["x"] * 17}, WrongValue, "stop"),
        ({"stream": "yes"}, WrongValue, "stream"),
        ({"stream_options": {"include_usage": True}}, WrongValue, "stream_options"),
        ({"stream": True, "stream_options": {"usage": True}}, NotSupported, "stream_options.usage"),
        ({"model": 3}, WrongValue, "model"),
        ({"messages": []}, WrongValue, "messages"),
        ({"messages": ["hi"]}, WrongValue, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, WrongValue, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, WrongValue, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, WrongValue, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, WrongValue, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            WrongValue,
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b.png"}}]}
                ]
            },
            WrongValue,
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            CannotSee,
            "messages[0].content[0]",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(more: dict[str, Any], error: type[ApiError], param: str) -> None:
    with pytest.raises(error) as refused:
        read(**more)
    assert refused.value.param == param


def shown(url: str) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
    return [{"role": "user", "content": parts}]


def test_a_picture_in_the_request_reaches_the_model() -> None:
    written = io.BytesIO()
    Image.new("RGB", (3000, 30), "red").save(written, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
    (message,) = read(messages=shown(url)).messages
    assert message["content"] == "What is this?"
    (image,) = message["images"]
    assert Image.open(io.BytesIO(image)).size == (1536, 15), "scaled"


def test_a_picture_that_is_none_is_refused() -> None:
    with pytest.raises(NotAPicture):
        read(messages=shown(f"data:image/png;base64,{base64.b64encode(b'nothing').decode()}"))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b'"\xff"', b'{"model": "\xed\xa0\xbd"}'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(NoJson):
        parse_object(data)


def test_token_ids_are_whole_numbers_however_json_writes_them() -> None:
    assert read_completion_request({"model": "m", "prompt": [5.0, 7]}).prompts == ((5, 7),)
    assert read(stop_token_ids=[3.0]).sampling_for(9).stop_token_ids == (3,)
    for odd in ([5.5], [-1], [1e300], [True], []):
        with pytest.raises(ApiError):
            read_completion_request({"model": "m", "prompt": odd})
