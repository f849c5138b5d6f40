"""Every attack, as root, as an ordinary user, and in a container with and without Landlock.

After each the attacked server answers, a session beside it still has its variables, and a new one can be opened.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from app.agent.sandbox.probe import probe
from app.paths import ROOT
from tests.agent.sandbox import attacks
from tests.agent.sandbox.server import ConfinedServer

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="needs Linux on x86_64"),
    pytest.mark.timeout(120),
]

IDENTITIES = ["root", "user", "container", "container-without-landlock"]
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

    def attack(self, code: str) -> dict[str, object]:
        """Run `code` in a new session, then check that everybody else is well."""
        name = f"attacker {next(self.numbers)}"
        self.server.open(name)
        replaced = {
            "SERVER": str(self.server.greeting["pid"]),
            "SOURCE": str(ROOT / "app" / "errors.py"),
            "OTHER": self.bystander,
            "OUTSIDE": str(self.outside),
            "PORT": str(self.port),
        }
        for word, value in replaced.items():
            code = code.replace(word, value)
        before = (self.outside / "kept").stat()
        result = self.server.run(name, code)
        bystander = self.server.run("bystander", "kept + 1")
        again = self.server.run(name, "6 * 7")
        self.server.end_session(name)
        after = (self.outside / "kept").stat()
        assert bystander["value"] == "42", bystander
        assert again["value"] == "42", again
        assert [entry.name for entry in self.outside.iterdir()] == ["kept"]
        assert (before.st_mode, before.st_mtime, before.st_uid) == (after.st_mode, after.st_mtime, after.st_uid)
        assert (self.outside / "kept").read_text() == "kept"
        return result


@pytest.fixture(scope="module", params=IDENTITIES)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    identity = request.param
    if identity == "root" and os.getuid() != 0:
        pytest.skip("needs root")
    if probe().mode == "off":
        pytest.skip("no sandbox here")
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


def test_the_probe_finds_the_best_mode(scene: Scene, request: pytest.FixtureRequest) -> None:
    expected = "no files" if "without-landlock" in request.node.name else "files"
    assert scene.server.mode == expected, scene.server.greeting["lines"]


@pytest.mark.parametrize("name", QUICK)
def test_an_attack_is_held_off(scene: Scene, name: str) -> None:
    result = scene.attack(QUICK[name])
    said = f"{result['output']}{result['value']}"
    assert "GOT" not in said, said
    assert len(said) < 50_000


@pytest.mark.parametrize("name", attacks.ENDINGS)
def test_a_dying_child_costs_only_its_own_variables(scene: Scene, name: str) -> None:
    result = scene.attack(attacks.ENDINGS[name])
    assert result["ending"] == "died"
    assert result["variables_lost"]


@pytest.mark.parametrize("name", attacks.SLOW)
def test_an_endless_cell_is_ended_in_time(scene: Scene, name: str) -> None:
    result = scene.attack(attacks.SLOW[name])
    assert result["ending"] == "too slow"
    assert float(str(result["seconds"])) < 4


def test_a_full_disk_is_bounded(scene: Scene) -> None:
    if scene.server.mode != "files":
        pytest.skip("nothing can be written")
    result = scene.attack(
        "for number in range(1000):\n    with open(f'{number}', 'wb') as file: file.write(bytes(7 << 20))\nprint('GOT')"
    )
    assert result["ending"] == "too much disk"


def test_deleted_files_that_stay_open_are_bounded(scene: Scene) -> None:
    result = scene.attack(
        "import os\nheld = []\nfor number in range(1000):\n    file = open('same', 'wb')\n"
        "    file.write(bytes(1 << 20))\n    os.unlink('same')\n    held.append(file)\nprint('GOT')"
    )
    assert "GOT" not in str(result["output"])


def test_two_hundred_thousand_empty_files_are_bounded(scene: Scene) -> None:
    if scene.server.mode != "files":
        pytest.skip("nothing can be written")
    result = scene.attack("for number in range(200000): open(f'{number}', 'w').close()\nprint('GOT')")
    assert result["ending"] == "too much disk"


def test_folders_nested_out_of_reach_are_removed(scene: Scene) -> None:
    if scene.server.mode != "files":
        pytest.skip("nothing can be written")
    scene.attack("import os\nfor _ in range(250):\n    os.mkdir('d' * 200, 0o300)\n    os.chdir('d' * 200)")


def test_a_gigabyte_printed_is_cut(scene: Scene) -> None:
    result = scene.attack("import os\nfor _ in range(1024): os.write(1, b'x' * (1 << 20))\nprint('GOT')")
    assert result["ending"] == "too much output"
    assert "GOT" not in str(result["output"])
    assert len(str(result["output"])) < 25_000


def test_nothing_runs_between_cells(scene: Scene) -> None:
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


def test_no_process_outlives_its_session(scene: Scene) -> None:
    scene.server.open("leaving")
    child = int(scene.server.run("leaving", "import os; os.getpid()")["value"])
    assert processor_ticks(child) is not None
    scene.server.end_session("leaving")
    assert processor_ticks(child) is None


def processor_ticks(process: int) -> int | None:
    """User and system time of a process, None when there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[11]) + int(fields[12])
