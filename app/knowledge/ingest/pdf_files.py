"""PDF to text with page offsets (PDFium): text layer, form values, comments, OCR; pages without text are named."""

import ctypes
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, pairwise
from typing import Any

from app.knowledge.ingest.documents import Note, Text, Unreadable, clean
from app.knowledge.ingest.pdf_cells import with_cells_apart
from app.knowledge.ingest.raised_text import lowered, raised
from app.knowledge.ingest.scans import read_scans

NARROW = 30  # characters of a line below which it may as well be a cell of a table
GOES_ON = re.compile(r"(?:[^\W\d_\u2e80-\u9fff]{2,}|[,)\]”’%\d])$")  # how a line ends whose sentence goes on
UNFINISHED = re.compile(r"(?:\b(?:the|an?|of|and|or|to|in|on|at|by|for|from|with|as|is|are|was|that|its|than)|,)$")
HAN_LINE = re.compile(r"[\u4e00-\u9fff“《（]\S*[\u4e00-\u9fff，、）》”]$")  # no spaces, no end of a sentence
HAN_START = re.compile(r"[\u4e00-\u9fff“《（]\S*$")
PAGE_END = "\n\n"
FIGURES = frozenset(map(ord, "0123456789+-−"))
SMALLER, HIGHER, LOWER = 0.85, 0.15, 0.05  # of the letter before: how small a raised figure is, how high, how low
CONTEXT = 8  # characters by which a raised figure is found again in the text of its page
NAMED_PAGES = 12  # ranges of empty pages that a note names


def pdf(raw: bytes, max_characters: int) -> Text:
    """Raises Unreadable with the reason."""
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(raw)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise Unreadable(
                reason_zh="PDF 有密码，请先去掉密码。", reason_en="The PDF has a password; remove it first."
            ) from error
        raise Unreadable(reason_zh="PDF 文件已损坏。", reason_en="The PDF is damaged.") from error
    with document:
        document.init_forms()
        contents = _contents(document, max_characters)
        empty = [number for number, content in enumerate(contents, 1) if not content.strip()]
        read = dict(zip(empty, read_scans(document[number - 1] for number in empty), strict=False))
    for number, content in read.items():
        contents[number - 1] = content
    parts = [content + PAGE_END for content in contents]
    starts = accumulate(map(len, parts[:-1]), initial=0)
    return Text("".join(parts), "plain", tuple(starts), _note(contents, [page for page in read if read[page].strip()]))


def _contents(document: Any, max_characters: int) -> list[str]:
    """The text of each page, until there is too much of it."""
    contents: list[str] = []
    for page in document:
        shown = page.get_textpage()
        content = _with_raised(with_cells_apart(shown.get_text_bounded(), shown), shown)
        words = joined_lines(clean(content).rstrip())
        contents.append("\n\n".join(filter(None, [words, *_annotations(page, document.formenv)])))
        if sum(map(len, contents)) > max_characters:
            break
    return contents


def _with_raised(content: str, page: Any) -> str:
    """Its small figures above or below the line as such: 10³, H₂O. They are found again by what stands before them."""
    if not re.search(r"[^\W_]\d|[)\]]\d|[^\W\d_][+−-]", content):
        return content
    from pypdfium2 import raw

    letters = [raw.FPDFText_GetUnicode(page, index) for index in range(page.count_chars())]
    read, shown, end = 0, 1, 0  # places in the text, in the letters, behind the last figures
    while shown < len(letters):
        start, shown = shown, shown + 1
        if letters[start] not in FIGURES or letters[start - 1] <= ord(" ") or start == end:
            continue
        up = _raised(page, start, start - 1)
        while up is not None and shown < len(letters) and letters[shown] in FIGURES:
            if _raised(page, shown, start - 1) is not up:
                break
            shown += 1
        figures = "".join(map(chr, letters[start:shown]))
        before = "".join(map(chr, letters[max(end, start - CONTEXT) : start])).splitlines()[-1]
        at = content.find(before + figures, read) if up is not None and figures != "-" else -1
        if at >= 0:
            read, end = at + len(before) + len(figures), shown
            rest = content[read:].lstrip("\r\n") if _goes_on(page, start - 1, shown, letters) else content[read:]
            content = content[: at + len(before)] + (raised if up else lowered)(figures) + rest
    return content


