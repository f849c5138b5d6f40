"""Which files are to be indexed: uploads kept beside the index, or a folder of the server that is followed."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from app.errors import BadInput
from app.knowledge.converting import MAX_FILE_BYTES, SUFFIXES, suffix_of

UPLOADS = "uploads"
SKIPPED_FOLDERS = frozenset({".git", ".svn", "node_modules", "__pycache__", ".venv", "venv", ".idea"})


@dataclass(frozen=True)
class Found:
    """A file on disk and the name it has in the collection; `refused` says (zh, en) why it may not be read."""

    path: Path
    name: str
    refused: tuple[str, str] | None = None


def plain_name(name: str) -> str:
    """The last part of a name that a visitor sent, whatever folders it pretends to be in."""
    last = PurePosixPath(name.replace("\\", "/")).name.replace("\x00", "").strip()
    return last[-200:] if last not in ("", ".", "..") else "unnamed.txt"


def keep_upload(path: Path, name: str, folder: Path) -> str:
    """Copy an uploaded file into the collection, whole or not at all. Returns its plain name."""
    plain = plain_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    if path.stat().st_size > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES >> 20
        raise BadInput(reason_zh=f"文件 {plain} 超过 {limit} MiB。", reason_en=f"The file {plain} is over {limit} MiB.")
    partial = folder / f".{uuid4().hex}.part"
    try:
        shutil.copyfile(path, partial)
        partial.replace(folder / plain)
    finally:
        partial.unlink(missing_ok=True)
    return plain


def folder_files(folder: Path) -> Iterator[Found]:
    """All files of known kinds below `folder`, in order; links that lead out of it are refused, not followed."""
    root = folder.resolve()
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if suffix_of(name) not in SUFFIXES or name.startswith("."):
                continue
            yield Found(path, path.relative_to(root).as_posix(), _refusal(path, root))


def named_files(paths: Sequence[Path], folder: Path) -> list[Found]:
    """Uploads as they lie in the collection's folder."""
    return [Found(path, path.name, _refusal(path, folder.resolve())) for path in paths]


def _refusal(path: Path, root: Path) -> tuple[str, str] | None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return "这是指向文件夹之外的链接，已跳过。", "It is a link to a place outside the folder and was passed over."
    if not path.is_file():
        return "这不是普通文件。", "This is not an ordinary file."
    return None
