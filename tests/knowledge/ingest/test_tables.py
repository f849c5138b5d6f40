"""Tables of every kind of document: cells that span others, heads, `|` in cells, and what a citation shows of them."""

import io
from collections.abc import Callable

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from docx.table import Table

from app.knowledge.answer.document_pages import text_page
from app.knowledge.answer.source_sentences import source_sentences
from app.knowledge.ingest.chunking import split
from app.knowledge.ingest.documents import Text
from app.knowledge.ingest.tables import as_columns, as_read, cells_of, columns_in
from tabs.shell.documents import highlighted
from tests.knowledge.ingest.conftest import Read
from tests.knowledge.ingest.made_files import sheet, word, zipped

HTML = """<table><thead><tr><th rowspan="2">Item</th><th colspan="2">2025</th></tr><tr><th>Q1</th><th>Q2</th></tr>
</thead><tr><td rowspan="2">Pump</td><td>a|b</td><td>2</td></tr><tr><td colspan="2">none</td></tr>
<tr><td>Rope</td></tr></table>"""
MARKDOWN = """| Item | 2025 Q1 | 2025 Q2 |
| --- | --- | --- |
| Pump | a\\|b | 2 |
| Pump | none |  |
| Rope |  |  |"""
EPUB = {
    "META-INF/container.xml": '<container><rootfiles><rootfile full-path="in/c.opf"/></rootfiles></container>',
    "in/c.opf": """<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>Pumps</dc:title></metadata>
<manifest><item id="1" href="a%20b.xhtml"/></manifest><spine><itemref idref="1"/></spine></package>""",
    "in/a b.xhtml": f"<html><head><title/></head><body>{HTML}</body></html>",
}
ODT_ROWS = """<b:table-header-rows><b:table-row><b:table-cell b:number-rows-spanned="2"><t:p>Item</t:p></b:table-cell>
<b:table-cell b:number-columns-spanned="2"><t:p>2025</t:p></b:table-cell><b:covered-table-cell/></b:table-row>
<b:table-row><b:covered-table-cell/><b:table-cell><t:p>Q1</t:p></b:table-cell><b:table-cell><t:p>Q2</t:p></b:table-cell>
</b:table-row></b:table-header-rows><b:table-row><b:table-cell b:number-rows-spanned="2"><t:p>Pump</t:p></b:table-cell>
<b:table-cell><t:p>a|b</t:p></b:table-cell><b:table-cell><t:p>2</t:p></b:table-cell></b:table-row><b:table-row>
<b:covered-table-cell/><b:table-cell b:number-columns-spanned="2"><t:p>none</t:p></b:table-cell></b:table-row>
<b:table-row><b:table-cell><t:p>Rope</t:p></b:table-cell></b:table-row>"""
ODT = f"""<o:document xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:b="urn:oasis:names:tc:opendocument:xmlns:table:1.0">
<o:body><o:text><b:table>{ODT_ROWS}</b:table></o:text></o:body></o:document>"""


def fill(table: Table) -> None:
    """The table of HTML in a document or on a slide."""
    for row, texts in enumerate(
        [("Item", "2025", ""), ("", "Q1", "Q2"), ("Pump", "a|b", "2"), ("", "none", ""), ("Rope",)]
    ):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    for first, last in ((0, 0), (1, 0)), ((0, 1), (0, 2)), ((2, 0), (3, 0)), ((3, 1), (3, 2)):
        table.cell(*first).merge(table.cell(*last))


def written(kind: str) -> bytes:
    if kind == "docx":
        document = docx.Document()
        fill(document.add_table(5, 3))
        return word(document)
    if kind == "pptx":
        slides = pptx.Presentation()
        fill(slides.slides.add_slide(slides.slide_layouts[6]).shapes.add_table(5, 3, 0, 0, 9999, 9999).table)
        stream = io.BytesIO()
        slides.save(stream)
        return stream.getvalue()
    rows = [["Item", 2025, None], [None, "Q1", "Q2"], ["Pump", "a|b", 2], [None, "none", None], ["Rope"]]
    return sheet(rows, merged="A1:A2 B1:C1 A3:A4 B4:C4")


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.html", HTML.encode()),
        ("a.epub", zipped(**EPUB)),
        ("a.odt", zipped(content_xml=ODT)),
        ("a.docx", written("docx")),
        ("a.xlsx", written("xlsx")),
    ],
)
def test_cells_that_span_others(read: Read, name: str, raw: bytes) -> None:
    content = read(name, raw).content
    assert MARKDOWN in content, content


