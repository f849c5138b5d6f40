"""Exchanges of the knowledge tab: restore them from the browser's IndexedDB, render them as bubbles and sources."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.chat.conversations import Source, Turn
from app.knowledge.answer.answering import Answer
from app.knowledge.service import KnowledgeService
from app.models.interface import Message
from tabs.chat.bubbles import bubbles_of, waiting
from tabs.shell.documents import answer_markdown, owner_of, relinked, said_by_model, sources_view
from tabs.shell.page import Visitor

MOST_SHOWN = 50  # exchanges of a talk that are on the page


@dataclass(frozen=True)
class Exchange:
    """One question and its answer so far, as assets/talks.js keeps it; every answer keeps its own sources.

    `checked` is the text with a mark or a word behind each sentence, `alone` what the model says without documents.
    One that is not `whole` was broken off.
    """

    question: str
    collection: str
    talk: str
    text: str = ""
    checked: str = ""
    alone: str = ""
    sources: tuple[Source, ...] = ()
    searched_for: str = ""
    cites: bool | None = None
    whole: bool = False
    asked: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: token_hex(8))


EXCHANGE = TypeAdapter(Exchange)


def exchanges_from(service: KnowledgeService, visitor: Visitor, stored: object) -> list[Exchange]:
    """What a browser kept of a talk, with links that open the documents now; what is none is left out."""
    found = []
    for entry in stored[-MOST_SHOWN:] if isinstance(stored, list) else []:
        with suppress(ValidationError):
            kept = EXCHANGE.validate_python(entry)
            sources = relinked(service.links, owner_of(visitor), kept.collection, kept.sources)
            found.append(replace(kept, sources=sources))
    return found


def history_of(exchanges: Sequence[Exchange]) -> list[Message]:
    """The talk as a model is told it: without marks, without what was not answered."""
    turns: list[Message] = []
    for exchange in exchanges:
        answer = said_by_model(Answer(text=exchange.text))
        if answer:
            turns += [{"role": "user", "content": exchange.question}, {"role": "assistant", "content": answer}]
    return turns


def talk_bubbles(visitor: Visitor, exchanges: Sequence[Exchange], awaited: str = "") -> list[dict[str, Any]]:
    """The whole talk; the last answer is still being written where something is `awaited`."""
    bubbles: list[dict[str, Any]] = []
    for number, exchange in enumerate(exchanges, 1):
        under_way = awaited if number == len(exchanges) else ""
        bubbles += _bubbles(visitor, exchange, number, under_way)
    return bubbles


def alone_bubbles(exchanges: Sequence[Exchange], awaited: str = "") -> list[dict[str, Any]]:
    """The last question with the model's own answer."""
    if not exchanges:
        return []
    last = exchanges[-1]
    bubbles = bubbles_of([Turn("user", last.question), *([Turn("assistant", last.alone)] if last.alone else [])])
    return bubbles if last.alone or not awaited else [*bubbles, waiting(awaited)]


def talk_sources(visitor: Visitor, exchanges: Sequence[Exchange]) -> str:
    """The sources of every answer, the last one's open and on top."""
    parts: list[str] = []
    for number, exchange in reversed(list(enumerate(exchanges, 1))):
        parts.append(sources_view(visitor, exchange.sources, exchange.question, str(number), not parts))
    return "".join(parts) or visitor.text("knowledge.sources_hint")


def _bubbles(visitor: Visitor, exchange: Exchange, number: int, awaited: str) -> list[dict[str, Any]]:
    told = exchange.text or any(source.quotes for source in exchange.sources)
    broken = "" if exchange.whole or awaited else visitor.text("chat.interrupted" if told else "chat.unanswered")
    searched = exchange.searched_for not in ("", exchange.question)
    notes = [visitor.text("knowledge.searched_for", query=exchange.searched_for)] if searched else []
    bubbles = bubbles_of([Turn("user", exchange.question, "" if told else broken)])
    if told:
        shown = answer_markdown(visitor, exchange.text, exchange.checked, exchange.sources, str(number), exchange.cites)
        bubbles += bubbles_of([Turn("assistant", shown, " · ".join(filter(None, [*notes, broken])))])
    if awaited and not exchange.text:
        bubbles.append(waiting(awaited))
    return bubbles
