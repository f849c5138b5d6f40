"""Search one or all of the collections that a visitor may read, as a tool of the agent."""

from collections.abc import Callable
from contextlib import suppress

from app.access.identity import Guest
from app.errors import StudioError
from app.knowledge.retrieve.retrieval import Hit
from app.knowledge.service import KnowledgeService
from app.knowledge.store.collections import Owner

_COLLECTIONS = 20
_PASSAGES = 5
_CHARACTERS = 800


ALL = "*"


def search_all(knowledge: KnowledgeService) -> Callable[[str, str, str], str]:
    """A function of (visitor, collection or ALL, query): the best passages as text, each with its file, page and
    headings, which are the columns' names where it is a part of a table."""

    def search(visitor: str, collection: str, query: str) -> str:
        owner = Owner(visitor, guest=isinstance(visitor, Guest))
        if collection != ALL:
            return "\n\n".join(map(_told, knowledge.search(owner, collection, query, _PASSAGES)))
        hits: list[Hit] = []
        for name in list(dict.fromkeys(record.name for record in knowledge.collections(owner)))[:_COLLECTIONS]:
            with suppress(StudioError):  # one whose embedder cannot be had is not searched; the others are
                hits += knowledge.search(owner, name, query, _PASSAGES)
        hits.sort(key=lambda hit: hit.score, reverse=True)
        return "\n\n".join(_told(hit) for hit in hits[:_PASSAGES])

    return search


def _told(hit: Hit) -> str:
    passage = hit.passage
    page = f", page {passage.page}" if passage.page else ""
    place = " > ".join((f"{passage.path}{page}", *passage.heading))
    return f"[{place}]\n{passage.content[:_CHARACTERS]}"
