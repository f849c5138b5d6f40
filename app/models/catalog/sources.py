"""Locate a model's files on disk, downloading or converting them first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from app.models.backends.llama_cpp.gguf_file import part_names, read_facts
from app.models.catalog import bundled, hub
from app.models.catalog.known_models import ModelCard
from app.models.loading.checkpoint import read_config, weight_files, written_template

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def fetch(card: ModelCard, cache: Path, on_progress: Callable[[float, str], None]) -> Path:
    """The folder with the card's files. `cache` is where conversions are kept; hub files go to the hub's own cache.

    Raises DownloadFailed, DiskFull or NotAModel; `on_progress` gets a fraction and what it is a fraction of.
    """
    if card.gguf:
        return _gguf_folder(card, on_progress)
    if card.source == "packaged":
        return bundled.convert(card, cache, on_progress)
    if card.source == "hub":
        return hub.fetch_repository(card, on_progress)
    folder = Path(card.location)
    read_config(folder, card.name)
    weight_files(folder, card.name)
    return folder


def _gguf_folder(card: ModelCard, on_progress: Callable[[float, str], None]) -> Path:
    """The folder with the file, and with its other parts where it is split."""
    return kept_folder(card) or hub.fetch_files(card.location, part_names(card.gguf), on_progress)


def kept_folder(card: ModelCard) -> Path | None:
    """The folder with the card's files where they are on this machine, without asking the hub."""
    if card.source == "packaged":
        return bundled.gguf_file(card).parent
    if card.source == "folder":
        return Path(card.location)
    if not card.gguf:
        return hub.local_folder(card)
    kept = _kept_parts(card)
    return kept[0].parents[card.gguf.count("/")] if kept else None


def chat_template(card: ModelCard) -> str | None:
    """The chat template in the card's files, empty where they hold none; None where they are not on this machine."""
    folder = kept_folder(card)
    if folder is None:
        return None
    gguf = bundled.gguf_file(card).name if card.source == "packaged" else card.gguf
    return read_facts(folder, gguf, card.name).chat_template if gguf else written_template(folder)


def _kept_parts(card: ModelCard) -> list[Path]:
    """The parts of a hub's GGUF file where all are on this machine, else nothing."""
    names = part_names(card.gguf)
    kept = [path for path in (hub.kept_file(card.location, name) for name in names) if path]
    return kept if len(kept) == len(names) else []


def is_here(card: ModelCard) -> bool:
    """Whether the files are on this machine, without asking the hub or looking into them."""
    if card.source != "hub":
        return True
    if card.gguf:
        return bool(_kept_parts(card))
    return any(hub.kept_file(card.location, file) for file in _WEIGHTS)


def require(card: ModelCard) -> None:
    """Raises DownloadFailed where the files are not on this machine and the hub does not have them."""
    if card.source == "hub" and not (_kept_parts(card) if card.gguf else hub.local_folder(card)):
        hub.require(card.location)


def describe(card: ModelCard) -> ModelCard:
    """The card with its size, asking the hub where only it knows. Raises DownloadFailed."""
    if card.source != "hub":
        return card
    if card.gguf:
        kept = _kept_parts(card)
        if card.gguf_mib and not kept:
            return card
        size = sum(path.stat().st_size for path in kept) or hub.file_bytes(card.location, part_names(card.gguf))
        return replace(card, gguf_mib=round(size / 2**20))
    return card if card.parameters else hub.described(card)
