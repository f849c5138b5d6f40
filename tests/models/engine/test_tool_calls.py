"""Tool calls: which templates write them how, what a model may answer, and how calls are read as they stream."""

import json
from typing import Any

import jsonschema
import pytest

from app.models.engine.grammar import grammar_of
from app.models.engine.tool_calls import (
    HERMES,
    INTERNLM,
    LLAMA,
    MISTRAL,
    ToolCall,
    ToolCallReader,
    ToolForm,
    Tools,
    form_of,
)
from app.models.loading.chat_templates import TEMPLATES

HERMES_TEMPLATE = "{% if tools %}{{ tools }}<tool_call>{% endif %}{{ messages }}"
MISTRAL_TEMPLATE = "{% if tools %}[AVAILABLE_TOOLS]{{ tools }}{% endif %}[TOOL_CALLS]{{ messages }}"
LLAMA_TEMPLATE = '{% if tools %}{{ tools }}{"name": function, "parameters": {}} ipython{% endif %}{{ messages }}'


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (HERMES_TEMPLATE, HERMES),
        (MISTRAL_TEMPLATE, MISTRAL),
        (LLAMA_TEMPLATE, LLAMA),
        (TEMPLATES["internlm2"], INTERNLM),
        (HERMES_TEMPLATE + "{% generation %}{{ answer }}{% endgeneration %}", HERMES),
        ("tools <tool_call>{% generation %}{{ answer }}{% endgeneration %}", None),
        (HERMES_TEMPLATE + "<function=", None),
        (MISTRAL_TEMPLATE + "[ARGS]", None),
        ("{{ messages }} tools <tool_call>", None),
        ("", None),
        ("{% if tools", None),
    ],
)
def test_a_template_says_how_its_models_write_calls(template: str, form: ToolForm | None) -> None:
    assert form_of(template) == form


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", **parameters}}}


def test_what_may_be_called_keeps_definitions_of_several_tools_apart() -> None:
    place = {"type": "object", "properties": {"to": {"$ref": "#/$defs/Place"}}}
    first = tool("go", **place, **{"$defs": {"Place": {"type": "string"}}})
    second = tool("count", **place, **{"$defs": {"Place": {"type": "integer"}}})
    schema = json.loads(Tools((first, second)).output(HERMES).schema)
    jsonschema.validate({"name": "go", "arguments": {"to": "here"}}, schema)
    jsonschema.validate({"name": "count", "arguments": {"to": 3}}, schema)
    for wrong in ({"name": "go", "arguments": {"to": 3}}, {"name": "stay", "arguments": {}}, {"name": "go"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("form", [HERMES, MISTRAL], ids=["one", "a list"])
def test_references_within_parameters_mean_the_parameters(form: ToolForm) -> None:
    label = {"type": "string"}
    tree = tool("plant", properties={"label": label, "children": {"type": "array", "items": {"$ref": "#"}}})
    ways = tool(
        "go", properties={"home": label, "to": {"$ref": "#/properties/home"}, "by": {"$ref": "#/definitions/n"}}
    )
    ways["function"]["parameters"]["definitions"] = {"n": {"type": "integer"}}
    own = tool(
        "stay", **{"$id": "https://example.org/own", "$defs": {"n": label}}, properties={"at": {"$ref": "#/$defs/n"}}
    )
    wanted = Tools((tree, ways, own)).output(form)
    grammar_of(wanted, {})
    schema = json.loads(wanted.schema)

    def takes(name: str, arguments: Any) -> bool:
        call = {"name": name, form.arguments: arguments}
        return bool(jsonschema.Draft202012Validator(schema).is_valid([call] if form.listed else call))

    assert takes("plant", {"label": "a", "children": [{"label": "b", "children": []}]})
    assert not takes("plant", {"children": [{"name": "plant", "arguments": {}}]})
    assert takes("go", {"home": "h", "to": "t", "by": 1})
    assert not takes("go", {"to": 1}) and not takes("go", {"by": "t"})
    assert takes("stay", {"at": "a"}) and not takes("stay", {"at": 1})


def test_the_choice_decides_what_an_answer_may_be() -> None:
    tools = (tool("go", properties={}), tool("stay", properties={}))
    free, must, named = (Tools(tools, choice).output(HERMES) for choice in ("auto", "required", "stay"))
    assert [(one.required, one.repeat) for one in (free, must, named)] == [(False, True), (True, True), (True, False)]
    assert "go" in must.schema and "go" not in named.schema
    assert not Tools(tools, parallel=False).output(HERMES).repeat
    assert json.loads(Tools(tools, parallel=False).output(MISTRAL).schema)["maxItems"] == 1


GO = '{"name": "go", "%s": {"to": "北京"}}'


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("form", "answer", "found"),
    [
        (HERMES, f"I go.<tool_call>\n{GO % 'arguments'}\n</tool_call>", ["I go.", "go"]),
        (HERMES, 2 * f"<tool_call>\n{GO % 'arguments'}\n</tool_call>\n", ["go", "go"]),
        (HERMES, f"<tool_call>{GO % 'arguments'}", ["go"]),  # ended without its mark
        (HERMES, "a <tool and more", ["a <tool and more"]),
        (HERMES, '<tool_call>\n{"name": "fly", "arguments": {}}</tool_call>', None),
        (HERMES, '<tool_call>\n{"name": "go", "argu', None),  # cut short
        (INTERNLM, f"好。<|action_start|><|plugin|>\n{GO % 'parameters'}<|action_end|>", ["好。", "go"]),
        (LLAMA, GO % "parameters", ["go"]),
        (LLAMA, "No {braces} first", ["No {braces} first"]),
        (MISTRAL, f"[TOOL_CALLS][{GO % 'arguments'}, {GO % 'arguments'}]", ["go", "go"]),
        (MISTRAL, f"[TOOL_CALLS] [{GO % 'arguments'}]\n\nI have asked.", ["\n\nI have asked.", "go"]),
        (HERMES, f"<tool_call>{GO % 'arguments'} and more</tool_call>", None),
    ],
)
def test_calls_are_read_however_they_are_cut(form: ToolForm, answer: str, found: list[str] | None, size: int) -> None:
    reader = ToolCallReader(form, ["go"])
    told: list[str | ToolCall] = []
    for at in range(0, len(answer), size):
        told += reader.push(answer[at : at + size])
    told += reader.finish()
    calls = [one for one in told if isinstance(one, ToolCall)]
    text = "".join(one for one in told if isinstance(one, str))
    if found is None:
        assert (calls, text) == ([], answer)
        return
    assert [text, *(call.name for call in calls)] == (found if not calls or found[0] != "go" else ["", *found])
    assert all(json.loads(call.arguments) == {"to": "北京"} for call in calls)
    assert len({call.id for call in calls}) == len(calls)


@pytest.mark.parametrize(
    "chunks",
    [["int main()", " {", "\n return 0;\n", "}", "\nThat is C."], ["You would call it so: ", GO % "parameters"]],
    ids=["code", "an example"],
)
def test_an_answer_that_begins_with_words_is_no_call_and_waits_for_nothing(chunks: list[str]) -> None:
    reader = ToolCallReader(LLAMA, ["go"])
    assert [list(reader.push(chunk)) for chunk in chunks] == [[chunk] for chunk in chunks]
    assert list(reader.finish()) == []
