"""Models on disk: what the hub's cache holds with its size, files and folders brought in by hand, deleting both."""

import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from app.errors import BadInput
from app.models.catalog import known_models

BROUGHT = "models/brought"  # below the data folder
IN_CACHE = "models--"  # how the hub's cache calls the folder of a model
FILE_NAME = re.compile(r"[^\w.-]+")


class NothingBrought(BadInput):
    zh = "请放入一个 GGUF 文件，或一个带 config.json 和权重的模型文件夹。"
    en = "Drop in a GGUF file, or the folder of a model: config.json and its weights."


class NameTaken(BadInput):
    zh = "已有名为 {name} 的模型。请先删除它，或给文件换个名字。"
    en = "There is a model named {name} already. Delete it first, or rename the file."


@dataclass(frozen=True)
class StoredModel:
    """Files of one model on this machine. `names` are those it can be loaded by, without their precision."""

    key: str
    names: tuple[str, ...]
    mib: int
    in_hub_cache: bool


def brought(data: Path) -> dict[str, Path]:
    """Models brought in by hand, by name: the GGUF file, or the folder."""
    found = {}
    for folder in sorted((data / BROUGHT).glob("*")) if (data / BROUGHT).is_dir() else []:
        files = sorted(folder.glob("*.gguf"))
        found[folder.name] = files[0] if files else folder
    return found


def plain_name(title: str) -> str:
    """The name of a file or a folder with letters that a model's name may have; empty where none are left."""
    return FILE_NAME.sub("-", title).strip("-.")


def bring_in(data: Path, files: Sequence[tuple[Path, str]], taken: Collection[str] = ()) -> tuple[str, Path]:
    """Take files, each with the name it had (a folder's with its path), as one model: its name and where it is.

    `taken` are names that other models have. The files are moved. Raises NothingBrought, NameTaken, and what is wrong
    with the model.
    """
    gguf = sorted(name for _, name in files if name.lower().endswith(".gguf"))
    config = next((name for _, name in files if Path(name).name == "config.json"), "")
    if not gguf and not config:
        raise NothingBrought
    title = Path(gguf[0]).stem if gguf else Path(config).parent.name or "model"
    name = plain_name(title).lower()
    if not name or name in {*known_models.names(), *map(str.lower, taken)} or (data / BROUGHT / name).exists():
        raise NameTaken(name=name[:80])
    folder = data / BROUGHT / name
    folder.mkdir(parents=True)
    try:
        for path, told in files:
            shutil.move(path, folder / Path(told).name)
        place = folder / Path(gguf[0]).name if gguf else folder
        known_models.own_card(name, place)  # says what is wrong with it
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return name, place


def stored_models(data: Path) -> list[StoredModel]:
    """What models take of the disk, the largest first."""
    found = []
    for folder in Path(constants.HF_HUB_CACHE).glob(f"{IN_CACHE}*"):
        repository = folder.name.removeprefix(IN_CACHE).replace("--", "/", 1)
        found.append(StoredModel(repository, _names_of(repository), _mib(folder), in_hub_cache=True))
    own = [StoredModel(name, (name,), _mib(data / BROUGHT / name), in_hub_cache=False) for name in brought(data)]
    return sorted([*found, *own], key=lambda model: -model.mib)


def delete_stored(data: Path, model: StoredModel) -> None:
    """Delete its files, parts of a broken-off download too."""
    if not model.in_hub_cache:
        shutil.rmtree(data / BROUGHT / model.key)
        return
    folder = repo_folder_name(repo_id=model.key, repo_type="model")
    shutil.rmtree(Path(constants.HF_HUB_CACHE) / folder)
    shutil.rmtree(Path(constants.HF_HUB_CACHE) / ".locks" / folder, ignore_errors=True)


def _names_of(repository: str) -> tuple[str, ...]:
    cards = [known_models.find(name) for name in known_models.names()]
    return (repository, *(card.name for card in cards if card.location == repository))


def _mib(folder: Path) -> int:
    """Without counting links, which the cache has beside each file."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return round(sum(path.stat().st_size for path in files) / 2**20)
