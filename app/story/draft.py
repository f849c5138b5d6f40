"""Story draft as the browser stores it: inputs, bible, paragraphs, undo history; validated when it is read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.story.bible import Bible
from app.story.outline import HEADING

MOST_CHANGES = 50
MOST_CHARACTERS = 400_000  # what a browser keeps of one story


@dataclass(frozen=True)
class Change:
    """From paragraph `place` on, `after` paragraphs took the place of those in `before`."""

    place: int
    before: tuple[str, ...]
    after: int


@dataclass(frozen=True)
class Draft:
    """`changes` the newest last. Inputs are kept as the page has them."""

    inputs: dict[str, Any]
    bible: Bible
    outline: str = ""
    paragraphs: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def text(self) -> str:
        return "\n\n".join(self.paragraphs)

    def replaced(self, place: int, count: int, new: Sequence[str]) -> "Draft":
        """With `new` in place of `count` paragraphs; can be undone."""
        paragraphs = (*self.paragraphs[:place], *new, *self.paragraphs[place + count :])
        if paragraphs == self.paragraphs:
            return self
        change = Change(place, self.paragraphs[place : place + count], len(new))
        return replace(self, paragraphs=paragraphs, changes=(*self.changes, change)[-MOST_CHANGES:])

    def undone(self) -> "Draft":
        """Before the last change; the same draft where there is none."""
        if not self.changes:
            return self
        *earlier, last = self.changes
        paragraphs = (*self.paragraphs[: last.place], *last.before, *self.paragraphs[last.place + last.after :])
        return replace(self, paragraphs=paragraphs, changes=tuple(earlier))

    def is_text(self, place: int | None) -> bool:
        """Whether this is a paragraph that can be worked on, not a heading."""
        return (
            place is not None and 0 <= place < len(self.paragraphs) and not self.paragraphs[place].startswith(HEADING)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the oldest changes are let go where the browser's room ends."""
        room = MOST_CHARACTERS - len(self.text)
        kept: list[Change] = []
        for change in reversed(self.changes):
            room -= sum(map(len, change.before)) + 50
            if room < 0:
                break
            kept.insert(0, change)
        return asdict(replace(self, changes=tuple(kept)))


def paragraphs_of(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("\n\n") if part.strip())


def draft_from(stored: object) -> Draft:
    """What a browser kept; whatever is none of ours is left out."""
    kept = stored if isinstance(stored, dict) else {}
    bible = _table(kept.get("bible"))
    changes = [_change(entry) for entry in _list(kept.get("changes"))]
    return Draft(
        inputs=_table(kept.get("inputs")),
        bible=Bible(str(bible.get("synopsis", "")), _texts(bible.get("characters")), _texts(bible.get("facts"))),
        outline=str(kept.get("outline", "")),
        paragraphs=_texts(kept.get("paragraphs")),
        changes=tuple(change for change in changes if change),
    )


def _change(entry: object) -> Change | None:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("place"), int)
        or not isinstance(entry.get("after"), int)
    ):
        return None
    return Change(max(0, entry["place"]), _texts(entry.get("before")), max(0, entry["after"]))


def _table(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in _list(value) if isinstance(text, str))
