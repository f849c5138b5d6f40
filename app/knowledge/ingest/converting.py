"""File conversion: the bytes of office files, web pages, notebooks, PDF and plain text to Markdown or text.

Runs inside the conversion worker (see `conversion_worker.py`), so a hostile file costs a locked child, not the server.
"""

import io
import os
import re
import zipfile
from contextlib import suppress
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from app.knowledge.ingest.documents import NO_NOTE, Note, Text, Unreadable, clean
from app.knowledge.ingest.encoding import decode

MAX_FILE_BYTES = 100 << 20
MAX_UNPACKED_BYTES = 400 << 20
MAX_CHARACTERS = 10_000_000

MARKDOWN = frozenset({".md", ".markdown"})
PLAIN = frozenset({".txt", ".text", ".rst", ".log", ".tex"})
CODE_SUFFIXES = """
.py .js .ts .jsx .tsx .java .c .h .cc .cpp .hpp .cs .go .rs .rb .php .swift .kt .scala .lua .r .jl .sql .sh
.bat .ps1 .css .xml .json .jsonl .yaml .yml .toml .ini .cfg .conf .dockerfile .makefile
"""
CODE = frozenset(CODE_SUFFIXES.split())
PACKED = frozenset({".docx", ".docm", ".pptx", ".xlsx", ".xlsm", ".epub", ".odt"})
CONVERTED = PACKED | {".html", ".htm", ".xhtml", ".csv", ".tsv", ".ipynb", ".rtf"}
LEGACY = {".doc": ".docx", ".xls": ".xlsx", ".ppt": ".pptx", ".ods": ".xlsx", ".odp": ".pptx", ".wps": ".docx"}
LEGACY |= {".et": ".xlsx", ".dps": ".pptx", ".pages": ".docx", ".numbers": ".xlsx", ".key": ".pptx", ".mobi": ".epub"}
PARTS = {"word/document.xml": ".docx", "xl/workbook.xml": ".xlsx", "ppt/presentation.xml": ".pptx"}  # what tells a kind
NO_SCANS = (
    "，可能只有扫描图片；装有 requirements-ocr.txt 的服务器能识别扫描页",
    ", it may be a scan; servers with requirements-ocr.txt installed read those",
)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # how files of the old formats begin, and encrypted new ones
NEEDED = """
chardet chardet.big5freq chardet.euckrfreq chardet.gb2312freq chardet.jisfreq defusedxml.ElementTree lxml.etree mammoth
markdownify openpyxl pptx pypdfium2 app.knowledge.ingest.pdf_files
"""
PARSERS = NEEDED.split()
SUFFIXES = MARKDOWN | PLAIN | CODE | CONVERTED | LEGACY.keys() | {".pdf"}


def suffix_of(name: str) -> str:
    """The kind of file; `Makefile` and `Dockerfile` count as suffixes."""
    path = PurePosixPath(name.lower())
    return path.suffix or "." + path.name


def needs_worker(name: str) -> bool:
    """Whether this kind of file goes through a parser that should not run inside the server."""
    return suffix_of(name) in CONVERTED | {".pdf"}


def convert(file: BinaryIO, name: str) -> Text:
    """Read an open file, whose kind is told by `name`. Raises Unreadable with the reason."""
    suffix = suffix_of(name)
    if suffix in LEGACY:
        raise _legacy(suffix)
    if suffix not in SUFFIXES:
        raise Unreadable(reason_zh=f"不支持 {suffix} 文件。", reason_en=f"Files of kind {suffix} are not supported.")
    size = os.fstat(file.fileno()).st_size
    if size > MAX_FILE_BYTES:
        raise Unreadable(
            reason_zh=f"文件有 {size >> 20} MiB，上限是 {MAX_FILE_BYTES >> 20} MiB。请拆分后再上传。",
            reason_en=f"The file has {size >> 20} MiB, the limit is {MAX_FILE_BYTES >> 20}. Split it first.",
        )
    raw = file.read()
    text = _convert(raw, _true_suffix(raw, suffix), name) if raw.strip() else Text("")
    if not text.content.strip():
        scan_zh, scan_en = NO_SCANS if suffix == ".pdf" and raw.strip() else ("", "")
        raise Unreadable(
            reason_zh=f"文件里没有文字{scan_zh}。", reason_en=f"The file holds no text{scan_en or ': it is empty'}."
        )
    if len(text.content) > MAX_CHARACTERS:
        raise Unreadable(
            reason_zh=f"文字有 {len(text.content)} 字，上限是 {MAX_CHARACTERS}。请拆分后再上传。",
            reason_en=f"It holds {len(text.content)} characters, the limit is {MAX_CHARACTERS}. Split it first.",
        )
    return text


