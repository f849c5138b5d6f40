"""Files to text: every supported format, and the bad ones each with a reason of their own."""

import io
import json
from datetime import datetime
from pathlib import Path

import docx
import pptx
import pylopdf_fonts_zh_cn
import pypdf
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from openpyxl.worksheet.formula import ArrayFormula, DataTableFormula
from PIL import Image, ImageDraw, ImageFont
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject, TextStringObject

from app.knowledge.ingest.conversion_worker import Converter
from app.knowledge.ingest.documents import Unreadable
from app.knowledge.ingest.pdf_files import joined_lines
from tests.knowledge.ingest.made_files import bomb, encrypted, office, pdf, sheet, zipped


@pytest.fixture(scope="module")
def convert() -> object:
    converter = Converter()
    yield converter
    converter.close()


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


def converted(convert: Converter, tmp_path: Path, name: str, raw: bytes) -> str:
    (tmp_path / "file").write_bytes(raw)
    return convert(tmp_path / "file", name).content


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (
            sheet([["Phone", "Paid", "Due"], [13800000001, True, datetime(2026, 1, 5)], [None, False, None]]),
            ["| 13800000001 | TRUE | 2026-01-05 |", "|  | FALSE |  |"],
        ),
        (sheet([["Item", "Total"], ["Rope", "=B9*2"]]), ["| Rope | =B9*2 |"]),
        (
            sheet([["Rate", "Sum", "Code"], [0.256, 1234.5, 7]], {"A2": "0.0%", "B2": "#,##0.00", "C2": "00000"}),
            ["| 25.6% | 1,234.50 | 00007 |"],
        ),
        (
            sheet([["Report 2026"], [], ["City", "People"], ["Ulm", 126405], [None, 3]], merged="A4:A5"),
            ["Report 2026\n\n| City | People |", "| Ulm | 126405 |\n| Ulm | 3 |"],
        ),
        (sheet([["a|b", "two\nlines"], [0.1 + 0.2, 1e-7]]), ["| a\\|b | two lines |", "| 0.3 | 0.0000001 |"]),
        (
            sheet([["Item", "Twice"], [3, ArrayFormula("B2", "=A2:A3*2")], [1, DataTableFormula("B3", r1="D1")]]),
            ["| 3 | =A2:A3*2 |", "| 1 | =TABLE(D1,) |"],
        ),
    ],
    ids=["types", "formulas", "formats", "titles and merged cells", "marks of tables", "array formulas"],
)
def test_sheets_are_read_as_they_are_shown(convert: Converter, tmp_path: Path, raw: bytes, lines: list[str]) -> None:
    content = converted(convert, tmp_path, "a.xlsx", raw)
    assert all(line in content for line in lines), content
    assert not any(word in content for word in ("NaN", "NaT", "Unnamed", "e+"))


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "Name;Region;Betrag\nMüller;Süd;1.234,50\nWeiß;Nord;99,90\n", "| Müller | Süd | 1.234,50 |"),
        ("a.csv", 'name,note\nAnn,"one, two; three"\nBob,"x;y"\n', "| Ann | one, two; three |"),
        ("a.csv", "sep=|\nname|age\nAnn|3\n", "| Ann | 3 |"),
        ("a.tsv", "name\tage\nAnn\t3,5\n", "| Ann | 3,5 |"),
        ("a.csv", "名称\n苹果\n", "| 苹果 |"),
        ("a.csv", "name,badge\nA,red\n\nB,blue\nC,green\n", "| A | red |\n| B | blue |\n| C | green |"),
        ("a.csv", "Item;Price\nRope;3\n;\nCity;People\nUlm;5\n", "| City | People |\n| --- | --- |\n| Ulm | 5 |"),
    ],
)
def test_separated_values(convert: Converter, tmp_path: Path, name: str, text: str, line: str) -> None:
    assert line in converted(convert, tmp_path, name, text.encode("utf-8-sig"))


def test_word_headers_footers_comments_and_tracked_changes(convert: Converter, tmp_path: Path) -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Header osprey"
    document.sections[0].footer.paragraphs[0].text = "Footer bittern"
    run = document.add_paragraph("The pump is blue.").runs[0]
    document.add_comment(run, text="Is it?", author="Ann")
    changed = document.add_paragraph("The price is ")._p
    for tag, text, inner in (("del", "delText", "one"), ("ins", "t", "two"), ("moveTo", "t", " moved")):
        changed.append(parse_xml(f"<w:{tag} {nsdecls('w')} w:id='9'><w:r><w:{text}>{inner}</w:{text}></w:r></w:{tag}>"))
    stream = io.BytesIO()
    document.save(stream)
    content = converted(convert, tmp_path, "a.docx", stream.getvalue())
    assert content.startswith("Header osprey\n") and content.endswith("Footer bittern")
    assert "> Ann: Is it? [The pump is blue.]" in content
    assert "The price is two moved" in content and "one" not in content


