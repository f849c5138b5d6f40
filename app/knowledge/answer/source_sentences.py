"""Split retrieved passages into sentences and table rows, each with its clauses, for quoting and for fact checks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from app.knowledge.retrieve.segmenting import content_words

SENTENCE = re.compile(
    r"[^。！？!?\n]*?(?:\.(?=\s|$|\[)|[。！？!?\n]|$)(?:[”’」』）)\"'\]]*)(?:\s*(?:\[\d{1,2}\]|【\d{1,2}】))*"
)
ABBREVIATED = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|Dr|Mr|Mrs|Ms|Prof|No|Fig|approx|St|cf)|\b[A-Z])\.$")
CLAUSE = re.compile(r"[,;:]\s+|[，；、：]|\s+[-–—]\s+|\s(?:and|but|while|whereas|though|although|or)\s|而|但|并且|以及")
BULLET = re.compile(r"^\s*(?:[-*+>]|\d{1,3}[.)])\s+|^\s*#{1,6}\s+")
NUMERALS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
NUMERALS |= {
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
    "twenty": "20",
    "thirty": "30",
    "fifty": "50",
    "hundred": "100",
}
HAN_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
HAN_NUMBER = re.compile(
    r"百分之([零〇一二两三四五六七八九十百千]+)|([零〇一二两三四五六七八九十百千]{2,}|[一二两三四五六七八九十](?=成|倍|年|月|天|小时|分钟|秒|元|位|比特))"
)
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
THOUSANDS = re.compile(r"^\d{1,3}(?:,\d{3})+(?:\.\d+)?$")
ENDINGS = ("ation", "ing", "ies", "ed", "es", "s", "e")


def root(word: str) -> str:
    """English plurals and verb endings count as the same word."""
    if word.isascii() and word.isalpha() and len(word) > 3:
        for ending in ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                return word.removesuffix(ending)
    return word


def roots(text: str) -> set[str]:
    """The content words of a text without its numbers, by their roots."""
    return {root(word) for word, _, _ in content_words(text) if not word[0].isdigit() and word not in NUMERALS}


def numbers(text: str) -> set[str]:
    """All amounts of a text in one form: `1,000`, `1000`, `三成` and `30` can be compared."""
    found = {_plain(number) for number in NUMBER.findall(text)}
    found |= {NUMERALS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in NUMERALS}
    for percent, other in HAN_NUMBER.findall(text):
        value = _han(percent or other)
        found.add(str(value))
    found |= {str(10 * _han(tenths)) for tenths in re.findall(r"([一二两三四五六七八九])成", text)}
    return found


def _plain(number: str) -> str:
    whole = number.replace(",", "") if THOUSANDS.match(number) else number.rstrip(",.")
    return whole.rstrip("0").rstrip(".") if "." in whole else whole


def _han(number: str) -> int:
    if not any(unit in number for unit in HAN_UNITS):
        return int("".join(str(HAN_DIGITS[digit]) for digit in number))
    total, digit = 0, 0
    for character in number:
        if character in HAN_UNITS:
            total += (digit or 1) * HAN_UNITS[character]
            digit = 0
        else:
            digit = HAN_DIGITS[character]
    return total + digit


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences, each with the marks that follow it; an abbreviation does not end one."""
    spans: list[tuple[int, int]] = []
    open_since: int | None = None
    for match in SENTENCE.finditer(text):
        if not match.group().strip():
            continue
        start = match.start() if open_since is None else open_since
        open_since = None
        if ABBREVIATED.search(match.group().rstrip()) and match.end() < len(text):
            open_since = start
            continue
        spans.append((start, match.end()))
    if open_since is not None:
        spans.append((open_since, len(text)))
    return spans


@dataclass(frozen=True)
class SourceSentence:
    """`passage` counts from 1; `start` and `end` are places in the passage. `before` is the sentence before it.

    `columns` are the names of a table's columns where it is a row.
    """

    passage: int
    start: int
    end: int
    text: str
    heading: str = ""
    before: str = ""
    columns: tuple[str, ...] = ()

    @cached_property
    def clauses(self) -> list[str]:
        """What is said of one thing each; of a table's row: every cell with its column and the row's first cell."""
        if self.columns:
            cells = cells_of(self.text)
            named = list(zip(self.columns, cells, strict=False))
            return [f"{column} {cells[0]} {cell}" for column, cell in named[1:]] or [self.text]
        return [clause for clause in CLAUSE.split(self.text) if clause and clause.strip()]

    @cached_property
    def words(self) -> set[str]:
        """Its own words, and those of its columns."""
        return roots(" ".join((self.text, *self.columns)))

    @cached_property
    def around(self) -> set[str]:
        """The words of its headings and of the sentence before it: who «it» is."""
        return roots(f"{self.heading} {self.before}")


def cells_of(row: str) -> list[str]:
    """The cells of a Markdown table's row."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def is_row(line: str) -> bool:
    """Whether this line belongs to a table."""
    return line.lstrip().startswith("|") and line.count("|") > 2


def source_sentences(number: int, passage: str, heading: Sequence[str] = ()) -> Iterator[SourceSentence]:
    """The sentences and rows of a passage; headings and rules are left out."""
    columns = tuple(heading[-1].split(" | ")) if heading and " | " in heading[-1] else ()
    title = " > ".join(heading)
    before, offset, fenced = "", 0, False
    for line in passage.splitlines(keepends=True):
        at, offset = offset, offset + len(line)
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if not line.strip() or line.lstrip().startswith(("```", "#")) or not re.search(r"\w", line):
            columns = columns if line.strip() else ()
            continue
        if is_row(line):
            if not columns:
                columns = tuple(cells_of(line))
                continue
            yield SourceSentence(number, at, at + len(line.rstrip()), line.strip(), title, before, columns)
            continue
        skipped = 0 if fenced else (bullet.end() if (bullet := BULLET.match(line)) else 0)
        spans = [(0, len(line))] if fenced else sentence_spans(line[skipped:])
        for start, end in spans:
            text = line[skipped + start : skipped + end]
            lead = len(text) - len(text.lstrip())
            if text.strip():
                place = at + skipped + start + lead
                yield SourceSentence(number, place, place + len(text.strip()), text.strip(), title, before)
                before = text.strip()
