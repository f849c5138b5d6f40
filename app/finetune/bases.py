"""Which models can be trained: those that are here with their full weights, and see no pictures."""

from pathlib import Path

from app.finetune.adapter_host import AdapterHost
from app.finetune.errors import TrainsNoGguf, TrainsNoVision


def trainable(registry: AdapterHost, visitor: str) -> list[str]:
    """Models that this visitor can train."""
    names = [name for name in registry.for_visitor(visitor).names() if "+" not in name]
    return [name for name in names if registry.takes_adapters(name) and not registry.is_multimodal(name)]


def base_folder(registry: AdapterHost, base: str) -> Path:
    """What is known to see is not even fetched; of a repository that is told only by its files.

    Raises TrainsNoVision or TrainsNoGguf.
    """
    if registry.is_multimodal(base):
        raise TrainsNoVision(base=base)
    if not registry.takes_adapters(base):
        raise TrainsNoGguf(base=base)
    folder = registry.folder(base)
    if registry.is_multimodal(base):
        raise TrainsNoVision(base=base)
    return folder
