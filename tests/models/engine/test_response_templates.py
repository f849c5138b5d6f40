"""A checkpoint's own response template says how its calls and its reasoning are read."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.models.engine import reasoning
from app.models.engine.grammar import WrongSchema
from app.models.engine.response_calls import call_reader
from app.models.engine.response_template import with_response
from app.models.engine.tool_calls import HERMES, MISTRAL, CannotForce, ToolCall, Tools, form_of, required_form
from app.models.loading.checkpoint import written_template
from tests.able_model import AbleModel
from tests.models.engine import response_templates as told
from tests.models.engine.test_tool_calls import HERMES_TEMPLATE, MISTRAL_TEMPLATE, tool

PLAIN = "{% if tools %}{{ tools }}{% endif %}{{ messages }}"
GO = tool("go", properties={"to": {"type": "string"}, "n": {"type": "integer"}}, required=["to"])
TOOLS = Tools((GO, tool("stay", properties={})))
MARKED = told.of(
    {
        "open": "[do]",
        "close": "[/do]",
        "transform": {"function": {"name": "{content.name}", "arguments": "{content.with}"}},
    }
)


def test_calls_of_json_between_marks_can_be_held_to_their_schemas() -> None:
    assert form_of(with_response(HERMES_TEMPLATE.replace("<tool_call>", "<tool_call>\n{}"), told.QWEN)) == HERMES
    assert form_of(with_response(MISTRAL_TEMPLATE, told.MISTRAL)) == MISTRAL
    form = form_of(with_response(PLAIN, MARKED))
    assert form is not None and TOOLS.output(form) is not None
    assert (form.opening, form.closing, form.arguments, form.gap) == ("[do]", "[/do]", "with", "")


def test_without_a_template_for_tools_there_are_none() -> None:
    assert form_of(with_response("{{ messages }}", told.QWEN)) is None


@pytest.mark.parametrize("wrong", [{"fields": {}}, [], "tool_calls", told.of({"open_pattern": "("})])
def test_what_is_no_response_template_is_left_aside(wrong: Any) -> None:
    assert form_of(with_response(HERMES_TEMPLATE, wrong)) == HERMES


def read(template: dict[str, Any], answer: str, size: int, tools: Tools = TOOLS) -> tuple[str, list[ToolCall]]:
    form = form_of(with_response(PLAIN, template))
    assert form is not None and form.is_free and tools.output(form) is None
    reader = call_reader(form, tools)
    found = [one for at in range(0, len(answer), size) for one in reader.push(answer[at : at + size])]
    found += reader.finish()
    return "".join(one for one in found if isinstance(one, str)), [one for one in found if isinstance(one, ToolCall)]


XML = "<tool_call>\n<function=%s>\n%s</function>\n</tool_call>"
TO, COUNT = "<parameter=to>\n%s\n</parameter>\n", "<parameter=n>\n%s\n</parameter>\n"
XML_GO = XML % ("go", TO % "北京" + COUNT % 3)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("template", "answer", "text"),
    [
        (told.QWEN_3_5, XML_GO, ""),
        (told.QWEN_3_5, f"I go.\n{XML_GO}\n", "I go."),
        (told.GEMMA_4, 'So:<|tool_call>call:go{to:<|"|>北京<|"|>,n:3}<tool_call|>', "So:"),
        (told.LATER_MISTRAL, '[TOOL_CALLS]go[ARGS]{"to": "北京", "n": 3}', ""),
    ],
)
def test_calls_in_other_forms_are_read(template: dict[str, Any], answer: str, text: str, size: int) -> None:
    shown, (call,) = read(template, answer, size)
    assert (shown, call.name, json.loads(call.arguments)) == (text, "go", {"to": "北京", "n": 3})


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("template", "answer"),
    [
        (told.QWEN_3_5, XML % ("fly", TO % "x")),
        (told.QWEN_3_5, XML % ("go", COUNT % 3)),
        (told.QWEN_3_5, XML % ("go", TO % "x" + COUNT % "many") + " And <more>."),
        (told.QWEN_3_5, (XML % ("go", TO % "x"))[:-14]),  # cut short
        (told.GEMMA_4, "<|tool_call>call:go{to:}<tool_call|> or not"),
        (told.GEMMA_4, "2 < 3, <|tool and no call"),
        (told.LATER_MISTRAL, '[TOOL_CALLS]go[ARGS]{"to": </s> and a word'),
    ],
)
def test_what_is_no_call_of_a_tool_is_text(template: dict[str, Any], answer: str, size: int) -> None:
    assert read(template, answer, size) == (answer, [])
    shown, calls = read(template, answer + XML_GO if template is told.QWEN_3_5 and answer[-1] in ">." else answer, size)
    assert shown == answer and len(calls) == (template is told.QWEN_3_5 and answer[-1] in ">.")


def test_one_call_alone_where_no_more_are_wanted() -> None:
    answer = f"{XML_GO}\n{XML % ('stay', '')}"
    assert [call.name for call in read(told.QWEN_3_5, answer, 5)[1]] == ["go", "stay"]
    assert [call.name for call in read(told.QWEN_3_5, answer, 5, Tools(TOOLS.definitions, parallel=False))[1]] == ["go"]


def test_nobody_can_be_made_to_call_in_such_a_form() -> None:
    model = AbleModel("tiny")
    model.chat_template = with_response(PLAIN, told.QWEN_3_5)
    assert required_form(model, TOOLS).is_free
    with pytest.raises(CannotForce):
        required_form(model, Tools(TOOLS.definitions, "go"))
    with pytest.raises(WrongSchema):
        call_reader(required_form(model, TOOLS), Tools((tool("go", properties={"to": {"type": "strin"}}),)))


def test_reasoning_stands_between_the_marks_that_are_told(tmp_path: Path) -> None:
    own = told.of({"open": "[do]", "close": "[/do]"}, thinking={"open": "<muse>", "close": "</muse>"})
    assert reasoning.format_of(with_response(PLAIN, own)) == reasoning.ReasoningFormat(
        ("<muse>",), ("</muse>",), "\n</muse>\n\n"
    )
    assert reasoning.thinking_of(with_response(PLAIN + "{{ enable_thinking }}", own)) == "optional"
    assert reasoning.format_of(with_response(PLAIN, told.QWEN)) == reasoning.THINK
    channels = PLAIN + "<|channel|>"
    assert reasoning.format_of(with_response(channels, own)) is reasoning.CHANNELS
    (tmp_path / "chat_template.jinja").write_text(PLAIN)
    assert reasoning.thinking_of(written_template(tmp_path)) == "never"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"response_template": own}))
    assert reasoning.thinking_of(written_template(tmp_path)) == "always"
