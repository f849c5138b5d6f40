"""Export a story or an illustrated article as Markdown, Word (docx) or a ZIP file with its pictures."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from app.pictures import data_url
from app.story.outline import HEADING

NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
PICTURE_INCHES = 5.5


@dataclass(frozen=True)
class Picture:
    """A picture with its caption, as JPEG."""

    data: bytes
    caption: str = ""


def markdown(
    title: str, paragraphs: Sequence[str], pictures: Mapping[int, Picture] | None = None, *, alone: bool = False
) -> str:
    """Headings and paragraphs; `pictures` stand after the paragraph of their number.

    They are in the folder pictures/ beside it, or, for a file that stands `alone`, in the text itself.
    """
    parts = [f"# {title}"]
    for place, paragraph in enumerate(paragraphs):
        parts.append(paragraph)
        if pictures and place in pictures:
            picture = pictures[place]
            alt = re.sub(r"[\[\]\n]", " ", picture.caption).strip()
            parts.append(f"![{alt}]({data_url(picture.data) if alone else f'pictures/{picture_name(place)}'})")
            parts += [f"*{alt}*"] if alt else []
    return "\n\n".join(parts) + "\n"


def docx(title: str, paragraphs: Sequence[str], pictures: Mapping[int, Picture] | None = None) -> bytes:
    """A Word document with its own heading styles, so that a table of contents can be made."""
    from docx import Document
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Inches

    document: Any = Document()
    document.core_properties.title = _plain(title)
    document.core_properties.author = ""
    document.add_heading(_plain(title), 0)
    for place, paragraph in enumerate(paragraphs):
        if paragraph.startswith(HEADING):
            document.add_heading(_plain(paragraph.removeprefix(HEADING)), 1)
        else:
            document.add_paragraph(_plain(paragraph))
        if pictures and place in pictures:
            document.add_picture(BytesIO(pictures[place].data), width=Inches(PICTURE_INCHES))
            document.paragraphs[-1].alignment = WD_ALIGN_PARAGRAPH.CENTER
            if pictures[place].caption:
                caption = document.add_paragraph(_plain(pictures[place].caption), style="Caption")
                caption.alignment = WD_ALIGN_PARAGRAPH.CENTER
    made = BytesIO()
    document.save(made)
    return made.getvalue()


def archive(title: str, paragraphs: Sequence[str], pictures: Mapping[int, Picture] | None = None) -> bytes:
    """The Markdown, the Word document and the pictures."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("story.md", markdown(title, paragraphs, pictures))
        packed.writestr("story.docx", docx(title, paragraphs, pictures))
        for place, picture in (pictures or {}).items():
            packed.writestr(f"pictures/{picture_name(place)}", picture.data)
    return made.getvalue()


def picture_name(place: int) -> str:
    return f"{place + 1:03}.jpg"


def _plain(text: str) -> str:
    """Word's XML takes no control characters."""
    return NO_XML.sub("", text)