def _true_suffix(raw: bytes, suffix: str) -> str:
    """What a file is by its content, where its name says otherwise. Raises Unreadable where it has to be renamed."""
    known = ".pdf" if raw[:1024].lstrip().startswith(b"%PDF-") else ""
    if raw.startswith(b"PK"):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(raw)) as package:
            known = next((kind for part, kind in PARTS.items() if part in package.namelist()), "")
    elif suffix in PACKED and re.match(rb"\s*<(?:!doctype html|html|table|meta)\b", raw[:1024], re.IGNORECASE):
        known = ".html"  # what many programs export for Excel
    if not known or known[:4] == suffix[:4]:
        return suffix
    if suffix in CONVERTED or suffix == ".pdf":
        return known
    raise Unreadable(
        reason_zh=f"文件内容其实是 {known}，请改成这个后缀再上传。",
        reason_en=f"By its content this is a {known} file. Rename it so and upload it again.",
    )


def _legacy(suffix: str) -> Unreadable:
    to = LEGACY[suffix]
    return Unreadable(
        reason_zh=f"读不了 {suffix} 格式。请用 Word、WPS 或 LibreOffice 打开，另存为 {to} 或 PDF 后再上传。",
        reason_en=f"Files of the format {suffix} are not read. Open it in an office program, save it as {to} or PDF,"
        " and upload that.",
    )


def _convert(raw: bytes, suffix: str, name: str) -> Text:
    if suffix == ".pdf":
        from app.knowledge.ingest.pdf_files import pdf

        return pdf(raw, MAX_CHARACTERS)
    if suffix in CONVERTED:
        content, note = _markdown(raw, suffix, name)
        return Text(clean(content), "markdown", note=note)
    markup = "markdown" if suffix in MARKDOWN else "plain" if suffix in PLAIN else "code"
    content, note = decode(raw, name)
    return Text(content, markup, note=note)  # type: ignore[arg-type]


def _markdown(raw: bytes, suffix: str, name: str) -> tuple[str, Note]:
    """The content as Markdown and what is to be said about it; any failure of a parser is a damaged file."""
    note = NO_NOTE
    if suffix in PACKED:
        _check_package(raw, suffix)
    elif suffix != ".rtf":
        text, note = decode(raw, name)
        raw = text.encode()
    if not raw.strip():
        return "", note
    try:
        return _parsers()[suffix](raw), note
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(
            reason_zh=f"文件已损坏，无法按 {suffix} 读取。",
            reason_en=f"The file is damaged and cannot be read as {suffix}.",
        ) from error


def import_parsers() -> None:
    """Import what conversion needs, while files can still be opened."""
    for name in PARSERS:
        import_module(name)
    _parsers()


def _parsers() -> dict[str, Any]:
    """What reads each kind of file: a function from bytes (UTF-8 where it is text) to Markdown."""
    from striprtf.striprtf import rtf_to_text

    from app.knowledge.ingest.epub_files import book
    from app.knowledge.ingest.html_pages import html_to_markdown
    from app.knowledge.ingest.notebooks import notebook
    from app.knowledge.ingest.open_documents import open_document
    from app.knowledge.ingest.raised_text import in_rich_text
    from app.knowledge.ingest.separated_values import separated
    from app.knowledge.ingest.slides import slides
    from app.knowledge.ingest.spreadsheets import workbook
    from app.knowledge.ingest.word_files import word_document

    def page(raw: bytes) -> str:
        return html_to_markdown(raw.decode())

    return {
        ".docx": word_document,
        ".docm": word_document,
        ".pptx": slides,
        ".xlsx": workbook,
        ".xlsm": workbook,
        ".epub": book,
        ".odt": open_document,
        ".rtf": lambda raw: rtf_to_text(in_rich_text(raw.decode("latin-1")), errors="replace"),
        ".csv": lambda raw: separated(raw.decode()),
        ".tsv": lambda raw: separated(raw.decode(), "\t"),
        ".ipynb": lambda raw: notebook(raw.decode()),
        ".html": page,
        ".htm": page,
        ".xhtml": page,
    }


def _check_package(raw: bytes, suffix: str) -> None:
    """An office file is a zip; refuse one that would unpack to more than memory should hold."""
    if raw.startswith(OLE):
        raise Unreadable(
            reason_zh=f"文件有密码，或其实是旧格式。请去掉密码，另存为 {suffix} 后再上传。",
            reason_en=f"It has a password, or is of an older format in truth. Save it without one, as {suffix}.",
        )
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as package:
            unpacked = sum(entry.file_size for entry in package.infolist())
    except zipfile.BadZipFile as error:
        raise Unreadable(reason_zh="文件已损坏或被加密。", reason_en="The file is damaged or encrypted.") from error
    if unpacked > MAX_UNPACKED_BYTES:
        raise Unreadable(
            reason_zh=f"文件展开后有 {unpacked >> 20} MiB，像是压缩炸弹，已跳过。",
            reason_en=f"It would unpack to {unpacked >> 20} MiB, like a zip bomb, and was passed over.",
        )
