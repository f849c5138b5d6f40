"""Validate and delete files that Gradio's upload route stored."""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from app.access.later import Planned, later
from app.access.lifetimes import USED_UPLOAD_S
from app.errors import BadInput

FOLDER_MARK = "\u2215"  # studio.js puts it in place of a slash, which gradio would cut a name at


class NotUploaded(BadInput):
    zh = "请上传文件。"
    en = "Upload a file."


def uploaded(values: object) -> list[tuple[Path, str]]:
    """(path, name) of each upload: paths as a page sends them, or file objects as a program does.

    A program can send any path: only what lies among the uploads is taken, never another file of this machine.
    """
    given = values if isinstance(values, list) else [values]
    return [_upload(value) for value in given if value is not None]


def discard(paths: Iterable[Path], seconds: float = USED_UPLOAD_S) -> Planned:
    """Delete uploads soon. Equal files of two visitors are one file on disk, so the other one gets time to be read."""
    known = [(path, _inode(path)) for path in paths]

    def delete() -> None:
        for path, inode in known:
            if inode is not None and _inode(path) == inode:  # another number: it has come in anew
                path.unlink(missing_ok=True)

    return later.call(seconds, delete)


def _inode(path: Path) -> int | None:
    """None where there is no file, or no longer: its session may have ended meanwhile."""
    try:
        return path.stat().st_ino if path.is_file() else None
    except FileNotFoundError:
        return None


class SessionUploads:
    """Uploads that wait for a button, by session; they go with it. Thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[str, set[Path]] = {}
        self._lock = threading.Lock()

    def keep(self, session: str, values: object) -> None:
        """Remember whose these are; what is none of gradio's is left alone."""
        with suppress(NotUploaded), self._lock:
            self._kept.setdefault(session, set()).update(path for path, _ in uploaded(values))

    def forget(self, session: str) -> Planned:
        """Delete what the session left and no other has: equal files of two visitors are one file on disk."""
        with self._lock:
            left = self._kept.pop(session, set())
            return discard(left.difference(*self._kept.values()), 0)


def _upload(value: Any) -> tuple[Path, str]:
    if isinstance(value, dict):
        path, name = value.get("path"), value.get("orig_name")
    else:
        path, name = value, None
    if not isinstance(path, str | os.PathLike):
        raise NotUploaded
    real = Path(path).resolve()
    if not real.is_relative_to(Path(get_upload_folder()).resolve()) or not real.is_file():
        raise NotUploaded
    return real, (name if isinstance(name, str) and name else real.name).replace(FOLDER_MARK, "/")
