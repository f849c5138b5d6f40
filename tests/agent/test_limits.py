"""What ends a task or a session, and what is refused: stop, time, visitors, files, no sandbox."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.access.client_address import ClientAddresses
from app.access.later import later
from app.agent.conversation import Bounds
from app.agent.errors import AlreadyRunning, FileTooLarge, NoTask, OwnSessionsSpent, TooManySessions
from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.probe import Finding, SandboxUnavailable
from app.agent.sandbox.session import Session
from app.agent.service import AgentService
from app.agent.steps import Step
from app.models.interface import Ledger, LedgerEntry
from tests.agent.scripted import python, scripted, solve
from tests.fakes import FakeRegistry
from tests.sandbox_fixtures import folders_of
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def test_the_time_limit_ends_code_and_task(service: AgentService) -> None:
    steps = solve(service, scripted(python("while True: pass"), "never"), seconds=0.5)
    assert (steps[-1].kind, list(steps[-1].notes)) == ("error", ["time"])
    assert "never" not in [step.text for step in steps]


def test_waiting_for_the_model_takes_no_time_of_the_task_but_not_for_ever(service: AgentService) -> None:
    model = scripted("never comes", gate=threading.Semaphore(0))
    service.registry = FakeRegistry(model)
    until = time.monotonic() + 1.5
    waiting = service.run("me", "task", "", Bounds(seconds=1))
    while time.monotonic() < until:
        assert next(waiting) == []
    assert not model.generations[0].cancelled.is_set()
    waiting.close()
    assert list(solve(service, model=scripted("nor here", gate=model.gate), seconds=0.02)[-1].notes) == ["time"]


def test_stop_ends_the_generation(service: AgentService) -> None:
    gate = threading.Semaphore(3)
    model = scripted("word " * 100, gate=gate)
    service.registry = FakeRegistry(model)
    running = service.run("me", "task")
    next(running)
    service.stop("me")
    gate.release(100)
    steps = list(running)[-1]
    assert (steps[-1].kind, list(steps[-1].notes)) == ("stopped", ["stopped"])
    assert model.generations[0].cancelled.is_set()


def test_stop_ends_running_code(service: AgentService) -> None:
    service.registry = FakeRegistry(scripted(python("while True: pass"), "never"))
    running = service.run("me", "task")
    next(running)
    threading.Timer(0.3, service.stop, ["me"]).start()
    steps = list(running)[-1]
    assert [(step.kind, step.state) for step in steps[:2]] == [("code", "stopped"), ("stopped", "stopped")]
    assert (list(steps[-2].notes), list(steps[-1].notes)) == (["code_stopped"], ["stopped"])


def test_one_task_at_a_time_for_a_visitor(service: AgentService) -> None:
    service.registry = FakeRegistry(scripted("a b c"))
    running = service.run("me", "task")
    next(running)
    with pytest.raises(AlreadyRunning):
        next(service.run("me", "task"))
    running.close()
    assert solve(service, scripted("ok"))[-1].text == "ok"


def test_limits_on_visitors_tasks_and_files(bare_sandbox: Sandbox, finding: Finding, tmp_path: Path) -> None:
    service = AgentService(FakeRegistry(), tmp_path, most_sessions=1, finding=finding, sandbox=bare_sandbox)
    try:
        with pytest.raises(NoTask):
            next(service.run("me", "  "))
        (tmp_path / "big").write_bytes(bytes((service.limits.file_mib << 20) + 1))
        if service.with_files:
            with pytest.raises(FileTooLarge):
                service.add_file("me", tmp_path / "big", "big")
        list(service.run("me", "hello"))
        with pytest.raises(TooManySessions):
            list(service.run("you", "hello"))
    finally:
        service.close()


def test_nobody_takes_more_than_half_of_the_places(bare_sandbox: Sandbox, finding: Finding, tmp_path: Path) -> None:
    addresses = ClientAddresses(watched=True)
    for number in range(5):
        addresses.note(f"guest {number}", "8.8.8.8")
    service = AgentService(
        FakeRegistry(), tmp_path, most_sessions=4, finding=finding, sandbox=bare_sandbox, addresses=addresses
    )
    try:
        for number in range(2):
            list(service.run(f"page {number}", "hello", visitor=f"guest {number}"))
        with pytest.raises(OwnSessionsSpent, match="2 interpreters"):
            list(service.run("page 2", "hello", visitor="guest 2"))
        for number in range(2):
            list(service.run(f"ada {number}", "hello", visitor="ada"))
        service.reset("page 0")
        with pytest.raises(OwnSessionsSpent):
            list(service.run("ada 2", "hello", visitor="ada"))
        list(service.run("page 2", "hello", visitor="guest 2"))
        with pytest.raises(TooManySessions):
            list(service.run("lin", "hello", visitor="lin"))
    finally:
        service.close()


def test_an_idle_session_goes_without_anyone_coming(bare_sandbox: Sandbox, finding: Finding, tmp_path: Path) -> None:
    service = AgentService(FakeRegistry(), tmp_path, idle_seconds=0.2, finding=finding, sandbox=bare_sandbox)
    try:
        service.warm_up()
        list(service.run("me", "hello"))
        assert service.talk("me")
        wait_for(lambda: not service.talk("me"))
        wait_for(lambda: folders_of(bare_sandbox) == [])
    finally:
        service.close()


def test_a_page_that_is_open_keeps_its_files_however_idle_it_is(
    bare_sandbox: Sandbox, finding: Finding, tmp_path: Path
) -> None:
    service = AgentService(FakeRegistry(), tmp_path, idle_seconds=0, finding=finding, sandbox=bare_sandbox)
    if not service.with_files:
        pytest.skip("no files here")
    service.page_is_open = lambda session: session == "me"
    try:
        solve(service, scripted(python("x = 5; open('five', 'w').write('5')"), "done"))
        solve(service, scripted("hello"), visitor="closed")
        steps = solve(service, scripted(python("print(open('five').read(), x)"), "sorry"))
        assert list(steps[0].notes) == ["rested"] and "NameError" in steps[2].text
        assert service.read_file("me", "five", 1) == b"5"
        assert [exchange.number for exchange in service.talk("me")] == [1, 2] and not service.talk("closed")
    finally:
        service.close()


def test_a_page_that_was_idle_for_long_gives_its_place_to_who_needs_one_and_says_so(
    bare_sandbox: Sandbox, finding: Finding, tmp_path: Path
) -> None:
    service = AgentService(
        FakeRegistry(), tmp_path, most_sessions=1, idle_seconds=0, finding=finding, sandbox=bare_sandbox
    )
    service.page_is_open = lambda _: True
    try:
        solve(service, scripted(python("open('five', 'w').write('5')"), "done"))
        solve(service, scripted("hello"), visitor="you")
        assert (service.talk("me"), service.files("me")) == ([], [])
        assert list(solve(service, scripted("hello"))[0].notes) == ["gave_way"]
        assert [step.kind for step in solve(service, scripted("again"))] == ["note", "answer"]
    finally:
        service.close()


def test_a_connection_that_comes_back_finds_its_files(bare_sandbox: Sandbox, finding: Finding, tmp_path: Path) -> None:
    service = AgentService(FakeRegistry(), tmp_path, closed_page_seconds=0, finding=finding, sandbox=bare_sandbox)
    pages = {"me"}
    service.page_is_open = pages.__contains__
    try:
        solve(service, scripted("hello"))
        service.leave("me")
        later.call(0, lambda: None).join()
        assert service.talk("me")
        pages.clear()
        service.leave("me")
        wait_for(lambda: not service.talk("me"))
        wait_for(lambda: folders_of(bare_sandbox) == [])
    finally:
        service.close()


@pytest.fixture
def in_a_while(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is to be done later: the test does it."""
    planned: list[Callable[[], None]] = []
    monkeypatch.setattr(later, "call", lambda _, deed: planned.append(deed))
    return planned