@pytest.mark.parametrize("version", [3, 4])
def test_notebooks_with_what_they_printed(convert: Converter, tmp_path: Path, version: int) -> None:
    if version == 4:
        outputs = [
            {"output_type": "stream", "text": ["high water at 3.71\n"]},
            {"output_type": "execute_result", "data": {"text/plain": "'spring tide'", "image/png": "AAAA"}},
            {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": []},
        ]
        cells = [{"cell_type": "code", "source": "print(height)", "outputs": outputs}]
        book: dict[str, object] = {"nbformat": 4, "cells": cells}
    else:
        outputs = [
            {"output_type": "stream", "text": "high water at 3.71\n"},
            {"output_type": "pyout", "text": ["'spring tide'"]},
            {"output_type": "pyerr", "ename": "KeyError", "evalue": "'x'"},
        ]
        cells = [{"cell_type": "code", "input": ["print(height)"], "outputs": outputs}]
        cells.insert(0, {"cell_type": "heading", "level": 2, "source": "Tides"})  # type: ignore[dict-item]
        book = {"nbformat": 3, "worksheets": [{"cells": cells}]}
    content = converted(convert, tmp_path, "a.ipynb", json.dumps(book).encode())
    for part in ("print(height)", "high water at 3.71", "'spring tide'", "KeyError: 'x'"):
        assert part in content
    assert "AAAA" not in content and ("## Tides" in content) == (version == 3)


@pytest.mark.parametrize("metadata", [None, {"kernelspec": None}])
def test_a_notebook_with_empty_parts_is_read(convert: Converter, tmp_path: Path, metadata: object) -> None:
    cells = [{"cell_type": "code", "source": "x = 1", "outputs": [None, {"output_type": "stream", "text": "3.71"}]}]
    book = json.dumps({"nbformat": 4, "metadata": metadata, "cells": cells})
    content = converted(convert, tmp_path, "a.ipynb", book.encode())
    assert "x = 1" in content and "3.71" in content


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
def test_further_formats(convert: Converter, tmp_path: Path, name: str, raw: bytes, parts: list[str]) -> None:
    content = converted(convert, tmp_path, name, raw)
    assert all(part in content for part in parts), content


def test_scanned_pages_and_filled_in_fields_of_a_pdf(convert: Converter, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pdf(["Text here", "", "", "More text", ""]))
    text = convert(tmp_path / "file", "a.pdf")
    assert text.note == (
        "第 2-3, 5 页没有文字（可能是扫描页），没有读到。",
        "Pages 2-3, 5 hold no text (probably a scan) and could not be read.",
    )
    writer = pypdf.PdfWriter(io.BytesIO(pdf(["Form"])))
    names = {
        NameObject(f"/{key}"): value
        for key, value in {
            "Type": NameObject("/Annot"),
            "Subtype": NameObject("/Widget"),
            "FT": NameObject("/Tx"),
            "T": TextStringObject("Surname"),
            "V": TextStringObject("Größl"),
            "Rect": ArrayObject([NumberObject(n) for n in (10, 10, 90, 30)]),
        }.items()
    }
    field = writer._add_object(DictionaryObject(names))
    writer.pages[0][NameObject("/Annots")] = ArrayObject([field])
    writer.root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): ArrayObject([field])})
    stream = io.BytesIO()
    writer.write(stream)
    assert "Surname: Größl" in converted(convert, tmp_path, "a.pdf", stream.getvalue())


@pytest.mark.slow
def test_scanned_pages_are_read_by_ocr_where_it_is_installed(convert: Converter, tmp_path: Path) -> None:
    """`make test` installs requirements-ocr.txt; without it such pages are only named, as above."""
    pytest.importorskip("rapidocr")
    chinese = ImageFont.truetype(Path(pylopdf_fonts_zh_cn.__file__).with_name("NotoSansSC-Regular.otf"), 40)
    page = Image.new("RGB", (900, 500), "white")
    draw = ImageDraw.Draw(page)
    draw.text((60, 60), "The quarterly budget is 4,200 euros.", "black", ImageFont.load_default(40))
    draw.text((60, 200), "量化把显存降到三成。", "black", chinese)
    page.save(tmp_path / "file", "pdf")
    text = convert(tmp_path / "file", "scan.pdf")
    assert "The quarterly budget is 4,200 euros." in text.content
    assert "量化把显存降到三成" in text.content
    assert text.note[1] == "Page 1 was read by OCR from a scan and may hold mistakes."


def test_lines_that_a_column_cut_are_joined_and_rows_are_not() -> None:
    cut = "4-bit loading cuts the memory of a model to about\nthirty percent of its origi-\nnal size.\nIt is slow."
    whole = "4-bit loading cuts the memory of a model to about thirty percent of its original size.\nIt is slow."
    assert joined_lines(cut) == whole
    russian = "Насос в подвале иногда останавливается\nи включается снова, когда вода холодная."
    assert joined_lines(russian) == russian.replace("\n", " ")
    chinese = "四比特量化把一个模型占用的显存降到原来的三成左右，代价是\n生成速度略有下降。\n另一段。"
    assert joined_lines(chinese) == chinese.replace("代价是\n", "代价是")
    table = "apple red 12\npear green 7\nName Age City"
    assert joined_lines(table) == table


def test_pdf_knows_its_pages(convert: Converter, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pdf(["First page here", "Second page here"]))
    text = convert(tmp_path / "file", "a.pdf")
    assert text.page_at(text.content.index("First")) == 1
    assert text.page_at(text.content.index("Second")) == 2


def test_raised_and_lowered_figures_of_a_pdf(convert: Converter, tmp_path: Path) -> None:
    up, down, back = ") Tj /F 7 Tf 5 Ts (", ") Tj /F 7 Tf -2 Ts (", ") Tj 0 Ts /F 12 Tf ("
    line = f"It weighs 10{up}-3{back} kg of H{down}2{back}O, x{up}2{back} and y{up}2{back}, see note{up}12{back} on"
    content = converted(convert, tmp_path, "a.pdf", pdf([f"{line} page 10{down}x{back}", "10 and 3"]))
    assert "It weighs 10⁻³ kg of H₂O, x² and y², see note¹² on page 10" in content and "10 and 3" in content


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
