"""Download handlers of a story: Markdown, Word, ZIP with the pictures of its article."""

from app.files import file_name, first_words
from app.story import export
from app.story.draft import Draft, draft_from
from app.story.errors import NothingWritten
from app.story.illustrating import IllustrationService
from tabs.shell.page import Visitor


def export_markdown(visitor: Visitor, stored: object) -> tuple[str, str]:
    """The story as Markdown, text alone."""
    draft, title = _for_export(visitor, stored)
    return file_name(title, "md", "story"), export.markdown(title, draft.paragraphs)


def export_bytes(illustration: IllustrationService, kind: str, visitor: Visitor, stored: object) -> tuple[str, bytes]:
    """The story for Word, or all in one zip."""
    draft, title = _for_export(visitor, stored)
    make = export.docx if kind == "docx" else export.archive
    pictures = illustration.pictures_for(visitor.session, draft.paragraphs)
    return file_name(title, kind, "story"), make(title, draft.paragraphs, pictures)


def _for_export(visitor: Visitor, stored: object) -> tuple[Draft, str]:
    draft = draft_from(stored)
    if not draft.paragraphs:
        raise NothingWritten
    return draft, first_words(str(draft.inputs.get("premise") or "")) or visitor.text("story.tab")
