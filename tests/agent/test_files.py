"""Each task keeps the files that it wrote, whatever later tasks do with them."""

import sys
from pathlib import Path

import pytest

from app.agent.kept_files import KeptFiles
from app.agent.sandbox.host import Sandbox
from app.agent.sandbox.limits import Limits
from app.agent.service import AgentService
from tests.agent.scripted import python, scripted, solve
from tests.sandbox_fixtures import folders_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def test_a_later_task_overwrites_and_deletes_nothing_of_an_earlier_one_s(
    bare_service: AgentService, bare_sandbox: Sandbox, tmp_path: Path
) -> None:
    service = bare_service
    if not service.with_files:
        pytest.skip("no files here")
    (tmp_path / "in.txt").write_text("mine")
    service.add_file("me", tmp_path / "in.txt", "in.txt")
    write = "import os; os.mkdir('d'); open('d/a', 'w').write('one'); open('b', 'w').write('b')"
    solve(service, scripted(python(write), "done"))
    change = "open('d/a', 'w').write('two'); os.remove('b'); open('in.txt', 'a').write('!')"
    solve(service, scripted(python(change), "done"))
    solve(service, scripted(python("print(open('d/a').read())"), "nothing written"))
    assert sorted(service.files("me")) == [(1, "b"), (1, "d/a"), (2, "d/a"), (2, "in.txt")]
    assert [service.read_file("me", *named) for named in (("d/a", 1), ("d/a", 2), ("b", 1), ("in.txt", 2))] == [
        b"one",
        b"two",
        b"b",
        b"mine!",
    ]
    (tmp_path / "in.txt").write_text("again")
    service.add_file("me", tmp_path / "in.txt", "in.txt")
    assert (0, "in.txt") in service.files("me")
    assert (service.read_file("me", "in.txt"), service.read_file("me", "in.txt", 2)) == (b"again", b"mine!")
    service.reset("me")
    assert folders_of(bare_sandbox) == []


def test_what_awaits_approval_and_what_went_wrong_belong_to_their_task(bare_service: AgentService) -> None:
    if not bare_service.with_files:
        pytest.skip("no files here")
    write = python("open('a', 'w').write('one')")
    solve(bare_service, scripted(write, python("open('a', 'w').write('two'); 1 / 0"), "failed"), approve=True)
    assert bare_service.files("me") == []
    list(bare_service.approve("me", True))
    assert bare_service.read_file("me", "a", 1) == b"one"
    list(bare_service.approve("me", True))
    assert bare_service.files("me") == [(1, "a")]
    assert bare_service.read_file("me", "a", 1) == b"two"


def test_beyond_the_limit_the_earliest_task_s_files_go_and_the_page_can_tell(tmp_path: Path) -> None:
    kept = KeptFiles(tmp_path / "kept", Limits(folder_mib=1, folder_files=3))
    half, more = tmp_path / "half", tmp_path / "more"
    half.write_bytes(bytes(500_000))
    more.write_bytes(bytes(600_000))
    kept.keep(1, [("half", half)])
    kept.keep(2, [("more", more)])
    assert kept.of(1).incomplete and not kept.of(2).incomplete
    assert kept.names(["half", "more"]) == [(0, "half"), (2, "more")]
    few = [(tmp_path / str(number)) for number in range(3)]
    for file in few:
        file.write_text("few")
    kept.keep(3, [(file.name, file) for file in few])
    assert kept.of(2).incomplete and [name for _, name in kept.names([])] == ["0", "1", "2"]
    half.write_bytes(bytes(2 << 20))
    kept.keep(3, [("half", half)])
    assert kept.of(3).incomplete and len(kept.of(3).copies) == 3, "what is too large itself pushes nothing out"
    kept.forget(before=4)
    assert kept.names([]) == []
    kept.close()
    kept.keep(4, [("half", few[0])])
    assert not (tmp_path / "kept").exists()
