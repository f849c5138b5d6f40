"""Table cells of one character in PDF text: PDFium breaks the line at them or glues them to their neighbours."""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

AHEAD = 8  # characters of the text among which a letter of the page is looked for


def with_cells_apart(content: str, page: Any) -> str:
    """The text of a page with a space between cells of one line, where one of them is a single character."""
    from pypdfium2 import raw

    letters = [raw.FPDFText_GetUnicode(page, index) for index in range(page.count_chars())]
    apart = set(_apart(page, letters))
    if not apart:
        return content
    parts, read, written = [], 0, 0  # places in the text: behind the last letter found, behind what is in `parts`
    for index, letter in enumerate(letters):
        at = content.find(chr(letter), read, read + AHEAD) if letter > ord(" ") else -1
        if at < 0:
            continue
        if index in apart and not content[read:at].strip():
            parts += [content[written:read], " "]
            written = at
        read = at + 1
    return "".join([*parts, content[written:]])


def _apart(page: Any, letters: Sequence[int]) -> Iterator[int]:
    """The first letters of such cells: PDFium has a line end before them, the page has not."""
    line_end = [ord("\r"), ord("\n")]
    for at in range(1, len(letters) - 2):
        if letters[at : at + 2] != line_end:
            continue
        before, after = at - 1, at + 2
        alone = letters[max(before - 1, 0)] <= ord(" ") or before == 0
        alone = alone or after + 1 == len(letters) or letters[after + 1] <= ord(" ")
        if alone and _beside(page, before, after):
            yield after


def _beside(page: Any, before: int, after: int) -> bool:
    """Whether the second letter stands to the right of the first on its line."""
    from pypdfium2 import raw

    x, y, right, level = (ctypes.c_double() for _ in range(4))
    raw.FPDFText_GetCharOrigin(page, before, x, y)
    raw.FPDFText_GetCharOrigin(page, after, right, level)
    return right.value > x.value and abs(level.value - y.value) < 1  # point
