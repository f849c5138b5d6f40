"""Resumable parallel downloads into the Hugging Face cache; a killed process resumes where it stopped.

The hub's own library starts a file over when the process ends; here the part that has come stays on disk.
"""

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
from filelock import FileLock
from huggingface_hub import constants, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_raise_for_status

from app.models.interface import ReportProgress

_TIMEOUT = 10.0
_CHUNK = 2**20
_WORKERS = 4
_TRIES = 5
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)


class Damaged(Exception):
    """What came is not what the hub promised."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


class Stopped(Exception):
    """Another file of the same download failed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. `blob` is its name in the cache; without it, or a size, the hub's library fetches it."""

    path: str
    size: int | None
    blob: str | None
    sha256: str | None


def missing_bytes(repository: str, files: Sequence[RemoteFile]) -> int:
    """How many bytes are still to come."""
    storage = _storage(repository)
    sizes = [(file.size or 0, _have(storage, file)) for file in files]
    return sum(max(size - have, 0) for size, have in sizes)


def fetch_blobs(
    repository: str, revision: str | None, files: Sequence[RemoteFile], on_progress: ReportProgress
) -> None:
    """Bring the files' contents into the cache, several at once; raises the first failure."""
    tally = _Tally(sum(file.size or 0 for file in files), on_progress)
    transfer = _Transfer(repository, revision, tally)
    known = [file for file in files if file.blob and file.size is not None]
    with ThreadPoolExecutor(_WORKERS) as pool:
        # Small files first: a wrong token or repository shows at once.
        waiting = [pool.submit(transfer.fetch, file) for file in sorted(known, key=lambda file: file.size or 0)]
        errors = [error for error in (future.exception() for future in waiting) if error]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


def _storage(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def _have(storage: Path, file: RemoteFile) -> int:
    if file.blob and _is_stored(storage / "blobs" / file.blob, file):
        return file.size or 0
    partial = storage / "partial" / (file.blob or "")
    return partial.stat().st_size if partial.is_file() else 0


class _Tally:
    """Bytes of all files together, told as one progress."""

    def __init__(self, total: int, on_progress: ReportProgress) -> None:
        self.total = total
        self.stop = threading.Event()
        self._on_progress = on_progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        if self.stop.is_set():
            raise Stopped
        with self._lock:
            self._done += count
            detail = f"{self._done // 2**20} / {self.total // 2**20} MiB"
            self._on_progress(min(self._done / max(self.total, 1), 1.0), detail)


class _Transfer:
    """One repository's files on their way."""

    def __init__(self, repository: str, revision: str | None, tally: _Tally) -> None:
        self.repository = repository
        self.revision = revision
        self.tally = tally
        self.storage = _storage(repository)
        for folder in ("blobs", "partial"):
            (self.storage / folder).mkdir(parents=True, exist_ok=True)

    def fetch(self, file: RemoteFile) -> None:
        try:
            self._fetch(file)
        except BaseException:
            self.tally.stop.set()
            raise

    def _fetch(self, file: RemoteFile) -> None:
        target = self.storage / "blobs" / str(file.blob)
        partial = self.storage / "partial" / str(file.blob)
        with FileLock(f"{partial}.lock"):
            if _is_stored(target, file):
                self.tally.add(file.size or 0)
                return
            self._complete(file, partial)
            if not _is_whole(file, partial):
                partial.unlink()
                raise Damaged(file.path)
            partial.replace(target)

    def _complete(self, file: RemoteFile, partial: Path) -> None:
        partial.touch()
        size = file.size or 0
        if partial.stat().st_size > size:
            partial.unlink()
            partial.touch()
        self.tally.add(partial.stat().st_size)
        fruitless = 0
        while (have := partial.stat().st_size) < size:
            failure: Exception = Damaged(file.path)  # an answer that ends too soon without an error
            try:
                self._receive(file, partial)
            except (httpx.TransportError, HfHubHTTPError) as error:
                failure = error
            fruitless = 0 if partial.stat().st_size > have else fruitless + 1
            if fruitless == _TRIES or _is_final(failure):
                raise failure
            if fruitless and self.tally.stop.wait(2.0**fruitless / 4):
                raise Stopped

    def _receive(self, file: RemoteFile, partial: Path) -> None:
        """Ask for the rest of the file and append what comes."""
        have = partial.stat().st_size
        url = hf_hub_url(self.repository, file.path, revision=self.revision, endpoint=constants.ENDPOINT)
        headers = build_hf_headers() | {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
        request = get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True)
        with request as response, partial.open("ab") as out:
            hf_raise_for_status(response)
            if have and response.status_code == httpx.codes.OK:
                out.truncate(0)  # a server without ranges sends it all again
                self.tally.add(-have)
            for chunk in response.iter_bytes(_CHUNK):
                out.write(chunk)
                self.tally.add(len(chunk))
            out.flush()
            os.fsync(out.fileno())


def _is_stored(blob: Path, file: RemoteFile) -> bool:
    return blob.is_file() and blob.stat().st_size == file.size


def _is_final(error: Exception) -> bool:
    return isinstance(error, HfHubHTTPError) and error.response.status_code not in _TRY_AGAIN


def _is_whole(file: RemoteFile, partial: Path) -> bool:
    if partial.stat().st_size != file.size:
        return False
    if file.sha256 is None:
        return True
    with partial.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
