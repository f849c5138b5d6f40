"""From a card to a folder with the model's files, fetching or converting what is not there yet."""

from collections.abc import Callable
from pathlib import Path

from app.models import packaged
from app.models.catalog import ModelCard


def fetch(card: ModelCard, cache: Path, on_progress: Callable[[float, str], None]) -> Path:
    """The folder with the card's files. `cache` is where conversions are kept; hub files go to the hub's own cache."""
    if card.source == "packaged":
        return packaged.convert(card, cache, on_progress)
    return Path(card.location)
