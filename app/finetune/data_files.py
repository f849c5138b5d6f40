"""Read training data files: JSON, JSONL, CSV, TSV and Parquet, in UTF-8, UTF-16, UTF-32 or GBK, told by content."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from app.errors import BadInput
from app.finetune.data import (
    ANSWERS,
    MAX_ROWS,
    MESSAGES,
    QUESTIONS,
    BadData,
    Conversations,
    Problem,
    check_rows,
    too_many_rows,
)

MOST_BYTES = 2**30  # of a Parquet file, unpacked
WRAPPERS = ("data", "train", "rows", "examples", "instances", "conversations_list")
_PACKED = (b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"\xd0\xcf\x11\xe0")
_BLANK = re.compile(r"\s*")
_LINE_END = re.compile(r"\r\n|\n|\r")  # no other: U+2028 and U+0085 may stand within a row
_GB2312 = re.compile("[、-〓\u4e00-\u9fff！-～]")
# The most frequent characters of modern Chinese: more than half of any text, 5 % of text that was wrongly decoded.
_FREQUENT = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日者意无力它与长把机十请问答帮助您"
    "手什介绍谁名字叫怎吗呢吧，。、？！：；“”（）《》"
)
_LEAST_GB2312, _LEAST_FREQUENT = 0.9, 0.25  # shares of the characters beyond ASCII

Rows = list[tuple[int, Any]]


class UnknownEncoding(BadInput):
    zh = "认不出文件的编码：不是 UTF-8、UTF-16，也不像 GBK。请另存为 UTF-8 再上传。"
    en = "The encoding of the file is not known: neither UTF-8 nor UTF-16, nor likely GBK. Save it as UTF-8, please."


class PackedFile(BadInput):
    zh = "这是压缩包或 Excel 文件，这里读不了。请先解压，或另存为 CSV（UTF-8）再上传。"
    en = "This is an archive or an Excel file, which is not read here. Unpack it, or save it as CSV (UTF-8), please."


class UnreadableParquet(BadInput):
    zh = "这个 Parquet 文件已损坏或过大，读不了。"
    en = "This Parquet file is damaged or too large to be read."


def read_file(path: Path) -> Conversations:
    """All rows. Raises OSError, PackedFile, UnknownEncoding, UnreadableParquet, or BadData with every faulty row."""
    return read_bytes(path.read_bytes())


def read_bytes(content: bytes) -> Conversations:
    """All rows of a file's content. Raises as `read_file` does, but for OSError."""
    if content.startswith(_PACKED):
        raise PackedFile
    return check_rows(_parquet(content) if content.startswith(b"PAR1") else _parse(decode(content)))


def decode(content: bytes) -> str:
    """The text of a file, never with replacement characters. Raises UnknownEncoding."""
    try:
        return content.decode(json.detect_encoding(content)).removeprefix("\ufeff")
    except UnicodeDecodeError:
        pass
    try:
        text = content.decode("gb18030")
    except UnicodeDecodeError as error:
        raise UnknownEncoding from error
    # GB18030 takes nearly any bytes, so the text must read like Chinese
    beyond = [letter for letter in text if not letter.isascii()]
    known = sum(bool(_GB2312.match(letter)) and len(letter.encode("gb2312", "ignore")) == 2 for letter in beyond)
    frequent = sum(letter in _FREQUENT for letter in beyond)
    if known < _LEAST_GB2312 * len(beyond) or frequent < _LEAST_FREQUENT * len(beyond):
        raise UnknownEncoding
    return text


def _parse(text: str) -> Rows:
    if not text.strip():
        return []
    if text.lstrip()[0] not in "[{" and not _is_json(_LINE_END.split(text.strip(), maxsplit=1)[0]):
        return _table(text)
    try:
        return _document(json.loads(text))
    except RecursionError as error:
        raise BadData([Problem(1, "嵌套层数过多。", "nested too deeply.")]) from error
    except ValueError as error:
        return _lines(text, error)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _document(value: Any) -> Rows:
    """One JSON value: a list of rows, a list within an object, or a single row."""
    if not isinstance(value, dict | list):
        return [(1, value)]
    if isinstance(value, dict):
        return list(enumerate(_of_object(value), 1))
    single = bool(value) and all(isinstance(entry, dict) and ("role" in entry or "from" in entry) for entry in value)
    return [(1, value)] if single else list(enumerate(value, 1))


