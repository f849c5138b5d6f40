"""PDF and office files made for the tests: good, encrypted and hostile ones."""

import io
import zipfile

import docx
import openpyxl
import pptx
import pypdf


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
