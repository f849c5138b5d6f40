"""Choose device, memory budget and default model for this machine."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import torch
from huggingface_hub import constants

from app.errors import ModelError, SettingsError
from app.models.backends.zero_gpu import LentGpu, borrow
from app.models.catalog import known_models, sources
from app.models.catalog.folder_names import kept_folders
from app.models.catalog.known_models import split_precision
from app.models.catalog.stored_models import brought
from app.models.registry import device_memory
from app.settings import Settings

log = logging.getLogger(__name__)
DEFAULT = "models/default.txt"  # below the data folder: what `auto` means since somebody chose a model on a page
HUB_SECONDS = 3.0  # how long to wait for a sign of life from the hub


@dataclass(frozen=True)
class Placement:
    """Where models go and how: `device` cuda, mps or cpu; `dtype` torch's name or auto; `quantise` None, 4bit, 8bit.

    `cache` is how llama.cpp keeps the cache of a GGUF model, 16bit or 8bit.
    With a `lent` GPU all is loaded in memory, and answers run on the GPU.
    `host_mib` is the budget of main memory beside a GPU; None where models run in main memory.
    With `prefers_gguf` a model that is here as a GGUF file chats by llama.cpp, which is faster on processors.
    """

    device: str
    dtype: str
    quantise: str | None
    budget_mib: int
    data: Path
    lent: LentGpu | None = None
    cache: str = "16bit"
    host_mib: int | None = None
    prefers_gguf: bool = False

    @property
    def can_quantise(self) -> bool:
        return self.device in ("cpu", "cuda") and self.lent is None


def choose_placement(settings: Settings, known: Collection[str] = ()) -> tuple[Placement, str]:
    """The placement and the model to start with; `known` are names beside the catalog's.

    Raises SettingsError where the wanted device is not there.
    """
    # what is lent to answers is not there for anything else, nor for loading
    lent = borrow()
    device = "cpu" if lent else _device(settings.device)
    placement = Placement(
        device=device,
        dtype=settings.dtype,
        quantise=None if settings.quantise == "none" else settings.quantise,
        budget_mib=settings.memory or device_memory.budget_mib(device),
        data=settings.data,
        lent=lent,
        cache=settings.cache,
        host_mib=None if device == "cpu" else device_memory.budget_mib("cpu"),
        prefers_gguf=device == "cpu" and lent is None and settings.quantise == "none" and settings.dtype == "auto",
    )
    if settings.model in known or _is_brought(settings.data, settings.model):
        return placement, settings.model
    if settings.model != "auto":
        return placement, known_models.chosen(settings.model, placement.quantise, {}).name
    if lent is None and (kept := remembered_default(settings.data)):
        return placement, kept
    on_gpu = lent is not None or device == "cuda"
    choice = known_models.choose(placement.budget_mib if on_gpu else None, on_gpu and hub_answers())
    log.info("model auto: %s %s on %s", choice.name, choice.quantise or "", device)
    return replace(placement, quantise=placement.quantise or choice.quantise), choice.name


def remember_default(data: Path, name: str) -> None:
    """Let `auto` mean this model from now on."""
    (data / DEFAULT).parent.mkdir(parents=True, exist_ok=True)
    (data / DEFAULT).write_text(name, encoding="utf-8")


def remembered_default(data: Path) -> str:
    """The model that was chosen on a page, if its files are still here; else empty."""
    try:
        name = (data / DEFAULT).read_text(encoding="utf-8")
        return name if _is_brought(data, name) or sources.is_here(known_models.find(name)) else ""
    except (OSError, UnicodeDecodeError, ModelError):
        return ""


def _is_brought(data: Path, name: str) -> bool:
    """Whether files or a folder of this machine were given this name before."""
    return split_precision(name)[0] in {*brought(data), *kept_folders(data)}


def hub_answers() -> bool:
    """Whether the hub, or the mirror in HF_ENDPOINT, can be reached now."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        return httpx.head(constants.ENDPOINT, timeout=HUB_SECONDS).status_code < 500
    except httpx.HTTPError:
        return False


def _device(wanted: str) -> str:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there[wanted]:
        present = ", ".join(name for name, is_there in there.items() if is_there)
        raise SettingsError(key="device", value=wanted, allowed=present)
    return wanted