def test_a_page_that_is_closed_while_its_task_runs_leaves_nothing(
    bare_sandbox: Sandbox, finding: Finding, tmp_path: Path, in_a_while: list[Callable[[], None]]
) -> None:
    model = scripted("never comes", gate=threading.Semaphore(0))
    service = AgentService(FakeRegistry(model), tmp_path, finding=finding, sandbox=bare_sandbox)
    try:
        running = threading.Thread(target=lambda: list(service.run("me", "wait")))
        running.start()
        wait_for(lambda: bool(model.generations))
        service.leave("me")
        running.join(120)
        (forget,) = in_a_while
        forget()
        assert folders_of(bare_sandbox) == []
    finally:
        service.close()


def test_a_page_that_is_closed_while_its_first_session_opens_leaves_nothing(
    bare_sandbox: Sandbox,
    finding: Finding,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_a_while: list[Callable[[], None]],
) -> None:
    service = AgentService(FakeRegistry(scripted("hello")), tmp_path, finding=finding, sandbox=bare_sandbox)
    opens, may, usual = threading.Event(), threading.Event(), bare_sandbox.open

    def open_slowly() -> Session:
        opens.set()
        assert may.wait(120)
        return usual()

    monkeypatch.setattr(bare_sandbox, "open", open_slowly)
    try:
        running = threading.Thread(target=lambda: list(service.run("me", "wait")))
        running.start()
        assert opens.wait(120)
        service.leave("me")
        may.set()
        running.join(120)
        (forget,) = in_a_while
        forget()
        assert folders_of(bare_sandbox) == []
    finally:
        service.close()


def test_stop_is_heard_before_the_first_token(service: AgentService) -> None:
    model = scripted("never comes", gate=threading.Semaphore(0))
    service.registry = FakeRegistry(model)
    seen: list[list[Step]] = []
    running = threading.Thread(target=lambda: seen.extend(list(service.run("me", "wait"))))
    running.start()
    wait_for(lambda: bool(model.generations))
    service.stop("me")
    running.join(120)
    assert not running.is_alive()
    assert list(seen[-1][-1].notes) == ["stopped"]
    assert model.generations[0].cancelled.is_set()


def test_the_loading_of_the_model_is_shown(service: AgentService) -> None:
    class SlowRegistry(FakeRegistry):
        """Three looks at the ledger long, the model is being loaded."""

        looks = 3

        def ledger(self) -> Ledger:
            self.looks -= 1
            state = "loading" if self.looks > 0 else "ready"
            entry = LedgerEntry("scripted", "chat", state, "cpu", 1, 0, (), 0, progress=0.4)
            return Ledger(1, 1, (entry,))

    service.registry = SlowRegistry(scripted("ok"))
    shown = list(service.run("me", "task"))
    assert [(step.kind, step.text) for step in shown[0]] == [("loading", "40%")]
    assert [(step.kind, step.text) for step in shown[-1]] == [("answer", "ok")]


def test_without_a_sandbox_nothing_runs(tmp_path: Path) -> None:
    service = AgentService(FakeRegistry(), tmp_path, finding=Finding("off", (), "因为", "because"))
    assert not service.available
    with pytest.raises(SandboxUnavailable, match="because"):
        next(service.run("me", "print"))
    with pytest.raises(SandboxUnavailable):
        next(service.interpret("1"))