def _of_object(value: dict[str, Any]) -> list[Any]:
    """Its rows: a list within it, a table by rows or by columns as pandas and datasets write it, or it is one row."""
    wrapped = next((key for key in WRAPPERS if isinstance(value.get(key), list)), "")
    if (
        wrapped == "data" and value["data"] and all(isinstance(said, str) for said in value["data"])
    ):  # one conversation of UltraChat
        return [value]
    if wrapped:
        rows, names = value[wrapped], value.get("columns")
        if all(_is_viewed(row) for row in rows):
            return [row["row"] for row in rows]
        is_split = isinstance(names, list) and all(isinstance(row, list) and len(row) == len(names) for row in rows)
        return [dict(zip(names, row, strict=True)) for row in rows] if is_split and names else rows
    columns = list(value.values())
    known = {str(name).strip().lower() for name in value} & {*QUESTIONS, *ANSWERS, *MESSAGES}
    if columns and all(isinstance(column, dict) for column in columns):
        if not known:  # a row under each number
            return columns
        if len({tuple(column) for column in columns}) == 1:
            return [{name: value[name][at] for name in value} for at in columns[0]]
    lists = all(isinstance(one, list) and one and not any(isinstance(each, dict) for each in one) for one in columns)
    if known and lists and len({len(column) for column in columns}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    return [value]


def _is_viewed(row: Any) -> bool:
    """Whether it is a whole row as the hub's viewer tells it; long ones it cuts."""
    return isinstance(row, dict) and isinstance(row.get("row"), dict) and not row.get("truncated_cells")


def _values(text: str) -> Rows:
    """JSON values one behind another, each over several lines; numbered by the lines they begin in."""
    decoder, at, line = json.JSONDecoder(), 0, 1
    rows: Rows = []
    while True:
        start = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it may be empty, and always matches
        line += len(_LINE_END.findall(text, at, start))
        if start == len(text):
            return rows
        value, at = decoder.raw_decode(text, start)
        rows.append((line, value))
        line += len(_LINE_END.findall(text, start, at))


def _lines(text: str, of_document: ValueError) -> Rows:
    """One JSON value a line. A list or an object that is spread over lines is no such file: its own error is told."""
    rows: Rows = []
    problems: list[Problem] = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            problems.append(_syntax(number, error))
            if not rows and line.strip()[-1] not in "]}":
                return _spread(text, of_document)
    if problems:
        raise BadData(problems)
    return rows


def _spread(text: str, of_document: ValueError) -> Rows:
    """Values over several lines each; where there is but one, broken, its own error is told."""
    if isinstance(of_document, json.JSONDecodeError) and of_document.msg == "Extra data":
        try:
            return _values(text)
        except (ValueError, RecursionError) as error:
            of_document = error if isinstance(error, ValueError) else of_document
    raise BadData([_syntax(_row_of(text, of_document), of_document)]) from of_document


def _row_of(text: str, error: ValueError) -> int:
    return len(_LINE_END.findall(text, 0, error.pos)) + 1 if isinstance(error, json.JSONDecodeError) else 1


def _syntax(row: int, error: ValueError | RecursionError) -> Problem:
    if not isinstance(error, json.JSONDecodeError):
        return Problem(row, "不是可用的 JSON。", "no usable JSON.")
    return Problem(
        row,
        f"不是合法的 JSON（第 {error.colno} 列：{error.msg}）。",
        f"no valid JSON (column {error.colno}: {error.msg}).",
    )


def _table(text: str) -> Rows:
    """CSV or TSV; the separator is the one by which the first line has columns that are known, else two columns."""
    csv.field_size_limit(2**24)
    for separator in (",", "\t", ";", "|"):
        try:
            lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
        except csv.Error:
            continue
        names = [name.strip().lower() for name in lines[0]]
        if set(names) & {*QUESTIONS, *MESSAGES} and set(names) & {*ANSWERS, *MESSAGES}:
            return [(n, _named(names, line)) for n, line in enumerate(lines[1:], 2) if any(map(str.strip, line))]
        if len(names) == 2 and all(len(line) == 2 for line in lines if any(map(str.strip, line))):
            return [(number, line) for number, line in enumerate(lines, 1) if any(map(str.strip, line))]
    zh = "不是 JSON、JSONL 或 Parquet；当作表格也没有问题与回答两列。"
    en = "neither JSON, JSONL nor Parquet, and as a table it has no columns of a question and an answer."
    raise BadData([Problem(1, zh, en)])


def _named(names: list[str], line: list[str]) -> dict[str, Any]:
    """A line of a table by its columns; a column of messages holds JSON."""
    row: dict[str, Any] = dict(zip(names, [*line, *[""] * (len(names) - len(line))], strict=False))
    for key in MESSAGES:
        if key in row:
            try:
                row[key] = json.loads(row[key])
            except ValueError:
                row.pop(key)
    return row


def _parquet(content: bytes) -> Rows:
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        if file.metadata.num_rows > MAX_ROWS:
            raise BadData([too_many_rows()])
        groups = range(file.metadata.num_row_groups)
        if sum(file.metadata.row_group(group).total_byte_size for group in groups) > MOST_BYTES:
            raise UnreadableParquet
        return list(enumerate(file.read().to_pylist(), 1))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UnreadableParquet from error
