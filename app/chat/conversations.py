"""Chat conversations as JSON from the visitor's browser (validated here)."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from secrets import token_hex
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.files import first_words

MOST_TURNS = 4000
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Source:
    """A passage of a document that an answer rests on; `spans` of its text are marked. `quotes` stand above the answer:
    (rank, start, end). `link` opens the document there."""

    file: str
    file_id: int
    start: int
    text: str
    page: int | None = None
    heading: str = ""
    is_cited: bool = False
    spans: tuple[tuple[int, int], ...] = ()
    quotes: tuple[tuple[int, int, int], ...] = ()
    link: str = ""


SOURCES = TypeAdapter(tuple[Source, ...])


@dataclass(frozen=True)
class Turn:
    """One message. `note` stands in small print under it, `pictures` are small JPEG files in base64. An answer is of
    `model`, and not `whole` where it was cut short; `reasoning` came before it, for as long as `thought` says. One from
    documents has `sources`, and as `checked` its words with their marks. `siblings` are the ids of all versions of this
    turn, its own among them, in the order in which they were made; none where it is the only one."""

    role: str
    content: str
    note: str = ""
    pictures: tuple[str, ...] = ()
    whole: bool = True
    reasoning: str = ""
    thought: str = ""
    checked: str = ""
    sources: tuple[Source, ...] = ()
    model: str = ""
    siblings: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: token_hex(6), compare=False)


def version_of(turn: Turn, content: str) -> Turn:
    """Another version of it, the newest."""
    new = token_hex(6)
    return Turn(turn.role, content, siblings=(*(turn.siblings or (turn.id,)), new), id=new)


@dataclass(frozen=True)
class Conversation:
    """What is shown of it: `turns` are one path through its tree. An empty title stands for a conversation not yet
    begun; `settings` are those of its page, by name. `beside` the last answer stand those of other models to the same
    question, until one is chosen."""

    id: str = ""
    title: str = ""
    turns: tuple[Turn, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    beside: tuple[Turn, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def conversation_from(stored: object) -> Conversation:
    """What a browser kept: a whole record, of which the path that was shown last is taken, or such a path. Turns that
    are none are left out."""
    kept = stored if isinstance(stored, dict) else {}
    listed, settings = kept.get("turns"), kept.get("settings")
    return Conversation(
        _text(kept.get("id"))[:64],
        first_words(_text(kept.get("title"))),
        _path(listed[:MOST_TURNS] if isinstance(listed, list | tuple) else (), _text(kept.get("leaf"))),
        settings if isinstance(settings, dict) else {},
    )


def _path(listed: Sequence[object], leaf: str) -> tuple[Turn, ...]:
    """From a first question through the turn `leaf`, or else the last, to the newest turn below it.

    A turn names its `parent`, which stands before it; one that does not, as in older records, follows the turn before.
    """
    turns: dict[str, Turn] = {}
    parents: dict[str, str] = {}
    versions: dict[str, list[str]] = {}
    last = ""
    for entry in listed:
        turn = _turn(entry)
        if turn is None or turn.id in turns:
            continue
        parent = entry.get("parent") if isinstance(entry, dict) else None
        parents[turn.id] = parent if isinstance(parent, str) and (parent in turns or not parent) else last
        versions.setdefault(parents[turn.id], []).append(turn.id)
        turns[turn.id] = turn
        last = turn.id
    above: list[str] = []
    place = leaf if leaf in turns else last
    while place:
        above.append(place)
        place = parents[place]
    path = above[::-1]
    while path and path[-1] in versions:
        path.append(versions[path[-1]][-1])
    families = [tuple(versions[parents[place]]) for place in path]
    return tuple(
        replace(turns[place], siblings=family) if len(family) > 1 else turns[place]
        for place, family in zip(path, families, strict=True)
    )


def _turn(entry: object) -> Turn | None:
    if not isinstance(entry, dict) or entry.get("role") not in ("user", "assistant"):
        return None
    content = entry.get("content")
    if not isinstance(content, str):
        return None
    pictures = tuple(filter(BASE64.fullmatch, _texts(entry.get("pictures"))))
    identity = _text(entry.get("id"))[:64] or token_hex(6)
    texts = {name: _text(entry.get(name)) for name in ("note", "reasoning", "thought", "checked", "model")}
    return Turn(
        entry["role"],
        content,
        pictures=pictures,
        whole=entry.get("whole") is not False,
        id=identity,
        sources=_sources(entry),
        siblings=tuple(_texts(entry.get("siblings"))),
        **texts,
    )


def _sources(entry: dict[str, Any]) -> tuple[Source, ...]:
    try:
        return SOURCES.validate_python(entry.get("sources") or ())
    except ValidationError:
        return ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []
