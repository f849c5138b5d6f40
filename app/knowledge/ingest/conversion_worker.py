"""Child process that parses files, with limits on memory and time; started again after a bad file ends it."""

import json
import resource
import select
import subprocess
import sys
from pathlib import Path
from threading import Lock

from app.knowledge.ingest.converting import convert, needs_worker
from app.knowledge.ingest.documents import Text, Unreadable
from app.paths import ROOT

MEMORY_BYTES = 3 << 30
SECONDS = 180.0


class Converter:
    """Converts in the child what needs a parser, and plain text at once. Safe to use from several threads."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, path: Path, name: str) -> Text:
        if not needs_worker(name):
            return convert(path, name)
        with self._lock:
            reply = json.loads(self._ask({"path": str(path), "name": name}))
        if "reason_en" in reply:
            raise Unreadable(**reply)
        return Text(reply["content"], reply["markup"], tuple(reply["page_starts"]), tuple(reply["note"]))

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _ask(self, request: dict[str, str]) -> bytes:
        child = self._child or self._start()
        assert child.stdin and child.stdout
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            waiting, _, _ = select.select([child.stdout], [], [], self.seconds)
            line = child.stdout.readline() if waiting else None
        except BrokenPipeError:
            line = b""
        if line:
            return line
        self._end()
        if line is None:
            raise Unreadable(
                reason_zh=f"读取超过 {self.seconds:.0f} 秒，已跳过。",
                reason_en=f"Reading took over {self.seconds:.0f} seconds and was given up.",
            )
        raise Unreadable(
            reason_zh="读取时占用内存过多或解析器崩溃，已跳过。",
            reason_en="Reading it used too much memory or crashed the parser; it was passed over.",
        )

    def _start(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "app.knowledge.ingest.conversion_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()


def serve() -> None:
    """The child: one JSON request a line, one reply a line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers, sys.stdout = sys.stdout, sys.stderr  # parsers print
    for line in sys.stdin:
        request = json.loads(line)
        try:
            text = convert(Path(request["path"]), request["name"])
            reply: dict[str, object] = {
                "content": text.content,
                "markup": text.markup,
                "page_starts": text.page_starts,
                "note": text.note,
            }
        except Unreadable as error:
            reply = error.values
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
