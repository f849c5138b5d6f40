"""Tools, JSON schemas and raw prompts with the packaged model under a chat template that knows tools."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.api.test_routes import client, serving

TEMPLATE = """{% if tools %}<|im_start|>system
Call functions: {{ tools | tojson }}<|im_end|>
{% endif %}{% for turn in messages %}<|im_start|>{{ 'user' if turn.role == 'tool' else turn.role }}
{{ turn.content }}{% for call in turn.tool_calls or [] %}<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "北京"]}, "unit": {"$ref": "#/$defs/Unit"}},
    "required": ["city", "unit"],
    "$defs": {"Unit": {"enum": ["C", "F"]}},
}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
ASK: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def api(packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("tools")
    shutil.copytree(packaged_folder, folder / "model")
    for own in (folder / "model").glob("chat_template*"):
        own.unlink()
    config = folder / "model" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": TEMPLATE}))
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, folder), "smollm2-135m")
    registry.add_model("caller", folder / "model")
    with serving(registry) as url, client(url) as asking:  # type: ignore[arg-type]
        yield asking
    registry.close()


def test_a_call_keeps_to_its_schema_and_its_result_is_told(api: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "caller", "temperature": 0, "max_tokens": 40, "tools": TOOLS}
    named = {"type": "function", "function": {"name": "weather"}}
    choice = api.chat.completions.create(messages=ASK, tool_choice=named, **asked).choices[0]
    (call,) = choice.message.tool_calls or []
    assert (choice.finish_reason, choice.message.content, call.function.name) == ("tool_calls", None, "weather")
    jsonschema.validate(json.loads(call.function.arguments), WEATHER)
    chunks = list(api.chat.completions.create(messages=ASK, tool_choice=named, stream=True, **asked))
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert "".join(delta.function.arguments or "" for delta in deltas if delta.function) == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}
    told = [*ASK, choice.message.model_dump(exclude_none=True), result]
    answer = api.chat.completions.create(messages=told, tool_choice="none", **{**asked, "max_tokens": 4}).choices[0]
    assert answer.message.content and not answer.message.tool_calls


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"enum": ["上海", 'a "quote"']}, "minItems": 2, "maxItems": 2},
        {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 12}, "ok": {"type": "boolean"}},
            "required": ["n", "ok"],
            "additionalProperties": False,
        },
    ],
)
def test_an_answer_keeps_to_its_schema(api: openai.OpenAI, schema: dict[str, Any]) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    made = api.chat.completions.create(model="caller", messages=ASK, max_tokens=60, seed=5, response_format=form, n=2)
    for choice in made.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content or ""), schema)


def test_a_schema_that_is_none_is_refused(api: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}
    with pytest.raises(openai.BadRequestError, match="JSON schema cannot be used"):
        api.chat.completions.create(model="caller", messages=ASK, response_format=form)


def test_prompts_are_continued_and_scored(api: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "caller", "temperature": 0, "logprobs": 1, "echo": True}
    made = api.completions.create(prompt=["The capital of France is Paris", "One two"], max_tokens=1, **asked)
    first, second = made.choices
    assert first.text.startswith("The capital of France is Paris") and second.text.startswith("One two")
    told = first.logprobs
    assert told is not None and told.tokens is not None and told.token_logprobs is not None
    assert "".join(told.tokens) == first.text
    assert told.token_logprobs[0] is None and all(score <= 0 for score in told.token_logprobs[1:])
    ids = api.completions.create(prompt=[504, 3575, 282], max_tokens=0, **asked).choices[0]
    assert ids.logprobs is not None and len(ids.logprobs.tokens or ()) == 3
    with pytest.raises(openai.BadRequestError, match="no embedding"):
        api.completions.create(model="caller", prompt=[99_999_999], max_tokens=1)
