"""What programs do with the `openai` package; the key is in OPENAI_API_KEY.

python openai_use.py URL MODEL EMBEDDER   (MODEL's chat template knows tools)
"""

import json
import sys

import openai
from pydantic import BaseModel

URL, MODEL, EMBEDDER = sys.argv[1:]
api = openai.OpenAI(base_url=URL, max_retries=0)
ASK = [{"role": "user", "content": "What is the capital of France?"}]
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "北京"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "…", "parameters": CITY}}]


class Place(BaseModel):
    """A shape for `parse`."""

    city: str
    people: int


def chat() -> None:
    whole = api.chat.completions.create(model=MODEL, messages=ASK, temperature=0, max_tokens=16)
    assert whole.choices[0].message.content and whole.usage.completion_tokens <= 16
    chunks = list(
        api.chat.completions.create(
            model=MODEL, messages=ASK, temperature=0, max_tokens=16, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (text, chunks[-1].usage) == (whole.choices[0].message.content, whole.usage)
    several = api.chat.completions.create(model=MODEL, messages=ASK, n=3, seed=1, temperature=1.5, max_tokens=8)
    assert len({choice.message.content for choice in several.choices}) == 3
    fields = {
        "top_p": 0, "seed": -1, "presence_penalty": 1, "frequency_penalty": 1, "logit_bias": {"42": -100},
        "stop": ["\n"], "extra_body": {"min_p": 0.1, "top_k": 5, "repetition_penalty": 1.1, "stop_token_ids": [3]},
    }  # fmt: skip
    api.chat.completions.create(model=MODEL, messages=ASK, max_tokens=4, **fields)
    scored = api.chat.completions.create(model=MODEL, messages=ASK, logprobs=True, top_logprobs=2, max_tokens=4)
    assert scored.choices[0].logprobs.content
    stream = api.chat.completions.create(model=MODEL, messages=ASK, max_tokens=2000, stream=True)
    next(stream)
    stream.close()


def structured() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    made = api.chat.completions.create(model=MODEL, messages=ASK, response_format=form, max_tokens=40)
    assert json.loads(made.choices[0].message.content)["city"] in ("Paris", "北京")
    parsed = api.chat.completions.parse(model=MODEL, messages=ASK, response_format=Place, max_tokens=2000, top_p=0)
    assert isinstance(parsed.choices[0].message.parsed, Place)


def tools() -> None:
    asked = {"model": MODEL, "tools": TOOLS, "max_tokens": 60}
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        message = api.chat.completions.create(messages=ASK, tool_choice=choice, **asked).choices[0].message
        assert json.loads(message.tool_calls[0].function.arguments)["city"] in ("Paris", "北京")
    chunks = api.chat.completions.create(messages=ASK, tool_choice=named, stream=True, **asked)
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert json.loads("".join(delta.function.arguments or "" for delta in deltas))
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Sunny"}
    told = [*ASK, message.model_dump(exclude_none=True), result]
    assert api.chat.completions.create(messages=told, tool_choice="none", **asked).choices[0].message.content


def completions() -> None:
    made = api.completions.create(model=MODEL, prompt=["One two", "三"], echo=True, logprobs=2, max_tokens=2)
    assert made.choices[0].text.startswith("One two") and made.choices[1].text.startswith("三")
    assert api.completions.create(model=MODEL, prompt=[504, 3575], max_tokens=1).usage.prompt_tokens == 2
    assert list(api.completions.create(model=MODEL, prompt="One", max_tokens=2, stream=True))


def embeddings() -> None:
    packed = api.embeddings.create(model=EMBEDDER, input=["a cat", "一只猫"])
    plain = api.embeddings.create(model=EMBEDDER, input="a cat", encoding_format="float")
    assert len(packed.data) == 2 and len(plain.data[0].embedding) == len(packed.data[0].embedding)


def models_and_errors() -> None:
    names = [model.id for model in api.models.list()]
    assert api.models.retrieve(names[0]).id == names[0]
    refused = {
        openai.NotFoundError: {"model": "none-such", "messages": ASK},
        openai.BadRequestError: {"model": MODEL, "messages": [{"role": "user", "content": "word " * 20_000}]},
    }
    for error, asked in refused.items():
        try:
            api.chat.completions.create(**asked)
        except error as told:
            assert told.body["message"]
        else:
            raise AssertionError(error)


def responses() -> None:
    asked = {"model": MODEL, "temperature": 0, "max_output_tokens": 16}
    whole = api.responses.create(input="What is the capital of France?", **asked)
    events = list(api.responses.create(input="What is the capital of France?", stream=True, **asked))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text != ""
    weather = {"type": "function", "name": "weather", "parameters": CITY}
    (call,) = api.responses.create(
        model=MODEL, input=ASK, tools=[weather], tool_choice={"type": "function", "name": "weather"}
    ).output
    assert json.loads(call.arguments)["city"] in ("Paris", "北京")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    assert api.responses.create(input=[*ASK, call, result], **asked).output_text


for tried in (chat, structured, tools, completions, embeddings, responses, models_and_errors):
    tried()
    print("ok:", tried.__name__)
