"""Data model of an illustrated article: paragraphs, and a captioned picture for some of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TypeVar

from app.story.outline import HEADING

MOST_PLACES = 8
EVERY = 3  # paragraphs to a picture
Content = TypeVar("Content")


@dataclass(frozen=True)
class Place:
    """After paragraph `paragraph` stands picture `chosen` of the album; `ranking` are all of them, best first."""

    paragraph: int
    caption: str
    ranking: tuple[int, ...] = ()
    chosen: int | None = None


@dataclass(frozen=True)
class Article:
    """A text with places for pictures."""

    title: str
    paragraphs: tuple[str, ...]
    places: tuple[Place, ...] = ()

    def at(self, paragraph: int) -> Place | None:
        return next((place for place in self.places if place.paragraph == paragraph), None)

    def chosen(self, paragraph: int, picture: int | None) -> "Article":
        """With another picture at a place, or none; the place stays open for one."""
        return self._with(paragraph, lambda place: replace(place, chosen=picture))

    def next_best(self, paragraph: int) -> "Article":
        """With the best picture not yet used and not the present one; the best again after the last."""

        def step(place: Place) -> Place:
            used = {other.chosen for other in self.places if other.paragraph != paragraph}
            free = [picture for picture in place.ranking if picture not in used]
            if not free:
                return place
            at = free.index(place.chosen) + 1 if place.chosen in free else 0
            return replace(place, chosen=free[at % len(free)])

        return self._with(paragraph, step)

    def captioned(self, paragraph: int, caption: str) -> "Article":
        return self._with(paragraph, lambda place: replace(place, caption=caption.strip()))

    def swapped(self, one: int, other: int) -> "Article":
        """With the pictures of two places exchanged."""
        first, second = self.at(one), self.at(other)
        if first is None or second is None:
            return self
        return self.chosen(one, second.chosen).chosen(other, first.chosen)

    def told_as(self, paragraphs: Sequence[str]) -> "Article":
        """The same article after its text was edited; unchanged where that is another text, or none."""
        alone = len(paragraphs) == len(self.paragraphs) == 1
        if not alone and not set(paragraphs) & set(self.paragraphs):
            return self
        places = carried_over({place.paragraph: place for place in self.places}, self.paragraphs, paragraphs)
        moved = (replace(place, paragraph=paragraph) for paragraph, place in sorted(places.items()))
        return replace(self, paragraphs=tuple(paragraphs), places=tuple(moved))

    def _with(self, paragraph: int, change: Callable[[Place], Place]) -> "Article":
        places = tuple(change(place) if place.paragraph == paragraph else place for place in self.places)
        return replace(self, places=places)


def places_in(paragraphs: Sequence[str]) -> list[int]:
    """The paragraphs after which a picture may stand: spread evenly, never after a heading."""
    texts = [place for place, paragraph in enumerate(paragraphs) if not paragraph.startswith(HEADING)]
    count = min(MOST_PLACES, max(1, round(len(texts) / EVERY))) if texts else 0
    return [texts[(2 * number + 1) * len(texts) // (2 * count)] for number in range(count)]


def carried_over(pictures: Mapping[int, Content], before: Sequence[str], now: Sequence[str]) -> dict[int, Content]:
    """Pictures by paragraph, after the text has changed: each stays with its paragraph, or where that was."""
    places: dict[int, int] = {}
    for _, start, end, new_start, new_end in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        for paragraph in range(start, end):
            places[paragraph] = max(0, min(new_start + paragraph - start, new_end - 1, len(now) - 1))
    carried: dict[int, Content] = {}
    for paragraph, picture in pictures.items():
        place = next((free for free in range(places[paragraph], len(now)) if free not in carried), None)
        if place is not None:
            carried[place] = picture
    return carried
