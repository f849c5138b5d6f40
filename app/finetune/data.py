"""Training conversations, checked row by row: XTuner's `conversation`, Alpaca, or OpenAI `messages`; JSON or JSONL."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from app.errors import BadInput

MAX_ROWS = 200_000


class Turn(TypedDict):
    """One question and its answer, in XTuner's own words."""

    system: NotRequired[str]
    input: str
    output: str


Conversation = list[Turn]


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row, counted from 1."""

    row: int
    zh: str
    en: str


class BadData(BadInput):
    zh = "训练数据有 {count} 处问题。第 {row} 行：{reason_zh}"
    en = "The training data has {count} problems. Row {row}: {reason_en}"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = problems[0]
        super().__init__(count=len(problems), row=first.row, reason_zh=first.zh, reason_en=first.en)


class RowError(Exception):
    """One row's fault, in both languages."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh, self.en = zh, en


def read_conversations(text: str) -> list[Conversation]:
    """All rows of a JSON list or a JSONL file. Raises BadData with every faulty row, the first one in its message."""
    return check_rows(_parse(text.removeprefix("\ufeff")))


def check_rows(rows: Iterable[tuple[int, Any]]) -> list[Conversation]:
    """The conversations of numbered rows, whatever of the three forms each has."""
    conversations: list[Conversation] = []
    problems: list[Problem] = []
    for number, row in rows:
        try:
            conversations.append(_conversation(row))
        except RowError as fault:
            problems.append(Problem(number, fault.zh, fault.en))
    if not problems and not conversations:
        problems.append(Problem(1, "没有任何对话，文件是空的。", "there is no conversation, the data is empty."))
    if len(conversations) > MAX_ROWS:
        zh, en = f"行数超过 {MAX_ROWS}，请拆分文件。", f"more than {MAX_ROWS} rows, please split the file."
        problems.append(Problem(MAX_ROWS + 1, zh, en))
    if problems:
        raise BadData(problems)
    return conversations


def _parse(text: str) -> list[tuple[int, Any]]:
    if text.lstrip().startswith("["):
        try:
            return list(enumerate(json.loads(text), 1))
        except json.JSONDecodeError as error:
            row = text[: error.pos].count("\n") + 1
            raise BadData([_syntax(row, error)]) from error
    rows: list[tuple[int, Any]] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                problems.append(_syntax(number, error))
    if problems:
        raise BadData(problems)
    return rows


def _syntax(row: int, error: json.JSONDecodeError) -> Problem:
    return Problem(
        row,
        f"不是合法的 JSON（第 {error.colno} 列：{error.msg}）。",
        f"no valid JSON (column {error.colno}: {error.msg}).",
    )


def _conversation(row: Any) -> Conversation:
    if not isinstance(row, dict):
        raise RowError("应为一个 JSON 对象。", "should be a JSON object.")
    for key, read in FORMS.items():
        if key in row:
            turns = read(row)
            if not turns:
                raise RowError(f"{key} 是空的。", f"{key} is empty.")
            return turns
    raise RowError(
        "没有 conversation、messages 或 instruction 字段。", "has none of conversation, messages or instruction."
    )


def _text(value: Any, field: str, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise RowError(f"{field} 应为文本。", f"{field} should be text.")
    if not value.strip() and not empty:
        raise RowError(f"{field} 是空的。", f"{field} is empty.")
    return value


def _turn(system: str, question: str, answer: str) -> Turn:
    turn: Turn = {"input": question, "output": answer}
    return {"system": system, **turn} if system else turn


def _list(row: dict[str, Any], field: str) -> list[dict[str, Any]]:
    entries = row[field]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RowError(f"{field} 应为对象的列表。", f"{field} should be a list of objects.")
    return entries


def _xtuner(row: dict[str, Any]) -> Conversation:
    return [
        _turn(
            _text(entry.get("system", ""), "system", empty=True),
            _text(entry.get("input"), "input"),
            _text(entry.get("output"), "output"),
        )
        for entry in _list(row, "conversation")
    ]


def _alpaca(row: dict[str, Any]) -> Conversation:
    question = _text(row["instruction"], "instruction")
    extra = _text(row.get("input") or "", "input", empty=True)
    system = _text(row.get("system") or "", "system", empty=True)
    return [_turn(system, f"{question}\n{extra}" if extra else question, _text(row.get("output"), "output"))]


def _openai(row: dict[str, Any]) -> Conversation:
    turns: Conversation = []
    system, question = "", ""
    for entry in _list(row, "messages"):
        role, content = entry.get("role"), _text(entry.get("content"), "content")
        if role == "system" and not turns and not question:
            system = content
        elif role == "user" and not question:
            question = content
        elif role == "assistant" and question:
            turns.append(_turn(system, question, content))
            system, question = "", ""
        else:
            raise RowError(
                f"角色 {role!r} 的位置不对：应是可选的 system，然后 user 与 assistant 交替。",
                f"the role {role!r} is out of place: an optional system, then user and assistant in turn.",
            )
    if question:
        raise RowError("最后一个 user 没有回答。", "the last user message has no answer.")
    return turns


FORMS: dict[str, Callable[[dict[str, Any]], Conversation]] = {
    "conversation": _xtuner,
    "messages": _openai,
    "instruction": _alpaca,
}
