"""Training rows to conversations: XTuner, ShareGPT, OpenAI messages, Alpaca and question-answer pairs, row by row.

Whatever form a row has is told by its fields. Reading files: data_files.py.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, TypeGuard

from app.errors import BadInput
from app.finetune.data_notes import CHANGES, Note

MAX_ROWS = 200_000
_SURROGATE = re.compile("[\ud800-\udfff]")


class Turn(TypedDict):
    """One question and its answer, in XTuner's own words."""

    system: NotRequired[str]
    input: str
    output: str
    output_with_loss: NotRequired[bool]  # False: the answer is read, but not learnt


Conversation = list[Turn]


class Conversations(list[Conversation]):
    """The conversations of checked rows; `notes` tell what was changed in them."""

    def __init__(self, conversations: Iterable[Conversation], notes: Iterable[Note] = ()) -> None:
        super().__init__(conversations)
        self.notes = tuple(notes)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row, counted from 1."""

    row: int
    zh: str
    en: str


class BadData(BadInput):
    zh = "训练数据有 {count} 处问题。第 {row} 行：{reason_zh}"
    en = "Problems in the training data: {count}. Row {row}: {reason_en}"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = problems[0]
        super().__init__(count=len(problems), row=first.row, reason_zh=first.zh, reason_en=first.en)


class RowError(Exception):
    """One row's fault, in both languages."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh, self.en = zh, en


def check_rows(rows: Iterable[tuple[int, Any]]) -> Conversations:
    """The conversations of numbered rows. Raises BadData with every faulty row, the first one in its message."""
    conversations: list[Conversation] = []
    problems: list[Problem] = []
    changes: Counter[str] = Counter()
    for number, row in rows:
        changed: set[str] = set()
        try:
            if conversation := _conversation(row, changed):
                conversations.append(conversation)
            changes.update(changed)
        except RowError as fault:
            problems.append(Problem(number, fault.zh, fault.en))
    if not problems and not conversations:
        problems.append(Problem(1, "没有任何对话，文件是空的。", "there is no conversation, the data is empty."))
    if len(conversations) > MAX_ROWS:
        problems.append(too_many_rows())
    if problems:
        raise BadData(problems)
    return Conversations(conversations, (Note(change, changes[change]) for change in CHANGES if changes[change]))


def too_many_rows() -> Problem:
    zh, en = f"行数超过 {MAX_ROWS}，请拆分文件。", f"more than {MAX_ROWS} rows, please split the file."
    return Problem(MAX_ROWS + 1, zh, en)


def _conversation(row: Any, changed: set[str]) -> Conversation:
    """Empty where the row holds none. What had to be changed is added to `changed`."""
    if isinstance(row, list):
        return _pair_or_messages(row, changed)
    if not isinstance(row, dict):
        raise RowError("应为一个 JSON 对象。", "should be a JSON object.")
    fields = {str(key).strip().lower(): None if _is_nan(value) else value for key, value in row.items()}
    if {"chosen", "rejected"} <= fields.keys():
        raise RowError(
            "这是偏好数据（chosen 与 rejected），这里只能训练问答。",
            "this is preference data (chosen, rejected); only questions with answers are trained here.",
        )
    key = next((key for key in MESSAGES if fields.get(key) is not None), "")
    if key:
        fields[key] = _unpacked(fields[key])
        if fields[key] == []:
            changed.add("empty")
            return []
        return _messages(fields, key, changed)
    texts = fields.get("data")
    if _is_texts(texts) and not fields.keys() & {*QUESTIONS, *ANSWERS}:  # UltraChat
        said = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
        return _messages({**fields, "data": said}, "data", changed)
    return _pair(fields, changed)


def _is_nan(value: Any) -> bool:
    """What pandas writes for an empty cell."""
    return isinstance(value, float) and math.isnan(value)


