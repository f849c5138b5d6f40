"""Public names of models that are given by a path: its last part, made unique, kept in the data folder."""

import json
import logging
import threading
from collections.abc import Collection
from itertools import chain, count
from pathlib import Path

from app.files import write_json
from app.models.catalog import known_models
from app.models.catalog.stored_models import brought, plain_name

log = logging.getLogger(__name__)
FILE = "models/folders.json"  # below the data folder: name -> path


def kept_folders(data: Path) -> dict[str, Path]:
    """Name -> folder or GGUF file, those that are still there."""
    return {name: place for name, place in _read(data).items() if place.exists()}


class FolderNames:
    """Thread-safe. The path is what the operator types, the name is what all others see; both mean the model.

    `taken` are names beside the catalog's. A file that cannot be written only costs the names after a restart.
    """

    def __init__(self, data: Path, taken: Collection[str]) -> None:
        self._data = data
        self._taken = taken
        self._places = _read(data)
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return [name for name, place in list(self._places.items()) if place.exists()]

    def place(self, name: str) -> Path | None:
        return self._places.get(name)

    def name_of(self, place: Path) -> str | None:
        """The name that this place was given before."""
        return next((name for name, known in list(self._places.items()) if known == place), None)

    def note(self, place: Path) -> str:
        """The name of a place from now on."""
        with self._lock:
            if known := self.name_of(place):
                return known
            self._places = _read(self._data) | self._places  # another process may have noted some
            title = plain_name(place.stem if place.is_file() else place.name) or "model"
            others = (*known_models.names(), *self._taken, *brought(self._data), *self.names())
            taken = {other.lower() for other in others}
            names = chain([title], (f"{title}-{number}" for number in count(2)))
            name = next(free for free in names if free.lower() not in taken)
            self._places[name] = place
            self._keep()
        return name

    def _keep(self) -> None:
        try:
            (self._data / FILE).parent.mkdir(parents=True, exist_ok=True)
            write_json(self._data / FILE, {name: str(place) for name, place in self._places.items()}, indent=1)
        except OSError as error:
            log.warning("the names of model folders could not be kept: %s", error)


def _read(data: Path) -> dict[str, Path]:
    try:
        told = json.loads((data / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: Path(place) for name, place in told.items()} if isinstance(told, dict) else {}
