"""Illustrated articles over a tiny CLIP model of the real architecture."""

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from docx import Document
from PIL import Image

from app.models.placement import Placement
from app.models.registry import ModelRegistry
from app.story import export
from app.story.article import Article, places_in
from app.story.errors import NothingWritten
from app.story.illustrating import MOST_PICTURES, AlbumFull, IllustrationService, NoPictures
from app.story.picture_search import NoPictureModel, PictureEmbedder, assign, held_by, rank
from tests.fakes import FakeModel, FakeRegistry
from tests.story import tiny_clip
from tests.story.authors import pieces

TEXT = tuple(f"Paragraph {number} tells of the boat." for number in range(9))
COLOURS = ("red", "green", "blue", "white", "black")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_clip.save(tmp_path_factory.mktemp("clip") / "model"))


@pytest.fixture
def service(clip: str, tmp_path: Path) -> IllustrationService:
    account = ModelRegistry(Placement("cpu", "auto", None, 2000, tmp_path), "smollm2-135m")
    model = FakeModel("tiny", lambda messages: pieces("A boat, " + messages[-1]["content"][-40:]))
    return IllustrationService(FakeRegistry(model), held_by(account.hold, clip, "", "cpu"))


def album(folder: Path, count: int = 5) -> list[tuple[Path, str]]:
    files = []
    for number in range(count):
        path = folder / f"picture {number}.png"
        Image.new("RGB", (60 + number, 40), COLOURS[number % len(COLOURS)]).save(path)
        files.append((path, path.name))
    return files


def test_places_are_spread_and_never_after_a_heading() -> None:
    assert places_in([]) == []
    assert places_in(["one"]) == [0]
    places = places_in(["## Chapter 1", *TEXT, "## Chapter 2", *TEXT])
    assert len(places) == 6
    assert not {0, 10} & set(places)


def test_each_place_gets_a_caption_and_the_closest_picture(
    service: IllustrationService, clip: str, tmp_path: Path
) -> None:
    assert service.add("me", album(tmp_path)) == []
    *_, last = service.illustrate("me", "The boat", TEXT)
    assert (last.step, last.done, last.total) == ("looking", 5, 5)
    article = service.desk("me").article
    assert article is not None
    assert len(article.places) == 3
    assert len({place.chosen for place in article.places}) == 3
    embedder = PictureEmbedder(clip, "")
    pictures = embedder.pictures([Image.open(BytesIO(data)) for data in service.desk("me").pictures])
    for place in article.places:
        assert place.caption.startswith("A boat")
        assert int(np.argmax(pictures @ embedder.captions([place.caption])[0])) == place.ranking[0]


def test_next_best_remove_swap_and_another_caption(service: IllustrationService, tmp_path: Path) -> None:
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "The boat", TEXT))
    article = service.desk("me").article
    assert article is not None
    one, other, _ = (place.paragraph for place in article.places)
    seen = set()
    for _ in range(3):  # five pictures, two of them at other places
        place = service.change("me", lambda article: article.next_best(one)).at(one)  # type: ignore[union-attr]
        assert place is not None
        seen.add(place.chosen)
    assert len(seen) == 3
    before = service.desk("me").article
    swapped = service.change("me", lambda article: article.swapped(one, other))
    assert swapped.at(one).chosen == before.at(other).chosen  # type: ignore[union-attr]
    removed = service.change("me", lambda article: article.chosen(one, None))
    assert one not in service.pictures("me")
    assert removed.at(other).chosen is not None  # type: ignore[union-attr]
    after = service.recaption("me", other, "seven grey horses")
    assert after.at(other).caption == "seven grey horses"  # type: ignore[union-attr]


def test_the_exports_hold_text_and_pictures_in_order(service: IllustrationService, tmp_path: Path) -> None:
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "The boat", TEXT))
    made = export.archive("The boat", TEXT, service.pictures("me"))
    packed = ZipFile(BytesIO(made))
    images = [name for name in packed.namelist() if name.startswith("pictures/")]
    assert len(images) == 3
    text = packed.read("story.md").decode()
    assert all(f"({name})" in text for name in images)
    assert text.index("Paragraph 1 ") < text.index(images[0]) < text.index("Paragraph 2 ")
    document = Document(BytesIO(packed.read("story.docx")))
    assert len(document.inline_shapes) == 3
    assert Image.open(BytesIO(packed.read(images[0]))).format == "JPEG"


def test_two_pages_never_see_each_other_and_a_closed_one_leaves_nothing(
    service: IllustrationService, tmp_path: Path
) -> None:
    service.add("me", album(tmp_path))
    assert service.desk("other").pictures == []
    service.leave("me")
    assert service.desk("me").pictures == []


def test_five_hundred_pictures_are_taken_and_no_more(service: IllustrationService, tmp_path: Path) -> None:
    [(path, name)] = album(tmp_path, 1)
    refused = service.add("me", [(path, name)] * (MOST_PICTURES + 2))
    assert len(service.desk("me").pictures) == MOST_PICTURES
    assert [type(error) for error in refused] == [AlbumFull]
    *_, last = service.illustrate("me", "Many", TEXT[:2])
    assert last.done == MOST_PICTURES


def test_bad_pictures_are_named_and_the_others_taken(service: IllustrationService, tmp_path: Path) -> None:
    bad = tmp_path / "script.svg"
    bad.write_text("<svg><script>alert(1)</script></svg>")
    refused = service.add("me", [(bad, bad.name), *album(tmp_path, 2)])
    assert "script.svg" in refused[0].text("en")
    assert len(service.desk("me").pictures) == 2


def test_what_is_missing_is_said_in_a_sentence(service: IllustrationService, tmp_path: Path) -> None:
    with pytest.raises(NoPictures, match="Choose pictures first"):
        list(service.illustrate("me", "t", TEXT))
    with pytest.raises(NothingWritten):
        list(service.illustrate("me", "t", ()))
    account = ModelRegistry(Placement("cpu", "auto", None, 2000, tmp_path), "smollm2-135m")
    far = IllustrationService(FakeRegistry(FakeModel("tiny")), held_by(account.hold, "./no/such/model", "", "cpu"))
    far.add("me", album(tmp_path))
    with pytest.raises(NoPictureModel, match="--picture-model"):
        list(far.illustrate("me", "t", TEXT))


def test_the_closest_pair_is_given_away_first() -> None:
    captions = np.array([[1.0, 0.0], [0.8, 0.6]], dtype=np.float32)
    pictures = np.array([[0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    ranking = rank(captions, pictures)
    assert ranking == [[0, 1], [0, 1]]
    assert assign(ranking, captions, pictures) == [1, 0]
    assert assign(ranking, captions, pictures[:1]) == [None, 0]


def test_a_caption_falls_back_to_the_text() -> None:
    article = Article("t", TEXT)
    assert article.next_best(0) == article
    model = FakeModel("tiny", lambda _: [])
    service = IllustrationService(FakeRegistry(model), lambda: pytest.fail("not reached"))
    service.desk("me").pictures.append(b"x")
    running = service.illustrate("me", "t", TEXT[:1])
    assert next(running).step == "captions"
