"""Files to text: every supported format, encodings, and the bad ones each with a reason of their own."""

import io
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import docx
import openpyxl
import pptx
import pylopdf_fonts_zh_cn
import pypdf
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from PIL import Image, ImageDraw, ImageFont
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject, TextStringObject

from app.knowledge.ingest.conversion_worker import Converter, ServerEnds
from app.knowledge.ingest.documents import Unreadable
from app.knowledge.ingest.encoding import decode
from app.knowledge.ingest.pdf_files import joined_lines
from tests.waiting import wait_for


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


def saved(workbook: openpyxl.Workbook) -> bytes:
    stream = io.BytesIO()
    workbook.save(stream)
    return stream.getvalue()


def sheet(rows: list[list[object]], formats: dict[str, str] | None = None, merged: str = "") -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for place, number_format in (formats or {}).items():
        book.active[place].number_format = number_format
    if merged:
        book.active.merge_cells(merged)
    return saved(book)


def zipped(**parts: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        for name, content in parts.items():
            package.writestr(name.replace("_xml", ".xml"), content)
    return stream.getvalue()


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
    ],
    ids=["types", "formulas", "formats", "titles and merged cells", "marks of tables"],
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
    ],
)
def test_separated_values(convert: Converter, tmp_path: Path, name: str, text: str, line: str) -> None:
    assert line in converted(convert, tmp_path, name, text.encode("utf-8-sig"))


TEXTS = {
    "gb18030": ["国标编码的文件讲苹果树", "你好", "量化减少显存。"],
    "big5": ["繁體中文的文件討論蘋果樹與顯示記憶體。", "記憶體"],
    "shift_jis": ["量子化するとメモリが減ります。", "名前,年齢\n山田,3"],
    "euc_jp": ["量子化するとメモリが減ります。東京都庁は新宿にあります。"],
    "iso2022_jp": ["量子化するとメモリが減ります。"],
    "cp949": ["양자화는 메모리를 줄입니다. 서울은 한국의 수도입니다."],
    "cp1251": ["Ключ от котельной выдаётся каждый вторник утром."],
    "koi8_r": ["Ключ от котельной выдаётся каждый вторник утром."],
    "cp1250": ["Zażółć gęślą jaźń, proszę przyjść we wtorek."],
    "cp1252": ["Die Schlüsselübergabe für das Kesselhaus", "Müller;Süd;3\nWeiß;Nord;4", "naïve “quotes” – dash"],
    "cp1253": ["Το κλειδί παραδίδεται κάθε Τρίτη πρωί."],
    "cp1254": ["Anahtar her salı sabahı teslim edilir, İstanbul şubesi."],
    "utf-16-le": ["Plain text without a mark.", "国标编码的文件\n讲苹果树"],
    "utf-16-be": ["Plain text without a mark."],
    "utf-16": ["Text with a mark 国标"],
    "utf-8": ["Ключ für 鍵"],
}


