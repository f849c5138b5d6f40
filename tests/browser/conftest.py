"""The plain page, served once for all files that need no more than chat over a model that answers from a script."""

import pytest
from playwright.sync_api import Page

from app.web import ui
from tests.conftest import OpenPage, Serve
from tests.fakes import FakeModel, FakeRegistry, fake_services


@pytest.fixture(scope="session")
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture(scope="session")
def address(serve_session: Serve, registry: FakeRegistry) -> str:
    return serve_session(ui.build(fake_services(registry)))


@pytest.fixture
def model(registry: FakeRegistry) -> FakeModel:
    """The page's only model, which says what it was told."""
    registry.reset(FakeModel("tiny"))
    return registry.models["tiny"]


@pytest.fixture
def page(open_page: OpenPage, address: str, model: FakeModel) -> Page:  # noqa: ARG001
    return open_page(address)
