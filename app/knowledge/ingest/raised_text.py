"""Superscripts and subscripts as Unicode characters, so that 10³ is not read as 103: HTML, Office, EPUB, ODF, RTF."""

import re
from collections.abc import Callable
from html import escape, unescape
from typing import Any

from app.knowledge.ingest.packages import with_parts

RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
OFFICE_RUN = re.compile(r"<(?P<kind>[wa]):r(?=[ >]).*?</(?P=kind):r>", re.DOTALL)
OFFICE_TEXT = re.compile(r"(<[wa]:t(?: [^>]*)?>)([^<]*)(?=</[wa]:t>)")
RAISED_RUN = re.compile(r'<w:vertAlign w:val="superscript"|<a:rPr[^>]* baseline="[1-9]')
LOWERED_RUN = re.compile(r'<w:vertAlign w:val="subscript"|<a:rPr[^>]* baseline="-[1-9]')
RTF_GROUP = re.compile(r"\{[^{}]*\\(?P<kind>super|sub)(?![a-z0])[^{}]*\}")
RTF_TEXT = re.compile(r"(?<=[ \r\n])[\d+-]+(?=[^{}\\]*\})")
PARTS = re.compile(r"(?:word/(?:document|header\d*|footer\d*|footnotes|endnotes|comments)|ppt/slides/[^/]+)\.xml")


def raised(text: str) -> str:
    """As superscript; text with letters that have none (5th) stays, but where digits among them would join others."""
    return _shifted(text, RAISED, "^")


def lowered(text: str) -> str:
    """As subscript; text with letters stays."""
    return _shifted(text, LOWERED)


def _shifted(text: str, table: dict[int, int], sign: str = "") -> str:
    said = text.strip()
    if not said or not re.search(r"[\d+\-−]|^[ni]$", said):
        return text
    if all(ord(each) in table for each in said):
        return text.translate(table)
    return f"{sign}({said})" if sign and len(said) < 20 and re.match(r"[\w+\-−]", said) else text


def in_page(page: Any) -> None:
    """In a parsed HTML page; a link, such as the mark of a footnote, stays one."""
    for name, shift in (("sup", raised), ("sub", lowered)):
        for tag in page.find_all(name):
            if tag.find("a") is None and tag.find_parent("a") is None:
                tag.string = shift(tag.get_text())


def in_package(raw: bytes) -> bytes:
    """In the runs of a Word file or of slides."""
    return with_parts(raw, lambda name, part: _changed(part, _in_runs) if PARTS.fullmatch(name) else part)


def _changed(part: bytes, change: Callable[[str], str]) -> bytes:
    """A part in another encoding than UTF-8 stays as it is."""
    try:
        return change(part.decode()).encode()
    except UnicodeDecodeError:
        return part


def _in_runs(part: str) -> str:
    if "vertAlign" not in part and "baseline=" not in part:
        return part

    def run(found: re.Match[str]) -> str:
        whole = found.group()
        up, down = RAISED_RUN.search(whole), LOWERED_RUN.search(whole)
        if not (up or down):
            return whole
        return OFFICE_TEXT.sub(lambda text: text[1] + _of_kind(bool(up), text[2]), whole)

    return OFFICE_RUN.sub(run, part)


def _of_kind(up: bool, marked_up: str) -> str:
    text = unescape(marked_up)
    return escape(raised(text) if up else lowered(text), quote=False)


def in_rich_text(rtf: str) -> str:
    """In the groups of an RTF file, as its own escapes."""

    def group(found: re.Match[str]) -> str:
        shift = raised if found["kind"] == "super" else lowered
        return RTF_TEXT.sub(lambda text: "".join(f"\\u{ord(each)}?" for each in shift(text.group())), found.group())

    return RTF_GROUP.sub(group, rtf)
