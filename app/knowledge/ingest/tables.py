"""Tables to Markdown: rows of cells, CSV and TSV with a sniffed separator."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

SEPARATORS = ",;\t|"
SNIFFED = 100  # lines that decide on the separator


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table whose first row names the columns; nothing is added but padding."""
    width = max(map(len, rows))
    lines = [[_cell(value) for value in row] + [""] * (width - len(row)) for row in rows]
    lines.insert(1, ["---"] * width)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")


def separated(text: str, separator: str = "") -> str:
    """The content of a CSV or TSV file as blocks of Markdown; numbers stay as they are written."""
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=.", first.strip()):
        separator, text = first.strip()[-1], rest
    separator = separator or sniffed(text)
    csv.field_size_limit(1 << 24)
    rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    filled = [row for row in rows if any(map(str.strip, row))]
    one_table = len({len(row) for row in filled}) == 1 and len(filled[0]) > 1
    return blocks(filled if one_table and not any(map(_has_head, list(_groups(rows))[1:])) else rows)


def _has_head(group: Sequence[Sequence[str]]) -> bool:
    """Whether rows begin with names of columns: one without figures, above some that have figures."""
    figures = [any(re.search(r"\d", cell) for cell in row) for row in group]
    return not figures[0] and any(figures)


def sniffed(text: str) -> str:
    """The separator that cuts most lines into the same number of cells, above one."""
    lines = [line for line in text.split("\n", SNIFFED)[:SNIFFED] if line.strip()]
    best, most = ",", 0.0
    for separator in SEPARATORS:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=separator) if len(row) > 1)
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        rated = count + 0.01 * width if count else 0.0
        if rated > most:
            best, most = separator, rated
    return best


def blocks(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a sheet shows them: title lines as paragraphs, each block between empty rows a table of its own."""
    return "\n\n".join(_block(group) for group in _groups(rows))


def _groups(rows: Sequence[Sequence[str]]) -> Iterator[list[list[str]]]:
    group: list[list[str]] = []
    for row in [*rows, []]:
        if any(cell.strip() for cell in row):
            group.append([*row])
        elif group:
            yield group
            group = []


def _block(group: list[list[str]]) -> str:
    used = [at for at in range(max(map(len, group))) if any(len(row) > at and row[at].strip() for row in group)]
    narrow = [[row[at] if len(row) > at else "" for at in used] for row in group]
    titles = []
    while narrow and len(used) > 1 and sum(bool(cell.strip()) for cell in narrow[0]) == 1:
        titles.append(" ".join("".join(narrow.pop(0)).split()))
    if len(used) == 1 and len(narrow) == 1:
        return narrow[0][0].strip()
    return "\n\n".join([*titles, *([markdown_table(narrow)] if narrow else [])])
