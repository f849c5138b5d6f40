"""Training data: three forms, every faulty row named."""

import json

import pytest

from app.finetune.data import BadData, Conversation, read_conversations

TURN: Conversation = [{"input": "Hi", "output": "Hello"}]


def jsonl(*rows: object) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.mark.parametrize(
    "row",
    [
        {"conversation": [{"input": "Hi", "output": "Hello"}]},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    ],
)
def test_three_forms_as_list_and_as_lines(row: object) -> None:
    assert read_conversations(json.dumps([row, row], indent=1)) == [TURN, TURN]
    assert read_conversations("\ufeff" + jsonl(row) + "\n\n" + jsonl(row) + "\n") == [TURN, TURN]


def test_systems_several_turns_and_alpaca_input() -> None:
    conversation = {"conversation": [{"system": "s", "input": "a", "output": "b"}, {"input": "c", "output": "d"}]}
    messages = {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]
    }
    two = [{"system": "s", "input": "a", "output": "b"}, {"input": "c", "output": "d"}]
    assert read_conversations(jsonl(conversation, messages)) == [two, two]
    alpaca = {"instruction": "Translate", "input": "你好", "output": "Hello"}
    assert read_conversations(jsonl(alpaca)) == [[{"input": "Translate\n你好", "output": "Hello"}]]


def test_broken_json_at_row_5000() -> None:
    good = jsonl({"instruction": "a", "output": "b"})
    with pytest.raises(BadData) as problem:
        read_conversations("\n".join([good] * 4999 + ['{"instruction": "a", "output": ', good]))
    assert [fault.row for fault in problem.value.problems] == [5000]
    assert "5000" in problem.value.text("zh") and "5000" in problem.value.text("en")
    listed = "[\n" + ",\n".join([good] * 4998 + ['{"a" 1}', good]) + "\n]"
    with pytest.raises(BadData) as problem:
        read_conversations(listed)
    assert problem.value.problems[0].row == 5000


@pytest.mark.parametrize("text", ["", "  \n", "[]"])
def test_empty_data(text: str) -> None:
    with pytest.raises(BadData) as problem:
        read_conversations(text)
    assert "空" in problem.value.text("zh") and "empty" in problem.value.text("en")


def test_all_faulty_rows_are_named_at_once() -> None:
    user = {"role": "user", "content": "a"}
    answer = {"role": "assistant", "content": "b"}
    rows = [
        "a text",
        {"other": 1},
        {"conversation": []},
        {"conversation": [{"input": "a"}]},
        {"conversation": [{"input": "a", "output": "  "}]},
        {"conversation": {"input": "a", "output": "b"}},
        {"messages": [answer, user]},
        {"messages": [user, user, answer]},
        {"messages": [user]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": [{"role": "user", "content": 3}, answer]},
        {"instruction": "a", "output": None},
        {"instruction": "good", "output": "row"},
    ]
    with pytest.raises(BadData) as problem:
        read_conversations(jsonl(*rows))
    assert [fault.row for fault in problem.value.problems] == list(range(1, 13))
    assert all(fault.zh and fault.en for fault in problem.value.problems)
