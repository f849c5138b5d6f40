"""Evaluation tasks: read and check JSONL files of short-answer or multiple-choice questions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import BadInput
from app.paths import ASSETS

SHIPPED = ASSETS / "tasks"
MOST_ITEMS = 2000
LARGEST_BYTES = 8 * 2**20


class BadTask(BadInput):
    zh = (
        "任务文件 {file} 第 {line} 行无法使用：{reason_zh}。"
        "每行应为 {{question, answers}} 或 {{question, choices, right}}。"
    )
    en = (
        "Line {line} of the task file {file} cannot be used: {reason_en}."
        " Each line is {{question, answers}} or {{question, choices, right}}."
    )


class UnknownTask(BadInput):
    zh = "没有名为 {name} 的任务，也没有这个文件。自带的任务：{known}。"
    en = "There is no task and no file named {name}. Tasks that ship: {known}."


@dataclass(frozen=True)
class Item:
    """One question. With `choices`, `right` is the place of the right one; else any of `answers` is right."""

    question: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    right: int = 0

    @property
    def expected(self) -> str:
        """What a right answer says."""
        return self.choices[self.right] if self.choices else self.answers[0]


@dataclass(frozen=True)
class Task:
    """`name` is the file's, without its ending."""

    name: str
    items: tuple[Item, ...]

    @property
    def chance(self) -> float:
        """The share that guessing gets right on average."""
        return sum(1 / len(item.choices) for item in self.items if item.choices) / len(self.items)


def shipped_tasks() -> dict[str, Path]:
    """Name and file of each task that comes with the program."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.jsonl"))}


def find_task(name: str, *, files: bool = True) -> Task:
    """A shipped task by name or, where `files` may be named, one's own file. Raises UnknownTask or BadTask."""
    known = shipped_tasks()
    if name in known:
        return read_task(known[name])
    if files and Path(name).is_file():
        return read_task(Path(name))
    raise UnknownTask(name=name[:200], known=", ".join(known))


def read_task(path: Path) -> Task:
    """Read and check a task file. Raises BadTask with the first bad line."""
    if path.stat().st_size > LARGEST_BYTES:
        raise _bad(path, 1, "文件超过 8 MiB", "the file is larger than 8 MiB")
    items = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            items.append(_item(path, number, line))
        if len(items) > MOST_ITEMS:
            raise _bad(path, number, f"超过 {MOST_ITEMS} 题", f"more than {MOST_ITEMS} questions")
    if not items:
        raise _bad(path, 1, "没有题目", "there is no question")
    return Task(path.stem, tuple(items))


def _item(path: Path, number: int, line: bytes) -> Item:
    try:
        row: Any = json.loads(line)
        question = row["question"]
        choices, answers = row.get("choices", ()), row.get("answers", ())
        right = row.get("right", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _bad(path, number, f"不是这样的 JSON（{error}）", f"it is not such JSON ({error})") from error
    if not isinstance(question, str) or not question.strip():
        raise _bad(path, number, "缺少 question", "its question is missing")
    if isinstance(answers, str):
        answers = [answers]
    if not all(
        isinstance(group, list | tuple) and all(isinstance(t, str) for t in group) for group in (choices, answers)
    ):
        raise _bad(path, number, "choices 和 answers 应为文字列表", "choices and answers are lists of text")
    if choices and (not isinstance(right, int) or not 0 <= right < len(choices) or len(choices) < 2):
        raise _bad(path, number, "right 不是选项的序号", "right is not the place of a choice, counted from 0")
    if not choices and not any(answer.strip() for answer in answers):
        raise _bad(path, number, "既没有 answers 也没有 choices", "it has neither answers nor choices")
    return Item(question, tuple(answers), tuple(choices), right)


def _bad(path: Path, line: int, reason_zh: str, reason_en: str) -> BadTask:
    return BadTask(file=path.name, line=line, reason_zh=reason_zh, reason_en=reason_en)
