"""Parse files in child processes: each file in a locked one of its own, forked from a worker that has the parsers.

A hostile file costs its own child, which can open nothing else, reach no network and start nothing. Time and memory are
limited; a worker that does not answer is started again.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait  # select knows no descriptors from 1,024 on
from pathlib import Path
from threading import Condition, get_ident
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from app.errors import StudioError
from app.knowledge.ingest import scans
from app.knowledge.ingest.converting import convert, import_parsers, needs_worker, suffix_of
from app.knowledge.ingest.documents import Note, Text, Unreadable
from app.lockdown.kernel import hide_from_debuggers
from app.lockdown.one_file import run_on_file, what_locks
from app.paths import ROOT

log = logging.getLogger(__name__)
WORKERS = 2
SECONDS = 180.0  # what one file may take
CONTENDED_SECONDS = 60.0  # the same while files of others wait
LOOK_S = 1.0


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


class ServerEnds(StudioError):
    zh = "服务器正在关闭；这个文件在下次启动后再读取。"
    en = "The server is shutting down; this file is read after the next start."


class Converter:
    """Converts in a child what needs a parser, and plain text at once. Safe to use from several threads.

    An owner's files are read one after another, in order of arrival, those of WORKERS owners at the same time; while
    others wait a file has less time, so that nobody's files hold up everybody's.
    """

    def __init__(self, seconds: float = SECONDS, contended_seconds: float = CONTENDED_SECONDS) -> None:
        self.seconds, self._contended_seconds = seconds, contended_seconds
        self._idle = [Worker() for _ in range(WORKERS)]
        self._reading: set[str] = set()
        self._waiting: dict[int, str] = {}  # thread -> owner, in order of arrival
        self._changed = Condition()
        self._workers, self._closed = tuple(self._idle), False

    def __call__(self, path: Path, name: str, owner: str = "") -> Text:
        if not needs_worker(name):
            with path.open("rb") as file:
                return convert(file, name)
        with self._worker(owner) as worker:
            line = worker.ask({"path": str(path), "name": name}, self._seconds)
            if self._closed and not line:
                raise ServerEnds
        reply = _read(line)
        if reply.text is None:
            reason_zh, reason_en = reply.reason
            raise Unreadable(reason_zh=reason_zh, reason_en=reason_en)
        return reply.text

    def is_waiting(self, owner: str) -> bool:
        """Whether a file of this owner waits until others are read."""
        return owner in list(self._waiting.values())

    def close(self) -> None:
        """End the children. Whatever is being read now raises ServerEnds, as does what waits."""
        with self._changed:
            self._closed = True
            for worker in self._workers:
                worker.kill()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._reading)
            for worker in self._workers:
                worker.end()

    def _seconds(self) -> float:
        with self._changed:
            return self.seconds if self._next() is None else min(self.seconds, self._contended_seconds)

    def _next(self) -> int | None:
        """The thread that gets the next free worker."""
        return next((thread for thread, owner in self._waiting.items() if owner not in self._reading), None)

    @contextmanager
    def _worker(self, owner: str) -> Iterator["Worker"]:
        own = get_ident()
        with self._changed:
            self._waiting[own] = owner
            self._changed.wait_for(lambda: self._closed or (self._idle and self._next() == own))
            del self._waiting[own]
            if self._closed:
                raise ServerEnds
            self._reading.add(owner)
            worker = self._idle.pop()
            self._changed.notify_all()
        try:
            yield worker
        finally:
            with self._changed:
                self._reading.remove(owner)
                self._idle.append(worker)
                for spare in self._idle[:-1] if not self._reading else ():
                    spare.end()  # each holds more than 100 MiB
                self._changed.notify_all()


class Worker:
    """A process with the parsers, begun when it is first asked; one file at a time."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, str], seconds: Callable[[], float]) -> bytes:
        """The reply, empty where the process died. `seconds` tells how long it may take, and may change meanwhile.

        Raises Unreadable.
        """
        child = self._child or self._start()
        assert child.stdin and child.stdout
        began = time.monotonic()
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            while not wait([child.stdout.fileno()], min(LOOK_S, seconds())):
                if time.monotonic() - began >= (allowed := seconds()):
                    self.end()
                    raise Unreadable(
                        reason_zh=f"读取超过 {allowed:.0f} 秒，已跳过。请拆分文件，或稍后再试。",
                        reason_en=f"Reading took over {allowed:.0f} seconds and was given up. Split it or try later.",
                    )
            line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self.end()
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

    def kill(self) -> None:
        """The process dies, and whoever waits for its reply gets an empty one."""
        if (child := self._child) is not None:
            child.kill()

    def end(self) -> None:
        """End the process, if there is one; nobody may be waiting for its reply."""
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
