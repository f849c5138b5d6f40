"""Which JSON schemas become grammars, of answers and of tool calls, and how one that cannot is refused."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from app.models.engine.grammar import WrongSchema, grammar_of
from app.models.engine.tool_calls import HERMES, LLAMA, ToolForm, Tools
from app.models.interface import OutputFormat

DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"  # pydantic's
TAGGED = {  # by a tag that has a default
    "discriminator": {"propertyName": "kind"},
    "oneOf": [{"type": "object", "properties": {"kind": {"const": kind, "default": kind}}} for kind in ("cat", "dog")],
}
NOT_HELD: list[tuple[dict[str, Any], str]] = [
    ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, '"uniqueItems"'),
    ({"type": "string", "format": "phone"}, '"format" phone'),
    ({"type": "string", "not": {"const": "x"}}, '"not"'),
    ({"type": "string", "if": {"const": "x"}, "then": {"maxLength": 3}, "else": {}}, '"if", "then"'),
    ({"type": "object", "propertyNames": {"maxLength": 3}}, '"propertyNames"'),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, '"dependentRequired"'),
    ({"anyOf": [{"type": "number"}, {"type": "string", "pattern": DECIMAL}]}, '"pattern"'),
]


def accepts(wanted: OutputFormat, answer: str) -> bool:
    matcher = LLMatcher(LLTokenizer("byte"), grammar_of(wanted, {}), log_level=0)
    return bool(matcher.consume_tokens(list(answer.encode()))) and bool(matcher.is_accepting())


def tools(**parameters: Any) -> Tools:
    function = {"name": "go", "parameters": {"type": "object", "properties": parameters}}
    return Tools(({"type": "function", "function": function},))


@pytest.mark.parametrize(("schema", "named"), NOT_HELD, ids=[named for _, named in NOT_HELD])
def test_what_an_answer_cannot_be_held_to_is_named(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(WrongSchema) as refused:
        grammar_of(OutputFormat(json.dumps({"type": "object", "properties": {"a": schema}})), {})
    for language in ("zh", "en"):
        assert "no answer can be held to" in refused.value.text(language) and named in refused.value.text(language)


def test_a_pattern_that_looks_ahead_is_told_with_its_reason() -> None:
    with pytest.raises(WrongSchema, match=r"\(\?!\^.*look-around.* not supported"):
        grammar_of(OutputFormat(json.dumps({"type": "string", "pattern": DECIMAL})), {})


@pytest.mark.parametrize("form", [HERMES, LLAMA], ids=["marked", "bare"])
@pytest.mark.parametrize(("schema", "named"), NOT_HELD, ids=[named for _, named in NOT_HELD])
def test_arguments_of_a_tool_keep_to_the_rest_of_their_schema(
    schema: dict[str, Any], named: str, form: ToolForm
) -> None:
    wanted = tools(a=schema, pattern={"enum": ["once"]}).output(form)
    assert wanted is not None
    value = {"array": ["x", "x"], "object": {}, "string": "x"}.get(schema.get("type", ""), "1.5")
    for arguments, is_kept in (({"a": value, "pattern": "once"}, True), ({"a": None}, False), ({"pattern": 1}, False)):
        call = json.dumps({"name": "go", form.arguments: arguments})
        assert accepts(wanted, f"{wanted.begin}{call}{wanted.end}") is is_kept, named


def test_a_tagged_union_is_a_format_and_an_argument() -> None:
    answer = OutputFormat(json.dumps(TAGGED))
    assert accepts(answer, '{"kind": "cat"}') and not accepts(answer, '{"kind": "cow"}')
    argument = tools(pet=TAGGED).output(HERMES)
    assert argument is not None and grammar_of(argument, {})
