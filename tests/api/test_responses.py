"""The Responses API by the real `openai` client: text, streams, tools and their results, schemas, what is refused."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from app.models.interface import Part
from tests.able_model import AbleModel
from tests.api.test_routes import client, serving
from tests.fakes import FakeModel, FakeRegistry

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["北京", "Paris"]}}, "required": ["city"]},
}
MODEL = AbleModel("tiny")
PLAIN = FakeModel("plain", script=lambda _: [Part("Let me ", "reasoning"), Part("see.", "reasoning"), "One", " two"])


class City(BaseModel):
    """A shape for `parse`."""

    city: str


@pytest.fixture(scope="module")
def api() -> Iterator[openai.OpenAI]:
    with serving(FakeRegistry(MODEL, PLAIN)) as url, client(url) as made:
        yield made


def test_a_text_is_answered(api: openai.OpenAI) -> None:
    made = api.responses.create(
        model="tiny", input="hello", instructions="Be brief.", temperature=0.5, max_output_tokens=9
    )
    assert (made.output_text, made.status, made.store) == ("You said: hello", "completed", False)
    assert made.usage is not None and made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0
    messages, sampling, _ = MODEL.prompts[-1]
    assert [(turn["role"], turn["content"]) for turn in messages] == [("system", "Be brief."), ("user", "hello")]
    assert (sampling.temperature, sampling.max_new_tokens) == (0.5, 9)


def test_a_stream_tells_what_the_whole_answer_says(api: openai.OpenAI) -> None:
    events = list(api.responses.create(model="plain", input=[{"role": "user", "content": "Why?"}], stream=True))
    kinds = [event.type for event in events]
    assert (kinds[:2], kinds[-1]) == (["response.created", "response.in_progress"], "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    thought = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert (deltas, thought) == (["One", " two"], ["Let me ", "see."])
    last = events[-1]
    assert last.type == "response.completed" and last.response.output_text == "One two"
    whole = api.responses.create(model="plain", input="Why?")
    assert (
        [item.type for item in whole.output] == [item.type for item in last.response.output] == ["reasoning", "message"]
    )
    with api.responses.stream(model="plain", input="Why?") as stream:  # the client's own gathering of the events
        assert stream.get_final_response().output_text == "One two"


def test_a_tool_is_called_and_its_result_is_read(api: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "tools": [WEATHER], "tool_choice": {"type": "function", "name": "weather"}}
    (call,) = api.responses.create(input="Is it warm?", **asked).output
    assert call.type == "function_call" and json.loads(call.arguments) == {"city": "北京"}
    events = list(api.responses.create(input="Is it warm?", stream=True, **asked))
    (told,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert (told.name, told.arguments) == ("weather", call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    asked["tool_choice"] = "auto"
    after = api.responses.create(input=[{"role": "user", "content": "Is it warm?"}, call, result], **asked)  # type: ignore[list-item]
    assert after.output_text == "You said: Sunny"
    asker, caller, tool = MODEL.prompts[-1][0]
    assert (asker["role"], caller["tool_calls"][0]["id"], tool["name"]) == ("user", call.call_id, "weather")


def test_an_answer_keeps_to_a_schema(api: openai.OpenAI) -> None:
    parsed = api.responses.parse(model="tiny", input="Where?", text_format=City).output_parsed
    assert isinstance(parsed, City) and parsed.city


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "go"}}]}, "tools[0]"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": [{"role": "judge", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": 7}, "input"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": 3}}, "text.format.type"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"model": "plain", "text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"n": 2}, "n"),
        ({"temperature": 9}, "temperature"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(api: openai.OpenAI, more: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", "input": "hello", **more}
    with pytest.raises(openai.BadRequestError) as refused:
        api.post("/responses", body=body, cast_to=object)
    assert refused.value.param == param and param in refused.value.message
