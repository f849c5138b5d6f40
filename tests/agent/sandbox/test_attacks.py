"""Every attack: one by one as an ordinary user, as subtests as root and in a container with and without Landlock.

After each the attacked server answers, a session beside it still has its variables, and a new one can be opened.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.paths import ROOT
from tests.agent.sandbox import attacks
from tests.agent.sandbox.server import ConfinedServer
from tests.sandbox_fixtures import probed

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="needs Linux on x86_64"),
]

OTHERS = ["root", "container", "container-without-landlock"]
QUICK = {
    f"{group}: {name}": code
    for group, codes in (
        ("reading", attacks.READING),
        ("writing", attacks.WRITING),
        ("network", attacks.NETWORK),
        ("processes", attacks.PROCESSES),
        ("kernel", attacks.KERNEL),
        ("amounts", attacks.AMOUNTS),
    )
    for name, code in codes.items()
}


@dataclass
class Scene:
    """A server under attack, a bystander's session, and a folder outside that must not change."""

    server: ConfinedServer
    bystander: str
    outside: Path
    port: int
    numbers: Iterator[int] = field(default_factory=count)

    def attack(self, code: str) -> dict[str, Any]:
        """Run `code` in a new session, then check that everybody else is well."""
        return self.attack_together({"alone": code})["alone"]

    def attack_together(self, codes: dict[str, str]) -> dict[str, dict[str, Any]]:
        """The same, with several attacks side by side, each in a session of its own."""
        names = {key: f"attacker {next(self.numbers)}" for key in codes}
        for name in names.values():
            self.server.open(name)
        before = (self.outside / "kept").stat()
        filled = {names[key]: self._filled(code) for key, code in codes.items()}
        results = dict(zip(codes, self.server.run_side_by_side(filled), strict=True))
        checked = {"bystander": "kept + 1"} | dict.fromkeys(names.values(), "6 * 7")
        assert [answer["value"] for answer in self.server.run_side_by_side(checked)] == ["42"] * len(checked)
        for name in names.values():
            self.server.end_session(name)
        after = (self.outside / "kept").stat()
        assert [entry.name for entry in self.outside.iterdir()] == ["kept"]
        assert (before.st_mode, before.st_mtime, before.st_uid) == (after.st_mode, after.st_mtime, after.st_uid)
        assert (self.outside / "kept").read_text() == "kept"
        return results

    def _filled(self, code: str) -> str:
        replaced = {
            "SERVER": str(self.server.greeting["pid"]),
            "SOURCE": str(ROOT / "app" / "errors.py"),
            "OTHER": self.bystander,
            "OUTSIDE": str(self.outside),
            "PORT": str(self.port),
        }
        for word, value in replaced.items():
            code = code.replace(word, value)
        return code


@contextmanager
def confined(identity: str) -> Iterator[Scene]:
    if identity == "root" and os.getuid() != 0:
        pytest.skip("needs root")
    probed()
    # Not tmp_path: that is closed to the users this test becomes.
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as listening:
        Path(place).chmod(0o755)
        sessions, outside = Path(place) / "sessions", Path(place) / "outside"
        for folder in (sessions, outside):
            folder.mkdir()
            folder.chmod(0o777)
        (outside / "kept").write_text("kept")
        (outside / "kept").chmod(0o666)
        server = ConfinedServer(identity, sessions)
        bystander = server.open("bystander")
        server.run("bystander", "kept = 41")
        server.run("bystander", "with open('secret.txt', 'w') as file: file.write('secret')")
        yield Scene(server, bystander, outside, listening.getsockname()[1])
        server.close()
        assert list(sessions.glob("sessions-*")) == []


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with confined("user") as made:
        yield made


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with confined(request.param) as made:
        yield made


def test_the_probe_finds_the_best_mode(scene: Scene, other: Scene, request: pytest.FixtureRequest) -> None:
    expected = "no files" if "without-landlock" in request.node.name else "files"
    assert other.server.mode == expected, other.server.greeting["lines"]
    assert scene.server.mode == "files", scene.server.greeting["lines"]


@pytest.mark.parametrize("name", QUICK)
def test_an_attack_is_held_off(scene: Scene, name: str) -> None:
    check_held_off(scene.attack(QUICK[name]))


@pytest.mark.parametrize("name", attacks.ENDINGS)
def test_a_dying_child_costs_only_its_own_variables(scene: Scene, name: str) -> None:
    check_died(scene.attack(attacks.ENDINGS[name]))


