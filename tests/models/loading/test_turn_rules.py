"""Chat templates that refuse or lose turns get the same conversation in turns that they take."""

import re
from typing import Any

import jinja2
import pytest

from app.models.interface import Message
from app.models.loading.turn_rules import CALL, TurnRules, probe

ALTERNATE = "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
TURN = "<{{ m.role }}>{{ m.content }}"
TEMPLATES = {
    "anything goes": "{% for m in messages %}" + TURN + "{% endfor %}",
    "gemma": "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}" + ALTERNATE + TURN + "{% endfor %}",
    "mistral": "{% set s = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% set rest = messages[1:] if s else messages %}{{ s }}"
    "{% for m in rest %}" + ALTERNATE + TURN + "{% endfor %}",
    "qwen 3.5": "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('late') }}"
    "{% endif %}" + TURN + "{% endfor %}",
    "system turns are lost": "{% for m in messages if m.role != 'system' %}" + TURN + "{% endfor %}",
    "the system is told to the last user": "{% set s = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ s if loop.last }}"
    + TURN
    + "{% elif m.role == 'assistant' %}"
    + TURN
    + "{% elif m.role != 'system' %}{{ raise_exception('role') }}{% endif %}{% endfor %}",
    "wants a question": "{% if not (messages | selectattr('role', 'equalto', 'user') | list) %}"
    "{{ raise_exception('no user query') }}{% endif %}{% for m in messages %}" + TURN + "{% endfor %}",
    "the system before a question": "{% if messages[0].role == 'system' and messages[1].role != 'user' %}"
    "{{ raise_exception('order') }}{% endif %}{% for m in messages %}" + TURN + "{% endfor %}",
    "results of tools are lost": "{% for m in messages if m.role != 'tool' %}" + TURN + "{% endfor %}",
    "parts only": "{% for m in messages %}<{{ m.role }}>{{ m.content[0]['text'] }}{% endfor %}",
    "known roles only": "{% for m in messages %}{% if m.role not in ('user', 'assistant', 'system') %}"
    "{{ raise_exception('role') }}{% endif %}" + TURN + "{% endfor %}",
}
HARD: list[Message] = [
    {"role": "system", "content": "S1"},
    {"role": "assistant", "content": "A0"},
    {"role": "user", "content": "U1"},
    {"role": "user", "content": "U2"},
    {"role": "assistant", "content": "A1"},
    {"role": "environment", "content": "E1"},
    {"role": "system", "content": "S2"},
    {"role": "user", "content": "U3"},
]


def rendering(template: str) -> Any:
    def refuse(text: str) -> None:
        raise jinja2.TemplateError(text)

    compiled = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(template)
    return lambda turns: compiled.render(messages=turns, raise_exception=refuse)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("first", range(3), ids=["from the system turn", "from an answer", "from a question"])
def test_every_word_of_a_hard_conversation_comes_out(name: str, first: int) -> None:
    render = rendering(TEMPLATES[name])
    rules = probe(render)
    assert rules is not None
    text = render(rules.for_template(HARD[first:]))
    assert all(turn["content"] in text for turn in HARD[first:])
    answers = [text.index(turn["content"]) for turn in HARD[first:] if turn["role"] != "system"]
    assert answers == sorted(answers)


CALLED: list[Message] = [
    {"role": "user", "content": "U1"},
    {"role": "assistant", "content": "", "tool_calls": (CALL,)},
    {"role": "tool", "content": "T1", "name": "look", "tool_call_id": "abcDEF123"},
]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    "turns",
    [HARD[:1], HARD[1:2], HARD[:2], [HARD[0], HARD[2], HARD[4]], CALLED, [HARD[0], *CALLED, HARD[4], HARD[3]]],
    ids=["instructions alone", "an answer alone", "no question", "an answer last", "a tool", "a tool before more"],
)
def test_conversations_without_a_question_at_their_end_come_out(name: str, turns: list[Message]) -> None:
    render = rendering(TEMPLATES[name])
    rules = probe(render)
    assert rules is not None
    text = render(rules.for_template(turns))
    found = [text.find(turn["content"]) for turn in turns if turn["role"] != "system" and turn["content"]]
    assert -1 not in found and found == sorted(found)
    assert all(turn["content"] in text for turn in turns)


def test_what_a_template_takes_is_left_alone() -> None:
    assert probe(rendering(TEMPLATES["anything goes"])) == TurnRules()
    assert TurnRules().mend(HARD) == HARD
    assert probe(rendering(TEMPLATES["parts only"])) == TurnRules(content_parts=True)
    assert probe(rendering("{{ raise_exception('no') }}")) is None
    assert probe(rendering("{{ messages[0].nothing.at_all }}")) is None


def test_pictures_go_with_the_turn_that_they_are_joined_to() -> None:
    turns: list[Message] = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U1", "images": (b"1",)},
        {"role": "user", "content": "U2", "images": (b"2",)},
    ]
    assert TurnRules(system=False, repeated_roles=False).mend(turns) == [
        {"role": "user", "content": "S\n\nU1\n\nU2", "images": (b"1", b"2")}
    ]


def test_calls_and_names_go_with_the_turn_that_they_are_joined_to() -> None:
    other = {**CALL, "id": "ghiJKL456"}
    turns: list[Message] = [
        {"role": "user", "content": "U1"},
        {"role": "user", "content": "U2", "name": "Ann"},
        {"role": "assistant", "content": "A1", "tool_calls": (CALL,)},
        {"role": "assistant", "content": "", "tool_calls": (other,)},
        {"role": "tool", "content": "T1", "tool_call_id": "abcDEF123"},
        {"role": "tool", "content": "T2", "tool_call_id": "ghiJKL456"},
    ]
    assert TurnRules(repeated_roles=False).mend(turns) == [
        {"role": "user", "content": "U1\n\nU2", "name": "Ann"},
        {"role": "assistant", "content": "A1", "tool_calls": (CALL, other)},
        *turns[4:],
    ]


NINE = (
    "{% for m in messages %}{% for call in m.tool_calls | default([]) %}{% if call.id | length != 9 %}"
    "{{ raise_exception('ids are alphanumeric strings with length 9!') }}{% endif %}[{{ call.id }}]{% endfor %}"
    "{% if m.role == 'tool' and m.tool_call_id | length != 9 %}{{ raise_exception('no id') }}{% endif %}"
    "{{ m.content }}{% if m.role == 'tool' %}({{ m.tool_call_id }}){% endif %}{% endfor %}"
)


def test_ids_of_calls_become_as_long_as_a_template_wants_them() -> None:
    render = rendering(NINE)
    rules = probe(render)
    assert rules is not None and rules.tools and not rules.long_ids
    calls = tuple({**CALL, "id": key} for key in ("call_abc123XYZ", "call_abc123XYz", "abcDEF123", ""))
    results: list[Message] = [{"role": "tool", "content": "T", "tool_call_id": call["id"]} for call in calls]
    history: list[Message] = [CALLED[0], {"role": "assistant", "content": "", "tool_calls": calls}, *results]
    text = render(rules.for_template(history))
    called, told = re.findall(r"\[(\w+)\]", text), re.findall(r"\((\w+)\)", text)
    assert called == told and len(set(called)) == 4 and called[2] == "abcDEF123"
    assert text == render(rules.for_template(history)) and TurnRules().mend(history) == history
