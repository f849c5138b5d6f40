"""Parsers that a file has taken over: each runs on one open file in a locked child, and tells how far it came.

`python -m tests.lockdown.hostile_parsers FILE SECRET` prints one JSON object: attack -> what came back.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from app.lockdown.one_file import run_on_file, what_locks

PARENT = os.getpid()
SECRET = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("/etc/passwd")
LIBC = ctypes.CDLL(None, use_errno=True)


def reached(result: int) -> bytes:
    return b"through" if result >= 0 else b"refused"


def reads_its_file(file: BinaryIO) -> bytes:
    return file.read()


def imports_on(_: BinaryIO) -> bytes:
    import colorsys  # what a parser loads only when it comes to it

    return colorsys.__name__.encode()


def opens_a_secret(_: BinaryIO) -> bytes:
    return SECRET.read_bytes()


def opens_the_project(_: BinaryIO) -> bytes:
    return Path("pyproject.toml").read_bytes()


def lists_a_folder(_: BinaryIO) -> bytes:
    return str(list(SECRET.parent.iterdir())).encode()


def looks_at_the_parent(_: BinaryIO) -> bytes:
    return Path(f"/proc/{PARENT}/environ").read_bytes()


def writes_beside(_: BinaryIO) -> bytes:
    return str((SECRET.parent / "new").write_bytes(b"x")).encode()


def writes_into_its_file(_: BinaryIO) -> bytes:
    return str(os.write(3, b"x")).encode()


def connects(_: BinaryIO) -> bytes:
    return str(socket.socket().fileno()).encode()


def forks(_: BinaryIO) -> bytes:
    return str(os.fork()).encode()


def starts_a_thread(_: BinaryIO) -> bytes:
    threading.Thread(target=print).start()
    return b"through"


def runs_a_program(_: BinaryIO) -> bytes:
    return subprocess.run(["/bin/true"], check=True).args[0].encode()


def executes(_: BinaryIO) -> bytes:
    return reached(LIBC.execve(b"/bin/true", None, None))


def signals_the_parent(_: BinaryIO) -> bytes:
    os.kill(PARENT, 0)
    return b"through"


def traces_the_parent(_: BinaryIO) -> bytes:
    return reached(LIBC.ptrace(16, PARENT, 0, 0))


def finds_other_descriptors(_: BinaryIO) -> bytes:
    for descriptor in range(5, 1024):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        return b"through"
    return b"refused"


def takes_all_memory(_: BinaryIO) -> bytes:
    return str(len(b"x" * (8 << 30))).encode()


def answers_without_end(_: BinaryIO) -> bytes:
    while os.write(4, b"x" * 65536):
        pass
    return b"through"


def ends_at_once(_: BinaryIO) -> bytes:
    os._exit(0)


def breaks(_: BinaryIO) -> bytes:
    ctypes.string_at(0)
    return b"through"


ALLOWED: list[Callable[[BinaryIO], bytes]] = [reads_its_file, imports_on]
ATTACKS: list[Callable[[BinaryIO], bytes]] = [
    *(opens_a_secret, opens_the_project, lists_a_folder, looks_at_the_parent, writes_beside, writes_into_its_file),
    *(connects, forks, starts_a_thread, runs_a_program, executes, signals_the_parent, traces_the_parent),
    *(finds_other_descriptors, takes_all_memory, answers_without_end, ends_at_once, breaks),
]


def main(path: str) -> None:
    told = {"lock": what_locks()}
    for attempt in ALLOWED + ATTACKS:
        with Path(path).open("rb") as file:
            told[attempt.__name__] = run_on_file(attempt, file).decode(errors="replace")[:80]
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
