"""Run a function on one open file in a forked child that is locked first: it can read the file and write its answer.

The caller is a process without threads that holds no secret and has imported what the function needs.
"""

import contextlib
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from app.lockdown import landlock, process, seccomp
from app.lockdown.kernel import SUPPORTED_MACHINES, MissingError, die_with_parent, machine

LARGEST_ANSWER = 128 << 20  # bytes
MEMORY_MIB = 3 << 10
PROCESSOR_SECONDS = 600
OPEN_FILES = 64
FILE, ANSWER = 3, 4  # descriptors of the child

Lock = Literal["complete", "system calls", "none"]


def run_on_file(work: Callable[[BinaryIO], bytes], file: BinaryIO) -> bytes:
    """What `work` returns; empty where the child died or wrote too much."""
    return _forked(lambda source, _: work(source), file)


def what_locks() -> Lock:
    """What a child of this process is locked by: tried with one."""
    with Path(os.devnull).open("rb") as nothing:
        said = _forked(lambda _, held: held.encode(), nothing).decode()
    return next((known for known in get_args(Lock) if known == said), "none")


def _forked(work: Callable[[BinaryIO, Lock], bytes], file: BinaryIO) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _read_and_end(work, file, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        answer = answers.read(LARGEST_ANSWER + 1)
    _, status = os.waitpid(child, 0)  # one that writes on was ended when its answer was closed
    return answer if status == 0 and len(answer) <= LARGEST_ANSWER else b""


def _read_and_end(work: Callable[[BinaryIO, Lock], bytes], file: BinaryIO, writing: int) -> None:
    """In the child: keep the file and the pipe for the answer, lock, work. Never returns."""
    with contextlib.suppress(BaseException):
        nothing = os.open(os.devnull, os.O_RDWR)
        process.keep_only(nothing, nothing, nothing, file.fileno(), writing)
        with os.fdopen(FILE, "rb") as source, os.fdopen(ANSWER, "wb") as out:
            out.write(work(source, _lock()))
        os._exit(0)
    os._exit(1)


def _lock() -> Lock:
    """Resource limits, then files, then system calls; without Landlock nothing can be opened at all."""
    if sys.platform != "linux":
        return "none"
    process.prefer_as_victim()
    process.bound(MEMORY_MIB, PROCESSOR_SECONDS, 0, OPEN_FILES)
    die_with_parent()
    if machine() not in SUPPORTED_MACHINES:
        return "none"
    known = landlock.version()
    try:
        if known:
            landlock.restrict(_libraries(), [])
        seccomp.restrict(with_files=known > 0, guard_truncation=known < 3)
    except MissingError:
        return "none"
    return "complete" if known else "system calls"


def _libraries() -> set[str]:
    """Folders of Python's own modules and of the installed packages: parsers import parts of theirs when needed."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    return {sysconfig.get_path(kind) for kind in kinds} | {"/dev/null", "/dev/urandom"}
