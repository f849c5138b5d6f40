"""Choose among candidate pictures with a vision-language model."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing

from app.errors import Language
from app.models.interface import ChatModel, Message, Sampling
from app.models.waiting import polled
from app.pictures import as_jpeg, open_picture
from app.story.article import Article, Place
from app.story.prompts import words_of
from app.story.request import language_of

BEST = 3  # pictures shown for one caption
SHOWN = 448  # pixels of their longer side: one tile of the usual eyes
ANSWER_TOKENS = 12
NUMBER = re.compile(r"\d+")


def candidates(article: Article, place: Place) -> list[int]:
    """The best pictures for a place that stand nowhere else, the one that stands there among them."""
    used = {other.chosen for other in article.places if other.paragraph != place.paragraph}
    best = [picture for picture in place.ranking if picture not in used][:BEST]
    if place.chosen is None or place.chosen in best:
        return best
    return [*best[: BEST - 1], place.chosen]


def pick(model: ChatModel, caption: str, pictures: Sequence[bytes], visitor: str) -> Iterator[int | None]:
    """The place in `pictures` of the one the model names, as far as its answer tells; None where it names none."""
    language: Language = language_of(caption) or "en"
    asked = words_of(language)["pick"].format(count=len(pictures), caption=caption)
    shown = tuple(as_jpeg(open_picture(picture, SHOWN), SHOWN) for picture in pictures)
    message: Message = {"role": "user", "content": asked, "images": shown}
    sampling = Sampling(temperature=0, max_new_tokens=ANSWER_TOKENS, seed=0)
    said = ""
    with closing(polled(model.stream([message], sampling, visitor=visitor))) as pieces:
        for news in pieces:
            said += "".join(news)
            yield numbered(said, len(pictures))


def numbered(answer: str, count: int) -> int | None:
    """The first number of an answer, counted from 0; None where it is none of 1 to `count`."""
    found = NUMBER.search(answer)
    return int(found[0]) - 1 if found and 1 <= int(found[0]) <= count else None