def test_cells_that_span_rows_of_a_slide(read: Read) -> None:
    content = read("a.pptx", written("pptx")).content
    assert "| Pump | a\\|b | 2 |\n| Pump | none |  |\n| Rope |  |  |" in content, content


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        (
            "<table><caption>Prices</caption><tr><td colspan=2>2026</tr>"
            "<tr><td>Item<td>Price</tr><tr><td>Pump<td>5</tr></table>",
            "Prices\n\n2026\n\n| Item | Price |\n| --- | --- |\n| Pump | 5 |",
        ),
        (
            "<table><tr><td>menu</td><td><table><tr><th>A<th>B</tr><tr><td>1<td>2</tr></table></td></tr></table>",
            "menu\n\n| A | B |\n| --- | --- |\n| 1 | 2 |",
        ),
        (
            "<table><tr><th>A<th>B</tr><tr><td>x<td><table><tr><td>k<td>1</tr><tr><td>l<td>2</tr></table></tr></table>",
            "| A | B |\n| --- | --- |\n| x | k, 1; l, 2 |",
        ),
        (
            "<table><tr><th><th>Price</tr><tr><td>Pump<td>5</tr></table>",
            "|  | Price |\n| --- | --- |\n| Pump | 5 |",
        ),
        (
            "<table><tr><th>A<th>B</tr><tr><td><p>one<p>two_<b>x</b><td><a href='http://e.org/'>l|k</a><br>m</tr></table>",
            "| A | B |\n| --- | --- |\n| one two_**x** | [l\\|k](http://e.org/) m |",
        ),
        ("<table><tr><td>only text</td></tr></table><table></table>", "only text"),
        (
            "<blockquote><p>said</p><table><tr><th>A<th>B</tr><tr><td>1<td>2</tr></table></blockquote>",
            "> said\n>\n\n| A | B |\n| --- | --- |\n| 1 | 2 |",
        ),
        (
            "<table><tr><th>A<th>B</tr><tr><td rowspan=0>x<td>1</tr><tr><td>2</tr></table>",
            "| A | B |\n| --- | --- |\n| x | 1 |\n| x | 2 |",
        ),
    ],
    ids=["caption", "layout", "nested", "corner", "marks", "single", "quotation", "all-rows"],
)
def test_tables_of_a_page(read: Read, html: str, markdown: str) -> None:
    assert read("a.html", html.encode()).content == markdown


def test_a_row_of_a_word_file_that_begins_later(read: Read) -> None:
    document = docx.Document()
    table = document.add_table(2, 3)
    for cell, text in zip([*table.rows[0].cells, *table.rows[1].cells], "ABC12", strict=False):
        cell.text = text
    row = table.rows[1]._tr
    row.remove(row.tc_lst[-1])
    row.get_or_add_trPr().append(parse_xml(f'<w:gridBefore {nsdecls("w")} w:val="1"/>'))
    assert read("a.docx", word(document)).content == "| A | B | C |\n| --- | --- | --- |\n|  | 1 | 2 |"


def long_docx() -> bytes:
    document = docx.Document()
    table = document.add_table(60, 3)
    rows = [("Item", "", "Price|net"), *((f"Pump {at}", "steel, painted green", f"{at} euros") for at in range(59))]
    for row, texts in zip(table.rows, rows, strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    return word(document)


def long_html() -> bytes:
    rows = "".join(f"<tr><td>Pump {at}<td>steel, painted green<td>{at} euros</tr>" for at in range(59))
    return f"<table><tr><th>Item<th><th>Price|net</tr>{rows}</table>".encode()


@pytest.mark.parametrize(("name", "made"), [("a.docx", long_docx), ("a.html", long_html)])
def test_every_passage_of_a_long_table_has_its_head(read: Read, name: str, made: Callable[[], bytes]) -> None:
    text = read(name, made())
    first, *later = split(text)
    assert len(later) > 2 and "Price\\|net" in text.content[first.start : first.end]
    for passage in later:
        assert columns_in(passage.heading[-1]) == ["Item", "", "Price|net"]
        sentences = list(source_sentences(1, text.content[passage.start : passage.end], passage.heading))
        assert all(one.columns == ("Item", "", "Price|net") and len(cells_of(one.text)) == 3 for one in sentences)
        number = cells_of(sentences[0].text)[0].removeprefix("Pump ")
        assert sentences[0].clauses[-1] == f"Price|net Pump {number} {number} euros"


def test_a_citation_shows_a_cell_as_it_is_in_the_file() -> None:
    content = "| Mask | Use |\n| --- | --- |\n| a\\|b | x |\n\nElsewhere \\| stays."
    assert cells_of("| a\\|b | x |") == ["a|b", "x"] and cells_of("| x |  |") == ["x", ""]
    assert columns_in(as_columns(["a | b", "c"], 300)) == ["a | b", "c"]
    assert as_read(content).endswith("| a|b | x |\n\nElsewhere \\| stays.")
    at = content.index("| a")
    assert "<mark>| a|b | x |</mark>" in highlighted(content, [(at, at + 12)])
    page = text_page("a.html", Text(content, "markdown"), (0, len(content)), [(at, at + 12)], "en", "")
    assert "<mark>| a|b | x |</mark>" in page
    assert "a\\|b" in text_page("a.py", Text("| a\\|b", "code"), (0, 6), [], "en", "")
