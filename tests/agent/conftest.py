"""One service for all tests of the agent, each with fresh visitors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.probe import Finding
from app.agent.service import AgentService
from tests.fakes import FakeRegistry


@pytest.fixture
def service(sandbox: Sandbox, finding: Finding, tmp_path: Path) -> Iterator[AgentService]:
    made = AgentService(FakeRegistry(), tmp_path, finding=finding, sandbox=sandbox)
    yield made
    made.close()


@pytest.fixture
def bare_service(bare_sandbox: Sandbox, finding: Finding, tmp_path: Path) -> Iterator[AgentService]:
    """Whose cells have the standard library and one second each."""
    made = AgentService(FakeRegistry(), tmp_path, finding=finding, sandbox=bare_sandbox)
    yield made
    made.close()
