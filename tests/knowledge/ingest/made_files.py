"""PDF and office files made for the tests: good, encrypted and hostile ones."""

import io
import zipfile

import docx
import openpyxl
import pptx
import pypdf
from docx.document import Document as DocxDocument
from openpyxl.styles import Font
from openpyxl.worksheet.table import Table

TYPES, RELATIONS = "[Content_Types].xml", "word/_rels/document.xml.rels"
OFFICE = "application/vnd.openxmlformats-officedocument."
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def pdf_table(rows: list[list[str]], gap: int) -> bytes:
    """A page with a cell of Helvetica every `gap` points, each placed by itself, as tables are printed."""
    cells = [(72 + at * gap, 700 - 18 * line, cell) for line, row in enumerate(rows) for at, cell in enumerate(row)]
    return pdf([") Tj " + " ".join(f"1 0 0 1 {x} {y} Tm ({cell}) Tj" for x, y, cell in cells) + " ("])


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


def saved(workbook: openpyxl.Workbook) -> bytes:
    stream = io.BytesIO()
    workbook.save(stream)
    return stream.getvalue()


def sheet(
    rows: list[list[object]], formats: dict[str, str] | None = None, merged: str = "", bold: str = "", table: str = ""
) -> bytes:
    """Cells by rows; `merged` and `bold` are areas or cells with spaces between them, `table` is a table of Excel's."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for place, number_format in (formats or {}).items():
        book.active[place].number_format = number_format
    for area in merged.split():
        book.active.merge_cells(area)
    for place in bold.split():
        book.active[place].font = Font(bold=True)
    if table:
        book.active.add_table(Table(displayName="Named", ref=table))
    return saved(book)


def word(document: DocxDocument, **parts: str) -> bytes:
    """The file of a document; `parts` (footnotes, endnotes) are added with what refers to them."""
    stream = io.BytesIO()
    document.save(stream)
    changed = io.BytesIO()
    with zipfile.ZipFile(stream) as package, zipfile.ZipFile(changed, "w") as copy:
        for name in package.namelist():
            content = package.read(name).decode() if name in (TYPES, RELATIONS) else package.read(name)
            for part in parts if isinstance(content, str) else ():
                kind = f'<Override PartName="/word/{part}.xml" ContentType="{OFFICE}wordprocessingml.{part}+xml"/>'
                link = f'<Relationship Id="{part}" Type="{LINKS}/{part}" Target="{part}.xml"/>'
                content = content.replace("</Types>", kind + "</Types>").replace("</Relat", link + "</Relat")
            copy.writestr(name, content)
        for part, content in parts.items():
            copy.writestr(f"word/{part}.xml", content)
    return changed.getvalue()


def zipped(**parts: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        for name, content in parts.items():
            package.writestr(name.replace("_xml", ".xml"), content)
    return stream.getvalue()


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
