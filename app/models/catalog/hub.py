"""Fetch model repositories from the Hugging Face hub or a mirror; cached files are used without asking again.

HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE mean what they mean to every program that uses the hub.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import (
    HfApi,
    constants,
    get_cached_repo_tree,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from tqdm import tqdm

from app.errors import DownloadFailed, ModelError, NotAModel
from app.models.catalog.atomic_folder import disk_full_told, require_space
from app.models.catalog.download import Damaged, RemoteFile, fetch_blobs, missing_bytes
from app.models.catalog.known_models import ModelCard
from app.models.interface import ReportProgress
from app.models.loading.checkpoint import NoWeights, count_parameters, read_config

_TIMEOUT = 10.0
_TEXT_FILES = (".json", ".model", ".txt", ".jinja", ".tiktoken")


class NoSuchRepository(DownloadFailed):
    zh = "{host} 上没有仓库 {name}，或它是私有的。请检查名字；私有仓库请设置 HF_TOKEN。"
    en = "There is no repository {name} on {host}, or it is private. Check the name; for a private one set HF_TOKEN."


class NoSuchFile(DownloadFailed):
    zh = "仓库 {name} 里没有文件 {file}。请检查文件名。"
    en = "The repository {name} has no file {file}. Check the file's name."


class OnlyGguf(DownloadFailed):
    zh = "仓库 {name} 里只有 GGUF 文件，请指明用哪一个，例如 {name}#{file}。"
    en = "The repository {name} holds GGUF files only. Say which one, for example {name}#{file}."


class NeedsAccess(DownloadFailed):
    zh = "{host} 拒绝下载 {name}：需要权限。请在网页上同意它的许可，并把有效的令牌设为 HF_TOKEN。"
    en = "{host} refuses {name} without permission. Accept its licence on its page and set HF_TOKEN to a valid token."


class HubUnreachable(DownloadFailed):
    zh = "连不上 {host}，无法下载 {name}。请检查网络，或设置 HF_ENDPOINT 使用镜像；重试会从断点继续。"
    en = (
        "{host} cannot be reached, so {name} was not downloaded. Check the network or set HF_ENDPOINT to a mirror;"
        " trying again resumes where it stopped."
    )


class HubOffline(DownloadFailed):
    zh = "{name} 不在本机，而 HF_HUB_OFFLINE 禁止了下载。请取消这个设置，或换一个已下载的模型。"
    en = "{name} is not on this machine and HF_HUB_OFFLINE forbids downloads. Unset it or choose a downloaded model."


class HubRefused(DownloadFailed):
    zh = "{host} 没有给出 {name}（HTTP {status}）。请稍后重试，或设置 HF_ENDPOINT 使用镜像。"
    en = "{host} did not give {name} (HTTP {status}). Try again later or set HF_ENDPOINT to a mirror."


class DamagedDownload(DownloadFailed):
    zh = "{name} 的文件 {file} 下载后校验不符，已删除。请重试，或换一个 HF_ENDPOINT 镜像。"
    en = "The file {file} of {name} arrived damaged and was deleted. Try again, or use another HF_ENDPOINT mirror."


def fetch_repository(card: ModelCard, on_progress: ReportProgress) -> Path:
    """The folder with the repository's model files, downloaded unless they are all there already."""
    folder = local_folder(card)
    if folder:
        return folder
    cache = Path(constants.HF_HUB_CACHE)
    with _told(card.name):
        on_progress(0.0, card.location)
        info = _info(card.location)
        listed = _files(info)
        files = [listed[path] for path in needed_files(listed, card.name)]
        total = missing_bytes(card.location, files)
        require_space(cache, total, card.name)
        with disk_full_told(cache, total, card.name):
            fetch_blobs(card.location, info.sha, files, on_progress)
            folder = _link(card.location, [file.path for file in files])
    on_progress(1.0, card.location)
    return folder


def fetch_files(repository: str, paths: Sequence[str], on_progress: ReportProgress) -> Path:
    """The folder with some files of a repository, from the cache where they are there and unchanged."""
    cache = Path(constants.HF_HUB_CACHE)
    with _told(repository, ", ".join(paths)):
        info = _info(repository)
        files = _chosen(info, repository, paths)
        total = missing_bytes(repository, files)
        require_space(cache, total, repository)
        with disk_full_told(cache, total, repository):
            fetch_blobs(repository, info.sha, files, on_progress)
            return _link(repository, list(paths))


def require(repository: str) -> None:
    """Raises DownloadFailed where the hub cannot be reached or has no such repository for us."""
    with _told(repository):
        _info(repository)


