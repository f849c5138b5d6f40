"""One warm sandbox for the whole test session; starting another one takes seconds."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.limits import Limits
from app.agent.sandbox.probe import Finding, probe


@pytest.fixture(scope="session")
def finding() -> Finding:
    """What the sandbox is worth here."""
    return probed()


@pytest.fixture(scope="session")
def sandbox(finding: Finding) -> Iterator[Sandbox]:
    """With all libraries and the usual limits."""
    with tempfile.TemporaryDirectory() as place:  # open to the user that a root server's sandbox becomes
        Path(place).chmod(0o755)
        made = Sandbox(Path(place), with_files=finding.mode == "files")
        made.start()  # as a server does at its own start
        yield made
        made.close()


@pytest.fixture(scope="session")
def bare_sandbox(finding: Finding) -> Iterator[Sandbox]:
    """With the standard library alone, for cells that run into a limit: 1 s for each."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        made = Sandbox(Path(place), Limits(cell_seconds=1), with_files=finding.mode == "files", bare=True)
        yield made
        made.close()


def probed() -> Finding:
    """Where the kernel offers none the test is skipped; one that lets an attack through fails it."""
    found = probe()
    assert all(attack.held for attack in found.attacks), list(found.lines())
    if found.mode == "off":
        pytest.skip("no sandbox here")
    return found


def folders_of(sandbox: Sandbox) -> list[str]:
    """The folders of sessions that live now."""
    session = sandbox.open()
    try:
        return sorted(path.name for path in session.folder.parent.iterdir() if path != session.folder)
    finally:
        session.close()
