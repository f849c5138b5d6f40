"""Tools, JSON schemas and raw prompts with the packaged model under a chat template that knows tools."""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from app.models.catalog import bundled, known_models
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from tests.api.test_routes import client, serving

TEMPLATE = """{% if tools %}<|im_start|>system
{{ tools | tojson }}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>
{{ c.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
RESPONSE_TEMPLATE = {  # of marks that are known from nowhere else
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<do>",
            "close": "</do>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<|im_end|>", "content": "text"},
    },
}
WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "北京"]}, "unit": {"$ref": "#/$defs/Unit"}},
    "required": ["city", "unit"],
    "$defs": {"Unit": {"enum": ["C", "F"]}},
}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
Api = tuple[openai.OpenAI, str]
ASK: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module", params=["weights", "GGUF"])
def api(
    request: pytest.FixtureRequest, packaged_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[openai.OpenAI, str]]:
    """The model's name, too; by its full weights, with a response template of their own, and by llama.cpp."""
    folder = tmp_path_factory.mktemp("tools")
    registry = ModelRegistry(Placement("cpu", "auto", None, 4000, packaged_folder.parents[1]), "smollm2-135m")
    name = "caller"
    if request.param == "weights":
        shutil.copytree(packaged_folder, folder / "model")
        for own in (folder / "model").glob("chat_template*"):
            own.unlink()
        config = folder / "model" / "tokenizer_config.json"
        own = {"chat_template": TEMPLATE.replace("tool_call>", "do>"), "response_template": RESPONSE_TEMPLATE}
        config.write_text(json.dumps({**json.loads(config.read_text()), **own}))
        registry.add_model(name, folder / "model")
    else:
        name = str(folder / "caller.gguf")
        Path(name).write_bytes(with_template(bundled.gguf_file(known_models.find("smollm2-135m")).read_bytes()))
    with serving(registry) as url, client(url) as asking:  # type: ignore[arg-type]
        yield asking, name
    registry.close()


def with_template(content: bytes) -> bytes:
    """A GGUF file whose chat template is ours, filled up with spaces to the length of its own."""
    key = b"tokenizer.chat_template"
    at = content.index(key) + len(key) + 4  # behind the kind of the value
    (length,) = struct.unpack_from("<Q", content, at)
    assert len(TEMPLATE) <= length
    ours = TEMPLATE.replace("{% if tools %}", f"{{% if tools {' ' * (length - len(TEMPLATE))}%}}", 1)
    return content[: at + 8] + ours.encode() + content[at + 8 + length :]


def test_a_call_keeps_to_its_schema_and_its_result_is_told(api: Api) -> None:
    asking, model = api
    asked: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": 40, "tools": TOOLS}
    named = {"type": "function", "function": {"name": "weather"}}
    choice = asking.chat.completions.create(messages=ASK, tool_choice=named, **asked).choices[0]
    (call,) = choice.message.tool_calls or []
    assert (choice.finish_reason, choice.message.content, call.function.name) == ("tool_calls", None, "weather")
    jsonschema.validate(json.loads(call.function.arguments), WEATHER)
    chunks = list(asking.chat.completions.create(messages=ASK, tool_choice=named, stream=True, **asked))
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert "".join(delta.function.arguments or "" for delta in deltas if delta.function) == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}
    told = [*ASK, choice.message.model_dump(exclude_none=True), result]
    answer = asking.chat.completions.create(messages=told, tool_choice="none", **{**asked, "max_tokens": 4}).choices[0]
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
def test_an_answer_keeps_to_its_schema(api: Api, schema: dict[str, Any]) -> None:
    asking, model = api
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    made = asking.chat.completions.create(model=model, messages=ASK, max_tokens=60, seed=5, response_format=form, n=2)
    for choice in made.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content or ""), schema)


def test_a_schema_that_is_none_is_refused(api: Api) -> None:
    asking, model = api
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}
    with pytest.raises(openai.BadRequestError, match="JSON schema cannot be used") as refused:
        asking.chat.completions.create(model=model, messages=ASK, response_format=form)
    assert refused.value.param == "response_format"
    format_: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "strin"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        asking.responses.create(model=model, input="Hi", text=format_)
    assert refused.value.param == "text.format"


def test_prompts_are_continued_and_scored(api: Api) -> None:
    asking, model = api
    asked: dict[str, Any] = {"model": model, "temperature": 0, "logprobs": 1, "echo": True}
    made = asking.completions.create(prompt=["The capital of France is Paris", "One two"], max_tokens=1, **asked)
    first, second = made.choices
    assert first.text.startswith("The capital of France is Paris") and second.text.startswith("One two")
    told = first.logprobs
    assert told is not None and told.tokens is not None and told.token_logprobs is not None
    assert "".join(told.tokens) == first.text
    assert told.token_logprobs[0] is None and all(score <= 0 for score in told.token_logprobs[1:])
    ids = asking.completions.create(prompt=[504, 3575, 282], max_tokens=0, **asked).choices[0]
    assert ids.logprobs is not None and len(ids.logprobs.tokens or ()) == 3
    for length in (0, 1):
        with pytest.raises(openai.BadRequestError):
            asking.completions.create(model=model, prompt=[99_999_999], max_tokens=length)
    begun = asking.completions.create(prompt="", max_tokens=3, **asked).choices[0]  # a text from its beginning
    assert begun.logprobs is not None and "".join(begun.logprobs.tokens or ()) == begun.text != ""


def test_several_calls_are_made_and_told_one_after_another(api: Api) -> None:
    asking, model = api
    asked: dict[str, Any] = {"model": model, "messages": ASK, "tools": TOOLS, "tool_choice": "required", "seed": 3}
    stream = asking.chat.completions.create(**asked, max_tokens=120, temperature=1.5, stream=True)
    calls: dict[int, list[Any]] = {}
    for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or []:
            calls.setdefault(delta.index, []).append(delta.function)
    assert list(calls) == list(range(len(calls))) and calls
    for opening, *rest in calls.values():
        assert opening.name == "weather"
        jsonschema.validate(json.loads("".join(part.arguments for part in rest)), WEATHER)
    single = asking.chat.completions.create(**asked, max_tokens=120, temperature=1.5, parallel_tool_calls=False)
    assert len(single.choices[0].message.tool_calls or []) == 1


def test_a_model_whose_template_knows_no_tools_refuses_them_by_name(api: Api) -> None:
    with pytest.raises(openai.BadRequestError, match="smollm2-135m does not support the parameter tools"):
        api[0].chat.completions.create(model="smollm2-135m", messages=ASK, tools=TOOLS)


def test_a_token_can_end_an_answer(api: Api) -> None:
    asking, model = api
    paris = 7042  # made the most likely token by far
    asked: dict[str, Any] = {"model": model, "prompt": "It is in", "max_tokens": 2, "logit_bias": {str(paris): 100}}
    assert asking.completions.create(**asked, temperature=0).choices[0].text == " Paris Paris"
    if model == "caller":
        ended = asking.completions.create(**asked, temperature=0, extra_body={"stop_token_ids": [paris]}).choices[0]
        assert (ended.text, ended.finish_reason) == ("", "stop")
        return
    with pytest.raises(openai.BadRequestError, match="takes no stop_token_ids") as refused:
        asking.completions.create(**asked, extra_body={"stop_token_ids": [paris]})
    assert refused.value.param == "stop_token_ids"
