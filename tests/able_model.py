"""A fake model that calls tools and keeps to schemas: it writes the first instance of a schema that comes to mind."""

import json
from collections.abc import Sequence
from typing import Any

from app.models.interface import Message, OutputFormat, Sampling, TokenScore
from tests.fakes import FakeGeneration, FakeModel

TOOLS_TEMPLATE = "{% if tools %}{{ tools }}<tool_call>{% endif %}{{ messages }}"
SIMPLE = {"integer": 3, "number": 1.5, "boolean": True, "string": "你好，こんにちは", "null": None}


class AbleModel(FakeModel):
    """Does all that a request can ask of a model; calls a tool whenever it is the user's turn and it has some."""

    def __init__(self, name: str, **more: Any) -> None:
        super().__init__(name, chat_template=TOOLS_TEMPLATE, thinking="optional", **more)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, *, visitor: str = "", drop_oldest: bool = False
    ) -> FakeGeneration:
        output = sampling.output
        if output is None or not (output.required or messages[-1]["role"] == "user"):
            return super().stream(messages, sampling, visitor=visitor, drop_oldest=drop_oldest)
        echoed, self.script = self.script, lambda _: cut(written(output))
        made = super().stream(messages, sampling, visitor=visitor, drop_oldest=drop_oldest)
        self.script = echoed
        return made

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def token_text(self, token: int) -> str:
        return f"<{token}>"

    def complete(self, tokens: Sequence[int], sampling: Sampling, *, visitor: str = "") -> FakeGeneration:
        return self.stream([{"role": "user", "content": str(len(tokens))}], sampling, visitor=visitor)

    def score_text(self, tokens: Sequence[int], top_logprobs: int, start: int = 1) -> list[TokenScore]:  # noqa: ARG002
        return [TokenScore(self.token_text(token), -1.0, ()) for token in tokens[start:]]

    def score_tokens(self, _: Sequence[Message], answer: str, top_logprobs: int) -> list[TokenScore]:
        return self.score_text(self.encode(answer), top_logprobs)


def written(output: OutputFormat) -> str:
    schema = json.loads(output.schema)
    return f"{output.begin}{json.dumps(instance(schema, schema))}{output.end}"


def instance(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Some value of a schema."""
    if "$ref" in schema:
        found = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return instance(found, root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return instance(schema[key][0], root)
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: instance(own, root) for name, own in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}), root)] * max(1, schema.get("minItems", 1))
    return SIMPLE[kind]


def cut(text: str) -> list[str]:
    """Pieces as tokens are long."""
    return [text[at : at + 4] for at in range(0, len(text), 4)]
