"""A file's bytes to text: office files, web pages and notebooks to Markdown by markitdown, PDF by PDFium.

Runs inside the conversion worker (see `conversion_worker.py`), so a hostile file costs a child process, not the server.
"""

import io
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from app.knowledge.ingest.documents import Text, Unreadable, clean, decode

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
PACKED = frozenset({".docx", ".pptx", ".xlsx"})
CONVERTED = PACKED | {".html", ".htm", ".csv", ".ipynb"}
SUFFIXES = MARKDOWN | PLAIN | CODE | CONVERTED | {".pdf"}


def suffix_of(name: str) -> str:
    """The kind of file; `Makefile` and `Dockerfile` count as suffixes."""
    path = PurePosixPath(name.lower())
    return path.suffix or "." + path.name


def needs_worker(name: str) -> bool:
    """Whether this kind of file goes through a parser that should not run inside the server."""
    return suffix_of(name) in CONVERTED | {".pdf"}


def convert(path: Path, name: str) -> Text:
    """Read the file at `path`, whose kind is told by `name`. Raises Unreadable with the reason."""
    suffix = suffix_of(name)
    if suffix not in SUFFIXES:
        raise Unreadable(reason_zh=f"不支持 {suffix} 文件。", reason_en=f"Files of kind {suffix} are not supported.")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise Unreadable(
            reason_zh=f"文件有 {size >> 20} MiB，上限是 {MAX_FILE_BYTES >> 20} MiB。请拆分后再上传。",
            reason_en=f"The file has {size >> 20} MiB, the limit is {MAX_FILE_BYTES >> 20}. Split it first.",
        )
    text = _convert(path.read_bytes(), suffix)
    if not text.content.strip():
        raise Unreadable(
            reason_zh="文件里没有文字（空文件，或只有扫描图片）。",
            reason_en="The file holds no text (it is empty, or a scan without a text layer).",
        )
    if len(text.content) > MAX_CHARACTERS:
        raise Unreadable(
            reason_zh=f"文字有 {len(text.content)} 字，上限是 {MAX_CHARACTERS}。请拆分后再上传。",
            reason_en=f"It holds {len(text.content)} characters, the limit is {MAX_CHARACTERS}. Split it first.",
        )
    return text


def _convert(raw: bytes, suffix: str) -> Text:
    if suffix == ".pdf":
        return _pdf(raw)
    if suffix in CONVERTED:
        return Text(clean(_markdown(raw, suffix)), "markdown")
    markup = "markdown" if suffix in MARKDOWN else "plain" if suffix in PLAIN else "code"
    return Text(decode(raw), markup)  # type: ignore[arg-type]


def _pdf(raw: bytes) -> Text:
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(raw)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise Unreadable(
                reason_zh="PDF 有密码，请先去掉密码。", reason_en="The PDF has a password; remove it first."
            ) from error
        raise Unreadable(reason_zh="PDF 文件已损坏。", reason_en="The PDF is damaged.") from error
    parts: list[str] = []
    starts: list[int] = []
    offset = 0
    with document:
        for page in document:
            content = clean(page.get_textpage().get_text_bounded()).rstrip() + "\n\n"
            starts.append(offset)
            parts.append(content)
            offset += len(content)
            if offset > MAX_CHARACTERS:
                break
    return Text("".join(parts), "plain", tuple(starts))


def _markdown(raw: bytes, suffix: str) -> str:
    from markitdown import StreamInfo

    if suffix in PACKED:
        _check_package(raw)
        info = StreamInfo(extension=suffix)
    else:
        raw = decode(raw).encode()
        info = StreamInfo(extension=suffix, charset="utf-8")
    if not raw.strip():
        return ""
    try:
        return str(_converter(suffix)().convert(io.BytesIO(raw), info).markdown)
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(
            reason_zh=f"文件已损坏，无法按 {suffix} 读取。",
            reason_en=f"The file is damaged and cannot be read as {suffix}.",
        ) from error


def _converter(suffix: str) -> Any:
    from markitdown import converters

    return {
        ".docx": converters.DocxConverter,
        ".pptx": converters.PptxConverter,
        ".xlsx": converters.XlsxConverter,
        ".csv": converters.CsvConverter,
        ".ipynb": converters.IpynbConverter,
    }.get(suffix, converters.HtmlConverter)


def _check_package(raw: bytes) -> None:
    """An office file is a zip; refuse one that would unpack to more than memory should hold."""
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
