"""Model files of this machine: list with sizes, bring in a GGUF file or a folder, delete what is not in use."""

from collections.abc import Sequence
from pathlib import Path

from app.errors import UnknownModel
from app.models.catalog import known_models
from app.models.catalog.atomic_folder import free_bytes
from app.models.catalog.stored_models import StoredModel, bring_in, brought, delete_stored, stored_models
from app.models.registry.registry import ModelRegistry


class ModelFiles:
    """The files behind a registry's models; what was brought in is a model of that name, after a restart too."""

    def __init__(self, registry: ModelRegistry, data: Path) -> None:
        self._registry = registry
        self._data = data
        for name, place in brought(data).items():
            registry.add_model(name, place)

    def stored(self) -> list[StoredModel]:
        """The largest first."""
        return stored_models(self._data)

    def free_mib(self) -> int:
        return free_bytes(self._data) // 2**20

    def bring_in(self, files: Sequence[tuple[Path, str]]) -> str:
        """Files with the names they had become one model; its name. Raises BadInput, NotAModel."""
        name, place = bring_in(self._data, files, self._registry.specs.folders.names())
        self._registry.add_model(name, place)
        return name

    def delete(self, key: str) -> tuple[tuple[str, ...], str]:
        """Unload and delete; the names it had, and the default model now. Raises ModelInUse, UnknownModel."""
        model = next((one for one in self.stored() if one.key == key), None)
        if model is None:
            raise UnknownModel(name=key[:200], known=", ".join(one.key for one in self.stored()[:3]))
        for entry in self._registry.ledger().models:
            if known_models.split_precision(entry.name)[0] in model.names:
                self._registry.unload(entry.name)
        delete_stored(self._data, model)
        if model.in_hub_cache:
            self._registry.specs.forget_files(model.names)
        else:
            self._registry.remove_model(key)
        if known_models.split_precision(self._registry.default_name)[0] in model.names:
            self._registry.use(known_models.PACKAGED)
        return model.names, self._registry.default_name
