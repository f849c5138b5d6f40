"""Files to text: every supported format, encodings, and the bad ones each with a reason of their own."""

import io
import json
import zipfile
from pathlib import Path

import docx
import openpyxl
import pptx
import pypdf
import pytest

from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.documents import Unreadable


@pytest.fixture(scope="module")
def convert() -> object:
    converter = Converter()
    yield converter
    converter.close()


def pdf(pages: list[str]) -> bytes:
    """A PDF with one line of Helvetica a page, written by hand."""
    count = len(pages)
    kids = " ".join(f"{3 + 2 * at} 0 R" for at in range(count))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {count}>>"]
    for at, line in enumerate(pages):
        stream = f"BT /F 12 Tf 72 700 Td ({line}) Tj ET"
        font = "<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {4 + 2 * at} 0 R/Resources<</Font{font}>>>>"
        )
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{content}endobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    return f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}{end}".encode()


def office(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "docx":
        document = docx.Document()
        document.add_heading("显存", 1)
        document.add_paragraph("量化减少显存。")
        document.save(stream)
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        book.active.append(["model", "memory"])
        book.active.append(["small", 72])
        book.save(stream)
    else:
        slides = pptx.Presentation()
        slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "Quantisation"
        slides.save(stream)
    return stream.getvalue()


NOTEBOOK = json.dumps(
    {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": ["# 笔记\n", "说明文字"]},
            {"cell_type": "code", "metadata": {}, "source": ["x = 1"], "outputs": [], "execution_count": 1},
        ],
    },
    ensure_ascii=False,
).encode()


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("a.md", "# 标题\r\n内容".encode(), "# 标题\n内容"),
        ("a.txt", "国标编码的苹果树".encode("gb18030"), "国标编码的苹果树"),
        ("b.txt", "十六位".encode("utf-16"), "十六位"),
        ("a.html", "<meta charset=gbk><h1>标题</h1><script>bad()</script><p>正文</p>".encode("gbk"), "# 标题\n\n正文"),
        ("a.csv", b"name,age\nAnn,3\n", "| Ann | 3 |"),
        ("a.ipynb", NOTEBOOK, "说明文字"),
        ("a.py", b"def f():\n    return 1\n", "def f():\n    return 1\n"),
        ("Dockerfile", b"FROM debian\n", "FROM debian\n"),
        ("a.docx", office("docx"), "# 显存\n\n量化减少显存。"),
        ("a.xlsx", office("xlsx"), "| small | 72 |"),
        ("a.pptx", office("pptx"), "Quantisation"),
    ],
)
def test_formats(convert: Converter, tmp_path: Path, name: str, raw: bytes, expected: str) -> None:
    (tmp_path / "file").write_bytes(raw)
    assert expected in convert(tmp_path / "file", name).content


def test_pdf_knows_its_pages(convert: Converter, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pdf(["First page here", "Second page here"]))
    text = convert(tmp_path / "file", "a.pdf")
    assert text.page_at(text.content.index("First")) == 1
    assert text.page_at(text.content.index("Second")) == 2


def encrypted() -> bytes:
    writer = pypdf.PdfWriter(io.BytesIO(pdf(["secret"])))
    writer.encrypt("password")
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package, package.open("word/document.xml", "w") as part:
        for _ in range(500):
            part.write(bytes(1 << 20))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("a.md", b"", "holds no text"),
        ("a.pdf", b"%PDF-1.4 nonsense", "damaged"),
        ("a.docx", b"PK\x03\x04 nonsense", "damaged or encrypted"),
        ("a.doc", b"old", "not supported"),
        ("a.txt", b"\x00\x01\x02" * 50, "not a text file"),
        ("a.html", b"", "holds no text"),
    ],
)
def test_bad_files_say_why(convert: Converter, tmp_path: Path, name: str, raw: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(Unreadable, match=reason) as caught:
        convert(tmp_path / "file", name)
    assert caught.value.text("zh") != caught.value.text("en")


def test_password(convert: Converter, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(encrypted())
    with pytest.raises(Unreadable, match="password"):
        convert(tmp_path / "file", "a.pdf")


def test_zip_bomb(convert: Converter, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bomb())
    with pytest.raises(Unreadable, match="zip bomb"):
        convert(tmp_path / "file", "a.docx")


def test_200_mib_file_is_refused_before_it_is_read(convert: Converter, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as stream:
        stream.truncate(200 << 20)
    with pytest.raises(Unreadable, match="200 MiB"):
        convert(tmp_path / "file", "a.txt")


def test_a_parser_that_hangs_is_ended_and_the_next_file_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(office("docx"))
    hasty = Converter(seconds=0.001)
    with pytest.raises(Unreadable, match="seconds"):
        hasty(tmp_path / "file", "a.docx")
    hasty.seconds = 60
    assert "量化" in hasty(tmp_path / "file", "a.docx").content
    hasty.close()
