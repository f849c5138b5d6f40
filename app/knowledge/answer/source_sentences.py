"""Split retrieved passages into sentences and table rows, each with its clauses, for quoting and for fact checks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from app.knowledge.answer.tokens import roots
from app.knowledge.ingest.tables import cells_of, columns_in

# Citations as models write them: [1], 【1】, [[1]], [^1], [1, 2], [1-3], [Source 1]; «x is [1, 2]» tells a value.
CITATION = (
    r"(?:[\[［【〔]{1,2}\s*\^?(?:(?:sources?|passages?|来源|资料)\s*)?\d{1,2}\s*[\]］】〕]{1,2}"
    r"|(?<![=:：是为])(?<![=:：]\s)(?<!\b(?:is|of|to)\s)(?<!\b(?:are|was)\s)"
    r"[\[［【〔]\s*(?:(?:sources?|passages?|来源|资料)\s*)?\d{1,2}(?:\s*[,，、;；–-]\s*\d{1,2})+\s*[\]］】〕])"
)
FULL_STOPS = "。！？!?।॥؟۔։።။។"  # also Hindi, Urdu, Arabic, Armenian, Amharic, Burmese, Khmer
SENTENCE = re.compile(
    rf"[^{FULL_STOPS}\n]*?(?:\.(?=\s|$|[\[［【〔])|[{FULL_STOPS}\n]|$)(?:[”’」』）)\"'\]]*)(?:\s*{CITATION})*",
    re.IGNORECASE,
)
ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|vs|Dr|Mr|Mrs|Ms|Prof|No|Fig|approx|St|cf)|(?<!°)(?<!\d )\b[A-Z])\.$"
)  # no initial: 130 °C.
MAY_END = re.compile(r"\b(?:[ap]\.m|etc)\.$")  # ends a sentence where the next one begins with a capital
NUMBERED = re.compile(r"\s*[*_]{0,3}\d{1,3}\.")  # of a list, where it begins a line
CLAUSE = re.compile(
    r"[,;:]\s+|[，；、：،؛]|\s+[-–—]\s+|\s(?:and|but|while|whereas|though|although|or)\s|而|但|并且|以及|或者?"
)
BULLET = re.compile(r"^\s*(?:[-*+>]|\d{1,3}[.)])\s+|^\s*#{1,6}\s+")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences, each with the marks that follow it; an abbreviation does not end one."""
    spans: list[tuple[int, int]] = []
    open_since: int | None = None
    for match in SENTENCE.finditer(text):
        if not match.group().strip():
            continue
        start = match.start() if open_since is None else open_since
        open_since = None
        said, after = match.group().rstrip(), text[match.end() :].lstrip()
        listed = NUMBERED.fullmatch(said) and text[: match.start()].rpartition("\n")[2] == ""
        if after and (listed or ABBREVIATED.search(said) or (MAY_END.search(said) and re.match(r"[a-z\d]", after))):
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
        return [self.text[start:end] for start, end in clause_spans(self.text)]

    @cached_property
    def words(self) -> set[str]:
        """Its own words, and those of its columns."""
        return roots(self.said)

    @cached_property
    def said(self) -> str:
        """Its own text, with the names of its columns."""
        return " ".join((self.text, *self.columns))

    @property
    def title(self) -> str:
        """Of its document, the first of its headings."""
        return self.heading.partition(" > ")[0]

    @cached_property
    def near(self) -> str:
        """Its headings and the sentence before it."""
        return f"{self.heading} {self.before}"

    @cached_property
    def around(self) -> set[str]:
        """The words of its headings and of the sentence before it: who «it» is."""
        return roots(self.near)


def clause_spans(text: str) -> list[tuple[int, int]]:
    """Where each clause of a sentence begins and ends."""
    ends = [(match.start(), match.end()) for match in CLAUSE.finditer(text)]
    starts = [0, *(after for _, after in ends)]
    spans = zip(starts, [*(before for before, _ in ends), len(text)], strict=True)
    return [(start, end) for start, end in spans if text[start:end].strip()]


def is_row(line: str) -> bool:
    """Whether this line belongs to a table."""
    return line.lstrip().startswith("|") and line.count("|") > 2


def source_sentences(number: int, passage: str, heading: Sequence[str] = ()) -> Iterator[SourceSentence]:
    """The sentences and rows of a passage; headings and rules are left out."""
    columns = tuple(columns_in(heading[-1])) if heading else ()
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
