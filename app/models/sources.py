"""From a card to a folder with the model's files, fetching or converting what is not there yet."""

from collections.abc import Callable
from pathlib import Path

from app.models import hub, packaged
from app.models.catalog import ModelCard
from app.models.checkpoint import read_config, weight_files


def fetch(card: ModelCard, cache: Path, on_progress: Callable[[float, str], None]) -> Path:
    """The folder with the card's files. `cache` is where conversions are kept; hub files go to the hub's own cache.

    Raises DownloadFailed, DiskFull or NotAModel; `on_progress` gets a fraction and what it is a fraction of.
    """
    if card.source == "packaged":
        return packaged.convert(card, cache, on_progress)
    if card.source == "hub":
        return hub.fetch_repository(card, on_progress)
    folder = Path(card.location)
    read_config(folder, card.name)
    weight_files(folder, card.name)
    return folder


def describe(card: ModelCard) -> ModelCard:
    """The card with its size, asking the hub where only it knows. Raises DownloadFailed."""
    return hub.described(card) if card.source == "hub" and not card.parameters else card
