"""Text chunking: Markdown along headings, long sections by length with overlap, code whole, tables by rows.

Passages of a long table bear the names of its columns as their last heading.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from langchain_text_splitters import TextSplitter
from markdown_it import MarkdownIt

from app.knowledge.ingest.documents import Markup, Text
from app.knowledge.ingest.tables import as_columns, cells_of

SIZE = 500
OVERLAP = 150
LONGEST_COLUMNS = 300  # characters of the column names that a passage bears
WHOLE_CODE = 2000  # a code block up to this length stays one passage
BREAKS = (
    re.compile(r"\n+"),
    re.compile(r"(?<=[。！？；!?;।॥؟۔։።။។])[”’」』）)\"']*|(?<=\.)\s+"),
    re.compile(r"(?<=[，、,:：،؛])|\s+"),
)


@dataclass(frozen=True)
class Passage:
    """A piece of a text: `content[start:end]`, under `heading` (outermost first), on `page` where there are pages."""

    start: int
    end: int
    heading: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True)
class Block:
    """A paragraph, list, table, code block or heading line of the text."""

    start: int
    end: int
    section: int
    heading: tuple[str, ...] = ()
    is_heading: bool = False
    is_code: bool = False
    columns: str = ""  # names of a table's columns, for the pieces that do not hold them themselves


def split(text: Text, size: int = SIZE, overlap: int = OVERLAP) -> list[Passage]:
    """Passages of at most `size` characters (a code block may be longer), neighbours sharing up to `overlap`."""
    blocks = _markdown_blocks(text.content) if text.markup == "markdown" else _plain_blocks(text)
    pieces = [piece for block in blocks for piece in _cut(text.content, block, size, overlap or size)]
    passages = [_trim(text, passage) for passage in _pack(pieces, size, overlap)]
    filled = [passage for passage in passages if passage.end > passage.start]
    if not filled and text.content.strip():  # headings and nothing below them
        return [_trim(text, Passage(0, min(size, len(text.content))))]
    return filled


class PassageSplitter(TextSplitter):
    """The same splitting as a LangChain splitter, for chains that bring their own loaders."""

    def __init__(self, markup: Markup = "markdown", size: int = SIZE, overlap: int = OVERLAP, **settings: Any) -> None:
        super().__init__(chunk_size=size, chunk_overlap=overlap, **settings)
        self.markup: Markup = markup

    def split_text(self, text: str) -> list[str]:
        passages = split(Text(text, self.markup), self._chunk_size, self._chunk_overlap)
        return [text[passage.start : passage.end] for passage in passages]


def _plain_blocks(text: Text) -> Iterator[Block]:
    for match in re.finditer(r"(?:[^\n]*\S[^\n]*\n?)+", text.content):
        page = text.page_at(match.start()) or 0  # a passage never runs over a page's end: its page must be right
        yield Block(match.start(), match.end(), section=page, is_code=text.markup == "code")


def _markdown_blocks(content: str) -> Iterator[Block]:
    starts = [0]
    starts += [match.end() for match in re.finditer("\n", content)]
    starts.append(len(content))
    tokens = MarkdownIt("commonmark").enable("table").parse(content)
    path: list[tuple[int, str]] = []
    section = 0
    for index, token in enumerate(tokens):
        if token.level or token.map is None:
            continue
        start, end = starts[token.map[0]], starts[min(token.map[1], len(starts) - 1)]
        if token.type == "heading_open":
            depth = int(token.tag[1])
            title = "".join(child.content for child in tokens[index + 1].children or [])
            path = [(level, name) for level, name in path if level < depth] + [(depth, title.strip())]
            section += 1
        heading = tuple(name for _, name in path)
        if token.type == "table_open":
            yield from _rows(content, Block(start, end, section, heading))
        else:
            is_code = token.type in ("fence", "code_block")
            yield Block(start, end, section, heading, token.type == "heading_open", is_code)


def _rows(content: str, table: Block) -> Iterator[Block]:
    """The head with its first row, then every row by itself."""
    ends = [match.end() for match in re.finditer("\n|$", content[table.start : table.end])]
    head = table.start + ends[min(2, len(ends) - 1)]
    yield replace(table, end=head)
    columns = as_columns(cells_of(content[table.start : table.start + ends[0]]), LONGEST_COLUMNS)
    for start, end in pairwise([head, *(table.start + end for end in ends if table.start + end > head), table.end]):
        if end > start:
            yield replace(table, start=start, end=end, columns=columns)


def _cut(content: str, block: Block, size: int, piece: int) -> Iterator[Block]:
    """Prose in pieces small enough to be an overlap, cut at lines, else sentences, else clauses, else anywhere."""
    longest = max(WHOLE_CODE, size) if block.is_code else min(piece, size)
    if block.end - block.start <= longest:
        yield block
        return
    step = size if block.is_code else longest
    start = block.start
    while block.end - start > step:
        end = _break(content, start, start + step)
        yield replace(block, start=start, end=end)
        start = end
    yield replace(block, start=start)


def _break(content: str, start: int, limit: int) -> int:
    for pattern in BREAKS:
        ends = [match.end() for match in pattern.finditer(content, start + (limit - start) // 2, limit)]
        if ends:
            return ends[-1]
    return limit


def _pack(blocks: list[Block], size: int, overlap: int) -> Iterator[Passage]:
    """Neighbouring blocks of one section together up to `size`; the next passage starts with the last's tail."""
    group: list[Block] = []
    fresh = 0  # blocks of the group that no passage holds yet
    for block in blocks:
        if group and (block.section != group[0].section or block.end - group[0].start > size):
            if fresh:
                yield from _passage(group)
            group = _tail(group, block, size, overlap) if fresh else []
            fresh = 0
        group.append(block)
        fresh += 1
    if fresh:
        yield from _passage(group)


def _tail(group: list[Block], following: Block, size: int, overlap: int) -> list[Block]:
    if following.section != group[0].section:
        return []
    return [block for block in group if group[-1].end - block.start <= overlap and following.end - block.start <= size]


def _passage(group: list[Block]) -> Iterator[Passage]:
    if not all(block.is_heading for block in group):
        first = next(block for block in group if not block.is_heading)
        columns = (first.columns,) if first.columns else ()
        yield Passage(group[0].start, group[-1].end, group[0].heading + columns)


def _trim(text: Text, passage: Passage) -> Passage:
    content = text.content[passage.start : passage.end]
    start = passage.start + len(content) - len(content.lstrip("\n"))
    end = passage.start + len(content.rstrip())
    return replace(passage, start=start, end=end, page=text.page_at(start))
