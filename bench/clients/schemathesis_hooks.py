"""Narrow the OpenAPI description of /v1 to what one server takes: its models, pictures, tool arguments (schemathesis).

schemathesis loads this file where SCHEMATHESIS_HOOKS names it; CHAT_MODEL, EMBEDDER and VOCABULARY say what is served.
"""

import os
from typing import Any

import schemathesis
from jsonschema import Draft202012Validator

LONGEST = 4  # tokens of an answer: requests are on trial, not the model
LENGTHS = {
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/completions": "max_tokens",
}
NO_ARGUMENTS = {"anyOf": [{"enum": ["{}"]}, {"type": "object"}]}  # texts that are JSON cannot be drawn
SCHEMA_WORDS = {*Draft202012Validator.VALIDATORS, "$defs", "definitions", "then", "else"}


def narrow(description: dict[str, Any], model: str, embedder: str, vocabulary: int, *, thinks: bool = False) -> None:
    """Say, in place, what no schema can say of every server, so that all that is left is really taken.

    `vocabulary` is how many tokens `model` knows; one that `thinks` can be asked to reason. Values that are taken out
    must be refused by the server, as those beyond the description are sent as well.
    """
    bodies = {
        path: found["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        for path, found in description["paths"].items()
        if "post" in found
    }
    for path, name in (dict.fromkeys(LENGTHS, model) | {"/v1/embeddings": embedder}).items():
        bodies[path]["model"] = {"const": name}
    _only_tokens(bodies["/v1/completions"]["prompt"], vocabulary)
    chat = bodies["/v1/chat/completions"]
    if not thinks:
        chat["reasoning_effort"] = {"enum": ["none", None]}
        chat["chat_template_kwargs"]["anyOf"][1]["properties"]["enable_thinking"] = {"enum": [False, None]}
        reasoning = bodies["/v1/responses"]["reasoning"]["anyOf"][1]["properties"]
        reasoning["effort"] = {"enum": ["none", None]}
    chat["tool_choice"] = chat["tool_choice"]["anyOf"][0]  # not by a name, which must be among the tools'
    for message in chat["messages"]["items"]["anyOf"]:
        content = message["properties"]["content"]["anyOf"]
        content[1]["items"] = content[1]["items"]["anyOf"][0]  # no pictures: which text is one?
        if calls := message["properties"].get("tool_calls"):
            function = calls["anyOf"][1]["items"]["properties"]["function"]
            function["properties"]["arguments"] = NO_ARGUMENTS
    for item in bodies["/v1/responses"]["input"]["anyOf"][1]["items"]["anyOf"]:
        if "arguments" in item["properties"]:
            item["properties"]["arguments"] = NO_ARGUMENTS


def _only_tokens(schema: dict[str, Any], vocabulary: int) -> None:
    if schema.get("type") == "integer":
        schema["maximum"] = vocabulary - 1
    for inner in [schema["items"]] if "items" in schema else schema.get("anyOf", ()):
        _only_tokens(inner, vocabulary)


def shorten(path: str, body: Any) -> None:
    """Ask, in place, for a short answer, unless the length is what is wrong with a request."""
    name = LENGTHS.get(path)
    if name is None or not isinstance(body, dict):
        return
    given = body.get(name)
    if given is None or (type(given) is int and (given == -1 or given > LONGEST)):
        body[name] = LONGEST


def is_plain(value: Any, in_schema: bool = False) -> bool:
    """Whether no JSON schema within a body has words of JSON Schema, which at random make none that can be kept to."""
    if isinstance(value, dict):
        return all(
            not (in_schema and name in SCHEMA_WORDS) and is_plain(inner, in_schema or name in ("parameters", "schema"))
            for name, inner in value.items()
        )
    return not isinstance(value, list) or all(is_plain(inner, in_schema) for inner in value)


if "SCHEMATHESIS_HOOKS" in os.environ:

    @schemathesis.hook
    def before_load_schema(_: Any, raw_schema: dict[str, Any]) -> None:
        environment = os.environ
        narrow(raw_schema, environment["CHAT_MODEL"], environment["EMBEDDER"], int(environment["VOCABULARY"]))

    @schemathesis.hook
    def filter_body(_: Any, body: Any) -> bool:
        return is_plain(body)

    @schemathesis.hook
    def before_call(_: Any, case: Any, __: Any) -> None:
        shorten(case.path, case.body)