def test_endless_cells_are_ended(scene: Scene, subtests: pytest.Subtests) -> None:
    check_slow(scene, subtests)


def test_every_attack_is_held_off_as_somebody_else(other: Scene, subtests: pytest.Subtests) -> None:
    for name, code in QUICK.items():
        with subtests.test(name):
            check_held_off(other.attack(code))
    for name, code in attacks.ENDINGS.items():
        with subtests.test(name):
            check_died(other.attack(code))
    check_slow(other, subtests)
    for check in OF_FILES_AND_OUTPUT:
        with subtests.test(check.__name__):
            check(other)


def check_held_off(result: dict[str, Any]) -> None:
    said = f"{result['output']}{result['value']}"
    assert "GOT" not in said, said
    assert len(said) < 50_000


def check_died(result: dict[str, Any]) -> None:
    assert result["ending"] == "died"
    assert result["variables_lost"]


def check_slow(scene: Scene, subtests: pytest.Subtests) -> None:
    """All at once; that each is ended at all and called too slow is what counts on a busy machine."""
    for name, result in scene.attack_together(attacks.SLOW).items():
        with subtests.test(name):
            assert result["ending"] == "too slow"


def a_full_disk_is_bounded(scene: Scene) -> None:
    if scene.server.mode != "files":
        return  # nothing can be written
    result = scene.attack(
        "for number in range(1000):\n    with open(f'{number}', 'wb') as file: file.write(bytes(7 << 20))\nprint('GOT')"
    )
    assert result["ending"] == "too much disk"


def deleted_files_that_stay_open_are_bounded(scene: Scene) -> None:
    result = scene.attack(
        "import os\nheld = []\nfor number in range(1000):\n    file = open('same', 'wb')\n"
        "    file.write(bytes(1 << 20))\n    os.unlink('same')\n    held.append(file)\nprint('GOT')"
    )
    assert "GOT" not in str(result["output"])


def two_hundred_thousand_empty_files_are_bounded(scene: Scene) -> None:
    if scene.server.mode != "files":
        return  # nothing can be written
    result = scene.attack("for number in range(200000): open(f'{number}', 'w').close()\nprint('GOT')")
    assert result["ending"] == "too much disk"


def folders_nested_out_of_reach_are_removed(scene: Scene) -> None:
    if scene.server.mode != "files":
        return  # nothing can be written
    scene.attack("import os\nfor _ in range(250):\n    os.mkdir('d' * 200, 0o300)\n    os.chdir('d' * 200)")


def a_gigabyte_printed_is_cut(scene: Scene) -> None:
    result = scene.attack("import os\nfor _ in range(1024): os.write(1, b'x' * (1 << 20))\nprint('GOT')")
    assert result["ending"] == "too much output"
    assert "GOT" not in str(result["output"])
    assert len(str(result["output"])) < 25_000


def nothing_runs_between_cells(scene: Scene) -> None:
    code = (
        "import signal\ndef burn(number, frame):\n    while True: pass\n"
        "signal.signal(signal.SIGALRM, burn)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "import os; os.getpid()"
    )
    scene.server.open("burner")
    child = int(scene.server.run("burner", "import os; os.getpid()")["value"])
    scene.server.run("burner", code)
    used = processor_ticks(child)
    time.sleep(0.3)  # the span over which the idle session must use nothing
    assert used is not None
    assert processor_ticks(child) == used
    scene.server.end_session("burner")


def no_process_outlives_its_session(scene: Scene) -> None:
    scene.server.open("leaving")
    child = int(scene.server.run("leaving", "import os; os.getpid()")["value"])
    assert processor_ticks(child) is not None
    scene.server.end_session("leaving")
    assert processor_ticks(child) is None


OF_FILES_AND_OUTPUT: tuple[Callable[[Scene], None], ...] = (
    a_full_disk_is_bounded,
    deleted_files_that_stay_open_are_bounded,
    two_hundred_thousand_empty_files_are_bounded,
    folders_nested_out_of_reach_are_removed,
    a_gigabyte_printed_is_cut,
    nothing_runs_between_cells,
    no_process_outlives_its_session,
)


@pytest.mark.parametrize("check", OF_FILES_AND_OUTPUT)
def test_files_output_and_processes_are_bounded(scene: Scene, check: Callable[[Scene], None]) -> None:
    check(scene)


def processor_ticks(process: int) -> int | None:
    """User and system time of a process, None when there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[11]) + int(fields[12])