def _raised(page: Any, index: int, before: int) -> bool | None:
    """Whether a figure stands above the line of the letter before it (True), below (False), or on it."""
    from pypdfium2 import raw

    size = raw.FPDFText_GetFontSize(page, before)
    if not 0 < raw.FPDFText_GetFontSize(page, index) < SMALLER * size:
        return None
    rise = (_height(page, index) - _height(page, before)) / size
    return True if rise > HIGHER else False if rise < -LOWER else None


def _goes_on(page: Any, before: int, after: int, letters: Sequence[int]) -> bool:
    """Whether what follows figures stands on the line of the letter before them; PDFium may begin a new line there."""
    follows = next((index for index in range(after, len(letters)) if chr(letters[index]) not in "\r\n"), None)
    return follows is not None and abs(_height(page, follows) - _height(page, before)) < 1  # point


def _height(page: Any, index: int) -> float:
    from pypdfium2 import raw

    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(page, index, x, y)
    return y.value


def joined_lines(content: str) -> str:
    """Lines that only the width of the column has cut are one again, so that sentences stand whole."""
    lines = content.split("\n")
    full = 0.75 * max((len(line) for line in lines if HAN_LINE.match(line)), default=0)
    whole = lines[:1]
    for before, line in pairwise(lines):
        continues = line[:1].islower() or (line and UNFINISHED.search(before))
        if before.endswith("-") and before[-2:-1].isalpha() and line[:1].islower():
            whole[-1] = whole[-1][:-1] + line
        elif continues and len(before) >= NARROW and GOES_ON.search(before):
            whole[-1] += f" {line}"
        elif len(before) >= max(full, NARROW / 2) and HAN_LINE.match(before) and HAN_START.match(line):
            whole[-1] += line
        else:
            whole.append(line)
    return "\n".join(whole)


def _annotations(page: Any, forms: Any) -> Iterator[str]:
    """Filled-in fields as «name: value», and comments."""
    from pypdfium2 import raw

    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        try:
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            if kind == raw.FPDF_ANNOT_WIDGET and forms is not None:
                name = _string(raw.FPDFAnnot_GetFormFieldName, forms, annotation)
                value = _string(raw.FPDFAnnot_GetFormFieldValue, forms, annotation)
                if value.strip() and value != "Off":
                    yield f"{name}: {value}" if name else value
            elif kind in (raw.FPDF_ANNOT_TEXT, raw.FPDF_ANNOT_FREETEXT, raw.FPDF_ANNOT_HIGHLIGHT):
                comment = _string(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")
                if comment.strip():
                    yield comment
        finally:
            raw.FPDFPage_CloseAnnot(annotation)


def _string(call: Any, *arguments: Any) -> str:
    """What one of PDFium's functions writes into a buffer, as UTF-16."""
    from pypdfium2 import raw

    length = call(*arguments, None, 0)
    buffer = ctypes.create_string_buffer(length + 2)
    call(*arguments, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), length)
    return clean(buffer.raw[:length].decode("utf-16-le", errors="replace").rstrip("\x00"))


def _note(contents: Sequence[str], scans: Sequence[int]) -> Note:
    """Which pages were read by OCR, and which hold no text where others do."""
    empty = [number for number, content in enumerate(contents, 1) if not content.strip()]
    zh, en = [], []
    if scans:
        zh.append(f"第 {_named(scans)} 页是扫描页，由文字识别（OCR）读出，可能有错。")
        en.append(f"{_pages(scans)} read by OCR from a scan and may hold mistakes.")
    if empty and len(empty) < len(contents):
        zh.append(f"第 {_named(empty)} 页没有文字（可能是扫描页），没有读到。")
        verb = "holds" if len(empty) == 1 else "hold"
        en.append(f"{_pages(empty, verb)} no text (probably a scan) and could not be read.")
    return "".join(zh), " ".join(en)


def _pages(numbers: Sequence[int], verb: str = "") -> str:
    one = len(numbers) == 1
    return f"{'Page' if one else 'Pages'} {_named(numbers)} {verb or ('was' if one else 'were')}"


def _named(numbers: Sequence[int]) -> str:
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    named = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:NAMED_PAGES])
    return named + (", …" if len(runs) > NAMED_PAGES else "")
