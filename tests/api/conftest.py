"""The MCP tools on a server of their own, with the sandbox behind them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from starlette.applications import Starlette

from app.access.api_keys import read_keys
from app.access.session_limits import SessionLimits
from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.probe import Finding
from app.agent.service import AgentService
from app.api.authentication import Authentication
from app.api.mcp_server import Tools
from app.api.routes import Api
from app.knowledge.service import KnowledgeService
from tests.api.mcp_client import Serving
from tests.fakes import FakeRegistry
from tests.served_app import served


@pytest.fixture
def folder() -> Iterator[Path]:
    """Open to the user a root server's sandbox becomes, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture
def serving(sandbox: Sandbox, finding: Finding) -> Serving:
    return partial(serving_at, sandbox, finding)


@contextmanager
def serving_at(
    sandbox: Sandbox,
    finding: Finding,
    registry: FakeRegistry,
    folder: Path,
    knowledge: KnowledgeService | None = None,
    *,
    interpreter: bool = False,
    keys: str = "",
    local: bool = True,
    sessions: SessionLimits | None = None,
    alive_seconds: float = 5,
) -> Iterator[str]:
    agent = AgentService(registry, folder, sandbox=sandbox, finding=finding)
    tools = Tools(
        Api(
            registry,
            Authentication(read_keys(keys)),
            lambda model, owner: "+" not in model or owner == "ada",
            comment_seconds=alive_seconds,
        ),
        agent,
        knowledge,
        sessions=sessions or SessionLimits(),
        interpreter=interpreter,
        local=local,
    )
    try:
        with served(Starlette(routes=[tools.route()], lifespan=tools.lifespan)) as address:
            yield f"{address}/mcp"
    finally:
        agent.close()
