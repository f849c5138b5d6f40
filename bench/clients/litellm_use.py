"""What programs do with `litellm`: chat, streams, tools, JSON schemas, embeddings, its own error classes.

The key is in OPENAI_API_KEY.

python litellm_use.py URL MODEL EMBEDDER
"""

import json
import sys

import litellm

URL, MODEL, EMBEDDER = sys.argv[1:]
litellm.telemetry = False
HERE = {"model": f"openai/{MODEL}", "api_base": URL, "max_retries": 0}
ASK = [{"role": "user", "content": "What is the capital of France?"}]
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "北京"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


def chat() -> None:
    whole = litellm.completion(messages=ASK, temperature=0, max_tokens=12, **HERE)
    chunks = litellm.completion(messages=ASK, temperature=0, max_tokens=12, stream=True, **HERE)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content


def tools() -> None:
    made = litellm.completion(messages=ASK, tools=TOOLS, tool_choice="required", max_tokens=40, **HERE)
    assert json.loads(made.choices[0].message.tool_calls[0].function.arguments)["city"] in ("Paris", "北京")


def structured() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    made = litellm.completion(messages=ASK, response_format=form, max_tokens=40, **HERE)
    assert json.loads(made.choices[0].message.content)["city"] in ("Paris", "北京")


def embeddings() -> None:
    made = litellm.embedding(input=["a cat"], **{**HERE, "model": f"openai/{EMBEDDER}"})
    assert made.data[0]["embedding"]


def errors() -> None:
    long = [{"role": "user", "content": "word " * 20_000}]
    for error, more in (
        (litellm.ContextWindowExceededError, {"messages": long}),
        (litellm.NotFoundError, {"model": "openai/no"}),
    ):
        try:
            litellm.completion(**{**HERE, "messages": ASK, **more})
        except error:
            continue
        raise AssertionError(error)


for tried in (chat, tools, structured, embeddings, errors):
    tried()
    print("ok:", tried.__name__)
