"""The story page over a model that writes from a script, served once for the tests over HTTP and in a browser."""

from contextlib import nullcontext

import pytest

from app.story.illustrating import IllustrationService
from app.story.picture_search import PictureEmbedder
from app.story.service import StoryService
from app.web import ui
from tests.conftest import Serve
from tests.fakes import FakeModel, FakeRegistry, fake_services
from tests.story import tiny_clip
from tests.story.authors import inventive


@pytest.fixture(scope="session")
def story_registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture(scope="session")
def story_address(serve_session: Serve, story_registry: FakeRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    clip = PictureEmbedder(str(tiny_clip.save(tmp_path_factory.mktemp("clip") / "model")), "")
    illustration = IllustrationService(story_registry, lambda: nullcontext(clip))
    services = fake_services(story_registry, story=StoryService(story_registry), illustration=illustration)
    return serve_session(ui.build(services))


@pytest.fixture
def author(story_registry: FakeRegistry) -> FakeModel:
    """The page's only model, which always finds new sentences."""
    story_registry.reset(FakeModel("tiny", inventive()))
    return story_registry.models["tiny"]
