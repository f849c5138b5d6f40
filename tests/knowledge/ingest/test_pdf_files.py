"""PDF to text: pages, scans, fields, lines that belong together, raised figures, cells of tables."""

import io
from pathlib import Path

import pylopdf_fonts_zh_cn
import pypdf
import pytest
from PIL import Image, ImageDraw, ImageFont
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject, TextStringObject

from app.knowledge.ingest.pdf_files import joined_lines
from tests.knowledge.ingest.conftest import Read
from tests.knowledge.ingest.made_files import pdf, pdf_table


def test_scanned_pages_and_filled_in_fields_of_a_pdf(read: Read) -> None:
    text = read("a.pdf", pdf(["Text here", "", "", "More text", ""]))
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
    assert "Surname: Größl" in read("a.pdf", stream.getvalue()).content


@pytest.mark.slow
def test_scanned_pages_are_read_by_ocr_where_it_is_installed(read: Read) -> None:
    """`make test` installs requirements-ocr.txt; without it such pages are only named, as above."""
    pytest.importorskip("rapidocr")
    chinese = ImageFont.truetype(Path(pylopdf_fonts_zh_cn.__file__).with_name("NotoSansSC-Regular.otf"), 40)
    page = Image.new("RGB", (900, 500), "white")
    draw = ImageDraw.Draw(page)
    draw.text((60, 60), "The quarterly budget is 4,200 euros.", "black", ImageFont.load_default(40))
    draw.text((60, 200), "量化把显存降到三成。", "black", chinese)
    scan = io.BytesIO()
    page.save(scan, "pdf")
    text = read("scan.pdf", scan.getvalue())
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


def test_pdf_knows_its_pages(read: Read) -> None:
    text = read("a.pdf", pdf(["First page here", "Second page here"]))
    assert text.page_at(text.content.index("First")) == 1
    assert text.page_at(text.content.index("Second")) == 2


def test_raised_and_lowered_figures_of_a_pdf(read: Read) -> None:
    up, down, back = ") Tj /F 7 Tf 5 Ts (", ") Tj /F 7 Tf -2 Ts (", ") Tj 0 Ts /F 12 Tf ("
    line = f"It weighs 10{up}-3{back} kg of H{down}2{back}O, x{up}2{back} and y{up}2{back}, see note{up}12{back} on"
    content = read("a.pdf", pdf([f"{line} page 10{down}x{back}", "10 and 3"])).content
    assert "It weighs 10⁻³ kg of H₂O, x² and y², see note¹² on page 10" in content and "10 and 3" in content


@pytest.mark.parametrize("gap", [15, 20, 30, 60, 120])
def test_cells_of_one_character_stand_apart(read: Read, gap: int) -> None:
    assert read("a.pdf", pdf_table([["A", "B", "C"], ["1", "2", "3"]], gap)).content == "A B C\n1 2 3\n\n"


def test_cells_of_one_character_stand_apart_from_longer_ones(read: Read) -> None:
    content = read("a.pdf", pdf_table([["Name", "A", "B"], ["Pump", "1", "x"], ["Rope red", "12", "4"]], 90)).content
    assert content == "Name A B\nPump 1 x\nRope red 12 4\n\n"
    spaced = read("a.pdf", pdf([") Tj 3 Tc (SPACED) Tj 0 Tc ("])).content
    assert spaced.strip() == "SPACED"
