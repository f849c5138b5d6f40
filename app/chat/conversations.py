"""A visitor's conversations: plain JSON that lives in their own browser, so whatever comes from there is checked."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from secrets import token_hex

from app.errors import Language

MAX_CONVERSATIONS = 100
MAX_BYTES = 2_500_000  # the browser keeps about 5 million characters, and stores this encrypted in base64
TITLE_LENGTH = 40
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Turn:
    """One message; `note` is what stands in small letters under it, `pictures` are small JPEG files in base64."""

    role: str
    content: str
    note: str = ""
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """An empty title stands for a conversation not yet begun."""

    id: str
    title: str = ""
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class History:
    """All conversations of one visitor, the newest first, and which is open."""

    conversations: tuple[Conversation, ...] = field(default_factory=lambda: (new_conversation(),))
    open_id: str = ""

    @property
    def open(self) -> Conversation:
        found = (talk for talk in self.conversations if talk.id == self.open_id)
        return next(found, self.conversations[0])

    def started(self) -> "History":
        """With a new conversation open; an empty one is used again."""
        empty = next((talk for talk in self.conversations if not talk.turns), None)
        fresh = empty or new_conversation()
        others = tuple(talk for talk in self.conversations if talk.id != fresh.id)
        return History((replace(fresh, title=""), *others), fresh.id)

    def saved(self, identity: str, turns: Sequence[Turn]) -> "History":
        """With these turns in one conversation, which moves to the top; one deleted meanwhile stays deleted."""
        old = next((talk for talk in self.conversations if talk.id == identity), None)
        if old is None or old.turns == tuple(turns):
            return self
        first = next((turn.content for turn in turns if turn.role == "user"), "")
        talk = replace(old, turns=tuple(turns), title=old.title or title_of(first))
        others = tuple(other for other in self.conversations if other.id != identity)
        return replace(self, conversations=(talk, *others))._trimmed()

    def opened(self, identity: str) -> "History":
        return replace(self, open_id=identity) if any(t.id == identity for t in self.conversations) else self

    def renamed(self, title: str) -> "History":
        """With another title for the open conversation."""
        name = title_of(title)
        talks = (replace(talk, title=name) if talk.id == self.open.id else talk for talk in self.conversations)
        return replace(self, conversations=tuple(talks)) if name else self

    def without_open(self) -> "History":
        """The open conversation deleted, the next one open."""
        left = tuple(talk for talk in self.conversations if talk.id != self.open.id)
        return History(left, left[0].id) if left else History().started()

    def _trimmed(self) -> "History":
        """The oldest are let go when the browser's room ends; the newest always stays."""
        kept: list[Conversation] = []
        room = MAX_BYTES
        for talk in self.conversations[:MAX_CONVERSATIONS]:
            room -= sum(len(turn.content.encode()) + sum(map(len, turn.pictures)) + 100 for turn in talk.turns)
            if kept and room < 0:
                break
            kept.append(talk)
        return replace(self, conversations=tuple(kept))

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def new_conversation() -> Conversation:
    return Conversation(token_hex(6))


def shelf_from(stored: object) -> History:
    """What a browser kept; entries that are none of ours are left out."""
    kept = stored if isinstance(stored, dict) else {}
    listed = kept.get("conversations")
    talks = [_conversation(entry) for entry in listed] if isinstance(listed, list | tuple) else []
    found = tuple(talk for talk in talks if talk)[:MAX_CONVERSATIONS]
    return History(found, str(kept.get("open_id", ""))) if found else History().started()


def _conversation(entry: object) -> Conversation | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    listed = entry.get("turns")
    turns = [_turn(turn) for turn in listed] if isinstance(listed, list | tuple) else []
    return Conversation(entry["id"], str(entry.get("title", "")), tuple(turn for turn in turns if turn))


def _turn(entry: object) -> Turn | None:
    if not isinstance(entry, dict) or entry.get("role") not in ("user", "assistant"):
        return None
    content = entry.get("content")
    if not isinstance(content, str):
        return None
    listed = entry.get("pictures")
    kept = [one for one in listed if isinstance(one, str)] if isinstance(listed, list | tuple) else []
    return Turn(entry["role"], content, str(entry.get("note", "")), tuple(filter(BASE64.fullmatch, kept)))


def title_of(text: str) -> str:
    """The first words, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_LENGTH else f"{line[: TITLE_LENGTH - 1]}…"


def as_markdown(talk: Conversation, language: Language) -> str:
    """For reading."""
    names = {"zh": {"user": "我", "assistant": "助手"}, "en": {"user": "Me", "assistant": "Assistant"}}[language]
    parts = [f"# {talk.title}", *(f"**{names[turn.role]}**\n\n{_as_text(turn)}" for turn in talk.turns)]
    return "\n\n".join(parts) + "\n"


def _as_text(turn: Turn) -> str:
    pictures = [f"![](data:image/jpeg;base64,{picture})" for picture in turn.pictures]
    return "\n\n".join([*pictures, turn.content])


def as_json(talk: Conversation) -> str:
    """For other programs: the messages as the `/chat` endpoint takes them for history."""
    messages = [{"role": turn.role, "content": turn.content} for turn in talk.turns]
    return json.dumps({"title": talk.title, "messages": messages}, ensure_ascii=False, indent=2) + "\n"


def file_name(talk: Conversation, suffix: str) -> str:
    """A name every system accepts, made of the title."""
    stem = re.sub(r'[\\/:*?"<>|\x00-\x1f]+', " ", talk.title).strip(" .") or "chat"
    return f"{stem}.{suffix}"
