"""The test's end of `confined.py`: a server of its own that keeps sandbox sessions as some identity."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFINED = Path(__file__).with_name("confined.py")


class ConfinedServer:
    """A running server process; sessions are named by the caller."""

    def __init__(self, identity: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CONFINED), identity, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.greeting = self._answer()

    @property
    def mode(self) -> str:
        return str(self.greeting["mode"])

    def open(self, name: str) -> str:
        """The folder of a new session."""
        return str(self._ask(do="open", session=name)["folder"])

    def run(self, name: str, code: str) -> dict[str, Any]:
        return self.run_side_by_side({name: code})[0]

    def run_side_by_side(self, codes: dict[str, str]) -> list[dict[str, Any]]:
        """One cell in each of several sessions at once."""
        return list(self._ask(do="run", codes=codes)["results"])

    def end_session(self, name: str) -> None:
        self._ask(do="close", session=name)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(120)
        self.process.stdout.close()

    def _ask(self, **order: object) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the server died"
        answer: dict[str, Any] = json.loads(line)
        return answer
