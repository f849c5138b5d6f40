"""Tables to Markdown: rows of cells, CSV and TSV with a sniffed separator, number formats of spreadsheets."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

SEPARATORS = ",;\t|"
SNIFFED = 100  # lines that decide on the separator
QUOTED = re.compile(r'"([^"]*)"|\\(.)|_.|\*.')
CURRENCY = re.compile(r"\[\$([^\]-]*)[^\]]*\]")


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
    return blocks(list(csv.reader(io.StringIO(text), delimiter=separator)))


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


def shown(value: Any, number_format: str = "General") -> str:
    """A cell's value as a spreadsheet shows it. Dates are written the ISO way."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return _moment(value, number_format)
    if isinstance(value, date | time | timedelta):
        return str(value)
    if isinstance(value, int | float):
        return _number(value, number_format)
    return str(value)


def _moment(value: datetime, number_format: str) -> str:
    wanted = QUOTED.sub("", number_format.lower())
    if ("h" in wanted or "s" in wanted) and value.time() != time():  # a date alone is often stored with midnight
        if not any(letter in wanted for letter in "yd"):
            return value.time().isoformat("seconds")
        return value.isoformat(" ", "seconds" if "s" in wanted else "minutes")
    return value.date().isoformat()


def _number(value: float, number_format: str) -> str:
    plain = f"{value:.15g}" if isinstance(value, float) else str(value)
    if "e" in plain and 1e-15 < abs(value) < 1e21:
        plain = f"{Decimal(plain):f}"
    sections = number_format.split(";")
    chosen = sections[1] if value < 0 and len(sections) > 1 and sections[1] else sections[0]
    body = CURRENCY.sub(r'"\1"', chosen)
    body = re.sub(r"\[[^\]]*\]", "", body)
    literal = QUOTED.sub(lambda found: "\0" * bool(found[1] or found[2]), body)
    digits = re.search(r"[0#?][0#?,.]*", literal)
    if chosen in ("General", "@", "") or digits is None or re.search(r"[eE][+-]|/|[ymdhs]", literal):
        return plain
    pattern = digits[0]
    percent = "%" in literal
    decimals = len(pattern.partition(".")[2].rstrip(","))
    amount = abs(value) * (100 if percent else 1) / 1000 ** (len(pattern) - len(pattern.rstrip(",")))
    text = f"{amount:{',' if ',' in pattern.rstrip(',') else ''}.{decimals}f}"
    if "#" in pattern.partition(".")[2]:
        text = text.rstrip("0").rstrip(".")
    whole, point, fraction = text.partition(".")
    text = whole.zfill(pattern.partition(".")[0].count("0")) + point + fraction
    around = [QUOTED.sub(lambda found: found[1] or found[2] or " ", part) for part in _around(body)]
    sign = "-" if value < 0 and len(sections) == 1 else ""
    return f"{sign}{around[0].strip()}{text}{around[1].rstrip()}"


def _around(body: str) -> tuple[str, str]:
    """What stands before and after the digits of a number format; quoted digits are no digits."""
    hidden = QUOTED.sub(lambda found: "\0" * len(found[0]), body)
    digits = re.search(r"[0#?][0#?,.]*", hidden)
    assert digits is not None
    return body[: digits.start()], body[digits.end() :]