@pytest.mark.parametrize(("encoding", "text"), [(name, text) for name, texts in TEXTS.items() for text in texts])
def test_encodings(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == (text, ("", ""))


def test_an_encoding_can_be_said_and_damage_is_told() -> None:
    assert decode("Да".encode("cp866"), "notes.cp866.txt")[0] == "Да"
    text, note = decode("国标编码的文件讲苹果树".encode() + b"\xff!")
    assert text == "国标编码的文件讲苹果树\ufffd!" and "1 places" in note[1] and "1 处" in note[0]


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


RTF = rb"{\rtf1\ansi\ansicpg1252{\b Pumpe}: gr\'fcn, 31 \u8364?.}"
ODT = zipped(
    mimetype="application/vnd.oasis.opendocument.text",
    content_xml="""<o:document xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:b="urn:oasis:names:tc:opendocument:xmlns:table:1.0">
<o:body><o:text><t:h t:outline-level="2">Pumps</t:h><t:p>The pump<t:s/>is <t:span>blue</t:span>.</t:p><b:table>
<b:table-row><b:table-cell><t:p>a</t:p></b:table-cell><b:table-cell><t:p>b</t:p></b:table-cell></b:table-row>
</b:table></o:text></o:body></o:document>""",
)
EPUB = zipped(
    **{
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="c.opf"/></rootfiles></container>',
        "c.opf": '<package><manifest><item id="1" href="one.xhtml"/></manifest>'
        '<spine><itemref idref="1"/></spine></package>',
        "one.xhtml": "<html><body><h1>Tides</h1><p>The moon pulls the sea.</p></body></html>",
    },
)


@pytest.mark.parametrize(
    ("name", "raw", "parts"),
    [
        ("a.rtf", RTF, ["Pumpe: grün, 31 €."]),
        ("a.odt", ODT, ["## Pumps", "The pump is blue.", "| a | b |"]),
        ("a.epub", EPUB, ["# Tides", "The moon pulls the sea."]),
        ("a.html", b"<table><tr><th>x</th></tr><tr><td>7</td></tr></table>", ["| x |", "| 7 |"]),
        (
            "a.html",
            b"<table><tr><td>Item<td>Price</tr><tr><td rowspan=2>Pump<td>5</tr><tr><td>6</tr></table>",
            ["| Item | Price |\n| --- | --- |\n| Pump | 5 |\n| Pump | 6 |"],
        ),
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
    chinese = "四比特量化把一个模型占用的显存降到原来的三成左右，代价是\n生成速度略有下降。\n另一段。"
    assert joined_lines(chinese) == chinese.replace("代价是\n", "代价是")
    table = "apple red 12\npear green 7\nName Age City"
    assert joined_lines(table) == table


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


def test_a_parser_that_hangs_is_ended_and_the_next_file_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(office("docx"))
    hasty = Converter(seconds=0.001)
    with pytest.raises(Unreadable, match="seconds"):
        hasty(tmp_path / "file", "a.docx")
    hasty.seconds = 60
    assert "量化" in hasty(tmp_path / "file", "a.docx").content
    hasty.close()


def test_one_visitor_s_slow_file_holds_up_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(office("docx"))
    os.mkfifo(tmp_path / "slow")
    with closing(Converter()) as converter, ThreadPoolExecutor() as pool:
        slow = pool.submit(converter, tmp_path / "slow", "a.docx", "ada")
        with (tmp_path / "slow").open("wb") as writing:  # opens once it is being read
            behind = pool.submit(converter, tmp_path / "file", "a.docx", "ada")
            wait_for(lambda: converter.is_waiting("ada"))
            assert "量化" in converter(tmp_path / "file", "a.docx", "lin").content
            assert converter.is_waiting("ada") and not slow.done()
            writing.write(office("docx"))
        assert "量化" in slow.result(60).content and "量化" in behind.result(60).content


def test_a_file_that_hangs_is_given_up_sooner_while_others_wait(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(office("docx"))
    with (
        closing(Converter(contended_seconds=0.1)) as converter,
        ThreadPoolExecutor() as pool,
        ExitStack() as held,
    ):
        hanging = []
        for name in ("ada", "lin"):
            os.mkfifo(tmp_path / name)
            hanging.append(pool.submit(converter, tmp_path / name, "a.docx", name))
            held.enter_context((tmp_path / name).open("wb"))
        assert "量化" in converter(tmp_path / "file", "a.docx", "eve").content
        held.close()
        told = [str(one.exception(60)) for one in hanging]
    assert any("over 0 seconds" in one for one in told), told


def test_a_file_that_hangs_keeps_no_server_from_ending(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow")
    converter = Converter()
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(converter, tmp_path / "slow", "a.docx", "ada")
        with (tmp_path / "slow").open("wb"):
            behind = pool.submit(converter, tmp_path / "slow", "a.docx", "ada")
            wait_for(lambda: converter.is_waiting("ada"))
            converter.close()
            assert [type(one.exception(60)) for one in (slow, behind)] == [ServerEnds, ServerEnds]
