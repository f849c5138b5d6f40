"""A conversation's documents on the chat page: the list and the clock that looks again while they are read."""

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.knowledge.ingest.indexing import IndexingProgress
from tabs.chat.documents import COLLECTION, Documents, draw_documents
from tabs.shell.documents import owner_of
from tabs.shell.page import Page, Visitor

VISITOR = Visitor("en", "ada", "session")


def test_a_reading_that_ends_while_the_page_looks_is_looked_at_once_more() -> None:
    """Else a file that was waiting a moment ago would be shown so for ever."""
    with gr.Blocks() as blocks:
        page = Page(blocks, "en", gr.State(), gr.BrowserState({}))
        widgets = draw_documents(page)
    job = SimpleNamespace(ended=False, error=None, progress=IndexingProgress())
    owner = Documents(Any, widgets).owner(VISITOR, "c")

    def files(*_: object) -> list[Any]:
        job.ended = True
        return []

    service: Any = SimpleNamespace(
        collections=lambda _: [SimpleNamespace(owner=owner.key, name=COLLECTION)],
        files=files,
        job=lambda *_: job,
        waits_to_read=lambda _: False,
    )
    documents = Documents(service, widgets)
    assert owner != owner_of(VISITOR)
    assert documents.view(VISITOR, "c")[widgets.timer].active
    assert not documents.view(VISITOR, "c")[widgets.timer].active
