"""Training data: every common form, file type and encoding, told by content; every faulty row named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from transformers import AutoTokenizer

from app.errors import StudioError
from app.finetune.data import BadData, Conversation, Conversations
from app.finetune.data_files import PackedFile, UnknownEncoding, UnreadableParquet, read_bytes, read_file
from app.finetune.options import TrainOptions
from app.finetune.preview import AnswersBeyondLength, ContextTooShort, NothingLearnt, Preview, check

TURN: Conversation = [{"input": "Hi", "output": "Hello"}]
TWO: Conversation = [{"system": "s", "input": "a", "output": "b"}, {"input": "c", "output": "d"}]


def jsonl(*rows: object) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def read(text: str) -> Conversations:
    return read_bytes(text.encode())


def said(*pairs: tuple[str, str], role: str = "role", content: str = "content") -> list[dict[str, str]]:
    return [{role: who, content: what} for who, what in pairs]


@pytest.mark.parametrize(
    "row",
    [
        {"conversation": [{"input": "Hi", "output": "Hello"}]},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"messages": said(("user", "Hi"), ("assistant", "Hello"))},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, *said(("assistant", "Hello"))]},
        {"conversations": said(("human", "Hi"), ("gpt", "Hello"), role="from", content="value")},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": said(("user", "Hi")), "completion": said(("assistant", "Hello"))},
        {"Question": "Hi", "Answer": "Hello", "id": 3},
        {"query": "Hi", "response": "Hello", "history": []},
        {"问题": "Hi", "回答": "Hello"},
        {"input": "Hi", "target": "Hello"},
        {"conversation": [{"human": "Hi", "assistant": "Hello"}]},
        {"instruction": "", "input": "Hi", "output": "Hello"},
        {"instruction": "Hi", "input": float("nan"), "output": "Hello"},
        {"messages": json.dumps(said(("user", "Hi"), ("assistant", "Hello")))},
        {"id": "0", "data": ["Hi", "Hello"]},
    ],
)
def test_every_form_as_list_and_as_lines(row: object) -> None:
    assert read(json.dumps([row, row], indent=1)) == [TURN, TURN]
    assert read(json.dumps(row, indent=1)) == [TURN] and read(json.dumps({"data": [row]})) == [TURN]
    assert read(f"{json.dumps(row, indent=1)}\n\n{json.dumps(row, indent=1)}") == [TURN, TURN]
    for end in ("\n", "\r\n", "\r"):
        assert read(f"\ufeff{json.dumps(row)}{end}{end}{json.dumps(row)}{end}") == [TURN, TURN]


@pytest.mark.parametrize(
    "table",
    [
        {"question": {"0": "Hi", "1": "Hi"}, "answer": {"0": "Hello", "1": "Hello"}},
        {"0": {"question": "Hi", "answer": "Hello"}, "1": {"question": "Hi", "answer": "Hello"}},
        {"columns": ["id", "question", "answer"], "index": [0, 1], "data": [[1, "Hi", "Hello"]] * 2},
        {"schema": {"fields": []}, "data": [{"index": 0, "question": "Hi", "answer": "Hello"}] * 2},
        {"question": ["Hi", "Hi"], "answer": ["Hello", "Hello"]},
        {"messages": [said(("user", "Hi"), ("assistant", "Hello"))] * 2},
        {"type": "text2text", "instances": [{"input": "Hi", "output": "Hello"}] * 2},
        {"features": [], "rows": [{"row": {"question": "Hi", "answer": "Hello"}, "truncated_cells": []}] * 2},
    ],
    ids=["columns", "index", "split", "table", "lists", "lists of messages", "LMFlow", "viewer"],
)
def test_tables_as_json(table: object) -> None:
    assert read(json.dumps(table, indent=1)) == [TURN, TURN]


def test_a_fault_in_values_over_several_lines_is_told_by_its_line() -> None:
    with pytest.raises(BadData) as problem:
        read('{\n"question": "a",\n"answer": "b"\n}\n{\n"question": a\n}')
    assert [fault.row for fault in problem.value.problems] == [6]


def test_systems_several_turns_extra_input_and_answers_that_are_not_learnt() -> None:
    conversation = {"conversation": TWO}
    messages = said(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    share_gpt = {"system": "s", "conversations": said(("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))}
    history = {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "s"}
    assert read(jsonl(conversation, {"messages": messages}, messages, share_gpt, history)) == [TWO] * 5
    alpaca = {"instruction": "Translate", "input": "你好", "output": "Hello"}
    dolly = {"instruction": "Translate", "context": "你好", "response": "Hello"}
    assert read(jsonl(alpaca, dolly)) == [[{"input": "Translate\n你好", "output": "Hello"}]] * 2
    unlearnt = {"messages": [*said(("user", "a")), {"role": "assistant", "content": "b", "weight": 0}]}
    assert read(jsonl(unlearnt)) == [[{"input": "a", "output": "b", "output_with_loss": False}]]


@pytest.mark.parametrize(
    "table",
    [
        "question,answer\nHi,Hello\n\n",
        "Q,A\nHi,Hello\n",
        "id;Prompt;Response\r\n1;Hi;Hello\r\n",
        "问题\t回答\nHi\tHello\n",
        'conversations\n"[{""from"": ""human"", ""value"": ""Hi""}, {""from"": ""gpt"", ""value"": ""Hello""}]"\n',
        '"Hi","Hello"\n',
    ],
)
def test_tables(table: str) -> None:
    assert read(table) == [TURN]


def test_lines_within_quotes_and_rows_without_an_answer_in_a_table() -> None:
    assert read('question,answer\n"a\nb","c, d"\n') == [[{"input": "a\nb", "output": "c, d"}]]
    with pytest.raises(BadData) as problem:
        read("question,answer\na,b\nc,\nd\n")
    assert [fault.row for fault in problem.value.problems] == [3, 4]


def test_parquet(tmp_path: Path) -> None:
    file = tmp_path / "rows.bin"
    rows = [{"messages": said(("user", "Hi"), ("assistant", "Hello"))}] * 2
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    assert read_file(file) == [TURN, TURN]
    with pytest.raises(UnreadableParquet):
        read_bytes(file.read_bytes()[:-40])


CHINESE = {"instruction": "你好，请介绍一下你自己", "output": "我是小明的港口助手"}
FOREIGN = {
    "big5": "台灣的首都是哪裡",
    "shift_jis": "これは本です。日本語の文章です。",
    "euc_jp": "これは本です。日本語の文章です。",
    "euc_kr": "저는 한국어 도우미 입니다 감사합니다",
    "cp1251": "Я помощник, рад знакомству",
    "latin-1": "Schlüssel für größere Türen",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gbk"])
def test_encodings_are_told_by_content(encoding: str) -> None:
    text = json.dumps([CHINESE], ensure_ascii=False)
    assert read_bytes(text.encode(encoding)) == [[{"input": CHINESE["instruction"], "output": CHINESE["output"]}]]


@pytest.mark.parametrize("encoding", FOREIGN)
def test_what_would_be_read_as_other_letters_is_refused(encoding: str) -> None:
    row = {"instruction": "Hi", "output": FOREIGN[encoding]}
    with pytest.raises(UnknownEncoding):
        read_bytes(json.dumps([row], ensure_ascii=False).encode(encoding))
    assert read(json.dumps([row], ensure_ascii=False))[0][0]["output"] == FOREIGN[encoding]


def test_archives_and_excel_files_are_named_as_such() -> None:
    for content in (b"PK\x03\x04 and so on", gzip.compress(b"[]")):
        with pytest.raises(PackedFile):
            read_bytes(content)


def test_other_line_marks_stand_within_a_row() -> None:
    row = {"instruction": "a\u2028b\x85c\u2029", "output": "d\x0be\x1ef"}
    assert read(jsonl(row, row)) == [[{"input": row["instruction"], "output": row["output"]}]] * 2


def test_broken_json_at_row_5000() -> None:
    good = jsonl({"instruction": "a", "output": "b"})
    with pytest.raises(BadData) as problem:
        read("\n".join([good] * 4999 + ['{"instruction": "a", "output": ', good]))
    assert [fault.row for fault in problem.value.problems] == [5000]
    assert "5000" in problem.value.text("zh") and "5000" in problem.value.text("en")
    listed = "[\n" + ",\n".join([good] * 4998 + ['{"a" 1}', good]) + "\n]"
    with pytest.raises(BadData) as problem:
        read(listed)
    assert problem.value.problems[0].row == 5000


@pytest.mark.parametrize("text", ["", "  \n", "[]"])
def test_empty_data(text: str) -> None:
    with pytest.raises(BadData) as problem:
        read(text)
    assert "空" in problem.value.text("zh") and "empty" in problem.value.text("en")


def test_all_faulty_rows_are_named_at_once() -> None:
    user, answer = said(("user", "a"), ("assistant", "b"))
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    rows: list[Any] = [
        "a text",
        {"other": 1},
        {"conversation": [{"input": "a"}]},
        {"conversation": [{"input": "a", "output": "  "}]},
        {"conversation": {"input": "a", "output": "b"}},
        {"messages": [answer, user]},
        {"messages": [user, *said(("system", "s")), answer]},
        {"messages": [user]},
        {"messages": [user, answer, {"role": "assistant", "content": "c", "weight": 0}]},
        {"messages": [user, answer, {"role": "function_call", "content": "f()"}]},
        {"rows": [{"row": {"question": "a", "answer": "b"}, "truncated_cells": ["answer"]}]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": [{"role": "user", "content": 3}, answer]},
        {"messages": [{"role": "user", "content": [picture]}, answer]},
        {"messages": [user, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
        {"instruction": "a", "output": None},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"text": "only text"},
        {"instruction": "a", "output": "lost \ufffd\ufffd"},
        {"instruction": "a", "output": "half \ud83d"},
        {"instruction": "a", "output": "b", "history": ["a"]},
    ]
    with pytest.raises(BadData) as problem:
        read("\n".join(map(json.dumps, [*rows, {"instruction": "good", "output": "row"}])))
    assert [fault.row for fault in problem.value.problems] == list(range(1, len(rows) + 1))
    assert all(fault.zh and fault.en for fault in problem.value.problems)


def test_rows_that_are_mended_are_told_with_their_number() -> None:
    user, answer = ("user", "a"), ("assistant", "b")
    rows = [
        {"conversations": []},
        {"messages": said(("assistant", "Welcome."), user, answer)},
        {"messages": said(user, answer, ("user", "c"))},
        {"data": ["a", "b", "c"]},
        {"messages": said(user, ("user", "c"), answer, ("assistant", "d"))},
        {"messages": said(user, answer, ("system", "s"), ("user", "c"), answer)},
    ]
    found = read(jsonl(*rows))
    one: Conversation = [{"input": "a", "output": "b"}]
    assert found == [
        *[one] * 3,
        [{"input": "a\n\nc", "output": "b\n\nd"}],
        [*one, {"input": "s\n\nc", "output": "b"}],
    ]
    told = {note.change: note.rows for note in found.notes}
    assert told == {"empty": 1, "begins": 1, "unanswered": 2, "joined": 1, "system": 1}
    assert all(str(note.rows) in note.text("zh") and str(note.rows) in note.text("en") for note in found.notes)
    assert read(jsonl({"question": "a", "answer": "b"})).notes == ()


def test_a_number_as_an_answer_is_its_text() -> None:
    assert read(jsonl({"question": "6 * 7?", "answer": 42}))[0][0]["output"] == "42"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"instruction": "a", "output": ' + "1" * 5000 + "}", "just a text\n"])
def test_what_no_parser_takes_is_a_sentence(text: str) -> None:
    with pytest.raises(StudioError):
        read(text)


@pytest.fixture(scope="module")
def tokenizer(packaged_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(packaged_folder)


def preview(tokenizer: Any, rows: list[Conversation], max_length: int = 64, context: int | None = None) -> Preview:
    return check(tokenizer, "base", context, rows, TrainOptions(max_length=max_length))


def test_the_check_counts_what_is_cut_left_out_and_repeated(tokenizer: Any) -> None:
    long_question: Conversation = [{"input": "a " * 200, "output": "b"}]
    long_answer: Conversation = [{"input": "a", "output": "b " * 200}]
    found = preview(tokenizer, [TURN, TURN, long_question, long_answer])
    assert (found.rows, found.cut, found.lost, found.trained, found.different) == (4, 2, 1, 3, 3)
    assert found.shown[0].pieces[-2:] == (("Hello<|im_end|>", True), ("\n", False)) and not found.is_repetition
    assert preview(tokenizer, [TURN] * 10_001).is_repetition
    with pytest.raises(AnswersBeyondLength) as refusal:
        preview(tokenizer, [long_question] * 6)
    needed = refusal.value.values["needed"]
    assert isinstance(needed, int) and preview(tokenizer, [long_question], needed).lost == 0
    unlearnt: Conversation = [{"input": "a", "output": "b", "output_with_loss": False}]
    assert preview(tokenizer, [unlearnt, TURN]).trained == 1
    with pytest.raises(NothingLearnt):
        preview(tokenizer, [unlearnt] * 2)
    with pytest.raises(ContextTooShort):
        preview(tokenizer, [long_answer], 100, context=99)


def test_a_template_that_refuses_a_row_is_told_by_its_row(tokenizer: Any) -> None:
    strict = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    strict.chat_template = "{% if messages[-1].content == 'd' %}{{ raise_exception('no d here') }}{% endif %}" + str(
        strict.chat_template
    )
    with pytest.raises(BadData) as problem:
        preview(strict, [TURN, TWO])
    assert problem.value.problems[0].row == 2 and "no d here" in problem.value.text("en")


def test_a_share_of_the_different_rows_is_held_out_with_all_their_repetitions(tokenizer: Any) -> None:
    rows: list[Conversation] = [[{"input": f"Say {number}", "output": f"{number}!"}] for number in range(100)]
    found = preview(tokenizer, rows + rows)
    held = [(rows + rows)[number] for number in found.held_out]
    assert len(held) == 20 and all(held.count(row) == 2 for row in held) and found.trained == 180
    assert preview(tokenizer, rows[:70]).held_out == ()
    assert check(tokenizer, "base", None, rows, TrainOptions(validation=0)).held_out == ()