def file_bytes(repository: str, paths: Sequence[str]) -> int:
    """How large files of a repository are together, before downloading."""
    with _told(repository, ", ".join(paths)):
        return sum(file.size or 0 for file in _chosen(_info(repository), repository, paths))


def kept_file(repository: str, file: str) -> Path | None:
    """The file in the cache, without asking the hub."""
    try:
        found = try_to_load_from_cache(repository, file, cache_dir=constants.HF_HUB_CACHE)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def described(card: ModelCard) -> ModelCard:
    """The card with its size filled in before downloading: from the files if they are here, else from the hub."""
    folder = local_folder(card)
    if folder:
        total, embedding = count_parameters(folder, card.name)
        return replace(card, parameters=total, embedding_parameters=embedding)
    with _told(card.name):
        info = _info(card.location)
        listed = _files(info)
        stored = sum(listed[path].size or 0 for path in needed_files(listed, card.name) if _is_weight(path))
    return replace(card, parameters=info.safetensors.total if info.safetensors else stored // 2)


def local_folder(card: ModelCard) -> Path | None:
    """Where the repository's files are on this machine, if every one that is needed is."""
    cache = constants.HF_HUB_CACHE
    try:
        only = ["config.json"]
        folder = Path(snapshot_download(card.location, cache_dir=cache, local_files_only=True, allow_patterns=only))
        listed = get_cached_repo_tree(card.location, cache_dir=cache)
        wanted = needed_files([entry.path for entry in listed], card.name)
        if not all((folder / path).exists() for path in wanted):
            return None
        read_config(folder, card.name)
        count_parameters(folder, card.name)
    except (EntryNotFoundError, OSError, CachedRepoTreeNotFoundError, HFValidationError, ModelError):
        return None
    return folder


def needed_files(paths: Iterable[str], name: str) -> list[str]:
    """Of a repository's files those that loading reads: texts and weights of one kind, at the top, never code."""
    everything = list(paths)
    top = [path for path in everything if "/" not in path]
    weights = [path for path in top if _is_weight(path)]
    if not weights:
        gguf = min((path for path in everything if path.lower().endswith(".gguf")), default="")
        raise OnlyGguf(name=name, file=gguf) if gguf else NoWeights(name=name)
    safe = [path for path in weights if path.endswith(".safetensors")]
    return [*(path for path in top if path.endswith(_TEXT_FILES)), *(safe or weights)]


def _is_weight(path: str) -> bool:
    safe = path.startswith("model") and path.endswith(".safetensors")
    return safe or (path.startswith("pytorch_model") and path.endswith(".bin"))


def _info(repository: str) -> ModelInfo:
    return HfApi(endpoint=constants.ENDPOINT).model_info(repository, files_metadata=True, timeout=_TIMEOUT)


def _files(info: ModelInfo) -> dict[str, RemoteFile]:
    return {sibling.rfilename: _remote(sibling) for sibling in info.siblings or []}


def _chosen(info: ModelInfo, repository: str, paths: Sequence[str]) -> list[RemoteFile]:
    listed = _files(info)
    for path in paths:
        if path not in listed:
            raise NoSuchFile(name=repository, file=path)
    return [listed[path] for path in paths]


def _remote(sibling: RepoSibling) -> RemoteFile:
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    return RemoteFile(sibling.rfilename, sibling.size, sha256 or sibling.blob_id, sha256)


def _link(repository: str, paths: list[str]) -> Path:
    # The blobs are there; this names them in the cache as the hub's own tools would.
    folder = snapshot_download(
        repository,
        cache_dir=constants.HF_HUB_CACHE,
        endpoint=constants.ENDPOINT,
        allow_patterns=paths,
        tqdm_class=_NoBar,
    )
    return Path(folder)


class _NoBar(tqdm):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"disable": True})


@contextmanager
def _told(name: str, file: str = "") -> Iterator[None]:
    """Turn the hub library's errors into sentences that say what to do."""
    host = httpx.URL(constants.ENDPOINT).host
    try:
        yield
    except (DownloadFailed, NotAModel):
        raise
    except Damaged as error:
        raise DamagedDownload(name=name, file=error.path) from error
    except GatedRepoError as error:
        raise NeedsAccess(name=name, host=host) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise NoSuchRepository(name=name, host=host) from error
    except OfflineModeIsEnabled as error:
        raise HubOffline(name=name) from error
    except LocalEntryNotFoundError as error:
        raise HubUnreachable(name=name, host=host) from error
    except EntryNotFoundError as error:
        raise NoSuchFile(name=name, file=file) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        kind = NeedsAccess if status in (401, 403) else HubRefused
        raise kind(name=name, host=host, status=status) from error
    except httpx.HTTPError as error:
        raise HubUnreachable(name=name, host=host) from error
