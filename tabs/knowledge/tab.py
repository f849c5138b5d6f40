"""Knowledge tab: ask documents, with sources; endpoints `/index`, `/search`, `/ask`."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.chat.request import checked_history
from app.knowledge.answer.answering import CITED_TEMPERATURE, Question
from app.knowledge.answer.plain_answer import marked_text, plain_passage
from app.knowledge.service import KnowledgeService
from app.knowledge.upkeep import SAMPLES
from app.models.interface import Message, Registry
from tabs.knowledge.collections import CollectionsPanel
from tabs.knowledge.talk import sampling_of, wire_talk
from tabs.knowledge.widgets import draw
from tabs.shell.documents import owner_of, plain_checks, plain_progress
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import discard, uploaded


def build(page: Page, service: KnowledgeService, registry: Registry, tab: gr.Tab) -> None:
    """Draw the tab, wire it, publish `/index`, `/search` and `/ask`."""
    collections, question = draw(page, registry)
    CollectionsPanel(service, collections, question).wire(page, tab)
    wire_talk(page, service, collections, question)
    page.api(partial(index, service), "index")
    page.api(partial(search, service), "search")
    page.api(partial(ask, service), "ask")


def index(service: KnowledgeService, visitor: Visitor, collection: str, files: Any) -> Iterator[dict[str, Any]]:
    """Index uploaded files, or a folder of the server where that is allowed; each value is how far it is."""
    owner = owner_of(visitor)
    if isinstance(files, str):
        steps = service.index_folder(owner, collection, Path(files))
    else:
        taken = uploaded(files)
        try:
            steps = service.index_uploads(owner, collection, taken)
        finally:
            discard(path for path, _ in taken)
    job = service.start_job(owner, collection, steps)
    try:
        for progress in job.watch():
            yield plain_progress(visitor, progress)
    finally:
        job.stop()


def search(
    service: KnowledgeService, visitor: Visitor, collection: str, query: str, k: int = 5
) -> list[dict[str, Any]]:
    """The best passages of a collection for a query."""
    return [asdict(plain_passage(hit)) for hit in service.search(owner_of(visitor), collection, query, int(k))]


def ask(
    service: KnowledgeService,
    visitor: Visitor,
    question: str,
    collection: str = SAMPLES,
    history: list[dict[str, str]] | None = None,
    model: str | None = None,
    use_documents: bool = True,
    k: int = 5,
    temperature: float = CITED_TEMPERATURE,
    seed: int | None = None,
) -> Iterator[list[Any]]:
    """Answer from a collection; each value is the answer so far, its passages as `/search` gives them, and its checks:
    quotes of the documents that need no model, and with the last value a verdict on every sentence of the answer."""
    asked = Question(
        question,
        history=_turns(history),
        model=model or "",
        use_documents=use_documents,
        k=int(k),
        sampling=sampling_of(temperature, seed),
        visitor=visitor.name,
    )
    yield [
        "",
        [],
        {"quotes": [], "verdicts": []},
    ]  # gradio forgets a cancel that comes before the first value, and hears others only between two
    for answer in service.ask(owner_of(visitor), collection, asked):
        text = marked_text(answer, visitor.language) if use_documents else answer.alone
        yield [text, [asdict(plain_passage(hit)) for hit in answer.hits], plain_checks(answer)]


def _turns(history: object) -> list[Message]:
    """Turns of a program's history without its system turns. Raises WrongHistory."""
    return [turn for turn in checked_history(history) if turn["role"] != "system"]
