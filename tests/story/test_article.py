"""Illustrated articles over a tiny CLIP model of the real architecture."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from docx import Document
from PIL import Image

from app.models.engine.prompt import CannotSee
from app.models.registry.placement import Placement
from app.models.registry.registry import ModelRegistry
from app.story import export
from app.story.article import carried_over, places_in
from app.story.captions import captions_for, shortened, whole_phrases
from app.story.errors import NothingWritten
from app.story.illustrating import MOST_PICTURES, AlbumFull, AlbumsFull, IllustrationService, NoPictures
from app.story.picture_search import NoPictureModel, PictureEmbedder, assign, held_by, rank
from tests.fakes import FakeModel, FakeRegistry
from tests.models.backends.tiny_internvl import save_tiny_internvl
from tests.story import tiny_clip
from tests.story.authors import pieces
from tests.test_pictures import GPS, LATITUDE, ORIENTATION, file_of, halves, png_header

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
    article = service.workspace("me").article
    assert article is not None
    assert len(article.places) == 3
    assert len({place.chosen for place in article.places}) == 3
    embedder = PictureEmbedder(clip, "")
    pictures = embedder.pictures([Image.open(BytesIO(data)) for data in service.workspace("me").pictures])
    for place in article.places:
        assert place.caption.startswith("A boat")
        assert int(np.argmax(pictures @ embedder.captions([place.caption])[0])) == place.ranking[0]


def test_next_best_remove_swap_and_another_caption(service: IllustrationService, tmp_path: Path) -> None:
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "The boat", TEXT))
    article = service.workspace("me").article
    assert article is not None
    one, other, _ = (place.paragraph for place in article.places)
    seen = set()
    for _ in range(3):  # five pictures, two of them at other places
        place = service.change("me", lambda article: article.next_best(one)).at(one)  # type: ignore[union-attr]
        assert place is not None
        seen.add(place.chosen)
    assert len(seen) == 3
    before = service.workspace("me").article
    swapped = service.change("me", lambda article: article.swapped(one, other))
    assert swapped.at(one).chosen == before.at(other).chosen  # type: ignore[union-attr]
    removed = service.change("me", lambda article: article.chosen(one, None))
    assert one not in service.pictures("me")
    assert removed.at(other).chosen is not None  # type: ignore[union-attr]
    list(service.recaption("me", other, "seven grey horses"))
    after = service.workspace("me").article
    assert after.at(other).caption == "seven grey horses"  # type: ignore[union-attr]


def test_an_article_follows_its_text_and_no_other(service: IllustrationService, tmp_path: Path) -> None:
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "The boat", TEXT))
    before = service.workspace("me").article
    assert before is not None
    first, *others = (place.paragraph for place in before.places)
    edited = [*TEXT[:first], "Edited.", "New.", *TEXT[first + 1 :]]
    after = before.told_as(edited)
    assert after.paragraphs == tuple(edited)
    assert after.at(first).chosen == before.at(first).chosen  # type: ignore[union-attr]
    for paragraph in others:
        assert after.at(paragraph + 1).caption == before.at(paragraph).caption  # type: ignore[union-attr]
    assert before.told_as(["Another", "story."]) is before
    assert before.told_as([]) is before


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
    assert service.workspace("other").pictures == []
    service.leave("me")
    assert service.workspace("me").pictures == []


def test_albums_share_a_bound_and_a_small_one_has_always_room(tmp_path: Path) -> None:
    service = IllustrationService(FakeRegistry(FakeModel("tiny")), lambda: pytest.fail("not reached"), most_bytes=6400)
    files = album(tmp_path) * 10
    assert [type(error) for error in service.add("greedy", files)] == [AlbumsFull]
    assert len(service.workspace("greedy").pictures) > 5
    assert [type(error) for error in service.add("late", files)] == [AlbumsFull]
    assert len(service.workspace("late").pictures) == 1
    service.leave("greedy")
    assert service.add("late", files[:1]) == []


def test_five_hundred_pictures_are_taken_and_no_more(service: IllustrationService, tmp_path: Path) -> None:
    [(path, name)] = album(tmp_path, 1)
    refused = service.add("me", [(path, name)] * (MOST_PICTURES + 2))
    assert len(service.workspace("me").pictures) == MOST_PICTURES
    assert [type(error) for error in refused] == [AlbumFull]
    *_, last = service.illustrate("me", "Many", TEXT[:2])
    assert last.done == MOST_PICTURES


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("huge.png", png_header(10_000, 10_000), "at most 50 megapixels"),
        ("cut.jpg", file_of(halves((400, 400)), "JPEG")[:1500], "incomplete or damaged"),
        ("script.svg", b"<svg><script>alert(1)</script></svg>", "SVG"),
        ("notes.jpg", b"hello", "no picture"),
    ],
)
def test_bad_pictures_are_named_and_the_others_taken(
    service: IllustrationService, tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(data)
    [refused] = service.add("me", [(tmp_path / name, name), *album(tmp_path, 2)])
    assert name in refused.text("zh")
    assert sentence in refused.text("en")
    assert len(service.workspace("me").pictures) == 2
    list(service.illustrate("me", "t", TEXT[:2]))
    assert len(service.pictures("me")) == 1


def test_a_turned_photo_and_a_moving_one_stand_upright_still_and_without_their_location(
    service: IllustrationService, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(GPS)[LATITUDE] = (31.0, 14.0, 3.0)
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    (tmp_path / "turned.jpg").write_bytes(file_of(halves((60, 40)), "JPEG", exif=exif))
    (tmp_path / "moving.gif").write_bytes(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert service.add("me", [(tmp_path / name, name) for name in ("turned.jpg", "moving.gif")]) == []
    turned, moving = service.workspace("me").pictures
    assert Image.open(BytesIO(turned)).size == (40, 60)
    assert not Image.open(BytesIO(turned)).getexif()
    assert b"Exif" not in turned
    assert Image.open(BytesIO(moving)).getpixel((9, 9))[0] > 200  # type: ignore[index]
    list(service.illustrate("me", "t", TEXT[:2]))
    packed = ZipFile(BytesIO(export.archive("t", TEXT[:2], service.pictures("me"))))
    assert not any(b"Exif" in packed.read(name) for name in packed.namelist() if name.startswith("pictures/"))


def test_what_is_missing_is_said_in_a_sentence(service: IllustrationService, tmp_path: Path) -> None:
    with pytest.raises(NoPictures, match="Choose pictures first"):
        list(service.illustrate("me", "t", TEXT))
    with pytest.raises(NothingWritten):
        list(service.illustrate("me", "t", ()))
    account = ModelRegistry(Placement("cpu", "auto", None, 2000, tmp_path), "smollm2-135m")
    model = FakeModel("tiny")
    far = IllustrationService(FakeRegistry(model), held_by(account.hold, "./no/such/model", "", "cpu"))
    far.add("me", album(tmp_path))
    with pytest.raises(NoPictureModel, match="--picture-model"):
        list(far.illustrate("me", "t", TEXT))
    assert not model.prompts  # it is said before any caption is written


def test_the_closest_pair_is_given_away_first() -> None:
    captions = np.array([[1.0, 0.0], [0.8, 0.6]], dtype=np.float32)
    pictures = np.array([[0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    ranking = rank(captions, pictures)
    assert ranking == [[0, 1], [0, 1]]
    assert assign(ranking, captions, pictures) == [1, 0]
    assert assign(ranking, captions, pictures[:1]) == [None, 0]


def test_a_caption_falls_back_to_the_text_and_ends_on_a_phrase() -> None:
    long = "The old boat lay on the grey sand, " + "far from the sea " * 8 + "and nobody came."
    *_, told = captions_for(FakeModel("tiny", lambda _: []), long, "me")
    assert told == "The old boat lay on the grey sand"
    *_, told = captions_for(FakeModel("tiny", lambda _: ["A boat on the sand"]), long, "me")
    assert told == "A boat on the sand"
    assert shortened("灯塔" * 10 + "，" + "海" * 120) == "灯塔" * 10
    assert shortened("word " * 40).endswith("word…")
    assert whole_phrases("It costs 3.5, or 1,000 in") == "It costs 3.5"


def see(answer: str) -> FakeModel:
    return FakeModel("eyes", lambda _: pieces(answer), is_multimodal=True)


@pytest.mark.parametrize(
    ("answer", "place"),
    [("2", 1), ("Picture 3.", 2), ("３", 2), ("none of them", None), ("7", None), ("0", None), ("", None)],
)
def test_a_model_that_sees_picks_among_the_closest(clip: str, tmp_path: Path, answer: str, place: int | None) -> None:
    embedder, eyes = PictureEmbedder(clip, ""), see(answer)
    words = FakeModel("tiny", lambda _: ["A boat"])
    service = IllustrationService(FakeRegistry(words, eyes), lambda: nullcontext(embedder))
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "t", TEXT[:1]))
    closest = service.workspace("me").article.places[0]  # type: ignore[union-attr]
    assert not eyes.prompts, "off unless asked for"
    steps = list(service.illustrate("me", "t", TEXT[:1], visitor="ada", vision_model="eyes"))
    [(messages, sampling, visitor)] = eyes.prompts
    assert (sampling.temperature, visitor, steps[-1].step) == (0, "ada", "picking")
    assert "A boat" in messages[0]["content"]
    shown = [Image.open(BytesIO(image)).size for image in messages[0]["images"]]
    assert shown == [Image.open(BytesIO(service.workspace("me").pictures[one])).size for one in closest.ranking[:3]]
    picked = service.workspace("me").article.places[0].chosen  # type: ignore[union-attr]
    assert picked == (closest.chosen if place is None else closest.ranking[place])


def test_what_it_picks_stands_nowhere_else(clip: str, tmp_path: Path) -> None:
    embedder = PictureEmbedder(clip, "")
    service = IllustrationService(FakeRegistry(FakeModel("tiny"), see("2")), lambda: nullcontext(embedder))
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "t", TEXT, vision_model="eyes"))
    places = service.workspace("me").article.places  # type: ignore[union-attr]
    assert len({place.chosen for place in places}) == len(places) == 3


def test_a_model_that_does_not_see_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    blind = FakeModel("tiny")
    service = IllustrationService(FakeRegistry(blind), lambda: pytest.fail("not reached"))
    service.add("me", album(tmp_path, 1))
    with pytest.raises(CannotSee):
        list(service.illustrate("me", "t", TEXT, vision_model="tiny"))
    assert not blind.prompts


def test_a_real_eye_of_random_weights_is_asked_and_leaves_an_article(
    clip: str, tmp_path: Path, packaged_folder: Path
) -> None:
    eyes = str(save_tiny_internvl(tmp_path / "eyes", packaged_folder))
    registry = ModelRegistry(Placement("cpu", "float32", None, 4096, packaged_folder.parent.parent), eyes)
    answered: list[str] = []
    registry.meter.observers.append(lambda told: answered.append(f"{told.visitor} {told.prompt_tokens}"))
    service = IllustrationService(registry, held_by(registry.hold, clip, "", "cpu"))
    service.add("me", album(tmp_path))
    steps = [step.step for step in service.illustrate("me", "t", TEXT[:1], eyes, "ada", eyes)]
    assert steps[-1] == "picking"
    registry.meter.flush()
    caption, choice = (int(told.split()[1]) for told in answered)
    assert choice > caption + 3 * 4, "three pictures of at least four tokens"
    article = service.workspace("me").article
    assert article is not None
    assert article.places[0].chosen in article.places[0].ranking[:3]
    assert all(entry.leases == 0 for entry in registry.ledger().models)
    registry.close()


def test_a_stop_is_heard_while_the_picture_model_loads(clip: str, tmp_path: Path) -> None:
    loaded, let_go = threading.Event(), threading.Event()

    @contextmanager
    def slow() -> Iterator[PictureEmbedder]:
        loaded.wait()
        try:
            yield PictureEmbedder(clip, "")
        finally:
            let_go.set()

    service = IllustrationService(FakeRegistry(FakeModel("tiny")), slow)
    service.add("me", album(tmp_path, 1))
    running = service.illustrate("me", "t", TEXT[:1])
    while next(running).step != "readying":
        pass
    running.close()  # type: ignore[attr-defined]
    loaded.set()
    assert let_go.wait(120)
    assert (service.workspace("me").vectors, service.workspace("me").article) == ({}, None)


def test_pictures_stay_with_their_paragraphs_when_the_text_changes(
    service: IllustrationService, tmp_path: Path
) -> None:
    assert carried_over({1: "b", 2: "c"}, "abc", "xabc") == {2: "b", 3: "c"}
    assert carried_over({1: "b", 2: "c"}, "abc", "ac") == {0: "b", 1: "c"}
    assert carried_over({1: "b"}, "abc", "axc") == {1: "b"}
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "The boat", TEXT))
    kept = service.pictures_for("me", ("A new beginning.", *TEXT))
    assert sorted(kept) == [place + 1 for place in sorted(service.pictures("me"))]
    assert service.pictures_for("me", ("Quite another story.",)) == {}


def test_a_markdown_that_stands_alone_holds_its_pictures(service: IllustrationService, tmp_path: Path) -> None:
    service.add("me", album(tmp_path))
    list(service.illustrate("me", "The boat", TEXT))
    text = export.markdown("The boat", TEXT, service.pictures("me"), alone=True)
    assert text.count("](data:image/jpeg;base64,/9j/") == 3
