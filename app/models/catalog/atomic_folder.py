"""Write a model folder atomically, and check for disk space first."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from app.errors import ModelError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PARTIAL = ".partial-"


class DiskFull(ModelError):
    zh = "磁盘空间不足，放不下模型 {name}：需要 {needed_mib} MiB，剩余 {free_mib} MiB。请清理磁盘后重试。"
    en = (
        "The disk is too full for the model {name}: {needed_mib} MiB needed, {free_mib} MiB free."
        " Free some space, then try again."
    )


def require_space(folder: Path, needed: int, name: str) -> None:
    """Raise DiskFull unless `needed` bytes are free where `folder` is or will be."""
    free = free_bytes(folder)
    if free < needed:
        raise DiskFull(name=name, needed_mib=-(-needed // 2**20), free_mib=free // 2**20)


def free_bytes(folder: Path) -> int:
    """Free space of the disk that `folder`, or its nearest existing parent, is on."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


@contextmanager
def disk_full_told(folder: Path, needed: int, name: str) -> Iterator[None]:
    """Turn the failing of a write below `folder` for want of space into DiskFull."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not _is_disk_full(error):
            raise
        raise DiskFull(name=name, needed_mib=needed // 2**20, free_mib=free_bytes(folder) // 2**20) from error


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _DISK_FULL
    return any(f"(os error {number})" in str(error) for number in _DISK_FULL)


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `final` only when the block ends well.

    Yields `final` itself when another process has finished it meanwhile: see that it exists and do nothing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.parent / f".{final.name}.lock"):
        if final.is_dir():
            yield final
            return
        for leftover in final.parent.glob(f"{_PARTIAL}{final.name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{final.name}-", dir=final.parent))
        try:
            yield partial
            _flush(partial)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _flush(folder: Path) -> None:
    # Without this a power cut after the rename could leave whole names with empty files.
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
