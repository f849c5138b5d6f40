"""Session folders of the sandbox: measure, list and delete them, hostile names and links included."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Space taken on the disk in bytes, and the number of files and folders."""

    size: int
    entries: int


def measure(folder: Path, most_entries: int) -> Usage:
    """What `folder` holds; counting ends beyond `most_entries`."""
    size = entries = 0
    for item in _everything(folder):
        entries += 1
        if entries > most_entries:
            break
        size += item.stat(follow_symlinks=False).st_blocks * 512
    return Usage(size, entries)


def regular_files(folder: Path, most: int) -> list[Path]:
    """The ordinary files below `folder`, newest last."""
    found = []
    for item in _everything(folder):
        status = item.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            found.append((status.st_mtime_ns, Path(item.path)))
        if len(found) >= most:
            break
    return [path for _, path in sorted(found)]


def read_plainly(path: Path) -> bytes:
    """The content of an ordinary file, never through a link."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read()


def _everything(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All entries below `folder`, without recursion and past folders that were made unreadable or vanish."""
    waiting = [str(folder)]
    while waiting:
        try:
            place = waiting.pop()
            if not os.access(place, os.R_OK | os.X_OK):
                os.chmod(place, 0o700)  # noqa: PTH101
            with os.scandir(place) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield entry


def remove(folder: Path) -> None:
    """Delete `folder` however deep it is: inner folders are moved to the top before they are emptied."""
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    numbers = count()
    try:
        waiting = os.listdir(top)  # noqa: PTH208 - a descriptor, not a path
        while waiting:
            name = waiting.pop()
            try:
                os.unlink(name, dir_fd=top)
            except IsADirectoryError:
                waiting += _hoist(name, top, numbers)
    finally:
        os.close(top)
    folder.rmdir()


def _hoist(name: str, top: int, numbers: "count[int]") -> list[str]:
    """Move what the folder `name` holds to `top` under new names, delete it, and return those names."""
    os.chmod(name, 0o700, dir_fd=top)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    moved = []
    try:
        for entry in os.listdir(inner):  # noqa: PTH208
            new = f"{os.getpid()}-{next(numbers)}-moved"
            os.chmod(entry, 0o700, dir_fd=inner)
            os.rename(entry, new, src_dir_fd=inner, dst_dir_fd=top)
            moved.append(new)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)
    return moved