def _is_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _unpacked(value: Any) -> Any:
    """Messages that are JSON within JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


MESSAGES = ("conversation", "conversations", "messages", "dialog", "dialogue", "chat")
QUESTIONS = (
    *("instruction", "prompt", "question", "query", "input", "user", "human", "source", "q"),
    *("问题", "问", "提问", "指令"),
)
ANSWERS = (
    *("output", "response", "answer", "completion", "target", "assistant", "gpt", "a"),
    *("回答", "答", "答案", "回复", "输出"),
)
EXTRAS = ("input", "context", "输入")  # beside an instruction or a question
ROLES = {
    **dict.fromkeys(("system", "developer", "系统"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "用户"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai", "bing", "bard", "助手"), "assistant"),
}


def _pair(fields: dict[str, Any], changed: set[str]) -> Conversation:
    """Alpaca, and pairs of any common names; columns of a table too."""
    question = next((key for key in QUESTIONS if fields.get(key) is not None), "")
    if question in ("instruction", "指令") and not str(fields[question]).strip():
        question = next((key for key in ("input", "输入") if fields.get(key)), question)
    answer = next((key for key in ANSWERS if key in fields and key != question), "")
    if not question or not answer:
        found = ", ".join(list(fields)[:8]) or "-"
        raise RowError(
            "没有认得的字段：应有 conversation、conversations、messages、instruction 与 output，或问题与回答各一列；"
            f"现有 {found}。",
            "no known fields: conversation, conversations, messages, instruction and output, or one of a question and"
            f" one of an answer are wanted; found {found}.",
        )
    if isinstance(fields[question], list):  # both sides as messages
        return _pair_or_messages([*_list(fields, question), *_list(fields, answer)], changed)
    asked = text_of(fields[question], question)
    extra = next((key for key in EXTRAS if key != question and key != answer and fields.get(key)), "")
    if extra:
        asked = f"{asked}\n{text_of(fields[extra], extra, empty=True)}"
    system = text_of(fields.get("system") or "", "system", empty=True)
    said = fields[answer]
    is_number = isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said)
    turns = [*_history(fields), _turn(asked, text_of(str(said) if is_number else said, answer))]
    if system:
        turns[0] = {"system": system, **turns[0]}
    return turns


def _history(fields: dict[str, Any]) -> Conversation:
    """Earlier turns beside an Alpaca row: [[question, answer], ...]."""
    history = fields.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise RowError("history 应为 [问, 答] 的列表。", "history should be a list of [question, answer].")
    return [_turn(text_of(asked, "history"), text_of(said, "history")) for asked, said in history]


def _pair_or_messages(row: list[Any], changed: set[str]) -> Conversation:
    if len(row) == 2 and all(isinstance(side, str) for side in row):
        return [_turn(text_of(row[0], "1"), text_of(row[1], "2"))]
    return _messages({"messages": row}, "messages", changed)


def _messages(fields: dict[str, Any], key: str, changed: set[str]) -> Conversation:
    entries = _list(fields, key)
    if entries and all("role" not in entry and "from" not in entry for entry in entries):
        return [_xtuner_turn(entry) for entry in entries]
    turns: Conversation = []
    system = aside = question = ""
    for entry in entries:
        role = _role(entry)
        text = _content(entry, empty=role == "system")
        if role == "system" and question:
            raise _out_of_place(entry)
        if role == "system" and turns:
            aside = _joined(aside, text)
        elif role == "system":
            system = _joined(system, text)
        elif role == "user":
            changed |= {"joined"} if question else {"system"} if aside else set()
            question, aside = _joined(aside, _joined(question, text)), ""
        elif question:
            turns.append(_learnt_or_not(_turn(question, text), entry))
            question = ""
        elif not turns:
            changed.add("begins")
        elif aside or _learnt_or_not(_turn("", ""), entry).get("output_with_loss") != turns[-1].get("output_with_loss"):
            raise _out_of_place(entry)
        else:
            changed.add("joined")
            turns[-1]["output"] = _joined(turns[-1]["output"], text)
    if not turns:
        raise RowError("没有一个 user 有回答。", "no user message has an answer.")
    changed |= {"unanswered"} if question or aside else set()
    system = system or text_of(fields.get("system") or "", "system", empty=True)
    return [{"system": system, **turns[0]}, *turns[1:]] if system else turns


def _role(entry: dict[str, Any]) -> str:
    role = ROLES.get(str(entry.get("role", entry.get("from"))).strip().lower())
    if role is None:
        raise _out_of_place(entry)
    return role


def _out_of_place(entry: dict[str, Any]) -> RowError:
    said = entry.get("role", entry.get("from"))
    return RowError(
        f"角色 {said!r} 的位置不对：应是可选的 system，然后 user 与 assistant 交替。",
        f"the role {said!r} is out of place: an optional system, then user and assistant in turn.",
    )


def _joined(first: str, second: str) -> str:
    return f"{first}\n\n{second}" if first.strip() and second.strip() else first if first.strip() else second


def _learnt_or_not(turn: Turn, entry: dict[str, Any]) -> Turn:
    return {**turn, "output_with_loss": False} if entry.get("weight") == 0 else turn


def _xtuner_turn(entry: dict[str, Any]) -> Turn:
    fields = {str(key).strip().lower(): value for key, value in entry.items()}
    if "input" not in fields and set(fields) & {*QUESTIONS}:  # by other names, such as human and assistant
        return _pair(fields, set())[-1]
    turn = _turn(text_of(entry.get("input"), "input"), text_of(entry.get("output"), "output"))
    if entry.get("output_with_loss") is False:
        turn["output_with_loss"] = False
    system = text_of(entry.get("system") or "", "system", empty=True)
    return {"system": system, **turn} if system else turn


def _content(entry: dict[str, Any], *, empty: bool = False) -> str:
    """A message's text, which may come in parts; its field has three names."""
    field = next((key for key in ("content", "value", "text") if entry.get(key) is not None), "content")
    content = entry.get(field)
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if not all(isinstance(text, str) for text in texts):
            raise RowError(f"{field} 里有图片或声音，这里只训练文字。", f"{field} holds more than text.")
        content = "".join(str(text) for text in texts)
    if content is None and entry.get("tool_calls"):
        raise RowError("工具调用不能训练。", "calls of tools cannot be trained.")
    return text_of(content, field, empty=empty)


def text_of(value: Any, field: str, *, empty: bool = False) -> str:
    """A field as text that a tokenizer takes. Raises RowError."""
    if not isinstance(value, str):
        raise RowError(f"{field} 应为文本。", f"{field} should be text.")
    if not value.strip() and not empty:
        raise RowError(f"{field} 是空的。", f"{field} is empty.")
    if _SURROGATE.search(value):
        raise RowError(f"{field} 里有半个字符（单独的代理码）。", f"{field} holds half a character (a lone surrogate).")
    if "\ufffd" in value:
        raise RowError(
            f"{field} 里有替换符 \ufffd：这个文件在转换编码时已丢失文字，请用原文件。",
            f"{field} holds the replacement character \ufffd: text was lost in a conversion; use the original file.",
        )
    return value


def _turn(question: str, answer: str) -> Turn:
    return {"input": question, "output": answer}


def _list(fields: dict[str, Any], field: str) -> list[dict[str, Any]]:
    entries = fields[field]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RowError(f"{field} 应为对象的列表。", f"{field} should be a list of objects.")
    return entries
