"""Pictures for a text: each visitor's album for as long as their page is open, captions, the best picture for each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from app.errors import BadInput, Language
from app.models.interface import ChatModel, Registry, Sampling
from app.models.waiting import polled, while_loading
from app.pictures import as_jpeg, open_picture
from app.story.article import Article, Place, places_in
from app.story.errors import NothingWritten
from app.story.export import Picture
from app.story.length import split_sentences
from app.story.picture_search import LeasePictureEmbedder, Vectors, assign, rank
from app.story.prompts import caption_messages
from app.story.request import language_of
from app.story.talk import may_be_talk

MOST_PICTURES = 500
LONGEST = 1280
CAPTION_TOKENS, CAPTION_LENGTH = 60, 120
BATCH = 16


class NoPictures(BadInput):
    zh = "请先选择图片：文章只用你自己的图片。"
    en = "Choose pictures first: an article uses your own ones only."


class AlbumFull(BadInput):
    zh = "最多放 {limit} 张图片，多出的没有收下。"
    en = "At most {limit} pictures; the rest were not taken."


@dataclass
class Desk:
    """What one open page has on its table. Pictures as JPEG, vectors once they are needed."""

    pictures: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)
    article: Article | None = None


@dataclass(frozen=True)
class Progress:
    """How far an article is: the step, and how many of its parts are done."""

    step: str
    done: int
    total: int


class IllustrationService:
    """Albums and articles by page session; `leave` forgets one."""

    def __init__(self, registry: Registry, lease_embedder: LeasePictureEmbedder) -> None:
        self.registry = registry
        self._lease_embedder = lease_embedder
        self._desks: dict[str, Desk] = {}
        self._lock = Lock()

    def desk(self, session: str) -> Desk:
        with self._lock:
            return self._desks.setdefault(session, Desk())

    def leave(self, session: str) -> None:
        """The page was closed: nothing of it stays."""
        with self._lock:
            self._desks.pop(session, None)

    def add(self, session: str, files: Sequence[tuple[Path, str]]) -> list[BadInput]:
        """Take pictures into the album; what cannot be used is said and passed over."""
        desk = self.desk(session)
        refused: list[BadInput] = []
        for path, name in files:
            if len(desk.pictures) >= MOST_PICTURES:
                refused.append(AlbumFull(limit=MOST_PICTURES))
                break
            try:
                desk.pictures.append(as_jpeg(open_picture(path, LONGEST, name)))
                desk.names.append(name)
            except BadInput as error:
                refused.append(error)
        return refused

    def clear(self, session: str) -> None:
        """An empty album; the article goes with it."""
        with self._lock:
            self._desks[session] = Desk()

    def illustrate(
        self, session: str, title: str, paragraphs: Sequence[str], model: str = "", visitor: str = ""
    ) -> Iterator[Progress]:
        """Places, captions and pictures for a text; the article then lies on the desk."""
        desk = self.desk(session)
        if not paragraphs:
            raise NothingWritten
        if not desk.pictures:
            raise NoPictures
        article = Article(title, tuple(paragraphs))
        for progress, captions in self._captions(article, model, visitor):
            article = replace(article, places=tuple(captions))
            yield progress
        with self._lease_embedder() as embedder:
            while len(desk.vectors) < len(desk.pictures):
                yield Progress("looking", len(desk.vectors), len(desk.pictures))
                batch = desk.pictures[len(desk.vectors) : len(desk.vectors) + BATCH]
                desk.vectors += list(embedder.pictures([Image.open(BytesIO(data)) for data in batch]))
            told = embedder.captions([place.caption for place in article.places])
        desk.article = _with_pictures(article, told, np.stack(desk.vectors))
        yield Progress("looking", len(desk.pictures), len(desk.pictures))

    def change(self, session: str, change: Callable[[Article], Article]) -> Article | None:
        """Swap, remove or caption a picture of the article on the desk."""
        desk = self.desk(session)
        if desk.article is not None:
            desk.article = change(desk.article)
        return desk.article

    def recaption(self, session: str, paragraph: int, caption: str) -> Article | None:
        """Another caption, and the pictures ranked anew for it; the picture that stands there stays."""
        desk = self.desk(session)
        if desk.article is None or not caption.strip():
            return desk.article
        with self._lease_embedder() as embedder:
            ranking = rank(embedder.captions([caption]), np.stack(desk.vectors))[0]
        places = tuple(
            replace(place, caption=caption.strip(), ranking=tuple(ranking)) if place.paragraph == paragraph else place
            for place in desk.article.places
        )
        desk.article = replace(desk.article, places=places)
        return desk.article

    def pictures(self, session: str) -> dict[int, Picture]:
        """The article's pictures by paragraph, for an export."""
        desk = self.desk(session)
        places = desk.article.places if desk.article else ()
        return {
            place.paragraph: Picture(desk.pictures[place.chosen], place.caption)
            for place in places
            if place.chosen is not None
        }

    def _captions(self, article: Article, model: str, visitor: str) -> Iterator[tuple[Progress, list[Place]]]:
        name = model or self.registry.default_name
        wanted = places_in(article.paragraphs)
        made: list[Place] = []
        registry = self.registry.seen_by(visitor)
        for _ in while_loading(registry, name):
            yield Progress("captions", 0, len(wanted)), made
        with registry.lease(name) as leased:
            for paragraph in wanted:
                text = article.paragraphs[paragraph]
                told = ""
                for caption in _caption(leased, text, visitor):
                    told = caption
                    yield Progress("captions", len(made), len(wanted)), made
                made.append(Place(paragraph, told))
        yield Progress("captions", len(wanted), len(wanted)), made


def _caption(model: ChatModel, paragraph: str, visitor: str) -> Iterator[str]:
    """The caption as it grows; at last one that can stand, the paragraph's first sentence if the model gave none."""
    language: Language = language_of(paragraph) or "en"
    sampling = Sampling(temperature=0.2, max_new_tokens=CAPTION_TOKENS, seed=0)
    said = ""
    with closing(polled(model.stream(caption_messages(language, paragraph), sampling, visitor=visitor))) as pieces:
        for news in pieces:
            said += "".join(news)
            yield said
    line = next((line.strip(' "*“”「」') for line in said.splitlines() if line.strip() and not may_be_talk(line)), "")
    yield (line or split_sentences(paragraph)[0].strip())[:CAPTION_LENGTH]


def _with_pictures(article: Article, captions: Vectors, pictures: Vectors) -> Article:
    ranking = rank(captions, pictures)
    chosen = assign(ranking, captions, pictures)
    places = zip(article.places, ranking, chosen, strict=True)
    return replace(
        article,
        places=tuple(replace(place, ranking=tuple(order), chosen=best) for place, order, best in places),
    )
