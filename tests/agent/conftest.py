"""One service in its sandbox for a file of tests, each test with fresh visitors."""

from collections.abc import Iterator

import pytest

from app.agent.sandbox.limits import Limits
from app.agent.sandbox.probe import probe
from app.agent.service import AgentService
from tests.fakes import FakeRegistry


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentService]:
    finding = probe()
    if finding.mode == "off":
        pytest.skip("no sandbox here")
    service = AgentService(
        FakeRegistry(), tmp_path_factory.mktemp("data"), limits=Limits(cell_seconds=3), finding=finding
    )
    yield service
    service.close()


@pytest.fixture
def service(shared: AgentService) -> Iterator[AgentService]:
    yield shared
    for visitor in ("me", "you"):
        shared.reset(visitor)
