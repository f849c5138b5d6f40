"""Equal uploads of two visitors are one file on disk: neither takes it from the other."""

import shutil
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from tabs.chat.pictures import Album, PictureWidgets, attach, draw_pictures
from tabs.shell.page import Page, Visitor
from tabs.shell.upload_cleanup import NotUploaded, SessionUploads, discard
from tests.fakes import FakeModel, FakeRegistry

REGISTRY = FakeRegistry(FakeModel("eyes", is_multimodal=True))


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where gradio puts the same photo, whoever sends it."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = tmp_path / "hash of its bytes" / "photo.jpg"
    path.parent.mkdir()
    Image.new("RGB", (40, 30), "teal").save(path)
    return path


@pytest.fixture
def widgets() -> PictureWidgets:
    with gr.Blocks() as blocks:
        return draw_pictures(Page(blocks, None, gr.State(), gr.BrowserState({})))


def test_two_visitors_send_the_same_picture_at_the_same_moment(photo: Path, widgets: PictureWidgets) -> None:
    for visitor in ("ada", "lin"):
        shown = attach(REGISTRY, widgets, Visitor("en", visitor, visitor), [str(photo)], Album(), "eyes")
        assert len(shown[widgets.album].waiting) == 1


def test_only_what_came_in_as_an_upload_is_taken(
    photo: Path, tmp_path_factory: pytest.TempPathFactory, widgets: PictureWidgets
) -> None:
    elsewhere = shutil.copy(photo, tmp_path_factory.mktemp("private") / "photo.jpg")
    with pytest.raises(NotUploaded):
        attach(REGISTRY, widgets, Visitor("en", "ada", "ada"), [str(elsewhere)], Album(), "eyes")


def test_an_upload_goes_unless_it_came_in_anew(photo: Path) -> None:
    again = photo.with_name("again")
    shutil.copy(photo, again)
    timer = discard([photo], 0.2)
    again.replace(photo)
    timer.join()
    assert photo.exists()
    discard([photo], 0).join()
    assert not photo.exists()


def test_a_session_that_ends_leaves_what_another_still_waits_with(photo: Path) -> None:
    uploads = SessionUploads()
    uploads.keep("ada", str(photo))
    uploads.keep("lin", str(photo))
    uploads.forget("ada").join()
    assert photo.exists()
    uploads.forget("lin").join()
    assert not photo.exists()
