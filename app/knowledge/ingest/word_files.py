"""Word files (.docx) to Markdown: with headers, footers, notes, text boxes and comments, changes as accepted."""

import io
import re
import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from app.knowledge.ingest.html_pages import html_to_markdown
from app.knowledge.ingest.packages import parsed, with_parts
from app.knowledge.ingest.raised_text import in_package, raised
from app.knowledge.ingest.word_markup import W, as_shown

NOTE_MARK = re.compile(r'<sup><a href="#(?:foot|end)note-[^"]*"[^>]*>\[(\d+)\]</a></sup>')
WAY_BACK = re.compile(r' ?<a href="#(?:foot|end)note-ref-[^"]*">↑</a>')
SHOWN_PARTS = re.compile(r"word/(?:document\d*|header\d*|footer\d*|footnotes|endnotes|comments)\.xml")


def word_document(raw: bytes) -> str:
    """Page headers, the body with its notes below, comments, page footers."""
    raw = in_package(with_parts(raw, lambda name, part: as_shown(part) if SHOWN_PARTS.fullmatch(name) else part))
    with zipfile.ZipFile(io.BytesIO(raw)) as package:
        parts = {name: package.read(name) for name in package.namelist() if name.startswith("word/")}
    above = _texts(parts, "word/header")
    below = _texts(parts, "word/footer")
    comments = list(_comments(parts))
    return "\n\n".join([*above, _body(raw), *comments, *below]).strip()


def _body(raw: bytes) -> str:
    """By mammoth, as MarkItDown calls it; the tables are ours."""
    import mammoth
    from markitdown.converter_utils.docx.pre_process import pre_process_docx

    page = mammoth.convert_to_html(pre_process_docx(io.BytesIO(raw)), style_map="u => u").value
    page = NOTE_MARK.sub(lambda mark: raised(mark[1]), page)
    return html_to_markdown(WAY_BACK.sub("", page))


def _texts(parts: dict[str, bytes], start: str) -> list[str]:
    """The different texts of the parts whose name starts so."""
    found = []
    for name in sorted(parts):
        if re.fullmatch(rf"{start}\d*\.xml", name):
            found.append("\n".join(filter(str.strip, map(_paragraph, parsed(parts[name]).iter(f"{W}p")))))
    return [text for text in dict.fromkeys(found) if text.strip()]


def _comments(parts: dict[str, bytes]) -> Iterator[str]:
    if "word/comments.xml" not in parts:
        return
    anchors = _anchors(parsed(parts["word/document.xml"]))
    for comment in parsed(parts["word/comments.xml"]).iter(f"{W}comment"):
        text = " ".join(filter(None, map(_paragraph, comment.iter(f"{W}p"))))
        about = anchors.get(comment.get(f"{W}id", ""), "").strip()
        author = comment.get(f"{W}author", "")
        if text.strip():
            yield f"> {author}{': ' if author else ''}{text}" + (f" [{about}]" if about else "")


def _anchors(document: Element) -> dict[str, str]:
    """The words that each comment is about."""
    open_ranges: set[str] = set()
    words: dict[str, str] = {}
    for element in document.iter():
        if element.tag == f"{W}commentRangeStart":
            open_ranges.add(element.get(f"{W}id", ""))
        elif element.tag == f"{W}commentRangeEnd":
            open_ranges.discard(element.get(f"{W}id", ""))
        elif element.tag == f"{W}t":
            for name in open_ranges:
                words[name] = words.get(name, "") + (element.text or "")
    return words


def _paragraph(paragraph: Element) -> str:
    """Its words; deleted ones are `w:delText` and so are not among them."""
    parts = {f"{W}t": lambda e: e.text or "", f"{W}tab": lambda _: "\t", f"{W}br": lambda _: "\n"}
    return "".join(parts[element.tag](element) for element in paragraph.iter() if element.tag in parts)
