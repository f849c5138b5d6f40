"""Files to text: every supported format, and the bad ones each with a reason of their own."""

import io
import json
from pathlib import Path

import docx
import pptx
import pytest

from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.documents import Unreadable
from tests.knowledge.ingest.conftest import Read
from tests.knowledge.ingest.made_files import bomb, encrypted, office, pdf, sheet, zipped

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
def test_formats(read: Read, name: str, raw: bytes, expected: str) -> None:
    assert expected in read(name, raw).content


RTF = rb"{\rtf1\ansi\ansicpg1252{\b Pumpe}: gr\'fcn, 31 \u8364?.}"
ODT_XML = """<o:document xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:b="urn:oasis:names:tc:opendocument:xmlns:table:1.0">
<o:body><o:text><t:h t:outline-level="2">Pumps</t:h><t:p>The pump<t:s/>is <t:span>blue</t:span>.</t:p><b:table>
<b:table-row><b:table-cell><t:p>a</t:p></b:table-cell><b:table-cell><t:p>b</t:p></b:table-cell></b:table-row>
</b:table></o:text></o:body></o:document>"""
ODT = zipped(mimetype="application/vnd.oasis.opendocument.text", content_xml=ODT_XML)
EPUB_PARTS = {
    "META-INF/container.xml": '<container><rootfiles><rootfile full-path="c.opf"/></rootfiles></container>',
    "c.opf": '<package><manifest><item id="1" href="one.xhtml"/></manifest>'
    '<spine><itemref idref="1"/></spine></package>',
    "one.xhtml": "<html><body><h1>Tides</h1><p>The moon pulls the sea.</p></body></html>",
}
RAISED_ODT = zipped(
    content_xml="""<o:document xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:s="urn:oasis:names:tc:opendocument:xmlns:style:1.0">
<o:automatic-styles><s:style s:name="T1"><s:text-properties s:text-position="super 58%"/></s:style>
<s:style s:name="T2"><s:text-properties s:text-position="-33% 58%"/></s:style></o:automatic-styles>
<o:body><o:text><t:p>10<t:span t:style-name="T1">3</t:span> and H<t:span t:style-name="T2">2</t:span>O, 2<t:span
 t:style-name="T1">nd</t:span></t:p></o:text></o:body></o:document>""",
)


def raised_office(kind: str) -> bytes:
    """`10³ and H₂O, 2nd` by the formats of its runs; on a slide `10³` alone."""
    stream = io.BytesIO()
    if kind == "docx":
        document = docx.Document()
        paragraph = document.add_paragraph("10")
        for text, position in (("3", "up"), (" and H", ""), ("2", "down"), ("O, 2", ""), ("nd", "up")):
            font = paragraph.add_run(text).font
            if position:
                setattr(font, "superscript" if position == "up" else "subscript", True)
        document.save(stream)
    else:
        slides = pptx.Presentation()
        paragraph = slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text_frame.paragraphs[0]
        for text, baseline in (("10", "0"), ("3", "30000")):
            run = paragraph.add_run()
            run.text = text
            run.font._element.set("baseline", baseline)
        slides.save(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "raw", "parts"),
    [
        ("a.rtf", RTF, ["Pumpe: grün, 31 €."]),
        ("a.odt", ODT, ["## Pumps", "The pump is blue.", "| a | b |"]),
        ("a.odt", zipped(content_xml=ODT_XML.replace('level="2"', 'level="none"')), ["# Pumps"]),
        ("a.epub", zipped(**EPUB_PARTS), ["# Tides", "The moon pulls the sea."]),
        ("a.html", b"<table><tr><th>x</th></tr><tr><td>7</td></tr></table>", ["| x |", "| 7 |"]),
        (
            "a.html",
            b"<table><tr><td>Item<td>Price</tr><tr><td rowspan=2>Pump<td>5</tr><tr><td>6</tr></table>",
            ["| Item | Price |\n| --- | --- |\n| Pump | 5 |\n| Pump | 6 |"],
        ),
        ("a.html", b"<p>10<sup>3</sup> H<sub>2</sub>O 5<sup>th</sup></p>", ["10³ H₂O 5th"]),
        ("a.html", b"<p>2<sup>-k1</sup> Ca<sup>2+</sup> x<sub>ij</sub></p>", ["2^(-k1) Ca²⁺ xij"]),
        ("a.rtf", RTF.replace(b"31", b"10{\\super 3} m{\\b\\super 2}"), ["10³ m²"]),
        ("a.docx", raised_office("docx"), ["10³ and H₂O, 2nd"]),
        ("a.pptx", raised_office("pptx"), ["10³"]),
        ("a.odt", RAISED_ODT, ["10³ and H₂O, 2nd"]),
        ("a.epub", zipped(**EPUB_PARTS | {"one.xhtml": "<html><body>10<sup>3</sup></body></html>"}), ["10³"]),
        (
            "a.txt",
            "soft\xadware, \ufb01le, zero\u200bwidth, e\u2011mail".encode(),
            ["software, file, zerowidth, e-mail"],
        ),
        ("a.txt", "\u2f64\u2f12 \u2ee2 Schlu\u0308ssel".encode(), ["用力 马 Schlüssel"]),
        ("named wrong.docx", sheet([["Item", "Price"], ["Pump", 5]]), ["| Pump | 5 |"]),
        ("export.xlsx", b"<html><table><tr><th>Item</th></tr><tr><td>Pump</td></tr></table></html>", ["| Pump |"]),
        ("a.txt", "Zażółć gęślą jaźń. Pompa każdy wtorek.".encode("iso8859-2"), ["Zażółć gęślą jaźń"]),
        ("a.txt", "Zażółć gęślą jaźń. Pompa każdy wtorek.".encode("cp1250"), ["Zażółć gęślą jaźń"]),
        ("a.md", b"It is $E = mc^2$ and <table><tr><td>7</td></tr></table>", ["$E = mc^2$", "<td>7</td>"]),
    ],
)
def test_further_formats(read: Read, name: str, raw: bytes, parts: list[str]) -> None:
    content = read(name, raw).content
    assert all(part in content for part in parts), content


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("a.md", b"", "holds no text"),
        ("a.pdf", b"%PDF-1.4 nonsense", "damaged"),
        ("a.docx", b"PK\x03\x04 nonsense", "damaged or encrypted"),
        ("a.doc", b"old", "save it as .docx or PDF"),
        ("a.xls", b"old", "save it as .xlsx or PDF"),
        ("a.docx", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(99), "password, or is of an older format"),
        ("a.exe", b"MZ", "not supported"),
        ("a.txt", bytes(range(128, 256)), "encoding is not certain"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not a text file"),
        ("a.ipynb", b"{}", "damaged"),
        ("a.txt", b"\x00\x01\x02" * 50, "not a text file"),
        ("a.html", b"", "holds no text"),
        ("a.pdf", b"", "it is empty"),
        ("a.txt", pdf(["A PDF"]), "this is a .pdf file. Rename it"),
    ],
)
def test_bad_files_say_why(read: Read, name: str, raw: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as caught:
        read(name, raw)
    assert caught.value.text("zh") != caught.value.text("en")


def test_password(read: Read) -> None:
    with pytest.raises(Unreadable, match="password"):
        read("a.pdf", encrypted())


def test_zip_bomb(read: Read) -> None:
    with pytest.raises(Unreadable, match="zip bomb"):
        read("a.docx", bomb())


def test_200_mib_file_is_refused_before_it_is_read(converter: Converter, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as stream:
        stream.truncate(200 << 20)
    with pytest.raises(Unreadable, match="200 MiB"):
        converter(tmp_path / "file", "a.txt")
