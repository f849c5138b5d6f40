"""Illustration service: an album of uploaded pictures for each page, captions, and the best picture for each."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from PIL import Image

from app.errors import BadInput, PromptTooLong
from app.models.engine.prompt import CannotSee
from app.models.interface import Registry
from app.models.waiting import stepping, while_loading
from app.pictures import as_jpeg, open_picture
from app.story.article import Article, Place, carried_over, places_in
from app.story.captions import captions_for
from app.story.errors import NothingWritten
from app.story.export import Picture
from app.story.picture_choice import candidates, pick
from app.story.picture_search import LeasePictureEmbedder, Vectors, assign, rank

MOST_PICTURES = 500
MOST_BYTES = 1 << 30  # of all albums together
SMALL = 64  # once those are spent an album may still have this part of them, so that nobody keeps others out
LONGEST = 1280
BATCH = 16


class NoPictures(BadInput):
    zh = "请先选择图片：文章只用你自己的图片。"
    en = "Choose pictures first: an article uses your own ones only."


class AlbumFull(BadInput):
    zh = "最多放 {limit} 张图片，多出的没有收下。"
    en = "At most {limit} pictures; the rest were not taken."


class AlbumsFull(BadInput):
    zh = "所有访客的相册合计已满，多出的图片没有收下。请少选几张，或稍后再试。"
    en = "All visitors' albums together are full; the rest were not taken. Choose fewer pictures, or try again later."


@dataclass
class Workspace:
    """What one open page has on its table. Pictures as JPEG; their vectors by place, once they are needed."""

    pictures: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    vectors: dict[int, Vectors] = field(default_factory=dict)
    article: Article | None = None


@dataclass(frozen=True)
class IllustrationProgress:
    """How far an article is: the step, and how many of its parts are done; of a `model` being loaded, percent."""

    step: Literal["loading", "captions", "readying", "looking", "picking"]
    done: int = 0
    total: int = 0
    model: str = ""


def _size(workspace: Workspace) -> int:
    return sum(map(len, workspace.pictures))


class IllustrationService:
    """Albums and articles by page session; `leave` forgets one."""

    def __init__(self, registry: Registry, lease_embedder: LeasePictureEmbedder, most_bytes: int = MOST_BYTES) -> None:
        self.registry = registry
        self._most_bytes = most_bytes
        self._lease_embedder = lease_embedder
        self._workspaces: dict[str, Workspace] = {}
        self._lock = Lock()

    def workspace(self, session: str) -> Workspace:
        with self._lock:
            return self._workspaces.setdefault(session, Workspace())

    def leave(self, session: str) -> None:
        """The page was closed: nothing of it stays."""
        with self._lock:
            self._workspaces.pop(session, None)

    def add(self, session: str, files: Sequence[tuple[Path, str]]) -> list[BadInput]:
        """Take pictures into the album; what cannot be used is said and passed over."""
        workspace = self.workspace(session)
        refused: list[BadInput] = []
        for path, name in files:
            if full := self._full(workspace):
                refused.append(full)
                break
            try:
                workspace.pictures.append(as_jpeg(open_picture(path, LONGEST, name)))
                workspace.names.append(name)
            except BadInput as error:
                refused.append(error)
        return refused

    def _full(self, workspace: Workspace) -> BadInput | None:
        if len(workspace.pictures) >= MOST_PICTURES:
            return AlbumFull(limit=MOST_PICTURES)
        is_small = _size(workspace) < self._most_bytes // SMALL
        held = sum(map(_size, list(self._workspaces.values())))
        return AlbumsFull() if held >= self._most_bytes and not is_small else None

    def clear(self, session: str) -> None:
        """An empty album; the article goes with it."""
        with self._lock:
            self._workspaces[session] = Workspace()

    def illustrate(
        self,
        session: str,
        title: str,
        paragraphs: Sequence[str],
        model: str = "",
        visitor: str = "",
        vision_model: str = "",
    ) -> Iterator[IllustrationProgress]:
        """Places, captions and pictures for a text; the article then lies on the workspace.

        `vision_model` names a model that sees, which is shown the closest pictures of each place and picks one.
        """
        workspace = self.workspace(session)
        if not paragraphs:
            raise NothingWritten
        if not workspace.pictures:
            raise NoPictures
        if vision_model and self.registry.for_visitor(visitor).is_multimodal(vision_model) is False:
            raise CannotSee(name=vision_model)
        article = Article(title, tuple(paragraphs))
        yield from self._readied()  # before the captions, which take a minute that would be in vain
        places = yield from self._captions(article, model, visitor)
        captions, pictures = yield from self._look(workspace, [place.caption for place in places])
        workspace.article = article = _with_pictures(replace(article, places=tuple(places)), captions, pictures)
        if vision_model:
            yield from self._pick(workspace, article, vision_model, visitor)

    def change(self, session: str, change: Callable[[Article], Article]) -> Article | None:
        """Swap, remove or caption a picture of the article on the workspace."""
        workspace = self.workspace(session)
        if workspace.article is not None:
            workspace.article = change(workspace.article)
        return workspace.article

    def recaption(self, session: str, paragraph: int, caption: str) -> Iterator[IllustrationProgress]:
        """Another caption, and the pictures ranked anew for it; the picture that stands there stays."""
        workspace = self.workspace(session)
        if workspace.article is None or not caption.strip():
            return
        captions, pictures = yield from self._look(workspace, [caption])
        ranking = tuple(rank(captions, pictures)[0])
        places = tuple(
            replace(place, caption=caption.strip(), ranking=ranking) if place.paragraph == paragraph else place
            for place in workspace.article.places
        )
        workspace.article = replace(workspace.article, places=places)

    def pictures(self, session: str) -> dict[int, Picture]:
        """The article's pictures by paragraph, for an export."""
        workspace = self.workspace(session)
        places = workspace.article.places if workspace.article else ()
        return {
            place.paragraph: Picture(workspace.pictures[place.chosen], place.caption)
            for place in places
            if place.chosen is not None
        }

    def pictures_for(self, session: str, paragraphs: Sequence[str]) -> dict[int, Picture]:
        """The article's pictures for its text as it stands now; none where the text is another one."""
        article = self.workspace(session).article
        if article is None or not set(article.paragraphs) & set(paragraphs):
            return {}
        return carried_over(self.pictures(session), article.paragraphs, paragraphs)

    def _readied(self) -> Iterator[IllustrationProgress]:
        def load() -> Generator[int, None, None]:
            with self._lease_embedder():
                yield 0

        with closing(stepping(load())) as steps:
            for _ in steps:
                yield IllustrationProgress("readying")

    def _captions(
        self, article: Article, model: str, visitor: str
    ) -> Generator[IllustrationProgress, None, list[Place]]:
        name = model or self.registry.default_name
        wanted = places_in(article.paragraphs)
        made: list[Place] = []
        yield from self._loading(name, visitor)
        with self.registry.for_visitor(visitor).lease(name) as leased:
            for paragraph in wanted:
                told = ""
                for caption in captions_for(leased, article.paragraphs[paragraph], visitor):
                    told = caption
                    yield IllustrationProgress("captions", len(made), len(wanted))
                made.append(Place(paragraph, told))
        return made

    def _look(
        self, workspace: Workspace, captions: Sequence[str]
    ) -> Generator[IllustrationProgress, None, tuple[Vectors, Vectors]]:
        """Vectors of (captions, pictures); done elsewhere, so that a stop is heard in the midst of it."""
        pictures = list(workspace.pictures)
        told: list[Vectors] = []

        def embed() -> Generator[int, None, None]:
            with self._lease_embedder() as embedder:
                yield 0
                told.append(embedder.captions(captions))
                unseen = [place for place in range(len(pictures)) if place not in workspace.vectors]
                for batch in (unseen[at : at + BATCH] for at in range(0, len(unseen), BATCH)):
                    yield batch[0]
                    opened = [Image.open(BytesIO(pictures[place])) for place in batch]
                    workspace.vectors.update(zip(batch, embedder.pictures(opened), strict=True))

        latest = IllustrationProgress("readying")
        with closing(stepping(embed())) as steps:
            for news in steps:
                latest = IllustrationProgress("looking", news[-1], len(pictures)) if news else latest
                yield latest
        yield IllustrationProgress("looking", len(pictures), len(pictures))
        return told[0], np.stack([workspace.vectors[place] for place in range(len(pictures))])

    def _pick(self, workspace: Workspace, article: Article, name: str, visitor: str) -> Iterator[IllustrationProgress]:
        """A picture that came close is put in the place of the closest where the model says so."""
        yield from self._loading(name, visitor)
        with self.registry.for_visitor(visitor).lease(name) as model:
            if not model.is_multimodal:
                raise CannotSee(name=name)
            for number, place in enumerate(article.places):
                best = candidates(workspace.article or article, place)
                if place.chosen is None or len(best) < 2:
                    continue
                picked, shown = None, [workspace.pictures[picture] for picture in best]
                with suppress(PromptTooLong):
                    for named in pick(model, place.caption, shown, visitor):
                        picked = named
                        yield IllustrationProgress("picking", number, len(article.places))
                if picked is not None:
                    workspace.article = (workspace.article or article).chosen(place.paragraph, best[picked])

    def _loading(self, name: str, visitor: str) -> Iterator[IllustrationProgress]:
        for share in while_loading(self.registry.for_visitor(visitor), name):
            yield IllustrationProgress(
                "loading", 0 if share is None else round(100 * share), 0 if share is None else 100, name
            )


def _with_pictures(article: Article, captions: Vectors, pictures: Vectors) -> Article:
    ranking = rank(captions, pictures)
    chosen = assign(ranking, captions, pictures)
    places = zip(article.places, ranking, chosen, strict=True)
    return replace(
        article,
        places=tuple(replace(place, ranking=tuple(order), chosen=best) for place, order, best in places),
    )
