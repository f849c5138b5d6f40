"""Source files to index: uploads kept beside the index, or a folder of the server that is followed."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

from app.errors import BadInput
from app.knowledge.ingest.converting import MAX_FILE_BYTES, SUFFIXES, suffix_of
from app.knowledge.ingest.documents import UNPRINTABLE

UPLOADS = "uploads"
LONGEST_NAME = 200  # bytes of one part of a path; file systems take 255
DEEPEST = 16
SKIPPED_FOLDERS = frozenset({".git", ".svn", "node_modules", "__pycache__", ".venv", "venv", ".idea"})


@dataclass(frozen=True)
class SourceFile:
    """A file on disk and the name it has in the collection; `refused` says (zh, en) why it may not be read."""

    path: Path
    name: str
    refused: tuple[str, str] | None = None


def inner_name(name: str) -> str:
    """A name that a visitor sent, as a path inside the collection: folders stay apart, none leads out."""
    parts = [part.strip() for part in UNPRINTABLE.sub("", name).replace("\\", "/").split("/")]
    if not parts[0] or ".." in parts:
        parts = parts[-1:]
    kept = [part.encode()[-LONGEST_NAME:].decode(errors="ignore") for part in parts if part not in ("", ".", "..")]
    return "/".join(kept[-DEEPEST:]) or "unnamed.txt"


def distinct_names(names: Sequence[str]) -> list[str]:
    """Inner names of files that came together: equal ones are different files and get a number."""
    given: dict[str, None] = {}
    for name in map(inner_name, names):
        path, number, distinct = PurePosixPath(name), 1, name
        while distinct in given:
            number += 1
            distinct = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
        given[distinct] = None
    return list(given)


def keep_upload(path: Path, inner: str, folder: Path) -> None:
    """Copy an uploaded file into the collection under its inner name, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{uuid4().hex}.part"
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES >> 20
            raise BadInput(reason_zh=f"文件超过 {limit} MiB。", reason_en=f"The file is over {limit} MiB.")
        shutil.copyfile(path, partial)
        (folder / inner).parent.mkdir(parents=True, exist_ok=True)
        partial.replace(folder / inner)
    except OSError as error:
        raise BadInput(reason_zh=f"无法保存：{error.strerror}", reason_en=f"Not kept: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def folder_files(folder: Path) -> Iterator[SourceFile]:
    """All files of known kinds below `folder`, in order; links that lead out of it are refused, not followed."""
    root = folder.resolve()
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if suffix_of(name) not in SUFFIXES or name.startswith("."):
                continue
            yield SourceFile(path, path.relative_to(root).as_posix(), _refusal(path, root))


def _refusal(path: Path, root: Path) -> tuple[str, str] | None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return "这是指向文件夹之外的链接，已跳过。", "It is a link to a place outside the folder and was passed over."
    if not path.is_file():
        return "这不是普通文件。", "This is not an ordinary file."
    return None
