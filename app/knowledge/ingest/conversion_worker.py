"""Parse files in child processes: each file in a locked one of its own, forked from a worker that has the parsers.

A hostile file costs its own child, which can open nothing else, reach no network and start nothing. Time and memory are
limited; a worker that does not answer is started again.
"""

import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait  # select knows no descriptors from 1,024 on
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from app.knowledge.ingest import scans
from app.knowledge.ingest.converting import convert, import_parsers, needs_worker, suffix_of
from app.knowledge.ingest.documents import Note, Text, Unreadable
from app.lockdown.kernel import hide_from_debuggers
from app.lockdown.one_file import run_on_file, what_locks
from app.paths import ROOT

log = logging.getLogger(__name__)
SECONDS = 180.0


@dataclass(frozen=True)
class Reply:
    """A file's text, or why there is none."""

    text: Text | None
    reason: Note = ("", "")


REPLIES = TypeAdapter(Reply)
CRASHED = Reply(
    None,
    (
        "读取时占用内存过多或解析器崩溃，已跳过。",
        "Reading it used too much memory or crashed the parser; it was passed over.",
    ),
)


class Converter:
    """Converts in a child what needs a parser, and plain text at once. Safe to use from several threads."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, path: Path, name: str) -> Text:
        if not needs_worker(name):
            with path.open("rb") as file:
                return convert(file, name)
        with self._lock:
            reply = _read(self._ask({"path": str(path), "name": name}))
        if reply.text is None:
            reason_zh, reason_en = reply.reason
            raise Unreadable(reason_zh=reason_zh, reason_en=reason_en)
        return reply.text

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
            line = child.stdout.readline() if wait([child.stdout.fileno()], self.seconds) else None
        except BrokenPipeError:
            line = b""
        if not line:
            self._end()
        if line is None:
            raise Unreadable(
                reason_zh=f"读取超过 {self.seconds:.0f} 秒，已跳过。",
                reason_en=f"Reading took over {self.seconds:.0f} seconds and was given up.",
            )
        return line

    def _start(self) -> subprocess.Popen[bytes]:
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "app.knowledge.ingest.conversion_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        assert child.stdout
        locked = child.stdout.readline().decode().strip()
        if locked == "none":
            log.warning("documents are parsed without the sandbox's lockdown: this system offers none")
        return child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()


def _read(line: bytes) -> Reply:
    """What a child wrote, which may be anything."""
    try:
        return REPLIES.validate_json(line)
    except ValidationError:
        return CRASHED


def answer(file: BinaryIO, name: str) -> bytes:
    """In the locked child: the file's text as a reply."""
    try:
        reply = Reply(convert(file, name))
    except Unreadable as error:
        reply = Reply(None, (error.text("zh"), error.text("en")))
    return REPLIES.dump_json(reply)


def serve() -> None:
    """The worker: one request a line, one reply a line."""
    requests, answers = sys.stdin, sys.stdout.buffer
    import_parsers()
    if sys.platform == "linux":
        hide_from_debuggers()
    answers.write(what_locks().encode() + b"\n")
    answers.flush()
    for line in requests:
        request = json.loads(line)
        if suffix_of(request["name"]) == ".pdf":
            scans.reader()  # its models are loaded once, while files can be opened
        with Path(request["path"]).open("rb") as file:
            reply = run_on_file(partial(answer, name=request["name"]), file)
        answers.write(reply.replace(b"\n", b" ") + b"\n")
        answers.flush()


if __name__ == "__main__":
    serve()
