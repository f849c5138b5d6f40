"""Render an illustrated article as HTML: text with pictures, and further candidates for a place."""

from html import escape
from io import BytesIO

from PIL import Image

from app.pictures import as_jpeg, data_url
from app.story.article import Place
from app.story.illustrating import Workspace
from app.story.outline import HEADING
from tabs.shell.page import Visitor

SHOWN, THUMBNAIL = 900, 240  # pixels of the longer side
CHOICES = 6


def magazine(visitor: Visitor, workspace: Workspace, chosen: int | None = None) -> str:
    """Text and pictures in columns; each figure can be chosen."""
    article = workspace.article
    if article is None:
        return ""
    parts = [f"<h2>{escape(article.title)}</h2>"]
    for number, paragraph in enumerate(article.paragraphs):
        heading = paragraph.startswith(HEADING)
        text = escape(paragraph.removeprefix(HEADING))
        parts.append(f"<h3>{text}</h3>" if heading else f"<p>{text}</p>")
        if (place := article.at(number)) is not None:
            parts.append(_figure(visitor, workspace, place, number == chosen))
    return f'<article class="magazine">{"".join(parts)}</article>'


def choices(workspace: Workspace, chosen: int | None) -> str:
    """The best pictures for the chosen place."""
    place = workspace.article.at(chosen) if workspace.article and chosen is not None else None
    if place is None:
        return ""
    images = [
        f'<img role="button" tabindex="0" data-picture="{picture}" alt="{escape(workspace.names[picture], quote=True)}"'
        f"{' class=chosen' if picture == place.chosen else ''}"
        f' src="{_address(workspace.pictures[picture], THUMBNAIL)}">'
        for picture in place.ranking[:CHOICES]
    ]
    return f'<div class="choices">{"".join(images)}</div>'


def _figure(visitor: Visitor, workspace: Workspace, place: Place, chosen: bool) -> str:
    caption = escape(place.caption)
    if place.chosen is None:
        shown = f'<div class="empty">{escape(visitor.text("story.no_place"))}</div>'
    else:
        shown = (
            f'<img src="{_address(workspace.pictures[place.chosen], SHOWN)}" alt="{escape(place.caption, quote=True)}">'
        )
    mark = " class=chosen" if chosen else ""
    head = f'<figure role="button" tabindex="0" data-place="{place.paragraph}"{mark}>'
    return f"{head}{shown}<figcaption>{caption}</figcaption></figure>"


def _address(data: bytes, longest: int) -> str:
    picture = Image.open(BytesIO(data))
    picture.thumbnail((longest, longest))
    return data_url(as_jpeg(picture))
